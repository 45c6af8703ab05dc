//! SMTP, submission and local submission: the only door.
//!
//! One process serves every listener of master.cf and `submit.sock`. Each connection is a task that drives a
//! `mail_smtp::server::Server`; its questions are answered in this process, from tables in memory (`mail-policy`, `mail-route`). Only
//! three things are asked of others: whether a user exists (authd, cached), logins (authd), DNS. Messages go to queue-manager over
//! `queue.sock` with an id that is minted here and makes the hand-over repeatable.
//!
//! It owns sessions, limits per client, the memory that content may take, and the log lines of Postfix's smtpd, cleanup and pickup.
//! It stores nothing itself and delivers nothing: after `250` the message is queue-manager's.

mod clients;
mod content;
mod facts;
mod intake;
mod log;
mod maildrop;
mod ports;
mod queue;
mod relay;
mod sasl;
mod serve;
mod session;
mod settings;
mod submit;
mod transaction;
mod users;

use mail_config::Config;
use mail_daemon::{Daemon, Plan, Supervision, TlsFiles};
use mail_ipc::hello::Role;
use mail_ipc::sockets;

/// What `main` passes to [`mail_daemon::run`].
#[must_use]
pub fn daemon() -> Daemon {
    Daemon {
        name: "smtpd",
        role: Role::Smtpd,
        user: "postrider-smtpd",
        plan,
        tls,
        supervision: Supervision::Monitor,
        serve: |context| Box::pin(serve::serve(context)),
    }
}

fn plan(config: &Config) -> Plan {
    let tcp = config.listeners().iter().flat_map(|listener| listener.addresses.iter().copied()).collect();
    Plan { tcp, unix: vec![sockets::SUBMIT] }
}

/// The certificates, one for each listener that needs one, in the order of the listeners.
fn tls(config: &Config) -> Vec<TlsFiles> {
    config.listeners().iter().filter_map(|listener| settings::tls_files(&listener.main)).collect()
}
