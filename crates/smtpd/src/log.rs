//! Log lines of a session, as Postfix's smtpd and cleanup write them, made from decision records.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use admission::clients::Unanswered;
use admission::judging::{Remark, remark};
use decision::{Counts, Event, Peer, Record, Said, Stage as LogStage};
use mail_daemon::Log;
use mail_policy::{Decision, Stage};
use mail_smtp::server::{Note, Summary};
use mail_types::{EnhancedStatus, QueueId, Reply, Severity, SourceLine};
use session::Close;

use crate::ports::Port;

/// What every line of a session needs.
pub struct SessionLog {
    /// The daemon's log.
    pub log: Log,
    /// The listener; its line of master.cf decides what nothing else does.
    pub port: Arc<Port>,
    /// The session's name in the records.
    pub session: String,
    /// The client's name.
    pub name: String,
    /// The client's address.
    pub address: IpAddr,
    /// The client's port.
    pub client_port: u16,
}

/// A rule and where it is written.
type Rule<'a> = (&'a str, &'a SourceLine);

/// What a refusal is about.
#[derive(Default, Clone, Copy)]
pub struct About<'a> {
    /// The message, if it has an id already.
    pub id: Option<QueueId>,
    /// The sender, if there is one yet.
    pub from: Option<&'a str>,
    /// The recipient, if there is one.
    pub to: Option<&'a str>,
    /// The command, where it is another than its stage says.
    pub command: Option<&'a str>,
    /// `SMTP` or `ESMTP`.
    pub proto: &'a str,
    /// HELO, if it came.
    pub helo: Option<&'a str>,
}

impl SessionLog {
    /// The log of a session that has no client name yet.
    #[must_use]
    pub fn new(log: Log, port: Arc<Port>, client: SocketAddr) -> Self {
        static SESSIONS: AtomicU64 = AtomicU64::new(0);
        let number = SESSIONS.fetch_add(1, Ordering::Relaxed);
        let session = format!("{:x}-{number:x}", std::process::id());
        let (address, client_port) = (client.ip().to_canonical(), client.port());
        Self { log, port, session, name: "unknown".to_owned(), address, client_port }
    }

    /// The client as lines and replies name it.
    pub fn peer(&self) -> Peer<'_> {
        Peer { name: &self.name, address: Some(self.address), port: self.shown_port() }
    }

    /// Its port, where that is shown (`smtpd_client_port_logging`).
    #[must_use]
    pub fn shown_port(&self) -> Option<u16> {
        Some(self.client_port).filter(|_| *self.port.main.smtpd_client_port_logging)
    }

    /// A record of this session, ruled by the listener's line.
    fn record<'a>(&'a self, stage: LogStage, event: Event<'a>, id: Option<QueueId>) -> Record<'a> {
        let record = Record::new(&self.port.ident, stage, event).by(&self.port.name, &self.port.source);
        Record { queue_id: id, session: Some(&self.session), ..record }
    }

    fn write(&self, stage: LogStage, event: Event<'_>, rule: Option<Rule<'_>>) {
        self.log.record(&self.record(stage, event, None).by_any(rule));
    }

    /// `connect from`
    pub fn connected(&self) {
        self.write(LogStage::Connect, Event::Connect { peer: self.peer() }, None);
    }

    /// `warning: ...`, because of a parameter.
    pub fn warning(&self, text: &str, rule: Option<Rule<'_>>) {
        self.write(LogStage::Connect, Event::Warning(text), rule);
    }

    /// Any other line.
    pub fn text(&self, text: &str, rule: Option<Rule<'_>>) {
        self.write(LogStage::Connect, Event::Text(text), rule);
    }

    /// `ID: client=`, with the rule that let the first recipient in.
    pub fn client(&self, id: QueueId, permit: Option<Rule<'_>>, method: Option<&str>, user: Option<&str>) {
        let event = Event::Client { peer: self.peer(), sasl_method: method, sasl_username: user };
        self.log.record(&self.record(LogStage::Recipient, event, Some(id)).by_any(permit));
    }

    /// `NOQUEUE: reject: RCPT from ...`, with the rule that decided.
    pub fn refused(&self, stage: Stage, reply: &Reply, decision: Option<&Decision>, about: About<'_>) {
        self.judged("reject", stage, Said::Reply(reply), decision, about);
    }

    /// A table that could not say what a parameter asks it.
    pub fn unanswered(&self, unanswered: &Unanswered) {
        self.warning(&unanswered.why, Some((unanswered.parameter, &unanswered.source)));
    }

    /// What the rules said beside yes and no: warnings, actions, texts of tables, and yes where that is logged.
    pub fn remarks(&self, stage: Stage, decisions: &[Decision], about: About<'_>) {
        for decision in decisions {
            remark(decision, &self.port.main, |remark| match remark {
                Remark::Line(word, said) => self.judged(word, stage, said, Some(decision), about),
                Remark::Warning(why) => self.warning(why, Some((&decision.rule, &decision.source))),
            });
        }
    }

    fn judged(&self, action: &str, stage: Stage, said: Said<'_>, decision: Option<&Decision>, about: About<'_>) {
        let event = Event::Reject {
            action,
            command: about.command.unwrap_or(stage.command()),
            peer: self.peer(),
            said,
            from: about.from,
            to: about.to,
            proto: about.proto,
            helo: about.helo,
        };
        let reply = if let Said::Reply(reply) = said { Some(reply) } else { None };
        let record = Record { reply, ..self.record(log_stage(stage), event, about.id) };
        let limit = reply.and_then(|reply| self.limit(reply));
        match (decision, limit) {
            (Some(decision), _) => self.log.record(&Record {
                input: Some(&decision.input),
                lookups: &decision.lookups,
                ..record.by(&decision.rule, &decision.source)
            }),
            (None, limit) => self.log.record(&record.by_any(limit)),
        }
    }

    /// The limit that a refusal without a restriction comes from.
    fn limit(&self, reply: &Reply) -> Option<Rule<'_>> {
        let main = &self.port.main;
        let limits = [
            (EnhancedStatus::of(5, 3, 4), "message_size_limit", &main.message_size_limit.source),
            (EnhancedStatus::of(5, 4, 6), "hopcount_limit", &main.hopcount_limit.source),
            (EnhancedStatus::of(5, 5, 3), "smtpd_recipient_limit", &main.smtpd_recipient_limit.source),
        ];
        if reply.code.get() == 530 {
            return Some(("smtpd_tls_security_level", &main.smtpd_tls_security_level.source));
        }
        let status = reply.status?.with_severity(Severity::Permanent);
        limits.into_iter().find(|(of, ..)| *of == status).map(|(_, rule, source)| (rule, source))
    }

    /// What the machine decided alone.
    pub fn note(&self, note: &Note, about: About<'_>) {
        let (peer, main) = (self.peer(), &self.port.main);
        match note {
            Note::Refused { command, reply } if !matches!(reply.code.get(), 501 | 503 | 555) => {
                let stage = match *command {
                    "MAIL" => Stage::Sender,
                    "RCPT" => Stage::Recipient,
                    _ => Stage::EndOfData,
                };
                self.refused(stage, reply, None, about);
            }
            Note::Refused { .. } => {}
            Note::BadAddress { command, text } => {
                self.warning(&format!("Illegal address syntax from {peer} in {command} command: {text}"), None);
            }
            Note::LongLine => {
                let rule = ("line_length_limit", &main.line_length_limit.source);
                self.warning(&format!("{peer}: request longer than the line length limit"), Some(rule));
            }
            Note::Pipelining { after, text } => {
                self.text(&format!("improper command pipelining after {after} from {peer}: {text}"), None);
            }
            Note::NotSmtp(text) => {
                let rule = ("smtpd_forbidden_commands", &main.smtpd_forbidden_commands.source);
                self.warning(&format!("non-SMTP command from {peer}: {text}"), Some(rule));
            }
            Note::BadSasl { mechanism, reason: "aborted" } => {
                let rule = ("smtpd_sasl_auth_enable", &main.smtpd_sasl_auth_enable.source);
                self.warning(&format!("{peer}: SASL {mechanism} authentication aborted"), Some(rule));
            }
            Note::BadSasl { mechanism, reason } => self.login_failed(mechanism, reason, None),
            Note::BareNewline => {
                let rule = ("smtpd_forbid_bare_newline", &main.smtpd_forbid_bare_newline.source);
                self.text(&format!("disconnect: bare <LF> received from {peer}"), Some(rule));
            }
        }
    }

    /// `warning: unknown[192.0.2.1]: SASL LOGIN authentication failed: ..., sasl_username=john`: what fail2ban looks for.
    pub fn login_failed(&self, mechanism: &str, reason: &str, user: Option<&str>) {
        let user = user.unwrap_or("(unavailable)");
        let peer = self.peer();
        let text = format!("{peer}: SASL {mechanism} authentication failed: {reason}, sasl_username={user}");
        let rule = ("smtpd_sasl_auth_enable", &self.port.main.smtpd_sasl_auth_enable.source);
        self.write(LogStage::Login, Event::Warning(&text), Some(rule));
    }

    /// The end of the session: what broke it, and what it did.
    pub fn ended(&self, reason: &Close, summary: &Summary) {
        let main = &self.port.main;
        let (what, rule) = match reason {
            Close::Lost => (Some("lost connection"), None),
            Close::Timeout => (Some("timeout"), Some(("smtpd_timeout", &main.smtpd_timeout.source))),
            Close::Hangup("too many errors") => {
                (Some("too many errors"), Some(("smtpd_hard_error_limit", &main.smtpd_hard_error_limit.source)))
            }
            Close::Hangup("TLS handshake failed") => {
                self.text(&format!("SSL_accept error from {}: handshake failed", self.peer()), None);
                (Some("lost connection"), None)
            }
            _ => (None, None),
        };
        if let Some(what) = what {
            let after = match summary.content_octets {
                Some(octets) => format!("{} ({octets} bytes)", summary.last),
                None => summary.last.to_owned(),
            };
            self.write(LogStage::Connect, Event::Broken { what, after: &after, peer: self.peer() }, rule);
        }
        let counts = Counts(summary.commands.clone());
        self.write(LogStage::Connect, Event::Disconnect { peer: self.peer(), counts: &counts }, None);
    }
}

fn log_stage(stage: Stage) -> LogStage {
    match stage {
        Stage::Client => LogStage::Connect,
        Stage::Helo => LogStage::Helo,
        Stage::Sender => LogStage::Sender,
        Stage::Recipient => LogStage::Recipient,
        Stage::Data | Stage::EndOfData => LogStage::Data,
        Stage::Etrn => LogStage::Queue,
    }
}
