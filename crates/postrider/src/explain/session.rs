//! The session: the real machine of `mail-smtp` hears what the client says, and `mail-policy` answers its questions as in smtpd.

use std::sync::Arc;

use admission::facts::{Fetched, View};
use admission::settings::machine_settings;
use base64::Engine as _;
use decision::{Event as LogEvent, Ident, Peer, Record, Said, Stage as LogStage};
use mail_config::{Listener, ListenerMode};
use mail_policy::{Actions, ClientName, Decision, Effect, Input, Outcome as Judged, Plan, Stage, Verdict, evaluate};
use mail_smtp::server::{Answer, Note, Question, Server};
use mail_smtp::{Mailbox, Path};
use mail_types::{Address, Domain, EnhancedStatus, QueueId, Reply, ReplyCode, Sender};
use session::{Machine as _, Moment, Step as Todo};

use super::case::Case;
use super::explanation::{Decider, Fact, Outcome, Rule, Step};
use super::setting::{Outside, Route, Setting};

/// How often one command may ask for one more fact, as in smtpd.
const FACTS_MAX: usize = 100;
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
    /// The log lines.
    pub log: Vec<String>,
    /// The sender and the recipients, where the message is taken.
    pub taken: Option<Taken>,
}

/// The envelope of a message that was taken.
pub struct Taken {
    /// The sender, complete.
    pub sender: Sender,
    /// The recipient, complete.
    pub recipient: Address,
    /// Those who get the mail, after canonical maps and virtual aliases.
    pub queued: Vec<Address>,
    /// `REDIRECT` of an access table: it gets the mail instead.
    pub redirect: Option<Address>,
    /// `BCC` of access tables.
    pub bcc: Vec<Address>,
}

/// Who answers the machine's questions.
struct Desk<'a> {
    setting: &'a Setting,
    outside: &'a Outside,
    listener: &'a Listener,
    case: &'a Case,
    plan: Plan,
    ident: Ident,
    fetched: Fetched,
    name: ClientName,
    helo: Option<String>,
    extended: bool,
    tls: bool,
    user: Option<String>,
    pipelining: bool,
    sender: Option<Sender>,
    recipient: Option<(Address, Vec<Address>)>,
    /// The recipient of the command under way.
    judging: Option<Address>,
    /// The sender as the client writes it.
    sender_text: Option<String>,
    /// What access tables want done with the message.
    actions: Actions,
    deferral: Option<Reply>,
    /// What the command under way brought.
    rules: Vec<Rule>,
    facts: Vec<Fact>,
    log: Vec<String>,
    decider: Option<Decider>,
    permit: Option<Decider>,
}

/// Runs the session of a case.
pub async fn run(setting: &Setting, outside: &Outside, listener: &Listener, case: &Case) -> Session {
    let main = &listener.main;
    // Those that authd announces.
    let offered = setting.config.dovecot.settings.auth_mechanisms.iter().map(|name| name.to_ascii_uppercase());
    let mechanisms: Vec<String> = offered.filter(|name| accounts::sasl::MECHANISMS.contains(&name.as_str())).collect();
    let wrapped = listener.mode == ListenerMode::Tls;
    let mut server = Server::new(Arc::new(machine_settings(main, &mechanisms)), wrapped);
    let mut desk = Desk {
        setting,
        outside,
        listener,
        case,
        plan: Plan::new(Arc::clone(main)),
        ident: Ident::postfix(&main.syslog_name, "smtpd"),
        fetched: Fetched::default(),
        name: ClientName::default(),
        helo: None,
        extended: false,
        tls: wrapped,
        user: None,
        pipelining: false,
        sender: None,
        recipient: None,
        judging: None,
        sender_text: None,
        actions: Actions::default(),
        deferral: None,
        rules: Vec::new(),
        facts: Vec::new(),
        log: Vec::new(),
        decider: None,
        permit: None,
    };
    let mut steps: Vec<Step> = Vec::new();
    for (name, command, input) in commands(case, wrapped) {
        let octets = desk.converse(&mut server, &input).await;
        let text = String::from_utf8_lossy(&octets).into_owned();
        let reply: Vec<String> = text.split_terminator("\r\n").map(str::to_owned).collect();
        let (rules, facts) = (std::mem::take(&mut desk.rules), std::mem::take(&mut desk.facts));
        steps.push(Step { command, rules, facts, reply: reply.clone() });
        if let Some(outcome) = refused(&reply) {
            let decider = desk.decider.take().or_else(|| desk.limit(&reply));
            return Session { steps, outcome, at: name, reply, decider, log: desk.log, taken: None };
        }
    }
    let reply = steps.last().map(|step| step.reply.clone()).unwrap_or_default();
    let outcome = match &desk.actions {
        Actions { discard: true, .. } => Outcome::Discard,
        Actions { hold: true, .. } => Outcome::Hold,
        _ => Outcome::Accept,
    };
    let actions = desk.actions;
    let taken = desk.sender.zip(desk.recipient);
    // What is thrown away goes nowhere.
    let taken = taken.filter(|_| outcome != Outcome::Discard);
    let taken = taken.map(|(sender, (recipient, queued))| Taken {
        sender,
        recipient,
        queued,
        redirect: actions.redirect,
        bcc: actions.bcc,
    });
    Session { steps, outcome, at: "end of data".to_owned(), reply, decider: desk.permit, log: desk.log, taken }
}

/// What the client says: the name of each step, its command as it is shown, and its octets.
fn commands(case: &Case, wrapped: bool) -> Vec<(String, String, Vec<u8>)> {
    let ehlo = format!("EHLO {}", case.helo);
    let mut all = vec![("connect".to_owned(), String::new(), Vec::new())];
    let mut say = |name: &str, command: String| {
        let octets = format!("{command}\r\n").into_bytes();
        all.push((name.to_owned(), command, octets));
    };
    say("EHLO", ehlo.clone());
    if case.tls && !wrapped {
        say("STARTTLS", "STARTTLS".to_owned());
        say("EHLO", ehlo);
    }
    if let Some(user) = &case.auth {
        let response = base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0"));
        say("AUTH", format!("AUTH PLAIN {response}"));
    }
    let size = case.size.map_or_else(String::new, |size| format!(" SIZE={size}"));
    say("MAIL", format!("MAIL FROM:<{}>{size}", case.from));
    say("RCPT", format!("RCPT TO:<{}>", case.to));
    say("DATA", "DATA".to_owned());
    say("end of data", ".".to_owned());
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

    async fn answer(&mut self, question: Question) -> Option<Answer> {
        Some(match question {
            Question::Connect => {
                self.find_name().await;
                let peer = self.peer_name();
                let event = LogEvent::Connect { peer: Peer { name: &peer, address: Some(self.case.client) } };
                let line = line(&self.ident, LogStage::Connect, event, None);
                self.log.push(line);
                self.judge(Stage::Client, None).await.map_or_else(Answer::Refuse, |()| Answer::Accept)
            }
            Question::Helo { name, extended } => {
                self.helo = Some(name);
                self.extended = extended;
                self.judge(Stage::Helo, None).await.map_or_else(Answer::Refuse, |()| Answer::Accept)
            }
            Question::Mail(mail) => self.mail(&mail.from).await.map_or_else(Answer::Refuse, |()| Answer::Accept),
            Question::Rcpt(command) => self.rcpt(&command.to).await.map_or_else(Answer::Refuse, |()| Answer::Accept),
            Question::Data => self.judge(Stage::Data, None).await.map_or_else(Answer::Refuse, |()| Answer::Accept),
            Question::EndOfData { .. } => Answer::Done(match self.judge(Stage::EndOfData, None).await {
                Ok(()) => reply(250, (2, 0, 0), format!("Ok: queued as {QUEUE_ID}")),
                Err(refusal) => refusal,
            }),
            Question::AuthStart { .. } | Question::AuthResponse(_) => {
                self.user.clone_from(&self.case.auth);
                Answer::Authenticated
            }
            Question::Note(note) => {
                self.note(&note);
                return None;
            }
            Question::Filter(line) => Answer::Line(line),
            Question::Discard
            | Question::Reset
            | Question::AuthCancel
            | Question::Vrfy(_)
            | Question::Etrn(_)
            | Question::Xclient(_) => Answer::Accept,
        })
    }

    fn tls_started(&mut self) {
        // RFC 3207 section 4.2: what was said before does not count.
        (self.helo, self.extended, self.tls, self.user) = (None, false, true, None);
    }

    async fn find_name(&mut self) {
        let client = self.case.client;
        let known = |name: &str| ClientName {
            verified: Some(name.to_owned()),
            reverse: Some(name.to_owned()),
            ..ClientName::default()
        };
        let from = match &self.case.name {
            Some(name) if name == "unknown" => return,
            Some(name) => {
                self.name = known(name);
                return;
            }
            None if client.is_loopback() => {
                self.name = known("localhost");
                return;
            }
            None if !*self.listener.main.smtpd_peername_lookup => return,
            None if !self.outside.ask_dns => "supposed",
            None => {
                self.name = self.outside.sources.client_name(client).await;
                "dns"
            }
        };
        let answer = match (&self.name.verified, &self.name.reverse) {
            (Some(name), _) => name.clone(),
            (None, Some(reverse)) => format!("none: {reverse} does not lead back to it"),
            (None, None) if self.name.temporary => "no answer for now".to_owned(),
            (None, None) => "none".to_owned(),
        };
        self.facts.push(Fact { question: format!("name of {client}"), answer, from: from.to_owned() });
    }

    async fn mail(&mut self, from: &Path) -> Result<(), Reply> {
        self.fetched = Fetched::default();
        let sender = match from {
            Path::Null => Sender::Null,
            Path::Mailbox(mailbox) => Sender::Address(
                self.complete(mailbox).ok_or_else(|| reply(501, (5, 1, 7), "Bad sender address syntax"))?,
            ),
        };
        self.sender = Some(sender);
        self.sender_text = Some(match from {
            Path::Null => String::new(),
            Path::Mailbox(mailbox) => mailbox.to_string(),
        });
        let judged = self.judge(Stage::Sender, None).await;
        if judged.is_err() {
            self.sender = None;
        }
        judged
    }

    fn complete(&self, mailbox: &Mailbox) -> Option<Address> {
        let domain = mailbox.domain.as_ref().map(Domain::as_str);
        let address = mail_route::complete(&mailbox.local, domain, &self.listener.main).ok();
        address.filter(|address| mail_route::is_sendable(&self.view().world(), address).unwrap_or(true))
    }

    /// The complete address of a recipient; the bare postmaster is this machine's (S12).
    fn recipient(&self, mailbox: &Mailbox) -> Option<Address> {
        let address = self.complete(mailbox)?;
        if mailbox.domain.is_some() || !mailbox.local.eq_ignore_ascii_case("postmaster") {
            return Some(address);
        }
        match mail_route::class(&self.view().world(), address.domain(), &mut Vec::new()) {
            Ok(found) if found.class == mail_route::Class::Default => {
                Address::new(address.local(), Domain::new(&self.listener.main.myhostname).ok()?).ok()
            }
            _ => Some(address),
        }
    }

    async fn rcpt(&mut self, mailbox: &Mailbox) -> Result<(), Reply> {
        let text = mailbox.to_string();
        let address = self.recipient(mailbox).ok_or_else(|| reply(501, (5, 1, 3), "Bad recipient address syntax"))?;
        self.judging = Some(address.clone());
        self.judge(Stage::Recipient, Some((&address, &text))).await?;
        let route = Route { setting: self.setting, main: &self.listener.main, outside: self.outside };
        let expanded =
            route.decide(&mut self.fetched, |world, lookups| mail_route::rewrite_recipient(world, &address, lookups));
        match expanded.await {
            Ok((all, _)) => self.recipient = Some((address, all)),
            Err(why) => {
                self.log.push(format!("{}: warning: {}", self.ident.as_str(), decision::Safe(why)));
                return Err(reply(451, (4, 3, 0), format!("<{text}>: Temporary lookup failure")));
            }
        }
        let peer = self.peer_name();
        let event = LogEvent::Client {
            peer: Peer { name: &peer, address: Some(self.case.client) },
            sasl_method: self.user.as_ref().map(|_| "PLAIN"),
            sasl_username: self.user.as_deref(),
        };
        let line = line(&self.ident, LogStage::Recipient, event, QueueId::new(0, 0, 0).ok());
        self.log.push(line);
        Ok(())
    }

    fn view(&self) -> View<'_> {
        View {
            config: &self.setting.config,
            main: &self.listener.main,
            tables: &self.setting.tables,
            fetched: &self.fetched,
        }
    }

    /// Runs the restrictions of a stage, and fetches what they miss, until they have decided.
    async fn judge(&mut self, stage: Stage, recipient: Option<(&Address, &str)>) -> Result<(), Reply> {
        for _ in 0..FACTS_MAX {
            let question = {
                let view = self.view();
                let input = Input {
                    helo: self.helo.as_deref(),
                    sender: self.sender.as_ref(),
                    sender_text: self.sender_text.as_deref(),
                    recipient: recipient.map(|(address, _)| address),
                    recipient_text: recipient.map(|(_, text)| text),
                    user: self.user.as_deref(),
                    tls: self.tls,
                    pipelining: self.pipelining,
                    recipients: usize::from(self.recipient.is_some()),
                    deferral: self.deferral.as_ref(),
                    protocol: if self.extended { "ESMTP" } else { "SMTP" },
                    discarded: self.actions.discard,
                    ..Input::new(self.case.client, &self.name)
                };
                match evaluate(&self.plan, stage, &input, &view) {
                    Judged::Decided(verdict, decisions) => {
                        return self.decided(stage, verdict, &decisions, recipient.map(|(_, text)| text));
                    }
                    Judged::Missing(mut questions) => questions.pop(),
                }
            };
            let Some(question) = question else { break };
            let (fetched, facts) = self.outside.fetch(&self.view(), question).await;
            self.fetched.add(fetched);
            self.facts.extend(facts);
        }
        Err(reply(451, (4, 3, 0), "Error: too many lookups"))
    }

    fn decided(
        &mut self,
        stage: Stage,
        verdict: Verdict,
        decisions: &[Decision],
        to: Option<&str>,
    ) -> Result<(), Reply> {
        let listed = self.listed(decisions);
        self.rules.extend(decisions.iter().map(|decision| {
            let mut rule = Rule::of(decision);
            if rule.rule.contains("unlisted_recipient") {
                rule.lookups.extend(listed.clone());
            }
            rule
        }));
        self.remarks(stage, decisions, to);
        self.actions.add(decisions);
        let behind = Decision::behind(&verdict, decisions).map(decider);
        match verdict {
            Verdict::Accept { deferral } => {
                self.deferral = deferral;
                self.permit = behind.or(self.permit.take());
                Ok(())
            }
            Verdict::Refuse(refusal) => {
                let refusal = self.softened(refusal);
                self.decider = behind;
                self.judged("reject", stage, Said::Reply(&refusal), to);
                Err(refusal)
            }
        }
    }

    /// Which table knows the recipient, where a rule asked whether any does: mail-policy hears only yes or no.
    fn listed(&self, decisions: &[Decision]) -> Vec<decision::Lookup> {
        let asked = decisions.iter().any(|decision| decision.rule.contains("unlisted_recipient"));
        let Some(address) = self.judging.as_ref().filter(|_| asked) else { return Vec::new() };
        let view = self.view();
        let (world, mut lookups) = (view.world(), Vec::new());
        let existence = mail_route::resolve(&world, address, &mut Vec::new())
            .and_then(|resolved| mail_route::recipient(&world, &resolved, &mut lookups));
        if existence.is_err() {
            return Vec::new();
        }
        // Where one table knows it, those that do not are of no interest.
        let known = lookups.iter().any(|lookup| lookup.table.contains(':') && lookup.value.is_some());
        lookups.retain(|lookup| !known || lookup.value.is_some());
        lookups
    }

    /// The reply as `soft_bounce` has it: nothing is refused for ever.
    fn softened(&self, reply: Reply) -> Reply {
        if *self.listener.main.soft_bounce { reply.softened() } else { reply }
    }

    fn note(&mut self, note: &Note) {
        match note {
            Note::Refused { command, reply } => {
                let stage = if *command == "RCPT" { Stage::Recipient } else { Stage::Sender };
                if !matches!(reply.code.get(), 501 | 503 | 555) {
                    self.judged("reject", stage, Said::Reply(reply), None);
                }
            }
            Note::BadAddress { command, text } => {
                let peer = self.peer_name();
                let peer = Peer { name: &peer, address: Some(self.case.client) };
                let text = format!("Illegal address syntax from {peer} in {command} command: {text}");
                let line = line(&self.ident, LogStage::Connect, LogEvent::Warning(&text), None);
                self.log.push(line);
            }
            Note::Pipelining { .. } => self.pipelining = true,
            _ => {}
        }
    }

    /// The parameter behind a refusal of the machine's own.
    fn limit(&self, reply: &[String]) -> Option<Decider> {
        let main = &self.listener.main;
        let line = reply.last()?;
        let code = line.get(..3)?;
        let (rule, source) = match (code, line.get(4..).unwrap_or_default()) {
            ("530", _) => ("smtpd_tls_security_level", &main.smtpd_tls_security_level.source),
            (_, text) if text.starts_with("5.3.4") => ("message_size_limit", &main.message_size_limit.source),
            (_, text) if text.starts_with("5.5.1 Error: authentication not enabled") => {
                ("smtpd_sasl_auth_enable", &main.smtpd_sasl_auth_enable.source)
            }
            (_, text) if text.starts_with("5.5.4 Encryption required") => {
                ("smtpd_tls_auth_only", &main.smtpd_tls_auth_only.source)
            }
            (_, text) if text.contains("STARTTLS") || text.starts_with("5.5.1 Error: command not implemented") => {
                ("smtpd_tls_security_level", &main.smtpd_tls_security_level.source)
            }
            _ => return None,
        };
        let source = source.to_string();
        Some(Decider { rule: rule.to_owned(), list: None, list_source: source.clone(), source, lookup: None })
    }

    fn peer_name(&self) -> String {
        self.name.verified.clone().unwrap_or_else(|| "unknown".to_owned())
    }

    fn remarks(&mut self, stage: Stage, decisions: &[Decision], to: Option<&str>) {
        for decision in decisions {
            match &decision.effect {
                Effect::Warn(reply) => {
                    let reply = self.softened(reply.clone());
                    self.judged("reject_warning", stage, Said::Reply(&reply), to);
                }
                Effect::Log(action, text) => self.judged(action, stage, Said::Text(text), to),
                Effect::Act(action) => {
                    if let Some((word, text)) = action.log() {
                        self.judged(word, stage, Said::Text(text), to);
                    }
                }
                Effect::Fail { why, .. } | Effect::Ignored(why) => {
                    self.log.push(format!("{}: warning: {}", self.ident.as_str(), decision::Safe(why)));
                }
                _ => {}
            }
        }
    }

    fn judged(&mut self, action: &str, stage: Stage, said: Said<'_>, to: Option<&str>) {
        let peer = self.peer_name();
        let from = self.sender.as_ref().map(ToString::to_string);
        let helo = self.helo.clone();
        let event = LogEvent::Reject {
            action,
            command: stage.command(),
            peer: Peer { name: &peer, address: Some(self.case.client) },
            said,
            from: from.as_deref(),
            to,
            proto: if self.extended { "ESMTP" } else { "SMTP" },
            helo: helo.as_deref(),
        };
        let line = line(&self.ident, LogStage::Connect, event, None);
        self.log.push(line);
    }
}

/// A line for the log; the queue id that the message will have is [`QUEUE_ID`].
fn line(ident: &Ident, stage: LogStage, event: LogEvent<'_>, id: Option<QueueId>) -> String {
    let record = Record { queue_id: id, ..Record::new(ident, stage, event) };
    let mut line = record.to_string();
    if let Some(id) = id {
        line = line.replacen(&id.to_string(), QUEUE_ID, 1);
    }
    format!("{}: {line}", ident.as_str())
}

/// The rule of a decision, and the line that decided.
fn decider(decision: &Decision) -> Decider {
    let lookup = decision.lookups.iter().rfind(|lookup| lookup.value.is_some());
    let source = lookup.and_then(|lookup| lookup.source.as_ref()).unwrap_or(&decision.source);
    Decider {
        rule: decision.rule.clone(),
        list: Some(decision.list.to_owned()),
        list_source: decision.source.to_string(),
        source: source.to_string(),
        lookup: lookup.cloned(),
    }
}
