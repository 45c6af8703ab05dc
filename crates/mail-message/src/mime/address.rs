//! Addresses of a header field as ENVELOPE shows them (RFC 3501 section 7.4.2, RFC 5322 section 3.4).

use super::content::{after_comment, quoted};
use super::unfolded;

/// So many addresses of one kind are shown; a field can hold millions of commas.
pub(super) const ADDRESS_LIMIT: usize = 10_000;

/// What stands in a field of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailAddress {
    /// A mailbox.
    Mailbox {
        /// The display name, or a comment where there is none.
        name: Option<Vec<u8>>,
        /// The source route.
        route: Option<Vec<u8>>,
        /// The local part.
        local: Vec<u8>,
        /// The domain.
        domain: Vec<u8>,
    },
    /// A group begins; its name.
    GroupStart(Vec<u8>),
    /// The group ends.
    GroupEnd,
}

/// The longest address literal that is looked for; RFC 5321 section 4.5.3.1.2 has 255 octets.
const DOMAIN_LIMIT: usize = 1000;

/// Stands for what is missing: NIL would mean a group. Dovecot's words, so that clients see no difference.
const MISSING_MAILBOX: &[u8] = b"MISSING_MAILBOX";
const MISSING_DOMAIN: &[u8] = b"MISSING_DOMAIN";
const SYNTAX_ERROR: &[u8] = b"SYNTAX_ERROR";

/// Reads the addresses of a field value. What makes no sense is skipped up to the next comma.
#[must_use]
pub fn parse_addresses(value: &[u8]) -> Vec<MailAddress> {
    let value = unfolded(value);
    let mut reader = Reader { rest: &value, comment: None, found: Vec::new(), in_group: false };
    while reader.element() && reader.found.len() < ADDRESS_LIMIT {}
    if reader.in_group {
        reader.found.push(MailAddress::GroupEnd);
    }
    reader.found
}

struct Reader<'a> {
    rest: &'a [u8],
    /// The last comment of this address.
    comment: Option<Vec<u8>>,
    found: Vec<MailAddress>,
    in_group: bool,
}

/// Words before a separator: each with whether it was quoted, and dots as words of their own.
#[derive(Default)]
struct Words {
    /// The text as a display name shows it.
    phrase: Vec<u8>,
    count: usize,
    /// The text as a local part, where the words can be one: words between single dots.
    local: Vec<u8>,
    local_broken: bool,
    after_dot: bool,
}

impl Words {
    fn push(&mut self, word: &[u8]) {
        if self.count > 0 {
            self.local_broken |= !self.after_dot;
            if !self.phrase.is_empty() && !self.after_dot {
                self.phrase.push(b' ');
            }
        }
        self.phrase.extend_from_slice(word);
        self.local.extend_from_slice(word);
        self.count += 1;
        self.after_dot = false;
    }

    fn dot(&mut self, spaced: bool) {
        if spaced && !self.phrase.is_empty() {
            self.phrase.push(b' ');
        }
        self.phrase.push(b'.');
        self.local.push(b'.');
        self.after_dot = true;
    }
}

impl Reader<'_> {
    /// White space and comments; the last comment is kept as a name.
    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_ascii_start();
            if self.rest.first() != Some(&b'(') {
                return;
            }
            let after = after_comment(self.rest);
            let comment = &self.rest[1..self.rest.len() - after.len()];
            let comment = comment.strip_suffix(b")").unwrap_or(comment);
            self.comment = Some(comment.trim_ascii().iter().copied().filter(|b| *b != b'\\').collect());
            self.rest = after;
        }
    }

    fn eat(&mut self, octet: u8) -> bool {
        let Some(after) = self.rest.strip_prefix(&[octet]) else { return false };
        self.rest = after;
        true
    }

    /// One element of the list; false at the end.
    fn element(&mut self) -> bool {
        self.comment = None;
        self.skip();
        match self.rest.first() {
            None => return false,
            Some(b',') => {
                self.eat(b',');
                return true;
            }
            Some(b';') if self.in_group => {
                self.eat(b';');
                self.end_group();
                self.next_element();
                return true;
            }
            // Outside a group nothing sensible follows.
            Some(b';') => return false,
            _ => {}
        }
        let Some(words) = self.words() else {
            // A quoted string that never ends: nothing after it can be told apart.
            self.found.push(mailbox(None, None, MISSING_MAILBOX.to_vec(), MISSING_DOMAIN.to_vec()));
            return false;
        };
        match self.rest.first() {
            Some(b'<') => self.angle(&words),
            Some(b'@') => self.plain(words),
            Some(b':') if !self.in_group => {
                self.eat(b':');
                self.in_group = true;
                self.found.push(MailAddress::GroupStart(words.phrase));
                return true;
            }
            _ => self.without_domain(words),
        }
        self.next_element();
        true
    }

    fn end_group(&mut self) {
        self.in_group = false;
        self.found.push(MailAddress::GroupEnd);
    }

    /// Skips to the next comma, or to the end of the group.
    fn next_element(&mut self) {
        loop {
            match self.rest.first() {
                None | Some(b',' | b';') => return,
                Some(b'(') => self.rest = after_comment(self.rest),
                Some(b'"') => self.rest = quoted(self.rest).map_or(&[][..], |(_, rest)| rest),
                Some(_) => self.rest = &self.rest[1..],
            }
        }
    }

    /// Atoms, quoted strings and dots; none for a string that does not end.
    fn words(&mut self) -> Option<Words> {
        let mut words = Words::default();
        loop {
            let before = self.rest.len();
            self.skip();
            let spaced = self.rest.len() != before;
            match self.rest.first() {
                Some(b'"') => {
                    let (text, rest) = quoted(self.rest)?;
                    self.rest = rest;
                    words.push(&text);
                }
                Some(b'.') => {
                    self.eat(b'.');
                    words.dot(spaced);
                }
                Some(&b) if is_atom(b) => {
                    let end = self.rest.iter().position(|&b| !is_atom(b)).unwrap_or(self.rest.len());
                    let (atom, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    if words.after_dot && spaced {
                        words.phrase.push(b' ');
                    }
                    words.push(atom);
                }
                _ => return Some(words),
            }
        }
    }

    /// `[phrase] "<" [route ":"] addr-spec ">"`
    fn angle(&mut self, phrase: &Words) {
        self.eat(b'<');
        self.skip();
        let route = self.route();
        let local = self.words();
        let mut domain = MISSING_DOMAIN.to_vec();
        if self.rest.first() == Some(&b'@') {
            self.eat(b'@');
            domain = self.domain().unwrap_or_else(|| MISSING_DOMAIN.to_vec());
        }
        self.skip();
        if !self.eat(b'>') {
            domain = SYNTAX_ERROR.to_vec();
        }
        let local =
            local.map(|words| words.local).filter(|l| !l.is_empty()).unwrap_or_else(|| MISSING_MAILBOX.to_vec());
        self.skip();
        let name = Some(phrase.phrase.clone()).filter(|name| !name.is_empty()).or_else(|| self.comment.take());
        self.found.push(mailbox(name, route, local, domain));
    }

    /// `@a,@b:`
    fn route(&mut self) -> Option<Vec<u8>> {
        let mut route = Vec::new();
        let start = self.rest;
        while self.eat(b'@') {
            route.push(b'@');
            route.extend(self.domain()?);
            self.skip();
            if self.eat(b',') {
                route.push(b',');
                self.skip();
            }
        }
        if route.is_empty() || !self.eat(b':') {
            self.rest = start;
            return None;
        }
        self.skip();
        Some(route)
    }

    /// `local@domain` without brackets; a comment after it is its name.
    fn plain(&mut self, words: Words) {
        self.eat(b'@');
        let domain = self.domain().unwrap_or_else(|| MISSING_DOMAIN.to_vec());
        self.skip();
        let name = self.comment.take();
        match (words.local_broken, words.local.is_empty()) {
            (true, _) => self.found.push(mailbox(Some(words.phrase), None, MISSING_MAILBOX.to_vec(), domain)),
            (_, true) => self.found.push(mailbox(name, None, MISSING_MAILBOX.to_vec(), domain)),
            _ => self.found.push(mailbox(name, None, words.local, domain)),
        }
    }

    /// One word is a local part, several are a name without address.
    fn without_domain(&mut self, words: Words) {
        let name = self.comment.take();
        match words.count {
            0 => {}
            1 => self.found.push(mailbox(name, None, words.local, MISSING_DOMAIN.to_vec())),
            _ => self.found.push(mailbox(Some(words.phrase), None, MISSING_MAILBOX.to_vec(), MISSING_DOMAIN.to_vec())),
        }
    }

    /// A domain or an address literal.
    fn domain(&mut self) -> Option<Vec<u8>> {
        self.skip();
        if self.rest.first() == Some(&b'[') {
            // Bounded, as every address of a list may begin one that never ends.
            let end = self.rest.iter().take(DOMAIN_LIMIT).position(|&b| b == b']')? + 1;
            let (literal, rest) = self.rest.split_at(end);
            self.rest = rest;
            return Some(literal.to_vec());
        }
        let mut domain = Vec::new();
        loop {
            let end = self.rest.iter().position(|&b| !is_atom(b)).unwrap_or(self.rest.len());
            let (atom, rest) = self.rest.split_at(end);
            domain.extend_from_slice(atom);
            self.rest = rest;
            self.skip();
            if !self.eat(b'.') {
                break;
            }
            domain.push(b'.');
            self.skip();
        }
        (!domain.is_empty()).then_some(domain)
    }
}

fn mailbox(name: Option<Vec<u8>>, route: Option<Vec<u8>>, local: Vec<u8>, domain: Vec<u8>) -> MailAddress {
    MailAddress::Mailbox { name, route, local, domain }
}

/// `atext`, where 8-bit octets pass.
fn is_atom(octet: u8) -> bool {
    octet > b' ' && octet != 0x7f && !b"()<>@,;:\\\".[]".contains(&octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
        let one = |address: &MailAddress| match address {
            MailAddress::GroupStart(name) => format!("{}:", text(name)),
            MailAddress::GroupEnd => ";".into(),
            MailAddress::Mailbox { name, route, local, domain } => {
                let name = name.as_ref().map_or(String::new(), |n| format!("{} ", text(n)));
                let route = route.as_ref().map_or(String::new(), |r| format!("{}:", text(r)));
                format!("{name}<{route}{}@{}>", text(local), text(domain))
            }
        };
        parse_addresses(value.as_bytes()).iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn addresses_are_read_as_dovecot_reads_them() {
        // I15
        let cases = [
            ("\"Quoted \\\"Name\\\"\" <q@x>, plain@y", "Quoted \"Name\" <q@x> <plain@y>"),
            ("group: a@b, c@d;, undisclosed-recipients:;", "group: <a@b> <c@d> ; undisclosed-recipients: ;"),
            ("(comment) x@y (comment2)", "comment2 <x@y>"),
            ("<@route,@r2:u@v>", "<@route,@r2:u@v>"),
            ("<>", "<MISSING_MAILBOX@MISSING_DOMAIN>"),
            ("a b c", "a b c <MISSING_MAILBOX@MISSING_DOMAIN>"),
            ("a@b@c, , ;", "<a@b>"),
            ("", ""),
            ("john", "<john@MISSING_DOMAIN>"),
            ("\"unterminated <a@b>", "<MISSING_MAILBOX@MISSING_DOMAIN>"),
            ("a@b c@d", "<a@b>"),
            ("(only comment)", ""),
            ("user@[1.2.3.4], \"a b\"@c, a.b.@c, .a@b", "<user@[1.2.3.4]> <a b@c> <a.b.@c> <.a@b>"),
            ("Name with . dot <x@y>", "Name with . dot <x@y>"),
            ("Name <<a@b>>", "Name <MISSING_MAILBOX@SYNTAX_ERROR>"),
            ("<a@b", "<a@SYNTAX_ERROR>"),
            ("a@b>", "<a@b>"),
            ("Name <a@b> trailing", "Name <a@b>"),
            ("a@b; c@d", "<a@b>"),
            ("<localonly>", "<localonly@MISSING_DOMAIN>"),
            ("a b <c>", "a b <c@MISSING_DOMAIN>"),
            ("A: x@y, B <z@w>; , c@d", "A: <x@y> B <z@w> ; <c@d>"),
            ("G: a@b", "G: <a@b> ;"),
            ("J. R. Smith <x@y>", "J. R. Smith <x@y>"),
        ];
        for (value, expected) in cases {
            assert_eq!(shown(value), expected, "{value}");
        }
    }

    // R12
    #[test]
    fn hostile_lists_cost_linear_time() {
        let started = std::time::Instant::now();
        for piece in ["a@b,", "(", "\"", "<", "((a)", ",;:", "@", ".", "a:", "a@[,", "<@a,", "<@a:", "\\(", "[", "a b "]
        {
            let _ = parse_addresses(piece.repeat(300_000).as_bytes());
        }
        assert!(started.elapsed().as_secs() < 20);
    }

    proptest::proptest! {
        #[test]
        fn no_value_makes_it_panic(value: Vec<u8>) {
            let _ = parse_addresses(&value);
        }
    }
}
