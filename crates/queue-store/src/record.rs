//! The durable facts: one type per record, as JSON in the record's metadata.

use std::sync::Arc;

use mail_types::{Address, EnhancedStatus, Envelope, QueueId, Recipient, Sender, UnixTime};
use serde::{Deserialize, Serialize};

use crate::format::Kind;
use crate::hop::Hop;

/// Where the content of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In the record, behind the metadata.
    Segment,
    /// In a file of `content/` with the queue id as its name; so many octets.
    File(u64),
}

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Serial numbers handed out.
    Granted(Granted),
    /// A message was accepted: from here on it is ours.
    Accepted(Accepted),
    /// An attempt ended for some recipients.
    Outcome(Outcome),
    /// A recipient became others.
    Expanded(Expanded),
    /// The message rests until it is released.
    Held(Change),
    /// The message goes on.
    Released(Change),
    /// The message begins again: routes are found anew, all recipients are due, hold ends.
    Requeued(Change),
    /// An operator removed the message.
    Deleted(Deleted),
    /// A message was copied forward.
    Moved(Moved),
    /// Sequence numbers that do not count.
    Void(Void),
}

/// Serial numbers `first` to `first + count - 1` of queue ids are used for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The first number.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Its id.
    pub id: QueueId,
    /// When it was accepted.
    pub at: UnixTime,
    /// The envelope.
    pub envelope: Arc<Envelope>,
    /// Where the content is.
    pub place: Place,
    /// It goes on hold at once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hold: bool,
}

/// What became of recipients in one attempt, or of a report about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The message.
    pub id: QueueId,
    /// When.
    pub at: UnixTime,
    /// The recipients: number and address (the address for the ledger, which outlives the Accepted record).
    pub recipients: Vec<(u32, Address)>,
    /// The attempt.
    #[serde(default)]
    pub attempt: u32,
    /// What became of them.
    pub result: Fate,
    /// The enhanced status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<EnhancedStatus>,
    /// The reason in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The remote server and its reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mta: Option<Remote>,
    /// The sender is still to be told: the recipient stays until [`Fate::Reported`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub report: bool,
    /// The destination that takes over, with [`Fate::Redirected`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Hop>,
}

/// The other side of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Remote {
    /// Its name, for `Remote-MTA`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its reply, for `Diagnostic-Code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostic: Option<String>,
}

/// What became of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It lies in a mailbox. An end.
    Delivered,
    /// Another server has taken it. An end.
    Relayed,
    /// A rule of the configuration threw it away. An end.
    Discarded,
    /// It cannot be delivered. An end.
    Bounced,
    /// It will be attempted again at this time.
    Deferred(UnixTime),
    /// Another transport takes it now; see [`crate::RecipientState::via`].
    Redirected,
    /// The sender was warned of the delay; the recipient goes on waiting.
    Warned,
    /// The report that was due has been queued.
    Reported,
    /// The message only asked: it would have been delivered. An end.
    Deliverable,
    /// The message only asked: it would not have been delivered, now or ever; the status says which. An end.
    Undeliverable,
    /// The sender was told of the first attempt; the recipient goes on as it was.
    Traced,
}

impl Fate {
    /// Whether nothing more will be attempted for the recipient.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(
            self,
            Self::Delivered | Self::Relayed | Self::Discarded | Self::Bounced | Self::Deliverable | Self::Undeliverable
        )
    }
}

/// A recipient that takes the place of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where it goes, and what is reported about it.
    #[serde(flatten)]
    pub recipient: Recipient,
    /// The sender for this member, where the list has an owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Sender>,
    /// The addresses whose expansion led here, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Address>,
    /// Which member of the list at the end of the chain it stands for, where that has no address (`|command`, `/file`); none: the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
}

/// A recipient became members, in one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expanded {
    /// The message.
    pub id: QueueId,
    /// When.
    pub at: UnixTime,
    /// The recipient that ends.
    pub recipient: u32,
    /// Its address.
    pub address: Address,
    /// Those that begin; they are numbered from the message's next number on.
    pub members: Vec<Member>,
    /// The report of success is still to be sent for the recipient that ends.
    #[serde(default, skip_serializing_if = "is_false")]
    pub report: bool,
}

/// An operator's change of a whole message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The message.
    pub id: QueueId,
    /// When.
    pub at: UnixTime,
}

/// A message that an operator removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The message.
    pub id: QueueId,
    /// When.
    pub at: UnixTime,
    /// The recipients that were open: number and address, for the ledger.
    #[serde(default)]
    pub recipients: Vec<(u32, Address)>,
}

/// A message copied forward: replaces everything that earlier records say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The message.
    pub id: QueueId,
    /// When it was moved.
    pub at: UnixTime,
    /// The envelope without recipients.
    pub envelope: Arc<Envelope>,
    /// Where the content is.
    pub place: Place,
    /// The recipients that are not done, with their numbers.
    pub recipients: Vec<(u32, RecipientState)>,
    /// The number of the next recipient.
    pub next: u32,
    /// On hold.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hold: bool,
    /// The content is damaged.
    #[serde(default, skip_serializing_if = "is_false")]
    pub corrupt: bool,
}

/// The records `from` to `to` do not count: their sync failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Void {
    /// The first sequence number.
    pub from: u64,
    /// The last.
    pub to: u64,
}

/// What the queue knows of one recipient that is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientState {
    /// Address, original recipient, DSN parameters.
    #[serde(flatten)]
    pub recipient: Recipient,
    /// The sender for this recipient, where a list has an owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Sender>,
    /// The addresses whose expansion led here, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Address>,
    /// Which member of the list at the end of the chain it stands for, where that has no address (`|command`, `/file`); none: the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
    /// When it is due.
    pub next: UnixTime,
    /// Attempts that have an outcome.
    #[serde(default)]
    pub attempts: u32,
    /// What the last attempt said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastReply>,
    /// The end that the sender is still to be told; nothing more is attempted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Fate>,
    /// The sender was warned of the delay.
    #[serde(default, skip_serializing_if = "is_false")]
    pub warned: bool,
    /// The sender was told of the first attempt, which it had asked for.
    #[serde(default, skip_serializing_if = "is_false")]
    pub traced: bool,
    /// The destination that an outcome named instead of the route of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Hop>,
    /// Where it is scheduled.
    #[serde(default, skip_serializing_if = "Hop::is_unrouted")]
    pub hop: Hop,
}

impl RecipientState {
    /// A recipient that was never attempted, due at `next`.
    #[must_use]
    pub fn new(recipient: Recipient, next: UnixTime) -> Self {
        Self {
            recipient,
            owner: None,
            chain: Vec::new(),
            part: None,
            next,
            attempts: 0,
            last: None,
            report: None,
            warned: false,
            traced: false,
            via: None,
            hop: Hop::default(),
        }
    }
}

/// The words of the last attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReply {
    /// The enhanced status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<EnhancedStatus>,
    /// The reason.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The remote server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mta: Option<Remote>,
    /// When.
    pub at: UnixTime,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}

/// What a reader must know to treat a message as its sender wants it. One that does not know an entry sets the record aside and delivers nothing.
const KNOWN: [&str; 1] = [ONLY_ASKS];

/// Nothing of the message may be delivered ([`mail_types::Purpose::is_verification`]).
const ONLY_ASKS: &str = "only-asks";

/// How metadata begins that requires something.
const REQUIRES: &[u8] = b"{\"requires\":";

/// Metadata within what a reader must know. A build from before this form finds none of the fields that it looks for, and sets the record aside.
#[derive(Serialize, Deserialize)]
struct Needing<T> {
    requires: Vec<String>,
    record: T,
}

fn write_needing<T: Serialize>(out: &mut Vec<u8>, envelope: &Envelope, meta: &T) -> Result<(), serde_json::Error> {
    if envelope.purpose.is_verification() {
        serde_json::to_writer(out, &Needing { requires: vec![ONLY_ASKS.to_owned()], record: meta })
    } else {
        serde_json::to_writer(out, meta)
    }
}

fn read_needing<T: serde::de::DeserializeOwned>(meta: &[u8]) -> Result<T, serde_json::Error> {
    if !meta.starts_with(REQUIRES) {
        return serde_json::from_slice(meta);
    }
    // What is required may change what the record looks like, so it is read first.
    let needing: Needing<serde::de::IgnoredAny> = serde_json::from_slice(meta)?;
    if let Some(unknown) = needing.requires.iter().find(|entry| !KNOWN.contains(&entry.as_str())) {
        return Err(serde::de::Error::custom(format!(
            "the record requires `{unknown}', which this version does not know"
        )));
    }
    serde_json::from_slice::<Needing<T>>(meta).map(|needing| needing.record)
}

impl Record {
    /// The type in the header.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Granted(_) => Kind::Granted,
            Self::Accepted(_) => Kind::Accepted,
            Self::Outcome(_) => Kind::Outcome,
            Self::Expanded(_) => Kind::Expanded,
            Self::Held(_) => Kind::Held,
            Self::Released(_) => Kind::Released,
            Self::Requeued(_) => Kind::Requeued,
            Self::Deleted(_) => Kind::Deleted,
            Self::Moved(_) => Kind::Moved,
            Self::Void(_) => Kind::Void,
        }
    }

    /// Appends the metadata to `out`.
    ///
    /// # Errors
    /// None in practice: the types have no map with keys that are not strings.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        match self {
            Self::Granted(meta) => serde_json::to_writer(out, meta),
            Self::Accepted(meta) => write_needing(out, &meta.envelope, meta),
            Self::Outcome(meta) => serde_json::to_writer(out, meta),
            Self::Expanded(meta) => serde_json::to_writer(out, meta),
            Self::Held(meta) | Self::Released(meta) | Self::Requeued(meta) => serde_json::to_writer(out, meta),
            Self::Deleted(meta) => serde_json::to_writer(out, meta),
            Self::Moved(meta) => write_needing(out, &meta.envelope, meta),
            Self::Void(meta) => serde_json::to_writer(out, meta),
        }
    }

    /// Reads the metadata of a record of this type.
    ///
    /// # Errors
    /// The JSON is not what the type has.
    pub fn decode(kind: Kind, meta: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            Kind::Granted => Self::Granted(serde_json::from_slice(meta)?),
            Kind::Accepted => Self::Accepted(read_needing(meta)?),
            Kind::Outcome => Self::Outcome(serde_json::from_slice(meta)?),
            Kind::Expanded => Self::Expanded(serde_json::from_slice(meta)?),
            Kind::Held => Self::Held(serde_json::from_slice(meta)?),
            Kind::Released => Self::Released(serde_json::from_slice(meta)?),
            Kind::Requeued => Self::Requeued(serde_json::from_slice(meta)?),
            Kind::Deleted => Self::Deleted(serde_json::from_slice(meta)?),
            Kind::Moved => Self::Moved(read_needing(meta)?),
            Kind::Void => Self::Void(serde_json::from_slice(meta)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use mail_types::{Body, Client, DsnOptions, Purpose};

    use super::*;

    fn accepted(purpose: Purpose) -> Accepted {
        let id = QueueId::new(1, 1, 1).expect("in range");
        let envelope = Envelope {
            sender: Sender::Null,
            recipients: vec![Recipient::new("a@b.org".parse().expect("an address"))],
            arrival: UnixTime(1),
            size: 1,
            body: Body::SevenBit,
            smtputf8: false,
            dsn: DsnOptions::default(),
            message_id: None,
            client: Client::default(),
            purpose,
        };
        Accepted { id, at: UnixTime(1), envelope: Arc::new(envelope), place: Place::Segment, hold: false }
    }

    fn encoded(purpose: Purpose) -> Vec<u8> {
        let mut out = Vec::new();
        Record::Accepted(accepted(purpose)).encode(&mut out).expect("encoded");
        out
    }

    #[test]
    fn who_does_not_know_what_a_message_requires_reads_nothing_of_it() {
        for purpose in [Purpose::Deliver, Purpose::Trace, Purpose::Verify, Purpose::Probe] {
            let meta = encoded(purpose);
            let read = Record::decode(Kind::Accepted, &meta).expect("our own");
            assert_eq!(read, Record::Accepted(accepted(purpose)));
            // A build from before `requires' reads the fields of the record itself; it must find none where nothing may be delivered.
            let older = serde_json::from_slice::<Accepted>(&meta);
            assert_eq!(older.is_err(), purpose.is_verification(), "{purpose:?}");
        }
        let text = String::from_utf8(encoded(Purpose::Verify)).expect("text");
        let later = text.replacen("only-asks", "only-asks\",\"colour", 1);
        let error = Record::decode(Kind::Accepted, later.as_bytes()).expect_err("a later version").to_string();
        assert!(error.contains("requires `colour'"), "{error}");
        // As builds between wrote it.
        let between = serde_json::to_vec(&accepted(Purpose::Verify)).expect("encoded");
        assert_eq!(
            Record::decode(Kind::Accepted, &between).expect("read"),
            Record::Accepted(accepted(Purpose::Verify))
        );
    }
}
