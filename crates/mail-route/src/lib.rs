//! What an address means to this machine, and where its mail goes.
//!
//! [`complete`] gives addresses their domain; [`class`] says whose a domain is; [`recipient`] whether somebody exists;
//! [`rewrite_recipient`] and its relatives carry out canonical maps, masquerading and virtual aliases; [`alias`] expands what
//! aliases(5) holds; [`transport`] chooses transport and next hop.
//!
//! Every function is pure: it reads the configuration and the tables of a [`World`] and writes down each lookup. What only
//! another process knows it asks for by ending with [`Stop::Missing`]; the caller fetches the answer and calls again. It sends
//! nothing, delivers nothing, and refuses nobody: policies and daemons do.

mod alias;
mod class;
mod complete;
mod nexthop;
mod recipient;
mod rewrite;
#[cfg(test)]
mod testing;
mod transport;
mod world;

pub use alias::{Expansion, Member, alias, include, members};
pub use class::{Class, Classified, Resolved, class, is_own_address, resolve};
pub use complete::{complete, complete_text};
pub use nexthop::NextHop;
pub use recipient::{Existence, recipient};
pub use rewrite::{canonical_recipient, rewrite_recipient, rewrite_sender};
pub use transport::{Kind, Routed, transport};
pub use world::{Answers, Facts, Question, Stop, World};
