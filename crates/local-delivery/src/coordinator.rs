//! The coordinator: takes leases, starts an attempt for each recipient, and reports until everything is recorded.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use decision::{Delivery, Event, Ident, Record, Stage};
use mail_daemon::{Context, Log, Running};
use mail_ipc::Frame;
use mail_ipc::delivery::{Content as Sent, Fate, FromWorker, Lease, OutcomeKey, ToWorker, TransportKind};
use mail_ipc::mailbox::Announcement;
use mail_ipc::sockets::{DELIVERY, MAILBOX};
use mail_net::ipc::{self, Conversation, Reader, Writer};
use mail_tables::{Disk, TableSet};
use mail_types::UnixTime;
use tokio::sync::{Notify, broadcast, mpsc};

use crate::attempt::{Octets, Tools, Work, original};
use crate::content::Content;
use crate::deliverers::Deliverers;
use crate::outcomes::Books;
use crate::route;
use crate::users::Users;

/// Leases under way at once.
const SLOTS: usize = 400;
/// After so many grants the worker says again how many it takes; when it has nothing to do, at once.
const ANNOUNCE_AFTER: usize = SLOTS / 8;
/// Octets of content in memory beyond which nothing more is taken.
const BUDGET: u64 = 64 * 1024 * 1024;
/// Outcomes of one frame: far below its limit of octets.
const PAGE: usize = 100;
/// Pauses between attempts to reach queue-manager.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long a stop waits for outcomes to be recorded.
const DRAIN: Duration = Duration::from_secs(20);
/// Announcements that wait at most; a lost one is found by inotify.
const ANNOUNCEMENTS: usize = 1024;

/// The idents of the lines for each kind of transport.
struct Idents {
    local: Ident,
    lmtp: Ident,
    virtual_: Ident,
}

struct Coordinator {
    context: Context,
    tools: Tools,
    /// The tables of the configuration in force.
    tables: Mutex<Arc<TableSet>>,
    books: Mutex<Books>,
    /// Something is to be sent: outcomes, free slots.
    changed: Notify,
    /// Leases granted since the worker last said how many it takes.
    granted: AtomicUsize,
    /// Octets of content in memory.
    octets: Arc<AtomicU64>,
    /// The worker takes nothing because too many are.
    full: AtomicBool,
    /// Logins to announce when the outcome is recorded.
    logins: Mutex<HashMap<OutcomeKey, String>>,
    announce: mpsc::Sender<String>,
}

/// Serves until stopped.
pub async fn serve(mut context: Context) {
    let ident = idents(&context.now()).local;
    let Some((reader, writer)) = context.monitor.take() else {
        context.log.warning(&ident, "started without a monitor");
        return;
    };
    let deliverers = match Deliverers::new(reader, writer, context.log.clone(), ident.clone()).await {
        Ok(deliverers) => deliverers,
        Err(error) => return context.log.warning(&ident, &format!("monitor: {error}")),
    };
    let tools = Tools {
        users: Users::new(context.state().to_owned(), context.hello()),
        deliverers,
        log: context.log.clone(),
        zone: jiff::tz::TimeZone::system(),
    };
    let tables = open_tables(&context.now(), &context.log);
    let (announce, announcements) = mpsc::channel(ANNOUNCEMENTS);
    let coordinator = Arc::new(Coordinator {
        context,
        tools,
        tables: Mutex::new(tables),
        books: Mutex::default(),
        changed: Notify::new(),
        granted: AtomicUsize::new(0),
        octets: Arc::default(),
        full: AtomicBool::new(false),
        logins: Mutex::default(),
        announce,
    });
    tokio::spawn(Arc::clone(&coordinator).announce(announcements));
    tokio::spawn(Arc::clone(&coordinator).follow_tables());
    coordinator.context.ready();
    coordinator.follow_queue().await;
    coordinator.tools.deliverers.end().await;
}

fn idents(running: &Running) -> Idents {
    let name = running.config.main.syslog_name.as_str();
    Idents {
        local: Ident::postfix(name, "local"),
        lmtp: Ident::postfix(name, "lmtp"),
        virtual_: Ident::postfix(name, "virtual"),
    }
}

/// Loads the tables of a configuration and says what is wrong with them.
fn open_tables(running: &Running, log: &Log) -> Arc<TableSet> {
    let (tables, reports) = TableSet::open(&running.config, Box::new(Disk));
    report(&reports, running, log);
    Arc::new(tables)
}

fn report(reports: &[mail_config::Report], running: &Running, log: &Log) {
    let ident = idents(running).local;
    reports.iter().for_each(|report| log.warning(&ident, &report.message));
}

fn now() -> UnixTime {
    UnixTime::from_system(SystemTime::now())
}

impl Coordinator {
    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tables(&self) -> Arc<TableSet> {
        Arc::clone(&self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes changed tables: at once when postmap or newaliases says so, else when they have rested; all of them at reload.
    async fn follow_tables(self: Arc<Self>) {
        let mut running = self.context.running.clone();
        let mut announced = self.context.tables.subscribe();
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        loop {
            let reports = tokio::select! {
                changed = running.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let tables = open_tables(&self.context.now(), &self.tools.log);
                    self.tools.users.forget();
                    *self.tables.lock().unwrap_or_else(PoisonError::into_inner) = tables;
                    Vec::new()
                }
                path = announced.recv() => match path {
                    Ok(path) => self.tables().reload(path.to_str()),
                    // Too many to count: all of them.
                    Err(broadcast::error::RecvError::Lagged(_)) => self.tables().reload(None),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                _ = seconds.tick() => self.tables().check(SystemTime::now()),
            };
            report(&reports, &self.context.now(), &self.tools.log);
        }
    }

    /// Stays connected to queue-manager until stopped and clear.
    async fn follow_queue(self: &Arc<Self>) {
        let mut stop = self.context.stop.clone();
        let mut pause = PAUSE.0;
        let drained = async {
            stop.requested().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::pin!(drained);
        loop {
            let hello = self.context.hello();
            let connection = ipc::connect(self.context.state(), DELIVERY, &hello);
            tokio::select! {
                connected = connection => if let Ok(conversation) = connected {
                    pause = PAUSE.0;
                    tokio::select! {
                        done = self.converse(conversation) => if done { return },
                        () = &mut drained => return,
                    }
                    self.books().forget_sent();
                },
                () = &mut drained => return,
            }
            if self.context.stop.is_requested() && self.books().is_clear() {
                return;
            }
            self.tools.deliverers.end_idle().await;
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE.1),
                () = &mut drained => return,
            }
        }
    }

    /// One connection; true when the daemon stops and owes nothing any more.
    async fn converse(self: &Arc<Self>, conversation: Conversation) -> bool {
        let Conversation { mut reader, writer, .. } = conversation;
        let alive = Arc::new(());
        let receiving = self.receive(&mut reader, &alive);
        let sending = self.send(&writer);
        tokio::select! {
            error = receiving => {
                if let Err(error) = error {
                    let ident = idents(&self.context.now()).local;
                    self.tools.log.warning(&ident, &format!("queue-manager: {error}"));
                }
                false
            }
            done = sending => done.unwrap_or(false),
        }
    }

    /// Sends what is due; ends with true when the daemon stops and owes nothing any more.
    async fn send(&self, writer: &Writer) -> io::Result<bool> {
        let mut stop = self.context.stop.clone();
        let held = self.books().held();
        writer.send(&Frame::new(0, FromWorker::Resume { leases: held, outcomes: Vec::new() }), &[], &[]).await?;
        writer.send(&Frame::new(0, self.offer()), &[], &[]).await?;
        let mut closed = stop.is_requested();
        loop {
            loop {
                let outcomes = self.books().unsent(Instant::now(), PAGE);
                if outcomes.is_empty() {
                    break;
                }
                writer.send(&Frame::new(0, FromWorker::Outcomes { outcomes }), &[], &[]).await?;
            }
            let granted = self.granted.load(Ordering::Relaxed);
            let idle = granted > 0 && self.books().leases() == 0;
            let room = self.octets.load(Ordering::Relaxed) < BUDGET / 2;
            let crowded = self.octets.load(Ordering::Relaxed) > BUDGET && !self.full.load(Ordering::Relaxed);
            let again = crowded || (room && self.full.load(Ordering::Relaxed));
            if granted >= ANNOUNCE_AFTER || idle || again || closed != stop.is_requested() {
                closed = stop.is_requested();
                writer.send(&Frame::new(0, self.offer()), &[], &[]).await?;
            }
            if stop.is_requested() && self.books().is_clear() {
                return Ok(true);
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = stop.requested(), if !closed => {}
                () = tokio::time::sleep(Duration::from_secs(5)) => self.tools.deliverers.end_idle().await,
            }
        }
    }

    /// How many leases the worker takes now.
    fn offer(&self) -> FromWorker {
        self.granted.store(0, Ordering::Relaxed);
        let full = self.octets.load(Ordering::Relaxed) > BUDGET;
        self.full.store(full, Ordering::Relaxed);
        let closed = full || self.context.stop.is_requested();
        let free = if closed { 0 } else { SLOTS.saturating_sub(self.books().leases()) };
        FromWorker::Ready {
            kinds: vec![TransportKind::Local, TransportKind::Virtual, TransportKind::Mailbox],
            slots: u32::try_from(free).unwrap_or(u32::MAX),
            open: Vec::new(),
        }
    }

    async fn receive(self: &Arc<Self>, reader: &mut Reader, alive: &Arc<()>) -> io::Result<()> {
        while let Some(received) = reader.frame().await? {
            let message = received.read::<ToWorker>().map_err(io::Error::other)?.body;
            match message {
                ToWorker::Grants { leases } => self.granted(leases, received.descriptors, reader, alive).await?,
                ToWorker::Recorded { outcomes } => outcomes.into_iter().for_each(|key| self.recorded(key)),
                ToWorker::NotUnderstood => return Err(io::Error::other("speaks another version")),
            }
        }
        Ok(())
    }

    async fn granted(
        self: &Arc<Self>,
        leases: Vec<Lease>,
        descriptors: Vec<OwnedFd>,
        reader: &mut Reader,
        alive: &Arc<()>,
    ) -> io::Result<()> {
        let running = self.context.now();
        let mut descriptors = descriptors.into_iter();
        for lease in leases {
            let content = match lease.content {
                Sent::Follows(length) => {
                    let length = usize::try_from(length).map_err(io::Error::other)?;
                    Content::Memory(reader.content(length).await?)
                }
                Sent::Descriptor { length } => {
                    let descriptor =
                        descriptors.next().ok_or_else(|| io::Error::other("a lease came without its descriptor"))?;
                    Content::File { file: descriptor.into(), length }
                }
            };
            self.books().grant(&lease);
            self.granted.fetch_add(1, Ordering::Relaxed);
            self.changed.notify_one();
            let work = Work {
                scan: content.scan(),
                _counted: Octets::of(&content, &self.octets),
                content,
                lease,
                config: mail_config::Config::clone(&running.config),
                tables: self.tables().snapshot(),
                ident: idents(&running).local,
                granted: now(),
            };
            tokio::spawn(Arc::clone(self).carry_out(Arc::new(work), Arc::downgrade(alive)));
        }
        Ok(())
    }

    /// Attempts all recipients of a lease side by side.
    async fn carry_out(self: Arc<Self>, work: Arc<Work>, connection: std::sync::Weak<()>) {
        for at in 0..work.lease.recipients.len() {
            let (coordinator, work, connection) = (Arc::clone(&self), Arc::clone(&work), connection.clone());
            tokio::spawn(async move { coordinator.one(&work, at, &connection).await });
        }
    }

    async fn one(&self, work: &Work, at: usize, connection: &std::sync::Weak<()>) {
        let recipient = &work.lease.recipients[at];
        let key = OutcomeKey { id: work.lease.id, recipient: recipient.number, attempt: work.lease.attempt };
        if connection.strong_count() == 0 {
            // queue-manager is gone and grants again what has not begun; to begin now could deliver twice.
            self.books().abandon(key);
            return;
        }
        let end = self.tools.attempt(work, recipient).await;
        if let Some(login) = end.login.clone() {
            self.logins.lock().unwrap_or_else(PoisonError::into_inner).insert(key, login);
        }
        let relay = self.relay(&work.lease);
        if !matches!(end.fate, Fate::Expanded { .. }) {
            self.log(work, at, &relay, &end);
        }
        self.books().settle(end.outcome(&work.lease, recipient.number, relay));
        self.changed.notify_one();
    }

    fn relay(&self, lease: &Lease) -> String {
        match lease.destination.kind {
            TransportKind::Mailbox => route::lmtp_relay(&lease.destination.nexthop, &self.context.now().config.main),
            TransportKind::Virtual => "virtual".to_owned(),
            _ => "local".to_owned(),
        }
    }

    fn log(&self, work: &Work, at: usize, relay: &str, end: &crate::attempt::End) {
        let (lease, recipient) = (&work.lease, &work.lease.recipients[at]);
        let idents = idents(&self.context.now());
        let ident = match lease.destination.kind {
            TransportKind::Mailbox => &idents.lmtp,
            TransportKind::Virtual => &idents.virtual_,
            _ => &idents.local,
        };
        let (to, original) = (recipient.address.to_string(), original(recipient));
        let done = now();
        let status = match end.fate {
            Fate::Delivered | Fate::Relayed { .. } | Fate::Expanded { .. } | Fate::Redirected { .. } => "sent",
            Fate::Deferred { .. } => "deferred",
            Fate::Bounced => "bounced",
        };
        let delivery = Delivery {
            orig_to: (original != to).then_some(&original),
            to: &to,
            relay,
            delay: done.since(lease.arrival),
            delays: [
                lease.active.since(lease.arrival),
                work.granted.since(lease.active),
                Duration::ZERO,
                done.since(work.granted),
            ],
            dsn: end.status,
            status,
            text: &end.text,
        };
        self.tools.log.record(&Record::new(ident, Stage::Delivery, Event::Delivery(delivery)).about(lease.id));
    }

    fn recorded(&self, key: OutcomeKey) {
        let login = self.logins.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        if self.books().recorded(key).is_some()
            && let Some(login) = login
        {
            // A full channel means that nobody listens; imapd finds the mail by itself.
            let _ = self.announce.try_send(login);
        }
        self.changed.notify_one();
    }

    /// Tells imapd about new mail as long as there is an imapd.
    async fn announce(self: Arc<Self>, mut logins: mpsc::Receiver<String>) {
        let mut line: Option<Conversation> = None;
        while let Some(user) = logins.recv().await {
            if line.is_none() {
                line = ipc::connect(self.context.state(), MAILBOX, &self.context.hello()).await.ok();
            }
            let Some(conversation) = &line else { continue };
            let message = Announcement::Delivered { user, mailbox: "INBOX".to_owned() };
            if conversation.writer.send(&Frame::new(0, message), &[], &[]).await.is_err() {
                line = None;
            }
        }
    }
}
