//! The message as it comes on standard input: where it ends, what of its header is for us.

use std::io::{self, BufRead};

use super::addresses::addresses;

/// A message and the recipients that its header names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// The content without `Bcc` fields and without a leading mbox line; lines end as they came.
    pub content: Vec<u8>,
    /// The recipients of `Resent-To`, `-Cc`, `-Bcc` where there are any, else of `To`, `Cc`, `Bcc`.
    pub header_recipients: Vec<String>,
}

/// Why no message could be read.
#[derive(Debug)]
pub enum ReadError {
    /// Standard input failed.
    Input(io::Error),
    /// The message is larger than the limit.
    TooBig,
}

/// Reads octets up to the end of input, or up to a line with only a dot unless dots are ignored.
///
/// # Errors
/// [`ReadError::TooBig`] beyond `limit` octets.
pub fn read(mut input: impl BufRead, ignore_dots: bool, limit: Option<u64>) -> Result<Vec<u8>, ReadError> {
    let mut content = Vec::new();
    loop {
        let start = content.len();
        let room = limit.map_or(u64::MAX, |limit| limit.saturating_sub(start as u64).saturating_add(1));
        let count = io::Read::take(&mut input, room).read_until(b'\n', &mut content).map_err(ReadError::Input)?;
        if count == 0 {
            return Ok(content);
        }
        if !ignore_dots && matches!(&content[start..], b"." | b".\n" | b".\r\n") {
            content.truncate(start);
            return Ok(content);
        }
        if limit.is_some_and(|limit| content.len() as u64 > limit) {
            return Err(ReadError::TooBig);
        }
    }
}

/// Takes the header's recipients and removes what must not travel.
#[must_use]
pub fn take_header(content: &[u8]) -> Message {
    let content = &content[mbox_lines(content)..];
    let mut message = Message { content: Vec::with_capacity(content.len()), header_recipients: Vec::new() };
    let mut resent = Vec::new();
    let mut at = 0;
    while let Some(Field { name, colon, end }) = field(&content[at..]) {
        let text = &content[at..at + end];
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let value = || addresses(&String::from_utf8_lossy(&text[colon + 1..]));
        match name.as_str() {
            "to" | "cc" | "bcc" => message.header_recipients.extend(value()),
            "resent-to" | "resent-cc" | "resent-bcc" => resent.extend(value()),
            _ => {}
        }
        // F02: the blind copies' names go no further.
        if name != "bcc" && name != "resent-bcc" {
            message.content.extend_from_slice(text);
        }
        at += end;
    }
    message.content.extend_from_slice(&content[at..]);
    if !resent.is_empty() {
        message.header_recipients = resent;
    }
    message
}

/// The content of a message that only asks about its recipients: a header that says so, for the report to show.
#[must_use]
pub fn probe(sender: &str, recipients: &[String]) -> Vec<u8> {
    let mut content = String::new();
    if !sender.is_empty() {
        content.push_str(&format!("From: {sender}\n"));
    }
    content.push_str("Subject: probe\n");
    content.push_str(&format!("To: {}\n\n", recipients.join(",\n\t")));
    content.into_bytes()
}

/// How many octets of `From ` or `>From ` lines stand before the header: what programs that read mailboxes leave there.
fn mbox_lines(content: &[u8]) -> usize {
    let mut at = 0;
    while content[at..].starts_with(b"From ") || content[at..].starts_with(b">From ") {
        at += line_length(&content[at..]);
    }
    at
}

fn line_length(content: &[u8]) -> usize {
    content.iter().position(|&b| b == b'\n').map_or(content.len(), |at| at + 1)
}

struct Field<'a> {
    name: &'a [u8],
    /// Where the colon stands; white space may come before it (RFC 5322 section 4.5).
    colon: usize,
    /// Where the last continuation line ends.
    end: usize,
}

/// The header field that begins here.
fn field(content: &[u8]) -> Option<Field<'_>> {
    let name_end = content.iter().position(|&b| !(0x21..0x7f).contains(&b) || b == b':')?;
    let colon = content[name_end..].iter().position(|b| !matches!(b, b' ' | b'\t'))? + name_end;
    if name_end == 0 || content.get(colon) != Some(&b':') {
        return None;
    }
    let mut end = line_length(content);
    while matches!(content.get(end), Some(b' ' | b'\t')) {
        end += line_length(&content[end..]);
    }
    Some(Field { name: &content[..name_end], colon, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &str, ignore_dots: bool) -> String {
        String::from_utf8(read(text.as_bytes(), ignore_dots, None).expect("reads")).expect("text")
    }

    #[test]
    fn a_lone_dot_ends_the_message_unless_dots_are_ignored() {
        assert_eq!(content("a\n.\nb\n", false), "a\n");
        assert_eq!(content("a\r\n.\r\nb\r\n", false), "a\r\n");
        assert_eq!(content("a\n.", false), "a\n");
        assert_eq!(content("a\n.\nb\n", true), "a\n.\nb\n");
        assert_eq!(content("a\n..\n.b\nno newline", false), "a\n..\n.b\nno newline");
        assert_eq!(content("", false), "");
    }

    #[test]
    fn a_probe_names_whom_it_asks_about() {
        let content = probe("john", &["a@b".to_owned(), "c@d".to_owned()]);
        assert_eq!(content, b"From: john\nSubject: probe\nTo: a@b,\n\tc@d\n\n");
        assert_eq!(probe("", &["a".to_owned()]), b"Subject: probe\nTo: a\n\n");
    }

    #[test]
    fn a_message_beyond_the_limit_is_refused() {
        assert!(matches!(read(&b"12345\n"[..], false, Some(5)), Err(ReadError::TooBig)));
        assert_eq!(read(&b"1234\n"[..], false, Some(5)).expect("fits"), b"1234\n");
        // One endless line does not fill the memory.
        assert!(matches!(read(io::BufReader::new(io::repeat(b'x')), false, Some(1 << 20)), Err(ReadError::TooBig)));
    }

    #[test]
    fn recipients_come_from_the_header_and_bcc_goes() {
        // F02
        let message = take_header(
            b"From john Sun Nov 22 14:51:16 2026\nTo: a@b,\n c@d\nBCC : secret@e.f,\n\tx@y\ncc: j (J) <j@k>\nSubject: Bcc: no\n\nBcc: body@x\n",
        );
        assert_eq!(message.header_recipients, ["a@b", "c@d", "secret@e.f", "x@y", "j@k"]);
        let kept = String::from_utf8(message.content).expect("text");
        assert_eq!(kept, "To: a@b,\n c@d\ncc: j (J) <j@k>\nSubject: Bcc: no\n\nBcc: body@x\n");
    }

    #[test]
    fn a_resent_message_goes_to_the_resent_recipients() {
        let message = take_header(b"Resent-To: r@s\nResent-Bcc: t@u\nTo: a@b\n\n");
        assert_eq!(message.header_recipients, ["r@s", "t@u"]);
        assert_eq!(message.content, b"Resent-To: r@s\nTo: a@b\n\n");
    }

    #[test]
    fn without_a_header_everything_is_body() {
        for text in ["hello: not\x01", "hello world\nTo: a@b\n", "\nTo: a@b\n", "", ":x\n"] {
            let message = take_header(text.as_bytes());
            assert_eq!(message.content, text.as_bytes());
        }
        assert_eq!(take_header(b"hello world\nTo: a@b\n").header_recipients, Vec::<String>::new());
    }

    proptest::proptest! {
        #[test]
        fn only_bcc_fields_and_mbox_lines_are_ever_removed(body: Vec<u8>) {
            let mut text = b"Subject: x\n\n".to_vec();
            text.extend(&body);
            proptest::prop_assert_eq!(take_header(&text).content, text);
        }
    }
}
