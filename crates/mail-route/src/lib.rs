//! What an address means to this machine, and where its mail goes.
//!
//! [`complete`] gives addresses their domain; [`class`] says whose a domain is; [`recipient`] whether somebody exists;
//! [`rewrite_recipient`] and its relatives carry out canonical maps, masquerading and virtual aliases in envelope and header;
//! [`sender_copies`] and [`recipient_copies`] add automatic copies; [`alias`] expands what aliases(5) holds; [`transport`] chooses
//! transport and next hop; [`generic`] is what the next server is shown.
//!
//! Every function is pure: it reads the configuration and the tables of a [`World`] and writes down each lookup, and each rewriting as
//! the lookup of a parameter. What only another process knows it asks for by ending with [`Stop::Missing`]; the caller fetches the answer
//! and calls again. It sends nothing, delivers nothing, and refuses nobody: policies and daemons do.

mod alias;
mod class;
mod complete;
mod copies;
mod generic;
mod mapping;
mod masquerade;
mod nexthop;
mod recipient;
mod rewrite;
#[cfg(test)]
mod testing;
mod transport;
mod virtual_alias;
mod world;

pub use alias::{Expansion, Member, alias, include, members};
pub use class::{Class, Classified, Resolved, class, is_own_address, resolve};
pub use complete::{Origin, complete, complete_noting, complete_text, complete_text_noting};
pub use copies::{Copy, recipient_copies, sender_copies};
pub use generic::{generic, generic_header};
pub use nexthop::NextHop;
pub use recipient::{Existence, recipient};
pub use rewrite::{Role, canonical_recipient, rewrite_header, rewrite_recipient, rewrite_sender};
pub use transport::{Kind, Routed, handed_on, is_sendable, reason, transport};
pub use world::{Answers, Facts, Question, Stop, World};
