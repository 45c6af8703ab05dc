//! The coordinator: takes leases, starts an attempt for each recipient, and reports until everything is recorded.

mod deposits;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use decision::{Delivery, Event, Ident, Record, Stage};
use mail_config::Config;
use mail_daemon::worker::{self, Carrier, Content, Reports};
use mail_daemon::{Context, Log, Running};
use mail_ipc::Frame;
use mail_ipc::delivery::{Destination, Fate, Lease, Outcome, OutcomeKey, TransportKind};
use mail_ipc::mailbox::Announcement;
use mail_ipc::sockets::MAILBOX;
use mail_net::ipc::{self, Conversation};
use mail_tables::TableSet;
use mail_types::UnixTime;
use tokio::sync::{broadcast, mpsc};

use crate::attempt::{Octets, Tools, Work, original};
use crate::content::scan;
use crate::deliverers::Deliverers;
use crate::route;
use crate::users::Users;

/// Leases under way at once.
const SLOTS: usize = 400;
/// Octets of content in memory beyond which nothing more is taken.
const BUDGET: u64 = 64 * 1024 * 1024;
/// How often deliverers are looked after that have no work, or do not answer.
const TIDY: Duration = Duration::from_secs(1);
/// How long a stop waits for what is being stored for LMTP.
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
    /// Octets of content in memory.
    octets: Arc<AtomicU64>,
    /// The configuration as each transport sees it, and of which generation.
    transports: Mutex<(u64, HashMap<String, Config>)>,
    /// The worker takes nothing because too many are.
    full: AtomicBool,
    /// Logins to announce when the outcome is recorded.
    logins: Mutex<HashMap<OutcomeKey, String>>,
    announce: mpsc::Sender<String>,
}

/// The coordinator as a worker of queue-manager.
struct Worker(Arc<Coordinator>);

impl Carrier for Worker {
    fn kinds(&self) -> Vec<TransportKind> {
        vec![TransportKind::Local, TransportKind::Virtual, TransportKind::Mailbox]
    }

    /// None while too much content is in memory, until half of it is gone.
    fn slots(&self) -> usize {
        let octets = self.0.octets.load(Ordering::Relaxed);
        let full = octets > BUDGET || (octets > BUDGET / 2 && self.0.full.load(Ordering::Relaxed));
        self.0.full.store(full, Ordering::Relaxed);
        if full { 0 } else { SLOTS }
    }

    fn open(&self) -> Vec<Destination> {
        Vec::new()
    }

    fn carry(&self, lease: Lease, content: Content, reports: Reports) {
        let running = self.0.context.now();
        let config = self.0.config_of(&running, &lease.destination.transport);
        let work = Work {
            scan: scan(&content),
            _counted: Octets::of(&content, &self.0.octets, Some(reports.clone())),
            content,
            lease,
            tables: self.0.tables().snapshot(),
            ident: idents(&config).local,
            config,
            granted: now(),
        };
        let work = Arc::new(work);
        for at in 0..work.lease.recipients.len() {
            let (coordinator, work, reports) = (Arc::clone(&self.0), Arc::clone(&work), reports.clone());
            tokio::spawn(async move { coordinator.one(&work, at, &reports).await });
        }
    }

    fn recorded(&self, outcome: Outcome) {
        let login = self.0.logins.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(&outcome));
        if let Some(login) = login {
            // A full channel means that nobody listens; imapd finds the mail by itself.
            let _ = self.0.announce.try_send(login);
        }
    }
}

fn key(outcome: &Outcome) -> OutcomeKey {
    OutcomeKey { id: outcome.id, recipient: outcome.recipient, attempt: outcome.attempt }
}

/// Serves until stopped.
pub async fn serve(mut context: Context) {
    let ident = idents(&context.now().config).local;
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
    let deposits: Vec<_> = context.unix.drain(..).collect();
    let coordinator = Arc::new(Coordinator {
        context,
        tools,
        tables: Mutex::new(tables),
        octets: Arc::default(),
        transports: Mutex::default(),
        full: AtomicBool::new(false),
        logins: Mutex::default(),
        announce,
    });
    tokio::spawn(Arc::clone(&coordinator).announce(announcements));
    tokio::spawn(Arc::clone(&coordinator).follow_tables());
    let (busy, mut idle) = mpsc::channel(1);
    for listener in deposits {
        tokio::spawn(deposits::accept(Arc::clone(&coordinator), listener, busy.clone()));
    }
    drop(busy);
    tokio::spawn(tidy(Arc::downgrade(&coordinator)));
    coordinator.context.ready();
    worker::work(&coordinator.context, &ident, Arc::new(Worker(Arc::clone(&coordinator)))).await;
    // Nobody sends: this ends with the last conversation.
    let _ = tokio::time::timeout(DRAIN, idle.recv()).await;
    coordinator.tools.deliverers.end().await;
}

fn idents(config: &Config) -> Idents {
    let name = config.main.syslog_name.as_str();
    Idents {
        local: Ident::postfix(name, "local"),
        lmtp: Ident::postfix(name, "lmtp"),
        virtual_: Ident::postfix(name, "virtual"),
    }
}

/// Loads the tables of a configuration and says what is wrong with them.
fn open_tables(running: &Running, log: &Log) -> Arc<TableSet> {
    let (tables, reports) = TableSet::open(&running.config, Box::new(running.tables.clone()));
    report(&reports, running, log);
    Arc::new(tables)
}

fn report(reports: &[mail_config::Report], running: &Running, log: &Log) {
    let ident = idents(&running.config).local;
    reports.iter().for_each(|report| log.warning(&ident, &report.line()));
}

/// Looks after the deliverers, again and again.
async fn tidy(coordinator: Weak<Coordinator>) {
    let mut times = tokio::time::interval(TIDY);
    loop {
        times.tick().await;
        let Some(coordinator) = coordinator.upgrade() else { return };
        coordinator.tools.deliverers.tidy().await;
    }
}

fn now() -> UnixTime {
    UnixTime::from_system(SystemTime::now())
}

impl Coordinator {
    /// The configuration as a transport sees it, with the `-o` of its line in master.cf.
    fn config_of(&self, running: &Running, transport: &str) -> Config {
        let mut known = self.transports.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != running.generation {
            *known = (running.generation, HashMap::new());
        }
        let made = || running.config.as_transport(transport);
        known.1.entry(transport.to_owned()).or_insert_with(made).clone()
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

    /// Attempts one recipient of a lease.
    async fn one(&self, work: &Work, at: usize, reports: &Reports) {
        let recipient = &work.lease.recipients[at];
        let key = OutcomeKey { id: work.lease.id, recipient: recipient.number, attempt: work.lease.attempt };
        if !reports.may_begin() {
            // queue-manager is gone and grants again what has not begun; to begin now could deliver twice.
            reports.abandon(key);
            return;
        }
        let end = self.tools.attempt(work, recipient).await;
        mail_posix::points::reached("mailbox-reported");
        if let Some(login) = end.login.clone().filter(|_| !work.lease.purpose.is_verification()) {
            self.logins.lock().unwrap_or_else(PoisonError::into_inner).insert(key, login);
        }
        let relay = self.relay(&work.lease);
        if !matches!(end.fate, Fate::Expanded { .. } | Fate::Redirected { .. }) {
            self.log(work, at, &relay, &end);
        }
        reports.report(end.outcome(&work.lease, recipient.number, relay));
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
        let idents = idents(&work.config);
        let ident = match lease.destination.kind {
            TransportKind::Mailbox => &idents.lmtp,
            TransportKind::Virtual => &idents.virtual_,
            _ => &idents.local,
        };
        let (to, original) = (recipient.address.to_string(), original(recipient));
        let done = now();
        let status = match end.fate {
            Fate::Deferred { .. } | Fate::Bounced if lease.purpose.is_verification() => "undeliverable",
            _ if lease.purpose.is_verification() => "deliverable",
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
        let record = Record::new(ident, Stage::Delivery, Event::Delivery(delivery)).about(lease.id);
        let rule = recipient.rule.as_ref().map(|rule| (rule.name.as_str(), &rule.source));
        self.tools.log.record(&record.by_any(rule));
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
