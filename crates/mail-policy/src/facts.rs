//! What a plan may know beside its input.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

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

/// What a DNS list says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListFact {
    /// It is listed.
    Listed {
        /// The addresses that say so (A records).
        codes: Vec<Ipv4Addr>,
        /// The texts that say why (TXT records), joined; empty if there is none.
        reason: String,
    },
    /// It is not.
    NotListed,
    /// No answer for now.
    Temporary,
}

/// Which hosts of a name an access table is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HostKind {
    /// The name itself (`check_*_a_access`).
    Address,
    /// Its mail servers (`check_*_mx_access`, `permit_mx_backup`).
    MailServer,
    /// Its name servers, or those of the nearest parent that has some (`check_*_ns_access`).
    NameServer,
}

/// A host that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name, without a dot at its end.
    pub name: String,
    /// Its preference among mail servers; 0 for other kinds.
    pub preference: u16,
    /// Its addresses; none if no name server could be asked for now.
    pub addresses: Option<Vec<IpAddr>>,
}

/// The hosts of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostsFact {
    /// These, the best mail server first.
    Hosts(Vec<Host>),
    /// The name has no MX record and is its own mail server.
    Itself(Host),
    /// There are none: a null MX, or no such name.
    Nothing,
    /// No answer for now.
    Temporary,
}

/// A policy service and how patiently it is asked (`smtpd_policy_service_*`, or the words in braces after its name).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PolicyService {
    /// `inet:HOST:PORT` or `unix:PATH`.
    pub endpoint: String,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How often it is tried.
    pub try_limit: u64,
    /// The pause between attempts.
    pub retry_delay: Duration,
    /// How many requests one connection may carry; 0 for no limit.
    pub request_limit: u64,
    /// How long a connection is kept without use.
    pub max_idle: Duration,
    /// How long a connection is kept at all.
    pub max_ttl: Duration,
}

/// One request to a policy service: names and values in their order (SMTPD_POLICY_README).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PolicyRequest {
    /// Who is asked.
    pub service: PolicyService,
    /// What it is told.
    pub attributes: Vec<(&'static str, String)>,
}

/// What a policy service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyFact {
    /// An action as in an access table.
    Action(String),
    /// No answer; the text is for the log.
    Unavailable(String),
}

/// Whether mail for an address would be delivered, as a probe found out (`reject_unverified_sender`, `reject_unverified_recipient`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifiedFact {
    /// It would.
    Deliverable,
    /// It would be returned, for this reason.
    Undeliverable(String),
    /// It would wait, for this reason, or the probe has not ended within the polls of `address_verify_poll_count`.
    Deferred(String),
    /// Nobody can tell; the text is for the log.
    Unavailable(String),
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
    /// A name within a DNS list, such as `1.2.0.192.zen.example.org`.
    List(String),
    /// The hosts of a name.
    Hosts(HostKind, String),
    /// A policy service. Its answer is good for one command.
    Policy(Box<PolicyRequest>),
    /// Whether mail for an address would be delivered.
    Verified(Address),
    /// Nothing is asked: the rule wants the client to wait (`sleep`). `rule` tells several pauses of one command apart.
    Pause {
        /// How long.
        seconds: u64,
        /// Which one of the command.
        rule: usize,
    },
    /// What a table of another process says about a key.
    Table(Query),
}

impl Question {
    /// Whether the answer is good for one command alone; others are good for the transaction.
    #[must_use]
    pub fn is_for_one_command(&self) -> bool {
        matches!(self, Self::Policy(_) | Self::Pause { .. } | Self::Verified(_))
    }
}

/// What was fetched for a question other than those about addresses and tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// For [`Question::MailDomain`] and [`Question::Host`].
    Dns(DnsFact),
    /// For [`Question::List`].
    List(ListFact),
    /// For [`Question::Hosts`].
    Hosts(HostsFact),
    /// For [`Question::Policy`].
    Policy(PolicyFact),
    /// For [`Question::Verified`].
    Verified(VerifiedFact),
    /// The pause is over.
    Paused,
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

    /// What was fetched so far for a question that neither [`Facts::address`] nor [`Facts::remote`] answers; none if nothing was.
    fn fetched(&self, question: &Question) -> Option<Fact>;

    /// Whether an address is one of this machine's own (`permit_inet_interfaces`).
    fn is_own_address(&self, address: IpAddr) -> bool;
}

/// Finds one kind of fact among those that were fetched. A fact of another kind is a mistake of the caller and never a yes: it counts as missing.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $variant:ident($fact:ty);)+) => {$(
        $(#[$doc])*
        pub(crate) fn $name(facts: &dyn Facts, question: Question) -> Result<$fact, Missing> {
            match facts.fetched(&question) {
                Some(Fact::$variant(fact)) => Ok(fact),
                _ => Err(Missing(question)),
            }
        }
    )+};
}

kinds! {
    /// What DNS says.
    dns: Dns(DnsFact);
    /// What a DNS list says.
    list: List(ListFact);
    /// The hosts of a name.
    hosts: Hosts(HostsFact);
    /// What a policy service says.
    policy: Policy(PolicyFact);
    /// What a probe found out.
    verified: Verified(VerifiedFact);
}
