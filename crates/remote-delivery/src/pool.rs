//! Connections that wait for another message (`smtp_connection_cache_on_demand`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mail_ipc::delivery::Destination;
use tokio::sync::mpsc;

use crate::session::Handed;

/// The idle connections, by destination.
#[derive(Debug, Default)]
pub struct Pool(Mutex<Idle>);

#[derive(Debug, Default)]
struct Idle {
    next: u64,
    connections: HashMap<Destination, Vec<(u64, mpsc::Sender<Handed>)>>,
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection waits; it takes messages through `sender`. The number takes it back with [`Pool::withdraw`].
    pub fn offer(&self, destination: &Destination, sender: mpsc::Sender<Handed>) -> u64 {
        let mut idle = self.idle();
        idle.next += 1;
        let number = idle.next;
        idle.connections.entry(destination.clone()).or_default().push((number, sender));
        number
    }

    /// The connection waits no longer. False if a message was handed to it meanwhile: that one must be taken.
    pub fn withdraw(&self, destination: &Destination, number: u64) -> bool {
        let mut idle = self.idle();
        let Some(waiting) = idle.connections.get_mut(destination) else { return false };
        let before = waiting.len();
        waiting.retain(|(other, _)| *other != number);
        let found = waiting.len() < before;
        if waiting.is_empty() {
            idle.connections.remove(destination);
        }
        found
    }

    /// Hands a message to a waiting connection; gives it back if none waits.
    pub fn hand(&self, destination: &Destination, mut handed: Handed) -> Option<Handed> {
        let mut idle = self.idle();
        while let Some((_, sender)) = idle.connections.get_mut(destination).and_then(Vec::pop) {
            match sender.try_send(handed) {
                Ok(()) => return None,
                Err(error) => handed = error.into_inner(),
            }
        }
        idle.connections.remove(destination);
        Some(handed)
    }

    /// The destinations with waiting connections.
    pub fn destinations(&self) -> Vec<Destination> {
        let mut destinations: Vec<Destination> =
            self.idle().connections.iter().filter(|(_, waiting)| !waiting.is_empty()).map(|(d, _)| d.clone()).collect();
        destinations.sort();
        destinations
    }
}
