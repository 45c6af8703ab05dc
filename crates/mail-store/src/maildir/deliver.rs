//! Delivery into a Maildir: write in `tmp/`, fdatasync, rename to `new/`, fsync of `new/`. The uidlist and the index are not touched.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use mail_posix::points;
use mail_types::QueueId;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::dir::Dir;
use super::file_name;
use crate::content::ToLf;
use crate::{Result, StoreError};

/// The three directories of one Maildir, open.
#[derive(Debug)]
pub struct Maildir {
    pub(super) root: Dir,
    pub(super) tmp: Arc<Dir>,
    pub(super) new: Dir,
    pub(super) cur: Dir,
}

/// What names a delivered message: the same for every attempt, so that a repeated one finds what its predecessor did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryName<'a> {
    /// The message.
    pub queue_id: QueueId,
    /// The number of the recipient within the message.
    pub recipient: u32,
    /// The host that delivers (`myhostname`).
    pub host: &'a str,
}

impl DeliveryName<'_> {
    /// `SECONDS.M...Q<queueid>R<n>.<host>`: the file name without sizes.
    #[must_use]
    pub fn stem(&self) -> String {
        let id = self.queue_id;
        format!("{}.M{:06}Q{}R{}.{}", id.seconds(), id.micros(), id, self.recipient, file_name::host(self.host))
    }
}

impl Maildir {
    /// Opens a Maildir, making it and its parts (0700) where they are missing.
    ///
    /// # Errors
    /// What the file system says; [`StoreError::NoSuchMailbox`] if something else has the name.
    pub fn create(path: &Path) -> Result<Self> {
        Self::in_root(Dir::create(path)?)
    }

    /// Opens the Maildir in a directory, making `tmp`, `new` and `cur` where they are missing.
    ///
    /// # Errors
    /// What the file system says.
    pub fn in_root(root: Dir) -> Result<Self> {
        let part = |name: &[u8]| match root.subdirectory(name) {
            Err(StoreError::NoSuchMailbox) => root.make_subdirectory(name),
            other => other,
        };
        let (tmp, new, cur) = (part(b"tmp")?, part(b"new")?, part(b"cur")?);
        Ok(Self { tmp: Arc::new(tmp), new, cur, root })
    }

    /// Whether a message with this stem lies in `new/` or `cur/` already, under whatever flags.
    ///
    /// # Errors
    /// What the file system says.
    pub fn contains(&self, stem: &str) -> Result<bool> {
        let mut found = false;
        for part in [&self.new, &self.cur] {
            part.entries(|name, _| found |= file_name::stem(name) == stem.as_bytes())?;
        }
        Ok(found)
    }

    /// The octets of all messages, for `mailbox_size_limit`-like decisions; sizes in names are trusted.
    ///
    /// # Errors
    /// What the file system says.
    pub fn octets(&self) -> Result<u64> {
        let mut total = 0u64;
        for part in [&self.new, &self.cur] {
            let mut unknown = Vec::new();
            part.entries(|name, _| match file_name::size(name, b'S') {
                Some(size) => total = total.saturating_add(size),
                None => unknown.push(name.to_vec()),
            })?;
            for name in unknown {
                let stat =
                    part.stat(&name)?.filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
                total = total.saturating_add(stat.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0)));
            }
        }
        Ok(total)
    }

    /// Begins a batch of deliveries that share the sync of `new/`.
    #[must_use]
    pub fn batch(&self) -> Batch<'_> {
        Batch { maildir: self, repeated: false, messages: Vec::new() }
    }

    /// Begins to write a message to `tmp/` under a name without sizes.
    ///
    /// # Errors
    /// What the file system says.
    pub fn begin(&self, stem: &str) -> Result<Incoming> {
        // The process id keeps two attempts apart that write the same message at the same time.
        let name = format!("{stem}.{}", std::process::id()).into_bytes();
        let file = match self.tmp.create_file(&name) {
            Err(Errno::EXIST) => {
                self.tmp.unlink(&name)?;
                self.tmp.create_file(&name)
            }
            other => other,
        };
        let file = file.map_err(|error| self.tmp.error(&name, error))?;
        Ok(Incoming {
            tmp: Arc::clone(&self.tmp),
            name,
            stem: stem.to_owned(),
            file,
            sizes: ToLf::default(),
            buffer: Vec::with_capacity(BUFFER),
            finished: false,
        })
    }
}

/// Converted octets gathered before they are written.
const BUFFER: usize = 64 * 1024;

/// A message being written to `tmp/`. Dropped before it is placed, it leaves nothing behind.
#[derive(Debug)]
pub struct Incoming {
    tmp: Arc<Dir>,
    name: Vec<u8>,
    stem: String,
    file: File,
    sizes: ToLf,
    buffer: Vec<u8>,
    finished: bool,
}

impl Incoming {
    /// Adds content; CRLF line ends become LF.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&mut self, chunk: &[u8]) -> Result<()> {
        for piece in chunk.chunks(BUFFER) {
            self.sizes.push(piece, &mut self.buffer);
            if self.buffer.len() >= BUFFER {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_all(&self.buffer).map_err(|error| self.tmp.error(&self.name, error))?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the rest and lets the disk begin with it, so that the later syncs of several messages find most of the work done.
    ///
    /// # Errors
    /// What the file system says.
    pub fn written(&mut self) -> Result<()> {
        self.sizes.finish(&mut self.buffer);
        self.flush()?;
        // This advice starts the write-back. It is no more than advice: the sync comes in any case.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
        Ok(())
    }

    /// Writes the rest, sets the modification time where one is given, waits for the content to be on stable storage, and says
    /// the name that the message gets: the stem with its sizes.
    ///
    /// # Errors
    /// What the file system says.
    pub fn finish(&mut self, date: Option<i64>) -> Result<Vec<u8>> {
        self.sizes.finish(&mut self.buffer);
        self.flush()?;
        if let Some(seconds) = date {
            let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
            let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
            rustix::fs::futimens(&self.file, &times).map_err(|error| self.tmp.error(&self.name, error))?;
        }
        // A date must be durable too, so the inode itself is synced then.
        let synced = if date.is_some() { rustix::fs::fsync(&self.file) } else { rustix::fs::fdatasync(&self.file) };
        synced.map_err(|error| self.tmp.error(&self.name, error))?;
        Ok(format!("{},S={},W={}", self.stem, self.sizes.physical(), self.sizes.virtual_size()).into_bytes())
    }

    /// Octets of the finished message: stored, and with CRLF line ends.
    #[must_use]
    pub fn sizes(&self) -> (u64, u64) {
        (self.sizes.physical(), self.sizes.virtual_size())
    }

    /// The finished message's name in `tmp/`, from now on the caller's to move or remove.
    pub(super) fn into_temporary(mut self) -> Vec<u8> {
        self.finished = true;
        std::mem::take(&mut self.name)
    }

    /// Moves the finished message to `name` in `to`, replacing nothing; false if the name is taken.
    pub(super) fn place(mut self, to: &Dir, name: &[u8]) -> Result<bool> {
        match self.tmp.rename_new(&self.name, to, name) {
            Ok(()) => {
                self.finished = true;
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(to.error(name, error)),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed stays in tmp/, where nobody reads and every Maildir reader cleans up after 36 hours.
            let _ = self.tmp.unlink(&self.name);
        }
    }
}

/// Deliveries into one Maildir that become durable together.
#[derive(Debug)]
pub struct Batch<'a> {
    maildir: &'a Maildir,
    repeated: bool,
    messages: Vec<Delivery>,
}

/// One message of a batch.
#[derive(Debug)]
enum Delivery {
    /// A predecessor delivered it.
    There,
    /// It lies in `tmp/`.
    Written(Incoming),
    /// It could not be written.
    Failed(StoreError),
}

impl Batch<'_> {
    /// Adds one message: content from `write`, which is given the open message and may fail on its own account.
    ///
    /// With `repeated`, a predecessor may have delivered it: then `new/` and `cur/` are searched first. A message that is there
    /// already counts as delivered. Nothing is delivered before [`Batch::commit`].
    pub fn add(&mut self, name: &DeliveryName<'_>, repeated: bool, write: impl FnOnce(&mut Incoming) -> Result<()>) {
        let delivery = self.write(&name.stem(), repeated, write).unwrap_or_else(Delivery::Failed);
        self.messages.push(delivery);
    }

    fn write(
        &mut self,
        stem: &str,
        repeated: bool,
        write: impl FnOnce(&mut Incoming) -> Result<()>,
    ) -> Result<Delivery> {
        self.repeated |= repeated;
        if repeated && self.maildir.contains(stem)? {
            return Ok(Delivery::There);
        }
        let mut incoming = self.maildir.begin(stem)?;
        write(&mut incoming)?;
        incoming.written()?;
        Ok(Delivery::Written(incoming))
    }

    /// Makes the messages durable, names them in `new/`, and makes that durable: one result for each, in their order. A message that
    /// failed is not delivered and harms no other.
    #[must_use]
    pub fn commit(self) -> Vec<Result<()>> {
        let Self { maildir, repeated, messages } = self;
        let placed: Vec<Result<Option<Vec<u8>>>> =
            messages.into_iter().map(|delivery| place(maildir, delivery)).collect();
        points::reached("maildir-renamed");
        // What a predecessor delivered may have been moved by a reader before anybody synced it.
        let synced = if repeated { maildir.cur.sync() } else { Ok(()) }.and_then(|()| maildir.new.sync());
        if let Err(error) = synced {
            let text = error.to_string();
            let failed = || StoreError::Io(text.clone(), std::io::Error::other("sync failed"));
            // The next attempt writes them anew: it must not find names whose second sync would say that all is well (R4).
            for name in placed.iter().filter_map(|placed| placed.as_ref().ok()?.as_ref()) {
                let _ = maildir.new.unlink(name);
            }
            return placed.into_iter().map(|placed| placed.and_then(|_| Err(failed()))).collect();
        }
        placed.into_iter().map(|placed| placed.map(drop)).collect()
    }
}

/// Names a message in `new/`; gives the name if it was free.
fn place(maildir: &Maildir, delivery: Delivery) -> Result<Option<Vec<u8>>> {
    match delivery {
        Delivery::There => Ok(None),
        Delivery::Failed(error) => Err(error),
        Delivery::Written(mut incoming) => {
            let name = incoming.finish(None)?;
            points::reached("maildir-written");
            // A taken name is this very message, placed by an attempt whose outcome got lost.
            Ok(incoming.place(&maildir.new, &name)?.then_some(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn id() -> QueueId {
        QueueId::new(1_700_000_000, 42, 7).expect("in range")
    }

    fn deliver(maildir: &Maildir, recipient: u32, repeated: bool) {
        let mut batch = maildir.batch();
        let name = DeliveryName { queue_id: id(), recipient, host: "mail.info.net" };
        batch.add(&name, repeated, |message| message.write(b"Subject: x\r\n\r\nbody\r\n"));
        batch.commit().pop().expect("one").expect("delivered");
    }

    fn files(path: &Path, part: &str) -> Vec<String> {
        let entries = std::fs::read_dir(path.join(part)).expect("read");
        entries.map(|entry| entry.expect("entry").file_name().into_string().expect("utf-8")).collect()
    }

    #[test]
    fn a_message_gets_the_name_that_its_queue_id_says() {
        let temporary = tempfile::tempdir().expect("tempdir");
        let path = temporary.path().join("home/Maildir");
        deliver(&Maildir::create(&path).expect("created"), 3, false);
        assert_eq!(files(&path, "new"), [format!("1700000000.M000042Q{}R3.mail.info.net,S=17,W=20", id())]);
        assert!(files(&path, "tmp").is_empty());
        assert_eq!(std::fs::metadata(&path).expect("stat").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_repeated_attempt_delivers_once_even_after_a_reader_moved_the_message() {
        // R3
        let temporary = tempfile::tempdir().expect("tempdir");
        let maildir = Maildir::create(temporary.path()).expect("created");
        deliver(&maildir, 1, false);
        deliver(&maildir, 1, true);
        deliver(&maildir, 1, false);
        let name = files(temporary.path(), "new").pop().expect("one");
        let moved = temporary.path().join("cur").join(format!("{name}:2,S"));
        std::fs::rename(temporary.path().join("new").join(name), moved).expect("rename");
        deliver(&maildir, 1, true);
        deliver(&maildir, 2, true);
        assert_eq!((files(temporary.path(), "new").len(), files(temporary.path(), "cur").len()), (1, 1));
    }

    #[test]
    fn a_link_in_place_of_a_maildir_part_is_not_followed() {
        let temporary = tempfile::tempdir().expect("tempdir");
        let elsewhere = tempfile::tempdir().expect("tempdir");
        std::os::unix::fs::symlink(elsewhere.path(), temporary.path().join("new")).expect("link");
        assert!(Maildir::create(temporary.path()).is_err());
    }

    #[test]
    fn a_message_that_cannot_be_written_leaves_nothing() {
        let temporary = tempfile::tempdir().expect("tempdir");
        let maildir = Maildir::create(temporary.path()).expect("created");
        let name = DeliveryName { queue_id: id(), recipient: 0, host: "h" };
        let mut batch = maildir.batch();
        batch.add(&name, false, |message| {
            message.write(b"half")?;
            Err(StoreError::NoSpace)
        });
        assert!(matches!(batch.commit()[..], [Err(StoreError::NoSpace)]));
        assert!(files(temporary.path(), "tmp").is_empty() && files(temporary.path(), "new").is_empty());
    }
}
