//! Rows of connections that come, log in and go: IMAP, POP3, TLS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use test_support::Builder;
use test_support::clients::{Imap, Pop3, Security};

use super::dovecot::{Dovecot, TUNED};
use super::ours::Ours;
use super::report::{Metric, Unit, metric};
use super::{Round, Row, Server, Side, count};

/// Clients at the same time.
const CLIENTS: usize = 4;

/// A server of mailboxes.
pub trait Mailboxes: Server {
    /// IMAP with TLS from the first byte.
    fn imaps(&self) -> SocketAddr;
    /// POP3 in clear.
    fn pop3(&self) -> SocketAddr;
    /// The Maildir of a user, whose password is `secret`.
    fn maildir(&self, user: &str) -> PathBuf;
}

impl Mailboxes for Ours {
    fn imaps(&self) -> SocketAddr {
        self.system.ports.at(self.system.ports.imaps)
    }

    fn pop3(&self) -> SocketAddr {
        self.system.ports.at(self.system.ports.pop3)
    }

    fn maildir(&self, user: &str) -> PathBuf {
        self.system.maildir(user)
    }
}

impl Mailboxes for Dovecot {
    fn imaps(&self) -> SocketAddr {
        Self::imaps(self)
    }

    fn pop3(&self) -> SocketAddr {
        Self::pop3(self)
    }

    fn maildir(&self, user: &str) -> PathBuf {
        Self::maildir(self, user)
    }
}

/// Starts a server with these users. `tuned` concerns the reference only: ours has nothing to tune.
pub fn start(side: Side, users: &[String], tuned: bool) -> Result<Option<Box<dyn Mailboxes>>, String> {
    match side {
        Side::Ours => {
            let lines = "disable_plaintext_auth = no\nmail_max_userip_connections = 100";
            let builder = Builder::new("ours.example").dovecot(lines);
            let builder = users.iter().fold(builder, |builder, user| builder.user(user, "secret"));
            Ok(Some(Box::new(Ours::start(builder, |system| system.ports.imap)?)))
        }
        Side::Reference => {
            let dovecot = Dovecot::start(users, if tuned { TUNED } else { "" })?;
            Ok(dovecot.map(|dovecot| Box::new(dovecot) as Box<dyn Mailboxes>))
        }
    }
}

pub fn rows() -> Vec<Row> {
    const LOGIN: [Metric; 2] =
        [metric("sessions per second", Unit::PerSecond, 1.0, 1.0), metric("CPU s per 1,000", Unit::Cpu, 1.0, 10.0)];
    const TLS: [Metric; 2] =
        [metric("connections per second", Unit::PerSecond, 1.0, 2.0), metric("CPU s per 1,000", Unit::Cpu, 1.0, 2.0)];
    let row = |name, metrics, round| Row { name, metrics, round };
    vec![
        row("IMAP login and logout, tuned reference", &LOGIN, |scale, side| repeat(side, scale.messages / 5, imap)),
        row("POP3 login and quit, tuned reference", &LOGIN, |scale, side| repeat(side, scale.messages / 5, pop3)),
        row("TLS connection, tuned reference", &TLS, |scale, side| repeat(side, scale.messages / 5, tls)),
    ]
}

/// Runs the same session again and again from several clients, each as a user of its own.
fn repeat(side: Side, sessions: usize, session: fn(&Addresses, &str) -> std::io::Result<()>) -> Round {
    let users: Vec<String> = (0..CLIENTS).map(|n| format!("user{n}")).collect();
    let Some(server) = start(side, &users, true)? else { return Ok(None) };
    let addresses = Addresses { imap: server.address(), imaps: server.imaps(), pop3: server.pop3() };
    for user in &users {
        session(&addresses, user).map_err(|error| format!("{user}: {error}"))?;
    }
    let (before, began) = (server.cpu(), Instant::now());
    std::thread::scope(|scope| {
        let clients: Vec<_> = users
            .iter()
            .map(|user| {
                let addresses = &addresses;
                scope.spawn(move || (0..sessions / CLIENTS).try_for_each(|_| session(addresses, user)))
            })
            .collect();
        clients.into_iter().try_for_each(|client| match client.join() {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("a client panicked".to_owned()),
        })
    })?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(Some(vec![count(sessions) / seconds, (server.cpu() - before) * 1000.0 / count(sessions)]))
}

/// Where the sessions go.
struct Addresses {
    imap: SocketAddr,
    imaps: SocketAddr,
    pop3: SocketAddr,
}

fn imap(at: &Addresses, user: &str) -> std::io::Result<()> {
    let mut imap = Imap::connect(at.imap, Security::Clear)?;
    imap.login(user, "secret")?;
    imap.command("LOGOUT").map(drop)
}

fn pop3(at: &Addresses, user: &str) -> std::io::Result<()> {
    let mut pop3 = Pop3::connect(at.pop3, Security::Clear)?;
    pop3.login(user, "secret")?;
    pop3.command("QUIT").map(drop)
}

fn tls(at: &Addresses, _user: &str) -> std::io::Result<()> {
    Imap::connect(at.imaps, Security::Tls)?.command("LOGOUT").map(drop)
}
