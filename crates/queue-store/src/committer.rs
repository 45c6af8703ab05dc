//! The one thread that writes the log: takes all that waits, appends, syncs once, applies, answers.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use mail_posix::points;
use mail_types::{QueueId, UnixTime};

use crate::content::Content;
use crate::format::HEADER;
use crate::hop::Hop;
use crate::index::IndexError;
use crate::message::Location;
use crate::record::{Deleted, Granted, Moved, Place, Record, Void};
use crate::segment::{Writer, encode_record, path};
use crate::state::{Effect, State};
use crate::store::{Answer, Answers, Op, Refusal, Shared};

/// Operations of one batch.
const BATCH_OPS: usize = 4096;
/// Octets of content of one batch.
const BATCH_OCTETS: u64 = 4 * 1024 * 1024;
/// Octets of room for records that are kept between batches.
const ROOM: usize = 256 * 1024;
/// Writes that go into the index at once. Until they are there they are in memory three times: here, on their way, and in sled, which
/// keeps besides a copy of a page for each write of a batch until the batch is done.
const FREEZE_AT: usize = 2_000;
/// How long a write may wait for the index: what ends sooner never reaches it.
const FREEZE_AFTER: Duration = Duration::from_secs(2);
/// How long free space is believed, and how long a disk that failed is left alone.
const PATIENCE: Duration = Duration::from_secs(1);
/// Space that only outcomes may use: a full disk must still let the queue drain.
const RESERVE: u64 = 8 * 1024 * 1024;
/// A segment shorter than this is not worth ending for want of space.
const LEAST_WORTH: u64 = 1024 * 1024;

/// Who waits for an answer.
pub type Done = Box<dyn FnOnce(Answers) + Send>;

/// A group of operations and who waits for it.
pub struct Request {
    pub ops: Vec<Op>,
    pub done: Done,
}

impl Request {
    fn octets(&self) -> u64 {
        let of = |op: &Op| match op {
            Op::Accept { content: Content::Octets(octets), .. } | Op::Move(_, _, Content::Octets(octets), _) => {
                octets.len() as u64
            }
            _ => 0,
        };
        self.ops.iter().map(of).sum()
    }

    fn is_move(&self) -> bool {
        matches!(self.ops.first(), Some(Op::Move(..)))
    }
}

/// A record that was appended and is to be applied.
struct Entry {
    record: Record,
    location: Location,
    hops: Vec<Hop>,
}

/// What one sync makes durable.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    answers: Vec<(Done, Answers)>,
    accepted: HashSet<QueueId>,
    /// The next serial number, once this batch has granted any.
    serial: Option<u32>,
}

/// The writer of the log.
pub struct Committer {
    shared: Arc<Shared>,
    writer: Option<Writer>,
    next_sequence: u64,
    next_segment: u64,
    /// Sequence numbers whose sync failed and that no Void names yet.
    void: Option<Void>,
    retry: Option<Instant>,
    /// How the disk failed last.
    failed: io::ErrorKind,
    buffer: Vec<u8>,
    free: Option<(Instant, u64)>,
    frozen: Instant,
}

impl Committer {
    /// Opens a new segment. Where there is no room for one, it begins without and tries again with each batch: messages are refused meanwhile.
    ///
    /// # Errors
    /// The segment cannot be written, for another reason.
    pub fn start(shared: Arc<Shared>, next_sequence: u64, next_segment: u64) -> io::Result<Self> {
        let mut committer = Self {
            shared,
            writer: None,
            next_sequence,
            next_segment,
            void: None,
            retry: None,
            failed: io::ErrorKind::Other,
            buffer: Vec::new(),
            free: None,
            frozen: Instant::now(),
        };
        match committer.open_segment() {
            Err(error) if Refusal::from(&error) != Refusal::NoSpace => Err(error),
            _ => Ok(committer),
        }
    }

    /// Runs until all senders are gone.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn spawn(mut self, receiver: Receiver<Request>) -> io::Result<JoinHandle<()>> {
        let (to_index, from_committer) = channel();
        let shared = self.shared.clone();
        let indexer =
            Builder::new().name("queue-index".to_owned()).spawn(move || index_thread(&shared, &from_committer))?;
        Builder::new().name("queue-commit".to_owned()).spawn(move || {
            self.run(&receiver, &to_index);
            drop(to_index);
            // The index thread ends with its channel; a panic there has been turned into an error.
            let _ = indexer.join();
        })
    }

    fn run(&mut self, receiver: &Receiver<Request>, to_index: &Sender<()>) {
        loop {
            match receiver.recv_timeout(PATIENCE) {
                Ok(first) => {
                    let mut octets = first.octets();
                    let mut requests = vec![first];
                    while requests.len() < BATCH_OPS && octets < BATCH_OCTETS {
                        let Ok(next) = receiver.try_recv() else { break };
                        octets += next.octets();
                        requests.push(next);
                    }
                    self.commit(requests);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.make_space();
            self.maybe_freeze(to_index, false);
        }
        if let Some(writer) = self.writer.take() {
            writer.close();
        }
        while self.shared.read().is_freezing() && !self.failed_index() {
            self.wait_for_index();
        }
        self.maybe_freeze(to_index, true);
    }

    fn commit(&mut self, mut requests: Vec<Request>) {
        if let Err(error) = self.ensure_segment() {
            let refusal = self.refusal(&error);
            requests.into_iter().for_each(|request| (request.done)(Err(refusal.clone())));
            return;
        }
        // A Moved states what is now: before anything in this batch changes it.
        requests.sort_by_key(|request| !request.is_move());
        let batch = self.plan(requests);
        let written = if batch.entries.is_empty() { Ok(()) } else { self.append(&batch) };
        match written {
            Ok(()) => self.finish(batch),
            Err(error) => {
                let refusal = self.refusal(&error);
                batch.answers.into_iter().for_each(|(done, _)| done(Err(refusal.clone())));
            }
        }
    }

    /// What the askers hear of an error; a full disk also makes the cleaner give back what it can.
    fn refusal(&self, error: &io::Error) -> Refusal {
        let refusal = Refusal::from(error);
        if refusal == Refusal::NoSpace {
            self.shared.low_space.store(true, Ordering::Relaxed);
        }
        refusal
    }

    /// Decides each group and writes its records into the buffer.
    fn plan(&mut self, requests: Vec<Request>) -> Batch {
        let mut batch = Batch::default();
        self.buffer.clear();
        let first = self.next_sequence;
        let shared = self.shared.clone();
        let state = shared.read();
        for request in requests {
            let answers = self.plan_group(&state, &mut batch, request.ops, first);
            batch.answers.push((request.done, answers));
        }
        batch
    }

    fn plan_group(&mut self, state: &State, batch: &mut Batch, ops: Vec<Op>, first: u64) -> Answers {
        let mut answers = Vec::with_capacity(ops.len());
        let mut records = Vec::with_capacity(ops.len());
        for op in ops {
            let (answer, record) = self.plan_op(state, batch, op)?;
            if answer == Answer::Unknown {
                return Ok(vec![Answer::Unknown]);
            }
            answers.push(answer);
            records.extend(record);
        }
        let mark = self.buffer.len();
        let before = (batch.entries.len(), self.next_sequence);
        for (left, (record, content, hops)) in (0..records.len()).rev().zip(records) {
            if let Err(error) = self.encode(batch, record, &content, hops, left, first) {
                self.buffer.truncate(mark);
                batch.entries.truncate(before.0);
                self.next_sequence = before.1;
                return Err(Refusal::Failed(error.to_string()));
            }
        }
        for entry in &batch.entries[before.0..] {
            match &entry.record {
                Record::Accepted(accepted) => drop(batch.accepted.insert(accepted.id)),
                Record::Granted(granted) => batch.serial = Some(granted.first.wrapping_add(granted.count).max(1)),
                _ => {}
            }
        }
        Ok(answers)
    }

    #[expect(clippy::type_complexity, reason = "an operation is an answer and perhaps a record with content and hops")]
    fn plan_op(
        &mut self,
        state: &State,
        batch: &Batch,
        op: Op,
    ) -> Result<(Answer, Option<(Record, Vec<u8>, Vec<Hop>)>), Refusal> {
        let broken = |error: IndexError| Refusal::Failed(error.to_string());
        let simple = |record| Ok((Answer::Done, Some((record, Vec::new(), Vec::new()))));
        let id = match op {
            Op::Grant(count) => {
                let next = batch.serial.unwrap_or(state.serial);
                // The numbers begin again after 2^32; by then the seconds of an id are others.
                let first = if next.checked_add(count).is_some() { next } else { 1 };
                let record = Record::Granted(Granted { first, count });
                return Ok((Answer::Granted { first, count }, Some((record, Vec::new(), Vec::new()))));
            }
            Op::Accept { mut accepted, content, hops } => {
                let id = accepted.id;
                let known = batch.accepted.contains(&id) || state.has_ended(id);
                if known || state.message(id).map_err(broken)?.is_some() {
                    return Ok((Answer::Known, None));
                }
                self.check_space(content.length())?;
                let (place, octets) = placed(content);
                accepted.place = place;
                return Ok((Answer::Done, Some((Record::Accepted(accepted), octets, hops))));
            }
            Op::Move(id, envelope, content, damaged) => {
                let Some(message) = state.message(id).map_err(broken)? else { return Ok((Answer::Unknown, None)) };
                let recipients = state.recipients(id, 0, usize::MAX).map_err(broken)?;
                let (place, octets) = placed(content);
                let (at, next, hold, corrupt) = (now(), message.next, message.hold, message.corrupt || damaged);
                let moved = Moved { id, at, envelope, place, recipients, next, hold, corrupt };
                return Ok((Answer::Done, Some((Record::Moved(moved), octets, Vec::new()))));
            }
            Op::Outcome(ref outcome) => outcome.id,
            Op::Expand(ref expanded, _) => expanded.id,
            Op::Hold(change) | Op::Release(change) | Op::Requeue(change) | Op::Delete(change) => change.id,
        };
        if state.message(id).map_err(broken)?.is_none() {
            return Ok((Answer::Unknown, None));
        }
        match op {
            Op::Outcome(outcome) => simple(Record::Outcome(outcome)),
            Op::Expand(expanded, hops) => Ok((Answer::Done, Some((Record::Expanded(expanded), Vec::new(), hops)))),
            Op::Hold(change) => simple(Record::Held(change)),
            Op::Release(change) => simple(Record::Released(change)),
            Op::Requeue(change) => simple(Record::Requeued(change)),
            Op::Delete(change) => {
                let open = state.recipients(id, 0, usize::MAX).map_err(broken)?;
                let recipients = open.into_iter().map(|(number, state)| (number, state.recipient.address)).collect();
                simple(Record::Deleted(Deleted { id, at: change.at, recipients }))
            }
            Op::Grant(_) | Op::Accept { .. } | Op::Move(..) => Ok((Answer::Unknown, None)),
        }
    }

    fn encode(
        &mut self,
        batch: &mut Batch,
        record: Record,
        content: &[u8],
        hops: Vec<Hop>,
        left: usize,
        first: u64,
    ) -> io::Result<()> {
        let Some(writer) = &self.writer else { return Err(io::Error::other("no segment")) };
        let left = u16::try_from(left).map_err(io::Error::other)?;
        let begin = self.buffer.len();
        encode_record(&mut self.buffer, &writer.header.tag, &record, content, (self.next_sequence, first, left))?;
        let meta = self.buffer.len() - begin - HEADER - content.len();
        let location = Location {
            segment: writer.header.number,
            offset: writer.end() + begin as u64,
            meta: u32::try_from(meta).map_err(io::Error::other)?,
            content: content.len() as u64,
        };
        self.next_sequence += 1;
        batch.entries.push(Entry { record, location, hops });
        Ok(())
    }

    /// Makes the buffer durable. After a failure the segment is given up and its sequence numbers will be void.
    fn append(&mut self, batch: &Batch) -> io::Result<()> {
        let Some(writer) = &mut self.writer else { return Err(io::Error::other("no segment")) };
        let result = writer.append(&self.buffer);
        if let Err(error) = &result {
            self.give_up(batch.entries.len() as u64, error.kind());
        }
        result
    }

    fn give_up(&mut self, records: u64, why: io::ErrorKind) {
        let to = self.next_sequence - 1;
        let from = self.void.map_or(self.next_sequence - records, |void| void.from);
        self.void = Some(Void { from, to });
        // Neither written nor synced nor truncated again: its pages may be lost although a later sync succeeds.
        self.writer = None;
        self.rest(why);
    }

    /// Leaves a disk that failed alone for a moment.
    fn rest(&mut self, why: io::ErrorKind) {
        self.failed = why;
        self.retry = Some(Instant::now() + PATIENCE);
    }

    fn finish(&mut self, batch: Batch) {
        let mut effects = Vec::new();
        if !batch.entries.is_empty() {
            let mut state = self.shared.write();
            let first = self.next_sequence - batch.entries.len() as u64;
            for (sequence, entry) in (first..).zip(&batch.entries) {
                match state.apply(&entry.record, entry.location, &entry.hops, true) {
                    Ok(effect) => effects.extend(effect),
                    // The log has it; the index is rebuilt at the next start.
                    Err(_) => self.shared.index_failed.store(true, Ordering::Relaxed),
                }
                state.sequence = sequence;
            }
        }
        points::reached("queue-applied");
        for (done, answers) in batch.answers {
            done(answers);
        }
        for Effect::Ended(id, place) in effects {
            if matches!(place, Place::File(_)) {
                // What cannot be removed now is removed at the next start.
                let _ = crate::content::remove(&self.shared.dir, id);
            }
        }
    }

    fn ensure_segment(&mut self) -> io::Result<()> {
        if let Some(writer) = &self.writer {
            if writer.end() < self.shared.options.segment_size {
                return Ok(());
            }
        } else if self.retry.is_some_and(|retry| Instant::now() < retry) {
            return Err(self.failed.into());
        }
        self.open_segment()
    }

    /// Begins a segment: a Void of what failed, then the serial number reached.
    fn open_segment(&mut self) -> io::Result<()> {
        if let Some(old) = self.writer.take() {
            old.close();
        }
        let number = self.next_segment;
        self.next_segment += 1;
        let created = now().0;
        let begun = Writer::create(&self.shared.dir, number, self.next_sequence, created);
        let writer = begun.inspect_err(|error| self.rest(error.kind()))?;
        self.writer = Some(writer);
        let serial = self.shared.read().serial;
        let granted = Record::Granted(Granted { first: serial, count: 0 });
        let records: Vec<Record> = self.void.map(Record::Void).into_iter().chain([granted]).collect();
        self.buffer.clear();
        let mut batch = Batch::default();
        let first = self.next_sequence;
        for record in records {
            self.encode(&mut batch, record, &[], Vec::new(), 0, first)?;
        }
        if let Err(error) = self.append(&batch) {
            // Nothing in it was ever answered.
            let _ = std::fs::remove_file(path(&self.shared.dir, number));
            return Err(error);
        }
        if let Some(writer) = &self.writer {
            self.shared.files.write().unwrap_or_else(PoisonError::into_inner).insert(number, writer.file.clone());
            self.shared.firsts.lock().unwrap_or_else(PoisonError::into_inner).insert(number, first);
        }
        self.void = None;
        self.finish(batch);
        Ok(())
    }

    fn check_space(&mut self, octets: u64) -> Result<(), Refusal> {
        let free = self.free_space();
        let wanted = self.shared.options.min_free.max(RESERVE).saturating_add(octets);
        let low = free < wanted;
        self.shared.low_space.store(low, Ordering::Relaxed);
        if low {
            return Err(Refusal::NoSpace);
        }
        // What is believed shrinks with what is taken since it was asked.
        self.free = self.free.map(|(asked, free)| (asked, free.saturating_sub(octets)));
        Ok(())
    }

    fn free_space(&mut self) -> u64 {
        match self.free.filter(|(asked, _)| asked.elapsed() < PATIENCE) {
            Some((_, free)) => free,
            None => {
                let free =
                    rustix::fs::statvfs(&self.shared.dir).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
                self.free = Some((Instant::now(), free));
                free
            }
        }
    }

    /// While space is short, a segment that is mostly dead is ended, so that the cleaner can give its space back.
    fn make_space(&mut self) {
        if !self.shared.low_space.load(Ordering::Relaxed) || self.check_space(0).is_ok() {
            return;
        }
        let Some(writer) = &self.writer else { return };
        let live = self.shared.read().live.get(&writer.header.number).copied().unwrap_or_default();
        if writer.end() > LEAST_WORTH && 2 * live.octets < writer.end() {
            // A failure is met again with the next batch.
            let _ = self.open_segment();
        }
    }

    fn maybe_freeze(&mut self, to_index: &Sender<()>, last: bool) {
        let pending = self.shared.read().pending();
        if pending > 8 * FREEZE_AT && !self.failed_index() {
            self.wait_for_index();
        }
        let mut indexed = self.shared.indexed.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = self.shared.read().sequence > indexed.sequence;
        let due = pending >= FREEZE_AT || indexed.wanted || last || self.frozen.elapsed() >= FREEZE_AFTER;
        if !(due && (pending > 0 || behind)) || self.failed_index() || self.shared.read().is_freezing() {
            return;
        }
        indexed.wanted = false;
        drop(indexed);
        self.frozen = Instant::now();
        self.buffer.clear();
        self.buffer.shrink_to(ROOM);
        match self.shared.write().freeze(now()) {
            Ok(_) => drop(to_index.send(())),
            Err(_) => self.shared.index_failed.store(true, Ordering::Relaxed),
        }
    }

    fn failed_index(&self) -> bool {
        self.shared.index_failed.load(Ordering::Relaxed)
    }

    fn wait_for_index(&self) {
        let indexed = self.shared.indexed.lock().unwrap_or_else(PoisonError::into_inner);
        // Woken or not: the caller looks again.
        let _ = self.shared.indexed_changed.wait_timeout(indexed, Duration::from_millis(100));
    }
}

fn placed(content: Content) -> (Place, Vec<u8>) {
    match content {
        Content::Octets(octets) => (Place::Segment, octets),
        Content::File(length) => (Place::File(length), Vec::new()),
    }
}

pub(crate) fn now() -> UnixTime {
    UnixTime::from_system(SystemTime::now())
}

/// Carries frozen writes into the index, so that the committer never waits for it.
fn index_thread(shared: &Shared, from_committer: &Receiver<()>) {
    while from_committer.recv().is_ok() {
        let (base, writes, sequence) = {
            let state = shared.read();
            (state.base(), state.frozen_writes(), state.frozen_sequence())
        };
        if base.apply(writes).is_err() {
            shared.index_failed.store(true, Ordering::Relaxed);
            shared.indexed_changed.notify_all();
            continue;
        }
        points::reached("index-applied");
        shared.write().thaw();
        shared.indexed.lock().unwrap_or_else(PoisonError::into_inner).sequence = sequence;
        shared.indexed_changed.notify_all();
    }
    if shared.read().base().make_durable().is_err() {
        shared.index_failed.store(true, Ordering::Relaxed);
    }
}
