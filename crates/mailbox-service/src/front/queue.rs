//! Connections before their login, in the order in which they came.
//!
//! When no place or no descriptor is left the oldest of them must go, as in Dovecot: a login takes a moment, so a flood of silent connections
//! drives out itself, and nobody who has logged in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The connections that have not logged in.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    connections: BTreeMap<u64, Arc<Notify>>,
}

/// A connection's place in the queue, until it is dropped.
#[derive(Debug)]
pub(super) struct Queued<'q> {
    queue: &'q Queue,
    number: u64,
    must_go: Arc<Notify>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection has come.
    pub(super) fn enter(&self) -> Queued<'_> {
        let mut waiting = self.lock();
        waiting.next += 1;
        let (number, must_go) = (waiting.next, Arc::new(Notify::new()));
        waiting.connections.insert(number, Arc::clone(&must_go));
        Queued { queue: self, number, must_go }
    }

    /// Tells the oldest connection to go. False if there is none.
    pub(super) fn drop_oldest(&self) -> bool {
        let oldest = self.lock().connections.pop_first();
        if let Some((_, must_go)) = &oldest {
            must_go.notify_one();
        }
        oldest.is_some()
    }
}

impl Queued<'_> {
    /// Ends when the connection must go.
    pub(super) async fn must_go(&self) {
        self.must_go.notified().await;
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.queue.lock().connections.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_that_is_still_there_goes_first() {
        let queue = Queue::default();
        let (first, second, third) = (queue.enter(), queue.enter(), queue.enter());
        drop(first);
        assert!(queue.drop_oldest());
        second.must_go().await;
        assert!(queue.drop_oldest());
        third.must_go().await;
        assert!(!queue.drop_oldest());
        drop((second, third));
        assert!(!queue.drop_oldest());
    }
}
