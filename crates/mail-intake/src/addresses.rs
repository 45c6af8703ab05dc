//! Incomplete addresses in header fields: `To: root` becomes `To: root@info.net`.

/// Completes the addresses of an address list (From, To, Cc ...): one without `@` gets `@origin`, and one whose domain has no dot gets
/// `.mydomain` where `dot_mydomain` is given. Everything else (names, comments, groups, folding) stays octet for octet.
/// None if nothing changes.
///
/// ```abnf
/// address-list = [address] *("," [address])
/// address      = mailbox / group
/// mailbox      = [display-name] "<" addr-spec ">" / addr-spec
/// group        = display-name ":" [address-list] ";"
/// ```
#[must_use]
pub fn complete_addresses(value: &[u8], origin: &str, dot_mydomain: Option<&str>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len() + 32);
    let mut changed = false;
    for part in elements(value) {
        match part {
            Element::Plain(text) => out.extend_from_slice(text),
            Element::Address(text) => {
                out.extend_from_slice(text);
                if let Some(suffix) = suffix(text, origin, dot_mydomain) {
                    out.extend_from_slice(suffix.as_bytes());
                    changed = true;
                }
            }
        }
    }
    changed.then_some(out)
}

/// What must be added behind an addr-spec.
fn suffix(address: &[u8], origin: &str, dot_mydomain: Option<&str>) -> Option<String> {
    match address.iter().rposition(|&b| b == b'@') {
        None if origin.is_empty() => None,
        None => Some(format!("@{origin}")),
        Some(at) => {
            let domain = &address[at + 1..];
            let bare = !domain.is_empty() && domain.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
            dot_mydomain.filter(|_| bare).map(|domain| format!(".{domain}"))
        }
    }
}

enum Element<'a> {
    /// Copied as it is.
    Plain(&'a [u8]),
    /// An addr-spec without blanks around it.
    Address(&'a [u8]),
}

/// One element of the list as the scanner has seen it so far.
#[derive(Default)]
struct Scan {
    /// Where the current address list element began.
    start: usize,
    /// The range of words outside comments: an addr-spec if no angle bracket comes.
    words: Option<(usize, usize)>,
    /// Whether two words stand side by side without a dot or at sign: then it is no addr-spec.
    gap: bool,
    /// An angle address was found.
    angle: Option<(usize, usize)>,
}

/// Cuts a field's value into addresses and what stands around them, in one pass.
fn elements(value: &[u8]) -> Vec<Element<'_>> {
    let mut out = Vec::new();
    let mut scan = Scan::default();
    let mut at = 0;
    while at < value.len() {
        match value[at] {
            b'"' => {
                let end = skip_quoted(value, at);
                scan.word(at, end);
                at = end;
            }
            b'(' => at = skip_comment(value, at),
            b'<' => {
                let end = value[at..].iter().position(|&b| b == b'>').map_or(value.len(), |p| at + p);
                scan.angle.get_or_insert((at + 1, end));
                at = (end + 1).min(value.len());
            }
            b',' | b';' => {
                scan.flush(value, at, &mut out);
                at += 1;
            }
            // What stands before a colon is the name of a group; a route's colon is inside angle brackets.
            b':' => {
                scan.words = None;
                scan.gap = false;
                at += 1;
            }
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            _ => {
                scan.word(at, at + 1);
                at += 1;
            }
        }
    }
    scan.flush(value, value.len(), &mut out);
    out
}

impl Scan {
    fn word(&mut self, start: usize, end: usize) {
        match &mut self.words {
            None => self.words = Some((start, end)),
            Some((_, last)) => {
                self.gap |= *last != start;
                *last = end;
            }
        }
    }

    fn flush<'a>(&mut self, value: &'a [u8], end: usize, out: &mut Vec<Element<'a>>) {
        let found = match (self.angle, self.words) {
            (Some((from, to)), _) => Some(trim(value, from, to)),
            (None, Some(words)) if !self.gap => Some(words),
            _ => None,
        };
        match found.filter(|(from, to)| from < to) {
            Some((from, to)) => {
                out.push(Element::Plain(&value[self.start..from]));
                out.push(Element::Address(&value[from..to]));
                out.push(Element::Plain(&value[to..end]));
            }
            None => out.push(Element::Plain(&value[self.start..end])),
        }
        *self = Self { start: end, ..Self::default() };
    }
}

fn trim(value: &[u8], from: usize, to: usize) -> (usize, usize) {
    let inside = &value[from..to];
    let lead = inside.iter().take_while(|b| b.is_ascii_whitespace()).count();
    let tail = inside[lead..].iter().rev().take_while(|b| b.is_ascii_whitespace()).count();
    (from + lead, to - tail)
}

fn skip_quoted(value: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < value.len() {
        match value[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    value.len()
}

fn skip_comment(value: &[u8], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0usize);
    while at < value.len() {
        match value[at] {
            b'\\' => at += 1,
            b'(' => depth += 1,
            b')' if depth == 1 => return at + 1,
            b')' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(value: &str, dot: Option<&str>) -> String {
        let done = complete_addresses(value.as_bytes(), "info.net", dot);
        done.map_or_else(|| "same".to_owned(), |octets| String::from_utf8(octets).expect("UTF-8"))
    }

    #[test]
    fn only_incomplete_addresses_change() {
        for (value, expected) in [
            ("root", "root@info.net"),
            (" root, john\r\n\t, a@b.org", " root@info.net, john@info.net\r\n\t, a@b.org"),
            ("John Doe <john>", "John Doe <john@info.net>"),
            ("\"Doe, John\" < john > (a, b)", "\"Doe, John\" < john@info.net > (a, b)"),
            ("root (Charlie \\( Root)", "root@info.net (Charlie \\( Root)"),
            ("\"a b\"", "\"a b\"@info.net"),
            ("staff: john, a@b.org;", "staff: john@info.net, a@b.org;"),
            ("undisclosed-recipients:;", "same"),
            ("John Doe", "same"),
            ("a@b.org", "same"),
            ("<>", "same"),
            ("", "same"),
            ("<a@b.org", "same"),
            ("(unclosed", "same"),
            ("\"unclosed", "\"unclosed@info.net"),
        ] {
            assert_eq!(complete(value, None), expected, "{value:?}");
        }
    }

    #[test]
    fn a_domain_without_dot_is_completed_where_asked() {
        assert_eq!(complete("a@server", Some("info.net")), "a@server.info.net");
        assert_eq!(complete("a@server", None), "same");
        assert_eq!(complete("a@[192.0.2.1]", Some("info.net")), "same");
    }

    // R12
    #[test]
    fn hostile_values_take_linear_time() {
        let value = "(".repeat(50_000) + &"<".repeat(50_000) + &"\"a\\".repeat(20_000);
        let _ = complete(&value, None);
        let list = "a,".repeat(50_000);
        assert_eq!(complete(&list, None).len(), 50_000 * ("a@info.net,".len()));
    }

    #[test]
    fn what_is_complete_stays_as_it_is() {
        let once = complete("root, \"x\" <y>", Some("info.net"));
        assert_eq!(complete(&once, Some("info.net")), "same");
    }
}
