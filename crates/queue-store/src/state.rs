//! What the log says, applied record by record: the same code while running and while replaying.

mod query;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mail_types::{QueueId, Recipient, UnixTime};
use serde::{Deserialize, Serialize};

use crate::hop::Hop;
use crate::index::{Index, IndexError};
use crate::keys::{self, Class, Due};
use crate::layers::Layers;
use crate::message::{Counts, Live, Location, MessageState};
use crate::record::{
    Accepted, Expanded, Fate, LastReply, Member, Moved, Outcome, Place, RecipientState, Record, Remote,
};
use crate::values;

/// How long the id of a message that ended stays known, so that the same intake gets the same answer.
pub const REMEMBERED: Duration = Duration::from_secs(600);
/// The version of the table of keys.
const TABLE: u8 = 3;

/// Something the caller of [`State::apply`] has to see to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The message is done; its content file, if it has one, can go.
    Ended(QueueId, Place),
}

/// The present state of the queue.
pub struct State {
    layers: Layers,
    /// The last sequence number applied.
    pub sequence: u64,
    frozen_sequence: u64,
    /// The next serial number to grant.
    pub serial: u32,
    /// How many messages there are.
    pub counts: Counts,
    /// What lives where.
    pub live: BTreeMap<u64, Live>,
    ended: HashMap<QueueId, ()>,
    ended_order: VecDeque<(UnixTime, QueueId)>,
    ended_new: Vec<u8>,
    ended_written: VecDeque<UnixTime>,
}

type Result<T> = std::result::Result<T, IndexError>;

impl State {
    /// The state of an empty queue over an index that is new.
    pub fn empty(base: Arc<dyn Index>) -> Self {
        Self {
            layers: Layers::new(base),
            sequence: 0,
            frozen_sequence: 0,
            serial: 1,
            counts: Counts::default(),
            live: BTreeMap::new(),
            ended: HashMap::new(),
            ended_order: VecDeque::new(),
            ended_new: Vec::new(),
            ended_written: VecDeque::new(),
        }
    }

    /// The state that an index holds; none if the index is of another version or incomplete.
    pub fn load(base: Arc<dyn Index>) -> Result<Option<Self>> {
        let (Some(version), Some(sequence), Some(serial), Some(counts)) =
            (base.get(keys::VERSION)?, base.get(keys::SEQUENCE)?, base.get(keys::SERIAL)?, base.get(keys::COUNTS)?)
        else {
            return Ok(None);
        };
        if version != [TABLE] {
            return Ok(None);
        }
        let mut state = Self::empty(base.clone());
        state.sequence = decode(&sequence)?;
        state.serial = decode(&serial)?;
        state.counts = decode(&counts)?;
        for (key, value) in base.scan(b"s", b"t", usize::MAX)? {
            state.live.insert(keys::read_u64(&key).ok_or_else(unreadable)?, decode(&value)?);
        }
        for (key, value) in base.scan(b"e", b"f", usize::MAX)? {
            let time = UnixTime(keys::read_u64(&key).ok_or_else(unreadable)?);
            for id in value.chunks_exact(16) {
                let id = QueueId::from_bytes(id.try_into().map_err(|_| unreadable())?).map_err(|_| unreadable())?;
                state.ended.insert(id, ());
                state.ended_order.push_back((time, id));
            }
            state.ended_written.push_back(time);
        }
        Ok(Some(state))
    }

    /// Applies one record. `at` says where it is, `hops` where the recipients that begin are to be scheduled (missing ones are unrouted).
    pub fn apply(&mut self, record: &Record, at: Location, hops: &[Hop], content_good: bool) -> Result<Option<Effect>> {
        match record {
            Record::Granted(granted) => {
                self.serial = granted.first.wrapping_add(granted.count).max(1);
                Ok(None)
            }
            Record::Accepted(accepted) => self.accepted(accepted, at, hops, content_good).map(|()| None),
            Record::Outcome(outcome) => self.outcome(outcome),
            Record::Expanded(expanded) => self.expanded(expanded, hops),
            Record::Held(change) => self.set_hold(change.id, true).map(|()| None),
            Record::Released(change) => self.set_hold(change.id, false).map(|()| None),
            Record::Requeued(change) => self.requeued(change.id, change.at).map(|()| None),
            Record::Deleted(deleted) => self.deleted(deleted.id, deleted.at),
            Record::Moved(moved) => self.moved(moved, at, content_good).map(|()| None),
            Record::Void(_) => Ok(None),
        }
    }

    fn accepted(&mut self, accepted: &Accepted, location: Location, hops: &[Hop], content_good: bool) -> Result<()> {
        if self.message(accepted.id)?.is_some() || self.has_ended(accepted.id) {
            return Ok(());
        }
        let envelope = &accepted.envelope;
        let count = u32::try_from(envelope.recipients.len()).map_err(|_| unreadable())?;
        let message = MessageState {
            location,
            place: accepted.place,
            sender: envelope.sender.clone(),
            arrival: envelope.arrival,
            size: envelope.size,
            open: count,
            next: count,
            hold: accepted.hold,
            corrupt: !content_good,
            deferred: false,
            purpose: envelope.purpose,
        };
        self.enter(accepted.id, &message, true);
        for (number, recipient) in (0..count).zip(&envelope.recipients) {
            let mut state = RecipientState::new(recipient.clone(), accepted.at);
            state.hop = hops.get(number as usize).cloned().unwrap_or_default();
            self.put_recipient(accepted.id, &message, number, &state, true);
        }
        Ok(())
    }

    fn moved(&mut self, moved: &Moved, location: Location, content_good: bool) -> Result<()> {
        let envelope = &moved.envelope;
        let mut message = MessageState {
            location,
            place: moved.place,
            sender: envelope.sender.clone(),
            arrival: envelope.arrival,
            size: envelope.size,
            open: u32::try_from(moved.recipients.len()).map_err(|_| unreadable())?,
            next: moved.next,
            hold: moved.hold,
            corrupt: moved.corrupt || !content_good,
            deferred: moved.recipients.iter().any(|(_, state)| state.attempts > 0),
            purpose: envelope.purpose,
        };
        if let Some(before) = self.message(moved.id)? {
            message.deferred |= before.deferred;
            self.remove_recipients(moved.id)?;
            self.leave(moved.id, &before);
        }
        self.enter(moved.id, &message, false);
        for (number, state) in &moved.recipients {
            self.put_recipient(moved.id, &message, *number, state, false);
        }
        Ok(())
    }

    fn outcome(&mut self, outcome: &Outcome) -> Result<Option<Effect>> {
        let Some(mut message) = self.message(outcome.id)? else { return Ok(None) };
        let before = message.clone();
        for &(number, _) in &outcome.recipients {
            let Some(state) = self.recipient(outcome.id, number)? else { continue };
            let wanted = match outcome.result {
                Fate::Reported => state.report.is_some(),
                Fate::Traced => true,
                _ => state.report.is_none(),
            };
            if !wanted {
                // A second report of an end that stands, or a report that was never due.
                continue;
            }
            self.one_outcome(outcome, &mut message, number, state)?;
        }
        self.after_change(outcome.id, outcome.at, &before, &message)
    }

    fn one_outcome(
        &mut self,
        outcome: &Outcome,
        message: &mut MessageState,
        number: u32,
        mut state: RecipientState,
    ) -> Result<()> {
        let id = outcome.id;
        self.unschedule(id, number, &state);
        match outcome.result {
            Fate::Reported => {
                self.layers.remove(keys::report(id, number));
                return self.end_recipient(id, message, number);
            }
            fate if fate.is_end() && !outcome.report => return self.end_recipient(id, message, number),
            fate if fate.is_end() => state.report = Some(fate),
            Fate::Deferred(until) => {
                state.next = until;
                message.deferred = true;
            }
            Fate::Redirected => {
                state.next = outcome.at;
                state.via.clone_from(&outcome.via);
                state.hop = outcome.via.clone().unwrap_or_default();
            }
            Fate::Traced => state.traced = true,
            _ => state.warned = true,
        }
        if !matches!(outcome.result, Fate::Warned | Fate::Traced) {
            state.attempts = state.attempts.max(outcome.attempt);
            let mta = outcome.mta.clone().filter(|mta| *mta != Remote::default());
            state.last = Some(LastReply { status: outcome.status, text: outcome.text.clone(), mta, at: outcome.at });
        }
        self.put_recipient(id, message, number, &state, false);
        Ok(())
    }

    fn expanded(&mut self, expanded: &Expanded, hops: &[Hop]) -> Result<Option<Effect>> {
        let Some(mut message) = self.message(expanded.id)? else { return Ok(None) };
        let before = message.clone();
        let Some(mut state) = self.recipient(expanded.id, expanded.recipient)? else { return Ok(None) };
        if state.report.is_some() {
            return Ok(None);
        }
        for (n, member) in expanded.members.iter().enumerate() {
            let number = message.next;
            message.next += 1;
            message.open += 1;
            let mut member = member_state(member, expanded.at);
            member.hop = hops.get(n).cloned().unwrap_or_default();
            self.put_recipient(expanded.id, &message, number, &member, true);
        }
        self.unschedule(expanded.id, expanded.recipient, &state);
        if expanded.report {
            state.report = Some(Fate::Delivered);
            self.put_recipient(expanded.id, &message, expanded.recipient, &state, false);
        } else {
            self.end_recipient(expanded.id, &mut message, expanded.recipient)?;
        }
        self.after_change(expanded.id, expanded.at, &before, &message)
    }

    fn set_hold(&mut self, id: QueueId, hold: bool) -> Result<()> {
        let Some(mut message) = self.message(id)? else { return Ok(()) };
        let before = message.clone();
        message.hold = hold;
        for (number, state) in self.recipients(id, 0, usize::MAX)? {
            self.unschedule(id, number, &state);
            self.put_recipient(id, &message, number, &state, false);
        }
        self.count(Some(&before), Some(&message));
        self.put_message(id, &message, false);
        Ok(())
    }

    fn requeued(&mut self, id: QueueId, at: UnixTime) -> Result<()> {
        let Some(mut message) = self.message(id)? else { return Ok(()) };
        let before = message.clone();
        message.hold = false;
        for (number, mut state) in self.recipients(id, 0, usize::MAX)? {
            self.unschedule(id, number, &state);
            state.next = at;
            state.hop = Hop::default();
            state.via = None;
            self.put_recipient(id, &message, number, &state, false);
        }
        self.count(Some(&before), Some(&message));
        self.put_message(id, &message, false);
        Ok(())
    }

    fn deleted(&mut self, id: QueueId, at: UnixTime) -> Result<Option<Effect>> {
        let Some(message) = self.message(id)? else { return Ok(None) };
        self.remove_recipients(id)?;
        self.leave(id, &message);
        self.remember_end(id, at);
        Ok(Some(Effect::Ended(id, message.place)))
    }

    /// Moves recipients in the schedule: not a durable fact, since routes and due times are found again after a restart.
    pub fn reschedule(&mut self, id: QueueId, number: u32, hop: Option<Hop>, next: Option<UnixTime>) -> Result<bool> {
        let (Some(message), Some(mut state)) = (self.message(id)?, self.recipient(id, number)?) else {
            return Ok(false);
        };
        self.unschedule(id, number, &state);
        state.hop = hop.unwrap_or(state.hop);
        state.next = next.unwrap_or(state.next);
        self.put_recipient(id, &message, number, &state, false);
        Ok(true)
    }

    fn remove_recipients(&mut self, id: QueueId) -> Result<()> {
        for (number, state) in self.recipients(id, 0, usize::MAX)? {
            self.unschedule(id, number, &state);
            self.layers.remove(keys::recipient(id, number));
            if state.report.is_some() {
                self.layers.remove(keys::report(id, number));
            }
        }
        Ok(())
    }

    fn after_change(
        &mut self,
        id: QueueId,
        at: UnixTime,
        before: &MessageState,
        now: &MessageState,
    ) -> Result<Option<Effect>> {
        if now.open == 0 {
            self.leave(id, before);
            self.remember_end(id, at);
            return Ok(Some(Effect::Ended(id, now.place)));
        }
        if now != before {
            self.count(Some(before), Some(now));
            self.put_message(id, now, false);
        }
        Ok(None)
    }

    fn end_recipient(&mut self, id: QueueId, message: &mut MessageState, number: u32) -> Result<()> {
        self.layers.remove(keys::recipient(id, number));
        message.open = message.open.checked_sub(1).ok_or_else(unreadable)?;
        Ok(())
    }

    fn enter(&mut self, id: QueueId, message: &MessageState, new: bool) {
        let live = self.live.entry(message.location.segment).or_default();
        live.messages += 1;
        live.octets += message.location.octets();
        self.count(None, Some(message));
        self.put_message(id, message, new);
    }

    fn leave(&mut self, id: QueueId, message: &MessageState) {
        if let Some(live) = self.live.get_mut(&message.location.segment) {
            live.messages = live.messages.saturating_sub(1);
            live.octets = live.octets.saturating_sub(message.location.octets());
        }
        self.count(Some(message), None);
        self.layers.remove(keys::message(id));
    }

    fn count(&mut self, before: Option<&MessageState>, now: Option<&MessageState>) {
        let deferred = |message: &MessageState| message.deferred && !message.hold;
        if let Some(message) = before {
            self.counts.messages = self.counts.messages.saturating_sub(1);
            self.counts.hold = self.counts.hold.saturating_sub(message.hold.into());
            self.counts.deferred = self.counts.deferred.saturating_sub(deferred(message).into());
        }
        if let Some(message) = now {
            self.counts.messages += 1;
            self.counts.hold += u64::from(message.hold);
            self.counts.deferred += u64::from(deferred(message));
        }
    }

    fn put_message(&mut self, id: QueueId, message: &MessageState, new: bool) {
        self.layers.put(keys::message(id), values::of_message(message), new);
    }

    /// Writes a recipient, its place in the schedule, and the report that is due about it.
    fn put_recipient(&mut self, id: QueueId, message: &MessageState, number: u32, state: &RecipientState, new: bool) {
        self.layers.put(keys::recipient(id, number), values::of_recipient(state), new);
        if state.report.is_some() {
            self.layers.put(keys::report(id, number), Box::default(), new);
        } else if !message.hold && !message.corrupt {
            self.layers.put(schedule_key(id, number, state), Box::default(), new);
        }
    }

    fn unschedule(&mut self, id: QueueId, number: u32, state: &RecipientState) {
        if state.report.is_none() {
            self.layers.remove(schedule_key(id, number, state));
        }
    }

    fn remember_end(&mut self, id: QueueId, at: UnixTime) {
        if self.ended.insert(id, ()).is_none() {
            self.ended_order.push_back((at, id));
            self.ended_new.extend_from_slice(&id.to_bytes());
        }
    }

    /// Whether an earlier layer is still on its way into the index.
    pub fn is_freezing(&self) -> bool {
        self.layers.is_freezing()
    }

    /// Writes that wait for the index.
    pub fn pending(&self) -> usize {
        self.layers.pending()
    }

    /// Sets aside what is pending, complete with the sequence number that it reaches.
    pub fn freeze(&mut self, now: UnixTime) -> Result<Arc<dyn Index>> {
        self.layers.put(keys::VERSION.into(), [TABLE].as_slice().into(), false);
        self.layers.put(keys::SEQUENCE.into(), encode(&self.sequence)?, false);
        self.layers.put(keys::SERIAL.into(), encode(&self.serial)?, false);
        self.layers.put(keys::COUNTS.into(), encode(&self.counts)?, false);
        for (number, live) in &self.live {
            self.layers.put(keys::segment(*number), encode(live)?, false);
        }
        self.write_ended(now);
        self.frozen_sequence = self.sequence;
        Ok(self.layers.freeze())
    }

    fn write_ended(&mut self, now: UnixTime) {
        if !self.ended_new.is_empty() {
            // Two batches within a millisecond must not share a key.
            let time = self.ended_written.back().map_or(now, |last| now.max(UnixTime(last.0 + 1)));
            self.layers.put(keys::ended(time), std::mem::take(&mut self.ended_new).into(), false);
            self.ended_written.push_back(time);
        }
        while self.ended_order.front().is_some_and(|(at, _)| now.since(*at) > REMEMBERED) {
            if let Some((_, id)) = self.ended_order.pop_front() {
                self.ended.remove(&id);
            }
        }
        while self.ended_written.front().is_some_and(|at| now.since(*at) > REMEMBERED) {
            if let Some(time) = self.ended_written.pop_front() {
                self.layers.remove(keys::ended(time));
            }
        }
    }

    /// The index below.
    pub fn base(&self) -> Arc<dyn Index> {
        self.layers.base()
    }

    /// What [`State::freeze`] set aside.
    pub fn frozen_writes(&self) -> Vec<crate::index::Write> {
        self.layers.frozen_writes()
    }

    /// The sequence number that was set aside last.
    pub fn frozen_sequence(&self) -> u64 {
        self.frozen_sequence
    }

    /// The index has what was set aside.
    pub fn thaw(&mut self) {
        self.layers.thaw();
    }

    /// A segment is gone.
    pub fn forget_segment(&mut self, number: u64) {
        self.live.remove(&number);
        self.layers.remove(keys::segment(number));
    }
}

fn member_state(member: &Member, at: UnixTime) -> RecipientState {
    let recipient: Recipient = member.recipient.clone();
    let (owner, chain) = (member.owner.clone(), member.chain.clone());
    RecipientState { owner, chain, part: member.part, ..RecipientState::new(recipient, at) }
}

fn schedule_key(id: QueueId, number: u32, state: &RecipientState) -> crate::index::Key {
    let class = if state.attempts > 0 { Class::Deferred } else { Class::Incoming };
    keys::schedule(&state.hop, class, Due { time: state.next, id, recipient: number })
}

fn encode<T: Serialize>(value: &T) -> Result<crate::index::Value> {
    serde_json::to_vec(value).map(Into::into).map_err(|error| IndexError(error.to_string()))
}

fn decode<T: for<'de> Deserialize<'de>>(value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|error| IndexError(error.to_string()))
}

fn unreadable() -> IndexError {
    IndexError("an entry is not what was written".to_owned())
}
