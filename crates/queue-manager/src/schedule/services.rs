//! The transports of master.cf as far as they are services with processes: how many deliveries are under way, and which destinations wait.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use queue_store::Hop;

use crate::destination::Carrier;

/// One transport.
#[derive(Debug, Default)]
struct Service {
    /// Deliveries under way, by all workers.
    busy: u32,
    /// Destinations that wait for one of them to end, in their order.
    waiting: VecDeque<Hop>,
}

/// All transports that have mail.
#[derive(Debug, Default)]
pub struct Services {
    all: HashMap<Arc<str>, Service>,
    /// How many workers carry each kind.
    workers: HashMap<Carrier, u32>,
}

impl Services {
    /// Notes how many workers there are; whether that changes anything.
    pub fn set_workers(&mut self, workers: HashMap<Carrier, u32>) -> bool {
        let changed = self.workers != workers;
        self.workers = workers;
        changed
    }

    /// Whether another delivery may begin: each worker has so many processes, 0 is no limit.
    pub fn has_room(&self, service: &str, carrier: Carrier, processes: u32) -> bool {
        let workers = self.workers.get(&carrier).copied().unwrap_or(1).max(1);
        let busy = self.all.get(service).map_or(0, |service| service.busy);
        processes == 0 || busy < processes.saturating_mul(workers)
    }

    /// A delivery begins.
    pub fn began(&mut self, service: Option<&Arc<str>>) {
        if let Some(service) = service {
            self.all.entry(Arc::clone(service)).or_default().busy += 1;
        }
    }

    /// A delivery ended. A transport without work is forgotten.
    pub fn ended(&mut self, service: Option<&Arc<str>>) {
        let Some(service) = service else { return };
        if let Some(known) = self.all.get_mut(service) {
            known.busy = known.busy.saturating_sub(1);
            if known.busy == 0 && known.waiting.is_empty() {
                self.all.remove(service);
            }
        }
    }

    /// A destination waits for a delivery to end.
    pub fn wait(&mut self, service: &Arc<str>, hop: Hop) {
        self.all.entry(Arc::clone(service)).or_default().waiting.push_back(hop);
    }

    /// The destination that has waited longest.
    pub fn next_waiting(&mut self, service: &str) -> Option<Hop> {
        self.all.get_mut(service)?.waiting.pop_front()
    }

    /// Everybody who waits.
    pub fn take_waiting(&mut self) -> Vec<Hop> {
        self.all.values_mut().flat_map(|service| std::mem::take(&mut service.waiting)).collect()
    }
}
