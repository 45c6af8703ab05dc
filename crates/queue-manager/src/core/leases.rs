//! Workers and their leases: who takes what, and what comes back when a worker is gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mail_ipc::delivery::{Destination, FromWorker, Held, Lease, LeaseRecipient, TransportKind};
use mail_types::{Envelope, QueueId, Sender as Reverse, UnixTime};
use queue_store::{Body, Class, Hop, LoadError, RecipientState};
use tokio::sync::mpsc;

use super::{Connection, Core, Index, Leased, Piece, ToWorker, Worker};
use crate::destination::{Carrier, Target, service};
use crate::schedule::{Ended, Grant};

/// Leases of one frame: their JSON stays far below the limit of a frame.
const FRAME_LEASES: usize = 64;
/// Recipients of one frame.
const FRAME_RECIPIENTS: usize = 200;
/// Octets of content of one frame.
const FRAME_OCTETS: usize = 1024 * 1024;
/// Descriptors of one frame.
const FRAME_FILES: usize = 8;
/// Longer content is passed as a descriptor.
const INLINE: usize = 64 * 1024;
/// Octets of content kept for messages with several leases.
const CACHE: usize = 16 * 1024 * 1024;

impl Core {
    pub(super) fn worker_came(
        &mut self,
        connection: Connection,
        instance: String,
        sender: mpsc::UnboundedSender<ToWorker>,
    ) {
        let worker = Worker {
            instance,
            sender,
            kinds: Vec::new(),
            slots: 0,
            most: 0,
            open: HashSet::new(),
            carrying: HashMap::new(),
            resumed: false,
        };
        self.workers.insert(connection, worker);
        self.remember_workers();
    }

    /// Tells the scheduler how many workers carry each kind.
    fn count_workers(&mut self) {
        let mut workers: HashMap<Carrier, u32> = HashMap::new();
        for kind in self.workers.values().flat_map(|worker| &worker.kinds) {
            *workers.entry(Carrier::Worker(*kind)).or_default() += 1;
        }
        self.scheduler.set_workers(workers);
    }

    /// A worker begins or ends a lease of a transport.
    fn carries(&mut self, connection: Connection, hop: &Hop, more: bool) {
        let Some(worker) = self.workers.get_mut(&connection) else { return };
        let Some(transport) = service(hop) else { return };
        if more {
            *worker.carrying.entry(transport.to_owned()).or_default() += 1;
        } else if let Some(count) = worker.carrying.get_mut(transport) {
            *count = count.saturating_sub(1);
        }
    }

    /// Takes a lease out of the books.
    pub(super) fn end_lease(&mut self, number: u64) -> Option<Leased> {
        let lease = self.leases.remove(&number)?;
        self.carries(lease.connection, &lease.grant.hop, false);
        Some(lease)
    }

    pub(super) fn worker_gone(&mut self, connection: Connection) {
        let Some(worker) = self.workers.remove(&connection) else { return };
        self.count_workers();
        // Another connection of the same instance may have taken its leases over already.
        if self.leases.values().any(|lease| lease.connection == connection) {
            self.orphans.insert(worker.instance, (self.now)().after(self.settings.lease_grace));
        }
        self.remember_workers();
    }

    /// A worker that ends with leases is awaited at the next start too, so it stays in the list while it has any.
    fn remember_workers(&mut self) {
        let mut names: Vec<String> = self.workers.values().map(|worker| worker.instance.clone()).collect();
        names.extend(self.orphans.keys().cloned());
        names.sort_unstable();
        names.dedup();
        if let Err(error) = self.store.set_workers(names) {
            self.warn(&format!("run.json cannot be written: {error}"));
        }
    }

    pub(super) fn worker_said(&mut self, connection: Connection, message: FromWorker) {
        match message {
            FromWorker::Resume { leases, outcomes } => {
                self.resume(connection, &leases);
                self.outcomes(Some(connection), outcomes);
            }
            FromWorker::Ready { kinds, slots, open } => {
                if let Some(worker) = self.workers.get_mut(&connection) {
                    worker.kinds = kinds;
                    worker.slots = slots;
                    worker.most = worker.most.max(slots);
                    worker.open = open.into_iter().map(|to| Target::Worker(to).hop().into()).collect();
                    // It has told what it holds and what it has done: what it did not name is free.
                    if worker.resumed {
                        self.awaited.remove(&worker.instance);
                    }
                }
                self.count_workers();
            }
            FromWorker::Outcomes { outcomes } => self.outcomes(Some(connection), outcomes),
        }
    }

    /// A worker lists what it holds; what it does not list was lost with its former life.
    fn resume(&mut self, connection: Connection, held: &[Held]) {
        let Some(worker) = self.workers.get_mut(&connection) else { return };
        worker.resumed = true;
        let instance = worker.instance.clone();
        self.orphans.remove(&instance);
        let mut known: HashSet<(QueueId, u32)> = HashSet::new();
        for lease in held {
            known.extend(lease.recipients.iter().map(|number| (lease.id, *number)));
            self.adopt(connection, &instance, lease);
        }
        let lost: Vec<u64> = self
            .leases
            .iter()
            .filter(|(_, lease)| {
                lease.instance == instance && !lease.open.iter().any(|n| known.contains(&(lease.grant.id, *n)))
            })
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            self.give_back(number);
        }
    }

    /// Takes over a lease that a worker holds from before.
    fn adopt(&mut self, connection: Connection, instance: &str, held: &Held) {
        let mut fresh = Vec::new();
        for &number in &held.recipients {
            match self.leased.get(&(held.id, number)).and_then(|lease| self.leases.get_mut(lease)) {
                Some(lease) => {
                    let (before, hop) = (lease.connection, lease.grant.hop.clone());
                    lease.connection = connection;
                    lease.instance = instance.to_owned();
                    self.carries(before, &hop, false);
                    self.carries(connection, &hop, true);
                }
                None => fresh.push(number),
            }
        }
        let states: Vec<(u32, RecipientState)> = fresh
            .into_iter()
            .filter_map(|number| Some((number, self.store.recipient(held.id, number).ok()??)))
            .filter(|(_, state)| state.report.is_none() && state.attempts < held.attempt)
            .collect();
        let Some((_, first)) = states.first() else { return };
        let (hop, due) = (first.hop.clone(), first.next);
        let class = if first.attempts > 0 { Class::Deferred } else { Class::Incoming };
        if self.envelope(held.id).is_err() {
            // Nobody can attempt it now; its outcome is taken when it comes.
            return;
        }
        let recipients: Vec<u32> = states.iter().map(|(number, _)| *number).collect();
        self.scheduler.adopt(&hop, held.id, &recipients, None);
        let grant = Grant { hop, id: held.id, recipients, lane: None, class, due };
        self.note_lease(grant, connection, instance.to_owned(), held.attempt);
    }

    fn note_lease(&mut self, grant: Grant, connection: Connection, instance: String, attempt: u32) -> u64 {
        let number = self.next_lease;
        self.next_lease += 1;
        for recipient in &grant.recipients {
            self.leased.insert((grant.id, *recipient), number);
        }
        if let Some(active) = self.messages.get_mut(&grant.id) {
            active.leased += 1;
        }
        let open = grant.recipients.clone();
        self.carries(connection, &grant.hop, true);
        self.leases.insert(number, Leased { grant, instance, connection, attempt, open, all_dead: true });
        number
    }

    /// Leases whose worker did not come back in time.
    pub(super) fn return_orphans(&mut self, now: UnixTime) {
        let late: Vec<String> =
            self.orphans.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        for instance in late {
            self.orphans.remove(&instance);
            let connected: HashSet<Connection> = self.workers.keys().copied().collect();
            let lost: Vec<u64> = self
                .leases
                .iter()
                .filter(|(_, lease)| lease.instance == instance && !connected.contains(&lease.connection))
                .map(|(number, _)| *number)
                .collect();
            lost.into_iter().for_each(|number| self.give_back(number));
            self.remember_workers();
        }
    }

    /// Ends a lease without outcomes: its recipients are due again, and the next attempt is told.
    fn give_back(&mut self, number: u64) {
        let Some(lease) = self.end_lease(number) else { return };
        let now = (self.now)();
        for &recipient in &lease.open {
            self.leased.remove(&(lease.grant.id, recipient));
            self.lost.insert((lease.grant.id, recipient), lease.attempt);
        }
        self.scheduler.finished(&lease.grant, Ended::Untried, now);
        self.scheduler.look_again(&lease.grant.hop, now);
        self.lease_ended(lease.grant.id);
    }

    /// Grants what is due to whoever has room, one frame at a time for each worker.
    pub(super) fn grant(&mut self) {
        let now = (self.now)();
        let mut frames: HashMap<Connection, Frame> = HashMap::new();
        let kinds: HashSet<TransportKind> =
            self.workers.values().flat_map(|worker| worker.kinds.iter().copied()).collect();
        for kind in kinds {
            while self.workers.values().any(|worker| worker.takes(kind)) {
                let Some(grant) = self.scheduler.grant(Carrier::Worker(kind), now, &Index(&self.store)) else { break };
                let Some(connection) = self.choose(kind, &grant.hop) else {
                    self.scheduler.finished(&grant, Ended::Untried, now);
                    break;
                };
                self.lease(connection, &grant, now, &mut frames);
            }
        }
        for (connection, frame) in frames {
            self.send(connection, frame);
        }
    }

    /// The worker for a destination: one that has a process left for its transport, among those one that holds a connection to it, else the one
    /// with most room.
    fn choose(&self, kind: TransportKind, hop: &Hop) -> Option<Connection> {
        let transport = service(hop).unwrap_or_default();
        let processes = match self.settings.limits.processes(transport) {
            0 => u32::MAX,
            limit => limit,
        };
        let fitness = |worker: &Worker| {
            let free = worker.carrying.get(transport).is_none_or(|count| *count < processes);
            (free, worker.open.contains(hop.as_str()), worker.slots)
        };
        let able = self.workers.iter().filter(|(_, worker)| worker.takes(kind));
        able.max_by_key(|(_, worker)| fitness(worker)).map(|(connection, _)| *connection)
    }

    fn send(&mut self, connection: Connection, frame: Frame) {
        if frame.leases.is_empty() {
            return;
        }
        let numbers: Vec<u64> = frame.leases.iter().map(|(lease, _)| lease.lease).collect();
        let sent = self.workers.get(&connection).map(|worker| worker.sender.send(ToWorker::Grants(frame.leases)));
        if !matches!(sent, Some(Ok(()))) {
            numbers.into_iter().for_each(|number| self.give_back(number));
        }
    }

    /// Turns a grant into leases: one for each sender among its recipients.
    fn lease(&mut self, connection: Connection, grant: &Grant, now: UnixTime, frames: &mut HashMap<Connection, Frame>) {
        let mut groups: Vec<(Reverse, Vec<(u32, RecipientState)>)> = Vec::new();
        let envelope = match self.envelope(grant.id) {
            Ok(envelope) => envelope,
            Err(error) => return self.unreadable(grant, &error, now),
        };
        for (number, state) in self.ready_recipients(grant, &envelope, now) {
            let sender = state.owner.clone().unwrap_or_else(|| envelope.sender.clone());
            match groups.iter_mut().find(|(known, _)| *known == sender) {
                Some((_, members)) => members.push((number, state)),
                None => groups.push((sender, vec![(number, state)])),
            }
        }
        if groups.is_empty() {
            self.scheduler.finished(grant, Ended::Untried, now);
            return self.settle_message(grant.id);
        }
        let several = groups.len() > 1 || self.store.message(grant.id).ok().flatten().is_some_and(|m| m.open > 1);
        let piece = match self.piece(grant.id, several) {
            Ok(piece) => piece,
            Err(error) => return self.unreadable(grant, &error, now),
        };
        // Recipients that were not ready any more are no longer active; one part of the grant after the other is its lease.
        let kept: HashSet<u32> =
            groups.iter().flat_map(|(_, members)| members.iter().map(|(number, _)| *number)).collect();
        for number in grant.recipients.iter().filter(|number| !kept.contains(number)) {
            self.scheduler.recipient_done(grant.id, *number);
        }
        for (n, (sender, members)) in groups.into_iter().enumerate() {
            if n > 0 {
                self.scheduler.split(&grant.hop);
            }
            let part = Grant { recipients: members.iter().map(|(number, _)| *number).collect(), ..grant.clone() };
            let part = if n > 0 { Grant { lane: None, ..part } } else { part };
            self.lease_part(connection, part, &envelope, sender, members, piece.clone(), frames);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a lease, gathered by the one caller")]
    fn lease_part(
        &mut self,
        connection: Connection,
        part: Grant,
        envelope: &Envelope,
        sender: Reverse,
        members: Vec<(u32, RecipientState)>,
        piece: Piece,
        frames: &mut HashMap<Connection, Frame>,
    ) {
        let Some(Target::Worker(destination)) = Target::of(&part.hop) else { return };
        let id = part.id;
        let since = self.messages.get(&id).map_or(part.due, |active| active.since);
        let before = |number: &u32, state: &RecipientState| {
            state.attempts.max(self.lost.get(&(id, *number)).copied().unwrap_or(0))
        };
        let attempt = members.iter().map(|(number, state)| before(number, state)).max().unwrap_or(0) + 1;
        // Without an outcome from before the restart nobody knows whether there was an attempt.
        let unreported =
            members.iter().any(|(number, _)| self.lost.contains_key(&(id, *number))) || part.due < self.started;
        let Some(worker) = self.workers.get_mut(&connection) else { return };
        worker.slots = worker.slots.saturating_sub(1);
        let instance = worker.instance.clone();
        let number = self.note_lease(part, connection, instance, attempt);
        let destination = original_case(destination, &members);
        let recipients = members.into_iter().map(|(number, state)| LeaseRecipient {
            rule: self.rule(&sender, &state.recipient.address),
            ..lease_recipient(number, state)
        });
        let recipients = recipients.collect();
        let lease = Lease {
            lease: number,
            id,
            attempt,
            unreported,
            destination,
            sender,
            arrival: envelope.arrival,
            active: since,
            size: envelope.size,
            body: envelope.body,
            smtputf8: envelope.smtputf8,
            dsn: envelope.dsn.clone(),
            message_id: envelope.message_id.clone(),
            client: envelope.client.clone(),
            purpose: envelope.purpose,
            recipients,
            content: piece.content(),
        };
        let frame = frames.entry(connection).or_default();
        if !frame.has_room(&lease, &piece) {
            let full = std::mem::take(frame);
            self.send(connection, full);
        }
        if let Some(frame) = frames.get_mut(&connection) {
            frame.add(lease, piece);
        }
    }

    /// The recipients of a grant that are still to be attempted here; those with another route by now move there.
    pub(super) fn ready_recipients(
        &mut self,
        grant: &Grant,
        envelope: &Envelope,
        now: UnixTime,
    ) -> Vec<(u32, RecipientState)> {
        let stale = self.messages.get(&grant.id).is_none_or(|active| active.routed < self.routing);
        let mut ready = Vec::with_capacity(grant.recipients.len());
        for &number in &grant.recipients {
            let Ok(Some(state)) = self.store.recipient(grant.id, number) else { continue };
            if state.report.is_some() || self.recording.contains(&(grant.id, number)) {
                continue;
            }
            if stale && state.via.is_none() {
                let sender = state.owner.as_ref().unwrap_or(&envelope.sender);
                let hop = self.route(envelope.purpose, sender, &state.recipient.address).hop();
                if hop != grant.hop {
                    self.reroute(grant, number, hop, &state, now);
                    continue;
                }
            }
            ready.push((number, state));
        }
        ready
    }

    pub(super) fn reroute(
        &mut self,
        grant: &Grant,
        number: u32,
        hop: queue_store::Hop,
        state: &RecipientState,
        now: UnixTime,
    ) {
        self.scheduler.recipient_done(grant.id, number);
        let moved = self.store.reschedule(grant.id, number, Some(hop.clone()), None);
        if matches!(moved, Ok(true)) {
            let class = if state.attempts > 0 { Class::Deferred } else { Class::Incoming };
            self.scheduler.due(&hop, class, state.next, now);
        }
    }

    fn piece(&mut self, id: QueueId, keep: bool) -> Result<Piece, LoadError> {
        if let Some(content) = self.messages.get(&id).and_then(|active| active.content.clone()) {
            return Ok(Piece::Octets(content));
        }
        match self.store.body(id)? {
            Body::File(file, length) => Ok(Piece::File(Arc::new(file), length)),
            Body::Octets(octets) if octets.len() > INLINE => {
                let length = octets.len() as u64;
                Ok(Piece::File(Arc::new(mail_posix::memfd::sealed(&octets).map_err(LoadError::Io)?), length))
            }
            Body::Octets(octets) => {
                let octets = Arc::new(octets);
                if keep
                    && self.cached + octets.len() <= CACHE
                    && let Some(active) = self.messages.get_mut(&id)
                {
                    self.cached += octets.len();
                    active.content = Some(octets.clone());
                }
                Ok(Piece::Octets(octets))
            }
        }
    }

    /// A message that cannot be read now is left alone for a while; the log says so each time.
    pub(super) fn unreadable(&mut self, grant: &Grant, error: &LoadError, now: UnixTime) {
        if !matches!(error, LoadError::Unknown) {
            self.warn(&format!("{}: cannot be read: {error}", grant.id));
            let next = now.after(self.settings.times.backoff_min);
            for &number in &grant.recipients {
                // If that fails too, the index has failed and the process ends.
                let _ = self.store.reschedule(grant.id, number, None, Some(next));
            }
            self.scheduler.finished(grant, Ended::Untried, now);
            return self.scheduler.due(&grant.hop, grant.class, next, now);
        }
        self.scheduler.finished(grant, Ended::Untried, now);
    }
}

impl Worker {
    fn takes(&self, kind: TransportKind) -> bool {
        self.resumed && self.slots > 0 && self.kinds.contains(&kind)
    }
}

/// Leases for one worker that travel together.
#[derive(Default)]
struct Frame {
    leases: Vec<(Lease, Piece)>,
    recipients: usize,
    octets: usize,
    files: usize,
}

impl Frame {
    fn has_room(&self, lease: &Lease, piece: &Piece) -> bool {
        let (octets, files) = weight(piece);
        self.leases.is_empty()
            || (self.leases.len() < FRAME_LEASES
                && self.recipients + lease.recipients.len() <= FRAME_RECIPIENTS
                && self.octets + octets <= FRAME_OCTETS
                && self.files + files <= FRAME_FILES)
    }

    fn add(&mut self, lease: Lease, piece: Piece) {
        let (octets, files) = weight(&piece);
        self.recipients += lease.recipients.len();
        self.octets += octets;
        self.files += files;
        self.leases.push((lease, piece));
    }
}

fn weight(piece: &Piece) -> (usize, usize) {
    match piece {
        Piece::Octets(octets) => (octets.len(), 0),
        Piece::File(..) => (0, 1),
    }
}

fn lease_recipient(number: u32, state: RecipientState) -> LeaseRecipient {
    let recipient = state.recipient;
    LeaseRecipient {
        number,
        address: recipient.address,
        original: recipient.original,
        orcpt: recipient.orcpt,
        notify: recipient.notify,
        chain: state.chain,
        rule: None,
        part: state.part,
    }
}

/// Where the next hop is the recipient's own domain, workers see it as it was written.
fn original_case(mut destination: Destination, members: &[(u32, RecipientState)]) -> Destination {
    if let Some((_, first)) = members.first() {
        let domain = first.recipient.address.domain().as_str();
        if domain.eq_ignore_ascii_case(&destination.nexthop) {
            domain.clone_into(&mut destination.nexthop);
        }
    }
    destination
}
