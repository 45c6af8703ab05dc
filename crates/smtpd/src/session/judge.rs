//! Restrictions within a session: what is known goes to `mail-policy`, what it misses is fetched, what it decides is logged and carried out.

use std::sync::Arc;
use std::time::Duration;

use mail_policy::{Certificate, Decision, Encryption, Fact, Input, Outcome, Question, Stage, Verdict, evaluate};
use mail_tables::Answer;
use mail_types::{Address, Reply, Sender};

use super::{Session, reply};
use crate::facts::{self, View};

/// How often one command may ask for one more fact.
const FACTS_MAX: usize = 100;

impl Session {
    /// Runs the restrictions of a stage for the transaction as it is.
    pub(super) async fn judge(&mut self, stage: Stage) -> Result<(), Reply> {
        let only = match (stage, self.transaction.as_ref().map(|transaction| transaction.recipients.as_slice())) {
            // What is about the message as a whole names its recipient where there is one alone.
            (Stage::Data | Stage::EndOfData, Some([one])) => {
                let complete = || mail_route::complete(&one.text, None, &self.port.main).ok();
                one.text.parse::<Address>().ok().or_else(complete).map(|address| (address, one.text.clone()))
            }
            _ => None,
        };
        self.judge_command(stage, only.as_ref().map(|(address, text)| (address, text.as_str()))).await
    }

    /// The same for a command that names a recipient.
    pub(super) async fn judge_command(
        &mut self,
        stage: Stage,
        recipient: Option<(&Address, &str)>,
    ) -> Result<(), Reply> {
        self.judge_named(stage, recipient, None).await
    }

    /// The same for a command that names a recipient, or the domain of ETRN.
    pub(super) async fn judge_named(
        &mut self,
        stage: Stage,
        recipient: Option<(&Address, &str)>,
        etrn: Option<&str>,
    ) -> Result<(), Reply> {
        let mut result = Err(reply(451, (4, 3, 0), "Error: too many lookups"));
        for _ in 0..FACTS_MAX {
            match self.evaluate(stage, recipient, etrn) {
                Outcome::Decided(verdict, decisions) => {
                    result = self.decided(stage, verdict, &decisions, recipient);
                    if let Err(refusal) = result {
                        result = Err(self.with_footer(stage, refusal, recipient).await);
                    }
                    break;
                }
                Outcome::Missing(questions) => {
                    // On the heap: most commands need no fact from outside, and keep no room for one.
                    for question in questions {
                        Box::pin(self.fetch(question)).await;
                    }
                }
            }
        }
        self.fetched.end_of_command();
        result
    }

    fn evaluate(&self, stage: Stage, recipient: Option<(&Address, &str)>, etrn: Option<&str>) -> Outcome {
        let view =
            View { config: &self.shared.config, main: &self.port.main, tables: &self.tables, fetched: &self.fetched };
        self.with_input(stage, recipient, etrn, |input| evaluate(&self.port.plan, stage, input, &view))
    }

    /// Makes what is judged of what the session knows.
    fn with_input<T>(
        &self,
        stage: Stage,
        recipient: Option<(&Address, &str)>,
        etrn: Option<&str>,
        judge: impl FnOnce(&Input<'_>) -> T,
    ) -> T {
        // VRFY and ETRN stand outside a transaction.
        let transaction = self.transaction.as_ref().filter(|_| !self.verifying && etrn.is_none());
        let sender_text = transaction.map(|transaction| match &transaction.mail.from {
            mail_smtp::Path::Null => String::new(),
            mail_smtp::Path::Mailbox(mailbox) => mailbox.to_string(),
        });
        let queue_id = transaction.and_then(|transaction| transaction.id).map(|id| id.to_string());
        let tls = self.greeting.tls.as_ref();
        let [client, helo] = &self.deferrals;
        let early = helo.as_ref().or(client.as_ref());
        let deferral = match stage {
            Stage::Client | Stage::Data | Stage::EndOfData => None,
            Stage::Helo => client.as_ref(),
            Stage::Sender | Stage::Etrn => early,
            Stage::Recipient => transaction.and_then(|transaction| transaction.deferral.as_ref()).or(early),
        };
        let size = transaction.map_or(0, |transaction| transaction.octets.or(transaction.mail.size).unwrap_or(0));
        let input = Input {
            helo: self.greeting.helo.as_deref(),
            sender: transaction.map(|transaction| &transaction.sender),
            sender_text: sender_text.as_deref(),
            recipient: recipient.map(|(address, _)| address),
            recipient_text: recipient.map(|(_, text)| text),
            user: self.greeting.user.as_deref(),
            method: self.greeting.method.as_deref(),
            tls: tls.is_some(),
            encryption: tls.map(|tls| Encryption {
                protocol: tls.version,
                cipher: &tls.cipher,
                bits: u32::from(tls.bits),
            }),
            certificate: tls.and_then(|tls| tls.peer.as_ref()).map(|peer| Certificate {
                subject: &peer.subject,
                issuer: &peer.issuer,
                fingerprints: [&peer.fingerprint, &peer.key_fingerprint],
                trusted: peer.trust.is_ok(),
            }),
            client_port: self.client.port(),
            shows_port: self.log.shown_port().is_some(),
            server: Some(self.local),
            protocol: if self.greeting.extended { "ESMTP" } else { "SMTP" },
            command: self.verifying.then_some("VRFY"),
            instance: &self.instance,
            queue_id: queue_id.as_deref(),
            size,
            etrn,
            pipelining: self.greeting.pipelining,
            recipients: transaction.map_or(0, |transaction| transaction.recipients.len()),
            deferral,
            discarded: transaction.is_some_and(|transaction| transaction.actions.discard),
            held: transaction.is_some_and(|transaction| transaction.actions.hold),
            ..Input::new(self.client.ip(), &self.name)
        };
        judge(&input)
    }

    /// Fetches one fact.
    async fn fetch(&mut self, question: Question) {
        let fact = match &question {
            Question::Policy(request) => {
                Fact::Policy(self.door.policy.ask(request, &self.shared.config, &self.log).await)
            }
            Question::Pause { seconds, .. } => {
                tokio::time::sleep(Duration::from_secs(*seconds)).await;
                Fact::Paused
            }
            Question::Verified(address) => {
                Fact::Verified(self.door.verified(&self.shared, &self.port.main, address).await)
            }
            _ => {
                let view = View {
                    config: &self.shared.config,
                    main: &self.port.main,
                    tables: &self.tables,
                    fetched: &self.fetched,
                };
                let fact = self.door.sources.fetch(&view, question).await;
                return self.fetched.add(fact);
            }
        };
        self.fetched.add(facts::Fact::Other(question, fact));
    }

    fn decided(
        &mut self,
        stage: Stage,
        verdict: Verdict,
        decisions: &[Decision],
        recipient: Option<(&Address, &str)>,
    ) -> Result<(), Reply> {
        // Even where this command is refused, the message may go on with others.
        if let Some(transaction) = self.transaction.as_mut().filter(|_| !self.verifying) {
            transaction.actions.add(decisions);
        }
        let from = self.sender_text().filter(|_| !self.verifying);
        let mut about = self.about(from.as_deref(), recipient.map(|(_, text)| text));
        if stage == Stage::Helo && self.greeting.extended {
            about.command = Some("EHLO");
        }
        self.log.remarks(stage, decisions, about);
        let behind = Decision::behind(&verdict, decisions);
        match verdict {
            Verdict::Accept { deferral } => {
                let permit = behind.map(|decision| (decision.rule.clone(), decision.source.clone()));
                match (stage, &mut self.transaction) {
                    (Stage::Client, _) => self.deferrals = [deferral, None],
                    (Stage::Helo, _) => self.deferrals[1] = deferral,
                    (Stage::Sender, Some(transaction)) => transaction.deferral = deferral,
                    (Stage::Recipient, Some(transaction)) => transaction.permit = permit,
                    _ => {}
                }
                Ok(())
            }
            Verdict::Refuse(reply) => {
                let reply = self.log.softened(reply);
                self.log.refused(stage, &reply, behind, about);
                Err(reply)
            }
        }
    }

    /// The sender as the client wrote it.
    pub(super) fn sender_text(&self) -> Option<String> {
        self.transaction.as_ref().map(|transaction| match &transaction.mail.from {
            mail_smtp::Path::Null => Sender::Null.to_string(),
            mail_smtp::Path::Mailbox(mailbox) => mailbox.to_string(),
        })
    }

    /// Adds what `smtpd_reject_footer_maps` or `smtpd_reject_footer` says.
    async fn with_footer(&mut self, stage: Stage, reply: Reply, recipient: Option<(&Address, &str)>) -> Reply {
        let port = Arc::clone(&self.port);
        let main = &port.main;
        let maps = &main.smtpd_reject_footer_maps;
        let found = match self.look_up(maps, &reply.to_string()).await {
            Answer::Found(found) => Some(found.value),
            Answer::Temporary(why) => {
                self.log.warning(&why, Some(("smtpd_reject_footer_maps", &maps.source)));
                None
            }
            _ => None,
        };
        let footer = found.unwrap_or_else(|| main.smtpd_reject_footer.value.clone());
        if footer.is_empty() {
            return reply;
        }
        let localtime = jiff::Zoned::now().strftime("%b %d %H:%M:%S").to_string();
        self.with_input(stage, recipient, None, |input| {
            mail_policy::with_footer(reply, &footer, input, main, &localtime)
        })
    }
}
