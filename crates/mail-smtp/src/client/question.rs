//! What the client machine asks, what it is told, and what it reports.

use mail_types::{Body, DsnOptions, EnhancedStatus, Recipient, Reply, Sender, Severity};

use super::Features;

/// One message for the peer. The content follows through [`Question::Content`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The reverse-path.
    pub sender: Sender,
    /// The recipients; outcomes name them by their place.
    pub recipients: Vec<Recipient>,
    /// Octets of content, for SIZE.
    pub size: u64,
    /// `EightBitMime` only if the content really has octets above 127: without 8BITMIME such a message is refused here (E8), so
    /// the caller converts it or says `SevenBit` for content that is ASCII.
    pub body: Body,
    /// Whether envelope or header really need SMTPUTF8 (RFC 6531); without it such a message is refused here (U01).
    pub smtputf8: bool,
    /// RET and ENVID; sent only to a peer with DSN.
    pub dsn: DsnOptions,
    /// Only the recipients are asked for: no DATA follows, and who is accepted has that reply as its outcome.
    pub verify: bool,
}

/// What the machine asks. It waits for every answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The session is open and nothing is under way. [`Answer::Message`] or [`Answer::Quit`].
    Ready(Features),
    /// The next piece of content, with LF or CRLF line ends. [`Answer::Chunk`], [`Answer::EndOfContent`] or [`Answer::Abort`].
    Content,
    /// What became of a message: exactly one entry for each recipient. [`Answer::Noted`]. Comes before the connection is closed, whatever happens.
    Outcome(Vec<RcptOutcome>),
    /// The session never became ready: no message was taken. [`Answer::Noted`], then the connection closes.
    Failed(Failure),
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Send this.
    Message(Box<Message>),
    /// Nothing more to send.
    Quit,
    /// A piece of content, up to 64 KiB.
    Chunk(Vec<u8>),
    /// There is no more content.
    EndOfContent,
    /// The content cannot be read: the connection is cut before the final dot, the outcome is temporary.
    Abort,
    /// Understood.
    Noted,
}

/// What happens outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The worker stops: no further message is taken, and one whose final dot was not sent is given up.
    Stop,
}

/// Where in the dialogue something happened; prints as Postfix writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The greeting.
    Greeting,
    /// EHLO or LHLO.
    Ehlo,
    /// HELO.
    Helo,
    /// STARTTLS.
    Starttls,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The content.
    Content,
    /// After the final dot.
    EndOfData,
    /// RSET.
    Rset,
    /// QUIT.
    Quit,
}

impl Stage {
    /// The command as Postfix names it: `(in reply to RCPT TO command)`.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Self::Greeting => "initial connection",
            Self::Ehlo => "EHLO command",
            Self::Helo => "HELO command",
            Self::Starttls => "STARTTLS command",
            Self::Auth => "AUTH command",
            Self::Mail => "MAIL FROM command",
            Self::Rcpt => "RCPT TO command",
            Self::Data => "DATA command",
            Self::Content => "message body",
            Self::EndOfData => "end of DATA command",
            Self::Rset => "RSET command",
            Self::Quit => "QUIT command",
        }
    }

    /// What was going on, as Postfix names it: `lost connection with HOST while sending RCPT TO`.
    #[must_use]
    pub fn activity(self) -> &'static str {
        match self {
            Self::Greeting => "receiving the initial server greeting",
            Self::Ehlo | Self::Helo => "performing the EHLO handshake",
            Self::Starttls => "performing the STARTTLS handshake",
            Self::Auth => "performing SASL authentication",
            Self::Mail => "sending MAIL FROM",
            Self::Rcpt => "sending RCPT TO",
            Self::Data => "sending DATA command",
            Self::Content => "sending message body",
            Self::EndOfData => "sending end of data -- message may be sent more than once",
            Self::Rset => "sending RSET",
            Self::Quit => "sending QUIT command",
        }
    }
}

/// Why something ended as it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The peer said so.
    Reply {
        /// What it said.
        reply: Reply,
        /// To what.
        stage: Stage,
    },
    /// The connection broke.
    Lost(Stage),
    /// The peer was silent for too long.
    TimedOut(Stage),
    /// The peer said what is no reply.
    Garbage {
        /// The beginning of it, printable.
        line: String,
        /// Where.
        stage: Stage,
    },
    /// The peer bears our own name: the mail would come back. The caller knows whether there is another host.
    OwnName(String),
    /// TLS is required and was not offered.
    TlsNotOffered,
    /// TLS is required and was refused.
    TlsRefused(Reply),
    /// A login is required, and no mechanism of ours was offered, or not without TLS. The text names what was offered.
    AuthNotOffered(String),
    /// The login was refused.
    AuthRefused(Reply),
    /// The message needs SMTPUTF8, the peer has it not (U01).
    NeedsSmtputf8,
    /// The message needs 8BITMIME, the peer has it not (E8).
    NeedsEightBitMime,
    /// The message is larger than the peer's SIZE (Z01).
    TooBig {
        /// The message in octets.
        size: u64,
        /// The peer's limit in octets.
        limit: u64,
    },
    /// The content could not be read, or the worker stops.
    Aborted,
}

impl Cause {
    /// Whether it stands for now or for ever.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::Reply { reply, .. } => reply.severity(),
            Self::NeedsSmtputf8 | Self::NeedsEightBitMime | Self::TooBig { .. } => Severity::Permanent,
            _ => Severity::Temporary,
        }
    }

    /// The enhanced status: the peer's where it gave one.
    #[must_use]
    pub fn status(&self) -> EnhancedStatus {
        match self {
            Self::Reply { reply, .. } => status_of(reply),
            Self::Lost(_) | Self::TimedOut(_) => EnhancedStatus::of(4, 4, 2),
            Self::Garbage { .. } => EnhancedStatus::of(4, 5, 0),
            Self::OwnName(_) => EnhancedStatus::of(4, 4, 6),
            Self::TlsNotOffered => EnhancedStatus::of(4, 7, 4),
            Self::TlsRefused(reply) | Self::AuthRefused(reply) => status_of(reply).with_severity(Severity::Temporary),
            Self::AuthNotOffered(_) => EnhancedStatus::of(4, 7, 0),
            Self::NeedsSmtputf8 => EnhancedStatus::of(5, 6, 7),
            Self::NeedsEightBitMime => EnhancedStatus::of(5, 6, 3),
            Self::TooBig { .. } => EnhancedStatus::of(5, 3, 4),
            Self::Aborted => EnhancedStatus::of(4, 3, 0),
        }
    }

    /// The reason in Postfix's words; `host` is `name[address]`.
    #[must_use]
    pub fn describe(&self, host: &str) -> String {
        match self {
            Self::Reply { reply, stage: Stage::Greeting } => format!("host {host} refused to talk to me: {reply}"),
            Self::Reply { reply, .. } if reply.severity() == Severity::Success => reply.to_string(),
            Self::Reply { reply, stage } => format!("host {host} said: {reply} (in reply to {})", stage.command()),
            Self::Lost(stage) => format!("lost connection with {host} while {}", stage.activity()),
            Self::TimedOut(stage) => format!("conversation with {host} timed out while {}", stage.activity()),
            Self::Garbage { line, stage } => {
                format!("host {host} sent an invalid reply while {}: {line}", stage.activity())
            }
            Self::OwnName(name) => format!("host {host} replied to EHLO with my own hostname {name}"),
            Self::TlsNotOffered => format!("TLS is required, but was not offered by host {host}"),
            Self::TlsRefused(reply) => format!("TLS is required, but host {host} refused to start TLS: {reply}"),
            Self::AuthNotOffered(offered) => {
                format!("SASL authentication failed; server {host} offered no usable AUTH mechanism: '{offered}'")
            }
            Self::AuthRefused(reply) => format!("SASL authentication failed; server {host} said: {reply}"),
            Self::NeedsSmtputf8 => format!("SMTPUTF8 is required, but was not offered by host {host}"),
            Self::NeedsEightBitMime => format!("8BITMIME is required, but was not offered by host {host}"),
            Self::TooBig { size, limit } => {
                format!("message size {size} exceeds size limit {limit} of server {host}")
            }
            Self::Aborted => "delivery was interrupted before the end of the message".to_owned(),
        }
    }
}

fn status_of(reply: &Reply) -> EnhancedStatus {
    let bare = EnhancedStatus::of(2, 0, 0).with_severity(reply.severity());
    reply.status.map_or(bare, |status| status.with_severity(reply.severity()))
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RcptOutcome {
    /// The place of the recipient in [`Message::recipients`].
    pub number: usize,
    /// Why; [`Cause::severity`] says whether it was accepted, may be tried again, or never.
    pub cause: Cause,
    /// Whether the peer has DSN, so that it has taken over NOTIFY (RFC 3461 section 5.2.1).
    pub dsn_passed_on: bool,
}

/// Why a session never became ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whether it stands for now or for ever. A 5xx greeting or EHLO is temporary where another host may be better.
    pub severity: Severity,
    /// Why.
    pub cause: Cause,
}
