//! The service on mailboxes that imapd and pop3d share: front, hand-over, session processes.
//!
//! - `front`: network, TLS and the login machine, without rights; it asks authd and learns a token, never who may read which mail.
//! - `monitor`: single-threaded; redeems the token at authd, forks a session process per mailbox owner, passes connections to it. Its memory
//!   is [`registry`].
//! - `session`: the owner's process: confined to the owner's mail, serving all of the owner's connections, ending when idle.
//!
//! A plain connection passes its socket; with TLS the front keeps the connection and relays through a socket pair.
//! What differs between the protocols is in [`Protocol`]. Not here: the protocols' words, mailboxes (`mail-store`), passwords (authd).

mod authority;
mod daemon;
mod front;
mod link;
mod login_log;
mod monitor;
pub mod registry;
mod service;
mod session;
pub mod wire;

pub use daemon::daemon;
pub use registry::SessionId;
pub use service::{Connection, Facts, Home, LoginAnswer, LoginQuestion, Mechanism, Protocol, Resume};
pub use wire::LineLevel;
