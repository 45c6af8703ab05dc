//! master.cf: services as written, and what they mean to us.

mod listeners;
mod parse;

use std::fmt;

use mail_types::SourceLine;
use serde::{Deserialize, Serialize};

pub use listeners::{Listener, ListenerMode, system_port};
pub(crate) use listeners::{listeners, port_number, service_main};
pub use parse::parse;

use crate::main_cf::Entry;
use crate::report::{Level, Report};

/// The second field of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceType {
    /// A TCP port.
    Inet,
    /// A socket in the queue directory.
    Unix,
    /// The same with datagrams.
    UnixDgram,
    /// A named pipe.
    Fifo,
    /// A socket over which another service passes connections.
    Pass,
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Unix => "unix",
            Self::UnixDgram => "unix-dgram",
            Self::Fifo => "fifo",
            Self::Pass => "pass",
        })
    }
}

/// One line of master.cf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The first field: an address and port, or the name of a transport or socket.
    pub name: String,
    /// The second field.
    pub kind: ServiceType,
    /// The fields private, unpriv, chroot and wakeup as they stand.
    pub flags: [String; 4],
    /// maxproc; nothing for `-`, 0 for no limit.
    pub maxproc: Option<u32>,
    /// The program.
    pub command: String,
    /// Its arguments, without `-o` options.
    pub arguments: Vec<String>,
    /// `-o name=value`, in order.
    pub overrides: Vec<Entry>,
    /// The line.
    pub source: SourceLine,
}

/// What a transport of master.cf does with mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TransportKind {
    /// SMTP to the mail exchangers of a domain or to a host.
    Smtp,
    /// LMTP to a host or socket.
    Lmtp,
    /// Users, aliases and mailboxes of this machine.
    Local,
    /// Mailboxes of `virtual_mailbox_maps`.
    Virtual,
    /// A command.
    Pipe,
    /// Mail is thrown away.
    Discard,
    /// Mail is returned, with the next hop as the reason.
    Error,
    /// Mail waits, with the next hop as the reason.
    Retry,
}

/// A service that delivers mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport<'a> {
    /// What it does.
    pub kind: TransportKind,
    /// Its line.
    pub service: &'a Service,
}

impl Transport<'_> {
    /// The name that transport tables use.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.service.name
    }
}

impl Service {
    /// What this service does with mail, if it is a transport.
    #[must_use]
    pub fn transport(&self) -> Option<TransportKind> {
        if self.kind != ServiceType::Unix {
            return None;
        }
        Some(match self.command.as_str() {
            "smtp" => TransportKind::Smtp,
            "lmtp" => TransportKind::Lmtp,
            "local" => TransportKind::Local,
            "virtual" => TransportKind::Virtual,
            "pipe" => TransportKind::Pipe,
            "discard" => TransportKind::Discard,
            // The error and the retry service are one program, which looks at its own name.
            "error" if self.name == "retry" => TransportKind::Retry,
            "error" => TransportKind::Error,
            _ => return None,
        })
    }
}

/// master.cf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Master {
    /// The lines, a later one with the same name and type in the place of an earlier one.
    pub services: Vec<Service>,
}

impl Master {
    /// The transports, in the order of the file.
    pub fn transports(&self) -> impl Iterator<Item = Transport<'_>> {
        self.services.iter().filter_map(|service| Some(Transport { kind: service.transport()?, service }))
    }

    /// The transport of a name.
    #[must_use]
    pub fn transport(&self, name: &str) -> Option<Transport<'_>> {
        self.transports().find(|transport| transport.name() == name)
    }

    /// A service by name and type.
    #[must_use]
    pub fn service(&self, name: &str, kind: ServiceType) -> Option<&Service> {
        self.services.iter().find(|service| service.kind == kind && service.name == name)
    }
}

/// What a directory without master.cf has: Postfix's own lines that mean something to us.
pub(crate) const DEFAULT: &str = "\
smtp      inet  n - y - - smtpd
smtp      unix  - - y - - smtp
relay     unix  - - y - - smtp
lmtp      unix  - - y - - lmtp
local     unix  - n n - - local
virtual   unix  - n n - - virtual
error     unix  - - y - - error
retry     unix  - - y - - error
discard   unix  - - y - - discard
";

/// Reports what the lines mean to us beyond listeners and transports: nothing, or that we cannot start.
pub(crate) fn report(master: &Master, reports: &mut Vec<Report>) {
    for service in &master.services {
        let source = || service.source.clone();
        match (service.kind, service.command.as_str()) {
            (ServiceType::Inet, "smtpd" | "postscreen") | (ServiceType::Pass, "smtpd") => {}
            (ServiceType::Inet, command) => {
                let message = format!("`{}' of type inet starts `{command}', which is not built", service.name);
                let hint = "remove the line, or start that program by other means".to_owned();
                reports.push(Report::new(Level::Error, source(), message, hint));
            }
            _ if service.transport().is_some() => {}
            (_, command) => {
                let message = format!("service `{}' ({command}) has no counterpart, not needed", service.name);
                reports.push(Report::new(Level::Note, source(), message, ""));
            }
        }
    }
}
