//! Writers of response syntax: strings in their three forms, lines of data.
//!
//! Every response line is well-formed whatever the mailbox holds (I30): what cannot be quoted is a literal, and NUL becomes 0x80 as in Dovecot, because no IMAP string has one.

use crate::grammar::flags::Flags;
use crate::grammar::is_astring_char;

/// Writes an astring: an atom where that is possible, else a string. `NIL` is quoted, since some clients take the atom for nothing.
pub fn write_astring(text: &[u8], out: &mut Vec<u8>) {
    if !text.is_empty()
        && text.len() <= 1000
        && text.iter().all(|&b| is_astring_char(b))
        && !text.eq_ignore_ascii_case(b"NIL")
    {
        out.extend_from_slice(text);
    } else {
        write_string(text, out);
    }
}

/// Writes a quoted string where every octet may stand in one, else a literal.
pub fn write_string(text: &[u8], out: &mut Vec<u8>) {
    let quotable = text.len() <= 4096 && text.iter().all(|b| (0x20..0x7f).contains(b) || *b == b'\t');
    if !quotable {
        write_literal(text, out);
        return;
    }
    out.push(b'"');
    for &octet in text {
        if matches!(octet, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(octet);
    }
    out.push(b'"');
}

/// Writes a literal.
pub fn write_literal(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{{}}}\r\n", text.len()).as_bytes());
    out.extend(text.iter().map(|&b| without_nul(b)));
}

/// The octet as a response may carry it.
#[must_use]
pub fn without_nul(octet: u8) -> u8 {
    if octet == 0 { 0x80 } else { octet }
}

/// Writes a string, or `NIL`.
pub fn write_nstring(text: Option<&[u8]>, out: &mut Vec<u8>) {
    match text {
        Some(text) => write_string(text, out),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// Writes `* n FETCH (UID u FLAGS (...))`; the UID only where one is given.
pub fn write_fetch_flags(number: u32, uid: Option<u32>, flags: &Flags, recent: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("* {number} FETCH (").as_bytes());
    if let Some(uid) = uid {
        out.extend_from_slice(format!("UID {uid} ").as_bytes());
    }
    out.extend_from_slice(b"FLAGS ");
    flags.write(recent, out);
    out.extend_from_slice(b")\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &[u8], write: fn(&[u8], &mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(text, &mut out);
        out
    }

    #[test]
    fn strings_take_the_shortest_form_that_is_well_formed() {
        // I30
        assert_eq!(written(b"a]b", write_astring), b"a]b");
        assert_eq!(written(b"nil", write_astring), b"\"nil\"");
        assert_eq!(written(b"", write_astring), b"\"\"");
        assert_eq!(written(b"a\"\\", write_string), b"\"a\\\"\\\\\"");
        assert_eq!(written(b"a\r\nb", write_string), b"{4}\r\na\r\nb");
        assert_eq!(written(b"\0\xff", write_string), b"{2}\r\n\x80\xff");
    }

    proptest::proptest! {
        #[test]
        fn a_written_string_is_read_back(text: Vec<u8>) {
            let out = written(&text, write_string);
            let expected: Vec<u8> = text.iter().map(|&b| without_nul(b)).collect();
            proptest::prop_assert_eq!(crate::grammar::string(&out).map(|(rest, s)| (rest.len(), s)), Ok((0, expected)));
        }
    }
}
