//! The front: configuration in force, listeners, stop.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use accounts::plan::{Note, Plan};
use decision::{Event, Ident, Level, Record, Stage};
use mail_config::dovecot::Connection;
use mail_config::{Config, Views};
use mail_daemon::{Context, Log};
use mail_ipc::hello::Hello;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::conversation::Guests;
use crate::helper::Helper;
use crate::questions::{Answer, Question};
use crate::remembered::Remembered;
use crate::sources::FrontSources;
use crate::tables::Tables;
use crate::throttle::Throttle;
use crate::tokens::Tokens;
use crate::{login, lookup};

/// Logins and lookups evaluated at once; each holds a thread while it waits for PAM or a processor.
const EVALUATIONS: usize = 256;
/// Logins under way in all, those included that wait out a delay. Beyond it the answer is "not now".
pub(crate) const LOGINS_MOST: usize = 8192;
/// The most helpers, whatever the configuration says; the monitor refuses more.
const HELPERS_MOST: usize = crate::helpers::HELPERS_MAX;
/// Who asks for users and tables.
const LOOKUP_GUESTS: [&str; 4] = ["postrider", "postrider-smtpd", "postrider-local", "postrider-remote"];
/// How long logins under way may take after a stop.
const DRAIN: Duration = Duration::from_secs(5);

/// What the configuration in force means for logins.
pub(crate) struct Rules {
    pub(crate) plan: Plan,
    /// Offered mechanisms, all of which are built.
    pub(crate) mechanisms: Vec<String>,
    /// Whether refusals are logged with their reason.
    pub(crate) verbose: bool,
    /// How long the answer to a failed login takes.
    pub(crate) failure_delay: Duration,
    /// Whether passwords in clear are refused on connections that others could read.
    need_security: bool,
    /// `login_trusted_networks`: webmail and proxies, whose users must not wait for each other's mistakes.
    trusted: Vec<String>,
}

impl Rules {
    /// Whether a password may not be sent on a connection that others could read.
    pub(crate) fn needs_security(&self, service: &str) -> bool {
        // smtpd has a setting of its own.
        self.need_security && service != "smtp"
    }

    /// Whether failures from this address slow nobody else down.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| accounts::networks::allows(network, peer))
    }
}

/// Everything that conversations share.
pub(crate) struct Front {
    pub(crate) hello: Hello,
    pub(crate) log: Log,
    pub(crate) ident: Ident,
    pub(crate) sources: FrontSources,
    pub(crate) tables: Tables,
    rules: RwLock<Arc<Views<Rules>>>,
    remembered: RwLock<Option<Arc<Remembered>>>,
    pub(crate) throttle: Mutex<Throttle>,
    pub(crate) tokens: Mutex<Tokens>,
    pub(crate) evaluations: Arc<Semaphore>,
    pub(crate) logins: Arc<Semaphore>,
    /// Whether the monitor is root, so that sessions run as their users.
    pub(crate) privileged: bool,
}

impl Front {
    /// The rules in force for a connection, or for a lookup on behalf of a protocol.
    pub(crate) fn rules(&self, connection: &Connection) -> Arc<Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).of(connection)
    }

    /// The memory of logins, where the configuration asks for one and the databases are worth it.
    pub(crate) fn remembered(&self, rules: &Rules) -> Option<Arc<Remembered>> {
        let memory = self.remembered.read().unwrap_or_else(PoisonError::into_inner).clone();
        memory.filter(|_| rules.plan.asks_the_system())
    }

    /// Writes a line in Dovecot's form.
    pub(crate) fn say(&self, stage: Stage, session: Option<&str>, text: &str) {
        self.say_at(Level::Info, stage, session, text);
    }

    /// Writes a line of this level.
    pub(crate) fn say_at(&self, level: Level, stage: Stage, session: Option<&str>, text: &str) {
        self.log.record(&Record { level, session, ..Record::new(&self.ident, stage, Event::Text(text)) });
    }

    /// Writes what an evaluation noted: errors always, refusals with `auth_verbose`.
    pub(crate) fn note(&self, notes: &[Note], verbose: bool, session: Option<&str>) {
        for note in notes.iter().filter(|note| note.error || verbose) {
            let level = if note.error { Level::Error } else { Level::Info };
            self.say_at(level, Stage::Login, session, &format!("auth: {}", note.text));
        }
    }
}

/// Serves until the daemon stops.
pub(crate) async fn serve(mut context: Context) {
    let helper = context.monitor.take().map(Helper::start);
    let privileged = match &helper {
        Some(helper) => matches!(helper.ask(Question::Rights).await, Ok((Answer::Rights { root: true }, _))),
        None => false,
    };
    let (log, ident) = (context.log.clone(), Ident::dovecot());
    let tell = Box::new(move |text: &str| {
        log.record(&Record::new(&Ident::dovecot(), Stage::Daemon, Event::Error(&format!("auth: {text}"))));
    });
    let front = Arc::new(Front {
        hello: context.hello(),
        log: context.log.clone(),
        ident,
        sources: FrontSources::new(helper, helpers(&context.now().config), tell),
        tables: Tables::new(&context.now().config, Arc::new(context.now().tables.clone())),
        rules: RwLock::new(views(&context.now().config, &context.log, privileged)),
        remembered: RwLock::new(Remembered::of(&context.now().config).map(Arc::new)),
        throttle: Mutex::default(),
        tokens: Mutex::default(),
        evaluations: Arc::new(Semaphore::new(EVALUATIONS)),
        logins: Arc::new(Semaphore::new(LOGINS_MOST)),
        privileged,
    });
    let mut listeners = std::mem::take(&mut context.unix).into_iter();
    let (Some(auth), Some(lookups)) = (listeners.next(), listeners.next()) else { return };
    let auth_guests = Arc::new(Guests::of(&["postrider-smtpd", "postrider-login"], privileged));
    let lookup_guests = Arc::new(Guests::of(&LOOKUP_GUESTS, privileged));
    context.ready();
    tokio::select! {
        () = context.stop.requested() => {}
        () = follow(&front, context.running.clone()) => {}
        () = accept(&auth, |stream| tokio::spawn(login::serve(Arc::clone(&front), Arc::clone(&auth_guests), stream))) => {}
        () = accept(&lookups, |stream| tokio::spawn(lookup::serve(Arc::clone(&front), Arc::clone(&lookup_guests), stream))) => {}
    }
    drop((auth, lookups));
    // Logins under way get their answers; a client that waits out a delay asks the next authd.
    let all = u32::try_from(LOGINS_MOST).expect("8192 fits");
    let _ = tokio::time::timeout(DRAIN, front.logins.acquire_many(all)).await;
}

/// How many helpers may work for us at once (`auth_worker_max_count`).
fn helpers(config: &Config) -> usize {
    usize::try_from(*config.dovecot.settings.auth_worker_max_count).unwrap_or(HELPERS_MOST).clamp(1, HELPERS_MOST)
}

async fn accept(listener: &UnixListener, mut start: impl FnMut(UnixStream) -> tokio::task::JoinHandle<()>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(start(stream)),
            // No descriptor left: clients wait until others end.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Takes over each new configuration.
async fn follow(front: &Front, mut running: tokio::sync::watch::Receiver<Arc<mail_daemon::Running>>) {
    while running.changed().await.is_ok() {
        let (config, files) = {
            let now = running.borrow_and_update();
            (Arc::clone(&now.config), now.tables.clone())
        };
        let rules = views(&config, &front.log, front.privileged);
        front.sources.forget_files();
        front.tables.take(&config, Arc::new(files));
        *front.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        let memory = Remembered::of(&config).map(Arc::new);
        *front.remembered.write().unwrap_or_else(PoisonError::into_inner) = memory;
    }
    std::future::pending().await
}

/// What the configuration means to each connection; what of it cannot be carried out goes to the log, once.
fn views(config: &Arc<Config>, log: &Log, privileged: bool) -> Arc<Views<Rules>> {
    let mut said = Vec::new();
    for protocol in config.dovecot.protocols_with_settings() {
        let (plan, problems) = accounts::dovecot::plan(&config.dovecot.seen(&Connection::of(&protocol)));
        let mut problems: Vec<String> =
            problems.into_iter().map(|problem| format!("{}: {}", problem.source, problem.text)).collect();
        if !privileged && (plan.uses_pam() || plan.uses_shadow()) {
            problems.push("passdb pam and shadow need root: logins of system users fail with a temporary error".into());
        }
        for problem in problems {
            if !said.contains(&problem) {
                log.warning(&Ident::dovecot(), &format!("auth: {problem}"));
                said.push(problem);
            }
        }
    }
    for name in config.dovecot.settings.auth_mechanisms.iter().filter(|name| !is_built(name)) {
        let text = format!("auth: auth_mechanisms: {} is not built and is not offered", name.to_ascii_uppercase());
        log.warning(&Ident::dovecot(), &text);
    }
    Arc::new(Views::new(Arc::clone(config), |config, _| rules(config)))
}

fn is_built(mechanism: &str) -> bool {
    accounts::sasl::MECHANISMS.contains(&mechanism.to_ascii_uppercase().as_str())
}

/// What the configuration means, as some connections see it.
fn rules(config: &Config) -> Rules {
    let settings = &config.dovecot.settings;
    let built = settings.auth_mechanisms.iter().filter(|name| is_built(name));
    Rules {
        plan: accounts::dovecot::plan(&config.dovecot).0,
        mechanisms: built.map(|name| name.to_ascii_uppercase()).collect(),
        verbose: *settings.auth_verbose,
        failure_delay: *settings.auth_failure_delay,
        need_security: *settings.disable_plaintext_auth,
        trusted: settings.login_trusted_networks.to_vec(),
    }
}

/// A front for tests: rules and sources without a daemon around them.
#[cfg(test)]
pub(crate) fn for_tests(text: &str) -> (tempfile::TempDir, Arc<Front>) {
    use mail_ipc::hello::Role;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dovecot.conf");
    std::fs::write(&file, text.replace("DIR", &directory.path().display().to_string())).unwrap();
    let config = Config::load(directory.path(), Some(&file)).unwrap().config;
    let log = Log::nowhere();
    let front = Front {
        hello: Hello::new(Role::Authd, "authd"),
        tables: Tables::new(&config, Arc::new(mail_tables::Disk)),
        remembered: RwLock::new(Remembered::of(&config).map(Arc::new)),
        rules: RwLock::new(views(&Arc::new(config), &log, false)),
        log,
        ident: Ident::dovecot(),
        sources: FrontSources::new(None, 1, Box::new(|_| {})),
        throttle: Mutex::default(),
        tokens: Mutex::default(),
        evaluations: Arc::new(Semaphore::new(EVALUATIONS)),
        logins: Arc::new(Semaphore::new(LOGINS_MOST)),
        privileged: false,
    };
    (directory, Arc::new(front))
}
