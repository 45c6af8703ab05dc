//! The headers of final delivery: what is put before the content, what is taken out of it, and the loop that they reveal.

use mail_types::{Address, Sender};

/// The header fields of final delivery, in the order of local(8): Return-Path, X-Original-To, Delivered-To.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace<'a> {
    /// The envelope sender.
    pub sender: &'a Sender,
    /// The recipient as it was given to us; left out by LMTP delivery.
    pub original: Option<&'a str>,
    /// The recipient that gets the message; none where `prepend_delivered_header` leaves it out.
    pub delivered: Option<&'a Address>,
    /// The addresses whose expansion led to the recipient, outermost first.
    pub chain: &'a [Address],
    /// Whether `Delivered-To` carries angle brackets, as Dovecot's LMTP server writes it.
    pub angles: bool,
}

impl Trace<'_> {
    /// The fields with CRLF line ends.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("Return-Path: <{}>\r\n", self.sender);
        if let Some(original) = self.original {
            // Only printable characters: an address with line breaks cannot come this far, and must not make header lines if it did.
            let printable: String = original.chars().filter(|c| !c.is_control()).collect();
            text.push_str(&format!("X-Original-To: {printable}\r\n"));
        }
        // A name in its own alias stands in the chain too, and is written once.
        let chain = self.chain.iter().rev().filter(|address| Some(*address) != self.delivered);
        for address in self.delivered.into_iter().chain(chain) {
            text.push_str(&if self.angles {
                format!("Delivered-To: <{address}>\r\n")
            } else {
                format!("Delivered-To: {address}\r\n")
            });
        }
        text
    }
}

/// Where the header of a message ends, and what of it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scan {
    /// The addresses of `Delivered-To` fields, without angle brackets, in lower case.
    pub delivered_to: Vec<String>,
    /// Ranges of `Return-Path` fields with their line ends: RFC 5321 section 4.4 leaves only the one of the final delivery (S16).
    pub return_path: Vec<(u64, u64)>,
}

/// Octets of header that are looked at; a larger header is no mail.
pub const HEADER_MAX: usize = 1024 * 1024;

impl Scan {
    /// Reads the header at the beginning of a content.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        let mut scan = Self::default();
        let mut at = 0;
        while at < content.len().min(HEADER_MAX) {
            let end = field_end(content, at);
            let field = &content[at..end];
            let Some(colon) = field.iter().position(|&byte| byte == b':') else { break };
            let name = field[..colon].trim_ascii_end();
            if name.eq_ignore_ascii_case(b"Delivered-To") {
                let value = String::from_utf8_lossy(&field[colon + 1..]);
                scan.delivered_to.push(value.trim().trim_start_matches('<').trim_end_matches('>').to_ascii_lowercase());
            } else if name.eq_ignore_ascii_case(b"Return-Path") {
                scan.return_path.push((at as u64, end as u64));
            } else if name.is_empty() || name.iter().any(|byte| !byte.is_ascii_graphic()) {
                // The empty line, or the first line of a body without one.
                break;
            }
            at = end;
        }
        scan
    }

    /// Whether the message was delivered to this address before.
    #[must_use]
    pub fn is_loop(&self, address: &Address) -> bool {
        let address = address.to_string().to_ascii_lowercase();
        self.delivered_to.contains(&address)
    }
}

/// The end of the field that begins at `at`: after the line end that no white space follows.
fn field_end(content: &[u8], at: usize) -> usize {
    let mut from = at;
    loop {
        let Some(line) = content[from..].iter().position(|&byte| byte == b'\n') else { return content.len() };
        from += line + 1;
        if !matches!(content.get(from), Some(b' ' | b'\t')) {
            return from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_final_delivery_stand_in_postfix_order() {
        let sender: Sender = Sender::Address("a@b.c".parse().expect("good"));
        let john: Address = "john@info.net".parse().expect("good");
        let root: Address = "root@info.net".parse().expect("good");
        let trace = Trace {
            sender: &sender,
            original: Some("root"),
            delivered: Some(&john),
            chain: std::slice::from_ref(&root),
            angles: false,
        };
        let expected = "Return-Path: <a@b.c>\r\nX-Original-To: root\r\nDelivered-To: john@info.net\r\nDelivered-To: root@info.net\r\n";
        assert_eq!(trace.to_text(), expected);
        let lmtp = Trace { sender: &Sender::Null, original: None, delivered: Some(&john), chain: &[], angles: true };
        assert_eq!(lmtp.to_text(), "Return-Path: <>\r\nDelivered-To: <john@info.net>\r\n");
    }

    #[test]
    fn a_loop_is_seen_in_the_header_only() {
        let content = b"Return-Path: <x@y>\r\nReceived: from a\r\n\tby b\r\ndelivered-to: <John@Info.net>\r\n\r\nDelivered-To: body@x.org\r\n";
        let scan = Scan::of(content);
        assert!(scan.is_loop(&"john@info.NET".parse().expect("good")));
        assert!(!scan.is_loop(&"body@x.org".parse().expect("good")));
        assert_eq!(scan.return_path, [(0, 20)]);
        assert_eq!(Scan::of(b"no header at all\nDelivered-To: a@b\n"), Scan::default());
    }
}
