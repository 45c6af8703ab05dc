//! Appending to an mbox file, as local(8) does: dot-lock, kernel locks, `From ` line, quoting, sync, and truncation back on failure.
//!
//! Only delivery is here; nothing reads an mbox.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use mail_posix::locks::{Family, Kind, Lock, lock_until};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::content::ToLf;
use crate::{Result, StoreError};

/// One of the methods of `mailbox_delivery_lock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMethod {
    /// `fcntl`.
    Fcntl,
    /// `flock`.
    Flock,
    /// `dotlock`: `FILE.lock`.
    Dotlock,
}

/// Where and how to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mbox {
    /// The file.
    pub path: PathBuf,
    /// `mailbox_delivery_lock`. The dot-lock is taken first, whatever the order, as local(8) does.
    pub locks: Vec<LockMethod>,
    /// `deliver_lock_attempts` times `deliver_lock_delay`.
    pub patience: Duration,
    /// `stale_lock_time`: a dot-lock older than this is a dead program's.
    pub stale: Duration,
    /// `mailbox_size_limit`; 0 for none.
    pub size_limit: u64,
    /// `strict_mailbox_ownership`: the uid that must own the file.
    pub owner: Option<u32>,
}

/// Why a message could not be appended. The file is as it was.
#[derive(Debug)]
pub enum MboxError {
    /// The mailbox would become larger than its limit.
    TooLarge,
    /// The file is not a mailbox that we may write to: another owner, a link, not a regular file. The text says which.
    Unsafe(&'static str),
    /// Locks, space, or what the file system says: later it may work.
    Store(StoreError),
}

impl From<StoreError> for MboxError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for MboxError {
    fn from(error: io::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Mbox {
    /// Appends one message: the `From ` line (without its line end), then what `write` writes, then an empty line. Synced when it returns.
    ///
    /// # Errors
    /// [`MboxError`]; the file has its former length then.
    pub fn append(
        &self,
        from_line: &str,
        write: impl FnOnce(&mut MboxWriter<'_>) -> std::result::Result<(), MboxError>,
    ) -> std::result::Result<(), MboxError> {
        let deadline = Instant::now() + self.patience;
        let (file, created) = self.open()?;
        let _dot = self.locks.contains(&LockMethod::Dotlock).then(|| self.dot_lock(deadline)).transpose()?;
        let _kernel = self.kernel_locks(&file, deadline)?;
        let before = file.metadata().map_err(|error| self.error(error))?.len();
        let result = self.write(&file, before, from_line, write);
        if result.is_err() {
            // Half a message would be joined to the next one.
            let _ = rustix::fs::ftruncate(&file, before);
            return result;
        }
        if created { self.sync_directory() } else { Ok(()) }
    }

    fn write(
        &self,
        file: &File,
        before: u64,
        from_line: &str,
        write: impl FnOnce(&mut MboxWriter<'_>) -> std::result::Result<(), MboxError>,
    ) -> std::result::Result<(), MboxError> {
        let room = if self.size_limit == 0 { u64::MAX } else { self.size_limit.saturating_sub(before) };
        let mut writer = MboxWriter::new(self, file, room);
        writer.put(from_line.as_bytes())?;
        writer.put(b"\n")?;
        write(&mut writer)?;
        writer.finish()?;
        rustix::fs::fsync(file).map_err(|error| self.error(error).into())
    }

    fn error(&self, error: impl Into<io::Error>) -> StoreError {
        StoreError::io(self.path.display().to_string(), error)
    }

    /// Opens the file for appending, making it (0600) where it is missing; whether it was made.
    fn open(&self) -> std::result::Result<(File, bool), MboxError> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let (fd, created) = match rustix::fs::open(&self.path, flags, mode) {
            Ok(fd) => (fd, false),
            Err(Errno::NOENT) => match rustix::fs::open(&self.path, flags | OFlags::CREATE | OFlags::EXCL, mode) {
                Ok(fd) => (fd, true),
                Err(error) => return Err(self.error(error).into()),
            },
            Err(Errno::LOOP) => return Err(MboxError::Unsafe("mailbox is a symbolic link")),
            Err(Errno::ISDIR) => return Err(MboxError::Unsafe("mailbox is a directory")),
            Err(error) => return Err(self.error(error).into()),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|error| self.error(error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(MboxError::Unsafe("mailbox is not a regular file"));
        }
        if stat.st_nlink > 1 {
            return Err(MboxError::Unsafe("mailbox has more than one name"));
        }
        if self.owner.is_some_and(|owner| owner != stat.st_uid) {
            return Err(MboxError::Unsafe("mailbox is not owned by recipient"));
        }
        Ok((File::from(fd), created))
    }

    fn kernel_locks<'a>(&self, file: &'a File, deadline: Instant) -> Result<Vec<Lock<'a>>> {
        let families = self.locks.iter().filter_map(|method| match method {
            LockMethod::Fcntl => Some(Family::Fcntl),
            LockMethod::Flock => Some(Family::Flock),
            LockMethod::Dotlock => None,
        });
        let take = |family| match lock_until(file, family, Kind::Exclusive, deadline) {
            Ok(lock) => lock.ok_or(StoreError::Locked),
            Err(error) => Err(self.error(error)),
        };
        families.map(take).collect()
    }

    fn dot_lock(&self, deadline: Instant) -> Result<DotFile> {
        let mut name = OsString::from(&self.path);
        name.push(".lock");
        let path = PathBuf::from(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut pause = Duration::from_millis(1);
        loop {
            match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => {
                    let held = DotFile(path);
                    let written = File::from(fd).write_all(std::process::id().to_string().as_bytes());
                    return written.map(|()| held).map_err(|error| self.error(error));
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(StoreError::io(path.display().to_string(), error)),
            }
            let modified = std::fs::symlink_metadata(&path).and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
            if age.is_some_and(|age| age > self.stale) {
                let _ = std::fs::remove_file(&path);
            } else if Instant::now() >= deadline {
                return Err(StoreError::Locked);
            } else {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(100));
            }
        }
    }

    /// A new mailbox exists only when its name is on disk.
    fn sync_directory(&self) -> std::result::Result<(), MboxError> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        let synced = File::open(parent).and_then(|dir| dir.sync_all());
        synced.map_err(|error| self.error(error).into())
    }
}

/// A dot-lock; removed when dropped.
struct DotFile(PathBuf);

impl Drop for DotFile {
    fn drop(&mut self) {
        // A lock that stays is broken by the next program after `stale_lock_time`.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What every line that could be taken for a separator begins with.
const FROM: &[u8] = b"From ";
const BUFFER: usize = 64 * 1024;

/// Writes a message into an mbox: LF line ends, `>` before lines that begin with `From `.
pub struct MboxWriter<'a> {
    mbox: &'a Mbox,
    file: &'a File,
    room: u64,
    lf: ToLf,
    converted: Vec<u8>,
    buffer: Vec<u8>,
    /// How much of `FROM` the present line has matched from its beginning; none once it cannot match any more.
    matched: Option<usize>,
    last: u8,
}

impl<'a> MboxWriter<'a> {
    fn new(mbox: &'a Mbox, file: &'a File, room: u64) -> Self {
        let (converted, buffer) = (Vec::with_capacity(BUFFER), Vec::with_capacity(BUFFER));
        Self { mbox, file, room, lf: ToLf::default(), converted, buffer, matched: Some(0), last: b'\n' }
    }

    /// Adds content.
    ///
    /// # Errors
    /// As [`Mbox::append`].
    pub fn write(&mut self, chunk: &[u8]) -> std::result::Result<(), MboxError> {
        for piece in chunk.chunks(BUFFER / 2) {
            let mut converted = std::mem::take(&mut self.converted);
            self.lf.push(piece, &mut converted);
            let result = self.quote(&converted);
            converted.clear();
            self.converted = converted;
            result?;
        }
        Ok(())
    }

    fn quote(&mut self, converted: &[u8]) -> std::result::Result<(), MboxError> {
        for &byte in converted {
            match self.matched {
                Some(matched) if byte == FROM[matched] => {
                    if matched + 1 < FROM.len() {
                        self.matched = Some(matched + 1);
                        continue;
                    }
                    self.put(b">From ")?;
                    self.matched = None;
                    continue;
                }
                Some(matched) => {
                    self.put(&FROM[..matched])?;
                    self.matched = None;
                }
                None => {}
            }
            self.put(&[byte])?;
            if byte == b'\n' {
                self.matched = Some(0);
            }
        }
        Ok(())
    }

    fn put(&mut self, octets: &[u8]) -> std::result::Result<(), MboxError> {
        self.room = self.room.checked_sub(octets.len() as u64).ok_or(MboxError::TooLarge)?;
        self.buffer.extend_from_slice(octets);
        self.last = octets.last().copied().unwrap_or(self.last);
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> std::result::Result<(), MboxError> {
        let written = (&mut &*self.file).write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => MboxError::TooLarge,
            _ => self.mbox.error(error).into(),
        })
    }

    fn finish(mut self) -> std::result::Result<(), MboxError> {
        let mut rest = Vec::new();
        self.lf.finish(&mut rest);
        self.quote(&rest)?;
        if let Some(matched) = self.matched.take() {
            self.put(&FROM[..matched])?;
        }
        if self.last != b'\n' {
            self.put(b"\n")?;
        }
        self.put(b"\n")?;
        self.flush()
    }
}

/// Reads `mailbox_delivery_lock`'s methods.
///
/// # Errors
/// The word that is no method.
pub fn lock_methods<'a>(words: impl IntoIterator<Item = &'a str>) -> std::result::Result<Vec<LockMethod>, &'a str> {
    let method = |word: &'a str| match word {
        "fcntl" => Ok(LockMethod::Fcntl),
        "flock" => Ok(LockMethod::Flock),
        "dotlock" => Ok(LockMethod::Dotlock),
        other => Err(other),
    };
    words.into_iter().map(method).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mbox(dir: &Path) -> Mbox {
        Mbox {
            path: dir.join("john"),
            locks: vec![LockMethod::Fcntl, LockMethod::Dotlock],
            patience: Duration::ZERO,
            stale: Duration::from_secs(500),
            size_limit: 0,
            owner: None,
        }
    }

    fn append(mbox: &Mbox, chunks: &[&[u8]]) -> std::result::Result<(), MboxError> {
        mbox.append("From a@b  Sun Nov 22 14:50:20 2026", |writer| {
            chunks.iter().try_for_each(|chunk| writer.write(chunk))
        })
    }

    #[test]
    fn a_message_is_framed_and_quoted() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mbox = mbox(dir.path());
        append(&mbox, &[b"Subject: x\r\n\r\nFr", b"om here\r\nFrom\r\n From x\r\n>From y\r\nFrom "]).expect("appended");
        append(&mbox, &[b"From first\nend\n"]).expect("appended");
        let text = std::fs::read_to_string(&mbox.path).expect("read");
        let expected = "From a@b  Sun Nov 22 14:50:20 2026\nSubject: x\n\n>From here\nFrom\n From x\n>From y\n>From \n\n\
            From a@b  Sun Nov 22 14:50:20 2026\n>From first\nend\n\n";
        assert_eq!(text, expected);
        assert!(!dir.path().join("john.lock").exists());
    }

    #[test]
    fn a_message_that_does_not_fit_leaves_the_mailbox_as_it_was() {
        let dir = tempfile::tempdir().expect("tempdir");
        let limited = Mbox { size_limit: 200_000, ..mbox(dir.path()) };
        append(&limited, &[b"x\n"]).expect("fits");
        let before = std::fs::read(&limited.path).expect("read");
        assert!(matches!(append(&limited, &[&[b'y'; 300_000]]), Err(MboxError::TooLarge)));
        assert_eq!(std::fs::read(&limited.path).expect("read"), before);
    }

    #[test]
    fn a_locked_mailbox_is_left_alone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mbox = mbox(dir.path());
        std::fs::write(dir.path().join("john.lock"), "1").expect("write");
        assert!(matches!(append(&mbox, &[b"x"]), Err(MboxError::Store(StoreError::Locked))));
        std::fs::remove_file(dir.path().join("john.lock")).expect("remove");
        let other = File::options().append(true).open(&mbox.path).expect("made by the attempt");
        let held = lock_until(&other, Family::Fcntl, Kind::Exclusive, Instant::now()).expect("locks").expect("free");
        assert!(matches!(append(&mbox, &[b"x"]), Err(MboxError::Store(StoreError::Locked))));
        drop(held);
        let patient = Mbox { stale: Duration::ZERO, patience: Duration::from_secs(5), ..mbox };
        std::fs::write(dir.path().join("john.lock"), "1").expect("write");
        append(&patient, &[b"x"]).expect("a stale dot-lock is broken");
    }

    #[test]
    fn what_is_no_mailbox_is_not_written_to() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mbox = mbox(dir.path());
        std::fs::write(dir.path().join("target"), "").expect("write");
        std::os::unix::fs::symlink(dir.path().join("target"), &mbox.path).expect("link");
        assert!(matches!(append(&mbox, &[b"x"]), Err(MboxError::Unsafe(_))));
        std::fs::remove_file(&mbox.path).expect("remove");
        std::fs::hard_link(dir.path().join("target"), &mbox.path).expect("link");
        assert!(matches!(append(&mbox, &[b"x"]), Err(MboxError::Unsafe(_))));
        std::fs::remove_file(&mbox.path).expect("remove");
        let foreign = Mbox { owner: Some(4_000_000), ..mbox };
        assert!(matches!(append(&foreign, &[b"x"]), Err(MboxError::Unsafe(_))));
        assert_eq!(std::fs::read(dir.path().join("target")).expect("read"), b"");
    }
}
