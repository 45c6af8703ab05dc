//! Questions to the state.

use mail_types::QueueId;

use super::{Result, State, decode, unreadable};
use crate::hop::Hop;
use crate::keys::{self, Class, Due};
use crate::message::MessageState;
use crate::record::RecipientState;

impl State {
    /// Whether the message was here and ended within the last ten minutes.
    pub fn has_ended(&self, id: QueueId) -> bool {
        self.ended.contains_key(&id)
    }

    /// A message that is not done.
    pub fn message(&self, id: QueueId) -> Result<Option<MessageState>> {
        self.layers.get(&keys::message(id))?.map(|value| decode(&value)).transpose()
    }

    /// A recipient that is not done.
    pub fn recipient(&self, id: QueueId, number: u32) -> Result<Option<RecipientState>> {
        self.layers.get(&keys::recipient(id, number))?.map(|value| decode(&value)).transpose()
    }

    /// The recipients of a message that are not done, from number `from` on.
    pub fn recipients(&self, id: QueueId, from: u32, limit: usize) -> Result<Vec<(u32, RecipientState)>> {
        let until = keys::after(&keys::recipient(id, u32::MAX));
        let entries = self.layers.scan(&keys::recipient(id, from), &until, limit)?;
        entries
            .iter()
            .map(|(key, value)| Ok((keys::read_numbered(key).ok_or_else(unreadable)?.1, decode(value)?)))
            .collect()
    }

    /// Messages in the order of ids, behind `after`.
    pub fn messages(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<(QueueId, MessageState)>> {
        let from = after.map_or_else(|| b"m".to_vec(), |id| keys::after(&keys::message(id)));
        let entries = self.layers.scan(&from, b"n", limit)?;
        entries
            .iter()
            .map(|(key, value)| Ok((keys::read_message(key).ok_or_else(unreadable)?, decode(value)?)))
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

fn schedule_prefix_of(hop: &Hop) -> Vec<u8> {
    let mut key = vec![b't'];
    key.extend_from_slice(hop.as_str().as_bytes());
    key
}
