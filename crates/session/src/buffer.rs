//! Input that is cut into lines, with a limit on what is kept.

use serde::{Deserialize, Serialize};

/// What [`LineBuffer::line`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line without its end (CRLF, or a bare LF where the buffer allows it).
    Complete(Vec<u8>),
    /// A line longer than the limit: it was swallowed up to its end, and this stands in its place, once.
    TooLong,
    /// The end of the line has not come yet.
    Partial,
}

/// Bytes received and not yet consumed. It never keeps more than its capacity; the rest stays with the driver (back-pressure).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    start: usize,
    /// Where the search for a line feed goes on, so that a slow line is not searched again and again.
    searched: usize,
    limit: usize,
    swallowing: bool,
    /// How the line began that was last found too long.
    #[serde(default)]
    head: Vec<u8>,
}

/// So many octets of a line that is too long are kept.
const HEAD: usize = 128;

impl LineBuffer {
    /// A buffer for lines of at most `limit` octets, the line end not counted.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, searched: 0, limit, swallowing: false, head: Vec::new() }
    }

    /// Changes the limit for the lines that follow, as AUTH and DATA need.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes what fits: at most the limit plus a line end, or 64 KiB where the limit is smaller. Returns how many octets were taken.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        let room = (self.limit + 2).max(64 * 1024).saturating_sub(self.bytes.len());
        let taken = bytes.len().min(room);
        self.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// What has not been consumed.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Consumes octets from the front: content that is not cut into lines.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
        self.searched = self.searched.max(self.start);
    }

    /// Throws everything away, as STARTTLS demands (T01).
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
        self.searched = 0;
        self.swallowing = false;
    }

    /// The next line. Lines end with LF; one CR before it belongs to the end. A protocol that forbids a bare LF checks [`LineBuffer::unread`] itself.
    pub fn line(&mut self) -> Line {
        let Some(at) = memchr::memchr(b'\n', &self.bytes[self.searched..]) else {
            self.searched = self.bytes.len();
            if self.unread().len() > self.limit + 1 {
                self.keep_head(self.bytes.len());
                self.swallowing = true;
                self.clear_keeping_swallow();
            }
            return Line::Partial;
        };
        let end = self.searched + at;
        let mut line = &self.bytes[self.start..end];
        line = line.strip_suffix(b"\r").unwrap_or(line);
        let result = if self.swallowing || line.len() > self.limit {
            self.keep_head(end);
            self.swallowing = false;
            Line::TooLong
        } else {
            Line::Complete(line.to_vec())
        };
        self.start = end + 1;
        self.searched = self.start;
        result
    }

    /// How the line began for which [`Line::TooLong`] stands: up to 128 octets. A client that must go on judges a reply by them.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    fn keep_head(&mut self, end: usize) {
        if !self.swallowing {
            self.head = self.bytes[self.start..end.min(self.start + HEAD)].to_vec();
        }
    }

    fn clear_keeping_swallow(&mut self) {
        self.bytes.clear();
        self.start = 0;
        self.searched = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_as_they_went_in() {
        let mut buffer = LineBuffer::new(10);
        assert_eq!(buffer.push(b"NOOP\r\nQU"), 8);
        assert_eq!(buffer.line(), Line::Complete(b"NOOP".to_vec()));
        assert_eq!(buffer.line(), Line::Partial);
        buffer.push(b"IT\n");
        assert_eq!(buffer.line(), Line::Complete(b"QUIT".to_vec()));
    }

    #[test]
    fn a_line_without_end_keeps_no_memory_and_is_reported_once() {
        let mut buffer = LineBuffer::new(100);
        for _ in 0..100 {
            assert!(buffer.push(&[b'x'; 1000]) > 0);
            assert_eq!(buffer.line(), Line::Partial);
            assert!(buffer.unread().len() <= 101);
        }
        buffer.push(b"\r\nNOOP\r\n");
        assert_eq!(buffer.line(), Line::TooLong);
        assert_eq!(buffer.head(), [b'x'; HEAD]);
        assert_eq!(buffer.line(), Line::Complete(b"NOOP".to_vec()));
    }
}
