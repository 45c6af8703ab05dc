//! Replies: one line of at most 512 octets, with a response code where RFC 2449 or 3206 has one.

/// The longest text in a reply that comes from the client, so that the line stays under 512 octets (RFC 2449 section 4).
const ECHO_MAX: usize = 80;

/// A response code (RFC 2449 section 8, RFC 3206 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The name or password is wrong, or may not be used here.
    Auth,
    /// Somebody else uses the mailbox, or too many connections do.
    InUse,
    /// Our trouble, which will pass.
    SysTemp,
    /// Our trouble, which needs a person.
    SysPerm,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::Auth => "AUTH",
            Self::InUse => "IN-USE",
            Self::SysTemp => "SYS/TEMP",
            Self::SysPerm => "SYS/PERM",
        }
    }
}

/// `+OK text`, as bytes for the wire.
#[must_use]
pub fn ok(text: &str) -> Vec<u8> {
    if text.is_empty() { b"+OK\r\n".to_vec() } else { format!("+OK {text}\r\n").into_bytes() }
}

/// `-ERR text`.
#[must_use]
pub fn err(text: &str) -> Vec<u8> {
    format!("-ERR {text}\r\n").into_bytes()
}

/// `-ERR [CODE] text`.
#[must_use]
pub fn err_code(code: Code, text: &str) -> Vec<u8> {
    format!("-ERR [{}] {text}\r\n", code.name()).into_bytes()
}

/// What a client sent, fit to be shown: at most 80 characters, `?` for everything outside 0x20-0x7e.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    bytes.iter().take(ECHO_MAX).map(|&b| if (0x20..0x7f).contains(&b) { char::from(b) } else { '?' }).collect()
}

/// The lines of CAPA (RFC 2449): those of both states, then `extra`.
#[must_use]
pub fn capabilities(extra: &[String]) -> Vec<u8> {
    let mut out = b"+OK\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\nAUTH-RESP-CODE\r\n".to_vec();
    for line in extra {
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_sent_cannot_make_a_reply_long_or_forge_a_line() {
        // P01c
        let text = printable(&[b"a\r\n+OK ", &[b'x'; 600][..]].concat());
        assert!(text.starts_with("a??+OK xxx"));
        assert!(err(&format!("Unknown command: {text}")).len() <= 512);
    }
}
