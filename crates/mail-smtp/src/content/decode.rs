//! From the wire: finds the end of data, takes the stuffed dots out, makes every line end CRLF.

/// What becomes of a CR that no LF follows (`cleanup_replace_stray_cr_lf`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StrayCr {
    /// It becomes a blank.
    #[default]
    Blank,
    /// It stays.
    Keep,
}

/// Where the decoder stands in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Right after CRLF, or at the beginning.
    LineStart,
    /// After a dot that began a line.
    Dot,
    /// After a dot that began a line, and CR.
    DotCr,
    /// Inside a line.
    Inside,
    /// After CR inside a line.
    Cr,
    /// After CRLF.CRLF.
    End,
}

/// Decodes content as it comes, in pieces of any size.
///
/// Only CRLF.CRLF ends it (S07). A bare LF inside becomes CRLF and begins no line: a dot after it is content, never an end and never
/// stuffing, so that the octets judged here are the octets stored (R11).
#[derive(Debug, Clone)]
pub struct Decoder {
    at: At,
    stray_cr: StrayCr,
    bare_lf: bool,
    octets: u64,
}

impl Decoder {
    /// A decoder at the beginning of content.
    #[must_use]
    pub fn new(stray_cr: StrayCr) -> Self {
        Self { at: At::LineStart, stray_cr, bare_lf: false, octets: 0 }
    }

    /// Decodes `input` into `out` until the input or the content ends, or `out` holds `room` octets or more. Returns how many octets of
    /// `input` were read. `out` may grow two octets over `room`.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>, room: usize) -> usize {
        let before = out.len();
        let mut read = 0;
        while read < input.len() && self.at != At::End && out.len() < room {
            if self.at == At::Inside {
                read += self.copy_plain(&input[read..], out, room);
                continue;
            }
            self.octet(input[read], out);
            read += 1;
        }
        self.octets += (out.len() - before) as u64;
        read
    }

    /// Copies octets up to the next CR or LF, and handles that one.
    fn copy_plain(&mut self, input: &[u8], out: &mut Vec<u8>, room: usize) -> usize {
        let most = input.len().min(room - out.len());
        let plain = memchr::memchr2(b'\n', b'\r', &input[..most]).unwrap_or(most);
        out.extend_from_slice(&input[..plain]);
        if plain == most {
            return plain;
        }
        self.inside(input[plain], out);
        plain + 1
    }

    fn octet(&mut self, octet: u8, out: &mut Vec<u8>) {
        match (self.at, octet) {
            (At::LineStart, b'.') => self.at = At::Dot,
            (At::Dot, b'\r') => self.at = At::DotCr,
            (At::DotCr, b'\n') => self.at = At::End,
            (At::DotCr, _) => self.after_stray_cr(octet, out),
            (At::Cr, b'\n') => {
                out.extend_from_slice(b"\r\n");
                self.at = At::LineStart;
            }
            (At::Cr, _) => self.after_stray_cr(octet, out),
            _ => self.inside(octet, out),
        }
    }

    fn inside(&mut self, octet: u8, out: &mut Vec<u8>) {
        self.at = At::Inside;
        match octet {
            b'\r' => self.at = At::Cr,
            b'\n' => {
                self.bare_lf = true;
                out.extend_from_slice(b"\r\n");
            }
            _ => out.push(octet),
        }
    }

    fn after_stray_cr(&mut self, octet: u8, out: &mut Vec<u8>) {
        out.push(if self.stray_cr == StrayCr::Blank { b' ' } else { b'\r' });
        self.inside(octet, out);
    }

    /// Whether CRLF.CRLF was read.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.at == At::End
    }

    /// Whether a bare LF was read.
    #[must_use]
    pub fn saw_bare_lf(&self) -> bool {
        self.bare_lf
    }

    /// Octets of decoded content so far, line ends counted as two (RFC 1870 section 5).
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> (Vec<u8>, bool, usize) {
        let mut decoder = Decoder::new(StrayCr::Blank);
        let mut out = Vec::new();
        let mut unread = 0;
        for piece in pieces {
            unread += piece.len() - decoder.decode(piece, &mut out, usize::MAX);
        }
        (out, decoder.is_ended(), unread)
    }

    #[test]
    fn only_the_full_sequence_ends_the_content() {
        // S07, CVE-2023-51764
        for text in [
            "a\n.\n",
            "a\n.\r\n",
            "a\r\n.\n",
            "a\r.\r",
            "a\r\n.\r",
            "a\r\n\r.\r\n",
            "a\n.\r",
            "a\r\r\n.\r\r\n",
            "a\0\r\n.\0\r\n",
        ] {
            assert!(!decode(&[text.as_bytes()]).1, "{text:?}");
        }
        assert_eq!(decode(&[b"a\r\n.\r\nQUIT\r\n"]), (b"a\r\n".to_vec(), true, 6));
        assert_eq!(decode(&[b".\r\n"]), (Vec::new(), true, 0));
    }

    #[test]
    fn line_ends_become_crlf_and_stray_returns_blanks() {
        for (wire, stored) in [
            ("a\nb\r\n.\r\n", "a\r\nb\r\n"),
            ("a\rb\r\n.\r\n", "a b\r\n"),
            ("a\r\r\n.\r\n", "a \r\n"),
            ("a\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n"),
            ("a\n.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n"),
            (".\rX\r\n.\r\n", " X\r\n"),
            (".\nX\r\n.\r\n", "\r\nX\r\n"),
        ] {
            assert_eq!(decode(&[wire.as_bytes()]).0, stored.as_bytes(), "{wire:?}");
        }
    }

    #[test]
    fn dots_are_taken_out_once() {
        // S08
        for (wire, text) in
            [("..\r\n.\r\n", ".\r\n"), ("..a\r\n.b\r\n...\r\n.\r\n", ".a\r\nb\r\n..\r\n"), ("a..\r\n.\r\n", "a..\r\n")]
        {
            assert_eq!(decode(&[wire.as_bytes()]), (text.as_bytes().to_vec(), true, 0), "{wire:?}");
        }
    }

    #[test]
    fn a_full_output_stops_the_reading() {
        let mut decoder = Decoder::new(StrayCr::Blank);
        let (mut out, mut read, wire) = (Vec::new(), 0, [b'x'; 1000]);
        while read < wire.len() {
            let mut chunk = Vec::new();
            read += decoder.decode(&wire[read..], &mut chunk, 64);
            assert!(chunk.len() <= 66);
            out.extend(chunk);
        }
        assert_eq!(out, wire);
        assert_eq!(decoder.octets(), 1000);
    }

    proptest::proptest! {
        #[test]
        fn packets_make_no_difference(wire in "[a.\r\n]{0,40}", cuts: Vec<proptest::sample::Index>) {
            // S08
            let wire = wire.into_bytes();
            let whole = decode(&[&wire]);
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            at.extend([0, wire.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|w| &wire[w[0]..w[1]]).collect();
            proptest::prop_assert_eq!(decode(&pieces), whole);
        }

        #[test]
        fn the_content_holds_no_bare_line_ends(wire in "[a.\r\n]{0,60}") {
            let (out, _, _) = decode(&[wire.as_bytes()]);
            let text = String::from_utf8(out).expect("ASCII");
            proptest::prop_assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
        }
    }
}
