//! Reading messages back from the log, damaged or not.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use mail_types::{Envelope, QueueId};

use crate::content::{self, Content};
use crate::format::{HEADER, Kind, RecordHeader};
use crate::index::IndexError;
use crate::message::MessageState;
use crate::record::{Place, Record};
use crate::store::Shared;

/// A message's envelope and content as the log has them.
#[derive(Debug)]
pub struct Loaded {
    /// The envelope; the recipients that are still open are in [`crate::Store::recipients`].
    pub envelope: Arc<Envelope>,
    /// The content.
    pub body: Body,
}

/// The content of one message.
#[derive(Debug)]
pub enum Body {
    /// The octets.
    Octets(Vec<u8>),
    /// The message's own file, opened for reading; so many octets.
    File(File, u64),
}

/// Why a message cannot be read.
#[derive(Debug)]
pub enum LoadError {
    /// It is not in the queue.
    Unknown,
    /// Its record or content file is not what was written.
    Damaged,
    /// The file system.
    Io(io::Error),
    /// The index.
    Index(IndexError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("not in the queue"),
            Self::Damaged => f.write_str("the message is damaged on disk"),
            Self::Io(error) => error.fmt(f),
            Self::Index(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<IndexError> for LoadError {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

/// Reads the record of a message and its content.
pub(crate) fn load(shared: &Shared, id: QueueId) -> Result<Loaded, LoadError> {
    with_record(shared, id, |message, file| {
        let (header, octets) = read_record(message, file)?;
        let envelope = match Record::decode(header.kind, &octets[HEADER..HEADER + header.meta as usize]) {
            Ok(Record::Accepted(accepted)) if accepted.id == id => accepted.envelope,
            Ok(Record::Moved(moved)) if moved.id == id => moved.envelope,
            _ => return Err(LoadError::Damaged),
        };
        Ok(Loaded { envelope, body: body_of(shared, id, message, header.content_crc, octets)? })
    })
}

/// Reads the content of a message.
pub(crate) fn load_body(shared: &Shared, id: QueueId) -> Result<Body, LoadError> {
    with_record(shared, id, |message, file| {
        let (header, octets) = read_record(message, file)?;
        body_of(shared, id, message, header.content_crc, octets)
    })
}

fn with_record<T>(
    shared: &Shared,
    id: QueueId,
    read: impl Fn(&MessageState, &File) -> Result<T, LoadError>,
) -> Result<T, LoadError> {
    // The cleaner may move the message between the question and the reading: then it is asked again.
    for _ in 0..3 {
        let message = shared.read().message(id)?.ok_or(LoadError::Unknown)?;
        if let Some(file) = shared.file(message.location.segment) {
            return read(&message, &file);
        }
    }
    Err(LoadError::Damaged)
}

/// The octets of a whole record, with metadata that has its checksum.
fn read_record(message: &MessageState, file: &File) -> Result<(RecordHeader, Vec<u8>), LoadError> {
    let location = message.location;
    let content = usize::try_from(location.content).map_err(|_| LoadError::Damaged)?;
    let meta = location.meta as usize;
    let mut octets = vec![0; HEADER + meta + content];
    file.read_exact_at(&mut octets, location.offset).map_err(LoadError::Io)?;
    let header = crate::segment::header_in(&octets).ok_or(LoadError::Damaged)?;
    let good = header.meta == location.meta && header.meta_crc == crc32c::crc32c(&octets[HEADER..HEADER + meta]);
    if good { Ok((header, octets)) } else { Err(LoadError::Damaged) }
}

fn body_of(
    shared: &Shared,
    id: QueueId,
    message: &MessageState,
    crc: u32,
    mut octets: Vec<u8>,
) -> Result<Body, LoadError> {
    match message.place {
        Place::Segment => {
            octets.drain(..HEADER + message.location.meta as usize);
            // A damaged content is kept and shown to operators, never delivered.
            let good = message.corrupt || crc32c::crc32c(&octets) == crc;
            if good { Ok(Body::Octets(octets)) } else { Err(LoadError::Damaged) }
        }
        Place::File(length) => {
            let file = File::open(content::path(&shared.dir, id)).map_err(LoadError::Io)?;
            let whole = file.metadata().map_err(LoadError::Io)?.len() == length;
            if whole { Ok(Body::File(file, length)) } else { Err(LoadError::Damaged) }
        }
    }
}

/// What can still be read of a damaged message: the octets of its content, with zeros where the disk gives none, and the envelope of its
/// record or, where that is unreadable, as much of one as the state has. None if the message is gone.
pub(crate) fn salvage(shared: &Shared, id: QueueId) -> Result<Option<(Arc<Envelope>, Content)>, IndexError> {
    let state = shared.read();
    let Some(message) = state.message(id)? else { return Ok(None) };
    let recipients = state.recipients(id, 0, usize::MAX)?;
    drop(state);
    let location = message.location;
    let head = HEADER as u64 + u64::from(location.meta);
    let read = |from: u64, length: u64| match shared.file(location.segment) {
        Some(file) => read_what_is_there(&file, location.offset + from, length),
        None => Vec::new(),
    };
    let meta = read(HEADER as u64, u64::from(location.meta));
    let envelope = [Kind::Accepted, Kind::Moved].into_iter().find_map(|kind| match Record::decode(kind, &meta) {
        Ok(Record::Accepted(accepted)) if accepted.id == id => Some(accepted.envelope),
        Ok(Record::Moved(moved)) if moved.id == id => Some(moved.envelope),
        _ => None,
    });
    let envelope = envelope.unwrap_or_else(|| {
        Arc::new(Envelope {
            sender: message.sender.clone(),
            recipients: recipients.into_iter().map(|(_, state)| state.recipient).collect(),
            arrival: message.arrival,
            size: message.size,
            body: mail_types::Body::EightBitMime,
            smtputf8: false,
            dsn: mail_types::DsnOptions::default(),
            message_id: None,
            client: mail_types::Client::default(),
            purpose: message.purpose,
        })
    });
    let content = match message.place {
        Place::File(length) => Content::File(length),
        Place::Segment => Content::Octets(read(head, location.content)),
    };
    Ok(Some((envelope, content)))
}

/// So many octets; zeros where the disk fails or the file ends.
fn read_what_is_there(file: &File, from: u64, length: u64) -> Vec<u8> {
    const PIECE: usize = 4096;
    let mut octets = vec![0; usize::try_from(length).unwrap_or(0)];
    for (number, piece) in octets.chunks_mut(PIECE).enumerate() {
        // An unreadable piece stays zeros.
        let _ = file.read_exact_at(piece, from + (number * PIECE) as u64);
    }
    octets
}
