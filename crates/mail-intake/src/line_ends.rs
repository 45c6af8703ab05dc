//! Line ends of content that did not come over SMTP.

/// Turns LF, CRLF and a last line without end into CRLF; a CR alone becomes a blank (`cleanup_replace_stray_cr_lf`). For content in pieces.
#[derive(Debug, Clone, Default)]
pub struct LineEnds {
    after_cr: bool,
    inside: bool,
}

impl LineEnds {
    /// Converts a piece and appends it to `out`.
    pub fn convert(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        out.reserve(piece.len() + piece.len() / 16);
        let mut rest = piece;
        while let Some(at) = rest.iter().position(|&b| b == b'\n' || b == b'\r') {
            self.text(&rest[..at], out);
            if rest[at] == b'\n' {
                self.after_cr = false;
                self.inside = false;
                out.extend_from_slice(b"\r\n");
            } else {
                self.flush_cr(out);
                self.after_cr = true;
            }
            rest = &rest[at + 1..];
        }
        self.text(rest, out);
    }

    /// Ends the content.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.flush_cr(out);
        if std::mem::take(&mut self.inside) {
            out.extend_from_slice(b"\r\n");
        }
    }

    fn text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if !text.is_empty() {
            self.flush_cr(out);
            out.extend_from_slice(text);
            self.inside = true;
        }
    }

    fn flush_cr(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.after_cr) {
            out.push(b' ');
            self.inside = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_ends_with_crlf() {
        for (given, stored) in [
            ("", ""),
            ("a", "a\r\n"),
            ("a\nb\r\nc", "a\r\nb\r\nc\r\n"),
            ("a\rb\r\r\n", "a b \r\n"),
            ("\r", " \r\n"),
            ("\n\n", "\r\n\r\n"),
        ] {
            for cut in 0..=given.len() {
                let (mut ends, mut out) = (LineEnds::default(), Vec::new());
                ends.convert(&given.as_bytes()[..cut], &mut out);
                ends.convert(&given.as_bytes()[cut..], &mut out);
                ends.finish(&mut out);
                assert_eq!(out, stored.as_bytes(), "{given:?} at {cut}");
            }
        }
    }
}
