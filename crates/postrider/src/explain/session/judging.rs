//! Restrictions within a session: what is known goes to `mail-policy`, what it misses is fetched, what it decides is written down.

use admission::clients::Unanswered;
use admission::facts::{Fact as Fetch, Fetched};
use admission::judging::{Bench, Command, Remark, judge, remark, softened};
use decision::{Event as LogEvent, Lookup, Peer, Said, Stage as LogStage};
use mail_policy::{Decision, Effect, Input, Outcome, Question, Stage, Verdict, VerifiedFact, evaluate, with_footer};
use mail_smtp::server::Note;
use mail_types::{Address, QueueId, Reply, SourceLine};

use super::super::explanation::{Decider, Fact, Rule};
use super::desk::Desk;
use super::line;

impl Desk<'_> {
    /// Runs the restrictions of a stage about the message as a whole; they name its recipient where there is one alone.
    pub async fn judge_message(&mut self, stage: Stage) -> Result<(), Reply> {
        let only = match self.recipients.as_slice() {
            [one] => Some((one.address.clone(), one.text.clone())),
            _ => None,
        };
        let recipient = only.as_ref().map(|(address, text)| (address, text.as_str()));
        self.judge(Command { recipient, ..Command::at(stage) }).await
    }

    /// Runs the restrictions about a command.
    pub async fn judge(&mut self, command: Command<'_>) -> Result<(), Reply> {
        let (verdict, mut decisions) = judge(self, command).await?;
        let (main, tables) = (&self.listener.main, &self.setting.tables);
        let unanswered = self.outside.sources.forget_silent(main, tables, &mut decisions).await;
        self.unanswered(unanswered);
        match self.decided(verdict, &decisions, command) {
            Ok(()) => Ok(()),
            Err(refusal) => Err(self.with_footer(refusal, command).await),
        }
    }

    /// An address that becomes several is good without a question, as smtpd has it; one whose aliases cannot be read cannot be judged.
    async fn without_probe(&mut self, address: &Address) -> Option<(VerifiedFact, String)> {
        let (route, mut fetched) = (self.route(), std::mem::take(&mut self.fetched));
        let asked =
            route.decide(&mut fetched, |world, lookups| mail_route::rewrite_recipient(world, address, lookups)).await;
        self.fetched = fetched;
        match asked {
            Ok((one, _)) if one.len() == 1 => None,
            Ok((several, _)) => {
                Some((VerifiedFact::Deliverable, format!("deliverable: it becomes {} addresses", several.len())))
            }
            Err(why) => Some((VerifiedFact::Unavailable(why.clone()), why)),
        }
    }

    /// Makes what is judged of what the session knows.
    fn with_input<T>(&self, command: Command<'_>, judge: impl FnOnce(&Input<'_>) -> T) -> T {
        let Command { stage, recipient, etrn } = command;
        // VRFY and ETRN stand outside a transaction.
        let in_transaction = !self.verifying && etrn.is_none();
        let input = Input {
            helo: self.helo.as_deref(),
            sender: self.sender.as_ref().filter(|_| in_transaction),
            sender_text: self.sender_text.as_deref().filter(|_| in_transaction),
            recipient: recipient.map(|(address, _)| address),
            recipient_text: recipient.map(|(_, text)| text),
            user: self.user.as_deref(),
            method: self.user.as_ref().map(|_| "PLAIN"),
            tls: self.tls,
            protocol: if self.extended { "ESMTP" } else { "SMTP" },
            command: self.verifying.then_some("VRFY"),
            size: self.case.size.filter(|_| in_transaction).unwrap_or(0),
            etrn,
            pipelining: self.pipelining,
            recipients: if in_transaction { self.recipients.len() } else { 0 },
            deferral: self.deferrals.before(stage, in_transaction),
            discarded: in_transaction && self.actions.discard,
            held: in_transaction && self.actions.hold,
            ..Input::new(self.case.client, &self.name)
        };
        judge(&input)
    }

    fn decided(&mut self, verdict: Verdict, decisions: &[Decision], command: Command<'_>) -> Result<(), Reply> {
        let (stage, to) = (command.stage, command.recipient_text());
        for decision in decisions {
            let mut rule = Rule::of(decision);
            rule.lookups.extend(self.lists(decision));
            let source = decision.named_by.as_ref().unwrap_or(&decision.source);
            self.setting.name(&self.listener.main, decision.list, source, &mut rule.lookups);
            self.rules.push(rule);
        }
        self.remarks(stage, decisions, to);
        if !self.verifying {
            self.actions.add(decisions);
        }
        let behind = Decision::behind(&verdict, decisions).map(decider);
        match verdict {
            Verdict::Accept { deferral } => {
                self.deferrals.keep(stage, deferral);
                self.permit = behind.or(self.permit.take());
                Ok(())
            }
            Verdict::Refuse(refusal) => {
                let refusal = softened(refusal, &self.listener.main);
                self.decider = behind;
                self.judged("reject", stage, Said::Reply(&refusal), to);
                Err(refusal)
            }
        }
    }

    /// Adds what `smtpd_reject_footer_maps` or `smtpd_reject_footer` says.
    async fn with_footer(&mut self, refusal: Reply, command: Command<'_>) -> Reply {
        let main = &self.listener.main;
        let (footer, unanswered) = self.outside.sources.footer(main, &self.setting.tables, &refusal).await;
        self.unanswered(unanswered);
        if footer.is_empty() {
            return refusal;
        }
        let localtime = jiff::Zoned::now().strftime("%b %d %H:%M:%S").to_string();
        self.with_input(command, |input| with_footer(refusal, &footer, input, main, &localtime))
    }

    /// What lists of main.cf say, where a rule asked them: mail-policy hears only yes or no, and tables write down what they are asked.
    fn lists(&self, decision: &Decision) -> Vec<Lookup> {
        let main = &self.listener.main;
        let rule = decision.rule.trim_start_matches("warn_if_reject ");
        let miss = |table: &str, key: String, source: &SourceLine| Lookup {
            table: table.to_owned(),
            key,
            value: None,
            source: Some(source.clone()),
        };
        let missed = decision.effect != Effect::Permit;
        match rule {
            "permit_mynetworks" if missed => {
                vec![miss("mynetworks", self.case.client.to_string(), &main.mynetworks.source)]
            }
            "permit_inet_interfaces" if missed => {
                vec![miss("inet_interfaces", self.case.client.to_string(), &main.inet_interfaces.source)]
            }
            _ if rule.contains("auth_destination") || rule.contains("unlisted_recipient") => {
                self.judging.as_ref().map(|address| self.class(address)).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Which list holds the domain of an address; where none does, all of them.
    fn class(&self, address: &Address) -> Vec<Lookup> {
        let main = &self.listener.main;
        let (view, mut noted) = (self.view(), Vec::new());
        let Ok(resolved) = mail_route::resolve(&view.world(), address, &mut noted) else { return Vec::new() };
        noted.retain(|lookup| !lookup.table.contains(':'));
        if resolved.class.class == mail_route::Class::Default {
            let lists = [
                ("mydestination", &main.mydestination.source),
                ("virtual_alias_domains", &main.virtual_alias_domains.source),
                ("virtual_mailbox_domains", &main.virtual_mailbox_domains.source),
                ("relay_domains", &main.relay_domains.source),
            ];
            let key = resolved.address.domain().key();
            noted.extend(lists.map(|(list, source)| Lookup {
                table: list.to_owned(),
                key: key.clone(),
                value: None,
                source: Some(source.clone()),
            }));
        }
        noted
    }

    pub fn note(&mut self, note: &Note) {
        match note {
            Note::Refused { command, reply } => {
                let stage = match *command {
                    "MAIL" => Stage::Sender,
                    "RCPT" => Stage::Recipient,
                    _ => Stage::EndOfData,
                };
                if !matches!(reply.code.get(), 501 | 503 | 555) {
                    self.judged("reject", stage, Said::Reply(reply), None);
                }
            }
            Note::BadAddress { command, text } => {
                let peer = self.peer_name();
                let peer = Peer { name: &peer, address: Some(self.case.client), port: None };
                let text = format!("Illegal address syntax from {peer} in {command} command: {text}");
                self.logged(LogStage::Connect, LogEvent::Warning(&text));
            }
            Note::Pipelining { .. } => self.pipelining = true,
            _ => {}
        }
    }

    /// The parameter behind a refusal of the machine's own.
    pub fn limit(&self, reply: &[String]) -> Option<Decider> {
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

    fn remarks(&mut self, stage: Stage, decisions: &[Decision], to: Option<&str>) {
        let main = &self.listener.main;
        for decision in decisions {
            remark(decision, main, |remark| match remark {
                Remark::Line(word, said) => self.judged(word, stage, said, to),
                Remark::Warning(why) => self.warning(why),
            });
        }
    }

    /// Tables that could not say what a parameter asks them, as the log has it.
    pub fn unanswered(&mut self, unanswered: impl IntoIterator<Item = Unanswered>) {
        unanswered.into_iter().for_each(|unanswered| self.warning(&unanswered.why));
    }

    fn warning(&mut self, why: &str) {
        self.log.push(format!("{}: warning: {}", self.ident.as_str(), decision::Safe(why)));
    }

    pub fn judged(&mut self, action: &str, stage: Stage, said: Said<'_>, to: Option<&str>) {
        let peer = self.peer_name();
        let from = self.sender_text.clone().filter(|_| !self.verifying && stage != Stage::Etrn);
        let helo = self.helo.clone();
        // A message has its id from its first recipient on.
        let id = if self.recipients.is_empty() { None } else { QueueId::new(0, 0, 0).ok() };
        let event = LogEvent::Reject {
            action,
            command: match stage {
                _ if self.verifying => "VRFY",
                Stage::Helo if self.extended => "EHLO",
                _ => stage.command(),
            },
            peer: Peer { name: &peer, address: Some(self.case.client), port: None },
            said,
            from: from.as_deref(),
            to,
            proto: if self.extended { "ESMTP" } else { "SMTP" },
            helo: helo.as_deref(),
        };
        let line = line(&self.ident, LogStage::Connect, event, id);
        self.log.push(line);
    }
}

impl Bench for Desk<'_> {
    fn evaluate(&self, command: Command<'_>) -> Outcome {
        let view = self.view();
        self.with_input(command, |input| evaluate(&self.plan, command.stage, input, &view))
    }

    async fn fetch(&mut self, question: Question) {
        if let Question::Verified(address) = &question
            && let Some(known) = self.without_probe(address).await
        {
            let fact =
                Fact { question: format!("deliverability of {address}"), answer: known.1, from: "aliases".to_owned() };
            self.facts.push(fact);
            return self.fetched.add(Fetch::Other(question, mail_policy::Fact::Verified(known.0)));
        }
        let (fetched, facts) = self.outside.fetch(&self.view(), question).await;
        self.fetched.add(fetched);
        self.facts.extend(facts);
    }

    fn fetched(&mut self) -> &mut Fetched {
        &mut self.fetched
    }
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
