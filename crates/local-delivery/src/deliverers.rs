//! The coordinator's side of the deliverers: one process per owner, where owners may share a uid one per mailbox, started when needed, ended when idle.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mail_daemon::Log;
use mail_daemon::worker::Content;
use mail_ipc::Frame;
use mail_net::ipc::{self, Reader, Writer};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, oneshot};

use crate::job::Owner;
use crate::job::{Answer as Said, Job, JobContent, Target};
use crate::monitor::{Answer, Request};
use crate::room::Mailbox;

/// A deliverer without work for so long is ended.
const IDLE: Duration = Duration::from_secs(20);
/// At most so many deliverers live; the ones idle longest make room.
const MOST: usize = 100;

/// A deliverer that answers nothing for so long, beside what its jobs may take, is stuck: its user has stopped it, or the disk hangs.
const SILENCE: Duration = Duration::from_secs(30);
/// The same while it holds up more jobs than its share.
const CROWDED: Duration = Duration::from_secs(10);
/// The jobs of one user beyond which a silent deliverer gets no more: others need the rest of the worker's slots.
const SHARE: usize = 100;
/// The same for a user whose deliverer was stuck lately, and how long that is remembered.
const DISTRUSTED: (usize, Duration) = (10, Duration::from_secs(300));
/// A deliverer that answered so lately is not silent.
const LATELY: Duration = Duration::from_secs(3);

/// Which deliverer carries a job out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Whom it is.
    owner: Owner,
    /// The one mailbox that it reaches.
    mailbox: Option<Mailbox>,
    /// Whether it runs the owner's programs.
    programs: bool,
}

/// One running deliverer.
struct Deliverer {
    number: u64,
    writer: Mutex<Writer>,
    state: Arc<StdMutex<State>>,
}

/// What the coordinator knows of a deliverer.
struct State {
    /// The jobs under way; none when it has ended or was given up.
    waiting: Option<HashMap<u64, Waiting>>,
    /// The number of the next job.
    next: u64,
    /// When it last answered, or began to have something to do.
    heard: Instant,
    /// It was given up because it did not answer.
    stuck: bool,
}

struct Waiting {
    sender: oneshot::Sender<Said>,
    /// What the job itself may take: waiting for locks, the time limit of a program.
    patience: Duration,
}

/// All deliverers.
pub struct Deliverers {
    monitor: Writer,
    running: Mutex<HashMap<Key, Arc<Deliverer>>>,
    /// Whose deliverer was stuck lately.
    distrusted: StdMutex<HashMap<Key, Instant>>,
    next: AtomicU64,
    root: bool,
}

/// Why there is no report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The deliverer ended before it reported: the job may have been carried out.
    Ended,
    /// It did not answer, and was ended: the job may have been carried out.
    Stuck,
    /// It does not answer, and enough waits for it: the job was not begun.
    Busy,
}

impl Deliverers {
    /// Asks the monitor what it may do, and watches it from then on.
    ///
    /// # Errors
    /// The monitor is gone.
    pub async fn new(mut reader: Reader, monitor: Writer, log: Log, ident: decision::Ident) -> io::Result<Self> {
        monitor.send(&Frame::new(1, Request::Rights), &[], &[]).await?;
        let received = reader.frame().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let root = match received.read::<Answer>().map_err(io::Error::other)?.body {
            Answer::Rights { root } => root,
            Answer::Refused { text } => return Err(io::Error::other(text)),
        };
        tokio::spawn(async move {
            while let Ok(Some(received)) = reader.frame().await {
                if let Ok(Answer::Refused { text }) = received.read::<Answer>().map(|frame| frame.body) {
                    log.warning(&ident, &format!("deliverer not started: {text}"));
                }
            }
        });
        let (running, distrusted) = (Mutex::default(), StdMutex::default());
        Ok(Self { monitor, running, distrusted, next: AtomicU64::new(1), root })
    }

    /// Whether deliverers are the recipients, or all the caller.
    #[must_use]
    pub fn have_rights(&self) -> bool {
        self.root
    }

    /// Carries out a job as its owner.
    ///
    /// # Errors
    /// [`Lost`] when there will be no report.
    pub async fn deliver(&self, owner: Owner, job: &Job, content: &Content) -> Result<Said, Lost> {
        let mailbox = Mailbox::of(owner, &job.target);
        let owner = if self.root { owner } else { Owner::Caller };
        let key = Key { owner, mailbox, programs: matches!(job.target, Target::Command(_)) };
        let share = self.share(&key);
        let deliverer = self.for_owner(key).await.map_err(|_| Lost::Ended)?;
        if deliverer.is_silent_with(share) {
            return Err(Lost::Busy);
        }
        deliverer.carry_out(job, content).await
    }

    /// How many jobs of an owner may wait for a deliverer that is silent.
    fn share(&self, key: &Key) -> usize {
        if key.is_everybody() {
            return usize::MAX;
        }
        let distrusted = self.distrusted.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = distrusted.get(key).is_some_and(|since| since.elapsed() < DISTRUSTED.1);
        if lately { DISTRUSTED.0 } else { SHARE }
    }

    async fn for_owner(&self, key: Key) -> io::Result<Arc<Deliverer>> {
        let mut running = self.running.lock().await;
        if let Some(deliverer) = running.get(&key).filter(|deliverer| !deliverer.is_broken()) {
            return Ok(Arc::clone(deliverer));
        }
        running.retain(|_, deliverer| !deliverer.is_broken());
        while running.len() >= MOST {
            let idle = running
                .iter()
                .filter_map(|(key, deliverer)| Some((deliverer.idle_since()?, key)))
                .min_by_key(|(since, _)| *since);
            // All are at work: one more does less harm than mail that waits for a slot behind a slow disk.
            let Some((_, key)) = idle else { break };
            let key = key.clone();
            running.remove(&key);
        }
        let (near, far) = UnixStream::pair()?;
        let far = far.into_std()?;
        let passed: [BorrowedFd<'_>; 1] = [far.as_fd()];
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let Key { owner, mailbox, programs } = key.clone();
        let request = Request::Start { owner, mailbox, programs, number };
        self.monitor.send(&Frame::new(0, request), &passed, &[]).await?;
        let deliverer = Arc::new(Deliverer::new(number, near)?);
        running.insert(key, Arc::clone(&deliverer));
        Ok(deliverer)
    }

    /// Ends deliverers that have had no work for a while, and those that do not answer. Called about once a second.
    pub async fn tidy(&self) {
        let mut running = self.running.lock().await;
        let mut stuck = Vec::new();
        running.retain(|key, deliverer| {
            if deliverer.is_stuck(if key.is_everybody() { usize::MAX } else { SHARE }) {
                stuck.push((key.clone(), deliverer.number));
                deliverer.give_up();
            }
            !deliverer.is_broken() && deliverer.idle_since().is_none_or(|since| since.elapsed() < IDLE)
        });
        drop(running);
        for (key, number) in stuck {
            self.distrust(key);
            // A monitor that is gone has taken its children with it.
            let _ = self.monitor.send(&Frame::new(0, Request::End { number }), &[], &[]).await;
        }
    }

    fn distrust(&self, key: Key) {
        let mut distrusted = self.distrusted.lock().unwrap_or_else(PoisonError::into_inner);
        distrusted.retain(|_, since| since.elapsed() < DISTRUSTED.1);
        distrusted.insert(key, Instant::now());
    }

    /// Ends all of them, after what they have begun.
    pub async fn end(&self) {
        self.running.lock().await.clear();
    }
}

impl Key {
    /// One deliverer is everybody's: without rights, for mail that goes to no mailbox of its own.
    fn is_everybody(&self) -> bool {
        self.owner == Owner::Caller && self.mailbox.is_none()
    }
}

impl Deliverer {
    fn new(number: u64, stream: UnixStream) -> io::Result<Self> {
        let (reader, writer) = ipc::split(stream)?;
        let state = State { waiting: Some(HashMap::new()), next: 1, heard: Instant::now(), stuck: false };
        let state = Arc::new(StdMutex::new(state));
        tokio::spawn(hand_out(reader, Arc::clone(&state)));
        Ok(Self { number, writer: Mutex::new(writer), state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_broken(&self) -> bool {
        self.state().waiting.is_none()
    }

    /// Since when nothing is under way; none while something is.
    fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        state.waiting.as_ref().is_none_or(HashMap::is_empty).then_some(state.heard)
    }

    /// Whether so many jobs wait, and nothing was heard lately.
    fn is_silent_with(&self, share: usize) -> bool {
        let state = self.state();
        state.heard.elapsed() > LATELY && state.waiting.as_ref().is_some_and(|jobs| jobs.len() >= share)
    }

    /// Whether its jobs have waited longer than they may take, which is less where they are more than a share.
    fn is_stuck(&self, share: usize) -> bool {
        let state = self.state();
        let Some(jobs) = state.waiting.as_ref().filter(|jobs| !jobs.is_empty()) else { return false };
        let patience = jobs.values().map(|job| job.patience).max().unwrap_or_default();
        let silence = if jobs.len() >= share { CROWDED } else { SILENCE };
        state.heard.elapsed() > silence + patience
    }

    /// Nobody waits for it any more.
    fn give_up(&self) {
        let mut state = self.state();
        state.stuck = true;
        state.waiting = None;
    }

    async fn carry_out(&self, job: &Job, content: &Content) -> Result<Said, Lost> {
        let (sender, receiver) = oneshot::channel();
        let patience = match &job.target {
            Target::Mbox { patience, .. } => Duration::from_millis(*patience),
            Target::Command(program) => Duration::from_millis(program.time_limit),
            Target::Maildir { .. } | Target::Nothing | Target::Elsewhere => Duration::ZERO,
        };
        let number = self.begin(Waiting { sender, patience })?;
        let sending = async {
            let frame = Frame::new(number, job);
            let writer = self.writer.lock().await;
            match (content, job.content) {
                (Content::Memory(octets), JobContent::Follows(_)) => writer.send(&frame, &[], &[octets]).await,
                (Content::File { file, .. }, _) => writer.send(&frame, &[file.as_fd()], &[]).await,
                (Content::Memory(_), JobContent::Descriptor { .. }) => Err(io::ErrorKind::InvalidInput.into()),
            }
        };
        // A deliverer that is given up reads no more either.
        tokio::pin!(receiver);
        let sent = tokio::select! {
            sent = sending => sent,
            said = &mut receiver => return said.map_err(|_| self.lost()),
        };
        if sent.is_err() {
            // Its end of the socket is closed; nobody may be given to it any more.
            self.state().waiting = None;
        }
        receiver.await.map_err(|_| self.lost())
    }

    fn begin(&self, job: Waiting) -> Result<u64, Lost> {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let Some(jobs) = state.waiting.as_mut() else { return Err(Lost::Ended) };
        let first = jobs.is_empty();
        jobs.insert(number, job);
        if first {
            state.heard = Instant::now();
        }
        Ok(number)
    }

    fn lost(&self) -> Lost {
        if self.state().stuck { Lost::Stuck } else { Lost::Ended }
    }
}

/// Brings each report to its job. At the end the jobs still waiting learn of it, because their senders are dropped.
async fn hand_out(mut reader: Reader, state: Arc<StdMutex<State>>) {
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    while let Ok(Some(received)) = reader.frame().await {
        let Ok(frame) = received.read::<Said>() else { break };
        let mut state = lock();
        state.heard = Instant::now();
        let job = state.waiting.as_mut().and_then(|jobs| jobs.remove(&frame.id));
        drop(state);
        if let Some(job) = job {
            let _ = job.sender.send(frame.body);
        }
    }
    lock().waiting.take();
}
