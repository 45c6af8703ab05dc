//! What a queue file says, record by record, before anything is made of it.

/// The numbers of the first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Octets of the records of the content.
    pub content: u64,
    /// Where they begin.
    pub offset: u64,
    /// Recipients.
    pub recipients: u64,
    /// Hints for Postfix's queue manager.
    pub hints: u64,
    /// Octets of the content without padding (since Postfix 2.4).
    pub length: u64,
    /// What is known of SMTPUTF8 (since Postfix 3.0).
    pub smtputf8: u64,
}

/// Whether a recipient is still to be seen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// To be delivered.
    Open,
    /// Delivered or returned.
    Done,
    /// Taken back by a milter.
    Cancelled,
}

/// A recipient with the records that stood before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The address in its internal form.
    pub address: Vec<u8>,
    /// What the client wrote.
    pub original: Option<Vec<u8>>,
    /// ORCPT: type, `;`, decoded address.
    pub orcpt: Option<Vec<u8>>,
    /// NOTIFY as bits: 1 never, 2 success, 4 failure, 8 delay; 0 if it was not given.
    pub notify: u8,
    /// Whether it is still to be seen to.
    pub state: State,
    /// Where its record is; log files name it.
    pub offset: u64,
}

/// A named attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// The name.
    pub name: String,
    /// The value.
    pub value: Vec<u8>,
}

/// A queue file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueFile {
    /// The first record; files in `maildrop/` have none.
    pub size: Option<Size>,
    /// Seconds and microseconds since 1970 of the arrival.
    pub arrival: Option<(u64, u32)>,
    /// The full name of the submitter.
    pub full_name: Option<Vec<u8>>,
    /// The sender in its internal form; empty for the null sender.
    pub sender: Option<Vec<u8>>,
    /// The recipients.
    pub recipients: Vec<Recipient>,
    /// RET: 1 full, 2 headers; 0 if it was not given.
    pub ret: u8,
    /// ENVID, decoded.
    pub envid: Option<Vec<u8>>,
    /// All other attributes, later ones behind earlier ones.
    pub attributes: Vec<Attribute>,
    /// When the sender is to be warned, in seconds since 1970; negative: was warned.
    pub warn: Option<i64>,
    /// Who gets the message in the place of its recipients.
    pub redirect: Option<Vec<u8>>,
    /// A content filter or inspector.
    pub filter: Option<Vec<u8>>,
    /// The delimiters of VERP.
    pub verp: Option<Vec<u8>>,
    /// The content; lines end with LF, the last one perhaps with nothing.
    pub content: Vec<u8>,
}

impl QueueFile {
    /// The last value of an attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&[u8]> {
        let named = self.attributes.iter().rev().find(|attribute| attribute.name == name);
        named.map(|attribute| attribute.value.as_slice())
    }
}
