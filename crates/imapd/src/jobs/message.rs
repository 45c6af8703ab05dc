//! One message while it is looked at: read when it is needed, as far as it is needed.

use std::io::{self, Read as _};

use mail_message::mime::Part;
use mail_store::{Mailbox, StoreError};

/// A header is read up to here; what is longer counts as body.
const HEADER_LIMIT: usize = 10 * 1024 * 1024;

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

/// A message of the open mailbox.
pub(super) struct Reading<'m> {
    mailbox: &'m dyn Mailbox,
    pub(super) uid: u32,
    header: Option<Vec<u8>>,
    whole: Option<Vec<u8>>,
    part: Option<Part>,
}

impl<'m> Reading<'m> {
    pub(super) fn new(mailbox: &'m dyn Mailbox, uid: u32) -> Self {
        Self { mailbox, uid, header: None, whole: None, part: None }
    }

    /// The header with its blank line; the file is read no further.
    pub(super) fn header(&mut self) -> Result<&[u8], Unreadable> {
        if let Some(whole) = &self.whole {
            let end = header_end(whole, 0).unwrap_or(whole.len());
            return Ok(&whole[..end]);
        }
        if self.header.is_none() {
            self.header = Some(self.read_header()?);
        }
        Ok(self.header.as_deref().unwrap_or_default())
    }

    /// The whole message with CRLF line ends.
    pub(super) fn whole(&mut self) -> Result<&[u8], Unreadable> {
        if self.whole.is_none() {
            let file = self.mailbox.open_message(self.uid)?;
            self.whole = Some(file.read_all().map_err(|error| self.failed(error))?);
        }
        Ok(self.whole.as_deref().unwrap_or_default())
    }

    /// The message and its structure.
    pub(super) fn structure(&mut self) -> Result<(&[u8], &Part), Unreadable> {
        if self.part.is_none() {
            self.part = Some(Part::parse(self.whole()?));
        }
        match (&self.whole, &self.part) {
            (Some(whole), Some(part)) => Ok((whole, part)),
            _ => Err(Unreadable::Gone),
        }
    }

    fn read_header(&self) -> Result<Vec<u8>, Unreadable> {
        let mut reader = self.mailbox.open_message(self.uid)?.into_reader().map_err(|error| self.failed(error))?;
        let mut header = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let searched = header.len();
            let count = reader.read(&mut chunk).map_err(|error| self.failed(error))?;
            header.extend_from_slice(&chunk[..count]);
            if let Some(end) = header_end(&header, searched) {
                header.truncate(end);
                return Ok(header);
            }
            if count == 0 || header.len() >= HEADER_LIMIT {
                return Ok(header);
            }
        }
    }

    fn failed(&self, error: io::Error) -> Unreadable {
        Unreadable::Error(StoreError::Io(format!("message {}", self.uid), error))
    }
}

/// Where the header ends, with its blank line. Up to `searched` it is known not to.
fn header_end(text: &[u8], searched: usize) -> Option<usize> {
    if text.starts_with(b"\r\n") {
        return Some(2);
    }
    let from = searched.saturating_sub(3);
    text[from..].windows(4).position(|w| w == b"\r\n\r\n").map(|at| from + at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_ends_with_its_blank_line() {
        assert_eq!(header_end(b"A: b\r\n\r\nx", 0), Some(8));
        assert_eq!(header_end(b"A: b\r\n\r\nx", 7), Some(8));
        assert_eq!(header_end(b"\r\nx", 0), Some(2));
        assert_eq!(header_end(b"A: b\r\n", 0), None);
    }
}
