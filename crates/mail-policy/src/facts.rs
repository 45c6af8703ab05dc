//! What a plan may know beside its input.

use std::net::IpAddr;

use mail_tables::{Query, Remote, Snapshot};
use mail_types::{Address, Domain};

/// What a domain is to this machine (Postfix's address classes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DomainClass {
    /// `mydestination`, or a literal with an address of ours.
    Local,
    /// `virtual_alias_domains`.
    VirtualAlias,
    /// `virtual_mailbox_domains`.
    VirtualMailbox,
    /// `relay_domains`.
    Relay,
    /// Everything else: mail for it is relayed.
    Foreign,
}

/// The class of a domain, as far as the tables can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Classified {
    /// This one.
    Class(DomainClass),
    /// A table cannot say now; the text is for the log.
    Unavailable(String),
}

/// Whether an address exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existence {
    /// It does, or nobody can tell (no recipient table for its class).
    Listed,
    /// It does not.
    Unknown,
    /// Its mail would be returned or wait at once, whatever its class.
    Undeliverable {
        /// The reason, which may begin with an enhanced status.
        text: String,
        /// Whether that is for ever.
        permanent: bool,
    },
    /// Nobody knows just now; the text is for the log.
    Unavailable(String),
}

/// What an address is: the class of its domain, and whether it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressFact {
    /// The class of its domain.
    pub class: DomainClass,
    /// Whether it is listed there.
    pub existence: Existence,
}

/// What DNS says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsFact {
    /// It has an MX, A or AAAA record.
    Found,
    /// It has a null MX (RFC 7505).
    NullMx,
    /// It has none of them, or does not exist; authoritative.
    Nothing,
    /// No answer for now.
    Temporary,
}

/// A lookup that needs time: the caller carries it out and asks again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// Whether an address exists.
    Address(Address),
    /// MX, or else A or AAAA, of a mail domain.
    MailDomain(String),
    /// A or AAAA, or else MX, of a host name.
    Host(String),
    /// What a table of another process says about a key.
    Table(Query),
}

/// The fact is not there yet; the question says how to get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing(pub Question);

/// Answers from tables in memory, and from what was fetched for this transaction.
pub trait Facts {
    /// The tables of the configuration.
    fn tables(&self) -> &Snapshot;

    /// The answers of tables in other processes that were fetched so far.
    fn remote(&self) -> &dyn Remote;

    /// The class of a domain. A table that cannot say is [`Classified::Unavailable`], never "foreign" by accident.
    ///
    /// # Errors
    /// [`Missing`] where a table must be asked first.
    fn class(&self, domain: &Domain) -> Result<Classified, Missing>;

    /// What an address is.
    ///
    /// # Errors
    /// [`Missing`] where the answer must be fetched first.
    fn address(&self, address: &Address) -> Result<AddressFact, Missing>;

    /// What DNS says, for `reject_unknown_*`.
    ///
    /// # Errors
    /// [`Missing`] where the answer must be fetched first.
    fn dns(&self, question: &Question) -> Result<DnsFact, Missing>;

    /// Whether an address is one of this machine's own (`permit_inet_interfaces`).
    fn is_own_address(&self, address: IpAddr) -> bool;
}
