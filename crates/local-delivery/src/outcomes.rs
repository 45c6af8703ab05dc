//! What the worker still owes queue-manager: leases under way, and outcomes that are not recorded yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mail_ipc::delivery::{Held, Lease, Outcome, OutcomeKey};
use mail_types::QueueId;

/// An outcome that is not recorded after so long is reported again.
const REPEAT: Duration = Duration::from_secs(20);

/// The books of a worker. An outcome stays until it is recorded; what was sent on a broken connection is sent again.
#[derive(Debug, Default)]
pub struct Books {
    held: BTreeMap<(QueueId, u32), BTreeSet<u32>>,
    outcomes: BTreeMap<OutcomeKey, (Outcome, Option<Instant>)>,
}

impl Books {
    /// A lease was granted.
    pub fn grant(&mut self, lease: &Lease) {
        let open = self.held.entry((lease.id, lease.attempt)).or_default();
        open.extend(lease.recipients.iter().map(|recipient| recipient.number));
    }

    /// A recipient's outcome is known.
    pub fn settle(&mut self, outcome: Outcome) {
        let key = OutcomeKey { id: outcome.id, recipient: outcome.recipient, attempt: outcome.attempt };
        self.close(key);
        self.outcomes.insert(key, (outcome, None));
    }

    /// A recipient is given up without outcome: queue-manager is gone, and will grant it again.
    pub fn abandon(&mut self, key: OutcomeKey) {
        self.close(key);
    }

    fn close(&mut self, key: OutcomeKey) {
        if let Some(open) = self.held.get_mut(&(key.id, key.attempt)) {
            open.remove(&key.recipient);
            if open.is_empty() {
                self.held.remove(&(key.id, key.attempt));
            }
        }
    }

    /// Leases under way.
    #[must_use]
    pub fn leases(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is under way and everything is recorded.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.held.is_empty() && self.outcomes.is_empty()
    }

    /// At most `most` outcomes that have to be sent now; they count as sent.
    pub fn unsent(&mut self, now: Instant, most: usize) -> Vec<Outcome> {
        let due =
            self.outcomes.values_mut().filter(|(_, sent)| sent.is_none_or(|sent| now.duration_since(sent) >= REPEAT));
        let due = due.take(most).map(|(outcome, sent)| {
            *sent = Some(now);
            outcome.clone()
        });
        due.collect()
    }

    /// The connection broke: nothing counts as sent any more.
    pub fn forget_sent(&mut self) {
        self.outcomes.values_mut().for_each(|(_, sent)| *sent = None);
    }

    /// An outcome is on disk at queue-manager; gives it back the first time.
    pub fn recorded(&mut self, key: OutcomeKey) -> Option<Outcome> {
        self.outcomes.remove(&key).map(|(outcome, _)| outcome)
    }

    /// The leases for [`mail_ipc::delivery::FromWorker::Resume`].
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        let held = |(&(id, attempt), open): (&(QueueId, u32), &BTreeSet<u32>)| Held {
            id,
            attempt,
            recipients: open.iter().copied().collect(),
        };
        self.held.iter().map(held).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_ipc::delivery::Fate;
    use mail_types::EnhancedStatus;

    fn outcome(recipient: u32) -> Outcome {
        Outcome {
            lease: 1,
            id: QueueId::new(1_700_000_000, 1, 1).expect("in range"),
            attempt: 1,
            recipient,
            fate: Fate::Delivered,
            status: EnhancedStatus::of(2, 0, 0),
            text: String::new(),
            relay: "local".into(),
            diagnostic: None,
            remote: None,
        }
    }

    #[test]
    fn an_outcome_is_repeated_until_it_is_recorded() {
        let mut books = Books::default();
        let start = Instant::now();
        books.settle(outcome(1));
        books.settle(outcome(2));
        assert_eq!(books.unsent(start, 10).len(), 2);
        assert_eq!(books.unsent(start, 10).len(), 0);
        assert_eq!(books.unsent(start + REPEAT, 1).len(), 1);
        let key = OutcomeKey { id: outcome(1).id, recipient: 1, attempt: 1 };
        assert!(books.recorded(key).is_some() && books.recorded(key).is_none());
        books.forget_sent();
        assert_eq!(books.unsent(start, 10), [outcome(2)]);
        assert!(!books.is_clear());
    }
}
