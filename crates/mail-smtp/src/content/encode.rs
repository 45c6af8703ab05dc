//! To the wire: stuffs dots, makes line ends CRLF, breaks lines that are too long.

/// Encodes content for DATA, in pieces of any size.
///
/// LF and CRLF both end a line and leave as CRLF; a CR alone becomes a blank (S24: never a bare CR or LF). A line longer than the limit is
/// broken with CRLF and a blank, as Postfix does for `smtp_line_length_limit`.
#[derive(Debug, Clone)]
pub struct Encoder {
    limit: usize,
    length: usize,
    after_cr: bool,
}

impl Encoder {
    /// An encoder for lines of at most `limit` octets without CRLF; 0 is no limit.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, length: 0, after_cr: false }
    }

    /// Encodes a piece and appends it to `out`.
    pub fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) {
        out.reserve(input.len() + input.len() / 32);
        let mut rest = input;
        while let Some(at) = rest.iter().position(|&b| b == b'\n' || b == b'\r') {
            let (text, end) = rest.split_at(at);
            self.text(text, out);
            self.line_end(end[0], out);
            rest = &end[1..];
        }
        self.text(rest, out);
    }

    fn line_end(&mut self, octet: u8, out: &mut Vec<u8>) {
        if octet == b'\n' {
            self.after_cr = false;
            out.extend_from_slice(b"\r\n");
            self.length = 0;
            return;
        }
        self.flush_cr(out);
        self.after_cr = true;
    }

    /// A CR that was held back and that no LF followed becomes a blank.
    fn flush_cr(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.after_cr) {
            self.plain(b" ", out);
        }
    }

    fn text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if !text.is_empty() {
            self.flush_cr(out);
            self.plain(text, out);
        }
    }

    fn plain(&mut self, mut text: &[u8], out: &mut Vec<u8>) {
        while !text.is_empty() {
            if self.length == 0 && text[0] == b'.' {
                out.push(b'.');
            }
            let room = if self.limit == 0 { text.len() } else { self.limit - self.length.min(self.limit) };
            let (now, later) = text.split_at(room.min(text.len()));
            out.extend_from_slice(now);
            self.length += now.len();
            if !later.is_empty() {
                out.extend_from_slice(b"\r\n ");
                self.length = 1;
            }
            text = later;
        }
    }

    /// Ends the content: completes a last line without end and appends the lone dot.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.flush_cr(out);
        if self.length > 0 {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Decoder, StrayCr};
    use super::*;

    fn encode(limit: usize, pieces: &[&[u8]]) -> Vec<u8> {
        let (mut encoder, mut out) = (Encoder::new(limit), Vec::new());
        for piece in pieces {
            encoder.encode(piece, &mut out);
        }
        encoder.finish(&mut out);
        out
    }

    #[test]
    fn dots_and_line_ends_are_made_for_the_wire() {
        // S24
        for (stored, wire) in [
            ("", ".\r\n"),
            ("a\n", "a\r\n.\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            (".\n..\n", "..\r\n...\r\n.\r\n"),
            ("a\rb\n", "a b\r\n.\r\n"),
            ("a\r\r\n", "a \r\n.\r\n"),
            ("\r", " \r\n.\r\n"),
            ("a\n\n.", "a\r\n\r\n..\r\n.\r\n"),
        ] {
            assert_eq!(encode(998, &[stored.as_bytes()]), wire.as_bytes(), "{stored:?}");
        }
    }

    #[test]
    fn long_lines_are_broken() {
        assert_eq!(encode(4, &[b"abcdefgh\n"]), b"abcd\r\n efg\r\n h\r\n.\r\n");
        let out = encode(998, &[&[b'x'; 5000]]);
        assert!(out.split(|&b| b == b'\n').all(|line| line.len() <= 999));
    }

    proptest::proptest! {
        #[test]
        fn what_is_encoded_is_decoded_again(lines in proptest::collection::vec("[a.]{0,10}", 0..8), cut: proptest::sample::Index) {
            let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let at = cut.index(text.len() + 1);
            let wire = encode(998, &[&text.as_bytes()[..at], &text.as_bytes()[at..]]);
            let (mut decoder, mut out) = (Decoder::new(StrayCr::Keep), Vec::new());
            proptest::prop_assert_eq!(decoder.decode(&wire, &mut out, usize::MAX), wire.len());
            proptest::prop_assert!(decoder.is_ended());
            proptest::prop_assert_eq!(String::from_utf8(out).expect("ASCII"), text);
        }

        #[test]
        fn nothing_bare_ever_leaves(stored in "[a.\r\n]{0,60}") {
            // CVE-2023-51764: exactly one end of data, at the end.
            let wire = String::from_utf8(encode(998, &[stored.as_bytes()])).expect("ASCII");
            proptest::prop_assert!(!wire.replace("\r\n", "").contains(['\r', '\n']));
            let ends = format!("\r\n{wire}").matches("\r\n.\r\n").count();
            proptest::prop_assert_eq!(ends, 1);
        }
    }
}
