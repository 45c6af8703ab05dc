//! The scheduler: which message goes to which destination when. State and time in, grants out; no I/O, no clock.
//!
//! As in Postfix's SCHEDULER_README: each destination has a window of concurrent deliveries that grows with successes and shrinks with failed
//! connections; a destination whose failures add up to a cohort is dead and left alone for `minimal_backoff_time`. Destinations take turns;
//! within one, mail that was never attempted and mail that was deferred take turns. Each worker carries at most as many deliveries of a transport at
//! once as master.cf gives it processes; destinations beyond wait for one of them to end. Memory holds one entry per destination with mail and
//! what is active; everything else stays in the index.

mod lane;
mod limits;
mod services;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mail_types::{EnhancedStatus, QueueId, UnixTime};
use queue_store::{Class, Due, Hop};

use crate::destination::Carrier;

use lane::{Lane, admit, gather, lane, narrow, release, widen};
pub use limits::{Divisor, Feedback, Limits, TransportLimits};
use services::Services;

/// Entries fetched at once for a destination.
const PAGE: usize = 100;

/// What is due, as the index says.
pub trait Source {
    /// Entries of a hop and class behind `after`, in the order of time.
    fn schedule(&self, hop: &Hop, class: Class, after: Option<Due>, limit: usize) -> Vec<Due>;

    /// What limits the concurrency of a recipient where one lease takes one recipient: its address.
    fn recipient(&self, due: &Due) -> Option<String>;
}

/// Recipients of one message for one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Where.
    pub hop: Hop,
    /// The message.
    pub id: QueueId,
    /// The recipients' numbers.
    pub recipients: Vec<u32>,
    /// The address, where concurrency is per recipient.
    pub lane: Option<String>,
    /// Whether it was never attempted.
    pub class: Class,
    /// When it was due; what was due before a restart may have been attempted then.
    pub due: UnixTime,
}

/// How a grant ended, for the window of its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The destination answered, whatever it said.
    Answered,
    /// Nothing could be done with the destination.
    Dead,
    /// Nobody tried: the window stays as it is.
    Untried,
}

/// The state of the scheduler.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    lanes: HashMap<Hop, Lane>,
    /// Destinations that may have something to grant, taking turns.
    rings: BTreeMap<Carrier, VecDeque<Hop>>,
    /// What is under way of each transport, and who waits for it.
    services: Services,
    /// Destinations that wait for a time.
    timers: BTreeMap<(UnixTime, Hop), ()>,
    /// Recipients that are ready or leased.
    active: HashSet<(QueueId, u32)>,
    /// Entries that were due before this time are not granted yet: a worker of before the restart may be at them.
    pub hold_before: Option<UnixTime>,
}

const CLASSES: [Class; 2] = [Class::Incoming, Class::Deferred];

impl Scheduler {
    /// A scheduler that knows of no mail.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lanes: HashMap::new(),
            rings: BTreeMap::new(),
            services: Services::default(),
            timers: BTreeMap::new(),
            active: HashSet::new(),
            hold_before: None,
        }
    }

    /// Takes new limits; windows stay within them.
    pub fn set_limits(&mut self, limits: Limits) {
        for (hop, lane) in &mut self.lanes {
            lane.limits = limits.of(hop);
            if lane.limits.concurrency > 0 {
                lane.window = lane.window.min(lane.limits.concurrency);
            }
        }
        self.limits = limits;
        self.release_all();
    }

    /// How many workers carry each kind now.
    pub fn set_workers(&mut self, workers: HashMap<Carrier, u32>) {
        if self.services.set_workers(workers) {
            self.release_all();
        }
    }

    /// Whoever waited for a delivery to end has another try: the limits are others.
    fn release_all(&mut self) {
        for hop in self.services.take_waiting() {
            self.enqueue(hop);
        }
    }

    /// Puts a destination at the end of its ring.
    fn enqueue(&mut self, hop: Hop) {
        if let Some(lane) = self.lanes.get(&hop) {
            self.rings.entry(lane.carrier).or_default().push_back(hop);
        }
    }

    /// A delivery of a transport ended: one of those that waited for it has its turn.
    fn next_of(&mut self, service: Option<&Arc<str>>) -> bool {
        let next = service.and_then(|service| self.services.next_waiting(service));
        let found = next.is_some();
        next.into_iter().for_each(|hop| self.enqueue(hop));
        found
    }

    /// Something is scheduled for `hop` at `time`.
    pub fn due(&mut self, hop: &Hop, class: Class, time: UnixTime, now: UnixTime) {
        let lane = lane(&mut self.lanes, &self.limits, hop);
        let cursor = &mut lane.cursor[class as usize];
        if cursor.is_some_and(|reached| time <= reached.time) {
            *cursor = None;
        }
        let wake = &mut lane.wake[class as usize];
        if wake.is_none_or(|known| time < known) {
            *wake = Some(time);
        }
        self.settle(hop, now);
    }

    /// Everything of a hop may have changed: looks into the index again.
    pub fn look_again(&mut self, hop: &Hop, now: UnixTime) {
        for class in CLASSES {
            if let Some(lane) = self.lanes.get_mut(hop) {
                // What came back may lie before the place that was reached.
                lane.cursor[class as usize] = None;
            }
            self.due(hop, class, now, now);
        }
    }

    /// All dead destinations are tried again (`postqueue -f`).
    pub fn revive(&mut self, now: UnixTime) {
        for hop in self.hops() {
            self.revive_hop(&hop, now);
        }
    }

    /// A dead destination is tried again.
    pub fn revive_hop(&mut self, hop: &Hop, now: UnixTime) {
        if let Some(lane) = self.lanes.get_mut(hop) {
            lane.dead_until = None;
            lane.cohorts = 0.0;
            lane.window = lane.window.max(1);
        }
        self.settle(hop, now);
    }

    /// Why a delivery to a destination failed without any answer: who asks about a dead destination is told so.
    pub fn blame(&mut self, hop: &Hop, status: EnhancedStatus, text: &str) {
        if let Some(lane) = self.lanes.get_mut(hop) {
            lane.trouble = Some((status, text.to_owned()));
        }
    }

    /// The destinations that are left alone now, with the reason.
    #[must_use]
    pub fn suspended(&self) -> HashMap<Hop, (EnhancedStatus, String)> {
        let unknown = || (EnhancedStatus::of(4, 4, 1), "no answer".to_owned());
        let dead = self.lanes.iter().filter(|(_, lane)| lane.dead_until.is_some());
        dead.map(|(hop, lane)| (hop.clone(), lane.trouble.clone().unwrap_or_else(unknown))).collect()
    }

    /// Whether a recipient is ready or leased.
    #[must_use]
    pub fn is_active(&self, id: QueueId, recipient: u32) -> bool {
        self.active.contains(&(id, recipient))
    }

    /// How many recipients are ready or leased.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// A lease of before the restart is still held: its recipients are active without a grant.
    pub fn adopt(&mut self, hop: &Hop, id: QueueId, recipients: &[u32], lane_of: Option<&str>) {
        self.active.extend(recipients.iter().map(|number| (id, *number)));
        let lane = lane(&mut self.lanes, &self.limits, hop);
        lane.busy += 1;
        self.services.began(lane.service.as_ref());
        if let Some(address) = lane_of {
            *lane.recipients.entry(address.to_owned()).or_default() += 1;
        }
    }

    /// The next time at which something may be granted without any event.
    #[must_use]
    pub fn wake(&self) -> Option<UnixTime> {
        self.timers.keys().next().map(|(time, _)| *time)
    }

    /// The next grant for one carrier, if anything is due and its destination has room.
    pub fn grant(&mut self, carrier: Carrier, now: UnixTime, source: &impl Source) -> Option<Grant> {
        self.wake_up(now);
        let mut tries = self.rings.get(&carrier)?.len();
        while tries > 0 {
            tries -= 1;
            let hop = self.rings.get_mut(&carrier)?.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&hop) else { continue };
            let service = lane.service.clone();
            if let Some(service) = &service
                && !self.services.has_room(service, carrier, self.limits.processes(service))
            {
                self.services.wait(service, hop);
                continue;
            }
            lane.queued = false;
            let grant = self.grant_from(&hop, now, source);
            self.settle(&hop, now);
            if grant.is_some() {
                return grant;
            }
            // It has nothing to do with the room that was kept for it.
            tries += usize::from(self.next_of(service.as_ref()));
        }
        None
    }

    fn wake_up(&mut self, now: UnixTime) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let ((_, hop), ()) = entry.remove_entry();
            if let Some(lane) =
                self.lanes.get_mut(&hop).filter(|lane| lane.dead_until.is_some_and(|until| until <= now))
            {
                // One probe at a time until it answers.
                lane.dead_until = None;
                lane.cohorts = 0.0;
                lane.window = 1;
            }
            self.settle(&hop, now);
        }
    }

    fn grant_from(&mut self, hop: &Hop, now: UnixTime, source: &impl Source) -> Option<Grant> {
        let lane = self.lanes.get(hop)?;
        if lane.dead_until.is_some() || !lane.has_room() {
            return None;
        }
        let first = lane.turn;
        for turn in [first, 1 - first] {
            let class = CLASSES[turn];
            loop {
                if self.lanes.get(hop)?.ready[turn].is_empty() && !self.fetch(hop, class, now, source) {
                    break;
                }
                let lane = self.lanes.get_mut(hop)?;
                let due = lane.ready[turn].pop_front()?;
                let Some(limited) = admit(lane, class, due, source) else { continue };
                lane.turn = 1 - turn;
                lane.busy += 1;
                self.services.began(lane.service.as_ref());
                let mut grant = Grant {
                    hop: hop.clone(),
                    id: due.id,
                    recipients: vec![due.recipient],
                    lane: limited,
                    class,
                    due: due.time,
                };
                gather(lane, turn, &mut grant);
                return Some(grant);
            }
        }
        None
    }

    /// Fetches what is due; false if nothing is.
    fn fetch(&mut self, hop: &Hop, class: Class, now: UnixTime, source: &impl Source) -> bool {
        let turn = class as usize;
        let Some(lane) = self.lanes.get_mut(hop) else { return false };
        if lane.wake[turn].is_none_or(|time| time > now) || self.active.len() >= self.limits.active {
            return false;
        }
        lane.wake[turn] = None;
        loop {
            let page = source.schedule(hop, class, lane.cursor[turn], PAGE);
            let full = page.len() == PAGE;
            for due in page {
                if due.time > now {
                    lane.cursor[turn] = None;
                    lane.wake[turn] = Some(due.time);
                    return !lane.ready[turn].is_empty();
                }
                lane.cursor[turn] = Some(due);
                // Whoever ends the holding back looks again.
                let held = self.hold_before.is_some_and(|before| due.time < before);
                if !held && self.active.insert((due.id, due.recipient)) {
                    lane.ready[turn].push_back(due);
                }
            }
            if !full {
                lane.cursor[turn] = None;
                return !lane.ready[turn].is_empty();
            }
            if !lane.ready[turn].is_empty() {
                lane.wake[turn] = Some(now);
                return true;
            }
        }
    }

    /// A grant ended. The outcomes of its recipients are in the index before this is called.
    pub fn finished(&mut self, grant: &Grant, ended: Ended, now: UnixTime) {
        for number in &grant.recipients {
            self.active.remove(&(grant.id, *number));
        }
        let Some(lane) = self.lanes.get_mut(&grant.hop) else { return };
        lane.busy = lane.busy.saturating_sub(1);
        let service = lane.service.clone();
        self.services.ended(service.as_ref());
        let rest = lane.limits.rate_delay;
        let rests = !rest.is_zero() && ended != Ended::Untried && lane.carrier != Carrier::Here;
        if let Some(address) = &grant.lane {
            if rests {
                lane.resting.entry(now.after(rest)).or_default().push(address.clone());
            } else {
                release(lane, address);
            }
        } else {
            lane.rests_until = if rests { Some(now.after(rest)) } else { lane.rests_until };
            match ended {
                Ended::Answered => widen(lane),
                Ended::Dead => narrow(lane, now.after(self.limits.dead_for)),
                Ended::Untried => {}
            }
        }
        let hop = grant.hop.clone();
        self.settle(&hop, now);
        self.next_of(service.as_ref());
    }

    /// A recipient of a grant has its outcome, the others of the grant not yet.
    pub fn recipient_done(&mut self, id: QueueId, recipient: u32) {
        self.active.remove(&(id, recipient));
    }

    /// A grant is carried out as two.
    pub fn split(&mut self, hop: &Hop) {
        if let Some(lane) = self.lanes.get_mut(hop) {
            lane.busy += 1;
            self.services.began(lane.service.as_ref());
        }
    }

    /// The destinations known now.
    #[must_use]
    pub fn hops(&self) -> Vec<Hop> {
        self.lanes.keys().cloned().collect()
    }

    /// Recipients that are no longer to be granted (deleted, held): those ready are forgotten; true for those that are leased.
    pub fn withdraw(&mut self, hop: &Hop, id: QueueId, recipient: u32) -> bool {
        if !self.is_active(id, recipient) {
            return false;
        }
        let Some(lane) = self.lanes.get_mut(hop) else { return true };
        let same = |due: &Due| due.id == id && due.recipient == recipient;
        let before = self.active.len();
        for ready in &mut lane.ready {
            if let Some(at) = ready.iter().position(same) {
                ready.remove(at);
                self.active.remove(&(id, recipient));
            }
        }
        for parked in lane.parked.values_mut() {
            if let Some(at) = parked.iter().position(|(_, due)| same(due)) {
                parked.remove(at);
                self.active.remove(&(id, recipient));
            }
        }
        lane.parked.retain(|_, waiting| !waiting.is_empty());
        self.active.len() == before
    }

    /// Puts a destination where it belongs: into its ring, onto a timer, or out of memory.
    fn settle(&mut self, hop: &Hop, now: UnixTime) {
        let Some(lane) = self.lanes.get_mut(hop) else { return };
        lane.rested(now);
        if let Some(time) = lane.next_rested() {
            self.timers.insert((time, hop.clone()), ());
        }
        if lane.idle() {
            if !lane.queued {
                self.lanes.remove(hop);
            }
            return;
        }
        if let Some(until) = lane.dead_until {
            self.timers.insert((until, hop.clone()), ());
            return;
        }
        let ready = lane.ready.iter().any(|queue| !queue.is_empty());
        let due = lane.wake.iter().flatten().any(|time| *time <= now);
        if (ready || due) && lane.has_room() {
            let full = !ready && self.active.len() >= self.limits.active;
            if !lane.queued && !full {
                lane.queued = true;
                self.rings.entry(lane.carrier).or_default().push_back(hop.clone());
            } else if full {
                self.timers.insert((now.after(Duration::from_secs(1)), hop.clone()), ());
            }
        } else if let Some(time) = lane.wake.iter().flatten().filter(|time| **time > now).min() {
            self.timers.insert((*time, hop.clone()), ());
        }
    }
}

#[cfg(test)]
mod tests;
