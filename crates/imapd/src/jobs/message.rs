//! One message while it is looked at: read when it is needed, as far as it is needed.
//!
//! A small message is held whole. A larger one is read from its file piece by piece, however often: memory does not grow with it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::ops::Range;

use mail_message::mime::Part;
use mail_store::{CrlfReader, Mailbox, MessageFile, StoreError};

/// A header is read up to here; what is longer counts as body.
const HEADER_LIMIT: usize = 10 * 1024 * 1024;
/// The largest file that is held whole.
const HELD_MAX: u64 = 1024 * 1024;
/// A piece of what is not held.
const PIECE: usize = 64 * 1024;

/// Why a message could not be looked at.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// Another session or program removed it.
    Gone,
    /// The file cannot be read.
    Error(StoreError),
}

impl From<StoreError> for Unreadable {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Expunged => Self::Gone,
            other => Self::Error(other),
        }
    }
}

/// The octets of a message with CRLF line ends.
enum Content {
    Held(Vec<u8>),
    Stored(Stored),
}

/// A large message: its file, and how far it has been read.
struct Stored {
    size: u64,
    at: u64,
    reader: CrlfReader<File>,
}

/// Takes octets; false when it wants no more.
pub(super) type Take<'t> = &'t mut dyn FnMut(&[u8]) -> bool;

impl Content {
    fn of(mut file: MessageFile) -> io::Result<Self> {
        if file.physical() <= HELD_MAX {
            return file.read_all().map(Self::Held);
        }
        let size = file.count()?;
        Ok(Self::Stored(Stored { size, at: 0, reader: file.into_reader()? }))
    }

    fn size(&self) -> u64 {
        match self {
            Self::Held(octets) => octets.len() as u64,
            Self::Stored(stored) => stored.size,
        }
    }

    /// Gives the octets of a range, which lies inside; false if they were no longer wanted.
    fn copy(&mut self, range: Range<u64>, take: Take) -> io::Result<bool> {
        match self {
            Self::Held(octets) => Ok(take(&octets[place(range.start)..place(range.end)])),
            Self::Stored(stored) => stored.copy(range, take),
        }
    }
}

/// An offset in memory.
fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl Stored {
    /// Reading goes on where it ended, so that a client that takes a message in portions costs no more than one that takes it at once.
    fn copy(&mut self, range: Range<u64>, take: Take) -> io::Result<bool> {
        if range.start < self.at {
            self.reader.rewind()?;
            self.at = 0;
        }
        let mut piece = vec![0; PIECE];
        while self.at < range.end {
            let (until, wanted) = if self.at < range.start { (range.start, false) } else { (range.end, true) };
            let most = place(until - self.at).min(PIECE);
            let count = self.reader.read(&mut piece[..most])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.at += count as u64;
            if wanted && !take(&piece[..count]) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn structure(&mut self) -> io::Result<Part> {
        self.reader.rewind()?;
        self.at = self.size;
        Part::read(BufReader::with_capacity(PIECE, &mut self.reader))
    }
}

/// What a session keeps of the last large message, for the next command: clients take it in portions.
#[derive(Default)]
pub(super) struct Kept(Option<Box<(u32, Stored, Option<Part>)>>);

/// A message of the open mailbox.
pub(super) struct Reading<'m> {
    mailbox: &'m dyn Mailbox,
    pub(super) uid: u32,
    header: Option<Vec<u8>>,
    content: Option<Content>,
    part: Option<Part>,
}

impl<'m> Reading<'m> {
    pub(super) fn new(mailbox: &'m dyn Mailbox, uid: u32) -> Self {
        Self { mailbox, uid, header: None, content: None, part: None }
    }

    /// As [`Reading::new`], with what was kept of this message.
    pub(super) fn resumed(mailbox: &'m dyn Mailbox, uid: u32, kept: &mut Kept) -> Self {
        let mut reading = Self::new(mailbox, uid);
        if let Some(kept) = kept.0.take_if(|kept| kept.0 == uid) {
            let (_, stored, part) = *kept;
            (reading.content, reading.part) = (Some(Content::Stored(stored)), part);
        }
        reading
    }

    /// Keeps what is worth it.
    pub(super) fn keep(self, kept: &mut Kept) {
        if let Some(Content::Stored(stored)) = self.content {
            kept.0 = Some(Box::new((self.uid, stored, self.part)));
        }
    }

    /// The header with its blank line; the file is read no further.
    pub(super) fn header(&mut self) -> Result<&[u8], Unreadable> {
        if let Some(Content::Held(whole)) = &self.content {
            let end = header_end(whole).unwrap_or(whole.len());
            return Ok(&whole[..end]);
        }
        if self.header.is_none() {
            self.header = Some(self.read_header()?);
        }
        Ok(self.header.as_deref().unwrap_or_default())
    }

    fn content(&mut self) -> Result<&mut Content, Unreadable> {
        let content = match self.content.take() {
            Some(content) => content,
            None => {
                let file = self.mailbox.open_message(self.uid)?;
                Content::of(file).map_err(|error| self.failed(error))?
            }
        };
        Ok(self.content.insert(content))
    }

    /// Octets of the whole message.
    pub(super) fn size(&mut self) -> Result<u64, Unreadable> {
        Ok(self.content()?.size())
    }

    /// The whole message, where it is small enough to be held.
    pub(super) fn held(&mut self) -> Result<Option<(&[u8], &Part)>, Unreadable> {
        self.structure()?;
        Ok(match (&self.content, &self.part) {
            (Some(Content::Held(whole)), Some(part)) => Some((whole, part)),
            _ => None,
        })
    }

    /// The structure of the message.
    pub(super) fn structure(&mut self) -> Result<&Part, Unreadable> {
        let part = match self.part.take() {
            Some(part) => part,
            None => {
                let read = match self.content()? {
                    Content::Held(whole) => Ok(Part::parse(whole)),
                    Content::Stored(stored) => stored.structure(),
                };
                read.map_err(|error| self.failed(error))?
            }
        };
        Ok(self.part.insert(part))
    }

    /// Gives the octets of a range; false if they were no longer wanted.
    pub(super) fn copy(&mut self, range: Range<u64>, take: Take) -> Result<bool, Unreadable> {
        let copied = self.content()?.copy(range, take);
        copied.map_err(|error| self.failed(error))
    }

    /// The octets of a range that is known to be short, such as a header.
    pub(super) fn octets(&mut self, range: Range<usize>) -> Result<Cow<'_, [u8]>, Unreadable> {
        if let Content::Stored(_) = self.content()? {
            let mut octets = Vec::with_capacity(range.len().min(HEADER_LIMIT));
            self.copy(range.start as u64..range.end as u64, &mut |piece| {
                octets.extend_from_slice(piece);
                true
            })?;
            return Ok(octets.into());
        }
        match &self.content {
            Some(Content::Held(whole)) => Ok(whole[range].into()),
            _ => Err(Unreadable::Gone),
        }
    }

    fn read_header(&self) -> Result<Vec<u8>, Unreadable> {
        let file = self.mailbox.open_message(self.uid)?;
        file.read_header(HEADER_LIMIT).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> Unreadable {
        Unreadable::Error(StoreError::Io(format!("message {}", self.uid), error))
    }
}

/// Where the header ends, with its blank line.
fn header_end(text: &[u8]) -> Option<usize> {
    if text.starts_with(b"\r\n") {
        return Some(2);
    }
    memchr::memmem::find(text, b"\r\n\r\n").map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_ends_with_its_blank_line() {
        assert_eq!(header_end(b"A: b\r\n\r\nx"), Some(8));
        assert_eq!(header_end(b"\r\nx"), Some(2));
        assert_eq!(header_end(b"A: b\r\n"), None);
    }

    #[test]
    fn a_large_message_is_given_in_any_portions_and_order() {
        let mut file = tempfile::tempfile().expect("a file");
        let lines: Vec<String> = (0..40_000).map(|n| format!("line {n} of a large message\n")).collect();
        let text = format!("Subject: x\n\n{}", lines.concat());
        io::Write::write_all(&mut file, text.as_bytes()).expect("written");
        io::Seek::rewind(&mut file).expect("a file");
        let served = text.replace('\n', "\r\n").into_bytes();
        let size = served.len() as u64;
        let mut stored = Stored { size, at: 0, reader: CrlfReader::new(file) };
        for range in [0..size, 10..20, 20..400_000, 400_000..400_001, 5..6, size - 1..size, 7..7, size..size] {
            let mut given = Vec::new();
            let all = stored.copy(range.clone(), &mut |piece| {
                given.extend_from_slice(piece);
                true
            });
            assert!(all.expect("read"));
            assert!(given == served[place(range.start)..place(range.end)], "{range:?}");
        }
        assert_eq!(stored.structure().expect("read").whole(), 0..served.len());
        stored.copy(0..size + 1, &mut |_| true).expect_err("there is no more");
    }
}
