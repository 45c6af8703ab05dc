//! One file of the log: appending batches, and walking over what is there, damaged or not.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mail_posix::points;

use crate::format::{HEADER, RecordHeader, SegmentHeader, Tag};
use crate::record::Record;

/// How far ahead of the records disk space is taken, so that a sync seldom has to write the file's size.
const AHEAD: u64 = 4 * 1024 * 1024;
/// Octets read at once while walking.
const WINDOW: usize = 256 * 1024;

/// The path of segment `number`.
#[must_use]
pub fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join("segments").join(format!("{number:010}"))
}

/// The segment that grows.
#[derive(Debug)]
pub struct Writer {
    /// The file, shared with readers of contents.
    pub file: std::sync::Arc<File>,
    /// Its header.
    pub header: SegmentHeader,
    end: u64,
    allocated: u64,
}

impl Writer {
    /// Creates segment `number` and syncs its directory entry; the header is written, and synced with the first batch.
    ///
    /// # Errors
    /// Any of the file system; the file is removed again then.
    pub fn create(dir: &Path, number: u64, first: u64, created: u64) -> io::Result<Self> {
        let name = path(dir, number);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&name)?;
        let begun = (|| {
            let mut tag: Tag = [0; 16];
            fill_random(&mut tag)?;
            let header = SegmentHeader { number, tag, first, created };
            file.write_all_at(&header.encode(), 0)?;
            sync_directory(&dir.join("segments"))?;
            points::reached("segment-created");
            Ok(header)
        })();
        match begun {
            Ok(header) => Ok(Self { file: std::sync::Arc::new(file), header, end: HEADER as u64, allocated: 0 }),
            Err(error) => {
                let _ = std::fs::remove_file(&name);
                Err(error)
            }
        }
    }

    /// Where the next record goes.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Writes a batch and makes it durable with one sync.
    ///
    /// # Errors
    /// After an error the segment must not be used again (its pages may be lost although a later sync succeeds).
    pub fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        self.reserve(self.end + batch.len() as u64);
        self.file.write_all_at(batch, self.end)?;
        points::reached("queue-written");
        self.file.sync_data()?;
        points::reached("queue-synced");
        self.end += batch.len() as u64;
        Ok(())
    }

    /// Takes disk space ahead. A file system that cannot is no error: the write itself will tell.
    fn reserve(&mut self, end: u64) {
        if end > self.allocated {
            let upto = end.next_multiple_of(AHEAD);
            if rustix::fs::fallocate(&*self.file, rustix::fs::FallocateFlags::empty(), 0, upto).is_ok() {
                self.allocated = upto;
            }
        }
    }

    /// Gives back what was reserved behind the last record.
    pub fn close(self) {
        // A failure leaves zeros behind the records, which every reader skips.
        let _ = self.file.set_len(self.end);
    }
}

/// Appends `record` with its content to a batch.
///
/// # Errors
/// Only what [`Record::encode`] has.
pub fn encode_record(
    out: &mut Vec<u8>,
    tag: &Tag,
    record: &Record,
    content: &[u8],
    (sequence, batch, group_left): (u64, u64, u16),
) -> io::Result<()> {
    let begin = out.len();
    out.resize(begin + HEADER, 0);
    record.encode(out).map_err(io::Error::other)?;
    let meta = &out[begin + HEADER..];
    let header = RecordHeader {
        kind: record.kind(),
        group_left,
        meta: u32::try_from(meta.len()).map_err(io::Error::other)?,
        content: content.len() as u64,
        sequence,
        batch,
        meta_crc: crc32c::crc32c(meta),
        content_crc: crc32c::crc32c(content),
    };
    out[begin..begin + HEADER].copy_from_slice(&header.encode(tag));
    out.extend_from_slice(content);
    Ok(())
}

/// What a walk finds next.
#[derive(Debug)]
pub enum Found {
    /// A record whose header and metadata are intact.
    Record {
        /// Where it begins.
        at: u64,
        /// Its header.
        header: RecordHeader,
        /// Its metadata.
        meta: Vec<u8>,
        /// Whether the content has its checksum (true where the walk does not check contents).
        content_good: bool,
    },
    /// A stretch that holds no intact record.
    Damaged {
        /// Where it begins.
        from: u64,
        /// Where it ends.
        to: u64,
    },
}

/// A walk over the records of a segment.
#[derive(Debug)]
pub struct Walk<'a> {
    file: &'a File,
    tag: Tag,
    at: u64,
    end: u64,
    check_contents: bool,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Walk<'a> {
    /// Begins behind the segment's header, or at `from`, where a record begins.
    ///
    /// # Errors
    /// The file's size cannot be read.
    pub fn new(file: &'a File, tag: Tag, from: Option<u64>, check_contents: bool) -> io::Result<Self> {
        let end = file.metadata()?.len();
        let at = from.unwrap_or(HEADER as u64);
        Ok(Self { file, tag, at, end, check_contents, window: Vec::new(), window_at: 0 })
    }

    /// The next record or damaged stretch; none at the end, also where nothing but zeros follows.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn step(&mut self) -> io::Result<Option<Found>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let at = self.at;
        if let Some(header) = self.header_at(at)? {
            let next = at + header.total();
            if next <= self.end {
                let meta = self.read(at + HEADER as u64, header.meta as usize)?;
                if crc32c::crc32c(&meta) == header.meta_crc {
                    let content_good = !self.check_contents || self.content_good(at, &header)?;
                    self.at = next;
                    return Ok(Some(Found::Record { at, header, meta, content_good }));
                }
            }
        }
        let next = self.resynchronise(at + 1)?;
        self.at = next;
        if next == self.end && self.only_zeros(at)? {
            return Ok(None);
        }
        Ok(Some(Found::Damaged { from: at, to: next }))
    }

    fn header_at(&mut self, at: u64) -> io::Result<Option<RecordHeader>> {
        if at + HEADER as u64 > self.end {
            return Ok(None);
        }
        self.fill(at, HEADER)?;
        let begin = (at - self.window_at) as usize;
        let mut octets = [0; HEADER];
        octets.copy_from_slice(&self.window[begin..begin + HEADER]);
        Ok(RecordHeader::decode(&octets, &self.tag))
    }

    /// The offset of the next intact header at or behind `from`, or the end.
    fn resynchronise(&mut self, from: u64) -> io::Result<u64> {
        let mut at = from;
        while at + HEADER as u64 <= self.end {
            self.fill(at, HEADER)?;
            let begin = (at - self.window_at) as usize;
            let usable = self.window.len() - (HEADER - self.tag.len());
            let hit = self.window[begin..usable].windows(self.tag.len()).position(|w| w == self.tag);
            match hit {
                Some(offset) => {
                    at += offset as u64;
                    if self.header_at(at)?.is_some() {
                        return Ok(at);
                    }
                    at += 1;
                }
                // The tag may begin in the last octets of the window.
                None => at += ((usable - begin).saturating_sub(self.tag.len() - 1)).max(1) as u64,
            }
        }
        Ok(self.end)
    }

    fn only_zeros(&self, from: u64) -> io::Result<bool> {
        let mut buffer = vec![0; WINDOW];
        let mut at = from;
        while at < self.end {
            let want = buffer.len().min((self.end - at) as usize);
            self.file.read_exact_at(&mut buffer[..want], at)?;
            if buffer[..want].iter().any(|&b| b != 0) {
                return Ok(false);
            }
            at += want as u64;
        }
        Ok(true)
    }

    fn content_good(&mut self, at: u64, header: &RecordHeader) -> io::Result<bool> {
        let mut crc = 0;
        let mut position = at + HEADER as u64 + u64::from(header.meta);
        let mut left = header.content;
        while left > 0 {
            let step = left.min(WINDOW as u64) as usize;
            self.fill(position, step)?;
            let begin = (position - self.window_at) as usize;
            crc = crc32c::crc32c_append(crc, &self.window[begin..begin + step]);
            position += step as u64;
            left -= step as u64;
        }
        Ok(crc == header.content_crc)
    }

    /// Makes the window hold `length` octets from `at` on (which lie before the end).
    fn fill(&mut self, at: u64, length: usize) -> io::Result<()> {
        let held = at >= self.window_at && at + length as u64 <= self.window_at + self.window.len() as u64;
        if !held {
            let want = WINDOW.max(length).min((self.end - at) as usize);
            self.window.resize(want, 0);
            self.window_at = at;
            if let Err(error) = self.file.read_exact_at(&mut self.window, at) {
                self.window.clear();
                return Err(error);
            }
        }
        Ok(())
    }

    fn read(&mut self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        if length > WINDOW {
            let mut out = vec![0; length];
            self.file.read_exact_at(&mut out, at)?;
            return Ok(out);
        }
        self.fill(at, length)?;
        let begin = (at - self.window_at) as usize;
        Ok(self.window[begin..begin + length].to_vec())
    }
}

/// Reads the header of a segment; none if it is damaged.
///
/// # Errors
/// The file cannot be read.
pub fn read_header(file: &File) -> io::Result<Option<SegmentHeader>> {
    let mut octets = [0; HEADER];
    match file.read_exact_at(&mut octets, 0) {
        Ok(()) => Ok(SegmentHeader::decode(&octets)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// The header at the beginning of a record's octets, whichever segment they come from.
#[must_use]
pub fn header_in(octets: &[u8]) -> Option<RecordHeader> {
    let head = octets.first_chunk::<HEADER>()?;
    RecordHeader::decode(head, octets.first_chunk()?)
}

/// Makes the names in a directory durable.
///
/// # Errors
/// Any of the file system.
pub fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn fill_random(tag: &mut Tag) -> io::Result<()> {
    let mut filled = 0;
    while filled < tag.len() {
        filled += rustix::rand::getrandom(&mut tag[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Granted, Void};

    fn segment(dir: &Path, records: &[(Record, &[u8])]) -> (Writer, Vec<u64>) {
        std::fs::create_dir_all(dir.join("segments")).expect("directory");
        let mut writer = Writer::create(dir, 1, 1, 0).expect("create");
        let mut begins = Vec::new();
        for (n, (record, content)) in records.iter().enumerate() {
            let mut batch = Vec::new();
            let sequence = n as u64 + 1;
            encode_record(&mut batch, &writer.header.tag, record, content, (sequence, sequence, 0)).expect("encode");
            begins.push(writer.end());
            writer.append(&batch).expect("append");
        }
        (writer, begins)
    }

    fn walk(file: &File, tag: Tag) -> Vec<String> {
        let mut walk = Walk::new(file, tag, None, true).expect("walk");
        let mut out = Vec::new();
        while let Some(found) = walk.step().expect("readable") {
            out.push(match found {
                Found::Record { header, content_good, .. } => format!("{} {content_good}", header.sequence),
                Found::Damaged { from, to } => format!("damaged {from}-{to}"),
            });
        }
        out
    }

    fn three(dir: &Path) -> (Writer, Vec<u64>) {
        let big = vec![b'x'; 700_000];
        segment(
            dir,
            &[
                (Record::Granted(Granted { first: 1, count: 2 }), b""),
                (Record::Void(Void { from: 1, to: 2 }), &big),
                (Record::Granted(Granted { first: 3, count: 2 }), b"body"),
            ],
        )
    }

    #[test]
    fn a_walk_finds_what_was_written_and_skips_the_zeros_behind_it() {
        let dir = tempfile::tempdir().expect("directory");
        let (writer, _) = three(dir.path());
        assert_eq!(walk(&writer.file, writer.header.tag), ["1 true", "2 true", "3 true"]);
        let (file, tag) = (writer.file.clone(), writer.header.tag);
        writer.close();
        assert_eq!(walk(&file, tag), ["1 true", "2 true", "3 true"]);
    }

    #[test]
    fn reading_goes_on_behind_a_damaged_record() {
        let dir = tempfile::tempdir().expect("directory");
        let (writer, begins) = three(dir.path());
        // One octet of a header, then one of metadata, then one of content.
        writer.file.write_all_at(b"?", begins[1] + 30).expect("write");
        let damaged = format!("damaged {}-{}", begins[1], begins[2]);
        assert_eq!(walk(&writer.file, writer.header.tag), ["1 true", &damaged, "3 true"]);

        let dir = tempfile::tempdir().expect("directory");
        let (writer, begins) = three(dir.path());
        writer.file.write_all_at(b"?", begins[0] + HEADER as u64 + 2).expect("write");
        writer.file.write_all_at(b"?", begins[1] + 500_000).expect("write");
        let damaged = format!("damaged {}-{}", begins[0], begins[1]);
        assert_eq!(walk(&writer.file, writer.header.tag), [&damaged, "2 false", "3 true"]);
    }

    #[test]
    fn a_torn_end_is_a_damaged_stretch_at_every_length() {
        let dir = tempfile::tempdir().expect("directory");
        let (writer, begins) = three(dir.path());
        let end = writer.end();
        for cut in begins[2] + 1..end {
            writer.file.set_len(cut).expect("truncate");
            let found = walk(&writer.file, writer.header.tag);
            assert_eq!(found.last().map(String::as_str), Some(format!("damaged {}-{cut}", begins[2]).as_str()));
        }
    }

    #[test]
    fn content_that_looks_like_a_record_is_none() {
        let dir = tempfile::tempdir().expect("directory");
        let mut forged = Vec::new();
        encode_record(&mut forged, &[7; 16], &Record::Granted(Granted { first: 9, count: 9 }), b"", (9, 9, 0))
            .expect("encode");
        let (writer, begins) = segment(dir.path(), &[(Record::Void(Void { from: 1, to: 2 }), &forged)]);
        writer.file.write_all_at(b"?", begins[0] + 20).expect("write");
        assert_eq!(walk(&writer.file, writer.header.tag).len(), 1);
    }
}
