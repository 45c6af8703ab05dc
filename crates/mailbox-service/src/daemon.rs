//! The service as a daemon of `mail-daemon`: what to open, and who does what.

use mail_config::dovecot::kinds::Ssl;
use mail_config::dovecot::{LoginListener, filters};
use mail_config::{Config, Dovecot};
use mail_daemon::{Daemon, Plan, Supervision, TlsFiles};
use mail_ipc::sockets::MAILBOX;

use crate::front;
use crate::monitor::Monitor;
use crate::service::Protocol;

/// The user of the fronts.
const USER: &str = "postrider-login";

/// A daemon that serves a protocol on mailboxes.
#[must_use]
pub fn daemon<P: Protocol>(name: &'static str) -> Daemon {
    Daemon {
        name,
        role: P::FRONT,
        user: USER,
        plan: plan::<P>,
        tls: tls::<P>,
        supervision: Supervision::Service(|| Box::new(Monitor::<P>::default())),
        serve: |context| Box::pin(front::serve::<P>(context)),
    }
}

fn listeners<P: Protocol>(config: &Config) -> impl Iterator<Item = &LoginListener> {
    config.dovecot.logins.iter().filter(|listener| listener.protocol == P::SERVED)
}

fn plan<P: Protocol>(config: &Config) -> Plan {
    let tcp = listeners::<P>(config).flat_map(|listener| listener.addresses.iter().copied()).collect();
    Plan { tcp, unix: if P::ANNOUNCEMENTS { vec![MAILBOX] } else { Vec::new() }, ..Plan::default() }
}

/// For each address of the plan, whether TLS begins with the first octet.
pub(crate) fn implicit_tls<P: Protocol>(config: &Config) -> Vec<bool> {
    listeners::<P>(config).flat_map(|listener| listener.addresses.iter().map(|_| listener.tls)).collect()
}

/// The certificates of everything that dovecot.conf distinguishes: all connections, single addresses, single names; each once.
pub(crate) fn tls<P: Protocol>(config: &Config) -> Vec<TlsFiles> {
    let mut found = Vec::new();
    for connection in filters::examples(&config.dovecot.raw().nodes, P::NAME) {
        let files = tls_files::<P>(&config.dovecot.seen(&connection));
        found.extend(files.filter(|files| !found.contains(files)));
    }
    found
}

/// The certificate that a connection is shown which sees dovecot.conf so; none without TLS.
pub(crate) fn tls_files<P: Protocol>(seen: &Dovecot) -> Option<TlsFiles> {
    let settings = seen.protocol(P::SERVED);
    let files = || TlsFiles { certificate: settings.ssl_cert.value.clone(), key: settings.ssl_key.value.clone() };
    (*settings.ssl != Ssl::No).then(files)
}
