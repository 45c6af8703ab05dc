//! The MIME structure of a message, as IMAP shows it (RFC 3501 sections 6.4.5 and 7.4.2, RFC 2045, RFC 2046).
//!
//! Input is a message with CRLF line ends, in memory or read from its file; offsets point into it. Work is linear in the input, nesting and the number of parts are bounded:
//! what lies deeper or beyond stays text of the last part. Where a message breaks the rules the answers are Dovecot's.

mod address;
mod content;
mod decode;
mod envelope;
mod search;
mod section;
mod structure;

pub use address::{MailAddress, parse_addresses};
pub use content::{ContentType, Disposition, Parameter};
pub use envelope::{Envelope, sent_date};
pub use search::{Needle, SearchPiece, SearchText};
pub use section::{Located, SectionPart};
pub use structure::{Body, Content, NESTING_LIMIT, PARTS_LIMIT, Part};

use std::borrow::Cow;

/// The message with every line feed preceded by a carriage return; not copied where it is so already.
#[must_use]
pub fn with_crlf(message: &[u8]) -> Cow<'_, [u8]> {
    let bare = bare_line_feeds(message);
    if bare == 0 {
        return Cow::Borrowed(message);
    }
    let mut out = Vec::with_capacity(message.len() + bare);
    let mut previous = 0;
    for &octet in message {
        if octet == b'\n' && previous != b'\r' {
            out.push(b'\r');
        }
        out.push(octet);
        previous = octet;
    }
    Cow::Owned(out)
}

fn bare_line_feeds(message: &[u8]) -> usize {
    let first = usize::from(message.first() == Some(&b'\n'));
    first + message.windows(2).filter(|w| w[1] == b'\n' && w[0] != b'\r').count()
}

/// A field of a header: its name and its value as they stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name, without white space around it.
    pub name: &'a [u8],
    /// The value from after the colon, with folds, without its last line end.
    pub value: &'a [u8],
    /// The whole field with its line ends.
    pub whole: &'a [u8],
    /// Where it begins in the header.
    pub at: usize,
}

/// The fields of a header in their order; lines that are no field belong to the field before, or to none.
pub fn fields(header: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = header;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let at = header.len() - rest.len();
            let (whole, after) = rest.split_at(field_end(rest));
            rest = after;
            if let Some(field) = field(whole, at) {
                return Some(field);
            }
        }
        None
    })
}

/// Where the field that begins here ends: after the first line that is not followed by white space.
fn field_end(header: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match memchr::memchr(b'\n', &header[at..]) {
            None => return header.len(),
            Some(line) => at += line + 1,
        }
        if !matches!(header.get(at), Some(b' ' | b'\t')) {
            return at;
        }
    }
}

fn field(whole: &[u8], at: usize) -> Option<Field<'_>> {
    let colon = whole.iter().position(|&b| b == b':')?;
    let name = whole[..colon].trim_ascii();
    let value = whole[colon + 1..].strip_suffix(b"\n").unwrap_or(&whole[colon + 1..]);
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    (!name.is_empty() && !name.contains(&b'\n')).then_some(Field { name, value, whole, at })
}

/// The value without its folds: line ends are dropped, white space stays (RFC 5322 section 2.2.3).
#[must_use]
pub fn unfolded(value: &[u8]) -> Vec<u8> {
    value.trim_ascii().iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_feeds_get_their_carriage_return_once() {
        assert_eq!(&*with_crlf(b"a\nb\r\nc\r\r\n\n"), b"a\r\nb\r\nc\r\r\n\r\n");
        assert!(matches!(with_crlf(b"a\r\nb"), Cow::Borrowed(_)));
        assert_eq!(&*with_crlf(b"\n"), b"\r\n");
    }

    #[test]
    fn fields_keep_their_folds_and_lines_without_colon_are_none() {
        let found: Vec<_> =
            fields(b"no colon\r\nA : b\r\n c\r\n: x\r\nD:e\r\n\r\n").map(|f| (f.name, f.value)).collect();
        assert_eq!(found, [(&b"A"[..], &b" b\r\n c"[..]), (b"D", b"e")]);
    }
}
