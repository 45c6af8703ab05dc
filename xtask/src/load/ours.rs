//! Our own server, from the release binaries.

use std::net::SocketAddr;

use test_support::{Builder, System};

use super::smtp::{Mta, Removed};
use super::{Server, cpu};

/// A running Postrider. It ends when it is dropped.
pub struct Ours {
    pub system: System,
    /// The port that the row loads.
    port: u16,
    removed: Removed,
    /// Whether the load is mail only.
    mail: bool,
}

/// The daemons that do what the reference's Postfix does, and those that do what its Dovecot does: no row runs both references.
const MAIL: [&str; 5] = ["postrider", "smtpd", "queue-manager", "local-delivery", "remote-delivery"];
const MAILBOXES: [&str; 4] = ["postrider", "authd", "imapd", "pop3d"];

impl Ours {
    /// Starts it with these lines in main.cf; the load goes to its SMTP port.
    pub fn smtp(lines: &str, workers: Option<&str>) -> Result<Self, String> {
        let mut builder = Builder::new("ours.example").main_cf(lines).main_cf("virtual_mailbox_base = {root}/home");
        if let Some(workers) = workers {
            builder = builder.workers(workers);
        }
        let ours = Self::start(builder, |system| system.ports.smtp)?;
        Ok(Self { mail: true, ..ours })
    }

    /// Starts what the builder describes; the load goes to this port.
    pub fn start(builder: Builder, port: fn(&System) -> u16) -> Result<Self, String> {
        let system = builder.profile("release").start()?;
        let removed = Removed::in_log(system.root().join("log/queue-manager.log"));
        let port = port(&system);
        Ok(Self { system, port, removed, mail: false })
    }
}

impl Server for Ours {
    fn address(&self) -> SocketAddr {
        self.system.ports.at(self.port)
    }

    fn cpu(&self) -> f64 {
        self.system.pid().map_or(0.0, cpu::of_tree)
    }

    fn memory(&self) -> f64 {
        let daemons = if self.mail { &MAIL[..] } else { &MAILBOXES[..] };
        daemons.iter().flat_map(|daemon| self.system.pids_of(daemon)).filter_map(cpu::memory_of).sum()
    }
}

impl Mta for Ours {
    fn removed(&mut self) -> usize {
        self.removed.count()
    }

    fn tool(&self, name: &str, arguments: &[&str]) -> Result<(), String> {
        self.system.run(&[&[name], arguments].concat(), "").map(drop)
    }
}
