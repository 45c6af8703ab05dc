//! Content on its way to the client: line ends, dot-stuffing, and the cut that TOP makes.

use serde::{Deserialize, Serialize};

/// Turns stored octets into those of a multi-line reply: every line ends with CRLF, a line that begins with a dot gets another one
/// (RFC 1939 section 3). A CR that no LF follows stays as it is. Works on chunks that are cut anywhere. P04c
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stuffing {
    /// The octet before the next one; LF at the beginning.
    last: u8,
}

impl Default for Stuffing {
    fn default() -> Self {
        Self { last: b'\n' }
    }
}

impl Stuffing {
    /// Encodes a chunk onto the end of `out`.
    pub fn encode(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        out.reserve(chunk.len() + chunk.len() / 32 + 2);
        let mut rest = chunk;
        while let Some(&first) = rest.first() {
            if self.last == b'\n' && first == b'.' {
                out.push(b'.');
            }
            let Some(at) = memchr::memchr(b'\n', rest) else {
                out.extend_from_slice(rest);
                self.last = rest[rest.len() - 1];
                return;
            };
            out.extend_from_slice(&rest[..at]);
            let before = if at == 0 { self.last } else { rest[at - 1] };
            if before != b'\r' {
                out.push(b'\r');
            }
            out.push(b'\n');
            self.last = b'\n';
            rest = &rest[at + 1..];
        }
    }

    /// The end of the content: closes a line that was left open. The line with the dot is not part of it.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.last != b'\n' {
            out.extend_from_slice(b"\r\n");
            self.last = b'\n';
        }
    }
}

/// The cut of TOP: header, blank line, and so many lines of the body (RFC 1939 section 7). P06c
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    in_header: bool,
    /// The current line has octets other than CR.
    line_has_text: bool,
    lines: u32,
}

impl Top {
    /// A cut after `lines` lines of the body.
    #[must_use]
    pub fn new(lines: u32) -> Self {
        Self { in_header: true, line_has_text: false, lines }
    }

    /// How many octets from the front of `chunk` belong to the answer.
    pub fn take(&mut self, chunk: &[u8]) -> usize {
        for (at, &byte) in chunk.iter().enumerate() {
            if self.is_done() {
                return at;
            }
            match byte {
                b'\n' if self.in_header => {
                    self.in_header = self.line_has_text;
                    self.line_has_text = false;
                }
                b'\n' => self.lines -= 1,
                b'\r' => {}
                _ => self.line_has_text = true,
            }
        }
        chunk.len()
    }

    /// Whether nothing that follows belongs to the answer, so that reading can stop.
    #[must_use]
    pub fn is_done(&self) -> bool {
        !self.in_header && self.lines == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut stuffing, mut out) = (Stuffing::default(), Vec::new());
        for piece in pieces {
            stuffing.encode(piece, &mut out);
        }
        stuffing.finish(&mut out);
        out
    }

    fn cut(text: &[u8], lines: u32) -> &[u8] {
        let mut top = Top::new(lines);
        &text[..top.take(text)]
    }

    #[test]
    fn lines_that_begin_with_a_dot_are_stuffed() {
        // P04c
        assert_eq!(encoded(&[b".a\n..\nb.\n"]), b"..a\r\n...\r\nb.\r\n");
        assert_eq!(encoded(&[b"a\r", b"\n", b".b"]), b"a\r\n..b\r\n");
        assert_eq!(encoded(&[b"a\rb\n"]), b"a\rb\r\n");
        assert_eq!(encoded(&[b""]), b"");
    }

    #[test]
    fn top_gives_header_blank_line_and_so_many_lines() {
        // P06c
        let text = b"A: b\nC: d\r\n\r\none\ntwo\nthree";
        assert_eq!(cut(text, 0), b"A: b\nC: d\r\n\r\n");
        assert_eq!(cut(text, 2), b"A: b\nC: d\r\n\r\none\ntwo\n");
        assert_eq!(cut(text, 99), &text[..]);
        assert_eq!(cut(b"A: b\n", 1), b"A: b\n");
    }

    /// What a client makes of a stuffed text.
    fn unstuffed(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in text.split_inclusive(|&b| b == b'\n') {
            out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        out
    }

    /// The text with CRLF at each line end, written the plain way.
    fn with_crlf(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for &byte in text {
            if byte == b'\n' && out.last() != Some(&b'\r') {
                out.push(b'\r');
            }
            out.push(byte);
        }
        if !out.is_empty() && !out.ends_with(b"\n") {
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    proptest! {
        #[test]
        fn a_client_gets_back_what_was_stored(text in "[.\r\na]{0,40}", at in 0usize..40) {
            let (first, second) = text.as_bytes().split_at(at.min(text.len()));
            let wire = encoded(&[first, second]);
            prop_assert_eq!(unstuffed(&wire), with_crlf(text.as_bytes()));
            prop_assert!(!wire.windows(5).any(|w| w == b"\r\n.\r\n"));
        }

        #[test]
        fn the_cut_does_not_depend_on_the_chunks(text in "[\r\na]{0,40}", at in 0usize..40, lines in 0u32..4) {
            let text = text.as_bytes();
            let (first, second) = text.split_at(at.min(text.len()));
            let mut top = Top::new(lines);
            let mut taken = top.take(first);
            if taken == first.len() {
                taken += top.take(second);
            }
            prop_assert_eq!(&text[..taken], cut(text, lines));
        }
    }
}
