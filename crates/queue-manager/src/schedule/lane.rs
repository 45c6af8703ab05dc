//! One destination with mail: its window of concurrent deliveries, what is ready for it, and who waits.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use mail_types::{EnhancedStatus, UnixTime};
use queue_store::{Class, Due, Hop};

use super::limits::{Limits, TransportLimits};
use super::{Grant, Source};
use crate::destination::{Carrier, carrier, service};

/// One destination with mail.
#[derive(Debug)]
pub struct Lane {
    pub carrier: Carrier,
    /// Its transport, where a worker carries it.
    pub service: Option<Arc<str>>,
    pub limits: TransportLimits,
    pub window: u32,
    pub busy: u32,
    pub success: f64,
    pub failure: f64,
    pub cohorts: f64,
    pub dead_until: Option<UnixTime>,
    /// Why nothing could be done with it the last time.
    pub trouble: Option<(EnhancedStatus, String)>,
    /// A destination with a rate delay rests until then; where concurrency is per recipient, these addresses do.
    pub rests_until: Option<UnixTime>,
    pub resting: BTreeMap<UnixTime, Vec<String>>,
    /// The next time something is due in each class, as far as known.
    pub wake: [Option<UnixTime>; 2],
    pub ready: [VecDeque<Due>; 2],
    pub cursor: [Option<Due>; 2],
    pub turn: usize,
    /// Leases per recipient, where concurrency is per recipient, and who waits for one to end.
    pub recipients: HashMap<String, u32>,
    pub parked: HashMap<String, Vec<(Class, Due)>>,
    /// It stands in its ring, or waits for a delivery of its transport to end.
    pub queued: bool,
}

impl Lane {
    pub fn per_recipient(&self) -> bool {
        self.limits.recipients == 1 && self.carrier != Carrier::Here
    }

    pub fn has_room(&self) -> bool {
        self.per_recipient() || (self.busy < self.window && self.rests_until.is_none())
    }

    /// Ends the rests that are over.
    pub fn rested(&mut self, now: UnixTime) {
        self.rests_until = self.rests_until.filter(|until| *until > now);
        while let Some(entry) = self.resting.first_entry().filter(|entry| *entry.key() <= now) {
            for address in entry.remove() {
                release(self, &address);
            }
        }
    }

    /// When the next rest ends.
    pub fn next_rested(&self) -> Option<UnixTime> {
        self.rests_until.into_iter().chain(self.resting.keys().next().copied()).min()
    }

    pub fn idle(&self) -> bool {
        self.busy == 0
            && self.dead_until.is_none()
            && self.next_rested().is_none()
            && self.parked.is_empty()
            && self.wake == [None, None]
            && self.ready.iter().all(VecDeque::is_empty)
    }
}

/// The destination, made where it is new.
pub fn lane<'a>(lanes: &'a mut HashMap<Hop, Lane>, limits: &Limits, hop: &Hop) -> &'a mut Lane {
    lanes.entry(hop.clone()).or_insert_with(|| {
        let carrier = carrier(hop);
        let limits = limits.of(hop);
        // What is carried out here waits for nobody.
        let window = if carrier == Carrier::Here { u32::MAX } else { limits.initial.max(1) };
        Lane {
            carrier,
            service: service(hop).filter(|_| carrier != Carrier::Here).map(Arc::from),
            limits,
            window: if limits.concurrency > 0 && carrier != Carrier::Here {
                window.min(limits.concurrency)
            } else {
                window
            },
            busy: 0,
            success: 0.0,
            failure: 0.0,
            cohorts: 0.0,
            dead_until: None,
            trouble: None,
            rests_until: None,
            resting: BTreeMap::new(),
            wake: [None, None],
            ready: [VecDeque::new(), VecDeque::new()],
            cursor: [None, None],
            turn: 0,
            recipients: HashMap::new(),
            parked: HashMap::new(),
            queued: false,
        }
    })
}

/// Whether the recipient may be granted now: none if it has to wait for another delivery to the same address.
pub fn admit(lane: &mut Lane, class: Class, due: Due, source: &impl Source) -> Option<Option<String>> {
    if !lane.per_recipient() {
        return Some(None);
    }
    let Some(address) = source.recipient(&due) else { return Some(None) };
    let busy = lane.recipients.entry(address.clone()).or_default();
    if lane.limits.concurrency > 0 && *busy >= lane.limits.concurrency {
        lane.parked.entry(address).or_default().push((class, due));
        return None;
    }
    *busy += 1;
    Some(Some(address))
}

/// Adds further recipients of the same message.
pub fn gather(lane: &mut Lane, turn: usize, grant: &mut Grant) {
    let most = if lane.limits.recipients == 0 { usize::MAX } else { lane.limits.recipients as usize };
    while grant.recipients.len() < most && lane.ready[turn].front().is_some_and(|next| next.id == grant.id) {
        grant.recipients.extend(lane.ready[turn].pop_front().map(|due| due.recipient));
    }
}

/// A delivery to one recipient ended: those that waited for it come first.
pub fn release(lane: &mut Lane, address: &str) {
    if let Some(busy) = lane.recipients.get_mut(address) {
        *busy = busy.saturating_sub(1);
        if *busy == 0 {
            lane.recipients.remove(address);
        }
    }
    for (class, due) in lane.parked.remove(address).into_iter().flatten().rev() {
        lane.ready[class as usize].push_front(due);
    }
}

/// A delivery was answered: the window may grow.
pub fn widen(lane: &mut Lane) {
    lane.cohorts = 0.0;
    let limit = if lane.limits.concurrency == 0 { u32::MAX } else { lane.limits.concurrency };
    // Only a window that is used grows: as far above what is under way as a new destination may begin with.
    if lane.window >= limit || lane.window >= lane.busy + 1 + lane.limits.initial {
        return;
    }
    lane.success += lane.limits.positive.at(lane.window);
    while lane.success >= 1.0 {
        lane.success -= 1.0;
        lane.failure = 0.0;
        lane.window = (lane.window + 1).min(limit);
    }
}

/// Nothing could be done with the destination: the window shrinks, until it is dead.
pub fn narrow(lane: &mut Lane, dead_until: UnixTime) {
    lane.cohorts += 1.0 / f64::from(lane.window.max(1));
    // Sums of thirds and sevenths must reach a whole cohort.
    if lane.limits.failed_cohorts > 0.0 && lane.cohorts >= lane.limits.failed_cohorts - 1e-6 {
        lane.dead_until = Some(dead_until);
        return;
    }
    lane.failure += lane.limits.negative.at(lane.window);
    while lane.failure >= 1.0 {
        lane.failure -= 1.0;
        lane.success = 0.0;
        lane.window = lane.window.saturating_sub(1).max(1);
    }
}
