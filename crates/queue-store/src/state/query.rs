//! Questions to the state.

use mail_types::QueueId;

use super::{Result, State, unreadable};
use crate::hop::Hop;
use crate::keys::{self, Class, Due};
use crate::message::MessageState;
use crate::record::RecipientState;
use crate::values;

/// Recipients read at once for a list of messages.
const TOGETHER: usize = 512;

impl State {
    /// Whether the message was here and ended within the last ten minutes.
    pub fn has_ended(&self, id: QueueId) -> bool {
        self.ended.contains_key(&id)
    }

    /// A message that is not done.
    pub fn message(&self, id: QueueId) -> Result<Option<MessageState>> {
        let value = self.layers.get(&keys::message(id))?;
        value.map(|value| values::message(&value).ok_or_else(unreadable)).transpose()
    }

    /// A recipient that is not done.
    pub fn recipient(&self, id: QueueId, number: u32) -> Result<Option<RecipientState>> {
        let value = self.layers.get(&keys::recipient(id, number))?;
        value.map(|value| values::recipient(&value).ok_or_else(unreadable)).transpose()
    }

    /// The recipients of a message that are not done, from number `from` on.
    pub fn recipients(&self, id: QueueId, from: u32, limit: usize) -> Result<Vec<(u32, RecipientState)>> {
        let until = keys::after(&keys::recipient(id, u32::MAX));
        let entries = self.layers.scan(&keys::recipient(id, from), &until, limit)?;
        entries.iter().map(|(key, value)| numbered(key, value).map(|(_, number, state)| (number, state))).collect()
    }

    /// For each of several messages, in the order of ids, its recipients that are not done; at most so many of each.
    pub fn recipients_of(&self, ids: &[QueueId], limit: usize) -> Result<Vec<Vec<RecipientState>>> {
        let mut found = Vec::with_capacity(ids.len());
        while let (Some(&first), Some(&last)) = (ids.get(found.len()), ids.last()) {
            let until = keys::after(&keys::recipient(last, u32::MAX));
            let entries = self.layers.scan(&keys::recipient(first, 0), &until, TOGETHER)?;
            let page: Vec<_> = entries.iter().map(|(key, value)| numbered(key, value)).collect::<Result<_>>()?;
            // The last message of a full page may go on behind it.
            let cut = page.last().filter(|_| page.len() == TOGETHER).map(|(id, ..)| *id);
            if cut == Some(first) {
                let all = self.recipients(first, 0, limit)?;
                found.push(all.into_iter().map(|(_, state)| state).collect());
                continue;
            }
            let mut page = page.into_iter().peekable();
            for &id in ids[found.len()..].iter().take_while(|id| cut.is_none_or(|cut| **id < cut)) {
                // Those beyond the limit of the one before, and of messages that nobody asks for.
                while page.next_if(|(next, ..)| *next < id).is_some() {}
                let of_it = std::iter::from_fn(|| page.next_if(|(next, ..)| *next == id));
                found.push(of_it.map(|(_, _, state)| state).take(limit).collect());
            }
        }
        Ok(found)
    }

    /// Messages in the order of ids, behind `after`.
    pub fn messages(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<(QueueId, MessageState)>> {
        let from = after.map_or_else(|| b"m".to_vec(), |id| keys::after(&keys::message(id)));
        let entries = self.layers.scan(&from, b"n", limit)?;
        entries
            .iter()
            .map(|(key, value)| keys::read_message(key).zip(values::message(value)).ok_or_else(unreadable))
            .collect()
    }

    /// Recipients about whom a report is due, behind `after`.
    pub fn reports(&self, after: Option<(QueueId, u32)>, limit: usize) -> Result<Vec<(QueueId, u32)>> {
        let from = after.map_or_else(|| b"p".to_vec(), |(id, number)| keys::after(&keys::report(id, number)));
        let entries = self.layers.scan(&from, b"q", limit)?;
        entries.iter().map(|(key, _)| keys::read_numbered(key).ok_or_else(unreadable)).collect()
    }

    /// The first hop behind `after` that has anything scheduled.
    pub fn next_hop(&self, after: Option<&Hop>) -> Result<Option<Hop>> {
        let from = match after {
            None => b"t".to_vec(),
            Some(hop) => {
                let mut key = schedule_prefix_of(hop);
                key.push(1);
                key
            }
        };
        let entries = self.layers.scan(&from, b"u", 1)?;
        entries
            .first()
            .map(|(key, _)| keys::read_schedule(key).map(|(hop, _, _)| hop).ok_or_else(unreadable))
            .transpose()
    }

    /// The schedule of one hop and class behind `after`.
    pub fn schedule(&self, hop: &Hop, class: Class, after: Option<Due>, limit: usize) -> Result<Vec<Due>> {
        let prefix = keys::schedule_prefix(hop, class);
        let from = after.map_or_else(|| prefix.clone(), |due| keys::after(&keys::schedule(hop, class, due)));
        let entries = self.layers.scan(&from, &keys::behind(&prefix), limit)?;
        entries.iter().map(|(key, _)| keys::read_schedule(key).map(|(_, _, due)| due).ok_or_else(unreadable)).collect()
    }
}

fn numbered(key: &[u8], value: &[u8]) -> Result<(QueueId, u32, RecipientState)> {
    let entry = keys::read_numbered(key).zip(values::recipient(value));
    entry.map(|((id, number), state)| (id, number, state)).ok_or_else(unreadable)
}

fn schedule_prefix_of(hop: &Hop) -> Vec<u8> {
    let mut key = vec![b't'];
    key.extend_from_slice(hop.as_str().as_bytes());
    key
}
