//! Keys of the index: one octet of kind, then fields whose octets order as their values do.

use mail_types::{QueueId, UnixTime};

use crate::hop::Hop;
use crate::index::Key;

/// The version of the table of keys.
pub const VERSION: &[u8] = b"v";
/// The last sequence number applied.
pub const SEQUENCE: &[u8] = b"q";
/// The next serial number.
pub const SERIAL: &[u8] = b"g";
/// Counts of messages.
pub const COUNTS: &[u8] = b"c";

/// Whether a recipient was ever attempted; the two take turns in the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Never attempted.
    Incoming = 0,
    /// Attempted and deferred.
    Deferred = 1,
}

/// One entry of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Due {
    /// When.
    pub time: UnixTime,
    /// The message.
    pub id: QueueId,
    /// The recipient's number.
    pub recipient: u32,
}

/// The message `id`.
pub fn message(id: QueueId) -> Key {
    let mut key = Vec::with_capacity(17);
    key.push(b'm');
    key.extend_from_slice(&id.to_bytes());
    key.into()
}

/// Recipient `number` of `id`.
pub fn recipient(id: QueueId, number: u32) -> Key {
    numbered(b'r', id, number)
}

/// A report is due about recipient `number` of `id`.
pub fn report(id: QueueId, number: u32) -> Key {
    numbered(b'p', id, number)
}

fn numbered(kind: u8, id: QueueId, number: u32) -> Key {
    let mut key = Vec::with_capacity(21);
    key.push(kind);
    key.extend_from_slice(&id.to_bytes());
    key.extend_from_slice(&number.to_be_bytes());
    key.into()
}

/// What lives in a segment.
pub fn segment(number: u64) -> Key {
    let mut key = vec![b's'];
    key.extend_from_slice(&number.to_be_bytes());
    key.into()
}

/// Ids that ended, written down at `time`.
pub fn ended(time: UnixTime) -> Key {
    let mut key = vec![b'e'];
    key.extend_from_slice(&time.0.to_be_bytes());
    key.into()
}

/// Everything of one hop and class.
pub fn schedule_prefix(hop: &Hop, class: Class) -> Vec<u8> {
    let mut key = Vec::with_capacity(hop.as_str().len() + 32);
    key.push(b't');
    key.extend_from_slice(hop.as_str().as_bytes());
    key.push(0);
    key.push(class as u8);
    key
}

/// One entry of the schedule.
pub fn schedule(hop: &Hop, class: Class, due: Due) -> Key {
    let mut key = schedule_prefix(hop, class);
    key.extend_from_slice(&due.time.0.to_be_bytes());
    key.extend_from_slice(&due.id.to_bytes());
    key.extend_from_slice(&due.recipient.to_be_bytes());
    key.into()
}

/// Reads a key of the schedule.
pub fn read_schedule(key: &[u8]) -> Option<(Hop, Class, Due)> {
    let (front, tail) = key.split_at_checked(key.len().checked_sub(28)?)?;
    let (class, front) = front.split_last()?;
    let hop = front.strip_prefix(b"t")?.strip_suffix(b"\0")?;
    let class = match class {
        0 => Class::Incoming,
        1 => Class::Deferred,
        _ => return None,
    };
    let time = UnixTime(u64::from_be_bytes(tail.get(..8)?.try_into().ok()?));
    let id = QueueId::from_bytes(tail.get(8..24)?.try_into().ok()?).ok()?;
    let recipient = u32::from_be_bytes(tail.get(24..)?.try_into().ok()?);
    Some((Hop::new(std::str::from_utf8(hop).ok()?).ok()?, class, Due { time, id, recipient }))
}

/// Reads a key of a message.
pub fn read_message(key: &[u8]) -> Option<QueueId> {
    QueueId::from_bytes(key.strip_prefix(b"m")?.try_into().ok()?).ok()
}

/// Reads a key of a recipient or of a report.
pub fn read_numbered(key: &[u8]) -> Option<(QueueId, u32)> {
    let id = QueueId::from_bytes(key.get(1..17)?.try_into().ok()?).ok()?;
    Some((id, u32::from_be_bytes(key.get(17..)?.try_into().ok()?)))
}

/// Reads the number in a key of a segment or the time in one of ended ids.
pub fn read_u64(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..)?.try_into().ok()?))
}

/// The first key behind every key that begins with `prefix` (which does not end with 0xff).
pub fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

/// The first key behind `key`.
pub fn after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_keys_order_by_time_and_are_read_again() {
        let id = QueueId::new(1_700_000_000, 5, 7).expect("in range");
        let hop = Hop::new("smtp:example.org").expect("no NUL");
        let key = |time, class| schedule(&hop, class, Due { time: UnixTime(time), id, recipient: 3 });
        assert!(key(255, Class::Incoming) < key(256, Class::Incoming));
        assert!(key(256, Class::Incoming) < key(1, Class::Deferred));
        let due = Due { time: UnixTime(256), id, recipient: 3 };
        assert_eq!(read_schedule(&key(256, Class::Deferred)), Some((hop, Class::Deferred, due)));
        assert_eq!(read_schedule(b"t"), None);
    }
}
