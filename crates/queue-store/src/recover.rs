//! The start: what the segments say becomes the state, damaged stretches are set aside (`docs/queue-format.md`, "Reading at the start").

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mail_types::{QueueId, UnixTime};

use crate::content;
use crate::format::{HEADER, RecordHeader, SegmentHeader};
use crate::index::{Engine, Index, IndexError};
use crate::message::Location;
use crate::record::{Place, Record, Void};
use crate::run::{Run, boot_id};
use crate::segment::{Found, Walk, path, read_header, sync_directory};
use crate::state::State;
use crate::store::OpenError;

/// Writes that are gathered before they go into the index while replaying.
const GATHER: usize = 50_000;

/// What the start found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Records applied.
    pub replayed: u64,
    /// Why the index was thrown away, if it was.
    pub rebuilt: Option<String>,
    /// Why this run has its index in memory, if it could not be made on disk.
    pub without_index: Option<String>,
    /// Damaged stretches: where they were and where their copies are.
    pub quarantined: Vec<Quarantined>,
    /// Octets cut off the end of the newest segment.
    pub truncated: u64,
    /// Messages whose content is damaged.
    pub corrupt: Vec<QueueId>,
    /// Records that were not applied although intact, because their group was incomplete.
    pub incomplete: u64,
    /// The workers that were connected when the last run ended.
    pub workers: Vec<String>,
}

/// A damaged stretch of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The segment.
    pub segment: u64,
    /// Where it begins.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
    /// The copy.
    pub copy: PathBuf,
}

/// A segment that was found.
pub struct Segment {
    pub file: Arc<File>,
    pub header: SegmentHeader,
}

/// Everything that the store begins with.
pub struct Recovered {
    pub state: State,
    /// The index that is in use.
    pub engine: Engine,
    pub segments: BTreeMap<u64, Segment>,
    pub next_sequence: u64,
    pub next_segment: u64,
    pub report: Recovery,
}

/// Reads the directory.
pub fn recover(dir: &Path, engine: Engine) -> Result<Recovered, OpenError> {
    let before = Run::read(dir);
    let boot = boot_id();
    let mut report = Recovery { workers: before.workers.clone(), ..Recovery::default() };
    let (segments, next_segment) = find_segments(dir, &mut report)?;
    if let Some(newest) = segments.values().next_back() {
        as_the_disk_has_it(&newest.file)?;
    }
    let voids = find_voids(&segments)?;
    let trusted = before.index && (before.clean || (!boot.is_empty() && before.boot == boot));
    // From here on only a clean stop says that the index can be used after another boot.
    Run { boot, clean: false, index: engine == Engine::Sled, workers: before.workers }.write_or_remove(dir)?;

    let discard = match trusted.then(|| open_index(dir, engine, &segments)) {
        Some(Ok(state)) => {
            let mut replay = Replay::new(dir, state, voids.clone(), report.clone());
            match replay.run(&segments) {
                Ok(()) if replay.reached >= replay.state.sequence => {
                    return finish(dir, engine, replay, segments, next_segment);
                }
                Ok(()) => "it is ahead of the segments".to_owned(),
                Err(ReplayError::Index(error)) => error.to_string(),
                Err(ReplayError::Io(error)) => return Err(error.into()),
            }
        }
        Some(Err(error)) => error.to_string(),
        None => "the last run did not end cleanly before this boot".to_owned(),
    };
    if !segments.is_empty() && engine == Engine::Sled {
        report.rebuilt = Some(discard);
    }
    match replay_all(dir, engine, &segments, voids.clone(), report.clone()) {
        Ok(replay) => finish(dir, engine, replay, segments, next_segment),
        Err(ReplayError::Index(error)) if engine == Engine::Sled => {
            // No index can be made on this disk now, which may be full: memory serves until the next start.
            report.without_index = Some(error.to_string());
            Run::remove(dir)?;
            match replay_all(dir, Engine::Memory, &segments, voids, report) {
                Ok(replay) => finish(dir, Engine::Memory, replay, segments, next_segment),
                Err(ReplayError::Index(error)) => Err(OpenError::Index(error)),
                Err(ReplayError::Io(error)) => Err(error.into()),
            }
        }
        Err(ReplayError::Index(error)) => Err(OpenError::Index(error)),
        Err(ReplayError::Io(error)) => Err(error.into()),
    }
}

/// Builds the state anew over a new index.
fn replay_all<'a>(
    dir: &'a Path,
    engine: Engine,
    segments: &BTreeMap<u64, Segment>,
    voids: Vec<Void>,
    report: Recovery,
) -> Result<Replay<'a>, ReplayError> {
    let base = fresh_index(dir, engine)?;
    let mut replay = Replay::new(dir, State::empty(base), voids, report);
    replay.run(segments)?;
    Ok(replay)
}

fn finish(
    dir: &Path,
    engine: Engine,
    replay: Replay<'_>,
    segments: BTreeMap<u64, Segment>,
    next_segment: u64,
) -> Result<Recovered, OpenError> {
    let Replay { state, mut report, reached, .. } = replay;
    let remains = |id| {
        Ok::<_, IndexError>(matches!(state.message(id)?, Some(message) if matches!(message.place, Place::File(_))))
    };
    content::remove_unnamed(dir, remains)?;
    report.corrupt.sort_unstable();
    report.corrupt.dedup();
    let next_sequence = reached.max(state.sequence) + 1;
    Ok(Recovered { state, engine, segments, next_sequence, next_segment, report })
}

fn open_index(dir: &Path, engine: Engine, segments: &BTreeMap<u64, Segment>) -> Result<State, IndexError> {
    let base: Arc<dyn Index> = Arc::from(engine.open(dir)?);
    let state = State::load(base)?.ok_or_else(|| IndexError("it is empty or of another version".to_owned()))?;
    match state.live.iter().find(|(number, live)| live.messages > 0 && !segments.contains_key(number)) {
        Some((number, _)) => Err(IndexError(format!("it names segment {number}, which is not there"))),
        None => Ok(state),
    }
}

fn fresh_index(dir: &Path, engine: Engine) -> Result<Arc<dyn Index>, ReplayError> {
    match std::fs::remove_dir_all(Engine::directory(dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    Ok(Arc::from(engine.open(dir)?))
}

/// Opens all segments; one without a readable header is set aside whole, or removed if it holds nothing.
fn find_segments(dir: &Path, report: &mut Recovery) -> io::Result<(BTreeMap<u64, Segment>, u64)> {
    let mut segments = BTreeMap::new();
    let mut next = 1;
    for entry in std::fs::read_dir(dir.join("segments"))? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse::<u64>().ok()) else { continue };
        next = next.max(number + 1);
        let file = File::options().read(true).write(true).open(path(dir, number))?;
        match read_header(&file)?.filter(|header| header.number == number) {
            Some(header) => {
                segments.insert(number, Segment { file: Arc::new(file), header });
            }
            None if file.metadata()?.len() <= HEADER as u64 => std::fs::remove_file(path(dir, number))?,
            None => {
                let to = file.metadata()?.len();
                let copy = dir.join("corrupt").join(format!("{number:010}-0"));
                std::fs::rename(path(dir, number), &copy)?;
                report.quarantined.push(Quarantined { segment: number, from: 0, to, copy });
            }
        }
    }
    sync_directory(&dir.join("segments"))?;
    Ok((segments, next))
}

/// Makes the newest segment durable as it is, then forgets what memory holds of it: after a failed sync the kernel keeps pages that the disk
/// never got and calls them clean, and the life before may have died between that failure and its Void (R4).
fn as_the_disk_has_it(file: &File) -> io::Result<()> {
    file.sync_all()?;
    // Advice only; a kernel that ignores it leaves what there was before.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    Ok(())
}

/// The sequence numbers that do not count: Voids stand at the beginning of segments.
fn find_voids(segments: &BTreeMap<u64, Segment>) -> io::Result<Vec<Void>> {
    let mut voids = Vec::new();
    for segment in segments.values() {
        let mut walk = Walk::new(&segment.file, segment.header.tag, None, false)?;
        while let Some(Found::Record { header, meta, .. }) = walk.step()? {
            match Record::decode(header.kind, &meta) {
                Ok(Record::Void(void)) => voids.push(void),
                _ => break,
            }
        }
    }
    Ok(voids)
}

#[derive(Debug)]
enum ReplayError {
    Index(IndexError),
    Io(io::Error),
}

impl From<IndexError> for ReplayError {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl From<io::Error> for ReplayError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// An intact record that waits for the rest of its group.
struct Pending {
    record: Record,
    at: Location,
    sequence: u64,
    content_good: bool,
}

struct Replay<'a> {
    dir: &'a Path,
    state: State,
    voids: Vec<Void>,
    report: Recovery,
    /// The highest sequence number seen.
    reached: u64,
    group: Vec<Pending>,
    /// How many records the group still misses, if one is open.
    missing: Option<u16>,
}

impl<'a> Replay<'a> {
    fn new(dir: &'a Path, state: State, voids: Vec<Void>, report: Recovery) -> Self {
        Self { dir, state, voids, report, reached: 0, group: Vec::new(), missing: None }
    }

    fn run(&mut self, segments: &BTreeMap<u64, Segment>) -> Result<(), ReplayError> {
        let applied = self.state.sequence;
        let firsts: Vec<u64> = segments.values().map(|segment| segment.header.first).skip(1).collect();
        for (n, segment) in segments.values().enumerate() {
            self.reached = self.reached.max(segment.header.first.saturating_sub(1));
            match firsts.get(n) {
                Some(&next) if next <= applied + 1 => {}
                next => self.segment(segment, next.is_none(), applied)?,
            }
        }
        for void in &self.voids {
            self.reached = self.reached.max(void.to);
        }
        self.settle()
    }

    fn segment(&mut self, segment: &Segment, newest: bool, applied: u64) -> Result<(), ReplayError> {
        let mut walk = Walk::new(&segment.file, segment.header.tag, None, true)?;
        let mut end = HEADER as u64;
        let mut group_begin = end;
        while let Some(found) = walk.step()? {
            match found {
                Found::Record { at, header, meta, content_good } => {
                    if !content_good && newest && !self.was_synced(segment, at + header.total(), header.sequence)? {
                        break;
                    }
                    if self.missing.is_none() {
                        group_begin = at;
                    }
                    end = at + header.total();
                    self.reached = self.reached.max(header.sequence);
                    if !content_good {
                        self.quarantine(segment, at, end)?;
                    }
                    if header.sequence > applied {
                        self.record(segment, at, &header, &meta, content_good)?;
                    }
                }
                Found::Damaged { from, to } => {
                    if newest && !self.was_synced(segment, to, self.reached + 1)? {
                        break;
                    }
                    self.quarantine(segment, from, to)?;
                    self.drop_group();
                    end = to;
                }
            }
        }
        if self.missing.is_some() {
            self.drop_group();
            end = group_begin;
        }
        if newest { self.end_log(segment, end) } else { Ok(()) }
    }

    /// Whether the sync that made `sequence` durable had returned: then a record of a later batch stands behind it.
    fn was_synced(&self, segment: &Segment, behind: u64, sequence: u64) -> io::Result<bool> {
        let mut walk = Walk::new(&segment.file, segment.header.tag, Some(behind), false)?;
        while let Some(found) = walk.step()? {
            if matches!(found, Found::Record { header, .. } if header.batch > sequence) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn end_log(&mut self, segment: &Segment, end: u64) -> Result<(), ReplayError> {
        let length = segment.file.metadata()?.len();
        if length > end && !zeros(&segment.file, end, length)? {
            self.report.truncated += length - end;
        }
        segment.file.set_len(end)?;
        segment.file.sync_all()?;
        Ok(())
    }

    fn record(
        &mut self,
        segment: &Segment,
        at: u64,
        header: &RecordHeader,
        meta: &[u8],
        content_good: bool,
    ) -> Result<(), ReplayError> {
        if self.voids.iter().any(|void| (void.from..=void.to).contains(&header.sequence)) {
            return Ok(());
        }
        if self.missing.is_some_and(|missing| u32::from(missing) != u32::from(header.group_left) + 1) {
            self.drop_group();
        }
        let record = match Record::decode(header.kind, meta) {
            Ok(record) => record,
            Err(_) => {
                // Intact, but not what this version writes: named and kept aside, never guessed at.
                self.drop_group();
                return self.quarantine(segment, at, at + header.total());
            }
        };
        let location =
            Location { segment: segment.header.number, offset: at, meta: header.meta, content: header.content };
        self.group.push(Pending { record, at: location, sequence: header.sequence, content_good });
        self.missing = Some(header.group_left);
        if header.group_left == 0 { self.apply_group() } else { Ok(()) }
    }

    fn apply_group(&mut self) -> Result<(), ReplayError> {
        self.missing = None;
        for pending in std::mem::take(&mut self.group) {
            if !pending.content_good {
                self.report.corrupt.extend(id_with_content(&pending.record));
            }
            self.state.apply(&pending.record, pending.at, &[], pending.content_good)?;
            self.state.sequence = pending.sequence;
            self.report.replayed += 1;
        }
        if self.state.pending() >= GATHER { self.settle() } else { Ok(()) }
    }

    fn drop_group(&mut self) {
        self.missing = None;
        self.report.incomplete += self.group.len() as u64;
        self.group.clear();
    }

    fn settle(&mut self) -> Result<(), ReplayError> {
        let now = UnixTime::from_system(std::time::SystemTime::now());
        let base = self.state.freeze(now)?;
        base.apply(self.state.frozen_writes())?;
        self.state.thaw();
        Ok(())
    }

    fn quarantine(&mut self, segment: &Segment, from: u64, to: u64) -> Result<(), ReplayError> {
        let number = segment.header.number;
        let copy = self.dir.join("corrupt").join(format!("{number:010}-{from}"));
        if !copy.exists() {
            copy_stretch(&segment.file, from, to, &copy)?;
        }
        self.report.quarantined.push(Quarantined { segment: number, from, to, copy });
        Ok(())
    }
}

fn id_with_content(record: &Record) -> Option<QueueId> {
    match record {
        Record::Accepted(accepted) => Some(accepted.id),
        Record::Moved(moved) => Some(moved.id),
        _ => None,
    }
}

fn zeros(file: &File, from: u64, to: u64) -> io::Result<bool> {
    let mut buffer = vec![0; 64 * 1024];
    let mut at = from;
    while at < to {
        let want = buffer.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut buffer[..want], at)?;
        if buffer[..want].iter().any(|&octet| octet != 0) {
            return Ok(false);
        }
        at += want as u64;
    }
    Ok(true)
}

fn copy_stretch(file: &File, from: u64, to: u64, copy: &Path) -> io::Result<()> {
    let fresh = copy.with_extension("new");
    let out = File::create(&fresh)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut at = from;
    while at < to {
        let want = buffer.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut buffer[..want], at)?;
        out.write_all_at(&buffer[..want], at - from)?;
        at += want as u64;
    }
    out.sync_all()?;
    std::fs::rename(&fresh, copy)?;
    copy.parent().map_or(Ok(()), sync_directory)
}
