//! Replies as they go over the wire.

use mail_types::Reply;

/// The longest reply line in octets without CRLF (RFC 5321 section 4.5.3.1.5: 512 with it).
const LINE_MAX: usize = 510;

/// Appends a reply: code and status on every line, the last with a blank after the code.
///
/// Control characters never leave, so that no input can forge a reply line.
pub(super) fn write_reply(out: &mut Vec<u8>, reply: &Reply) {
    let mut lines = reply.text.split('\n').peekable();
    while let Some(line) = lines.next() {
        let start = out.len();
        let separator = if lines.peek().is_some() { '-' } else { ' ' };
        out.extend_from_slice(reply.code.to_string().as_bytes());
        out.push(separator as u8);
        if let Some(status) = reply.status {
            out.extend_from_slice(status.to_string().as_bytes());
            out.push(b' ');
        }
        let room = LINE_MAX.saturating_sub(out.len() - start);
        out.extend_from_slice(printable(line, room).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// At most `room` octets of a text, control characters as `?`.
pub(super) fn printable(text: &str, room: usize) -> String {
    let mut end = text.len().min(room);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_types::ReplyCode;

    #[test]
    fn a_reply_never_breaks_out_of_its_line() {
        // S09
        let mut out = Vec::new();
        write_reply(&mut out, &super::super::reply(550, (5, 1, 1), format!("<a\r\u{b}b>\n{}", "ä".repeat(400))));
        let text = String::from_utf8(out).expect("UTF-8");
        let lines: Vec<_> = text.split_terminator("\r\n").collect();
        assert_eq!(lines[0], "550-5.1.1 <a??b>");
        assert!(lines[1].starts_with("550 5.1.1 ää") && lines[1].len() <= LINE_MAX && lines.len() == 2);
    }

    #[test]
    fn an_empty_text_keeps_its_blank() {
        let mut out = Vec::new();
        write_reply(&mut out, &Reply::plain(ReplyCode::of(334), ""));
        assert_eq!(out, b"334 \r\n");
    }
}
