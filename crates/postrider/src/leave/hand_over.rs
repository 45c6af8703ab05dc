//! Our queue into Postfix's, so that a death at any point loses nothing and repeats nothing.
//!
//! In batches: the files are written into a directory beside Postfix's queues, on the same file system, where Postfix never looks; a journal
//! line says what they are (`Begun`); our messages go on hold; the files get their names in Postfix's queues by rename; our recipients end,
//! with where they went; `Finished`. Until the first file of a message has its name, the message is ours: the next run throws the files away
//! and writes them anew. From then on it is Postfix's: the next run gives the rest their names and ends it here.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mail_config::Config;
use mail_posix::files::{rename_noreplace, sync_directory};
use mail_posix::points;
use mail_types::{Address, EnhancedStatus, QueueId, UnixTime};
use postfix_queue::id;
use queue_store::{Change, Fate, Op, Outcome};
use serde::{Deserialize, Serialize};

use super::account::{Account, Handed, Left};
use super::maildrop;
use super::message::{Part, Split, Whole, split};
use crate::adopt::moving::relative;
use crate::exit::{Failure, IO, SOFTWARE};
use crate::journal::Journal;
use crate::ours::{Ours, make_private};
use crate::own_log::OwnLog;
use crate::spool::{READY, Spool};

/// So many messages share their syncs.
const BATCH: usize = 100;
/// Octets of files after which a batch is full.
const BATCH_OCTETS: u64 = 16 * 1024 * 1024;
/// Where files wait for their names, below Postfix's queue directory. No queue of Postfix's is called so.
pub const STAGING: &str = "postrider-leave";

/// A file on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name in the staging directory.
    pub staged: String,
    /// Its path below Postfix's queue directory.
    pub target: String,
}

/// A queue file on its way, with its logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The queue file.
    pub file: Step,
    /// Its logs, which go first.
    pub logs: Vec<Step>,
    /// The recipients that Postfix delivers.
    pub open: Vec<u32>,
    /// The recipients of whom Postfix tells the sender.
    pub told: Vec<u32>,
}

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Line {
    /// This message becomes these files.
    Begun {
        /// Our id.
        id: QueueId,
        /// Whether it was on hold before.
        hold: bool,
        /// The files.
        files: Vec<Begun>,
    },
    /// The files were thrown away; the message is ours.
    Abandoned(QueueId),
    /// Postfix has it, and it has ended here.
    Finished(QueueId),
}

/// A message of the batch.
struct Ready {
    id: QueueId,
    hold: bool,
    files: Vec<Begun>,
    left: bool,
}

/// The hand-over of one queue.
pub struct HandOver<'a> {
    spool: &'a Spool,
    ours: &'a Ours,
    log: &'a OwnLog,
    warn_after: Duration,
    journal: Journal<Line>,
    begun: Vec<(QueueId, bool, Vec<Begun>)>,
    staging: PathBuf,
    /// What came of it.
    pub account: Account,
}

fn failed(what: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::new(IO, format!("{}: {error}", what.display()))
}

impl<'a> HandOver<'a> {
    /// Opens the journal and the staging directory.
    ///
    /// # Errors
    /// Any of the file system.
    pub fn open(config: &Config, spool: &'a Spool, ours: &'a Ours, log: &'a OwnLog) -> Result<Self, Failure> {
        let directory = ours.directory("left")?;
        let path = directory.join("journal");
        let (journal, lines) = Journal::open(&path).map_err(failed(&path))?;
        let staging = make_private(&spool.root.join(STAGING)).map_err(failed(&spool.root))?;
        let (begun, account) = (unfinished(lines), Account::default());
        let warn_after = *config.main.delay_warning_time;
        Ok(Self { spool, ours, log, warn_after, journal, begun, staging, account })
    }

    /// Hands everything over that can be, and accounts for every message.
    ///
    /// # Errors
    /// The disk refuses; a further run goes on from there. 70 if a message is unaccounted for.
    pub fn run(&mut self) -> Result<(), Failure> {
        self.resume()?;
        let mut after = None;
        loop {
            let page = self.ours.with(|store| store.messages(after, BATCH).map_err(|error| error.to_string()))?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            self.page(page.into_iter().map(|(id, _)| id).collect())?;
        }
        maildrop::hand_over(self.spool, self.ours, &self.staging, self.log, &mut self.account)?;
        self.count_again()?;
        // Empty now; a file that somebody else put there keeps it.
        let _ = fs::remove_dir(&self.staging);
        Ok(())
    }

    /// Brings to an end what an earlier run began.
    fn resume(&mut self) -> Result<(), Failure> {
        for (id, hold, files) in std::mem::take(&mut self.begun) {
            let waits = |step: &Step| self.staging.join(&step.staged).exists();
            if files.iter().all(|one| waits(&one.file)) {
                // A log that has its name already belongs to nothing.
                for log in files.iter().flat_map(|one| &one.logs).filter(|log| !waits(log)) {
                    remove(&self.spool.root.join(&log.target))?;
                }
                if !hold {
                    self.ours.commit(vec![vec![Op::Release(Change { id, at: now() })]])?;
                }
                points::reached("leave-abandoned");
                self.note(&[Line::Abandoned(id)])?;
            } else {
                let ready = Ready { id, hold, files, left: false };
                self.name(std::slice::from_ref(&ready))?;
                self.end(&[ready])?;
                self.account.resumed += 1;
                self.log.line(&format!("{id}: handed over by an earlier run"));
            }
        }
        // What no line names was never begun.
        for entry in fs::read_dir(&self.staging).map_err(failed(&self.staging))?.flatten() {
            let name = entry.file_name();
            if !name.to_string_lossy().starts_with(maildrop::PREFIX) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn note(&mut self, lines: &[Line]) -> Result<(), Failure> {
        self.journal.append(lines).map_err(failed(&self.ours.state.join("left/journal")))
    }

    /// Carries a page of messages over, in batches by size.
    fn page(&mut self, ids: Vec<QueueId>) -> Result<(), Failure> {
        let mut batch = Vec::new();
        let mut octets = 0;
        for id in ids {
            let loaded = self.ours.with(|store| Ok(Whole::load(store, id)))?;
            let whole = match loaded {
                Ok(Some(whole)) if !whole.state.corrupt => whole,
                Ok(None) => continue,
                Ok(Some(_)) => {
                    self.leave(id, "its content is damaged; look at it with postcat -q, then delete it");
                    continue;
                }
                Err(error) => {
                    self.leave(id, &error);
                    continue;
                }
            };
            let Split { parts, left } = split(&whole, self.warn_after);
            for (_, reason) in &left {
                self.leave(id, reason);
            }
            if parts.is_empty() {
                continue;
            }
            octets += parts.iter().map(|part| part.file.len() as u64).sum::<u64>();
            batch.push(self.stage(id, &whole, parts, !left.is_empty())?);
            if octets >= BATCH_OCTETS {
                self.hand_over(std::mem::take(&mut batch))?;
                octets = 0;
            }
        }
        self.hand_over(batch)
    }

    fn leave(&mut self, id: QueueId, reason: &str) {
        self.log.warning(&format!("{id}: left: {reason}"));
        self.account.left.push(Left { message: id.to_string(), reason: reason.to_owned() });
    }

    /// Writes the files of a message, not yet durable.
    fn stage(&self, id: QueueId, whole: &Whole, parts: Vec<Part>, left: bool) -> Result<Ready, Failure> {
        let hold = whole.state.hold;
        let mut files = Vec::with_capacity(parts.len());
        for (number, part) in parts.into_iter().enumerate() {
            let staged = format!("{id}-{number}");
            let path = self.staging.join(&staged);
            let file = write(self.spool, &path, &part.file, READY).map_err(failed(&path))?;
            let queue = match (hold, part.deferred) {
                (true, _) => "hold",
                (false, Some(_)) => "deferred",
                (false, None) => "incoming",
            };
            if let Some(due) = part.deferred.filter(|_| !hold) {
                let due = UNIX_EPOCH + Duration::from_secs(due.seconds());
                let times = FileTimes::new().set_accessed(due).set_modified(due);
                file.set_times(times).map_err(failed(&path))?;
            }
            let inode = file.metadata().map_err(failed(&path))?.ino();
            let name = self.free_name(id, inode);
            let mut logs = Vec::with_capacity(part.logs.len());
            for (log, text) in &part.logs {
                let staged = format!("{staged}.{log}");
                let path = self.staging.join(&staged);
                write(self.spool, &path, text.as_bytes(), 0o600).map_err(failed(&path))?;
                logs.push(Step { staged, target: relative(&self.spool.root, &self.spool.path(log, &name)) });
            }
            let target = relative(&self.spool.root, &self.spool.path(queue, &name));
            files.push(Begun { file: Step { staged, target }, logs, open: part.open, told: part.told });
        }
        Ok(Ready { id, hold, files, left })
    }

    /// A name that no file of Postfix has, not even a log that was left behind.
    fn free_name(&self, id: QueueId, inode: u64) -> String {
        let taken = |name: &str| {
            let directories = ["defer", "bounce", "trace", "incoming", "active", "deferred", "hold"];
            directories.iter().any(|directory| self.spool.path(directory, name).exists())
        };
        let names = (0..1_000_000).map(|step| {
            let micros = (id.micros() + step) % 1_000_000;
            id::name(id.seconds(), micros, inode, self.spool.long_ids)
        });
        let first = id::name(id.seconds(), id.micros(), inode, self.spool.long_ids);
        names.into_iter().find(|name| !taken(name)).unwrap_or(first)
    }

    fn hand_over(&mut self, batch: Vec<Ready>) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        let staging = File::open(&self.staging).map_err(failed(&self.staging))?;
        rustix::fs::syncfs(&staging).map_err(|error| failed(&self.staging)(error.into()))?;
        points::reached("leave-staged");
        let begun = |one: &Ready| Line::Begun { id: one.id, hold: one.hold, files: one.files.clone() };
        let lines: Vec<Line> = batch.iter().map(begun).collect();
        self.note(&lines)?;
        points::reached("leave-begun");
        let free = batch.iter().filter(|one| !one.hold);
        let held = self.ours.commit(free.map(|one| vec![Op::Hold(Change { id: one.id, at: now() })]).collect())?;
        if let Some(refusal) = held.into_iter().find_map(Result::err) {
            return Err(Failure::new(IO, refusal.to_string()));
        }
        points::reached("leave-held");
        self.name(&batch)?;
        points::reached("leave-named");
        self.end(&batch)
    }

    /// Gives the files their names in Postfix's queues, logs first. Durable.
    fn name(&self, batch: &[Ready]) -> Result<(), Failure> {
        let mut parents = BTreeSet::new();
        for one in batch.iter().flat_map(|ready| &ready.files) {
            for step in one.logs.iter().chain([&one.file]) {
                let (from, to) = (self.staging.join(&step.staged), self.spool.root.join(&step.target));
                if from.exists() {
                    self.spool.make_parents(&to).and_then(|()| rename_noreplace(&from, &to)).map_err(failed(&to))?;
                }
                parents.extend(to.parent().map(Path::to_owned));
            }
            points::reached("leave-one-named");
        }
        for parent in parents {
            sync_directory(&parent).map_err(failed(&parent))?;
        }
        Ok(())
    }

    /// Ends the recipients here that Postfix has now.
    fn end(&mut self, batch: &[Ready]) -> Result<(), Failure> {
        let mut groups = Vec::new();
        for ready in batch {
            for one in &ready.files {
                groups.extend(self.outcomes(ready.id, one)?.into_iter().map(|outcome| vec![Op::Outcome(outcome)]));
            }
        }
        let rest = batch.iter().filter(|ready| ready.left && !ready.hold);
        groups.extend(rest.map(|ready| vec![Op::Release(Change { id: ready.id, at: now() })]));
        for answers in self.ours.commit(groups)? {
            answers.map_err(|refusal| Failure::new(IO, refusal.to_string()))?;
        }
        points::reached("leave-ended");
        self.note(&batch.iter().map(|ready| Line::Finished(ready.id)).collect::<Vec<_>>())?;
        for ready in batch {
            *(if ready.hold { &mut self.account.held } else { &mut self.account.handed_over }) += 1;
            for one in &ready.files {
                self.log.line(&format!("{}: handed over to Postfix as {}", ready.id, one.file.target));
                self.account.handed.push(Handed { old: ready.id.to_string(), new: one.file.target.clone() });
            }
        }
        Ok(())
    }

    fn outcomes(&self, id: QueueId, one: &Begun) -> Result<Vec<Outcome>, Failure> {
        let mut outcomes = Vec::new();
        for (numbers, result) in [(&one.open, Fate::Relayed), (&one.told, Fate::Reported)] {
            let recipients = self.ours.with(|store| addresses(store, id, numbers))?;
            if recipients.is_empty() {
                continue;
            }
            outcomes.push(Outcome {
                id,
                at: now(),
                recipients,
                attempt: 0,
                result,
                status: Some(EnhancedStatus::of(2, 0, 0)),
                text: format!("handed over to Postfix as {}", one.file.target),
                mta: None,
                report: false,
                via: None,
            });
        }
        Ok(outcomes)
    }

    /// Every message that is still here is one of those that were left, and every file that was handed over is in Postfix's queue.
    fn count_again(&self) -> Result<(), Failure> {
        let left: BTreeSet<&str> = self.account.left.iter().map(|left| left.message.as_str()).collect();
        let here = self.ours.with(|store| store.messages(None, usize::MAX).map_err(|error| error.to_string()))?;
        let unknown: Vec<String> =
            here.iter().map(|(id, _)| id.to_string()).filter(|id| !left.contains(id.as_str())).collect();
        let gone = self.account.handed.iter().filter(|handed| !self.spool.root.join(&handed.new).exists());
        let gone: Vec<&str> = gone.map(|handed| handed.new.as_str()).collect();
        if unknown.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let text = format!("unaccounted for: here {}, in Postfix's queue {}", unknown.join(" "), gone.join(" "));
        Err(Failure::new(SOFTWARE, text))
    }
}

fn addresses(store: &queue_store::Store, id: QueueId, numbers: &[u32]) -> Result<Vec<(u32, Address)>, String> {
    let mut found = Vec::with_capacity(numbers.len());
    for &number in numbers {
        let state = store.recipient(id, number).map_err(|error| error.to_string())?;
        found.extend(state.map(|state| (number, state.recipient.address)));
    }
    Ok(found)
}

fn now() -> UnixTime {
    UnixTime::from_system(SystemTime::now())
}

/// Writes a file for Postfix.
pub fn write(spool: &Spool, path: &Path, octets: &[u8], mode: u32) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(octets)?;
    // Whatever the umask says.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    spool.give(path)?;
    Ok(file)
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
        _ => Ok(()),
    }
}

/// What was begun and neither abandoned nor finished.
fn unfinished(lines: Vec<Line>) -> Vec<(QueueId, bool, Vec<Begun>)> {
    let mut begun = Vec::new();
    for line in lines {
        match line {
            Line::Begun { id, hold, files } => begun.push((id, hold, files)),
            Line::Abandoned(id) | Line::Finished(id) => begun.retain(|(known, ..)| *known != id),
        }
    }
    begun
}
