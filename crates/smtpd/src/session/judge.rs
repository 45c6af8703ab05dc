//! Restrictions within a session: what is known goes to `mail-policy`, what it misses is fetched, what it decides is logged and carried out.

use std::sync::Arc;
use std::time::Duration;

use admission::judging::{Bench, Command, judge, softened};
use mail_policy::{Certificate, Decision, Encryption, Fact, Input, Outcome, Question, Stage, Verdict, evaluate};
use mail_types::{Address, Reply, Sender};

use super::Session;
use crate::facts::{self, Fetched};

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
        let recipient = only.as_ref().map(|(address, text)| (address, text.as_str()));
        self.judge_command(Command { recipient, ..Command::at(stage) }).await
    }

    /// The same for a command that names a recipient, or the domain of ETRN.
    pub(super) async fn judge_command(&mut self, command: Command<'_>) -> Result<(), Reply> {
        let (verdict, mut decisions) = judge(self, command).await?;
        if decisions.iter().any(|decision| decision.permission.is_some()) {
            let port = Arc::clone(&self.port);
            let silent = self.door.sources.forget_silent(&port.main, &self.tables, &mut decisions);
            let unanswered = Box::pin(silent).await;
            unanswered.iter().for_each(|unanswered| self.log.unanswered(unanswered));
        }
        match self.decided(verdict, &decisions, command) {
            Ok(()) => Ok(()),
            Err(refusal) => Err(self.with_footer(refusal, command).await),
        }
    }

    /// Makes what is judged of what the session knows.
    fn with_input<T>(&self, command: Command<'_>, judge: impl FnOnce(&Input<'_>) -> T) -> T {
        let Command { stage, recipient, etrn } = command;
        // VRFY and ETRN stand outside a transaction.
        let transaction = self.transaction.as_ref().filter(|_| !self.verifying && etrn.is_none());
        let sender_text = transaction.map(|transaction| match &transaction.mail.from {
            mail_smtp::Path::Null => String::new(),
            mail_smtp::Path::Mailbox(mailbox) => mailbox.to_string(),
        });
        let queue_id = transaction.and_then(|transaction| transaction.id).map(|id| id.to_string());
        let tls = self.greeting.tls.as_ref();
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
            deferral: self.deferrals.before(stage, transaction.is_some()),
            discarded: transaction.is_some_and(|transaction| transaction.actions.discard),
            held: transaction.is_some_and(|transaction| transaction.actions.hold),
            ..Input::new(self.client.ip(), &self.name)
        };
        judge(&input)
    }

    fn decided(&mut self, verdict: Verdict, decisions: &[Decision], command: Command<'_>) -> Result<(), Reply> {
        let stage = command.stage;
        // Even where this command is refused, the message may go on with others.
        if let Some(transaction) = self.transaction.as_mut().filter(|_| !self.verifying) {
            transaction.actions.add(decisions);
        }
        let from = self.sender_text().filter(|_| !self.verifying);
        let mut about = self.about(from.as_deref(), command.recipient_text());
        if stage == Stage::Helo && self.greeting.extended {
            about.command = Some("EHLO");
        }
        self.log.remarks(stage, decisions, about);
        let behind = Decision::behind(&verdict, decisions);
        match verdict {
            Verdict::Accept { deferral } => {
                let permit = behind.map(|decision| (decision.rule.clone(), decision.source.clone()));
                if let (Stage::Recipient, Some(transaction)) = (stage, &mut self.transaction) {
                    transaction.permit = permit;
                }
                self.deferrals.keep(stage, deferral);
                Ok(())
            }
            Verdict::Refuse(reply) => {
                let reply = softened(reply, &self.port.main);
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
    async fn with_footer(&mut self, refusal: Reply, command: Command<'_>) -> Reply {
        let main = &self.port.main;
        let (footer, unanswered) = Box::pin(self.door.sources.footer(main, &self.tables, &refusal)).await;
        unanswered.iter().for_each(|unanswered| self.log.unanswered(unanswered));
        if footer.is_empty() {
            return refusal;
        }
        let localtime = jiff::Zoned::now().strftime("%b %d %H:%M:%S").to_string();
        self.with_input(command, |input| mail_policy::with_footer(refusal, &footer, input, main, &localtime))
    }
}

impl Bench for Session {
    fn evaluate(&self, command: Command<'_>) -> Outcome {
        let view = self.view();
        self.with_input(command, |input| evaluate(&self.port.plan, command.stage, input, &view))
    }

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
                let fact = self.door.sources.fetch(&self.view(), question).await;
                return self.fetched.add(fact);
            }
        };
        self.fetched.add(facts::Fact::Other(question, fact));
    }

    fn fetched(&mut self) -> &mut Fetched {
        &mut self.fetched
    }
}
