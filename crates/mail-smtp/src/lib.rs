//! SMTP and LMTP: grammar, server machine, client machine.
//!
//! [`server::Server`] is the receiving side (RFC 5321, 2033, 4954, 3207 and the extensions that EHLO names), [`client::Client`] the
//! sending side. Both are [`session::Machine`]s: they know order, syntax, limits and reply texts, and no socket, file or clock.
//!
//! Owned here: the grammars (`grammar`), dot-stuffing and line ends of content ([`content`]), the two machines.
//! It talks to `mail-net`, which drives the machines, and to `smtpd` and `remote-delivery`, which answer their questions.
//! Not here: who may send what to whom (`mail-policy`), where a message goes (`mail-route`), what it looks like inside (`mail-message`).

pub mod client;
pub mod content;
pub mod grammar;
pub mod server;

pub use grammar::{Mailbox, Path};
