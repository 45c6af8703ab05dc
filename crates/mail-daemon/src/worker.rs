//! A delivery worker's side of `delivery.sock`: leases in, outcomes out until they are recorded, across restarts of queue-manager.
//!
//! [`work`] keeps the conversation; a [`Carrier`] carries leases out and reports through [`Reports`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use decision::Ident;
use mail_ipc::Frame;
use mail_ipc::delivery::{
    Content as Sent, Destination, FromWorker, Held, Lease, Outcome, OutcomeKey, ToWorker, TransportKind,
};
use mail_ipc::sockets::DELIVERY;
use mail_net::ipc::{self, Conversation, Reader, Writer};
use mail_types::QueueId;
use tokio::sync::Notify;

use crate::Context;

/// An outcome that is not recorded after so long is reported again.
const REPEAT: Duration = Duration::from_secs(20);
/// Outcomes of one frame: far below its limit of octets.
const PAGE: usize = 100;
/// Pauses between attempts to reach queue-manager.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long a stop waits for outcomes to be recorded.
const DRAIN: Duration = Duration::from_secs(20);

/// Who carries leases out.
pub trait Carrier: Send + Sync + 'static {
    /// The kinds of transport it knows.
    fn kinds(&self) -> Vec<TransportKind>;
    /// The most leases at once; 0 while nothing more can be taken.
    fn slots(&self) -> usize;
    /// Destinations to which connections are open now.
    fn open(&self) -> Vec<Destination>;
    /// Carries a lease out, in tasks of its own. Every recipient is reported or abandoned. Before a commit point is begun, [`Reports::may_begin`] is asked.
    fn carry(&self, lease: Lease, content: Content, reports: Reports);
    /// An outcome is on disk.
    fn recorded(&self, outcome: Outcome);
}

/// The content of a lease.
#[derive(Debug)]
pub enum Content {
    /// In memory.
    Memory(Vec<u8>),
    /// In a file, read by position.
    File {
        /// The file, read-only.
        file: File,
        /// Its octets.
        length: u64,
    },
}

impl Content {
    /// Octets in all.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Memory(octets) => octets.len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    /// Up to `most` octets from a position; none at the end.
    ///
    /// # Errors
    /// The file cannot be read, or is shorter than it was said to be.
    pub fn read(&self, at: u64, most: usize) -> io::Result<Vec<u8>> {
        let count = usize::try_from(self.length().saturating_sub(at)).unwrap_or(most).min(most);
        match self {
            Self::Memory(octets) => {
                let at = usize::try_from(at).unwrap_or(usize::MAX).min(octets.len());
                Ok(octets[at..at + count].to_vec())
            }
            Self::File { file, .. } => {
                let mut octets = vec![0; count];
                file.read_exact_at(&mut octets, at)?;
                Ok(octets)
            }
        }
    }
}

/// Where a carrier reports. Clones belong to the same conversation.
#[derive(Debug, Clone)]
pub struct Reports {
    shared: Arc<Shared>,
    connection: Weak<()>,
}

impl Reports {
    /// Whether queue-manager still knows of the lease. Once the socket broke, nothing new is begun: it grants again what is not listed as held.
    #[must_use]
    pub fn may_begin(&self) -> bool {
        self.connection.strong_count() > 0
    }

    /// A recipient's outcome is known; it is repeated until it is recorded.
    pub fn report(&self, outcome: Outcome) {
        self.shared.books().settle(outcome);
        self.shared.changed.notify_one();
    }

    /// A recipient is given up without an outcome.
    pub fn abandon(&self, key: OutcomeKey) {
        self.shared.books().close(key);
        self.shared.changed.notify_one();
    }

    /// What [`Carrier::open`] says has changed.
    pub fn open_changed(&self) {
        self.shared.changed.notify_one();
    }

    /// What [`Carrier::slots`] says may have changed.
    pub fn room_changed(&self) {
        self.shared.changed.notify_one();
    }
}

#[derive(Debug, Default)]
struct Shared {
    books: Mutex<Books>,
    /// Something is to be sent: outcomes, free slots, destinations.
    changed: Notify,
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the worker can take.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Offer {
    most: usize,
    /// Leases under way.
    held: usize,
    /// Leases granted in all.
    granted: u64,
    open: Vec<Destination>,
}

impl Offer {
    /// Whether queue-manager has to be told. It counts grants and their ends itself, so room is said again only now and then: after some
    /// grants, and when nothing is under way any more.
    fn is_news_after(&self, before: &Self) -> bool {
        let grants = self.granted - before.granted;
        self.open != before.open
            || self.most != before.most
            || (grants > 0 && (self.held == 0 || grants >= self.most as u64 / 8))
    }

    fn to_message(&self, kinds: Vec<TransportKind>) -> FromWorker {
        let slots = u32::try_from(self.most.saturating_sub(self.held)).unwrap_or(u32::MAX);
        FromWorker::Ready { kinds, slots, open: self.open.clone() }
    }
}

/// What the worker still owes: leases under way, and outcomes that are not recorded yet.
#[derive(Debug, Default)]
struct Books {
    held: BTreeMap<(QueueId, u32), BTreeSet<u32>>,
    outcomes: BTreeMap<OutcomeKey, (Outcome, Option<Instant>)>,
    /// Leases granted in all.
    granted: u64,
}

impl Books {
    fn grant(&mut self, lease: &Lease) {
        self.granted += 1;
        let open = self.held.entry((lease.id, lease.attempt)).or_default();
        open.extend(lease.recipients.iter().map(|recipient| recipient.number));
    }

    fn settle(&mut self, outcome: Outcome) {
        let key = OutcomeKey { id: outcome.id, recipient: outcome.recipient, attempt: outcome.attempt };
        self.close(key);
        self.outcomes.insert(key, (outcome, None));
    }

    fn close(&mut self, key: OutcomeKey) {
        if let Some(open) = self.held.get_mut(&(key.id, key.attempt)) {
            open.remove(&key.recipient);
            if open.is_empty() {
                self.held.remove(&(key.id, key.attempt));
            }
        }
    }

    fn is_clear(&self) -> bool {
        self.held.is_empty() && self.outcomes.is_empty()
    }

    /// At most `most` outcomes that have to be sent now; they count as sent.
    fn unsent(&mut self, now: Instant, most: usize) -> Vec<Outcome> {
        let due = |sent: &Option<Instant>| sent.is_none_or(|sent| now.duration_since(sent) >= REPEAT);
        let due = self.outcomes.values_mut().filter(|(_, sent)| due(sent)).take(most);
        due.map(|(outcome, sent)| {
            *sent = Some(now);
            outcome.clone()
        })
        .collect()
    }

    fn forget_sent(&mut self) {
        self.outcomes.values_mut().for_each(|(_, sent)| *sent = None);
    }

    fn held(&self) -> Vec<Held> {
        let held = self.held.iter();
        held.map(|(&(id, attempt), open)| Held { id, attempt, recipients: open.iter().copied().collect() }).collect()
    }
}

/// Keeps the conversation with queue-manager until the daemon stops and owes nothing any more.
pub async fn work<C: Carrier>(context: &Context, ident: &Ident, carrier: Arc<C>) {
    let worker = Worker { context, ident, carrier, shared: Arc::default() };
    worker.follow_queue().await;
}

struct Worker<'a, C> {
    context: &'a Context,
    ident: &'a Ident,
    carrier: Arc<C>,
    shared: Arc<Shared>,
}

impl<C: Carrier> Worker<'_, C> {
    async fn follow_queue(&self) {
        let mut stop = self.context.stop.clone();
        let drained = async {
            stop.requested().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            () = self.reconnect() => {}
            () = drained => {}
        }
    }

    async fn reconnect(&self) {
        let mut pause = PAUSE.0;
        loop {
            if let Ok(conversation) = ipc::connect(self.context.state(), DELIVERY, &self.context.hello()).await {
                pause = PAUSE.0;
                if self.converse(conversation).await {
                    return;
                }
                self.shared.books().forget_sent();
            }
            if self.context.stop.is_requested() && self.shared.books().is_clear() {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// One connection; true when the daemon stops and owes nothing any more.
    async fn converse(&self, conversation: Conversation) -> bool {
        let Conversation { mut reader, writer, .. } = conversation;
        let alive = Arc::new(());
        tokio::select! {
            received = self.receive(&mut reader, &alive) => {
                if let Err(error) = received {
                    self.context.log.warning(self.ident, &format!("queue-manager: {error}"));
                }
                false
            }
            done = self.send(&writer) => done.unwrap_or(false),
        }
    }

    async fn send(&self, writer: &Writer) -> io::Result<bool> {
        let mut stop = self.context.stop.clone();
        let resume = FromWorker::Resume { leases: self.shared.books().held(), outcomes: Vec::new() };
        writer.send(&Frame::new(0, resume), &[], &[]).await?;
        let mut announced: Option<Offer> = None;
        loop {
            loop {
                let outcomes = self.shared.books().unsent(Instant::now(), PAGE);
                if outcomes.is_empty() {
                    break;
                }
                writer.send(&Frame::new(0, FromWorker::Outcomes { outcomes }), &[], &[]).await?;
            }
            let stopping = stop.is_requested();
            let offer = self.offer(stopping);
            if announced.as_ref().is_none_or(|before| offer.is_news_after(before)) {
                writer.send(&Frame::new(0, offer.to_message(self.carrier.kinds())), &[], &[]).await?;
                announced = Some(offer);
            }
            if stopping && self.shared.books().is_clear() {
                return Ok(true);
            }
            tokio::select! {
                () = self.shared.changed.notified() => {}
                () = stop.requested(), if !stopping => {}
                () = tokio::time::sleep(REPEAT / 4) => {}
            }
        }
    }

    fn offer(&self, stopping: bool) -> Offer {
        let most = if stopping { 0 } else { self.carrier.slots() };
        let books = self.shared.books();
        Offer { most, held: books.held.len(), granted: books.granted, open: self.carrier.open() }
    }

    async fn receive(&self, reader: &mut Reader, alive: &Arc<()>) -> io::Result<()> {
        while let Some(received) = reader.frame().await? {
            match received.read::<ToWorker>().map_err(io::Error::other)?.body {
                ToWorker::Grants { leases } => self.granted(leases, received.descriptors, reader, alive).await?,
                ToWorker::Recorded { outcomes } => outcomes.into_iter().for_each(|key| self.recorded(key)),
                ToWorker::NotUnderstood => return Err(io::Error::other("speaks another version")),
            }
        }
        Ok(())
    }

    fn recorded(&self, key: OutcomeKey) {
        let known = self.shared.books().outcomes.remove(&key);
        if let Some((outcome, _)) = known {
            self.carrier.recorded(outcome);
        }
        self.shared.changed.notify_one();
    }

    async fn granted(
        &self,
        leases: Vec<Lease>,
        descriptors: Vec<OwnedFd>,
        reader: &mut Reader,
        alive: &Arc<()>,
    ) -> io::Result<()> {
        let mut descriptors = descriptors.into_iter();
        for lease in leases {
            let content = match lease.content {
                Sent::Follows(length) => {
                    let length = usize::try_from(length).map_err(io::Error::other)?;
                    Content::Memory(reader.content(length).await?)
                }
                Sent::Descriptor { length } => {
                    let descriptor = descriptors.next();
                    let descriptor =
                        descriptor.ok_or_else(|| io::Error::other("a lease came without its descriptor"))?;
                    Content::File { file: descriptor.into(), length }
                }
            };
            self.shared.books().grant(&lease);
            self.shared.changed.notify_one();
            let reports = Reports { shared: Arc::clone(&self.shared), connection: Arc::downgrade(alive) };
            self.carrier.carry(lease, content, reports);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_ipc::delivery::Fate;
    use mail_types::EnhancedStatus;

    fn outcome(recipient: u32) -> Outcome {
        Outcome {
            lease: 1,
            id: QueueId::new(1_700_000_000, 1, 1).expect("in range"),
            attempt: 1,
            recipient,
            fate: Fate::Delivered,
            status: EnhancedStatus::of(2, 0, 0),
            text: String::new(),
            relay: "local".into(),
            diagnostic: None,
            remote: None,
        }
    }

    #[test]
    fn an_outcome_is_repeated_until_it_is_recorded() {
        let mut books = Books::default();
        let start = Instant::now();
        books.settle(outcome(1));
        books.settle(outcome(2));
        assert_eq!(books.unsent(start, 10).len(), 2);
        assert_eq!(books.unsent(start, 10).len(), 0);
        assert_eq!(books.unsent(start + REPEAT, 1).len(), 1);
        books.forget_sent();
        assert_eq!(books.unsent(start, 10).len(), 2);
        assert!(!books.is_clear());
    }

    #[test]
    fn room_is_said_again_when_it_matters() {
        let first = Offer { most: 400, held: 0, granted: 10, open: Vec::new() };
        let busy = Offer { held: 20, granted: 30, ..first.clone() };
        assert!(!busy.is_news_after(&first), "queue-manager counts by itself");
        assert!(!Offer { held: 0, ..first.clone() }.is_news_after(&first));
        assert!(Offer { held: 60, granted: 60, ..first.clone() }.is_news_after(&first));
        assert!(Offer { held: 0, ..busy.clone() }.is_news_after(&first));
        assert!(Offer { most: 0, ..first.clone() }.is_news_after(&first));
        let full = Offer { most: 0, held: 3, ..first };
        let FromWorker::Ready { slots, .. } = full.to_message(Vec::new()) else { unreachable!() };
        assert_eq!(slots, 0);
    }

    #[test]
    fn content_is_read_in_pieces_to_its_end() {
        use std::io::Write as _;
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"0123456789").expect("written");
        for content in [Content::Memory(b"0123456789".to_vec()), Content::File { file, length: 10 }] {
            assert_eq!(content.read(0, 4).expect("read"), b"0123");
            assert_eq!(content.read(8, 4).expect("read"), b"89");
            assert_eq!(content.read(10, 4).expect("read"), b"");
        }
    }
}
