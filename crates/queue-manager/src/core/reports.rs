//! Reports to senders: bounces, delay warnings, confirmations. Each is a new message, queued in one batch with the outcomes it tells of.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use decision::{Event as Line, Record, Stage};
use mail_message::dsn::{Action, Kind, Recipient as Told, Report, compose};
use mail_types::{
    Body as BodyType, Client, DsnOptions, EnhancedStatus, Envelope, Purpose, QueueId, Recipient, Ret, Sender, UnixTime,
};
use queue_store::{Accepted, Answer, Answers, Body, Content, Fate, LoadError, Op, Outcome, Place, RecipientState};

use super::outcomes::Again;
use super::{AGAIN, Core, Event, NewMessage};

/// Octets of a long message of which the header is taken.
const HEADER_MAX: u64 = 256 * 1024;

/// What the store answered to a report.
pub struct Reported {
    id: QueueId,
    notice: Option<(QueueId, Sort, NewMessage)>,
    answers: Answers,
}

/// The reports, in the order in which they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// What became of every recipient, or would: the sender has asked.
    Status,
    /// Failures.
    Failure,
    /// Delays.
    Delay,
    /// Successes.
    Success,
}

type Tellable = Vec<(u32, RecipientState)>;

impl Core {
    /// Reports that were due when the last run ended.
    pub(super) fn find_due_reports(&mut self) {
        let mut after = None;
        let mut ids = Vec::new();
        while let Ok(page) = self.store.reports(after, 1000) {
            let Some(last) = page.last() else { break };
            after = Some(*last);
            ids.extend(page.iter().map(|(id, _)| *id));
        }
        ids.dedup();
        for id in ids {
            let busy = self.messages.get(&id).is_some_and(|active| active.leased > 0 || active.reporting);
            if !busy {
                self.report(id);
            }
        }
    }

    /// Sends every report that is due about a message.
    pub(super) fn report(&mut self, id: QueueId) {
        let envelope = match self.envelope(id) {
            Ok(envelope) => envelope,
            Err(error) => return self.warn(&format!("{id}: no report can be made: {error}")),
        };
        let open = self.store.recipients(id, 0, usize::MAX).unwrap_or_default();
        if self.awaits_first_attempts(id, &open) {
            return;
        }
        let purpose = envelope.purpose;
        let warn = self.messages.get(&id).is_some_and(|active| active.warn_due);
        let mut groups: BTreeMap<(Sort, String), (Sender, Tellable)> = BTreeMap::new();
        for (number, state) in open {
            let sort = match state.report {
                Some(Fate::Deliverable | Fate::Undeliverable) => Sort::Status,
                _ if purpose == Purpose::Trace && !state.traced => Sort::Status,
                Some(Fate::Bounced) => Sort::Failure,
                Some(_) => Sort::Success,
                None if warn && !state.warned && state.attempts > 0 => Sort::Delay,
                None => continue,
            };
            // Who has asked gets the answer, also about the members of a list with an owner.
            let owner = state.owner.clone().filter(|_| sort != Sort::Status);
            let to = owner.unwrap_or_else(|| envelope.sender.clone());
            groups.entry((sort, to.to_string())).or_insert_with(|| (to, Vec::new())).1.push((number, state));
        }
        if groups.is_empty() {
            return self.reports_done(id);
        }
        // One after the other: the answer to the first asks for the next.
        if let Some(((sort, _), (to, told))) = groups.into_iter().next() {
            self.send_report(id, &envelope, sort, &to, told);
        }
    }

    fn reports_done(&mut self, id: QueueId) {
        if let Some(active) = self.messages.get_mut(&id) {
            active.report_due = false;
            active.warn_due = false;
        }
        if self.messages.get(&id).is_some_and(|active| active.leased == 0) {
            self.forget(id);
        }
    }

    fn send_report(&mut self, id: QueueId, envelope: &Envelope, sort: Sort, to: &Sender, told: Tellable) {
        let now = (self.now)();
        let mut ops = Vec::with_capacity(3);
        let mut notice = None;
        if let Some(address) = to.address() {
            // Without serial numbers the report waits; their grant looks for reports again.
            let Some(new) = self.mint() else { return };
            let content = match self.notice(id, envelope, sort, new, to, &told, now) {
                Ok(content) => content,
                Err(error) => return self.warn(&format!("{id}: no report can be made: {error}")),
            };
            let hop = self.router.route(&Sender::Null, address).hop();
            let message = NewMessage {
                id: new,
                envelope: Arc::new(notice_envelope(address.clone(), &content, envelope, now, new, &self.settings.host)),
                hops: vec![hop],
                at: now,
                hold: false,
            };
            let accepted =
                Accepted { id: new, at: now, envelope: message.envelope.clone(), place: Place::Segment, hold: false };
            ops.push(Op::Accept { accepted, content: Content::Octets(content), hops: message.hops.clone() });
            notice = Some((new, sort, message));
        }
        ops.extend(recorded(id, sort, &told, now));
        if let Some(active) = self.messages.get_mut(&id) {
            active.reporting = true;
        }
        let events = self.to_self.clone();
        self.store.submit(ops, move |answers| {
            let _ = events.send(Event::Reported(Reported { id, notice, answers }));
        });
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a report, gathered by the one caller")]
    fn notice(
        &self,
        id: QueueId,
        envelope: &Envelope,
        sort: Sort,
        new: QueueId,
        to: &Sender,
        told: &[(u32, RecipientState)],
        now: UnixTime,
    ) -> Result<Vec<u8>, LoadError> {
        // RFC 3461 section 4.3: RET asks for failures only; what is delayed or delivered comes back as its header.
        let wanted = sort == Sort::Failure && envelope.dsn.ret != Some(Ret::Headers);
        let full = wanted && envelope.size <= self.settings.bounce_size;
        let content = match self.store.body(id) {
            Ok(Body::Octets(octets)) => octets,
            // The sender hears of it even if there is nothing left to return.
            Err(LoadError::Damaged) => Vec::new(),
            Err(error) => return Err(error),
            Ok(Body::File(file, _)) => {
                let mut head = Vec::new();
                file.take(HEADER_MAX).read_to_end(&mut head).map_err(LoadError::Io)?;
                head
            }
        };
        let times = self.settings.times;
        let kind = match sort {
            Sort::Status => Kind::Status,
            Sort::Failure => Kind::Failure,
            Sort::Delay => Kind::Delay { until: envelope.arrival.after(times.lifetime) },
            Sort::Success => Kind::Success,
        };
        let words: Vec<Words> = told.iter().map(|(_, state)| Words::of(state, sort)).collect();
        let recipients: Vec<Told<'_>> = words.iter().map(Words::told).collect();
        Ok(compose(&Report {
            kind,
            host: &self.settings.host,
            mail_name: &self.settings.mail_name,
            to: &to.to_string(),
            postmaster: &self.settings.postmaster,
            id: &new.to_string(),
            date: now,
            original_id: &id.to_string(),
            arrival: envelope.arrival,
            envid: envelope.dsn.envid.as_deref(),
            recipients: &recipients,
            content: &content,
            full,
            smtputf8: envelope.smtputf8,
        }))
    }

    pub(super) fn reported(&mut self, reported: Reported) {
        let Reported { id, notice, answers } = reported;
        if let Some(active) = self.messages.get_mut(&id) {
            active.reporting = false;
        }
        match answers {
            Err(refusal) => {
                self.warn(&format!("{id}: report not queued: {refusal}"));
                if let Some(active) = self.messages.get_mut(&id) {
                    active.report_due = true;
                }
                self.again.push(((self.now)().after(AGAIN), Again::Reports(id)));
                return;
            }
            Ok(answers) if answers.first() == Some(&Answer::Unknown) => {}
            Ok(_) => {
                if let Some((new, sort, message)) = notice {
                    let kind = match sort {
                        Sort::Failure => "sender non-delivery",
                        Sort::Delay => "sender delay",
                        Sort::Status | Sort::Success => "sender delivery status",
                    };
                    let line = Line::Notice { kind, notice: new };
                    let warning = ("delay_warning_time", &self.settings.sources.warning);
                    let rule = (sort == Sort::Delay).then_some(warning);
                    let record = Record::new(&self.settings.idents.bounce, Stage::Queue, line).by_any(rule);
                    self.log.record(&record.about(id));
                    self.accepted(message);
                }
            }
        }
        self.settle_message(id);
    }
}

/// What a report settles. Of a message that was traced, failures are still to be bounced, and what is deferred waits on.
fn recorded(id: QueueId, sort: Sort, told: &[(u32, RecipientState)], now: UnixTime) -> Vec<Op> {
    let result = |state: &RecipientState| match (sort, state.report) {
        (Sort::Delay, _) => Fate::Warned,
        (Sort::Status, None | Some(Fate::Bounced)) => Fate::Traced,
        _ => Fate::Reported,
    };
    let of = |wanted: Fate| {
        let recipients: Vec<_> = told
            .iter()
            .filter(|(_, state)| result(state) == wanted)
            .map(|(number, state)| (*number, state.recipient.address.clone()))
            .collect();
        let outcome = Outcome {
            id,
            at: now,
            recipients,
            attempt: 0,
            result: wanted,
            status: None,
            text: String::new(),
            mta: None,
            report: false,
            via: None,
        };
        (!outcome.recipients.is_empty()).then_some(Op::Outcome(outcome))
    };
    [Fate::Warned, Fate::Traced, Fate::Reported].into_iter().filter_map(of).collect()
}

fn notice_envelope(
    to: mail_types::Address,
    content: &[u8],
    about: &Envelope,
    now: UnixTime,
    id: QueueId,
    host: &str,
) -> Envelope {
    Envelope {
        // RFC 5321 section 6.1: a notification must not cause another (S13).
        sender: Sender::Null,
        recipients: vec![Recipient::new(to)],
        arrival: now,
        size: content.len() as u64,
        body: if content.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime },
        smtputf8: about.smtputf8,
        dsn: DsnOptions::default(),
        message_id: Some(format!("<{id}@{host}>")),
        client: Client { name: "localhost".to_owned(), protocol: "local".to_owned(), ..Client::default() },
        purpose: Purpose::Deliver,
    }
}

/// The words about one recipient.
struct Words {
    address: String,
    orcpt: Option<String>,
    action: Action,
    status: EnhancedStatus,
    text: String,
    remote: Option<String>,
    diagnostic: Option<String>,
}

impl Words {
    fn of(state: &RecipientState, sort: Sort) -> Self {
        let last = state.last.as_ref();
        let mta = last.and_then(|last| last.mta.clone()).unwrap_or_default();
        let (action, otherwise) = match (sort, state.report) {
            (Sort::Status, Some(Fate::Deliverable)) => (Action::Deliverable, EnhancedStatus::of(2, 0, 0)),
            (Sort::Status, Some(Fate::Undeliverable)) => (Action::Undeliverable, EnhancedStatus::of(5, 0, 0)),
            (Sort::Status, Some(Fate::Bounced)) => (Action::Failed, EnhancedStatus::of(5, 0, 0)),
            (Sort::Status, None) => (Action::Delayed, EnhancedStatus::of(4, 0, 0)),
            (Sort::Status, Some(Fate::Relayed)) => (Action::Relayed, EnhancedStatus::of(2, 0, 0)),
            (Sort::Status, Some(_)) => (Action::Delivered, EnhancedStatus::of(2, 0, 0)),
            (Sort::Failure, _) => (Action::Failed, EnhancedStatus::of(5, 0, 0)),
            (Sort::Delay, _) => (Action::Delayed, EnhancedStatus::of(4, 0, 0)),
            (Sort::Success, Some(Fate::Relayed)) => (Action::Relayed, EnhancedStatus::of(2, 0, 0)),
            // An expansion leaves no reply of its own.
            (Sort::Success, _) if last.is_none() => (Action::Expanded, EnhancedStatus::of(2, 0, 0)),
            (Sort::Success, _) => (Action::Delivered, EnhancedStatus::of(2, 0, 0)),
        };
        Self {
            address: state.recipient.address.to_string(),
            orcpt: state
                .recipient
                .orcpt
                .clone()
                .or_else(|| state.recipient.original.as_ref().map(|to| format!("rfc822;{to}"))),
            action,
            status: last.and_then(|last| last.status).unwrap_or(otherwise),
            text: last.map_or_else(|| "sent to the members of the list".to_owned(), |last| last.text.clone()),
            remote: mta.name,
            diagnostic: mta.diagnostic,
        }
    }

    fn told(&self) -> Told<'_> {
        Told {
            address: &self.address,
            orcpt: self.orcpt.as_deref(),
            action: self.action,
            status: self.status,
            text: &self.text,
            remote: self.remote.as_deref(),
            diagnostic: self.diagnostic.as_deref(),
        }
    }
}
