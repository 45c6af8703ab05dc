//! Restriction lists, access tables and limits: pure functions over facts.
//!
//! A [`Plan`] is what one listener's main.cf says: which lists run at which [`Stage`], with which codes. [`evaluate`] runs it over an
//! [`Input`] (client, HELO, sender, recipient, login) and [`Facts`] (tables, classes of domains, DNS). It gives a [`Verdict`] with every
//! decision on the way, or the lookups that are missing; the caller fetches them and asks again, so nothing here waits.
//!
//! Fail closed: a restriction that is not built answers `451 4.3.5`, a table that cannot answer is never a yes. [`relay`] asks, with the
//! same functions, whether a listener would relay for strangers.
//!
//! It is used by `smtpd` and by `postrider explain`. Not here: sockets, files, DNS, the rewriting of addresses (`mail-route`).

mod access;
mod answer;
mod evaluate;
mod facts;
mod input;
pub mod lookups;
mod plan;
pub mod relay;
mod replies;
mod restrictions;
mod templates;
#[cfg(test)]
mod tests;
mod unlisted;
mod verdict;

pub use answer::{Answer, NoAnswer};
pub use evaluate::evaluate;
pub use facts::{
    AddressFact, Classified, DnsFact, DomainClass, Existence, Fact, Facts, Host, HostKind, HostsFact, ListFact,
    Missing, PolicyFact, PolicyRequest, PolicyService, Question, VerifiedFact,
};
pub use input::{Certificate, ClientName, Encryption, Input};
pub use plan::{Plan, Stage};
pub use templates::with_footer;
pub use verdict::{Action, Actions, Decision, Effect, Outcome, Permission, Verdict};
