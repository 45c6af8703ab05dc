//! `delivery.sock`: workers take mail from queue-manager and report what became of it.
//!
//! A worker connects, says hello, lists what it still holds ([`FromWorker::Resume`]) and then announces free slots. A lease makes the worker
//! responsible for an attempt, never for the message: queue-manager owns that until an outcome is recorded. An outcome is repeated until
//! [`ToWorker::Recorded`], which follows the sync.

use mail_types::{
    Address, Body, Client, DsnOptions, EnhancedStatus, Notify, Purpose, QueueId, Sender, SourceLine, UnixTime,
};
use serde::{Deserialize, Serialize};

/// What a transport of master.cf means to the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransportKind {
    /// `local`: aliases and the machine's own users. Worker: local-delivery.
    Local,
    /// `virtual`: virtual_mailbox_maps. Worker: local-delivery.
    Virtual,
    /// A transport whose next hop is our own LMTP listener: users of Dovecot's userdb. Worker: local-delivery.
    Mailbox,
    /// `smtp` and `relay`. Worker: remote-delivery.
    Smtp,
    /// `lmtp` to another server. Worker: remote-delivery.
    Lmtp,
}

/// A destination: the transport's name in master.cf and its next hop.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Destination {
    /// The name in master.cf, such as `smtp` or `relay`.
    pub transport: String,
    /// What it means.
    pub kind: TransportKind,
    /// The next hop: a domain, `[host]:port`, `unix:path`; for local delivery the domain of the recipient.
    pub nexthop: String,
}

/// What chose the route of a recipient, for the worker's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The parameter, such as `relayhost`.
    pub name: String,
    /// The line that states it.
    pub source: SourceLine,
}

/// One recipient of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecipient {
    /// The number of the recipient within its message; outcomes name it.
    pub number: u32,
    /// Where the message goes.
    pub address: Address,
    /// What the client wrote, if that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// ORCPT, decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orcpt: Option<String>,
    /// NOTIFY.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    /// The addresses whose expansion led here, outermost first; each is a `Delivered-To` and is not expanded again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Address>,
    /// What chose its route, where records are kept (`postrider_json_log`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// Which member of the list at the end of the chain it stands for, where that has no address (`|command`, `/file`); none: the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
}

/// Where the content of a lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// So many octets follow the frame of the grants, in the order of the grants.
    Follows(u64),
    /// The next of the frame's descriptors, read-only; the content is `length` octets from its beginning.
    Descriptor {
        /// Octets of content.
        length: u64,
    },
}

/// The right to attempt one message for some of its recipients, at one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The number of the lease; unique while queue-manager runs.
    pub lease: u64,
    /// The message.
    pub id: QueueId,
    /// Counts the attempts of these recipients, from 1. Above 1 with `unreported`, an attempt before may have been carried out.
    pub attempt: u32,
    /// Whether an earlier attempt ended without an outcome, so that the worker looks first whether it was carried out.
    #[serde(default)]
    pub unreported: bool,
    /// Where to.
    pub destination: Destination,
    /// The envelope sender, or the owner of the alias that the recipients came from.
    pub sender: Sender,
    /// When the message came.
    pub arrival: UnixTime,
    /// When it became active; for `delays=`.
    pub active: UnixTime,
    /// Octets of content.
    pub size: u64,
    /// BODY of MAIL.
    #[serde(default)]
    pub body: Body,
    /// SMTPUTF8 of MAIL.
    #[serde(default)]
    pub smtputf8: bool,
    /// RET and ENVID.
    #[serde(default)]
    pub dsn: DsnOptions,
    /// Message-ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Who handed it in.
    #[serde(default)]
    pub client: Client,
    /// What is done with it: with [`Purpose::Verify`] and [`Purpose::Probe`] the worker says what it would do, and does nothing.
    #[serde(default, skip_serializing_if = "Purpose::is_plain")]
    pub purpose: Purpose,
    /// The recipients, at least one.
    pub recipients: Vec<LeaseRecipient>,
    /// Where the content is.
    pub content: Content,
}

/// A member of an expanded recipient: a new recipient of the same message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where it goes, after rewriting.
    pub address: Address,
    /// The sender for this member: the `owner-` address of the list, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Address>,
    /// The addresses whose expansion led here, outermost first.
    #[serde(default)]
    pub chain: Vec<Address>,
    /// Which member of the list at the end of the chain it stands for, where that has no address (`|command`, `/file`); none: the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
}

/// What became of one recipient in one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It lies in a mailbox, synced; or would, where the lease only asks.
    Delivered,
    /// The next server has taken it; or has accepted the recipient, where the lease only asks.
    Relayed {
        /// Whether that server takes over the DSN options too (it announced DSN).
        #[serde(default)]
        dsn: bool,
    },
    /// Not now.
    Deferred {
        /// Nothing at all could be done with the destination (no connection, no DNS): it may be dead for other mail too.
        #[serde(default)]
        dead: bool,
    },
    /// Never.
    Bounced,
    /// It is a list: the members take its place. Recorded at once with all of them.
    Expanded {
        /// The members; an empty list ends the recipient.
        members: Vec<Member>,
    },
    /// It belongs to another transport (`mailbox_transport`, `fallback_transport`).
    Redirected {
        /// Where to.
        destination: Destination,
    },
}

/// The report about one recipient of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The lease.
    pub lease: u64,
    /// The message.
    pub id: QueueId,
    /// The attempt.
    pub attempt: u32,
    /// The recipient's number.
    pub recipient: u32,
    /// What became of it.
    pub fate: Fate,
    /// The enhanced status: class 2 for success, 4 for deferred, 5 for bounced.
    pub status: EnhancedStatus,
    /// The reason in words, as mailq and the bounce show it: `delivered to maildir`, or the other side's reply.
    pub text: String,
    /// `relay=` of the log: `local`, `host[address]:port`, `none`.
    pub relay: String,
    /// The reply of the remote server, for `Diagnostic-Code: smtp; ...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostic: Option<String>,
    /// The remote server's name, for `Remote-MTA`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
}

/// Names an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OutcomeKey {
    /// The message.
    pub id: QueueId,
    /// The recipient's number.
    pub recipient: u32,
    /// The attempt.
    pub attempt: u32,
}

/// A lease that a worker still holds when it comes back to a restarted queue-manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The message.
    pub id: QueueId,
    /// The attempt.
    pub attempt: u32,
    /// The recipients whose outcome is still open.
    pub recipients: Vec<u32>,
}

/// From a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker {
    /// First after hello: leases held and outcomes unreported. Then the worker may be granted more.
    Resume {
        /// Leases under way.
        leases: Vec<Held>,
        /// Outcomes that were never recorded; more may follow in [`FromWorker::Outcomes`].
        outcomes: Vec<Outcome>,
    },
    /// What the worker can take: replaces what it said before, less the grants that are under way.
    Ready {
        /// The kinds of transport that it carries out.
        kinds: Vec<TransportKind>,
        /// How many further leases it takes.
        slots: u32,
        /// Destinations to which it holds a connection open.
        #[serde(default)]
        open: Vec<Destination>,
    },
    /// What became of recipients.
    Outcomes {
        /// The reports.
        outcomes: Vec<Outcome>,
    },
}

/// From queue-manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Leases, with their contents behind the frame or in its descriptors.
    Grants {
        /// The leases.
        leases: Vec<Lease>,
    },
    /// These outcomes are on disk: the worker may forget them.
    Recorded {
        /// Which.
        outcomes: Vec<OutcomeKey>,
    },
    /// The message is of a later version. The worker keeps its outcomes and tries again after its next start.
    NotUnderstood,
}
