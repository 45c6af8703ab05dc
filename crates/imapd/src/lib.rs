//! IMAP service.
//!
//! The front (network, TLS, login machine) and the monitor come from `mailbox-service`; here are the IMAP session of an owner's process and what the
//! configuration says to it. A session is the machine of `mail-imap` on a stream; each of its questions is one job on `mail-store`, run on a small
//! thread pool, whose output goes back in bounded chunks.
//!
//! Talks to authd and local-delivery only through `mailbox-service`. Not here: the protocol's rules (`mail-imap`), MIME (`mail-message`), files.

mod cache;
mod imap_text;
mod jobs;
mod local_time;
mod names;
mod protocol;
mod session;
mod settings;

pub use protocol::Imap;

/// The daemon, for the one line of `main.rs`.
#[must_use]
pub fn daemon() -> mail_daemon::Daemon {
    mailbox_service::daemon::<Imap>("imapd")
}
