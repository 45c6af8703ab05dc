//! The decision record: what every daemon emits for everything it decides about a message, a session or a login.
//!
//! A [`Record`] says who decided ([`Ident`], session, queue id), at which [`Stage`], by which rule from which file and line, on which input, after
//! which lookups, with which outcome and reply. Its [`Event`] prints as the log line in Postfix's or Dovecot's grammar, so that the tools which
//! read those logs read ours. The same record serialises as JSON for sinks that ask for it.
//!
//! Owned here: the type, the grammar, the escaping of hostile text. Not here: files, sockets, the clock; `mail-daemon` writes the records down.
//! Secrets (passwords, SASL blobs, values of secret tables) never enter a record.

mod event;
mod json;
mod text;

pub use event::{Counts, Delivery, Event, LoginEvent, Peer, Said};
pub use json::ascii_json;
pub use text::{Delay, Safe};

use std::borrow::Cow;
use std::fmt;

use mail_types::{QueueId, Reply, SourceLine};
use serde::Serialize;

/// How serious a record is; the word before the text of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The ordinary course of things; no word.
    Info,
    /// `warning:`
    Warning,
    /// `error:`
    Error,
    /// `fatal:`: the process ends.
    Fatal,
}

/// Where in the journey of a message, session or login something was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// A daemon's own life: start, reload, end.
    Daemon,
    /// A connection came or went.
    Connect,
    /// HELO or EHLO.
    Helo,
    /// A login.
    Login,
    /// MAIL.
    Sender,
    /// RCPT.
    Recipient,
    /// Content, and the hand-over to the queue.
    Data,
    /// A change of state in the queue.
    Queue,
    /// A delivery attempt.
    Delivery,
    /// A session on a mailbox.
    Mailbox,
}

/// One table that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lookup {
    /// The table, such as `hash:/etc/aliases`.
    pub table: String,
    /// The key.
    pub key: String,
    /// What was found; none if nothing was.
    pub value: Option<String>,
    /// The line of the table that answered.
    #[serde(serialize_with = "json::shown_or_none")]
    pub source: Option<SourceLine>,
}

/// Who writes a line: the text before `[PID]:`, such as `postfix/smtpd`, `postfix/submission/smtpd` or `dovecot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Ident(Cow<'static, str>);

impl Ident {
    /// The ident of a Postfix program under a `syslog_name`, such as `postfix` and `smtpd`.
    #[must_use]
    pub fn postfix(syslog_name: &str, program: &str) -> Self {
        Self(Cow::Owned(format!("{syslog_name}/{program}")))
    }

    /// `dovecot`, whose lines name the service in the text.
    #[must_use]
    pub fn dovecot() -> Self {
        Self(Cow::Borrowed("dovecot"))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether its lines are in Dovecot's grammar.
    #[must_use]
    pub fn is_dovecot(&self) -> bool {
        self.0 == "dovecot"
    }
}

/// What one daemon decided, with everything needed to explain it.
#[derive(Debug, Clone, Serialize)]
pub struct Record<'a> {
    /// Who writes.
    pub ident: &'a Ident,
    /// How serious it is.
    pub level: Level,
    /// Where in the journey.
    pub stage: Stage,
    /// The session, as its other lines name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<&'a str>,
    /// The message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_id: Option<QueueId>,
    /// The rule that decided, such as `reject_unauth_destination`; where there is none of its own, the event is the rule.
    pub rule: Option<&'a str>,
    /// Where the rule is written; none where no file decides.
    #[serde(serialize_with = "json::source")]
    pub source: Option<&'a SourceLine>,
    /// What was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<&'a str>,
    /// The tables asked.
    #[serde(skip_serializing_if = "<[Lookup]>::is_empty")]
    pub lookups: &'a [Lookup],
    /// What the peer was told.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "json::shown_or_none")]
    pub reply: Option<&'a Reply>,
    /// What happened; prints as the log line.
    #[serde(flatten)]
    pub event: Event<'a>,
}

impl<'a> Record<'a> {
    /// A record with only what every record has; fill in the rest with struct update.
    #[must_use]
    pub fn new(ident: &'a Ident, stage: Stage, event: Event<'a>) -> Self {
        Self {
            ident,
            level: event.level(),
            stage,
            session: None,
            queue_id: None,
            rule: Some(event.name()),
            source: None,
            input: None,
            lookups: &[],
            reply: None,
            event,
        }
    }

    /// The same record with the rule that decided and where it is written.
    #[must_use]
    pub fn by(mut self, rule: &'a str, source: &'a SourceLine) -> Self {
        self.rule = Some(rule);
        self.source = Some(source);
        self
    }

    /// The same record with a rule, if there is one.
    #[must_use]
    pub fn by_any(self, rule: Option<(&'a str, &'a SourceLine)>) -> Self {
        match rule {
            Some((rule, source)) => self.by(rule, source),
            None => self,
        }
    }

    /// The same record about a message.
    #[must_use]
    pub fn about(mut self, id: QueueId) -> Self {
        self.queue_id = Some(id);
        self
    }

    /// How much of this record's line names the service, where the line is in Dovecot's grammar (`imap-login: `): the level stands behind that.
    #[must_use]
    pub fn service_length(&self, line: &str) -> Option<usize> {
        self.ident.is_dovecot().then(|| self.event.service_length(line))
    }

    fn fmt_dovecot(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.event.to_string();
        let (service, rest) = text.split_at(self.event.service_length(&text));
        let word = match self.level {
            Level::Info => "",
            Level::Warning => "Warning: ",
            Level::Error => "Error: ",
            Level::Fatal => "Fatal: ",
        };
        write!(f, "{service}{word}{rest}")
    }
}

impl fmt::Display for Record<'_> {
    /// The text of the log line after `IDENT[PID]: `, all of it within 0x20-0x7e.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ident.is_dovecot() {
            return self.fmt_dovecot(f);
        }
        match self.level {
            Level::Info => {}
            Level::Warning => f.write_str("warning: ")?,
            Level::Error => f.write_str("error: ")?,
            Level::Fatal => f.write_str("fatal: ")?,
        }
        match (self.queue_id, self.event.wants_queue_id()) {
            (Some(id), true) => write!(f, "{id}: ")?,
            (None, true) if self.event.says_noqueue() => f.write_str("NOQUEUE: ")?,
            _ => {}
        }
        self.event.fmt(f)
    }
}
