//! POP3 on mailboxes: the protocol's part of the service that `mailbox-service` runs.
//!
//! Before the login `mail-pop3`'s login machine runs in the front; after it, its mailbox machine runs in the owner's session process, on the inbox
//! that `mail-store` opens. Owned here: how UIDLs are made, what of the inbox a session sees, and how its end is logged.
//! Several sessions of one owner may run at once, as in Dovecot, unless `pop3_lock_session` says otherwise.
//! Not here: sockets, users, processes (`mailbox-service`), replies (`mail-pop3`), files (`mail-store`).

mod inbox;
mod protocol;
pub mod session;
pub mod settings;
pub mod uidl;

pub use protocol::Pop3;

/// The daemon, for the one line of `main.rs`.
#[must_use]
pub fn daemon() -> mail_daemon::Daemon {
    mailbox_service::daemon::<Pop3>("pop3d")
}
