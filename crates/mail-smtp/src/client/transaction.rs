//! One message: MAIL, RCPT, DATA, content, and the judging of the replies.

use std::collections::VecDeque;
use std::fmt::Write as _;

use mail_types::{Body, Notify, Reply, Ret};
use session::{AskId, Close};

use super::{After, Answer, Cause, Client, Features, Message, Phase, Question, RcptOutcome, Stage, is_positive};
use crate::content::Encoder;
use crate::grammar::xtext_encode;
use crate::server::Dialect;

/// How many replies may be owed at once: few enough that neither side's socket buffer fills while the other writes.
const WINDOW: usize = 200;

/// A command that was or will be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Mail,
    Rcpt(usize),
    Data,
    /// The reply to the final dot; with LMTP one for each accepted recipient.
    Dot(Option<usize>),
}

/// A message under way.
pub(super) struct Transaction {
    message: Message,
    /// What has not been sent yet.
    to_send: VecDeque<Command>,
    /// What was sent and not answered.
    owed: VecDeque<Command>,
    /// Per recipient: none while undecided.
    decided: Vec<Option<Cause>>,
    /// Whether MAIL was accepted.
    mail_accepted: bool,
    /// The content on its way, after 354.
    content: Option<Content>,
}

struct Content {
    encoder: Encoder,
    ask: AskId,
}

impl Transaction {
    fn new(message: Message) -> Self {
        let recipients = message.recipients.len();
        let mut to_send = VecDeque::with_capacity(recipients + 2);
        to_send.push_back(Command::Mail);
        to_send.extend((0..recipients).map(Command::Rcpt));
        if !message.verify {
            to_send.push_back(Command::Data);
        }
        let decided = vec![None; recipients];
        Self { message, to_send, owed: VecDeque::new(), decided, mail_accepted: false, content: None }
    }

    pub fn stage(&self) -> Stage {
        match self.owed.front() {
            Some(Command::Mail) => Stage::Mail,
            Some(Command::Rcpt(_)) => Stage::Rcpt,
            Some(Command::Data) => Stage::Data,
            Some(Command::Dot(_)) => Stage::EndOfData,
            None => Stage::Content,
        }
    }

    /// Whether a recipient is accepted so far, or may still be.
    fn is_open(&self) -> bool {
        self.decided.iter().any(Option::is_none)
    }

    /// Decides all recipients that are undecided.
    fn decide(&mut self, cause: &Cause) {
        self.decided.iter_mut().filter(|one| one.is_none()).for_each(|one| *one = Some(cause.clone()));
    }

    /// The outcome of every recipient; those undecided end with `rest`.
    pub fn into_outcome(mut self: Box<Self>, rest: Option<Cause>, dsn_passed_on: bool) -> Vec<RcptOutcome> {
        self.decide(&rest.unwrap_or(Cause::Aborted));
        let all = self.decided.into_iter().enumerate();
        all.filter_map(|(number, cause)| cause.map(|cause| RcptOutcome { number, cause, dsn_passed_on })).collect()
    }
}

/// Why a message cannot go to a peer with these features.
fn objection(message: &Message, features: &Features) -> Option<Cause> {
    let limit = features.size.unwrap_or(0);
    let addresses = message.sender.address().into_iter().chain(message.recipients.iter().map(|r| &r.address));
    let utf8 = message.smtputf8 || addresses.into_iter().any(mail_types::Address::needs_smtputf8);
    if limit > 0 && message.size > limit {
        return Some(Cause::TooBig { size: message.size, limit });
    }
    if utf8 && !features.smtputf8 {
        return Some(Cause::NeedsSmtputf8);
    }
    (message.body == Body::EightBitMime && !features.eight_bit_mime).then_some(Cause::NeedsEightBitMime)
}

fn mail_line(message: &Message, features: &Features) -> String {
    let mut line = format!("MAIL FROM:<{}>", message.sender);
    // Writing into a String cannot fail.
    if features.size.is_some() {
        let _ = write!(line, " SIZE={}", message.size);
    }
    if features.eight_bit_mime && message.body == Body::EightBitMime {
        line.push_str(" BODY=8BITMIME");
    }
    let addresses = message.sender.address().into_iter().chain(message.recipients.iter().map(|r| &r.address));
    if features.smtputf8 && (message.smtputf8 || addresses.into_iter().any(mail_types::Address::needs_smtputf8)) {
        line.push_str(" SMTPUTF8");
    }
    if features.dsn {
        match message.dsn.ret {
            Some(Ret::Full) => line.push_str(" RET=FULL"),
            Some(Ret::Headers) => line.push_str(" RET=HDRS"),
            None => {}
        }
        if let Some(envid) = &message.dsn.envid {
            let _ = write!(line, " ENVID={}", xtext_encode(envid));
        }
    }
    line
}

fn rcpt_line(message: &Message, number: usize, features: &Features) -> String {
    let recipient = &message.recipients[number];
    let mut line = format!("RCPT TO:<{}>", recipient.address);
    if !features.dsn {
        return line;
    }
    if let Some(notify) = recipient.notify {
        let _ = write!(line, " NOTIFY={}", notify_value(notify));
    }
    // D01c: the address is encoded again exactly as it was decoded.
    if let Some((kind, address)) = recipient.orcpt.as_deref().and_then(|orcpt| orcpt.split_once(';')) {
        let _ = write!(line, " ORCPT={kind};{}", xtext_encode(address));
    }
    line
}

fn notify_value(notify: Notify) -> String {
    let words = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
    let chosen: Vec<&str> = words.iter().filter(|(wanted, _)| *wanted).map(|(_, word)| *word).collect();
    if chosen.is_empty() { "NEVER".to_owned() } else { chosen.join(",") }
}

fn nonsense(reply: &Reply, stage: Stage) -> Cause {
    Cause::Garbage { line: reply.to_string(), stage }
}

/// What a reply decides; a 3xx that nobody asked for decides nothing, so the mail is tried again.
pub(super) fn verdict(reply: &Reply, stage: Stage) -> Cause {
    if reply.code.get() / 100 == 3 { nonsense(reply, stage) } else { Cause::Reply { reply: reply.clone(), stage } }
}

impl Client {
    pub(super) fn begin(&mut self, message: Message) {
        let mut transaction = Box::new(Transaction::new(message));
        if let Some(cause) = objection(&transaction.message, &self.features) {
            let outcome = transaction.into_outcome(Some(cause), false);
            return self.report(outcome, After::Ready);
        }
        if transaction.message.recipients.is_empty() {
            return self.report(Vec::new(), After::Ready);
        }
        self.send_commands(&mut transaction);
        self.enter(Phase::Sending(transaction));
    }

    /// Sends what may be sent now: everything with PIPELINING, else one command.
    fn send_commands(&mut self, transaction: &mut Transaction) {
        let window = if self.features.pipelining { WINDOW } else { 1 };
        while transaction.owed.len() < window {
            let Some(command) = transaction.to_send.pop_front() else { return };
            let line = match command {
                Command::Mail => mail_line(&transaction.message, &self.features),
                Command::Rcpt(number) => rcpt_line(&transaction.message, number, &self.features),
                Command::Data | Command::Dot(_) => "DATA".to_owned(),
            };
            self.send(&line);
            transaction.owed.push_back(command);
        }
    }

    pub(super) fn sending(&mut self, mut transaction: Box<Transaction>, reply: Reply, stage: Stage) {
        // S25: 421 closes the session wherever it comes.
        if reply.code.get() == 421 {
            let cause = Cause::Reply { reply, stage };
            let outcome = transaction.into_outcome(Some(cause), self.features.dsn);
            return self.report(outcome, After::Close(Close::Hangup("421")));
        }
        let Some(command) = transaction.owed.pop_front() else {
            return self.unexpected(transaction, reply);
        };
        let success = is_positive(&reply);
        let cause = verdict(&reply, stage);
        match command {
            Command::Mail if success => transaction.mail_accepted = true,
            Command::Mail => transaction.decide(&cause),
            // Replies that follow a refused MAIL say nothing about the recipient.
            Command::Rcpt(number) if !success => {
                transaction.decided[number].get_or_insert(cause);
            }
            Command::Rcpt(number) if transaction.message.verify => {
                transaction.decided[number].get_or_insert(cause);
            }
            Command::Rcpt(_) => {}
            Command::Data => return self.data_replied(transaction, reply, cause),
            Command::Dot(Some(number)) => {
                transaction.decided[number].get_or_insert(cause);
            }
            Command::Dot(None) => transaction.decide(&cause),
        }
        self.go_on(transaction);
    }

    /// After a reply: sends what follows, or ends the transaction.
    fn go_on(&mut self, mut transaction: Box<Transaction>) {
        if !transaction.is_open() {
            transaction.to_send.clear();
        }
        self.send_commands(&mut transaction);
        if !transaction.owed.is_empty() {
            return self.enter(Phase::Sending(transaction));
        }
        // All is answered: either after the final dot, or every recipient was refused before DATA.
        let ended = transaction.content.is_some() || !transaction.mail_accepted;
        let after = if ended { After::Ready } else { After::Reset };
        let outcome = transaction.into_outcome(None, self.features.dsn);
        self.report(outcome, after);
    }

    fn data_replied(&mut self, mut transaction: Box<Transaction>, reply: Reply, cause: Cause) {
        if reply.code.get() / 100 == 3 {
            let encoder = Encoder::new(self.settings.line_length_limit);
            if transaction.is_open() {
                let ask = self.ask(Question::Content);
                transaction.content = Some(Content { encoder, ask });
                return self.enter(Phase::Sending(transaction));
            }
            // X02: nobody was accepted, yet the server wants content: it gets the lone dot.
            transaction.content = Some(Content { encoder, ask: AskId(0) });
            self.finish_content(&mut transaction);
            return self.enter(Phase::Sending(transaction));
        }
        // A 2xx to DATA is no permission to send, and no delivery.
        let cause = if is_positive(&reply) { nonsense(&reply, Stage::Data) } else { cause };
        transaction.decide(&cause);
        self.go_on(transaction);
    }

    /// A reply inside the content: the peer has judged already. What is not sent stays unsent.
    fn unexpected(&mut self, transaction: Box<Transaction>, reply: Reply) {
        self.output.clear();
        let cause =
            if is_positive(&reply) { nonsense(&reply, Stage::Content) } else { verdict(&reply, Stage::Content) };
        let outcome = transaction.into_outcome(Some(cause), self.features.dsn);
        self.report(outcome, After::Close(Close::Hangup("reply inside content")));
    }

    /// An answer while a message is under way: content.
    pub(super) fn content(&mut self, mut transaction: Box<Transaction>, id: AskId, answer: Answer) {
        let Some(content) = transaction.content.as_mut().filter(|content| content.ask == id) else {
            self.phase = Phase::Sending(transaction);
            return;
        };
        match answer {
            Answer::Chunk(chunk) => {
                content.encoder.encode(&chunk, &mut self.output);
                content.ask = self.ask(Question::Content);
            }
            Answer::EndOfContent => self.finish_content(&mut transaction),
            _ => return self.give_up(transaction),
        }
        self.enter(Phase::Sending(transaction));
    }

    fn finish_content(&mut self, transaction: &mut Transaction) {
        if let Some(content) = &mut transaction.content {
            content.encoder.finish(&mut self.output);
            content.ask = AskId(0);
        }
        let accepted: Vec<usize> =
            transaction.decided.iter().enumerate().filter(|(_, one)| one.is_none()).map(|(number, _)| number).collect();
        if self.settings.dialect == Dialect::Lmtp && !accepted.is_empty() {
            transaction.owed.extend(accepted.into_iter().map(|number| Command::Dot(Some(number))));
        } else {
            transaction.owed.push_back(Command::Dot(None));
        }
    }

    /// Cuts the connection before the final dot, so that the peer keeps nothing.
    fn give_up(&mut self, transaction: Box<Transaction>) {
        self.output.clear();
        let outcome = transaction.into_outcome(Some(Cause::Aborted), false);
        self.report(outcome, After::Close(Close::Hangup("content ended early")));
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
        match std::mem::replace(&mut self.phase, Phase::Tls) {
            Phase::Sending(transaction) if transaction.stage() != Stage::EndOfData => self.give_up(transaction),
            Phase::Ready(_) => {
                self.asks = None;
                self.quit();
            }
            other => self.phase = other,
        }
    }
}
