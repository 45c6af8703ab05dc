//! Log lines of a session, as Postfix's smtpd and cleanup write them, made from decision records.

use std::net::IpAddr;

use decision::{Counts, Event, Ident, Peer, Record, Stage as LogStage};
use mail_daemon::Log;
use mail_policy::{Decision, Effect, Stage};
use mail_smtp::server::{Note, Summary};
use mail_types::{QueueId, Reply};
use session::Close;

/// What every line of a session needs.
pub struct SessionLog {
    /// The daemon's log.
    pub log: Log,
    /// `postfix/smtpd`.
    pub ident: Ident,
    /// The client's name.
    pub name: String,
    /// The client's address.
    pub address: IpAddr,
}

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
    fn peer(&self) -> Peer<'_> {
        Peer { name: &self.name, address: Some(self.address) }
    }

    fn write(&self, stage: LogStage, event: Event<'_>, id: Option<QueueId>) {
        self.log.record(&Record { queue_id: id, ..Record::new(&self.ident, stage, event) });
    }

    /// `connect from`
    pub fn connected(&self) {
        self.write(LogStage::Connect, Event::Connect { peer: self.peer() }, None);
    }

    /// `warning: ...`
    pub fn warning(&self, text: &str) {
        self.write(LogStage::Daemon, Event::Warning(text), None);
    }

    /// Any other line.
    pub fn text(&self, text: &str) {
        self.write(LogStage::Connect, Event::Text(text), None);
    }

    /// `ID: client=`
    pub fn client(&self, id: QueueId, sasl_method: Option<&str>, sasl_username: Option<&str>) {
        let event = Event::Client { peer: self.peer(), sasl_method, sasl_username };
        self.write(LogStage::Sender, event, Some(id));
    }

    /// `NOQUEUE: reject: RCPT from ...`, with the rule that decided.
    pub fn refused(&self, stage: Stage, reply: &Reply, decision: Option<&Decision>, about: About<'_>) {
        self.judged("reject", stage, reply, decision, about);
    }

    /// What the rules said beside yes and no: warnings, holds, texts of tables.
    pub fn remarks(&self, stage: Stage, decisions: &[Decision], about: About<'_>) {
        for decision in decisions {
            match &decision.effect {
                Effect::Warn(reply) => self.judged("reject_warning", stage, reply, Some(decision), about),
                Effect::Log(text) => {
                    let line = format!("warn: {} from {}: {text}", command(stage), self.peer());
                    self.write(LogStage::Recipient, Event::Text(&line), about.id);
                }
                Effect::Hold => {
                    let line = format!("hold: {} from {}: {}", command(stage), self.peer(), decision.rule);
                    self.write(LogStage::Recipient, Event::Text(&line), about.id);
                }
                _ => {}
            }
        }
    }

    fn judged(&self, action: &str, stage: Stage, reply: &Reply, decision: Option<&Decision>, about: About<'_>) {
        let event = Event::Reject {
            action,
            command: about.command.unwrap_or(command(stage)),
            peer: self.peer(),
            reply,
            from: about.from,
            to: about.to,
            proto: about.proto,
            helo: about.helo,
        };
        let record =
            Record { queue_id: about.id, reply: Some(reply), ..Record::new(&self.ident, log_stage(stage), event) };
        match decision {
            Some(decision) => self.log.record(&Record {
                rule: Some(&decision.rule),
                source: Some(&decision.source),
                input: Some(&decision.input),
                lookups: &decision.lookups,
                ..record
            }),
            None => self.log.record(&record),
        }
    }

    /// What the machine decided alone.
    pub fn note(&self, note: &Note, about: About<'_>) {
        let peer = self.peer();
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
                self.warning(&format!("Illegal address syntax from {peer} in {command} command: {text}"));
            }
            Note::LongLine => self.warning(&format!("{peer}: request longer than the line length limit")),
            Note::Pipelining { after, text } => {
                self.text(&format!("improper command pipelining after {after} from {peer}: {text}"));
            }
            Note::NotSmtp(text) => self.warning(&format!("non-SMTP command from {peer}: {text}")),
            Note::BadSasl { mechanism, reason: "aborted" } => {
                self.warning(&format!("{peer}: SASL {mechanism} authentication aborted"));
            }
            Note::BadSasl { mechanism, reason } => self.login_failed(mechanism, reason, None),
            Note::BareNewline => self.text(&format!("disconnect: bare <LF> received from {peer}")),
        }
    }

    /// `warning: unknown[192.0.2.1]: SASL LOGIN authentication failed: ..., sasl_username=john`: what fail2ban looks for.
    pub fn login_failed(&self, mechanism: &str, reason: &str, user: Option<&str>) {
        let user = user.unwrap_or("(unavailable)");
        let peer = self.peer();
        let text = format!("{peer}: SASL {mechanism} authentication failed: {reason}, sasl_username={user}");
        self.write(LogStage::Login, Event::Warning(&text), None);
    }

    /// The end of the session: what broke it, and what it did.
    pub fn ended(&self, reason: &Close, summary: &Summary) {
        let what = match reason {
            Close::Lost => Some("lost connection"),
            Close::Timeout => Some("timeout"),
            Close::Hangup("too many errors") => Some("too many errors"),
            Close::Hangup("TLS handshake failed") => {
                self.text(&format!("SSL_accept error from {}: handshake failed", self.peer()));
                Some("lost connection")
            }
            _ => None,
        };
        if let Some(what) = what {
            let after = match summary.content_octets {
                Some(octets) => format!("{} ({octets} bytes)", summary.last),
                None => summary.last.to_owned(),
            };
            self.write(LogStage::Connect, Event::Broken { what, after: &after, peer: self.peer() }, None);
        }
        let counts = Counts(summary.commands.clone());
        self.write(LogStage::Connect, Event::Disconnect { peer: self.peer(), counts: &counts }, None);
    }
}

fn command(stage: Stage) -> &'static str {
    match stage {
        Stage::Client => "CONNECT",
        Stage::Helo => "HELO",
        Stage::Sender => "MAIL",
        Stage::Recipient => "RCPT",
        Stage::Data => "DATA",
        Stage::EndOfData => "END-OF-MESSAGE",
    }
}

fn log_stage(stage: Stage) -> LogStage {
    match stage {
        Stage::Client => LogStage::Connect,
        Stage::Helo => LogStage::Helo,
        Stage::Sender => LogStage::Sender,
        Stage::Recipient => LogStage::Recipient,
        Stage::Data | Stage::EndOfData => LogStage::Data,
    }
}
