//! The session: the real machine of `mail-smtp` hears what the client says, and `mail-policy` answers its questions as in smtpd.

mod desk;
mod judging;
mod login;

use std::sync::Arc;

use admission::settings::machine_settings;
use base64::Engine as _;
use decision::{Event as LogEvent, Ident, Record, Stage as LogStage};
use mail_config::{Listener, ListenerMode};
use mail_smtp::server::Server;
use mail_types::{EnhancedStatus, QueueId, Reply, ReplyCode};
use session::{Machine as _, Moment, Step as Todo};

use super::case::Case;
use super::explanation::{Decider, Outcome, Recipient, Step};
use super::queued::Taken;
use super::setting::{Outside, Setting};
use desk::Desk;

/// What stands in replies and log lines where the queue id will stand.
pub const QUEUE_ID: &str = "QUEUEID";

/// What a session came to.
pub struct Session {
    /// Its commands.
    pub steps: Vec<Step>,
    /// What becomes of it.
    pub outcome: Outcome,
    /// At which command.
    pub at: String,
    /// The reply that says so.
    pub reply: Vec<String>,
    /// The rule that decided.
    pub decider: Option<Decider>,
    /// What became of each recipient that was named.
    pub recipients: Vec<Recipient>,
    /// The log lines.
    pub log: Vec<String>,
    /// The message, where it is taken and not thrown away.
    pub taken: Option<Taken>,
}

/// One command of the client.
struct Said {
    /// As steps and expectations name it.
    name: &'static str,
    /// The line, as it is shown.
    command: String,
    /// Its octets.
    octets: Vec<u8>,
    /// The recipient that it names.
    recipient: Option<String>,
}

/// Runs the session of a case.
pub async fn run(setting: &Setting, outside: &Outside, listener: &Listener, case: &Case) -> Session {
    let main = &listener.main;
    // Those that authd announces.
    let dovecot = login::dovecot(&setting.config);
    let offered = dovecot.settings.auth_mechanisms.iter().map(|name| name.to_ascii_uppercase());
    let mechanisms: Vec<String> = offered.filter(|name| accounts::sasl::MECHANISMS.contains(&name.as_str())).collect();
    let wrapped = listener.mode == ListenerMode::Tls;
    let mut desk = Desk::new(setting, outside, listener, case);
    let settings = desk.settings(machine_settings(main, &mechanisms)).await;
    let mut server = Server::new(Arc::new(settings), wrapped);
    let mut steps: Vec<Step> = Vec::new();
    let mut recipients: Vec<Recipient> = Vec::new();
    for said in commands(case, wrapped) {
        let named = said.recipient.is_some();
        if !named && !recipients.is_empty() && !recipients.iter().any(|one| one.outcome.is_taken()) {
            break;
        }
        let octets = desk.converse(&mut server, &said.octets).await;
        let text = String::from_utf8_lossy(&octets).into_owned();
        let reply: Vec<String> = text.split_terminator("\r\n").map(str::to_owned).collect();
        let (rules, facts) = (std::mem::take(&mut desk.rules), std::mem::take(&mut desk.facts));
        steps.push(Step { command: said.command, rules, facts, reply: reply.clone() });
        let refused = refused(&reply);
        let decider = match refused {
            Some(_) => desk.decider.take().or_else(|| desk.limit(&reply)),
            None => desk.permit.clone(),
        };
        if let Some(given) = said.recipient {
            let outcome = refused.unwrap_or(Outcome::Accept);
            recipients.push(Recipient {
                given,
                outcome,
                reply: reply.clone(),
                decided_by: decider,
                rewritten: None,
                destinations: Vec::new(),
            });
            if !is_closed(&reply) {
                continue;
            }
        } else if let Some(outcome) = refused {
            let at = said.name.to_owned();
            return Session { steps, outcome, at, reply, decider, recipients, log: desk.log, taken: None };
        }
        if is_closed(&reply) {
            break;
        }
    }
    ended(desk, case, steps, recipients)
}

/// A session whose last command was not refused, or that had nobody left to send to.
fn ended(desk: Desk<'_>, case: &Case, steps: Vec<Step>, mut recipients: Vec<Recipient>) -> Session {
    let refused = recipients.iter().all(|one| !one.outcome.is_taken());
    if let Some(first) = recipients.first().filter(|_| refused) {
        let (outcome, reply, decider) = (first.outcome, first.reply.clone(), first.decided_by.clone());
        return Session {
            steps,
            outcome,
            at: "RCPT".to_owned(),
            reply,
            decider,
            recipients,
            log: desk.log,
            taken: None,
        };
    }
    let reply = steps.last().map(|step| step.reply.clone()).unwrap_or_default();
    let outcome = match &desk.actions {
        _ if case.command.is_some() => Outcome::Accept,
        actions if actions.discard => Outcome::Discard,
        actions if actions.hold => Outcome::Hold,
        _ => Outcome::Accept,
    };
    for taken in recipients.iter_mut().filter(|one| one.outcome.is_taken()) {
        taken.outcome = outcome;
    }
    let at = case.command.as_ref().map_or("end of data", super::case::Command::verb).to_owned();
    let permit = recipients.iter().find(|one| one.outcome.is_taken()).and_then(|one| one.decided_by.clone());
    let decider = permit.or(desk.permit);
    // What is thrown away goes nowhere.
    let taken = desk.taken.filter(|_| outcome != Outcome::Discard);
    Session { steps, outcome, at, reply, decider, recipients, log: desk.log, taken }
}

/// What the client says.
fn commands(case: &Case, wrapped: bool) -> Vec<Said> {
    let ehlo = format!("EHLO {}", case.helo);
    let mut all = vec![Said { name: "connect", command: String::new(), octets: Vec::new(), recipient: None }];
    let mut say = |name: &'static str, command: String, recipient: Option<&String>| {
        let octets = format!("{command}\r\n").into_bytes();
        all.push(Said { name, command, octets, recipient: recipient.cloned() });
    };
    say("EHLO", ehlo.clone(), None);
    if case.tls && !wrapped {
        say("STARTTLS", "STARTTLS".to_owned(), None);
        say("EHLO", ehlo, None);
    }
    if let Some(user) = &case.auth {
        let response = base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0"));
        say("AUTH", format!("AUTH PLAIN {response}"), None);
    }
    if let Some(command) = &case.command {
        say(command.verb(), command.line(), None);
        return all;
    }
    let size = case.size.map_or_else(String::new, |size| format!(" SIZE={size}"));
    say("MAIL", format!("MAIL FROM:<{}>{size}", case.from), None);
    case.to.iter().for_each(|to| say("RCPT", format!("RCPT TO:<{to}>"), Some(to)));
    say("DATA", "DATA".to_owned(), None);
    say("end of data", ".".to_owned(), None);
    all
}

/// What a reply that is a refusal comes to.
fn refused(reply: &[String]) -> Option<Outcome> {
    match reply.last().and_then(|line| line.chars().next()) {
        Some('2' | '3') => None,
        Some('5') => Some(Outcome::Reject),
        _ => Some(Outcome::Defer),
    }
}

/// Whether a reply ends the session (access(5), RFC 5321 section 3.8).
fn is_closed(reply: &[String]) -> bool {
    reply.last().is_none_or(|line| line.starts_with("421") || line.starts_with("521"))
}

fn reply(code: u16, (class, subject, detail): (u8, u16, u16), text: impl Into<String>) -> Reply {
    Reply::new(ReplyCode::of(code), EnhancedStatus::of(class, subject, detail), text)
}

impl Desk<'_> {
    /// Gives the machine a command and collects what it sends.
    async fn converse(&mut self, server: &mut Server, mut input: &[u8]) -> Vec<u8> {
        let (mut out, mut now) = (Vec::new(), Moment::default());
        loop {
            match server.next(now) {
                Todo::Send(octets) => out.extend(octets),
                Todo::Ask(id, question) => {
                    if let Some(answer) = self.answer(question).await {
                        server.answer(id, answer);
                    }
                }
                Todo::Give(_) => {}
                Todo::StartTls => {
                    server.tls_started();
                    self.tls_started();
                }
                Todo::Close(_) => return out,
                Todo::Wait if !input.is_empty() => {
                    let taken = server.receive(input);
                    input = &input[taken..];
                    if taken == 0 {
                        return out;
                    }
                }
                // A pause before a reply is not waited for.
                Todo::Wait => match server.deadline() {
                    Some(deadline) if out.is_empty() && deadline <= now.after(std::time::Duration::from_secs(10)) => {
                        now = deadline;
                    }
                    _ => return out,
                },
            }
        }
    }
}

/// A line for the log; the queue id that the message will have is [`QUEUE_ID`].
pub(super) fn line(ident: &Ident, stage: LogStage, event: LogEvent<'_>, id: Option<QueueId>) -> String {
    let record = Record { queue_id: id, ..Record::new(ident, stage, event) };
    let mut line = record.to_string();
    if let Some(id) = id {
        line = line.replacen(&id.to_string(), QUEUE_ID, 1);
    }
    format!("{}: {line}", ident.as_str())
}
