//! Directories held open: every path below is one name relative to a descriptor, and no symbolic link is followed.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use crate::{Result, StoreError};

/// An open directory and the path it was opened by (for messages only).
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// When and in which state a file or directory was seen; two equal stamps mean: unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Seconds of the modification time.
    pub seconds: i64,
    /// Its nanoseconds.
    pub nanos: u32,
    /// The inode, as a replaced file has another one.
    pub inode: u64,
    /// Octets.
    pub size: u64,
}

impl From<&Stat> for Stamp {
    fn from(stat: &Stat) -> Self {
        Self {
            seconds: stat.st_mtime,
            nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
        }
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// NONBLOCK, so that opening a FIFO that somebody put there does not wait for its other end.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens a configured directory. Links in the configured path itself are the administrator's and are followed.
    ///
    /// # Errors
    /// [`StoreError::NoSuchMailbox`] if it is not there.
    pub fn open(path: &Path) -> Result<Self> {
        match rustix::fs::open(path, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path: path.to_owned() }),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(StoreError::NoSuchMailbox),
            Err(error) => Err(StoreError::io(path.display().to_string(), error)),
        }
    }

    /// Opens a configured directory, making it and its parents (0700) where they are missing.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: &Path) -> Result<Self> {
        match Self::open(path) {
            Err(StoreError::NoSuchMailbox) => {}
            other => return other,
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            drop(Self::create(parent)?);
        }
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Self::open(path),
            Err(error) => Err(StoreError::io(path.display().to_string(), error)),
        }
    }

    /// Opens a directory in this one; a link is no directory.
    ///
    /// # Errors
    /// [`StoreError::NoSuchMailbox`] if there is no such directory.
    pub fn subdirectory(&self, name: &[u8]) -> Result<Self> {
        match rustix::fs::openat(&self.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path: self.join(name) }),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Err(StoreError::NoSuchMailbox),
            Err(error) => Err(self.error(name, error)),
        }
    }

    /// Opens a directory in this one, making it (0700) if it is missing.
    ///
    /// # Errors
    /// What the file system says.
    pub fn make_subdirectory(&self, name: &[u8]) -> Result<Self> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(self.error(name, error)),
        }
        self.subdirectory(name)
    }

    /// A second handle on the same directory.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self.fd.try_clone().map_err(|error| StoreError::io(self.path.display().to_string(), error))?;
        Ok(Self { fd, path: self.path.clone() })
    }

    /// The path, for messages and for watches.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor.
    #[must_use]
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    fn join(&self, name: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(name))
    }

    /// An error of an operation on `name` here.
    pub fn error(&self, name: &[u8], error: impl Into<io::Error>) -> StoreError {
        StoreError::io(self.join(name).display().to_string(), error)
    }

    /// A file `name` here that may not be read.
    pub fn unreadable(&self, name: &[u8], why: &dyn std::fmt::Display) -> StoreError {
        StoreError::Unreadable(format!("{}: {why}", self.join(name).display()))
    }

    /// Whether something lies here that can be no file of ours: a link, FIFO, device or directory, or a file of more than `limit` octets. All of
    /// these are put there by somebody else, and none is worth keeping a mailbox shut.
    ///
    /// # Errors
    /// What the file system says.
    pub fn is_strange(&self, name: &[u8], limit: u64) -> Result<bool> {
        let stat = self.stat(name)?;
        Ok(stat.is_some_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || Stamp::from(&stat).size > limit
        }))
    }

    /// Gives a directory that stands in the place of a file another name.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_aside_directory(&self, name: &[u8]) -> Result<()> {
        let is_directory =
            self.stat(name)?.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        if !is_directory {
            return Ok(());
        }
        for number in 0..1000 {
            let aside = [name, format!(".strange{number}").as_bytes()].concat();
            match self.rename_new(name, self, &aside) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(self.error(name, error)),
            }
        }
        Err(self.error(name, Errno::EXIST))
    }

    /// The state of the directory itself.
    ///
    /// # Errors
    /// What the file system says.
    pub fn stamp(&self) -> Result<Stamp> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|error| self.error(b"", error))?;
        Ok(Stamp::from(&stat))
    }

    /// The state of a file here, without following a link; `None` if it is not there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn stat(&self, name: &[u8]) -> Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error(name, error)),
        }
    }

    /// Opens a regular file for reading; `None` if it is not there. A link, FIFO, device or directory is an error.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open_file(&self, name: &[u8]) -> Result<Option<(File, Stat)>> {
        let fd = match rustix::fs::openat(&self.fd, name, READ, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(error @ (Errno::ACCESS | Errno::LOOP | Errno::NXIO)) => return Err(self.unreadable(name, &error)),
            Err(error) => return Err(self.error(name, error)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|error| self.error(name, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.unreadable(name, &"not a regular file"));
        }
        Ok(Some((File::from(fd), stat)))
    }

    /// Reads a whole regular file of at most `limit` octets; `None` if it is not there.
    ///
    /// # Errors
    /// What the file system says, or that the file is larger.
    pub fn read_file(&self, name: &[u8], limit: u64) -> Result<Option<(Vec<u8>, Stamp)>> {
        let Some((mut file, stat)) = self.open_file(name)? else { return Ok(None) };
        let stamp = Stamp::from(&stat);
        if stamp.size > limit {
            return Err(self.error(name, io::Error::other("file is too large")));
        }
        let mut content = Vec::with_capacity(usize::try_from(stamp.size).unwrap_or(0));
        io::Read::read_to_end(&mut file, &mut content).map_err(|error| self.error(name, error))?;
        Ok(Some((content, stamp)))
    }

    /// Makes a new file (0600); it must not be there, not even as a link.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create_file(&self, name: &[u8]) -> rustix::io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
    }

    /// Opens a regular file for reading and appending; `None` if it is not there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn append_file(&self, name: &[u8]) -> Result<Option<File>> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.error(name, error)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|error| self.error(name, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.error(name, io::Error::other("not a regular file")));
        }
        Ok(Some(File::from(fd)))
    }

    /// Replaces a file as a whole: temporary file, sync, rename, directory sync.
    ///
    /// # Errors
    /// What the file system says; the old file is then still there.
    pub fn replace_file(&self, name: &[u8], content: &[u8], durable: bool) -> Result<()> {
        self.set_aside_directory(name)?;
        let temporary = [name, format!(".tmp{}", std::process::id()).as_bytes()].concat();
        // A temporary file of a process that died under the same id.
        let _ = self.unlink(&temporary);
        let written = (|| {
            let mut file = self.create_file(&temporary)?;
            io::Write::write_all(&mut file, content)?;
            if durable {
                rustix::fs::fdatasync(&file)?;
            }
            rustix::fs::renameat(&self.fd, &temporary[..], &self.fd, name)?;
            Ok::<(), io::Error>(())
        })();
        if let Err(error) = written {
            let _ = self.unlink(&temporary);
            return Err(self.error(name, error));
        }
        if durable { self.sync() } else { Ok(()) }
    }

    /// Removes a name; whether it was there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn unlink(&self, name: &[u8]) -> Result<bool> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(self.error(name, error)),
        }
    }

    /// Renames a file into `to`, replacing nothing.
    ///
    /// # Errors
    /// `EXIST` if the new name is taken, `NOENT` if the old one is gone, or what the file system says.
    pub fn rename_new(&self, from: &[u8], to: &Self, new: &[u8]) -> rustix::io::Result<()> {
        match rustix::fs::renameat_with(&self.fd, from, &to.fd, new, RenameFlags::NOREPLACE) {
            // A file system without that flag (NFS): a hard link replaces nothing either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(&self.fd, from, &to.fd, new, AtFlags::empty())?;
                rustix::fs::unlinkat(&self.fd, from, AtFlags::empty())
            }
            other => other,
        }
    }

    /// Waits until the directory's entries are on stable storage.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd).map_err(|error| self.error(b"", error))
    }

    /// Calls `each` with the name and type of every entry except `.` and `..`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn entries(&self, mut each: impl FnMut(&[u8], FileType)) -> Result<()> {
        let mut stream = rustix::fs::Dir::read_from(&self.fd).map_err(|error| self.error(b"", error))?;
        while let Some(entry) = stream.read() {
            let entry = entry.map_err(|error| self.error(b"", error))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                each(name, entry.file_type());
            }
        }
        Ok(())
    }
}
