//! The envelope: what the queue knows of a message beside its content.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Address, DsnOptions, Notify, Octets, Sender, UnixTime};

/// BODY of MAIL (RFC 6152).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Body {
    /// Not stated, or BODY=7BIT.
    #[default]
    SevenBit,
    /// BODY=8BITMIME.
    EightBitMime,
}

/// What is done with a message: Postfix's trace flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// It is delivered.
    #[default]
    Deliver,
    /// It is delivered, and the sender gets a report of the first attempt (`sendmail -v`).
    Trace,
    /// Nothing is delivered: the sender gets a report of what would become of each recipient (`sendmail -bv`).
    Verify,
    /// Nothing is delivered: what would become of its recipient is remembered (a probe of address verification).
    Probe,
}

impl Purpose {
    /// Whether the recipients are only looked at: no mailbox, program or server ever gets the content.
    #[must_use]
    pub fn is_verification(self) -> bool {
        matches!(self, Self::Verify | Self::Probe)
    }

    /// Whether it is plain mail; records and frames leave it out then.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::Deliver
    }
}

/// One recipient of an envelope as it was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// Where the message goes, after rewriting and virtual aliases.
    pub address: Address,
    /// What the client wrote in RCPT, if rewriting changed it (`orig_to=` in the log, `X-Original-To`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// ORCPT: address type and decoded address, such as `rfc822;a@b` (RFC 3461 section 4.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orcpt: Option<String>,
    /// NOTIFY, if it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
}

impl Recipient {
    /// A recipient without DSN parameters.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self { address, original: None, orcpt: None, notify: None }
    }
}

/// Who handed the message in; for the log, trace headers and policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Client {
    /// The verified host name, or `unknown`; `localhost` for local submission.
    #[serde(default)]
    pub name: String,
    /// The peer's address; none for local submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What HELO or EHLO said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helo: Option<Octets>,
    /// SMTP, ESMTP, ESMTPS, ESMTPSA, LMTP ... (RFC 3848), or `local`.
    #[serde(default)]
    pub protocol: String,
    /// The authenticated user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl_username: Option<String>,
    /// The SASL mechanism that authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl_method: Option<String>,
    /// The uid that submitted locally.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// An envelope that has at least been checked for syntax; recipients may be many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The reverse-path.
    pub sender: Sender,
    /// The recipients, in the order of the client.
    pub recipients: Vec<Recipient>,
    /// When the first command of this transaction came.
    pub arrival: UnixTime,
    /// Octets of the content as stored.
    pub size: u64,
    /// BODY of MAIL.
    #[serde(default)]
    pub body: Body,
    /// Whether the client said SMTPUTF8 (RFC 6531).
    #[serde(default)]
    pub smtputf8: bool,
    /// RET and ENVID.
    #[serde(default)]
    pub dsn: DsnOptions,
    /// The Message-ID of the header, with its angle brackets; for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Who handed it in.
    #[serde(default)]
    pub client: Client,
    /// What is done with it.
    #[serde(default, skip_serializing_if = "Purpose::is_plain")]
    pub purpose: Purpose,
}
