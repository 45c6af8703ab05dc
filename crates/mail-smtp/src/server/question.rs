//! What the machine asks, what it is told, and what it reports.

use mail_types::{Body, DsnOptions, Notify, Reply};

use crate::{Mailbox, Path};

/// The parsed arguments of MAIL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailCommand {
    /// The reverse-path.
    pub from: Path,
    /// SIZE as declared (RFC 1870).
    pub size: Option<u64>,
    /// BODY (RFC 6152).
    pub body: Body,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// RET and ENVID (RFC 3461).
    pub dsn: DsnOptions,
}

/// The parsed arguments of RCPT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RcptCommand {
    /// The forward-path.
    pub to: Mailbox,
    /// NOTIFY (RFC 3461).
    pub notify: Option<Notify>,
    /// ORCPT, decoded: `type;address`.
    pub orcpt: Option<String>,
}

/// What a client says with XCLIENT about the client that it speaks for; values are decoded, `[UNAVAILABLE]` and `[TEMPUNAVAIL]` included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct XclientCommand {
    /// Names in upper case, with their values.
    pub attributes: Vec<(String, String)>,
}

impl XclientCommand {
    /// The value of an attribute; none where it was not given.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of an attribute, unless it is unknown for now or for ever.
    #[must_use]
    pub fn known(&self, name: &str) -> Option<&str> {
        self.get(name)
            .filter(|value| !["[UNAVAILABLE]", "[TEMPUNAVAIL]"].iter().any(|no| value.eq_ignore_ascii_case(no)))
    }
}

/// What the machine asks the outside. Answers that fit are named at each; every question takes [`Answer::Refuse`] and [`Answer::Hangup`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A client is there. [`Answer::Accept`] greets it; a refusal is the greeting, after which only QUIT works (S01).
    Connect,
    /// HELO, EHLO or LHLO with the name that was given.
    Helo {
        /// The name as it was given.
        name: String,
        /// EHLO or LHLO.
        extended: bool,
    },
    /// A transaction begins.
    Mail(MailCommand),
    /// A recipient. After [`Answer::Accept`] it belongs to the transaction.
    Rcpt(RcptCommand),
    /// VRFY of a mailbox. [`Answer::Accept`] is 252.
    Vrfy(Mailbox),
    /// DATA, with at least one recipient. After [`Answer::Accept`] content follows as [`session::Step::Give`], then
    /// [`Question::EndOfData`] or [`Question::Discard`].
    Data,
    /// The content is complete. [`Answer::Done`] has the reply to SMTP, [`Answer::Recipients`] those to LMTP, one per recipient in their order.
    /// Whatever the answer, the transaction is over.
    EndOfData {
        /// Octets of content, line ends counted as two.
        octets: u64,
    },
    /// The content is complete, and was refused by the machine (too big, bare newline): forget it. [`Answer::Accept`].
    Discard,
    /// The transaction ended without content: RSET, EHLO, STARTTLS. [`Answer::Accept`].
    Reset,
    /// AUTH began; the initial response is decoded, none if there was none. [`Answer::Challenge`], [`Answer::Authenticated`].
    AuthStart {
        /// The mechanism in upper case; one of those offered.
        mechanism: String,
        /// The decoded initial response.
        initial: Option<Vec<u8>>,
    },
    /// A further response of the client, decoded. [`Answer::Challenge`], [`Answer::Authenticated`].
    AuthResponse(Vec<u8>),
    /// The client cancelled AUTH, or its exchange was broken. [`Answer::Accept`].
    AuthCancel,
    /// ETRN of a domain. [`Answer::Done`] has the reply.
    Etrn(String),
    /// XCLIENT: the session is now that of another client, and begins again. Answers as to [`Question::Connect`]; with [`Answer::Done`] nothing has
    /// changed and the reply says why.
    Xclient(XclientCommand),
    /// A command line, where `smtpd_command_filter` may change it. [`Answer::Line`].
    Filter(String),
    /// Something for the log; the machine does not wait for an answer.
    Note(Note),
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes, with the machine's own reply.
    Accept,
    /// No: this reply is sent, a 4xx or 5xx.
    Refuse(Reply),
    /// To [`Question::Connect`] and [`Question::Xclient`]: the first reply is the greeting; every command but QUIT hears the second (S01).
    Shut(Reply, Reply),
    /// This reply is sent and the connection closed: 421, 521, 554.
    Hangup(Reply),
    /// The reply to the end of data; a 2xx says the message is ours.
    Done(Reply),
    /// LMTP's replies to the end of data, one per recipient that was accepted.
    Recipients(Vec<Reply>),
    /// The command line as it is carried out.
    Line(String),
    /// A SASL challenge, not encoded.
    Challenge(Vec<u8>),
    /// The client is who it says (235).
    Authenticated,
}

impl Answer {
    /// The same, where a refusal with a code that ends the session (access(5), RFC 5321 section 3.8) does so.
    #[must_use]
    pub fn ending(self) -> Self {
        match self {
            Self::Refuse(reply) | Self::Shut(reply, _) if matches!(reply.code.get(), 421 | 521) => Self::Hangup(reply),
            other => other,
        }
    }
}

/// What happens outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The server stops: no new transaction, 421 as soon as none is open.
    Drain,
}

/// Something that the log wants to know and the machine has decided alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The machine refused a command by itself; `reply` was sent.
    Refused {
        /// The verb in upper case.
        command: &'static str,
        /// What was said.
        reply: Reply,
    },
    /// A path that is none.
    BadAddress {
        /// The verb in upper case.
        command: &'static str,
        /// What was written.
        text: String,
    },
    /// A command line longer than the limit.
    LongLine,
    /// A client sent commands before it was its turn; also a fact for `reject_unauth_pipelining`.
    Pipelining {
        /// After which command.
        after: &'static str,
        /// The first octets, without control characters.
        text: String,
    },
    /// A verb of `smtpd_forbidden_commands`.
    NotSmtp(String),
    /// A SASL response was no base64, or the exchange was cancelled.
    BadSasl {
        /// The mechanism as the client wrote it.
        mechanism: String,
        /// What was wrong.
        reason: &'static str,
    },
    /// The content held a bare LF.
    BareNewline,
}
