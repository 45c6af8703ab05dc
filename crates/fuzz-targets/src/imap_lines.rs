//! Whether octets are IMAP responses (RFC 3501 section 9): lines whose quoted strings close, with literals of the length that they state.

use crate::machine::shown;

/// The lines of a stream of responses, without the octets of their literals.
///
/// # Panics
/// It is none.
pub fn responses(mut output: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut line = Vec::new();
    while !output.is_empty() {
        let end = output.windows(2).position(|pair| pair == b"\r\n");
        let end = end.unwrap_or_else(|| panic!("a response has no end: {}", shown(output)));
        let text = &output[..end];
        assert!(
            text.iter().all(|&octet| octet.is_ascii() && octet != 0 && octet != b'\r' && octet != b'\n'),
            "{}",
            shown(text)
        );
        line.extend_from_slice(text);
        output = &output[end + 2..];
        match literal(text) {
            Some(length) => {
                assert!(length <= output.len(), "a literal is cut: {}", shown(text));
                assert!(!output[..length].contains(&0), "a literal holds NUL: {}", shown(text));
                output = &output[length..];
            }
            None => {
                well_formed(&line);
                all.push(std::mem::take(&mut line));
            }
        }
    }
    assert!(line.is_empty(), "a response ends in a literal: {}", shown(&line));
    all
}

/// The length in `{length}` at the end of a line.
fn literal(line: &[u8]) -> Option<usize> {
    let open = line.strip_suffix(b"}")?.iter().rposition(|&octet| octet == b'{')?;
    let digits = std::str::from_utf8(&line[open + 1..line.len() - 1]).ok()?;
    digits.parse().ok()
}

/// Begins with `* `, `+ ` or a tag; in data, quotes and parentheses close.
fn well_formed(line: &[u8]) {
    let mut words = line.splitn(3, |&octet| octet == b' ');
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    assert!(!first.is_empty(), "a line without a beginning: {}", shown(line));
    let is_text = first == b"+" || matches!(second, b"OK" | b"NO" | b"BAD" | b"BYE" | b"PREAUTH");
    if is_text {
        return;
    }
    assert!(first == b"*", "no response: {}", shown(line));
    let (mut quoted, mut escaped, mut depth) = (false, false, 0_usize);
    for &octet in line {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'(' if !quoted => depth += 1,
            b')' if !quoted => {
                depth = depth.checked_sub(1).unwrap_or_else(|| panic!("a parenthesis too many: {}", shown(line)));
            }
            _ => {}
        }
    }
    assert!(!quoted && depth == 0, "something is not closed: {}", shown(line));
}
