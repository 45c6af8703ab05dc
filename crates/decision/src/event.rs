//! What happened, and how it reads in the grammar of Postfix's and Dovecot's logs.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use mail_types::{EnhancedStatus, QueueId, Reply};
use serde::Serialize;

use crate::Level;
use crate::text::{Delay, Safe};

/// A peer as Postfix writes it: `name[address]`.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Peer<'a> {
    /// The verified name, or `unknown`.
    pub name: &'a str,
    /// The address; none for local submission.
    pub address: Option<IpAddr>,
    /// The port, where it is logged (`smtpd_client_port_logging`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl fmt::Display for Peer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}[{address}]", Safe(self.name))?,
            None => write!(f, "{}", Safe(self.name))?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The commands of an SMTP session that ended: `ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts(pub Vec<(&'static str, u32, u32)>);

impl fmt::Display for Counts {
    /// Each entry is (command, successful, all); the sum stands last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut good, mut all) = (0, 0);
        for &(name, ok, total) in self.0.iter().filter(|entry| entry.2 > 0) {
            good += ok;
            all += total;
            write_count(f, name, ok, total)?;
            f.write_str(" ")?;
        }
        // A session without commands ends in 0/0, for which tools look.
        if all == 0 { f.write_str("commands=0/0") } else { write_count(f, "commands", good, all) }
    }
}

fn write_count(f: &mut fmt::Formatter<'_>, name: &str, ok: u32, total: u32) -> fmt::Result {
    if ok == total { write!(f, "{name}={total}") } else { write!(f, "{name}={ok}/{total}") }
}

/// The end of one attempt for one recipient.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery<'a> {
    /// The recipient.
    pub to: &'a str,
    /// What the client wrote, if that is something else.
    pub orig_to: Option<&'a str>,
    /// `local`, `host[address]:port`, `none` ...
    pub relay: &'a str,
    /// The time since arrival; in JSON in seconds, as are the next.
    #[serde(serialize_with = "crate::json::seconds")]
    pub delay: Duration,
    /// Before the queue manager, in the queue, connection set-up, transmission.
    #[serde(serialize_with = "crate::json::all_seconds")]
    pub delays: [Duration; 4],
    /// The enhanced status.
    pub dsn: EnhancedStatus,
    /// `sent`, `deferred`, `bounced`, `expired`, `undeliverable` ...
    pub status: &'a str,
    /// The reason in words.
    pub text: &'a str,
}

/// A login or a session on a mailbox, in Dovecot's words.
#[derive(Debug, Clone, Serialize)]
pub struct LoginEvent<'a> {
    /// `imap-login`, `pop3-login`.
    pub service: &'a str,
    /// What happened: `Login`, `Disconnected (auth failed, 1 attempts in 2 secs)`, `Aborted login (no auth attempts in 0 secs)` ...
    pub what: &'a str,
    /// The user name; none if none was tried.
    pub user: Option<&'a str>,
    /// The master user who logged in as that user; none for the user. The line shows it where `login_log_format_elements` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<&'a str>,
    /// The mechanism; none if none was tried.
    pub method: Option<&'a str>,
    /// The peer's address.
    pub rip: IpAddr,
    /// Our address.
    pub lip: IpAddr,
    /// The session process, for a login.
    pub mpid: Option<u32>,
    /// `TLS`, `secured`, or nothing.
    pub security: Option<&'a str>,
    /// The session's name.
    pub session: &'a str,
    /// The line behind the service, where the configuration gives it a form of its own.
    #[serde(skip)]
    pub line: Option<&'a str>,
}

/// The words of a rule.
#[derive(Debug, Clone, Copy)]
pub enum Said<'a> {
    /// To the client.
    Reply(&'a Reply),
    /// To the log alone.
    Text(&'a str),
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply(reply) => reply.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// What happened. Its `Display` is the text of the log line.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event", content = "values")]
#[non_exhaustive]
pub enum Event<'a> {
    /// `connect from unknown[192.0.2.1]`
    Connect {
        /// Who.
        peer: Peer<'a>,
    },
    /// `lost connection after RCPT from unknown[192.0.2.1]`, `timeout after ...`, `too many errors after ...`
    Broken {
        /// `lost connection`, `timeout`, `too many errors` ...
        what: &'a str,
        /// The last command.
        after: &'a str,
        /// Who.
        peer: Peer<'a>,
    },
    /// `disconnect from unknown[192.0.2.1] ehlo=1 quit=1 commands=2`
    Disconnect {
        /// Who.
        peer: Peer<'a>,
        /// The commands.
        counts: &'a Counts,
    },
    /// `ID: client=unknown[192.0.2.1], sasl_method=PLAIN, sasl_username=john`
    Client {
        /// Who.
        peer: Peer<'a>,
        /// The mechanism.
        sasl_method: Option<&'a str>,
        /// The user.
        sasl_username: Option<&'a str>,
    },
    /// `ID: uid=1000 from=<john>`: local submission.
    Pickup {
        /// The uid.
        uid: u32,
        /// The sender as given.
        from: &'a str,
    },
    /// `NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 554 5.7.1 ...; from=<a@b> to=<x@y> proto=ESMTP helo=<c>`
    Reject {
        /// `reject`, `reject_warning`, `hold`, `warn`, `info`.
        action: &'a str,
        /// `CONNECT`, `HELO`, `MAIL`, `RCPT`, `DATA`, `END-OF-MESSAGE`.
        command: &'a str,
        /// Who.
        peer: Peer<'a>,
        /// The reply, or the words of the rule where nobody was refused.
        #[serde(serialize_with = "crate::json::shown")]
        said: Said<'a>,
        /// The sender, if there is one yet.
        from: Option<&'a str>,
        /// The recipient, if there is one.
        to: Option<&'a str>,
        /// The protocol.
        proto: &'a str,
        /// HELO, if it came.
        helo: Option<&'a str>,
    },
    /// `ID: message-id=<...>`
    MessageId {
        /// With its angle brackets.
        message_id: &'a str,
    },
    /// `ID: from=<a@b>, size=1234, nrcpt=1 (queue active)`
    Active {
        /// The sender.
        from: &'a str,
        /// Octets.
        size: u64,
        /// Recipients still open.
        nrcpt: u32,
    },
    /// `ID: to=<...>, relay=..., delay=..., delays=a/b/c/d, dsn=..., status=...`
    Delivery(Delivery<'a>),
    /// `ID: from=<a@b>, status=expired, returned to sender`
    Expired {
        /// The sender.
        from: &'a str,
        /// `expired`, or `force-expired` by an operator.
        status: &'a str,
    },
    /// `ID: sender non-delivery notification: ID2`
    Notice {
        /// `sender non-delivery`, `sender delay`, `sender delivery status`.
        kind: &'a str,
        /// The new message.
        notice: QueueId,
    },
    /// `ID: removed`
    Removed,
    /// `imap-login: Login: user=<john>, method=PLAIN, rip=..., lip=..., mpid=..., TLS, session=<...>`
    Login(LoginEvent<'a>),
    /// `imap(john)<123><session>: Disconnected: Logged out in=10 out=20`
    Mailbox {
        /// `imap`, `pop3`.
        service: &'a str,
        /// Whose.
        user: &'a str,
        /// The session process.
        pid: u32,
        /// The session's name.
        session: &'a str,
        /// What happened.
        text: &'a str,
    },
    /// Any other line, about a message if the record names one.
    Text(&'a str),
    /// A warning.
    Warning(&'a str),
    /// An error.
    Error(&'a str),
}

impl Event<'_> {
    /// How serious an event is unless its record says otherwise.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Warning(_) => Level::Warning,
            Self::Error(_) => Level::Error,
            _ => Level::Info,
        }
    }

    /// Whether the line begins with the queue id, where the record has one.
    #[must_use]
    pub fn wants_queue_id(&self) -> bool {
        !matches!(
            self,
            Self::Connect { .. }
                | Self::Disconnect { .. }
                | Self::Broken { .. }
                | Self::Login(_)
                | Self::Mailbox { .. }
        )
    }

    /// The event's name: the rule of a record that has no rule of its own.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Broken { .. } => "broken",
            Self::Disconnect { .. } => "disconnect",
            Self::Client { .. } => "client",
            Self::Pickup { .. } => "pickup",
            Self::Reject { .. } => "reject",
            Self::MessageId { .. } => "message-id",
            Self::Active { .. } => "active",
            Self::Delivery(_) => "delivery",
            Self::Expired { .. } => "expired",
            Self::Notice { .. } => "notice",
            Self::Removed => "removed",
            Self::Login(_) => "login",
            Self::Mailbox { .. } => "mailbox",
            Self::Text(_) => "text",
            Self::Warning(_) => "warning",
            Self::Error(_) => "error",
        }
    }

    /// How many octets of the event's text name the service: `imap-login: `, `imap(john)<123><session>: `, `auth: `.
    #[must_use]
    pub fn service_length(&self, text: &str) -> usize {
        let whole = |found: &str| text.find(found).map_or(0, |at| at + found.len());
        match self {
            // A user's name may hold anything; a session's ends the part that names the service.
            Self::Mailbox { service, user, pid, session, .. } => {
                format!("{service}({})<{pid}><{session}>: ", Safe(user)).len().min(text.len())
            }
            _ => whole(": "),
        }
    }

    /// Whether `NOQUEUE` stands in the place of a missing queue id.
    #[must_use]
    pub fn says_noqueue(&self) -> bool {
        matches!(self, Self::Reject { .. })
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { peer } => write!(f, "connect from {peer}"),
            Self::Broken { what, after, peer } => write!(f, "{what} after {} from {peer}", Safe(after)),
            Self::Disconnect { peer, counts } => write!(f, "disconnect from {peer} {counts}"),
            Self::Client { peer, sasl_method, sasl_username } => {
                write!(f, "client={peer}")?;
                write_optional(f, ", sasl_method=", *sasl_method)?;
                write_optional(f, ", sasl_username=", *sasl_username)
            }
            Self::Pickup { uid, from } => write!(f, "uid={uid} from=<{}>", Safe(from)),
            Self::Reject { .. } => self.write_reject(f),
            Self::MessageId { message_id } => write!(f, "message-id={}", Safe(message_id)),
            Self::Active { from, size, nrcpt } => {
                write!(f, "from=<{}>, size={size}, nrcpt={nrcpt} (queue active)", Safe(from))
            }
            Self::Delivery(delivery) => delivery.fmt(f),
            Self::Expired { from, status } => write!(f, "from=<{}>, status={status}, returned to sender", Safe(from)),
            Self::Notice { kind, notice } => write!(f, "{kind} notification: {notice}"),
            Self::Removed => f.write_str("removed"),
            Self::Login(login) => login.fmt(f),
            Self::Mailbox { service, user, pid, session, text } => {
                write!(f, "{service}({})<{pid}><{session}>: {}", Safe(user), Safe(text))
            }
            Self::Text(text) | Self::Warning(text) | Self::Error(text) => write!(f, "{}", Safe(text)),
        }
    }
}

fn write_optional(f: &mut fmt::Formatter<'_>, name: &str, value: Option<&str>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, "{name}{}", Safe(value)))
}

impl Event<'_> {
    fn write_reject(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Reject { action, command, peer, said, from, to, proto, helo } = self else {
            return Ok(());
        };
        write!(f, "{action}: {command} from {peer}: {};", Safe(said))?;
        if let Some(from) = from {
            write!(f, " from=<{}>", Safe(from))?;
        }
        if let Some(to) = to {
            write!(f, " to=<{}>", Safe(to))?;
        }
        write!(f, " proto={proto}")?;
        helo.map_or(Ok(()), |helo| write!(f, " helo=<{}>", Safe(helo)))
    }
}

impl fmt::Display for Delivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to=<{}>, ", Safe(self.to))?;
        if let Some(orig_to) = self.orig_to {
            write!(f, "orig_to=<{}>, ", Safe(orig_to))?;
        }
        let [a, b, c, d] = self.delays.map(Delay);
        write!(f, "relay={}, delay={}, delays={a}/{b}/{c}/{d}, ", Safe(self.relay), Delay(self.delay))?;
        write!(f, "dsn={}, status={} ({})", self.dsn, self.status, Safe(self.text))
    }
}

impl fmt::Display for LoginEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            return write!(f, "{}: {}", self.service, Safe(line));
        }
        write!(f, "{}: {}: ", self.service, Safe(self.what))?;
        if let Some(user) = self.user {
            write!(f, "user=<{}>, ", Safe(user))?;
        } else {
            f.write_str("user=<>, ")?;
        }
        write_optional(f, "method=", self.method)?;
        if self.method.is_some() {
            f.write_str(", ")?;
        }
        write!(f, "rip={}, lip={}, ", self.rip, self.lip)?;
        if let Some(mpid) = self.mpid {
            write!(f, "mpid={mpid}, ")?;
        }
        if let Some(security) = self.security {
            write!(f, "{security}, ")?;
        }
        write!(f, "session=<{}>", Safe(self.session))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ident, Record, Stage};
    use mail_types::ReplyCode;

    fn line(record: &Record<'_>) -> String {
        record.to_string()
    }

    #[test]
    fn a_delivery_reads_as_in_postfix() {
        let ident = Ident::postfix("postfix", "local");
        let event = Event::Delivery(Delivery {
            to: "john@info.net",
            orig_to: Some("root"),
            relay: "local",
            delay: Duration::from_millis(100),
            delays: [Duration::from_millis(50), Duration::ZERO, Duration::from_millis(50), Duration::ZERO],
            dsn: EnhancedStatus::of(2, 0, 0),
            status: "sent",
            text: "delivered to maildir",
        });
        let id: QueueId = "4gT1bz0Lk9zB".parse().expect("an id");
        assert_eq!(
            line(&Record::new(&ident, Stage::Delivery, event).about(id)),
            "4gT1bz0Lk9zB: to=<john@info.net>, orig_to=<root>, relay=local, delay=0.1, delays=0.05/0/0.05/0, dsn=2.0.0, \
             status=sent (delivered to maildir)"
        );
    }

    #[test]
    fn a_refusal_names_what_fail2ban_looks_for() {
        let ident = Ident::postfix("postfix", "smtpd");
        let reply = Reply::new(ReplyCode::of(554), EnhancedStatus::of(5, 7, 1), "<x@y.z>: Relay access denied");
        let event = Event::Reject {
            action: "reject",
            command: "RCPT",
            peer: Peer { name: "unknown", address: Some([192, 0, 2, 1].into()), port: None },
            said: Said::Reply(&reply),
            from: Some("a@b"),
            to: Some("x@y.z"),
            proto: "ESMTP",
            helo: Some("evil\r\nname"),
        };
        assert_eq!(
            line(&Record::new(&ident, Stage::Recipient, event)),
            "NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 554 5.7.1 <x@y.z>: Relay access denied; from=<a@b> to=<x@y.z> \
             proto=ESMTP helo=<evil??name>"
        );
    }

    #[test]
    fn a_login_reads_as_in_dovecot() {
        let event = Event::Login(LoginEvent {
            service: "imap-login",
            what: "Login",
            user: Some("john"),
            master: Some("admin"),
            method: Some("PLAIN"),
            rip: [192, 0, 2, 1].into(),
            lip: [192, 0, 2, 2].into(),
            mpid: Some(7),
            security: Some("TLS"),
            session: "abc",
            line: None,
        });
        assert_eq!(
            line(&Record::new(&Ident::dovecot(), Stage::Login, event)),
            "imap-login: Login: user=<john>, method=PLAIN, rip=192.0.2.1, lip=192.0.2.2, mpid=7, TLS, session=<abc>"
        );
    }

    #[test]
    fn a_session_that_ended_counts_its_commands() {
        let counts = Counts(vec![("ehlo", 1, 1), ("mail", 1, 1), ("rcpt", 0, 1), ("data", 0, 0), ("quit", 1, 1)]);
        assert_eq!(counts.to_string(), "ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4");
        assert_eq!(Counts::default().to_string(), "commands=0/0");
    }
}
