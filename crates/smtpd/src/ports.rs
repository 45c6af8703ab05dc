//! What changes at reload: the configuration, its tables, and each listener's view of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use decision::Ident;
use mail_config::{Config, Listener, ListenerMode, Main};
use mail_daemon::Running;
use mail_net::tls::ServerTls;
use mail_policy::Plan;
use mail_smtp::server::Settings;
use mail_tables::TableSet;
use mail_types::SourceLine;

use crate::certificates::{ask_clients, tls_files};
use crate::settings::{machine_settings, pickup_main};

/// One listener: main.cf as its line of master.cf has it.
pub struct Port {
    /// The name of the service in master.cf.
    pub name: String,
    /// Its line of master.cf.
    pub source: SourceLine,
    /// Its main.cf.
    pub main: Arc<Main>,
    /// Its restrictions.
    pub plan: Plan,
    /// The settings of its sessions.
    pub settings: Arc<Settings>,
    /// Its certificate.
    pub tls: Option<ServerTls>,
    /// TLS from the first octet.
    pub wrapper: bool,
    /// How many sessions it serves at once.
    pub sessions: u64,
    /// How many it serves now.
    pub open: Arc<AtomicU64>,
    /// `postfix/smtpd`, or as `syslog_name` says.
    pub ident: Ident,
    /// `postfix/cleanup`.
    pub cleanup: Ident,
}

/// A generation of the configuration, ready to serve.
pub struct Shared {
    /// The configuration.
    pub config: Arc<Config>,
    /// Its tables.
    pub tables: Arc<TableSet>,
    /// The listeners, by the name of their service.
    pub ports: HashMap<String, Arc<Port>>,
    /// The LMTP service of dovecot.conf.
    pub lmtp: Arc<Port>,
    /// `postfix/pickup`, for local submission.
    pub pickup: Ident,
    /// main.cf as the line of pickup(8) in master.cf has it, for local submission.
    pub pickup_main: Arc<Main>,
    /// `postfix/cleanup`, for local submission.
    pub cleanup: Ident,
}

impl Shared {
    /// Makes a generation ready. Counts of open sessions go on from `before`. What is wrong with tables or keys is told to `warn`.
    #[must_use]
    pub fn new(
        running: &Running,
        mechanisms: &[String],
        before: Option<&Self>,
        warn: &mut dyn FnMut(&Ident, &str),
    ) -> Self {
        let config = &running.config;
        let pickup = Ident::postfix(&config.main.syslog_name, "pickup");
        let (tables, reports) = TableSet::open(config, Box::new(running.tables.clone()));
        reports.iter().for_each(|report| warn(&pickup, &report.line()));
        let mut pems = running.tls.iter();
        let mut ports = HashMap::new();
        for listener in config.listeners() {
            let mut port = port(listener, mechanisms);
            // A listener's own syslog_name is its smtpd's; cleanup(8) is a service of its own.
            port.cleanup = Ident::postfix(&config.main.syslog_name, "cleanup");
            if let Some(pem) = tls_files(&listener.main).and_then(|_| pems.next()) {
                let mut tell = |text: &str| warn(&port.ident, &format!("{}: {text}", listener.service.source));
                let clients = ask_clients(&listener.main, &mut tell);
                match ServerTls::asking(&pem.certificate, &pem.key, clients) {
                    Ok(tls) => port.tls = Some(tls),
                    Err(error) => warn(&port.ident, &format!("{}: {error}", listener.service.source)),
                }
            }
            if let Some(old) = before.and_then(|before| before.ports.get(&port.name)) {
                port.open = Arc::clone(&old.open);
                // A certificate that cannot be used never takes TLS away from a listener that had it.
                port.tls = port.tls.or_else(|| old.tls.clone());
            }
            if port.tls.is_none() {
                port.settings = Arc::new(Settings { tls_ready: false, ..Settings::clone(&port.settings) });
            }
            ports.insert(port.name.clone(), Arc::new(port));
        }
        let cleanup = Ident::postfix(&config.main.syslog_name, "cleanup");
        let mut lmtp = lmtp(config);
        if let Some(before) = before {
            lmtp.open = Arc::clone(&before.lmtp.open);
        }
        Self {
            config: Arc::clone(config),
            tables: Arc::new(tables),
            ports,
            lmtp: Arc::new(lmtp),
            pickup,
            pickup_main: pickup_main(config),
            cleanup,
        }
    }
}

fn port(listener: &Listener, mechanisms: &[String]) -> Port {
    let main = Arc::clone(&listener.main);
    Port {
        name: listener.service.name.clone(),
        source: listener.service.source.clone(),
        plan: Plan::new(Arc::clone(&main)),
        settings: Arc::new(machine_settings(&main, mechanisms)),
        tls: None,
        wrapper: listener.mode == ListenerMode::Tls,
        sessions: listener.sessions,
        open: Arc::default(),
        ident: Ident::postfix(&main.syslog_name, "smtpd"),
        cleanup: Ident::postfix(&main.syslog_name, "cleanup"),
        main,
    }
}

/// LMTP as dovecot.conf describes it: no restrictions and no logins, since only those reach it whom its listeners let in.
fn lmtp(config: &Config) -> Port {
    let main = Arc::clone(&config.main);
    let own_name = config.dovecot.lmtp.hostname.as_str();
    let hostname = if own_name.is_empty() { main.myhostname.value.clone() } else { own_name.to_owned() };
    Port {
        name: "lmtp".to_owned(),
        source: config.dovecot.lmtp.protocols.source.clone(),
        plan: Plan::new(Arc::clone(&main)),
        settings: Arc::new(crate::settings::lmtp_settings(&main, hostname, &config.dovecot.lmtp.login_greeting)),
        tls: None,
        wrapper: false,
        sessions: *main.postrider_session_limit,
        open: Arc::default(),
        ident: Ident::dovecot(),
        cleanup: Ident::dovecot(),
        main,
    }
}

/// A session that is counted until it is dropped.
pub struct Seat(Arc<AtomicU64>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Port {
    /// A seat for a session; none if the listener is full.
    #[must_use]
    pub fn seat(&self) -> Option<Seat> {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(&self.open));
        (open < self.sessions).then_some(seat)
    }
}
