//! Where each conversation takes place, relative to the state directory.

/// A socket of the system: its path below the state directory and the mode of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// The directory below the state directory: `public` (anyone may connect) or `private` (our group).
    pub directory: &'static str,
    /// The file's name.
    pub name: &'static str,
    /// The mode of the socket file.
    pub mode: u32,
}

/// Local submission, from `sendmail` to smtpd; the peer's uid is recorded.
pub const SUBMIT: Socket = Socket { directory: "public", name: "submit.sock", mode: 0o666 };
/// Operators' requests to queue-manager; the peer's uid decides what it may ask.
pub const CONTROL: Socket = Socket { directory: "public", name: "control.sock", mode: 0o666 };
/// Intake, from smtpd to queue-manager.
pub const QUEUE: Socket = Socket { directory: "private", name: "queue.sock", mode: 0o660 };
/// Leases, between queue-manager and the delivery workers.
pub const DELIVERY: Socket = Socket { directory: "private", name: "delivery.sock", mode: 0o660 };
/// What came by LMTP, from smtpd to local-delivery.
pub const DEPOSIT: Socket = Socket { directory: "private", name: "deposit.sock", mode: 0o660 };
/// Logins, from smtpd, pop3d and imapd to authd.
pub const AUTH: Socket = Socket { directory: "private", name: "auth.sock", mode: 0o660 };
/// Lookups of users and of tables that must be waited for, from smtpd, queue-manager and the workers to authd.
pub const LOOKUP: Socket = Socket { directory: "private", name: "lookup.sock", mode: 0o660 };
/// Deliveries announced to imapd by local-delivery.
pub const MAILBOX: Socket = Socket { directory: "private", name: "mailbox.sock", mode: 0o660 };

/// The directory below the state directory that holds one control socket per daemon instance, named `INSTANCE.sock`:
/// status, reload and table changes ([`crate::control::DaemonRequest`]).
pub const DAEMONS: &str = "private/daemons";
