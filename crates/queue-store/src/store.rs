//! The handle on the queue: operations go to the committer, questions are answered from the state.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mail_types::{Envelope, QueueId, UnixTime};

use crate::clean;
use crate::committer::{Committer, Request};
use crate::content::{self, Content};
use crate::hop::Hop;
use crate::index::{Engine, IndexError};
use crate::keys::{Class, Due};
use crate::message::{Counts, MessageState};
use crate::read::{Body, LoadError, Loaded, load, load_body};
use crate::record::{Accepted, Change, Expanded, Outcome, RecipientState};
use crate::recover::{Recovery, recover};
use crate::run::Run;
use crate::state::{REMEMBERED, State};

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The index.
    pub engine: Engine,
    /// A segment that is longer gets a successor; octets.
    pub segment_size: u64,
    /// Messages are refused while less disk space than this is free (`queue_minfree`); octets.
    pub min_free: u64,
    /// Segments are cleaned while they take more than four times what lives, plus this; octets.
    pub slack: u64,
    /// How long a segment in which nothing lives is kept, unless space is wanted.
    pub keep: Duration,
    /// How often the cleaner looks whether it is wanted.
    pub clean_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let segment_size = 64 * 1024 * 1024;
        Self {
            engine: Engine::Sled,
            segment_size,
            min_free: 0,
            slack: 4 * segment_size,
            keep: REMEMBERED,
            clean_every: Duration::from_secs(5),
        }
    }
}

/// Why a store cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it open.
    Locked,
    /// The file system.
    Io(io::Error),
    /// A new index cannot be made.
    Index(IndexError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str("the queue is open in another process"),
            Self::Io(error) => write!(f, "the queue cannot be read: {error}"),
            Self::Index(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<IndexError> for OpenError {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

/// A durable fact to be.
#[derive(Debug)]
pub enum Op {
    /// Grants so many serial numbers. Answered with [`Answer::Granted`].
    Grant(u32),
    /// Accepts a message. Answered with [`Answer::Done`], or [`Answer::Known`] if the id was accepted before.
    Accept {
        /// The record.
        accepted: Accepted,
        /// The content.
        content: Content,
        /// Where the recipients are scheduled, in their order; missing ones are unrouted.
        hops: Vec<Hop>,
    },
    /// Records what became of recipients.
    Outcome(Outcome),
    /// Replaces a recipient by members, which are scheduled at these hops.
    Expand(Expanded, Vec<Hop>),
    /// Puts a message on hold.
    Hold(Change),
    /// Releases a message from hold.
    Release(Change),
    /// Lets a message begin again.
    Requeue(Change),
    /// Removes a message.
    Delete(Change),
    /// Copies a message forward; only the cleaner asks for it. True if the content is not what was written.
    #[doc(hidden)]
    Move(QueueId, Arc<Envelope>, Content, bool),
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is durable.
    Done,
    /// Serial numbers `first` to `first + count - 1` are the asker's.
    Granted {
        /// The first.
        first: u32,
        /// How many.
        count: u32,
    },
    /// This id was accepted before, and that is durable.
    Known,
    /// The message is not in the queue; nothing of the group was recorded.
    Unknown,
}

/// Nothing was recorded; the same may work later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Too little disk space.
    NoSpace,
    /// A write or sync failed.
    Failed(String),
    /// The store is being closed.
    Closed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace => f.write_str("insufficient system storage"),
            Self::Failed(error) => write!(f, "queue file write error: {error}"),
            Self::Closed => f.write_str("the queue is being closed"),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<&io::Error> for Refusal {
    /// A full disk, one without inodes or a used-up quota is a matter of space; everything else has failed.
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// One answer for each operation of a group, or the refusal of the whole group.
pub type Answers = Result<Vec<Answer>, Refusal>;

/// What the threads of a store share.
pub(crate) struct Shared {
    pub dir: PathBuf,
    pub options: Options,
    pub state: RwLock<State>,
    pub files: RwLock<BTreeMap<u64, Arc<File>>>,
    /// The sequence number that the index has reached; waiters sleep on the condition.
    pub indexed: Mutex<Indexed>,
    pub indexed_changed: Condvar,
    /// The sequence number of the first record of each segment.
    pub firsts: Mutex<BTreeMap<u64, u64>>,
    pub index_failed: AtomicBool,
    /// Messages are being refused for want of space: dead segments go at once.
    pub low_space: AtomicBool,
    /// Why the last cleaning failed.
    pub trouble: Mutex<Option<String>>,
    pub stopping: AtomicBool,
}

/// Progress of the index thread.
#[derive(Debug, Default)]
pub(crate) struct Indexed {
    /// The last sequence number in the index.
    pub sequence: u64,
    /// Asked for: freeze soon.
    pub wanted: bool,
}

impl Shared {
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn file(&self, segment: u64) -> Option<Arc<File>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).get(&segment).cloned()
    }
}

/// The queue of one directory.
pub struct Store {
    shared: Arc<Shared>,
    sender: Option<Sender<Request>>,
    threads: Vec<JoinHandle<()>>,
    run: Mutex<Run>,
    // Locked as long as it is open.
    _lock: File,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the queue in `dir`, which is made if it is missing, and brings the state up to the log. Blocks; who has it open may take
    /// three seconds to end.
    ///
    /// # Errors
    /// [`OpenError`]; damage in the log is none (see [`Recovery`]).
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Recovery), OpenError> {
        make_directories(dir)?;
        let lock = lock(dir)?;
        let recovered = recover(dir, options.engine)?;
        let files = recovered.segments.iter().map(|(number, segment)| (*number, segment.file.clone())).collect();
        let firsts = recovered.segments.iter().map(|(number, segment)| (*number, segment.header.first)).collect();
        let indexed = Indexed { sequence: recovered.state.sequence, wanted: false };
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            options: Options { engine: recovered.engine, ..options },
            state: RwLock::new(recovered.state),
            files: RwLock::new(files),
            indexed: Mutex::new(indexed),
            indexed_changed: Condvar::new(),
            firsts: Mutex::new(firsts),
            index_failed: AtomicBool::new(false),
            low_space: AtomicBool::new(false),
            trouble: Mutex::new(None),
            stopping: AtomicBool::new(false),
        });
        let (sender, receiver) = channel();
        let committer = Committer::start(shared.clone(), recovered.next_sequence, recovered.next_segment)?;
        let mut threads = vec![committer.spawn(receiver)?];
        threads.push(clean::spawn(shared.clone(), sender.clone())?);
        let run = Mutex::new(Run::read(dir));
        Ok((Self { shared, sender: Some(sender), threads, run, _lock: lock }, recovered.report))
    }

    /// Hands a group of operations to the committer: all of them become durable together, or none. `done` runs on the committer's thread
    /// after the sync, with the state up to date; it must be short.
    pub fn submit(&self, ops: Vec<Op>, done: impl FnOnce(Answers) + Send + 'static) {
        let request = Request { ops, done: Box::new(done) };
        match &self.sender {
            Some(sender) => {
                if let Err(returned) = sender.send(request) {
                    (returned.0.done)(Err(Refusal::Closed));
                }
            }
            None => (request.done)(Err(Refusal::Closed)),
        }
    }

    /// As [`Store::submit`], and waits for the answer.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was recorded.
    pub fn commit(&self, ops: Vec<Op>) -> Answers {
        let (answer, answered) = channel();
        self.submit(ops, move |answers| {
            let _ = answer.send(answers);
        });
        answered.recv().unwrap_or(Err(Refusal::Closed))
    }

    /// Creates the file for long content of a message to be. Whoever writes it closes it before [`Store::complete_content`].
    ///
    /// # Errors
    /// Any of the file system.
    pub fn create_content(&self, id: QueueId) -> io::Result<File> {
        content::create(&self.shared.dir, id)
    }

    /// Takes the file that was written: content of 1 MiB and more is synced under its name, shorter content is read (its file goes with
    /// [`Store::abandon_content`] once the message is accepted). Blocks.
    ///
    /// # Errors
    /// Any of the file system; after a failed sync the message must be refused.
    pub fn complete_content(&self, id: QueueId) -> io::Result<Content> {
        content::complete(&self.shared.dir, id)
    }

    /// Removes the file of a message that does not keep it.
    ///
    /// # Errors
    /// Any of the file system; the file then goes at the next start.
    pub fn abandon_content(&self, id: QueueId) -> io::Result<()> {
        content::remove(&self.shared.dir, id)
    }

    /// A message that is not done.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn message(&self, id: QueueId) -> Result<Option<MessageState>, IndexError> {
        self.shared.read().message(id)
    }

    /// Whether the message was accepted before, and ended within the last ten minutes or is still here.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn knows(&self, id: QueueId) -> Result<bool, IndexError> {
        let state = self.shared.read();
        Ok(state.has_ended(id) || state.message(id)?.is_some())
    }

    /// One recipient that is not done.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn recipient(&self, id: QueueId, number: u32) -> Result<Option<RecipientState>, IndexError> {
        self.shared.read().recipient(id, number)
    }

    /// The recipients of a message that are not done, from number `from` on.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn recipients(&self, id: QueueId, from: u32, limit: usize) -> Result<Vec<(u32, RecipientState)>, IndexError> {
        self.shared.read().recipients(id, from, limit)
    }

    /// For each of several messages, in the order of ids, its recipients that are not done; at most so many of each.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn recipients_of(&self, ids: &[QueueId], limit: usize) -> Result<Vec<Vec<RecipientState>>, IndexError> {
        self.shared.read().recipients_of(ids, limit)
    }

    /// Messages in the order of ids, behind `after`.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn messages(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<(QueueId, MessageState)>, IndexError> {
        self.shared.read().messages(after, limit)
    }

    /// Recipients about whom a report to the sender is due, behind `after`.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn reports(&self, after: Option<(QueueId, u32)>, limit: usize) -> Result<Vec<(QueueId, u32)>, IndexError> {
        self.shared.read().reports(after, limit)
    }

    /// The first hop behind `after` that has anything scheduled.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn next_hop(&self, after: Option<&Hop>) -> Result<Option<Hop>, IndexError> {
        self.shared.read().next_hop(after)
    }

    /// The schedule of one hop and class in the order of time, behind `after`.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn schedule(&self, hop: &Hop, class: Class, after: Option<Due>, limit: usize) -> Result<Vec<Due>, IndexError> {
        self.shared.read().schedule(hop, class, after, limit)
    }

    /// Moves a recipient in the schedule: to another hop, to another time. Not durable: routes and due times are found again.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn reschedule(
        &self,
        id: QueueId,
        number: u32,
        hop: Option<Hop>,
        next: Option<UnixTime>,
    ) -> Result<bool, IndexError> {
        self.shared.write().reschedule(id, number, hop, next)
    }

    /// How many messages there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.read().counts
    }

    /// The number of the last record: it rises with everything that is done.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.shared.read().sequence
    }

    /// Reads a message from the log. Blocks.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&self, id: QueueId) -> Result<Loaded, LoadError> {
        load(&self.shared, id)
    }

    /// Reads the content of a message from the log, without its envelope. Blocks.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn body(&self, id: QueueId) -> Result<Body, LoadError> {
        load_body(&self.shared, id)
    }

    /// Remembers which workers are connected, for the next start.
    ///
    /// # Errors
    /// Any of the file system.
    pub fn set_workers(&self, workers: Vec<String>) -> io::Result<()> {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.workers != workers {
            run.workers = workers;
            run.write(&self.shared.dir)?;
        }
        Ok(())
    }

    /// Whether the index failed: the store serves on, and should be opened anew, which rebuilds it.
    #[must_use]
    pub fn index_failed(&self) -> bool {
        self.shared.index_failed.load(Ordering::Relaxed)
    }

    /// Why the last cleaning failed, once; for the log.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends cleanly: carries out what waits, writes the index down, leaves the clean mark.
    ///
    /// # Errors
    /// The clean mark could not be written; the next start replays.
    pub fn close(mut self) -> io::Result<()> {
        self.stop();
        let durable = !self.index_failed() && self.shared.read().pending() == 0;
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner).clone();
        run.clean = durable;
        run.index = durable && self.shared.options.engine == Engine::Sled;
        run.write(&self.shared.dir)
    }

    fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.indexed_changed.notify_all();
        self.sender = None;
        for thread in self.threads.drain(..).rev() {
            // A panicked thread has left the state as of its last batch; the log is the truth.
            let _ = thread.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}

fn make_directories(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut made = false;
    for path in ["", "segments", "content", "corrupt", "ledger"].map(|name| dir.join(name)) {
        if !path.is_dir() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            made = true;
        }
    }
    // Who made them before has synced them; in the sandbox the directory above cannot even be opened.
    if made { crate::segment::sync_directory(dir) } else { Ok(()) }
}

/// How long who had the queue may take to let go: a killed monitor's process is ended by the kernel after it, and a program that was just
/// started has a copy of each descriptor until it is executed.
const LETTING_GO: Duration = Duration::from_secs(3);

fn lock(dir: &Path) -> Result<File, OpenError> {
    let lock = File::open(dir.join("segments"))?;
    let deadline = Instant::now() + LETTING_GO;
    loop {
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(OpenError::Locked),
            Err(error) => return Err(OpenError::Io(error.into())),
        }
    }
}
