//! The one thread that knows the queue's present: schedule, leases, outcomes, operators. It commits through the store and never waits for it.

mod active;
mod addresses;
mod leases;
mod operators;
mod outcomes;
mod reports;
mod verification;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime};

use decision::{Event as Line, Record, Stage};
use mail_daemon::Log;
use mail_ipc::control;
use mail_ipc::delivery::{Content, FromWorker, Lease, OutcomeKey, Rule, TransportKind};
use mail_types::{Address, Envelope, Purpose, QueueId, Sender as Reverse, UnixTime};
use queue_store::{Class, Due, Hop, Recovery, Store};
use tokio::sync::{mpsc, oneshot};

use crate::destination::Target;
use crate::schedule::{Grant, Scheduler, Source};
use crate::settings::Settings;
use active::{AHEAD, Active, TIDY};

/// How long mail of before a restart waits for the workers of before the restart.
const RESUME_WAIT: Duration = Duration::from_secs(30);
/// How long a commit that failed waits for its repetition.
const AGAIN: Duration = Duration::from_secs(1);
/// Events taken before grants are made.
const EVENTS: usize = 512;

/// Finds the route of a recipient. Pure, quick, and never wrong for ever: what cannot be found now is a [`Target::Retry`].
pub trait Router: Send + Sync {
    /// Where a recipient goes.
    fn route(&self, sender: &Reverse, address: &Address) -> Target;

    /// Where a probe of address verification goes.
    fn probe_route(&self, sender: &Reverse, address: &Address) -> Target {
        self.route(sender, address)
    }

    /// What of the configuration says so; none if nothing does.
    fn rule(&self, _sender: &Reverse, _address: &Address) -> Option<Rule> {
        None
    }
}

/// The name of a connection.
pub type Connection = u64;

/// What a worker is sent.
#[derive(Debug)]
pub enum ToWorker {
    /// Leases with their contents in the same order.
    Grants(Vec<(Lease, Piece)>),
    /// Outcomes that are on disk.
    Recorded(Vec<OutcomeKey>),
    /// It said something of a later version.
    NotUnderstood,
}

/// The content of a lease.
#[derive(Debug, Clone)]
pub enum Piece {
    /// Octets that follow the frame.
    Octets(Arc<Vec<u8>>),
    /// A descriptor.
    File(Arc<std::fs::File>, u64),
}

impl Piece {
    /// How the lease states it.
    #[must_use]
    pub fn content(&self) -> Content {
        match self {
            Self::Octets(octets) => Content::Follows(octets.len() as u64),
            Self::File(_, length) => Content::Descriptor { length: *length },
        }
    }
}

/// What the core is told.
pub enum Event {
    /// A message is on disk.
    Accepted(NewMessage),
    /// A worker said hello.
    Worker {
        /// Its connection.
        connection: Connection,
        /// Its instance.
        instance: String,
        /// Where it is answered.
        sender: mpsc::UnboundedSender<ToWorker>,
    },
    /// A worker spoke.
    FromWorker(Connection, FromWorker),
    /// A worker's connection ended.
    WorkerGone(Connection),
    /// An operator asks. The descriptor belongs to the answer.
    Control {
        /// What.
        request: control::Request,
        /// Whether it is root or the mail owner.
        privileged: bool,
        /// Where the answer goes.
        answer: oneshot::Sender<(control::Response, Option<std::fs::File>)>,
    },
    /// A new generation is in force.
    Reload(Box<Settings>, Arc<dyn Router>),
    /// The store answered what the core committed.
    Committed(outcomes::Committed),
    /// The store answered a report.
    Reported(reports::Reported),
    /// An operator's change is on disk.
    Changed(operators::Changed),
    /// A long flush goes on behind this message.
    FlushFrom(operators::Flush),
    /// Somebody asks whether mail for an address would be delivered; `recipient` is where it goes.
    Verify {
        /// The address.
        address: Address,
        /// Where its mail goes.
        recipient: Address,
        /// Where the answer goes.
        answer: addresses::Asker,
    },
    /// The store answered a probe.
    Probed(addresses::Probed),
    /// The store granted serial numbers.
    Serials(u32, u32),
    /// A table of another process has answered a question about a route.
    Answered,
    /// Ends: nothing new is granted, what is under way is recorded.
    Stop,
}

/// A message that was just accepted.
pub struct NewMessage {
    /// Its id.
    pub id: QueueId,
    /// Its envelope.
    pub envelope: Arc<Envelope>,
    /// Where its recipients are scheduled.
    pub hops: Vec<Hop>,
    /// When.
    pub at: UnixTime,
    /// It rests.
    pub hold: bool,
}

/// A connected worker.
struct Worker {
    instance: String,
    sender: mpsc::UnboundedSender<ToWorker>,
    kinds: Vec<TransportKind>,
    /// Further leases it takes, and the most it ever said.
    slots: u32,
    most: u32,
    open: HashSet<String>,
    /// Leases under way of each transport.
    carrying: HashMap<String, u32>,
    resumed: bool,
}

/// A lease that is under way.
struct Leased {
    grant: Grant,
    instance: String,
    connection: Connection,
    attempt: u32,
    open: Vec<u32>,
    all_dead: bool,
}

/// The store as the scheduler asks it.
struct Index<'a>(&'a Store);

impl Source for Index<'_> {
    fn schedule(&self, hop: &Hop, class: Class, after: Option<Due>, limit: usize) -> Vec<Due> {
        // A failing index is noticed by the loop, which ends the process; until then nothing is due.
        self.0.schedule(hop, class, after, limit).unwrap_or_default()
    }

    fn recipient(&self, due: &Due) -> Option<String> {
        let state = self.0.recipient(due.id, due.recipient).ok().flatten()?;
        Some(state.recipient.address.to_string().to_ascii_lowercase())
    }
}

/// The core of queue-manager.
pub struct Core {
    store: Arc<Store>,
    settings: Settings,
    router: Arc<dyn Router>,
    /// Counts configurations; routes found with an older one are found again before a grant.
    routing: u64,
    scheduler: Scheduler,
    log: Log,
    now: fn() -> UnixTime,
    events: Receiver<Event>,
    to_self: Sender<Event>,
    workers: HashMap<Connection, Worker>,
    leases: HashMap<u64, Leased>,
    leased: HashMap<(QueueId, u32), u64>,
    next_lease: u64,
    messages: HashMap<QueueId, Active>,
    /// When messages that nobody asks for were last put out of memory.
    tidied: UnixTime,
    /// Attempts that never got an outcome: the next one says so.
    lost: HashMap<(QueueId, u32), u32>,
    recording: HashSet<(QueueId, u32)>,
    /// Who waits until the end of an expired message is recorded.
    expiring: HashMap<QueueId, Arc<operators::Waiting>>,
    again: Vec<(UnixTime, outcomes::Again)>,
    /// What waits for the answer of a table before its route is known.
    unrouted: Vec<Grant>,
    orphans: HashMap<String, UnixTime>,
    awaited: HashSet<String>,
    /// Messages that only ask, as far as this run has seen them, and when their destinations were last looked at.
    asking: HashSet<QueueId>,
    looked: UnixTime,
    probes: addresses::Probes,
    started: UnixTime,
    /// When the index was last looked through for destinations.
    scanned: UnixTime,
    serials: std::ops::Range<u32>,
    serials_asked: bool,
    cached: usize,
    stopping: Option<UnixTime>,
}

/// The present time of the system's clock.
#[must_use]
pub fn system_time() -> UnixTime {
    UnixTime::from_system(SystemTime::now())
}

impl Core {
    /// A core over a store that was just opened.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        recovery: &Recovery,
        settings: Settings,
        router: Arc<dyn Router>,
        log: Log,
    ) -> (Self, Sender<Event>) {
        let (to_self, events) = channel();
        let now = system_time;
        let scheduler = Scheduler::new(settings.limits.clone());
        let core = Self {
            store,
            settings,
            router,
            routing: 1,
            scheduler,
            log,
            now,
            events,
            to_self: to_self.clone(),
            workers: HashMap::new(),
            leases: HashMap::new(),
            leased: HashMap::new(),
            next_lease: 1,
            messages: HashMap::new(),
            tidied: now(),
            lost: HashMap::new(),
            recording: HashSet::new(),
            expiring: HashMap::new(),
            again: Vec::new(),
            unrouted: Vec::new(),
            orphans: HashMap::new(),
            awaited: recovery.workers.iter().cloned().collect(),
            asking: HashSet::new(),
            looked: now(),
            probes: addresses::Probes::new(now()),
            started: now(),
            scanned: now(),
            serials: 0..0,
            serials_asked: false,
            cached: 0,
            stopping: None,
        };
        (core, to_self)
    }

    /// Keeps what is known of addresses in a state directory, from the first question about one on.
    pub fn remember_addresses_in(&mut self, state: PathBuf) {
        self.probes.state = Some(state);
    }

    /// Where the recipient of a message goes.
    fn route(&self, purpose: Purpose, sender: &Reverse, address: &Address) -> Target {
        match purpose {
            Purpose::Probe => self.router.probe_route(sender, address),
            _ => self.router.route(sender, address),
        }
    }

    /// Runs until [`Event::Stop`] and what is under way is recorded. Returns false if the index failed, so that the store must be opened anew.
    pub fn run(mut self) -> bool {
        self.begin();
        loop {
            if self.store.index_failed() {
                self.error("the queue index failed; it is rebuilt at the next start");
                return false;
            }
            if let Some(trouble) = self.store.trouble() {
                self.warn(&format!("a queue segment could not be cleaned: {trouble}"));
            }
            match self.events.recv_timeout(self.patience()) {
                Ok(event) => {
                    self.take(event);
                    for _ in 0..EVENTS {
                        let Ok(event) = self.events.try_recv() else { break };
                        self.take(event);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
            }
            self.tick();
            if self.is_drained() {
                return true;
            }
        }
    }

    fn begin(&mut self) {
        let now = (self.now)();
        if !self.awaited.is_empty() {
            self.scheduler.hold_before = Some(self.started);
        }
        self.want_serials();
        self.find_scheduled(now);
        self.find_due_reports();
    }

    /// Tells the scheduler of every destination in the index. Every `queue_run_delay` anew, so that nothing waits for ever
    /// whatever was missed.
    fn find_scheduled(&mut self, now: UnixTime) {
        self.scanned = now;
        for hop in self.scheduler.hops() {
            self.scheduler.look_again(&hop, now);
        }
        let mut hop = self.store.next_hop(None).ok().flatten();
        while let Some(name) = hop {
            for class in [Class::Incoming, Class::Deferred] {
                if let Ok(Some(first)) = self.store.schedule(&name, class, None, 1).map(|page| page.first().copied()) {
                    self.scheduler.due(&name, class, first.time, now);
                }
            }
            hop = self.store.next_hop(Some(&name)).ok().flatten();
        }
    }

    /// How long nothing happens unless an event comes.
    fn patience(&self) -> Duration {
        let now = (self.now)();
        let mut next = now.after(Duration::from_secs(5));
        let times =
            [self.scheduler.wake(), self.again.iter().map(|(at, _)| *at).min(), self.orphans.values().min().copied()];
        for time in times.into_iter().flatten() {
            next = next.min(time);
        }
        if self.scheduler.hold_before.is_some() {
            next = next.min(self.started.after(RESUME_WAIT));
        }
        if !self.asking.is_empty() {
            next = next.min(self.looked.after(verification::PERIOD));
        }
        if !self.messages.is_empty() {
            next = next.min(self.tidied.after(TIDY));
        }
        if self.stopping.is_some() {
            next = next.min(now.after(Duration::from_millis(50)));
        }
        next.since(now).max(Duration::from_millis(1))
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Accepted(message) => self.accepted(message),
            Event::Worker { connection, instance, sender } => self.worker_came(connection, instance, sender),
            Event::FromWorker(connection, message) => self.worker_said(connection, message),
            Event::WorkerGone(connection) => self.worker_gone(connection),
            Event::Control { request, privileged, answer } => self.control(request, privileged, answer),
            Event::Reload(settings, router) => self.reload(*settings, router),
            Event::Committed(committed) => self.committed(committed),
            Event::Reported(reported) => self.reported(reported),
            Event::Changed(changed) => self.changed(changed),
            Event::FlushFrom(flush) => self.flush_page(flush),
            Event::Verify { address, recipient, answer } => self.ask_about(&address, recipient, answer),
            Event::Probed(probed) => self.probed(probed),
            Event::Serials(first, count) => {
                self.serials_asked = false;
                if count == 0 {
                    self.again.push(((self.now)().after(AGAIN), outcomes::Again::Serials));
                } else {
                    self.serials = first..first.saturating_add(count);
                    self.find_due_reports();
                    self.probe_what_waited();
                }
            }
            Event::Answered => self.answered(),
            Event::Stop => self.stopping = Some((self.now)()),
        }
    }

    fn tick(&mut self) {
        let now = (self.now)();
        if self.scheduler.hold_before.is_some() && (self.awaited.is_empty() || now.since(self.started) >= RESUME_WAIT) {
            self.scheduler.hold_before = None;
            self.find_scheduled(now);
        }
        if now.since(self.scanned) >= self.settings.run_delay {
            self.find_scheduled(now);
        }
        self.return_orphans(now);
        self.clean_addresses(now);
        self.forget_unasked(now);
        for (at, work) in std::mem::take(&mut self.again) {
            if at <= now {
                self.once_more(work);
            } else {
                self.again.push((at, work));
            }
        }
        if self.stopping.is_none() {
            self.answer_what_asks_about_the_dead(now);
            self.carry_out_here();
            self.grant();
        }
    }

    fn is_drained(&self) -> bool {
        let Some(since) = self.stopping else { return false };
        let waited = (self.now)().since(since);
        // Leases that are not done stay with their workers, which report to the next queue-manager.
        let under_way = !self.recording.is_empty() || !self.again.is_empty();
        !under_way || waited >= Duration::from_secs(5)
    }

    fn accepted(&mut self, message: NewMessage) {
        let now = (self.now)();
        if message.envelope.purpose.is_verification() {
            self.asking.insert(message.id);
        }
        if message.hold {
            return;
        }
        for hop in &message.hops {
            self.scheduler.due(hop, Class::Incoming, message.at, now);
        }
        if message.hops.len() < message.envelope.recipients.len() {
            self.scheduler.due(&Hop::default(), Class::Incoming, message.at, now);
        }
        if self.messages.len() < self.settings.limits.active.min(AHEAD) {
            self.activate(message.id, message.envelope, self.routing);
        }
    }

    fn reload(&mut self, settings: Settings, router: Arc<dyn Router>) {
        self.scheduler.set_limits(settings.limits.clone());
        self.settings = settings;
        self.router = router;
        self.routing += 1;
        self.answered();
        let now = (self.now)();
        // What could not be routed, or was to wait, may have a route now.
        for hop in self.scheduler.hops() {
            self.scheduler.look_again(&hop, now);
        }
    }

    fn want_serials(&mut self) {
        if self.serials.len() < 100 && !self.serials_asked {
            self.serials_asked = true;
            let events = self.to_self.clone();
            self.store.submit(vec![queue_store::Op::Grant(1000)], move |answers| {
                let granted = answers.ok().and_then(|answers| answers.first().copied());
                let (first, count) = match granted {
                    Some(queue_store::Answer::Granted { first, count }) => (first, count),
                    _ => (0, 0),
                };
                let _ = events.send(Event::Serials(first, count));
            });
        }
    }

    /// A new queue id; none until serial numbers are granted.
    fn mint(&mut self) -> Option<QueueId> {
        let serial = self.serials.next();
        self.want_serials();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        QueueId::new(since.as_secs(), since.subsec_micros(), serial?).ok()
    }

    /// What chose the route of an address, where records are kept.
    fn rule(&self, sender: &Reverse, address: &Address) -> Option<Rule> {
        self.settings.records.then(|| self.router.rule(sender, address)).flatten()
    }

    fn warn(&self, text: &str) {
        self.log.warning(&self.settings.idents.qmgr, text);
    }

    fn error(&self, text: &str) {
        self.log.record(&Record::new(&self.settings.idents.qmgr, Stage::Queue, Line::Error(text)));
    }
}
