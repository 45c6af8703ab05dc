//! Who answers the machine's questions, as smtpd does for a client.

use std::sync::Arc;

use admission::clients::Named;
use admission::facts::{Fetched, View};
use admission::judging::{Command, Deferrals};
use admission::origin::{Peer as Origin, header_origin, is_ours};
use decision::{Event as LogEvent, Ident, Peer, Stage as LogStage};
use mail_config::Listener;
use mail_policy::{Actions, ClientName, Plan, Stage};
use mail_smtp::server::{Answer, MailCommand, Question, Settings};
use mail_smtp::{Mailbox, Path};
use mail_tables::Answer as Found;
use mail_types::{Address, Domain, QueueId, Reply, ReplyCode, Sender};

use super::super::case::Case;
use super::super::explanation::{Decider, Fact, Rule};
use super::super::header::{self, Refused};
use super::super::intake::{self, Accepted};
use super::super::queued::Taken;
use super::super::setting::{Outside, Route, Setting};
use super::{QUEUE_ID, line, reply};

/// What the session knows, and what it has found out.
pub(super) struct Desk<'a> {
    pub setting: &'a Setting,
    pub outside: &'a Outside,
    pub listener: &'a Listener,
    pub case: &'a Case,
    pub plan: Plan,
    pub ident: Ident,
    pub fetched: Fetched,
    pub name: ClientName,
    pub helo: Option<String>,
    pub extended: bool,
    pub tls: bool,
    pub user: Option<String>,
    pub pipelining: bool,
    pub sender: Option<Sender>,
    /// The sender as the client writes it.
    pub sender_text: Option<String>,
    pub recipients: Vec<Accepted>,
    /// The recipient of the command under way.
    pub judging: Option<Address>,
    /// The command is VRFY, which is judged as RCPT is.
    pub verifying: bool,
    /// What access tables want done with the message.
    pub actions: Actions,
    /// What earlier commands left to be refused later.
    pub deferrals: Deferrals,
    /// What the command under way brought.
    pub rules: Vec<Rule>,
    pub facts: Vec<Fact>,
    pub log: Vec<String>,
    pub decider: Option<Decider>,
    pub permit: Option<Decider>,
    /// The message, once it is taken.
    pub taken: Option<Taken>,
}

impl<'a> Desk<'a> {
    pub fn new(setting: &'a Setting, outside: &'a Outside, listener: &'a Listener, case: &'a Case) -> Self {
        let main = &listener.main;
        Self {
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
            tls: listener.mode == mail_config::ListenerMode::Tls,
            user: None,
            pipelining: false,
            sender: None,
            sender_text: None,
            recipients: Vec::new(),
            judging: None,
            verifying: false,
            actions: Actions::default(),
            deferrals: Deferrals::default(),
            rules: Vec::new(),
            facts: Vec::new(),
            log: Vec::new(),
            decider: None,
            permit: None,
            taken: None,
        }
    }

    pub fn route(&self) -> Route<'a> {
        Route { setting: self.setting, main: &self.listener.main, outside: self.outside }
    }

    pub fn view(&self) -> View<'_> {
        View {
            config: &self.setting.config,
            main: &self.listener.main,
            tables: &self.setting.tables,
            fetched: &self.fetched,
        }
    }

    /// The settings of the listener, as they are for this client, of whose name nothing is known yet.
    pub async fn settings(&mut self, settings: Settings) -> Settings {
        let client = Named { name: "unknown", address: self.case.client };
        let (main, tables) = (&self.listener.main, &self.setting.tables);
        let (own, unanswered) = self.outside.sources.settings_for(&settings, main, tables, client).await;
        self.unanswered(unanswered);
        own.unwrap_or(settings)
    }

    pub async fn answer(&mut self, question: Question) -> Option<Answer> {
        let answer = match question {
            Question::Connect => self.connect().await,
            Question::Helo { name, extended } => {
                (self.helo, self.extended) = (Some(name), extended);
                self.deferrals.keep(Stage::Helo, None);
                self.judge(Command::at(Stage::Helo)).await.map_or_else(Answer::Refuse, |()| Answer::Accept)
            }
            Question::Mail(mail) => self.mail(&mail).await.map_or_else(Answer::Refuse, |()| Answer::Accept),
            Question::Rcpt(command) => self.rcpt(&command.to).await.map_or_else(Answer::Refuse, |()| Answer::Accept),
            Question::Vrfy(mailbox) => self.vrfy(&mailbox).await.map_or_else(Answer::Refuse, |()| Answer::Accept),
            Question::Etrn(domain) => self.etrn(&domain).await,
            Question::Data => self.judge_message(Stage::Data).await.map_or_else(Answer::Refuse, |()| Answer::Accept),
            Question::EndOfData { .. } => Answer::Done(match self.end_of_data().await {
                Ok(()) => reply(250, (2, 0, 0), format!("Ok: queued as {QUEUE_ID}")),
                Err(refusal) => refusal,
            }),
            Question::AuthStart { .. } | Question::AuthResponse(_) => self.log_in(),
            Question::Note(note) => {
                self.note(&note);
                return None;
            }
            Question::Filter(line) => self.filter(line).await,
            Question::Discard | Question::Reset | Question::AuthCancel | Question::Xclient(_) => Answer::Accept,
        };
        Some(answer.ending())
    }

    pub fn tls_started(&mut self) {
        // RFC 3207 section 4.2: what was said before does not count.
        (self.helo, self.extended, self.tls, self.user) = (None, false, true, None);
    }

    /// `smtpd_command_filter`: the line that is carried out in place of one.
    async fn filter(&mut self, line: String) -> Answer {
        let maps = &self.listener.main.smtpd_command_filter;
        match self.outside.sources.look_up(&self.setting.tables, maps, &line).await {
            Found::Found(found) => {
                let peer = self.peer_name();
                let client = Peer { name: &peer, address: Some(self.case.client), port: None };
                let text = format!("{client}: replacing client command \"{line}\" with \"{}\"", found.value);
                self.logged(LogStage::Connect, LogEvent::Text(&text));
                Answer::Line(found.value)
            }
            Found::NotFound | Found::Missing(_) => Answer::Line(line),
            Found::Temporary(why) => {
                self.logged(LogStage::Connect, LogEvent::Warning(&why));
                Answer::Refuse(reply(451, (4, 3, 0), "Error: temporary lookup failure"))
            }
        }
    }

    async fn connect(&mut self) -> Answer {
        self.find_name().await;
        let peer = self.peer_name();
        self.logged(
            LogStage::Connect,
            LogEvent::Connect { peer: Peer { name: &peer, address: Some(self.case.client), port: None } },
        );
        let then = reply(503, (5, 7, 0), format!("Error: access denied for {peer}[{}]", self.case.client));
        self.judge(Command::at(Stage::Client))
            .await
            .map_or_else(|refusal| Answer::Shut(refusal, then), |()| Answer::Accept)
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

    async fn mail(&mut self, mail: &MailCommand) -> Result<(), Reply> {
        self.fetched = Fetched::default();
        let sender = match &mail.from {
            Path::Null => Sender::Null,
            Path::Mailbox(mailbox) => Sender::Address(
                self.complete(mailbox).ok_or_else(|| reply(501, (5, 1, 7), "Bad sender address syntax"))?,
            ),
        };
        self.fetched.sender = Some(sender.clone());
        self.sender = Some(sender);
        self.sender_text = Some(match &mail.from {
            Path::Null => String::new(),
            Path::Mailbox(mailbox) => mailbox.to_string(),
        });
        let judged = self.judge(Command::at(Stage::Sender)).await;
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
        self.permit = None;
        let text = mailbox.to_string();
        let address = self.recipient(mailbox).ok_or_else(|| reply(501, (5, 1, 3), "Bad recipient address syntax"))?;
        self.judging = Some(address.clone());
        self.judge(Command { recipient: Some((&address, &text)), ..Command::at(Stage::Recipient) }).await?;
        let mut noted = Vec::new();
        let domain = mailbox.domain.as_ref().map(Domain::as_str);
        // What completed the address; it was complete above.
        let _ = mail_route::complete_noting(&mailbox.local, domain, &self.listener.main, &mut noted);
        let (route, mut fetched) = (self.route(), std::mem::take(&mut self.fetched));
        let accepted = intake::recipient(&route, &mut fetched, &address, &text, noted).await;
        self.fetched = fetched;
        let accepted = accepted.map_err(|why| self.unavailable(&text, &why))?;
        if self.recipients.is_empty() {
            let (peer, user) = (self.peer_name(), self.user.clone());
            let event = LogEvent::Client {
                peer: Peer { name: &peer, address: Some(self.case.client), port: None },
                sasl_method: user.as_ref().map(|_| "PLAIN"),
                sasl_username: user.as_deref(),
            };
            let line = line(&self.ident, LogStage::Recipient, event, QueueId::new(0, 0, 0).ok());
            self.log.push(line);
        }
        self.recipients.push(accepted);
        Ok(())
    }

    async fn vrfy(&mut self, mailbox: &Mailbox) -> Result<(), Reply> {
        let address = self.recipient(mailbox).ok_or_else(|| reply(501, (5, 1, 3), "Bad recipient address syntax"))?;
        let text = mailbox.to_string();
        self.judging = Some(address.clone());
        self.verifying = true;
        let command = Command { recipient: Some((&address, &text)), ..Command::at(Stage::Recipient) };
        let judged = self.judge(command).await;
        self.verifying = false;
        judged
    }

    /// ETRN: whether the client may ask for it, and whether the domain is one of `fast_flush_domains`. Nothing is flushed.
    async fn etrn(&mut self, domain: &str) -> Answer {
        if let Err(refusal) = self.judge(Command { etrn: Some(domain), ..Command::at(Stage::Etrn) }).await {
            return Answer::Refuse(refusal);
        }
        let main = &self.listener.main;
        let plain = |code: u16, text: &str| Reply::plain(ReplyCode::of(code), text);
        match self.outside.sources.may_flush(main, &self.setting.tables, domain).await {
            Ok(true) => return Answer::Done(plain(250, "Queuing started")),
            Ok(false) => {}
            Err(unanswered) => {
                self.unanswered([unanswered]);
                return Answer::Refuse(plain(458, "Unable to queue messages"));
            }
        }
        let source = main.fast_flush_domains.source.to_string();
        let (list_source, rule) = (source.clone(), "fast_flush_domains".to_owned());
        self.decider = Some(Decider { rule, list: None, list_source, source, lookup: None });
        Answer::Refuse(plain(459, &format!("<{domain}>: service unavailable")))
    }

    async fn end_of_data(&mut self) -> Result<(), Reply> {
        self.judge_message(Stage::EndOfData).await?;
        let result = self.hand_over().await;
        if let Err(refusal) = &result {
            self.judged("reject", Stage::EndOfData, decision::Said::Reply(refusal), None);
        }
        result
    }

    /// What every message passes between its last octet and the queue.
    async fn hand_over(&mut self) -> Result<(), Reply> {
        let Some(sender) = self.sender.clone() else { return Ok(()) };
        let (route, mut fetched) = (self.route(), std::mem::take(&mut self.fetched));
        let from = intake::sender(&route, &mut fetched, &sender).await;
        let from = from.map_err(|why| self.unavailable(&sender.to_string(), &why))?;
        let redirect = self.actions.redirect.as_ref().map(intake::redirect);
        let mut copies = Vec::new();
        for address in self.actions.bcc.clone() {
            let copy = intake::bcc(&route, &mut fetched, &address).await;
            copies.push(copy.map_err(|why| self.unavailable(&address.to_string(), &why))?);
        }
        let mut recipients = std::mem::take(&mut self.recipients);
        let own: Vec<_> = recipients.iter_mut().flat_map(|one| std::mem::take(&mut one.copies)).collect();
        if redirect.is_none() {
            copies.extend(own);
            copies.extend(from.copies);
        }
        let header = self.header(&mut fetched, &from.sender).await?;
        let (shown, stored) = header.map_or((None, Vec::new()), |made| (Some(made.shown), made.stored));
        self.taken = Some(Taken {
            sender: from.sender,
            rewritten: from.rewritten,
            recipients,
            copies,
            redirect,
            header: shown,
            stored,
        });
        Ok(())
    }

    /// The header, where the case has one; what is thrown away needs none.
    async fn header(&mut self, fetched: &mut Fetched, sender: &Sender) -> Result<Option<header::Made>, Reply> {
        let prepend = self.actions.prepend.clone();
        if (self.case.header.is_empty() && prepend.is_empty()) || self.actions.discard {
            return Ok(None);
        }
        let (route, main) = (self.route(), &self.listener.main);
        let name = self.peer_name();
        let peer = Origin { name: &name, address: self.case.client, user: self.user.as_deref() };
        let (config, tables) = (&self.setting.config, &self.setting.tables);
        let said = self.outside.sources.settle(|answers| is_ours(config, main, tables, peer, answers)).await;
        let ours = said.unwrap_or_else(|why| {
            self.logged(LogStage::Connect, LogEvent::Warning(&why));
            false
        });
        let plan = header::Plan { origin: header_origin(ours, main), sender, prepend: &prepend };
        match header::take_in(&route, fetched, &self.case.header_octets(), plan).await {
            Ok(made) => {
                if let Some(message_id) = &made.message_id {
                    let cleanup = Ident::postfix(&self.setting.config.main.syslog_name, "cleanup");
                    let event = LogEvent::MessageId { message_id };
                    self.log.push(line(&cleanup, LogStage::Data, event, QueueId::new(0, 0, 0).ok()));
                }
                Ok(Some(made))
            }
            Err(Refused::TooManyHops) => Err(reply(554, (5, 4, 6), "Error: too many hops")),
            Err(Refused::Unavailable(text, why)) => Err(self.unavailable(&text, &why)),
        }
    }

    /// A table cannot say: the log has why, the client tries again.
    fn unavailable(&mut self, text: &str, why: &str) -> Reply {
        self.logged(LogStage::Connect, LogEvent::Warning(why));
        reply(451, (4, 3, 0), format!("<{text}>: Temporary lookup failure"))
    }

    pub fn peer_name(&self) -> String {
        self.name.verified.clone().unwrap_or_else(|| "unknown".to_owned())
    }

    pub fn logged(&mut self, stage: LogStage, event: LogEvent<'_>) {
        let line = line(&self.ident, stage, event, None);
        self.log.push(line);
    }
}
