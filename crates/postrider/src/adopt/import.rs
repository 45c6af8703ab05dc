//! Postfix's queue into ours, so that a death at any point loses nothing and repeats nothing.
//!
//! In batches: a journal line says which file becomes which id (`Begun`); the messages enter our queue, on hold; `Accepted` says that they
//! are there; the files move to `adopted/`; what Postfix did not hold is released; `Finished`. Until a file has moved, its copy here rests on
//! hold, so neither side delivers twice: the next run throws the copy away and takes the file as it is then. What has moved is released.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mail_intake::LineEnds;
use mail_message::header::Header;
use mail_posix::files::sync_directory;
use mail_posix::points;
use mail_types::{Address, EnhancedStatus, QueueId, Recipient, UnixTime};
use postfix_queue::{LIMITS, log, read};
use queue_store::{Accepted, Answer, Change, Content, Fate, OWN_FILE_MIN, Op, Outcome, Place, Remote};
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::moving::{move_durably, relative};
use crate::exit::{Failure, IO};
use crate::journal::Journal;
use crate::ours::{Ours, make_private};
use crate::own_log::OwnLog;
use crate::spool::{Found, Queue, Spool};

/// So many messages share their syncs.
const BATCH: usize = 100;
/// Octets of content after which a batch is full.
const BATCH_OCTETS: u64 = 8 * 1024 * 1024;
/// Serial numbers are granted in blocks.
const BLOCK: u32 = 1000;
/// The log files that belong to a message.
const LOGS: [&str; 3] = ["defer", "bounce", "trace"];

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Line {
    /// This file becomes this message.
    Begun {
        /// The id here.
        new: QueueId,
        /// The file, relative to Postfix's queue directory.
        file: String,
        /// Its inode.
        inode: u64,
        /// Whether it stays on hold.
        hold: bool,
    },
    /// The message is here, on hold, with all that is known of it.
    Accepted(QueueId),
    /// The message is about to be thrown away here.
    Abandoning(QueueId),
    /// The message was thrown away here, and its file is still Postfix's.
    Abandoned(QueueId),
    /// Its file has moved, and it goes its way.
    Finished(QueueId),
}

/// A message that was read and is not taken yet.
struct Prepared {
    found: Found,
    new: QueueId,
    accepted: Accepted,
    content: Content,
    outcomes: Vec<Outcome>,
    hold: bool,
}

/// What the journal tells of a message that was begun and not ended.
struct Unfinished {
    new: QueueId,
    file: String,
    inode: u64,
    hold: bool,
    /// It was here, and nobody but an operator could have ended it.
    accepted: bool,
}

/// The import of one queue.
pub struct Import<'a> {
    spool: &'a Spool,
    ours: &'a Ours,
    log: &'a OwnLog,
    journal: Journal<Line>,
    begun: Vec<Unfinished>,
    /// Where files go that have been taken.
    adopted: PathBuf,
    serials: std::ops::Range<u32>,
    /// Files that are left where they are, whatever they hold.
    skip: BTreeSet<PathBuf>,
    /// What came of it.
    pub account: Account,
}

fn failed(what: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::new(IO, format!("{}: {error}", what.display()))
}

impl<'a> Import<'a> {
    /// Opens the journal in the state directory.
    ///
    /// # Errors
    /// Any of the file system.
    pub fn open(spool: &'a Spool, ours: &'a Ours, log: &'a OwnLog) -> Result<Self, Failure> {
        let directory = ours.directory("adopted")?;
        let adopted = make_private(&directory.join("files")).map_err(failed(&directory))?;
        let path = directory.join("journal");
        let (journal, lines) = Journal::open(&path).map_err(failed(&path))?;
        let begun = unfinished(lines);
        let (serials, skip, account) = (0..0, BTreeSet::new(), Account::default());
        Ok(Self { spool, ours, log, journal, begun, adopted, serials, skip, account })
    }

    /// Takes everything that can be taken.
    ///
    /// # Errors
    /// The disk refuses; a further run goes on from there.
    pub fn run(&mut self) -> Result<(), Failure> {
        self.resume()?;
        for queue in [Queue::Active, Queue::Incoming, Queue::Deferred, Queue::Hold] {
            let files = self.spool.files(queue).map_err(failed(&self.spool.root.join(queue.name())))?;
            self.take_all(files)?;
        }
        let dropped = self.spool.files(Queue::Maildrop).map_err(failed(&self.spool.root.join("maildrop")))?;
        // What `postsuper -r` put there is no submission: it was accepted before.
        let requeued =
            |found: &Found| self.spool.owner.is_some_and(|(uid, _)| uid == found.owner) && is_requeued(found);
        let (requeued, dropped): (Vec<_>, Vec<_>) = dropped.into_iter().partition(requeued);
        self.take_all(requeued)?;
        super::maildrop::take_all(self.spool, self.ours, &self.adopted, dropped, self.log, &mut self.account)?;
        for found in self.spool.files(Queue::Corrupt).map_err(failed(&self.spool.root.join("corrupt")))? {
            self.leave(&found, "Postfix put it aside as damaged");
        }
        Ok(())
    }

    fn leave(&mut self, found: &Found, reason: &str) {
        self.log.warning(&format!("{}: left in Postfix's queue: {reason}", found.shown()));
        self.account.left(found.shown(), reason);
    }

    /// Brings to an end what an earlier run began.
    fn resume(&mut self) -> Result<(), Failure> {
        for unfinished in std::mem::take(&mut self.begun) {
            let new = unfinished.new;
            let source = self.spool.root.join(&unfinished.file);
            if self.adopted.join(new.to_string()).exists() {
                self.forget_source(&source, unfinished.inode)?;
                self.move_logs(&unfinished.file, new)?;
                self.release(&[(new, unfinished.hold)])?;
                self.note(&[Line::Finished(new)])?;
                self.account.resumed += 1;
                self.log.line(&format!("{new}: adopted from {} by an earlier run", unfinished.file));
            } else if self.is_here(new)? {
                // Nobody but an operator has touched it: it rests on hold.
                self.note(&[Line::Abandoning(new)])?;
                self.ours.commit(vec![vec![Op::Delete(Change { id: new, at: now() })]])?;
                points::reached("adopt-abandoned");
                self.note(&[Line::Abandoned(new)])?;
            } else if unfinished.accepted && source.exists() {
                let reason =
                    format!("it was taken as {new} before, which is no longer in our queue: an operator ended it");
                self.log.warning(&format!("{}: left in Postfix's queue: {reason}", unfinished.file));
                self.account.left(unfinished.file.clone(), &reason);
                self.skip.insert(source);
            } else {
                self.note(&[Line::Abandoned(new)])?;
            }
        }
        Ok(())
    }

    /// Where the file had to be copied, it may still be there.
    fn forget_source(&self, source: &Path, inode: u64) -> Result<(), Failure> {
        use std::os::unix::fs::MetadataExt as _;
        if fs::symlink_metadata(source).is_ok_and(|metadata| metadata.ino() == inode) {
            fs::remove_file(source).and_then(|()| sync_parent(source)).map_err(failed(source))?;
        }
        Ok(())
    }

    fn is_here(&self, id: QueueId) -> Result<bool, Failure> {
        self.ours.with(|store| store.message(id).map(|message| message.is_some()).map_err(|error| error.to_string()))
    }

    fn note(&mut self, lines: &[Line]) -> Result<(), Failure> {
        self.journal.append(lines).map_err(failed(&self.ours.state.join("adopted/journal")))
    }

    fn take_all(&mut self, files: Vec<Found>) -> Result<(), Failure> {
        let mut batch = Vec::new();
        let mut octets = 0;
        for found in files {
            if self.skip.contains(&found.path) {
                continue;
            }
            match self.prepare(&found)? {
                Ok(Some(prepared)) => {
                    octets += prepared.content.length();
                    batch.push(prepared);
                }
                Ok(None) => self.put_away(&found)?,
                Err(reason) => self.leave(&found, &reason),
            }
            if batch.len() >= BATCH || octets >= BATCH_OCTETS {
                self.take(std::mem::take(&mut batch))?;
                octets = 0;
            }
        }
        self.take(batch)
    }

    /// Reads a file: a message, nothing if Postfix has seen to all its recipients, or why it cannot be taken.
    fn prepare(&mut self, found: &Found) -> Result<Result<Option<Prepared>, String>, Failure> {
        match self.read(found) {
            Ok(Some(parts)) => Ok(Ok(Some(self.prepared(found, parts)?))),
            Ok(None) => Ok(Ok(None)),
            Err(reason) => Ok(Err(reason)),
        }
    }

    fn read(&self, found: &Found) -> Result<Option<Parts>, String> {
        if !found.complete {
            return Err("it is incomplete: its sender was never told that it was accepted".to_owned());
        }
        if found.expired {
            return Err("postsuper -e was said of it: Postfix is to return it".to_owned());
        }
        let octets = found.read().map_err(|error| error.to_string())?;
        let file = read(&octets, &LIMITS).map_err(|error| format!("it is no queue file: {error}"))?;
        let mut imported = file.envelope().map_err(|refused| format!("it {refused}"))?;
        imported.envelope.message_id = message_id(&file.content);
        let logs = self.logs_of(found);
        let reports = logs[1..].iter().any(|entries| !entries.is_empty());
        if imported.envelope.recipients.is_empty() && !reports {
            return Ok(None);
        }
        let arrival = file.arrival.unwrap_or_default();
        Ok(Some(Parts {
            envelope: imported.envelope,
            content: crlf(&file.content),
            logs,
            warned: imported.warned,
            arrival,
        }))
    }

    fn logs_of(&self, found: &Found) -> [Vec<log::Entry>; 3] {
        LOGS.map(|name| fs::read(self.spool.path(name, &found.id)).map(|file| log::parse(&file)).unwrap_or_default())
    }

    fn prepared(&mut self, found: &Found, parts: Parts) -> Result<Prepared, Failure> {
        let new = self.mint(parts.arrival)?;
        let mut envelope = parts.envelope;
        envelope.size = parts.content.len() as u64;
        let outcomes = outcomes(new, &mut envelope.recipients, &parts.logs, found, parts.warned);
        let content = self.content(new, parts.content)?;
        let accepted = Accepted { id: new, at: now(), envelope: envelope.into(), place: Place::Segment, hold: true };
        let hold = found.queue == Queue::Hold;
        Ok(Prepared { found: found.clone(), new, accepted, content, outcomes, hold })
    }

    /// Long content goes into a file of its own.
    fn content(&self, id: QueueId, octets: Vec<u8>) -> Result<Content, Failure> {
        if (octets.len() as u64) < OWN_FILE_MIN {
            return Ok(Content::Octets(octets));
        }
        self.ours.with(|store| {
            let text = |error: io::Error| error.to_string();
            let mut file = store.create_content(id).map_err(text)?;
            io::Write::write_all(&mut file, &octets).map_err(text)?;
            drop(file);
            store.complete_content(id).map_err(text)
        })
    }

    /// An id whose time is that of the arrival, so that the order of the queue stays.
    fn mint(&mut self, (seconds, micros): (u64, u32)) -> Result<QueueId, Failure> {
        if self.serials.is_empty() {
            let answers = self.ours.commit(vec![vec![Op::Grant(BLOCK)]])?;
            match answers.into_iter().next() {
                Some(Ok(granted)) => match granted.first() {
                    Some(Answer::Granted { first, count }) => self.serials = *first..first.saturating_add(*count),
                    _ => return Err(Failure::new(IO, "no queue ids were granted")),
                },
                Some(Err(refusal)) => return Err(Failure::new(IO, refusal.to_string())),
                None => return Err(Failure::new(IO, "no queue ids were granted")),
            }
        }
        let serial = self.serials.next().unwrap_or_default();
        QueueId::new(seconds, micros, serial).map_err(|error| Failure::new(IO, error.to_string()))
    }

    /// Carries a batch over.
    fn take(&mut self, batch: Vec<Prepared>) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        let begun = |one: &Prepared| Line::Begun {
            new: one.new,
            file: relative(&self.spool.root, &one.found.path),
            inode: one.found.inode,
            hold: one.hold,
        };
        let lines: Vec<Line> = batch.iter().map(begun).collect();
        self.note(&lines)?;
        points::reached("adopt-begun");
        let taken = self.accept(batch)?;
        let lines: Vec<Line> = taken.iter().map(|one| Line::Accepted(one.new)).collect();
        self.note(&lines)?;
        points::reached("adopt-accepted");
        for one in &taken {
            move_durably(&one.found.path, &self.adopted.join(one.new.to_string())).map_err(failed(&one.found.path))?;
            points::reached("adopt-moved");
        }
        for one in &taken {
            self.move_logs(&relative(&self.spool.root, &one.found.path), one.new)?;
        }
        sync_directory(&self.adopted).map_err(failed(&self.adopted))?;
        let parents: BTreeSet<&Path> = taken.iter().filter_map(|one| one.found.path.parent()).collect();
        for parent in parents {
            sync_directory(parent).map_err(failed(parent))?;
        }
        points::reached("adopt-synced");
        self.release(&taken.iter().map(|one| (one.new, one.hold)).collect::<Vec<_>>())?;
        points::reached("adopt-released");
        self.note(&taken.iter().map(|one| Line::Finished(one.new)).collect::<Vec<_>>())?;
        for one in &taken {
            self.told(one);
        }
        Ok(())
    }

    /// Brings the messages into our queue, on hold, with what is known of their recipients.
    fn accept(&mut self, batch: Vec<Prepared>) -> Result<Vec<Taken>, Failure> {
        let mut groups = Vec::with_capacity(batch.len());
        let mut taken = Vec::with_capacity(batch.len());
        let mut known = Vec::new();
        for one in batch {
            let Prepared { found, new, accepted, content, outcomes, hold } = one;
            taken.push(Taken { found, new, hold, envelope: accepted.envelope.clone() });
            groups.push(vec![Op::Accept { accepted, content, hops: Vec::new() }]);
            known.extend(outcomes.into_iter().map(|outcome| vec![Op::Outcome(outcome)]));
        }
        for answers in self.ours.commit(groups)? {
            answers.map_err(|refusal| Failure::new(IO, refusal.to_string()))?;
        }
        for answers in self.ours.commit(known)? {
            answers.map_err(|refusal| Failure::new(IO, refusal.to_string()))?;
        }
        Ok(taken)
    }

    /// What Postfix did not hold goes its way.
    fn release(&self, taken: &[(QueueId, bool)]) -> Result<(), Failure> {
        let free = taken.iter().filter(|(_, hold)| !hold);
        let groups = free.map(|&(id, _)| vec![Op::Release(Change { id, at: now() })]).collect();
        for answers in self.ours.commit(groups)? {
            answers.map_err(|refusal| Failure::new(IO, refusal.to_string()))?;
        }
        Ok(())
    }

    fn move_logs(&self, file: &str, new: QueueId) -> Result<(), Failure> {
        let id = file.rsplit('/').next().unwrap_or(file);
        for name in LOGS {
            let source = self.spool.path(name, id);
            if source.exists() {
                move_durably(&source, &self.adopted.join(format!("{new}.{name}"))).map_err(failed(&source))?;
            }
        }
        Ok(())
    }

    /// Postfix has seen to every recipient of the file and only did not come to remove it.
    fn put_away(&mut self, found: &Found) -> Result<(), Failure> {
        let target = self.adopted.join(format!("done-{}-{}", found.id, found.inode));
        move_durably(&found.path, &target).map_err(failed(&found.path))?;
        self.account.done += 1;
        self.log.line(&format!("{}: Postfix had seen to all its recipients", found.shown()));
        Ok(())
    }

    fn told(&mut self, one: &Taken) {
        let envelope = &one.envelope;
        let (from, count) = (&envelope.sender, envelope.recipients.len());
        let sender = from.address().map(ToString::to_string).unwrap_or_default();
        let held = if one.hold { ", on hold" } else { "" };
        self.log.line(&format!(
            "{}: adopted from {}: from=<{sender}>, size={}, nrcpt={count}{held}",
            one.new,
            one.found.shown(),
            envelope.size
        ));
        self.account.taken(one.found.id.clone(), one.new.to_string(), one.hold);
    }
}

/// What is kept of a message once it is in our queue.
struct Taken {
    found: Found,
    new: QueueId,
    hold: bool,
    envelope: std::sync::Arc<mail_types::Envelope>,
}

/// A file that was read.
struct Parts {
    envelope: mail_types::Envelope,
    content: Vec<u8>,
    logs: [Vec<log::Entry>; 3],
    warned: bool,
    arrival: (u64, u32),
}

fn now() -> UnixTime {
    UnixTime::from_system(SystemTime::now())
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_directory)
}

/// What was begun and neither abandoned nor finished.
fn unfinished(lines: Vec<Line>) -> Vec<Unfinished> {
    let mut begun: Vec<Unfinished> = Vec::new();
    for line in lines {
        match line {
            Line::Begun { new, file, inode, hold } => {
                begun.push(Unfinished { new, file, inode, hold, accepted: false });
            }
            Line::Accepted(id) | Line::Abandoning(id) => {
                let accepted = matches!(line, Line::Accepted(_));
                begun.iter_mut().filter(|one| one.new == id).for_each(|one| one.accepted = accepted);
            }
            Line::Abandoned(id) | Line::Finished(id) => begun.retain(|one| one.new != id),
        }
    }
    begun
}

fn is_requeued(found: &Found) -> bool {
    let file = found.read().ok().and_then(|octets| read(&octets, &LIMITS).ok());
    file.is_some_and(|file| file.size.is_some())
}

fn crlf(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut ends = LineEnds::default();
    ends.convert(content, &mut out);
    ends.finish(&mut out);
    out
}

fn message_id(content: &[u8]) -> Option<String> {
    let header = Header::scan(content);
    let value = header.get("message-id")?.text().trim().to_owned();
    (!value.is_empty()).then_some(value)
}

/// What Postfix's log files say of recipients. Those that were returned or are to be confirmed become recipients with a report that is due.
fn outcomes(
    id: QueueId,
    recipients: &mut Vec<Recipient>,
    [deferred, bounced, traced]: &[Vec<log::Entry>; 3],
    found: &Found,
    warned: bool,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let next = if found.queue == Queue::Deferred { UnixTime(found.modified).max(now()) } else { now() };
    let open = numbered(recipients);
    for (number, address) in &open {
        // The last attempt is the last entry.
        if let Some(entry) = deferred.iter().rev().find(|entry| is_of(entry, address)) {
            outcomes.push(outcome(id, entry, (*number, address), Fate::Deferred(next), false));
        }
    }
    if warned && !open.is_empty() {
        let entry = log::Entry::default();
        let warning = outcome(id, &entry, (0, &open[0].1), Fate::Warned, false);
        outcomes.push(Outcome { recipients: open, attempt: 0, ..warning });
    }
    for (entries, is_bounce) in [(bounced, true), (traced, false)] {
        for entry in entries {
            let Ok(address) = entry.recipient.parse::<Address>() else { continue };
            let fate = match (is_bounce, entry.action.as_str()) {
                (true, _) => Fate::Bounced,
                (false, "relayed") => Fate::Relayed,
                (false, _) => Fate::Delivered,
            };
            let number = u32::try_from(recipients.len()).unwrap_or(u32::MAX);
            outcomes.push(outcome(id, entry, (number, &address), fate, true));
            recipients.push(Recipient {
                address,
                original: entry.original.clone(),
                orcpt: entry.orcpt.clone(),
                notify: entry.notify,
            });
        }
    }
    outcomes
}

fn numbered(recipients: &[Recipient]) -> Vec<(u32, Address)> {
    (0..).zip(recipients).map(|(number, to)| (number, to.address.clone())).collect()
}

fn is_of(entry: &log::Entry, address: &Address) -> bool {
    entry.recipient.parse::<Address>().is_ok_and(|named| named == *address)
}

fn outcome(id: QueueId, entry: &log::Entry, (number, address): (u32, &Address), result: Fate, report: bool) -> Outcome {
    let mta = Remote { name: entry.mta.clone(), diagnostic: entry.diagnostic.clone() };
    Outcome {
        id,
        at: now(),
        recipients: vec![(number, address.clone())],
        attempt: 1,
        result,
        status: entry.status.parse::<EnhancedStatus>().ok(),
        text: entry.reason.clone(),
        mta: Some(mta).filter(|mta| *mta != Remote::default()),
        report,
        via: None,
    }
}
