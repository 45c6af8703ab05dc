//! The coordinator's side of the deliverers: one process per owner, started when needed, ended when idle.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use mail_daemon::Log;
use mail_daemon::worker::Content;
use mail_ipc::Frame;
use mail_net::ipc::{self, Reader, Writer};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, oneshot};

use crate::job::{Answer as Said, Job, JobContent, Target};
use crate::monitor::{Answer, Owner, Request};

/// A deliverer without work for so long is ended.
const IDLE: Duration = Duration::from_secs(20);
/// At most so many deliverers live; the ones idle longest make room.
const MOST: usize = 100;

type Waiting = Arc<StdMutex<Option<HashMap<u64, oneshot::Sender<Said>>>>>;

/// One running deliverer.
struct Deliverer {
    writer: Mutex<Writer>,
    waiting: Waiting,
    next: AtomicU64,
    used: StdMutex<Instant>,
}

/// All deliverers.
pub struct Deliverers {
    monitor: Writer,
    /// By owner, and whether they run the owner's programs.
    running: Mutex<HashMap<(Owner, bool), Arc<Deliverer>>>,
    root: bool,
}

/// The deliverer ended before it reported: the job may have been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

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
        Ok(Self { monitor, running: Mutex::default(), root })
    }

    /// Whether deliverers are the recipients, or all the caller.
    #[must_use]
    pub fn have_rights(&self) -> bool {
        self.root
    }

    /// Carries out a job as its owner.
    ///
    /// # Errors
    /// [`Lost`] when the deliverer could not be started or ended.
    pub async fn deliver(&self, owner: Owner, job: &Job, content: &Content) -> Result<Said, Lost> {
        let owner = if self.root { owner } else { Owner::Caller };
        let programs = matches!(job.target, Target::Command(_));
        let deliverer = self.for_owner(owner, programs).await.map_err(|_| Lost)?;
        deliverer.carry_out(job, content).await
    }

    async fn for_owner(&self, owner: Owner, programs: bool) -> io::Result<Arc<Deliverer>> {
        let key = (owner, programs);
        let mut running = self.running.lock().await;
        if let Some(deliverer) = running.get(&key).filter(|deliverer| !deliverer.is_broken()) {
            return Ok(Arc::clone(deliverer));
        }
        running.retain(|_, deliverer| !deliverer.is_broken());
        while running.len() >= MOST {
            let idle = running
                .iter()
                .filter_map(|(key, deliverer)| Some((deliverer.idle_since()?, *key)))
                .min_by_key(|(since, _)| *since);
            // All are at work: one more does less harm than mail that waits for a slot behind a slow disk.
            let Some((_, key)) = idle else { break };
            running.remove(&key);
        }
        let (near, far) = UnixStream::pair()?;
        let far = far.into_std()?;
        let passed: [BorrowedFd<'_>; 1] = [far.as_fd()];
        self.monitor.send(&Frame::new(0, Request::Start { owner, programs }), &passed, &[]).await?;
        let deliverer = Arc::new(Deliverer::new(near));
        running.insert(key, Arc::clone(&deliverer));
        Ok(deliverer)
    }

    /// Ends deliverers that have had no work for a while. Called now and then.
    pub async fn end_idle(&self) {
        let mut running = self.running.lock().await;
        running.retain(|_, deliverer| {
            !deliverer.is_broken() && deliverer.idle_since().is_none_or(|since| since.elapsed() < IDLE)
        });
    }

    /// Ends all of them, after what they have begun.
    pub async fn end(&self) {
        self.running.lock().await.clear();
    }
}

impl Deliverer {
    fn new(stream: UnixStream) -> Self {
        let (reader, writer) = ipc::split(stream);
        let waiting: Waiting = Arc::new(StdMutex::new(Some(HashMap::new())));
        tokio::spawn(hand_out(reader, Arc::clone(&waiting)));
        Self { writer: Mutex::new(writer), waiting, next: AtomicU64::new(1), used: StdMutex::new(Instant::now()) }
    }

    fn is_broken(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Since when nothing is under way; none while something is.
    fn idle_since(&self) -> Option<Instant> {
        let busy =
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|jobs| !jobs.is_empty());
        (!busy).then(|| *self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn carry_out(&self, job: &Job, content: &Content) -> Result<Said, Lost> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut().ok_or(Lost)?.insert(number, sender);
        let frame = Frame::new(number, job);
        let writer = self.writer.lock().await;
        let sent = match (content, job.content) {
            (Content::Memory(octets), JobContent::Follows(_)) => writer.send(&frame, &[], &[octets]).await,
            (Content::File { file, .. }, _) => writer.send(&frame, &[file.as_fd()], &[]).await,
            (Content::Memory(_), JobContent::Descriptor { .. }) => Err(io::ErrorKind::InvalidInput.into()),
        };
        drop(writer);
        sent.map_err(|_| Lost)?;
        let report = receiver.await.map_err(|_| Lost);
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        report
    }
}

/// Brings each report to its job. At the end the jobs still waiting learn of it, because their senders are dropped.
async fn hand_out(mut reader: Reader, waiting: Waiting) {
    while let Ok(Some(received)) = reader.frame().await {
        let Ok(frame) = received.read::<Said>() else { break };
        let sender =
            waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(|jobs| jobs.remove(&frame.id));
        if let Some(sender) = sender {
            let _ = sender.send(frame.body);
        }
    }
    waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
}
