//! SMTP, submission, LMTP and local submission: the only door.
//!
//! One process serves every listener of master.cf and `submit.sock`. Each connection is a task that drives a
//! `mail_smtp::server::Server`; its questions are answered in this process, from tables in memory (`mail-policy`, `mail-route`). Only
//! four things are asked of others: whether a user exists (authd, cached), logins (authd), DNS, policy services. Messages go to queue-manager over
//! `queue.sock` with an id that is minted here and makes the hand-over repeatable; what comes by LMTP is never queued, local-delivery stores it
//! before it is answered (`deposit.sock`).
//!
//! It owns sessions, limits per client, the memory that content may take, and the log lines of Postfix's smtpd, cleanup and pickup.
//! It stores nothing itself and delivers nothing: after `250` the message is queue-manager's.

mod certificates;
mod clients;
mod content;
mod intake;
mod lmtp;
mod log;
mod maildrop;
mod policy_services;
mod ports;
mod queue;
mod relay;
mod sasl;
mod serve;
mod session;
mod submit;
mod transaction;
mod users;
mod verify;

use admission::{facts, settings};
use mail_config::Config;
use mail_config::dovecot::LmtpSocket;
use mail_daemon::{Daemon, Plan, SocketFile, Supervision, TlsFiles};
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

/// The ports of master.cf, then those for LMTP of dovecot.conf. A socket that no line of dovecot.conf names is Dovecot's own and left alone.
fn plan(config: &Config) -> Plan {
    let mut tcp: Vec<_> = config.listeners().iter().flat_map(|listener| listener.addresses.iter().copied()).collect();
    let mut files = Vec::new();
    for socket in &config.dovecot.lmtp_sockets {
        match socket {
            LmtpSocket::Inet { addresses, .. } => tcp.extend(addresses),
            LmtpSocket::Unix { source, .. } if source.is_built_in() => {}
            LmtpSocket::Unix { path, mode, user, group, .. } => {
                files.push(SocketFile { path: path.clone(), mode: *mode, user: user.clone(), group: group.clone() });
            }
        }
    }
    Plan { tcp, unix: vec![sockets::SUBMIT], files }
}

/// The certificates, one for each listener that needs one, in the order of the listeners.
fn tls(config: &Config) -> Vec<TlsFiles> {
    config.listeners().iter().filter_map(|listener| certificates::tls_files(&listener.main)).collect()
}
