//! Mail of this machine: what becomes of what a user hands in with sendmail, as smtpd takes it from `submit.sock`.

use admission::facts::Fetched;
use admission::origin::may_submit;
use admission::settings::pickup_main;
use decision::{Event, Ident, Stage};
use mail_config::Main;
use mail_route::Origin;
use mail_types::{Address, EnhancedStatus, QueueId, Reply, ReplyCode, Sender, Severity};

use super::case::Case;
use super::explanation::{Decider, Fact, Outcome, Recipient, Rule, Step};
use super::header::{self, Refused};
use super::intake::{self, Accepted};
use super::queued::Taken;
use super::session::{QUEUE_ID, Session, line};
use super::setting::{Outside, Route, Setting};
use super::users::Found;

/// What the submission has come to so far.
struct Desk<'a> {
    setting: &'a Setting,
    outside: &'a Outside,
    case: &'a Case,
    /// main.cf as the line of pickup(8) has it.
    main: &'a Main,
    fetched: Fetched,
    facts: Vec<Fact>,
    rule: Option<Rule>,
    decider: Option<Decider>,
    recipients: Vec<Recipient>,
    log: Vec<String>,
}

fn refusal(code: u16, (class, subject, detail): (u8, u16, u16), text: impl Into<String>) -> Reply {
    Reply::new(ReplyCode::of(code), EnhancedStatus::of(class, subject, detail), text)
}

/// The name and line of the service that takes such mail, as the explanation shows it.
#[must_use]
pub fn service(setting: &Setting) -> (String, String) {
    let pickup = setting.config.master.services.iter().find(|service| service.name == "pickup");
    ("pickup".to_owned(), pickup.map_or_else(|| "default".to_owned(), |service| service.source.to_string()))
}

/// Runs the submission of a user.
pub async fn run(setting: &Setting, outside: &Outside, case: &Case, user: &str) -> Session {
    let main = pickup_main(&setting.config);
    let mut desk = Desk {
        setting,
        outside,
        case,
        main: &main,
        fetched: Fetched::default(),
        facts: Vec::new(),
        rule: None,
        decider: None,
        recipients: Vec::new(),
        log: Vec::new(),
    };
    let taken = desk.take_in(user).await;
    let (outcome, reply, taken) = match taken {
        Ok(taken) => (Outcome::Accept, format!("accepted as {QUEUE_ID}"), Some(taken)),
        Err(reply) if reply.severity() == Severity::Permanent => (Outcome::Reject, reply.to_string(), None),
        Err(reply) => (Outcome::Defer, reply.to_string(), None),
    };
    if outcome.is_taken() {
        let given = |to: &String| Recipient {
            given: to.clone(),
            outcome,
            reply: Vec::new(),
            decided_by: None,
            rewritten: None,
            destinations: Vec::new(),
        };
        desk.recipients = case.to.iter().map(given).collect();
    }
    let command = format!("{user}: sendmail -f '{}' {}", case.from, case.to.join(" "));
    let reply = vec![reply];
    let step = Step { command, rules: desk.rule.into_iter().collect(), facts: desk.facts, reply: reply.clone() };
    Session {
        steps: vec![step],
        outcome,
        at: "sendmail".to_owned(),
        reply,
        decider: desk.decider,
        recipients: desk.recipients,
        log: desk.log,
        taken,
    }
}

impl<'a> Desk<'a> {
    async fn take_in(&mut self, user: &str) -> Result<Taken, Reply> {
        let uid = self.may(user).await?;
        let limit = *self.main.message_size_limit;
        if limit > 0 && self.case.size.is_some_and(|size| size > limit) {
            self.decided_by("message_size_limit", self.main.message_size_limit.source.to_string());
            return Err(refusal(552, (5, 3, 4), "Message size exceeds fixed limit"));
        }
        let sender = self.sender()?;
        if self.case.to.is_empty() {
            return Err(refusal(554, (5, 5, 1), "no recipients specified"));
        }
        let mut recipients = Vec::new();
        for text in &self.case.to {
            recipients.push(self.recipient(text).await?);
        }
        let route = self.route();
        let from = intake::sender(&route, &mut self.fetched, &sender).await;
        let from = from.map_err(|why| self.unavailable(&sender.to_string(), &why))?;
        let pickup = Ident::postfix(&self.setting.config.main.syslog_name, "pickup");
        let event = Event::Pickup { uid, from: &self.case.from };
        self.log.push(line(&pickup, Stage::Sender, event, QueueId::new(0, 0, 0).ok()));
        let own: Vec<_> = recipients.iter_mut().flat_map(|one| std::mem::take(&mut one.copies)).collect();
        let copies = own.into_iter().chain(from.copies).collect();
        let header = self.header(&from.sender).await?;
        let (shown, stored) = header.map_or((None, Vec::new()), |made| (Some(made.shown), made.stored));
        let (sender, rewritten) = (from.sender, from.rewritten);
        Ok(Taken { sender, rewritten, recipients, copies, redirect: None, header: shown, stored })
    }

    fn route(&self) -> Route<'a> {
        Route { setting: self.setting, main: self.main, outside: self.outside }
    }

    /// Whether the user may hand mail in; its uid.
    async fn may(&mut self, user: &str) -> Result<u32, Reply> {
        let found = self.outside.users.passwd(user);
        self.facts.extend(self.outside.users.take_facts());
        let uid = match found {
            Found::User(user) => user.uid,
            Found::Nobody => {
                return Err(refusal(550, (5, 7, 1), format!("this machine has no user {user}")));
            }
            Found::Later(why) => return Err(refusal(451, (4, 3, 0), format!("nobody can say who {user} is: {why}"))),
        };
        drop(self.setting.tables.take_asked());
        let (main, tables) = (self.main, &self.setting.tables);
        let allowed = self.outside.sources.settle(|answers| may_submit(main, tables, uid, user, answers)).await;
        let allowed = allowed.map_err(|why| refusal(451, (4, 3, 0), why))?;
        let mut lookups = mail_policy::lookups::every(self.setting.tables.take_asked(), Vec::new());
        let list = &self.main.authorized_submit_users;
        self.setting.name(self.main, "authorized_submit_users", &list.source, &mut lookups);
        let name = "authorized_submit_users".to_owned();
        let refused = refusal(550, (5, 7, 1), format!("User with id {uid} is not allowed to submit mail"));
        self.rule = Some(Rule {
            list: name.clone(),
            rule: name.clone(),
            source: list.source.to_string(),
            input: user.to_owned(),
            verdict: if allowed { "permit" } else { "reject" }.to_owned(),
            text: (!allowed).then(|| refused.to_string()),
            lookups,
        });
        self.decided_by(&name, list.source.to_string());
        if allowed { Ok(uid) } else { Err(refused) }
    }

    fn decided_by(&mut self, rule: &str, source: String) {
        let (rule, list_source) = (rule.to_owned(), source.clone());
        self.decider = Some(Decider { rule, list: None, list_source, source, lookup: None });
    }

    /// The sender as typed: empty is the null sender.
    fn sender(&self) -> Result<Sender, Reply> {
        let typed = self.case.from.as_str();
        if typed.is_empty() {
            return Ok(Sender::Null);
        }
        mail_route::complete_text(typed, self.main)
            .map(Sender::Address)
            .map_err(|error| refusal(501, (5, 1, 7), format!("<{typed}>: Bad sender address syntax: {error}")))
    }

    async fn recipient(&mut self, text: &str) -> Result<Accepted, Reply> {
        let written = if text.trim().is_empty() { self.main.empty_address_recipient.as_str() } else { text };
        let mut noted = Vec::new();
        let address: Address = mail_route::complete_text_noting(written, self.main, &mut noted)
            .map_err(|error| refusal(501, (5, 1, 3), format!("<{text}>: Bad recipient address syntax: {error}")))?;
        let route = self.route();
        let accepted = intake::recipient(&route, &mut self.fetched, &address, text, noted).await;
        accepted.map_err(|why| self.unavailable(text, &why))
    }

    async fn header(&mut self, sender: &Sender) -> Result<Option<header::Made>, Reply> {
        if self.case.header.is_empty() {
            return Ok(None);
        }
        let route = self.route();
        let plan = header::Plan { origin: Some(Origin::Ours), sender, prepend: &[] };
        match header::take_in(&route, &mut self.fetched, &self.case.header_octets(), plan).await {
            Ok(made) => {
                if let Some(message_id) = &made.message_id {
                    let cleanup = Ident::postfix(&self.setting.config.main.syslog_name, "cleanup");
                    let event = Event::MessageId { message_id };
                    self.log.push(line(&cleanup, Stage::Data, event, QueueId::new(0, 0, 0).ok()));
                }
                Ok(Some(made))
            }
            Err(Refused::TooManyHops) => Err(refusal(554, (5, 4, 6), "Error: too many hops")),
            Err(Refused::Unavailable(text, why)) => Err(self.unavailable(&text, &why)),
        }
    }

    fn unavailable(&mut self, text: &str, why: &str) -> Reply {
        let pickup = Ident::postfix(&self.setting.config.main.syslog_name, "pickup");
        self.log.push(line(&pickup, Stage::Sender, Event::Warning(why), None));
        refusal(451, (4, 3, 0), format!("<{text}>: Temporary lookup failure"))
    }
}
