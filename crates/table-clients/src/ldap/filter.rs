//! Filters as text (RFC 4515) become filters on the wire (RFC 4511 section 4.5.1.7). Read are also the older escapes `\*`, `\(`, `\)` and `\\`, blanks between
//! filters, and a single comparison without parentheses, as OpenLDAP reads them.

use super::ber::{self, element, text};

/// How deep filters may stand in filters.
const DEPTH_MAX: usize = 50;

const AND: u8 = 0xa0;
const OR: u8 = 0xa1;
const NOT: u8 = 0xa2;
const EQUAL: u8 = 0xa3;
const SUBSTRINGS: u8 = 0xa4;
const GREATER_OR_EQUAL: u8 = 0xa5;
const LESS_OR_EQUAL: u8 = 0xa6;
const PRESENT: u8 = 0x87;
const APPROXIMATE: u8 = 0xa8;
const EXTENSIBLE: u8 = 0xa9;

/// Writes what of a key stands for itself in a filter.
pub(super) fn quoted(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for c in key.chars() {
        match c {
            '*' | '(' | ')' | '\\' => out.push_str(&format!("\\{:02X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Encodes a filter.
///
/// # Errors
/// It is none.
pub(super) fn encode(filter: &str) -> Result<Vec<u8>, String> {
    let mut parser = Parser { rest: filter.trim() };
    let encoded = match parser.rest.starts_with('(') {
        true => parser.filter(0)?,
        false => item(parser.until_parenthesis())?,
    };
    if parser.rest.trim().is_empty() { Ok(encoded) } else { Err(format!("`{filter}' goes on after its end")) }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// `filter = "(" ( "&" filterlist / "|" filterlist / "!" filter / item ) ")"`
    fn filter(&mut self, depth: usize) -> Result<Vec<u8>, String> {
        if depth > DEPTH_MAX {
            return Err("filters within filters, too deep".to_owned());
        }
        self.expect('(')?;
        self.skip_blanks();
        let encoded = match self.rest.chars().next() {
            Some('&') => self.list(AND, depth)?,
            Some('|') => self.list(OR, depth)?,
            Some('!') => {
                self.expect('!')?;
                self.skip_blanks();
                element(NOT, &self.filter(depth + 1)?)
            }
            _ => item(self.until_parenthesis())?,
        };
        self.skip_blanks();
        self.expect(')')?;
        Ok(encoded)
    }

    fn list(&mut self, tag: u8, depth: usize) -> Result<Vec<u8>, String> {
        self.rest = &self.rest[1..];
        let mut members = Vec::new();
        loop {
            self.skip_blanks();
            if !self.rest.starts_with('(') {
                return Ok(element(tag, &members));
            }
            members.extend(self.filter(depth + 1)?);
        }
    }

    /// What stands before the next parenthesis that no backslash stands before.
    fn until_parenthesis(&mut self) -> &'a str {
        let mut escaped = false;
        let end = self.rest.find(|c| match c {
            _ if escaped => {
                escaped = false;
                false
            }
            '\\' => {
                escaped = true;
                false
            }
            c => matches!(c, '(' | ')'),
        });
        let (found, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        let after = self.rest.strip_prefix(wanted);
        self.rest = after.ok_or_else(|| format!("`{wanted}' is missing before `{}'", self.rest))?;
        Ok(())
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

/// `attr "=" value` and its relatives.
fn item(item: &str) -> Result<Vec<u8>, String> {
    let (attribute, value) = item.split_once('=').ok_or_else(|| format!("`{item}' compares nothing"))?;
    if let Some(rule) = attribute.strip_suffix(':') {
        return extensible(rule, value);
    }
    let compared = |tag, attribute| -> Result<Vec<u8>, String> {
        let value = element(ber::OCTETS, &unescaped(value)?);
        Ok(element(tag, &[text(description(attribute)?), value].concat()))
    };
    for (sign, tag) in [('>', GREATER_OR_EQUAL), ('<', LESS_OR_EQUAL), ('~', APPROXIMATE)] {
        if let Some(attribute) = attribute.strip_suffix(sign) {
            return compared(tag, attribute);
        }
    }
    if value == "*" {
        return Ok(element(PRESENT, description(attribute)?.as_bytes()));
    }
    let parts = parts(value);
    if parts.len() == 1 {
        return compared(EQUAL, attribute);
    }
    let mut pieces = Vec::new();
    for (at, part) in parts.iter().enumerate().filter(|(_, part)| !part.is_empty()) {
        let tag = if at == 0 {
            0x80
        } else if at + 1 == parts.len() {
            0x82
        } else {
            0x81
        };
        pieces.extend(element(tag, &unescaped(part)?));
    }
    if pieces.is_empty() {
        return Err(format!("`{item}' compares nothing"));
    }
    Ok(element(SUBSTRINGS, &[text(description(attribute)?), element(ber::SEQUENCE, &pieces)].concat()))
}

/// `[attr] [":dn"] [":" rule] ":=" value`, without its last colon.
fn extensible(rule: &str, value: &str) -> Result<Vec<u8>, String> {
    let mut words = rule.split(':');
    let attribute = words.next().unwrap_or_default();
    let (mut of_dn, mut named) = (false, None);
    for word in words {
        match word {
            word if word.eq_ignore_ascii_case("dn") && !of_dn && named.is_none() => of_dn = true,
            word if named.is_none() => named = Some(description(word)?),
            _ => return Err(format!("`{rule}' names two rules")),
        }
    }
    if attribute.is_empty() && named.is_none() {
        return Err("a comparison of no attribute needs a rule".to_owned());
    }
    let mut out = named.map(|name| element(0x81, name.as_bytes())).unwrap_or_default();
    if !attribute.is_empty() {
        out.extend(element(0x82, description(attribute)?.as_bytes()));
    }
    out.extend(element(0x83, &unescaped(value)?));
    if of_dn {
        out.extend(element(0x84, &[0xff]));
    }
    Ok(element(EXTENSIBLE, &out))
}

/// An attribute with options, or a rule: names, or numbers with dots.
fn description(name: &str) -> Result<&str, String> {
    let name = name.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ';' | '.' | '_');
    if !name.is_empty() && name.chars().all(plain) { Ok(name) } else { Err(format!("`{name}' is no attribute")) }
}

/// The parts between asterisks that no backslash stands before.
fn parts(value: &str) -> Vec<&str> {
    let mut escaped = false;
    let asterisk = |c: char| match c {
        _ if escaped => {
            escaped = false;
            false
        }
        '\\' => {
            escaped = true;
            false
        }
        c => c == '*',
    };
    value.split(asterisk).collect()
}

/// A value with `\2A` and `\*` read.
fn unescaped(value: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [octet, after @ ..] = rest {
        rest = after;
        if *octet != b'\\' {
            out.push(*octet);
            continue;
        }
        let digit = |octet: &u8| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match after {
            [high, low, ..] if digit(high).is_some() => {
                let wrong = || format!("a backslash in `{value}' needs two digits");
                out.push(digit(high).ok_or_else(wrong)? * 16 + digit(low).ok_or_else(wrong)?);
                rest = &after[2..];
            }
            [plain @ (b'(' | b')' | b'*' | b'\\'), ..] => {
                out.push(*plain);
                rest = &after[1..];
            }
            _ => return Err(format!("a backslash in `{value}' needs two digits")),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_what_the_standard_says() {
        let equal = |attribute: &str, value: &str| element(EQUAL, &[text(attribute), text(value)].concat());
        let both = [equal("mail", "a"), equal("cn", "b")].concat();
        for (filter, wanted) in [
            ("(mail=a)", equal("mail", "a")),
            ("mail=a", equal("mail", "a")),
            (" ( mail=a) ", equal("mail", "a")),
            ("(&(mail=a)(cn=b))", element(AND, &both)),
            ("(| (mail=a) (cn=b) )", element(OR, &both)),
            ("(!(mail=a))", element(NOT, &equal("mail", "a"))),
            ("(&)", element(AND, b"")),
            ("(cn=)", equal("cn", "")),
            ("(cn=\\2a\\28x\\)\\\\)", equal("cn", "*(x)\\")),
            ("(cn;lang-en=\u{e9})", equal("cn;lang-en", "\u{e9}")),
            ("(cn=a=b)", equal("cn", "a=b")),
            ("(cn=*)", element(PRESENT, b"cn")),
            ("(n>=4)", element(GREATER_OR_EQUAL, &[text("n"), text("4")].concat())),
            ("(n<=4)", element(LESS_OR_EQUAL, &[text("n"), text("4")].concat())),
            ("(n~=4)", element(APPROXIMATE, &[text("n"), text("4")].concat())),
        ] {
            assert_eq!(encode(filter), Ok(wanted), "{filter}");
        }
        let pieces = [element(0x80, b"a"), element(0x81, b"*"), element(0x82, b"z")].concat();
        let substrings = element(SUBSTRINGS, &[text("cn"), element(ber::SEQUENCE, &pieces)].concat());
        assert_eq!(encode("(cn=a*\\2a**z)"), Ok(substrings));
        let rule = [element(0x81, b"2.4"), element(0x82, b"cn"), element(0x83, b"v"), element(0x84, &[0xff])].concat();
        assert_eq!(encode("(cn:dn:2.4:=v)"), Ok(element(EXTENSIBLE, &rule)));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for wrong in [
            "",
            "()",
            "(",
            "mail",
            "(mail)",
            "(mail=a",
            "mail=a)",
            "(mail=a))",
            "(&(mail=a)",
            "(!)",
            "(=a)",
            "(a b=c)",
            "(cn=\\2)",
            "(cn=\\zz)",
            "(cn=\\",
            "(cn=**)",
            "(:=x)",
            "(a=(b)",
            "(a=b)(c=d)",
        ] {
            assert!(encode(wrong).is_err(), "{wrong}");
        }
        assert!(encode(&"(!".repeat(5000)).is_err(), "a directory may hold URLs with any filter");
    }

    proptest::proptest! {
        #[test]
        fn a_key_stays_a_value(key in "[ -~é]{1,20}") {
            let wanted = element(EQUAL, &[text("mail"), text(&key)].concat());
            proptest::prop_assert_eq!(encode(&format!("(mail={})", quoted(&key))), Ok(wanted));
        }

        #[test]
        fn no_text_breaks_the_parser(filter in "[()&|!=*\\\\a2:<>~ é]{0,30}") {
            let _ = encode(&filter);
        }
    }
}
