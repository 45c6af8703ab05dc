//! Cleaning: the oldest segment is emptied of what lives, written into the ledger, and removed.

use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use mail_posix::points;
use mail_types::{Envelope, QueueId, UnixTime};

use crate::committer::{Request, now};
use crate::content::Content;
use crate::ledger;
use crate::read::{Body, LoadError, Loaded, load, salvage};
use crate::record::Record;
use crate::segment::{Found, Walk, path, read_header, sync_directory};
use crate::state::State;
use crate::store::{Answers, Op, Refusal, Shared};

/// More segments than this are too many, however small they are.
const SEGMENTS_MAX: usize = 256;

/// Messages looked at together while something damaged is searched.
const PAGE: usize = 1000;

/// Starts the cleaner; it ends soon after [`Shared::stopping`] is set.
pub(crate) fn spawn(shared: Arc<Shared>, sender: Sender<Request>) -> io::Result<JoinHandle<()>> {
    Builder::new().name("queue-clean".to_owned()).spawn(move || {
        let cleaner = Cleaner { shared, sender };
        while cleaner.wait() {
            cleaner.work();
        }
    })
}

/// Why a segment stays.
struct Kept(String);

impl<E: std::error::Error> From<E> for Kept {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

struct Cleaner {
    shared: Arc<Shared>,
    sender: Sender<Request>,
}

impl Cleaner {
    /// Cleans as long as there is something to gain. What fails now is tried again at the next turn; the segment is complete until then.
    fn work(&self) {
        loop {
            match self.step() {
                Ok(true) if !self.stopping() => {}
                Ok(_) => return,
                Err(Kept(why)) if !self.stopping() => {
                    self.say(why);
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// Sleeps; false when the store stops.
    fn wait(&self) -> bool {
        let span = self.shared.options.clean_every;
        let indexed = self.shared.indexed.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.stopping() {
            let stopped = |_: &mut _| !self.shared.stopping.load(Ordering::Relaxed);
            drop(self.shared.indexed_changed.wait_timeout_while(indexed, span, stopped));
        }
        !self.stopping()
    }

    fn stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed)
    }

    /// Cleans the oldest segment if that is worth it; whether there may be more to do.
    fn step(&self) -> Result<bool, Kept> {
        let files: Vec<(u64, Arc<File>)> = {
            let files = self.shared.files.read().unwrap_or_else(PoisonError::into_inner);
            files.iter().map(|(number, file)| (*number, file.clone())).collect()
        };
        // The newest segment is being written.
        let [(oldest, file), (_, next), ..] = files.as_slice() else { return Ok(false) };
        let mut octets = 0;
        for (_, file) in &files {
            octets += file.metadata()?.len();
        }
        let (here, everywhere) = {
            let state = self.shared.read();
            (
                state.live.get(oldest).copied().unwrap_or_default(),
                state.live.values().map(|live| live.octets).sum::<u64>(),
            )
        };
        let options = &self.shared.options;
        let mostly_dead = 2 * here.octets < file.metadata()?.len();
        let wanted = octets > 4 * everywhere + options.slack
            || files.len() > SEGMENTS_MAX
            || (mostly_dead && self.shared.low_space.load(Ordering::Relaxed));
        let sealed = UnixTime(read_header(next)?.map_or(0, |header| header.created));
        let rested = now().since(sealed) >= options.keep;
        let empty = here.messages == 0 && rested;
        if !wanted && !empty {
            return Ok(false);
        }
        if here.messages > 0 {
            self.move_forward(*oldest, file)?;
            points::reached("messages-moved");
        }
        self.remove(*oldest, file)?;
        Ok(true)
    }

    fn move_forward(&self, number: u64, file: &File) -> Result<(), Kept> {
        let Some(header) = read_header(file)? else { return Ok(()) };
        let mut walk = Walk::new(file, header.tag, None, false)?;
        while let Some(found) = walk.step()? {
            let Found::Record { at, header, meta, .. } = found else { continue };
            let id = match Record::decode(header.kind, &meta) {
                Ok(Record::Accepted(accepted)) => accepted.id,
                Ok(Record::Moved(moved)) => moved.id,
                _ => continue,
            };
            let state = self.shared.read().message(id)?;
            let lives =
                state.is_some_and(|message| message.location.segment == number && message.location.offset == at);
            if lives {
                self.move_message(id)?;
            }
        }
        self.move_damaged(number)
    }

    /// What lives in the segment although no walk finds its record any more: it is moved by what the state says of it.
    fn move_damaged(&self, number: u64) -> Result<(), Kept> {
        let left = |state: &State| state.live.get(&number).is_some_and(|live| live.messages > 0);
        let mut after = None;
        while left(&self.shared.read()) {
            let page = self.shared.read().messages(after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (id, _) in page.iter().filter(|(_, message)| message.location.segment == number) {
                self.move_message(*id)?;
            }
        }
        Ok(())
    }

    fn move_message(&self, id: QueueId) -> Result<(), Kept> {
        let (envelope, content, damaged) = match load(&self.shared, id) {
            Ok(Loaded { envelope, body: Body::Octets(octets) }) => (envelope, Content::Octets(octets), false),
            Ok(Loaded { envelope, body: Body::File(_, length) }) => (envelope, Content::File(length), false),
            Err(LoadError::Unknown) => return Ok(()),
            Err(LoadError::Index(error)) => return Err(error.into()),
            Err(LoadError::Damaged | LoadError::Io(_)) => match salvage(&self.shared, id)? {
                Some((envelope, content)) => (envelope, content, true),
                None => return Ok(()),
            },
        };
        if damaged {
            self.say(format!("{id}: damaged on disk; what can be read of it stays in the queue, marked corrupt"));
        }
        let envelope = Envelope { recipients: Vec::new(), ..Envelope::clone(&envelope) };
        self.commit(Op::Move(id, Arc::new(envelope), content, damaged)).map(drop).map_err(Kept::from)
    }

    fn say(&self, trouble: String) {
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }

    fn commit(&self, op: Op) -> Answers {
        let (answer, answered) = channel();
        let done = Box::new(move |answers| drop(answer.send(answers)));
        if self.sender.send(Request { ops: vec![op], done }).is_err() {
            return Err(Refusal::Closed);
        }
        answered.recv().unwrap_or(Err(Refusal::Closed))
    }

    /// Removes a segment in which nothing lives.
    fn remove(&self, number: u64, file: &File) -> Result<(), Kept> {
        self.wait_for_index(number)?;
        let Some(header) = read_header(file)? else { return Ok(()) };
        let mut lines = Vec::new();
        let mut walk = Walk::new(file, header.tag, None, false)?;
        while let Some(found) = walk.step()? {
            if let Found::Record { header, meta, .. } = found
                && let Ok(record) = Record::decode(header.kind, &meta)
            {
                lines.extend(ledger::lines(header.sequence, &record));
            }
        }
        ledger::append(&self.shared.dir, lines)?;
        points::reached("ledger-written");
        self.shared.write().forget_segment(number);
        self.shared.files.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
        self.shared.firsts.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        std::fs::remove_file(path(&self.shared.dir, number))?;
        sync_directory(&self.shared.dir.join("segments"))?;
        Ok(())
    }

    /// Waits until the index, as the next start would find it, needs no record of the segment any more.
    fn wait_for_index(&self, number: u64) -> Result<(), Kept> {
        let target = self.shared.read().sequence;
        debug_assert!(self.shared.file(number).is_some());
        let mut indexed = self.shared.indexed.lock().unwrap_or_else(PoisonError::into_inner);
        while indexed.sequence < target {
            if self.stopping() || self.shared.index_failed.load(Ordering::Relaxed) {
                return Err(Kept("the index is not written".to_owned()));
            }
            indexed.wanted = true;
            let woken = self.shared.indexed_changed.wait_timeout(indexed, Duration::from_millis(200));
            indexed = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(indexed);
        let base = self.shared.read().base();
        Ok(base.make_durable()?)
    }
}
