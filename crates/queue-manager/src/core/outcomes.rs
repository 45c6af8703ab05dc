//! What became of recipients: recorded once, answered after the sync.

use std::collections::BTreeMap;

use decision::{Delivery, Event as Line, Ident, Record, Stage};
use mail_ipc::delivery::{self, OutcomeKey};
use mail_posix::points;
use mail_types::{EnhancedStatus, Envelope, QueueId, UnixTime};
use queue_store::addresses::Standing;
use queue_store::{Answer, Answers, Class, Expanded, Fate, Hop, Member, Op, Outcome, RecipientState, Remote};

use super::{AGAIN, Connection, Core, Event, Index, ToWorker};
use crate::destination::{Carrier, Target};
use crate::schedule::{Ended, Grant};

/// What the store answered to outcomes of one message.
pub struct Committed {
    connection: Option<Connection>,
    id: QueueId,
    /// The recipients, with whether the destination could not be reached, and where something is scheduled now.
    recipients: Vec<Change>,
    answers: Answers,
    /// To be repeated if the answer is a refusal.
    again: Vec<delivery::Outcome>,
}

/// What one outcome changes in the schedule.
pub struct Change {
    number: u32,
    attempt: u32,
    /// Why nothing at all could be done with the destination.
    dead: Option<(EnhancedStatus, String)>,
    scheduled: Vec<(Hop, Class, UnixTime)>,
    pub(super) report: bool,
    /// What a probe found out: the address, and how it stands.
    pub(super) found_out: Option<(String, Standing)>,
}

/// Work that failed and is tried again.
pub enum Again {
    /// Outcomes that were not recorded.
    Outcomes(Option<Connection>, Vec<delivery::Outcome>),
    /// Reports that were not queued.
    Reports(QueueId),
    /// Serial numbers.
    Serials,
}

impl Core {
    pub(super) fn once_more(&mut self, work: Again) {
        match work {
            Again::Outcomes(connection, outcomes) => self.outcomes(connection, outcomes),
            Again::Reports(id) => self.settle_message(id),
            Again::Serials => self.want_serials(),
        }
    }

    /// Outcomes of a worker, or of what is carried out here (without a connection).
    pub(super) fn outcomes(&mut self, connection: Option<Connection>, outcomes: Vec<delivery::Outcome>) {
        let mut known = Vec::new();
        let mut messages: BTreeMap<QueueId, Vec<(delivery::Outcome, RecipientState)>> = BTreeMap::new();
        for outcome in outcomes {
            if self.recording.contains(&(outcome.id, outcome.recipient)) {
                continue;
            }
            match self.store.recipient(outcome.id, outcome.recipient) {
                Ok(Some(state)) if state.report.is_none() && state.attempts < outcome.attempt => {
                    messages.entry(outcome.id).or_default().push((outcome, state));
                }
                Ok(_) => {
                    known.push(OutcomeKey { id: outcome.id, recipient: outcome.recipient, attempt: outcome.attempt })
                }
                // The index failed: the process ends, and the worker repeats its outcome to the next.
                Err(_) => {}
            }
        }
        for key in &known {
            self.recipient_ended(*key, None);
        }
        self.tell(connection, known);
        for (id, outcomes) in messages {
            self.record(connection, id, outcomes);
        }
    }

    fn record(
        &mut self,
        connection: Option<Connection>,
        id: QueueId,
        outcomes: Vec<(delivery::Outcome, RecipientState)>,
    ) {
        let now = (self.now)();
        let mut ops = Vec::with_capacity(outcomes.len());
        let mut recipients = Vec::with_capacity(outcomes.len());
        let mut again = Vec::with_capacity(outcomes.len());
        for (outcome, state) in outcomes {
            self.recording.insert((id, outcome.recipient));
            let (op, change) = self.judge(&outcome, &state, now, connection.is_none());
            ops.push(op);
            recipients.push(change);
            again.push(outcome);
        }
        let events = self.to_self.clone();
        self.store.submit(ops, move |answers| {
            let _ = events.send(Event::Committed(Committed { connection, id, recipients, answers, again }));
        });
    }

    /// What an outcome means for the queue.
    fn judge(
        &mut self,
        outcome: &delivery::Outcome,
        state: &RecipientState,
        now: UnixTime,
        here: bool,
    ) -> (Op, Change) {
        let mut change = Change {
            number: outcome.recipient,
            attempt: outcome.attempt,
            dead: None,
            scheduled: Vec::new(),
            report: false,
            found_out: None,
        };
        if let delivery::Fate::Deferred { dead: true } = &outcome.fate {
            change.dead = Some((outcome.status, outcome.text.clone()));
        }
        let purpose = self.purpose(outcome.id);
        if purpose.is_verification()
            && let Some(op) = self.verified(outcome, state, purpose, now, &mut change)
        {
            return (op, change);
        }
        let notify = state.recipient.notify;
        let traced = self.is_to_be_traced(purpose, outcome.id, state);
        let wants_success = self.has_sender(outcome.id, state) && notify.is_some_and(|notify| notify.success);
        let wants_failure = self.has_sender(outcome.id, state) && notify.is_none_or(|notify| notify.failure);
        let mut via = None;
        let (result, report) = match &outcome.fate {
            // The one success that is reached here is a rule that throws away.
            delivery::Fate::Delivered if here => (Fate::Discarded, wants_success || traced),
            delivery::Fate::Delivered => (Fate::Delivered, wants_success || traced),
            delivery::Fate::Relayed { dsn } => (Fate::Relayed, wants_success && !dsn || traced),
            delivery::Fate::Bounced => (Fate::Bounced, wants_failure),
            delivery::Fate::Deferred { .. } => self.deferred(outcome, state, now, &mut change, wants_failure),
            delivery::Fate::Redirected { destination } => {
                let hop = Target::Worker(destination.clone()).hop();
                change.scheduled.push((hop.clone(), Class::Deferred, now));
                via = Some(hop);
                (Fate::Redirected, false)
            }
            delivery::Fate::Expanded { members } => {
                let wants_success = wants_success && !purpose.is_verification();
                let op = self.expanded(outcome, state, members, now, &mut change, wants_success);
                return (op, change);
            }
        };
        change.report = report || traced;
        let mta = Remote { name: outcome.remote.clone(), diagnostic: outcome.diagnostic.clone() };
        let op = Op::Outcome(Outcome {
            id: outcome.id,
            at: now,
            recipients: vec![(outcome.recipient, state.recipient.address.clone())],
            attempt: outcome.attempt,
            result,
            status: Some(outcome.status),
            text: outcome.text.clone(),
            mta: (mta != Remote::default()).then_some(mta),
            report,
            via,
        });
        (op, change)
    }

    /// A deferred recipient waits for its next attempt, or has waited long enough.
    fn deferred(
        &mut self,
        outcome: &delivery::Outcome,
        state: &RecipientState,
        now: UnixTime,
        change: &mut Change,
        wants_failure: bool,
    ) -> (Fate, bool) {
        let times = self.settings.times;
        let Ok(Some(message)) = self.store.message(outcome.id) else { return (Fate::Deferred(now), false) };
        let from_null = message.sender.address().is_none();
        if times.expired(message.arrival, from_null, now) {
            let from = message.sender.to_string();
            let line = Line::Expired { from: &from, status: "expired" };
            let sources = &self.settings.sources;
            let (rule, source) = if from_null {
                ("bounce_queue_lifetime", &sources.bounce_lifetime)
            } else {
                ("maximal_queue_lifetime", &sources.lifetime)
            };
            let record = Record::new(&self.settings.idents.qmgr, Stage::Queue, line).by(rule, source);
            self.log.record(&record.about(outcome.id));
            return (Fate::Bounced, wants_failure);
        }
        let wants_warning = !from_null && state.recipient.notify.is_none_or(|notify| notify.delay);
        if wants_warning
            && !state.warned
            && times.warns(message.arrival, now)
            && let Some(active) = self.messages.get_mut(&outcome.id)
        {
            active.warn_due = true;
        }
        let next = times.next_attempt(message.arrival, now);
        change.scheduled.push((state.hop.clone(), Class::Deferred, next));
        (Fate::Deferred(next), false)
    }

    fn expanded(
        &mut self,
        outcome: &delivery::Outcome,
        state: &RecipientState,
        members: &[delivery::Member],
        now: UnixTime,
        change: &mut Change,
        wants_success: bool,
    ) -> Op {
        let original = state.recipient.original.clone().unwrap_or_else(|| state.recipient.address.to_string());
        let mut hops = Vec::with_capacity(members.len());
        let mut taken = Vec::with_capacity(members.len());
        let purpose = self.purpose(outcome.id);
        let own_sender =
            self.messages.get(&outcome.id).map(|active| active.envelope.sender.clone()).unwrap_or_default();
        for member in members {
            let owner = member.owner.clone().map(mail_types::Sender::Address).or_else(|| state.owner.clone());
            let hop = self.route(purpose, owner.as_ref().unwrap_or(&own_sender), &member.address).hop();
            change.scheduled.push((hop.clone(), Class::Incoming, now));
            hops.push(hop);
            // A list with an owner reports to its owner from here on, and only failures (RFC 3461 section 5.2.7.3).
            let notify = if member.owner.is_some() { None } else { state.recipient.notify };
            let notify =
                notify.map(|notify| mail_types::Notify { success: notify.success && members.len() == 1, ..notify });
            let recipient = mail_types::Recipient {
                address: member.address.clone(),
                original: Some(original.clone()),
                orcpt: if member.owner.is_some() { None } else { state.recipient.orcpt.clone() },
                notify,
            };
            taken.push(Member { recipient, owner, chain: member.chain.clone(), part: member.part });
        }
        // One member takes over the promise of a report; several end it here.
        let report = wants_success && members.len() != 1;
        change.report = report;
        let (id, address) = (outcome.id, state.recipient.address.clone());
        Op::Expand(Expanded { id, at: now, recipient: outcome.recipient, address, members: taken, report }, hops)
    }

    /// Whether there is anybody to tell: the null sender never causes a message (S13).
    fn has_sender(&self, id: QueueId, state: &RecipientState) -> bool {
        match &state.owner {
            Some(owner) => owner.address().is_some(),
            None => matches!(self.store.message(id), Ok(Some(message)) if message.sender.address().is_some()),
        }
    }

    pub(super) fn committed(&mut self, committed: Committed) {
        let Committed { connection, id, recipients, answers, again } = committed;
        for change in &recipients {
            self.recording.remove(&(id, change.number));
        }
        let awaited = if connection.is_none() { self.expiring.remove(&id) } else { None };
        let recorded = match answers {
            Ok(answers) => answers.first() != Some(&Answer::Unknown),
            Err(refusal) => {
                self.warn(&format!("{id}: outcome not recorded: {refusal}"));
                awaited.inspect(|waiting| waiting.done(Some(refusal.to_string())));
                self.again.push(((self.now)().after(AGAIN), Again::Outcomes(connection, again)));
                return;
            }
        };
        points::reached("outcome-recorded");
        awaited.inspect(|waiting| waiting.done(None));
        let now = (self.now)();
        if recipients.iter().any(|change| change.report) {
            // An outcome that a worker repeats may be about a message that was put out of memory while it was being recorded. What cannot
            // be read now is found by the next start.
            let _ = self.envelope(id);
        }
        let mut keys = Vec::with_capacity(recipients.len());
        for change in recipients {
            let key = OutcomeKey { id, recipient: change.number, attempt: change.attempt };
            self.recipient_ended(key, change.dead.as_ref());
            self.lost.remove(&(id, change.number));
            keys.push(key);
            if let Some((address, standing)) = change.found_out {
                self.found_out(&address, standing);
            }
            for (hop, class, time) in change.scheduled.into_iter().filter(|_| recorded) {
                self.scheduler.due(&hop, class, time, now);
            }
            if let Some(active) = self.messages.get_mut(&id) {
                active.report_due |= change.report;
            }
        }
        self.tell(connection, keys);
        self.settle_message(id);
    }

    fn tell(&self, connection: Option<Connection>, outcomes: Vec<OutcomeKey>) {
        if let Some(worker) = connection.and_then(|connection| self.workers.get(&connection))
            && !outcomes.is_empty()
        {
            // If the connection broke meanwhile, the worker asks again.
            let _ = worker.sender.send(ToWorker::Recorded(outcomes));
        }
    }

    /// A recipient of a lease has its outcome; the lease may be done with it.
    fn recipient_ended(&mut self, key: OutcomeKey, dead: Option<&(EnhancedStatus, String)>) {
        self.scheduler.recipient_done(key.id, key.recipient);
        let Some(number) = self.leased.remove(&(key.id, key.recipient)) else { return };
        let Some(lease) = self.leases.get_mut(&number) else { return };
        lease.open.retain(|open| *open != key.recipient);
        lease.all_dead &= dead.is_some();
        if let Some((status, text)) = dead {
            self.scheduler.blame(&lease.grant.hop, *status, text);
        }
        if lease.open.is_empty()
            && let Some(lease) = self.end_lease(number)
        {
            let ended = if lease.all_dead { Ended::Dead } else { Ended::Answered };
            self.scheduler.finished(&lease.grant, ended, (self.now)());
            // A worker that was quick says nothing, since its room is as it was.
            if let Some(worker) = self.workers.get_mut(&lease.connection) {
                worker.slots = (worker.slots + 1).min(worker.most);
            }
            self.lease_ended(key.id);
        }
    }

    pub(super) fn lease_ended(&mut self, id: QueueId) {
        if let Some(active) = self.messages.get_mut(&id) {
            active.leased = active.leased.saturating_sub(1);
        }
    }

    /// Looks at a message of which something ended: it may be done, or nothing may be under way with it.
    pub(super) fn settle_message(&mut self, id: QueueId) {
        match self.store.message(id) {
            Ok(None) => self.removed(id),
            Ok(Some(_)) if self.messages.get(&id).is_none_or(|active| active.leased == 0) => self.at_rest(id),
            // Still under way, or the index failed.
            _ => {}
        }
    }

    fn removed(&mut self, id: QueueId) {
        self.asking.remove(&id);
        // Two answers of the store may find the same message gone.
        if !self.messages.contains_key(&id) {
            return;
        }
        self.forget(id);
        self.log.record(&Record::new(&self.settings.idents.qmgr, Stage::Queue, Line::Removed).about(id));
    }

    /// Nothing of the message is leased: changes that waited are carried out, reports are sent, memory is given back.
    fn at_rest(&mut self, id: QueueId) {
        let Some(active) = self.messages.get_mut(&id) else { return };
        let pending = std::mem::take(&mut active.pending);
        if !pending.is_empty() {
            pending.into_iter().for_each(|kind| self.change_now(kind, id, None));
            return;
        }
        if active.reporting {
            return;
        }
        let (report, warn) = (active.report_due, active.warn_due);
        let open = self.store.recipients(id, 0, usize::MAX).unwrap_or_default();
        // Another destination of the message is about to be attempted: one report tells of both.
        if open.iter().any(|(number, _)| self.scheduler.is_active(id, *number)) {
            return;
        }
        if (report || warn) && !self.awaits_first_attempts(id, &open) {
            self.report(id);
        } else {
            self.forget(id);
        }
    }

    /// Carries out what needs no worker: routes that are missing, `discard`, `error`, `retry`.
    pub(super) fn carry_out_here(&mut self) {
        let now = (self.now)();
        while let Some(grant) = self.scheduler.grant(Carrier::Here, now, &Index(&self.store)) {
            match (Target::of(&grant.hop), self.envelope(grant.id)) {
                (_, Err(error)) => self.unreadable(&grant, &error, now),
                (None, Ok(envelope)) => self.find_routes(grant, &envelope, now),
                (Some(target), Ok(envelope)) => {
                    let ready = self.ready_recipients(&grant, &envelope, now);
                    let outcomes: Vec<_> = ready
                        .iter()
                        .map(|(number, state)| self.carried_out(&target, grant.id, *number, state, &envelope))
                        .collect();
                    self.scheduler.finished(&grant, Ended::Untried, now);
                    self.outcomes(None, outcomes);
                }
            }
        }
    }

    /// Finds the routes of a grant's recipients. Where a table must be asked first, the grant waits for [`super::Event::Answered`].
    fn find_routes(&mut self, grant: Grant, envelope: &Envelope, now: UnixTime) {
        let mut found = Vec::with_capacity(grant.recipients.len());
        for &number in &grant.recipients {
            let Ok(Some(state)) = self.store.recipient(grant.id, number) else { continue };
            let target = self.route(
                envelope.purpose,
                state.owner.as_ref().unwrap_or(&envelope.sender),
                &state.recipient.address,
            );
            found.push((number, state, target));
        }
        if found.iter().any(|(.., target)| *target == Target::Asked) {
            self.unrouted.push(grant);
            return;
        }
        for (number, state, target) in found {
            let hop = target.hop();
            let hop = if hop.is_unrouted() { no_route().hop() } else { hop };
            self.reroute(&grant, number, hop, &state, now);
        }
        self.scheduler.finished(&grant, Ended::Untried, now);
    }

    /// A table has answered: the routes that waited may be found.
    pub(super) fn answered(&mut self) {
        let now = (self.now)();
        for grant in std::mem::take(&mut self.unrouted) {
            match self.envelope(grant.id) {
                Ok(envelope) => self.find_routes(grant, &envelope, now),
                Err(error) => self.unreadable(&grant, &error, now),
            }
        }
    }

    fn carried_out(
        &self,
        target: &Target,
        id: QueueId,
        number: u32,
        state: &RecipientState,
        envelope: &mail_types::Envelope,
    ) -> delivery::Outcome {
        let idents = &self.settings.idents;
        let (ident, fate, status, text, word) = match target {
            Target::Discard(text) => {
                (&idents.discard, delivery::Fate::Delivered, EnhancedStatus::of(2, 0, 0), text.as_str(), "sent")
            }
            Target::Error(status, text) => (&idents.error, delivery::Fate::Bounced, *status, text.as_str(), "bounced"),
            Target::Retry(status, text) => {
                (&idents.error, delivery::Fate::Deferred { dead: false }, *status, text.as_str(), "deferred")
            }
            Target::Worker(_) | Target::Asked => return no_outcome(id, number, state),
        };
        let word = match self.purpose(id).is_verification() {
            true if word == "sent" => "deliverable",
            true => "undeliverable",
            false => word,
        };
        let outcome = delivery::Outcome { fate, status, text: text.to_owned(), ..no_outcome(id, number, state) };
        self.log_here(ident, &outcome, state, word, envelope);
        outcome
    }

    /// The log line of an outcome that no worker has reached.
    pub(super) fn log_here(
        &self,
        ident: &Ident,
        outcome: &delivery::Outcome,
        state: &RecipientState,
        word: &str,
        envelope: &Envelope,
    ) {
        let arrival = envelope.arrival;
        let now = (self.now)();
        let to = state.recipient.address.to_string();
        let since = self.messages.get(&outcome.id).map_or(now, |active| active.since);
        let zero = std::time::Duration::ZERO;
        let line = Delivery {
            to: &to,
            orig_to: state.recipient.original.as_deref(),
            relay: "none",
            delay: now.since(arrival),
            delays: [since.since(arrival), now.since(since), zero, zero],
            dsn: outcome.status,
            status: word,
            text: &outcome.text,
        };
        let rule = self.rule(state.owner.as_ref().unwrap_or(&envelope.sender), &state.recipient.address);
        let record = Record::new(ident, Stage::Delivery, Line::Delivery(line)).about(outcome.id);
        self.log.record(&record.by_any(rule.as_ref().map(|rule| (rule.name.as_str(), &rule.source))));
    }
}

fn no_route() -> Target {
    Target::Retry(EnhancedStatus::of(4, 3, 5), "no route was found".to_owned())
}

pub(super) fn no_outcome(id: QueueId, recipient: u32, state: &RecipientState) -> delivery::Outcome {
    delivery::Outcome {
        lease: 0,
        id,
        attempt: state.attempts + 1,
        recipient,
        fate: delivery::Fate::Deferred { dead: false },
        status: EnhancedStatus::of(4, 3, 5),
        text: String::new(),
        relay: "none".to_owned(),
        diagnostic: None,
        remote: None,
    }
}
