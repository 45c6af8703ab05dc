//! Values of Content- fields: tokens, parameters, comments (RFC 2045 section 5.1, RFC 2183, RFC 2231).

use super::unfolded;

/// How many parameters of a field are kept; each line of a header could otherwise become many.
const PARAMETER_LIMIT: usize = 1000;

/// `Content-Type`: names and values as they are spelt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContentType {
    /// The type.
    pub name: Vec<u8>,
    /// The subtype.
    pub subtype: Vec<u8>,
    /// The parameters.
    pub parameters: Vec<Parameter>,
}

/// `attribute=value`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The attribute; with a trailing `*` where the value is in RFC 2231's encoding.
    pub name: Vec<u8>,
    /// The value, not decoded.
    pub value: Vec<u8>,
}

/// `Content-Disposition`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disposition {
    /// `inline`, `attachment` ...
    pub name: Vec<u8>,
    /// The parameters.
    pub parameters: Vec<Parameter>,
}

impl ContentType {
    /// The value of a parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&[u8]> {
        self.parameters.iter().find(|p| p.name.eq_ignore_ascii_case(name.as_bytes())).map(|p| &p.value[..])
    }
}

/// A cursor over an unfolded value.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// White space and comments, which may nest; an open comment swallows the rest.
    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_ascii_start();
            if self.rest.first() != Some(&b'(') {
                return;
            }
            self.rest = after_comment(self.rest);
        }
    }

    fn eat(&mut self, octet: u8) -> bool {
        self.skip();
        let Some(after) = self.rest.strip_prefix(&[octet]) else { return false };
        self.rest = after;
        true
    }

    /// `token` of RFC 2045, where 8-bit octets pass; possibly empty.
    fn token(&mut self) -> &'a [u8] {
        self.skip();
        let special = |b: u8| b <= b' ' || b == 0x7f || b"()<>@,;:\\\"/[]?=".contains(&b);
        let end = self.rest.iter().position(|&b| special(b)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token
    }

    /// A token or a quoted string; none for a string that does not end.
    fn value(&mut self) -> Option<Vec<u8>> {
        self.skip();
        if self.rest.first() != Some(&b'"') {
            // What senders write without quotes although it needs them (`a/b`, `x=y`) is taken up to the next separator.
            let end = self.rest.iter().position(|&b| b <= b' ' || b"();\"".contains(&b)).unwrap_or(self.rest.len());
            let (token, rest) = self.rest.split_at(end);
            self.rest = rest;
            return Some(token.to_vec());
        }
        let (text, rest) = quoted(self.rest)?;
        self.rest = rest;
        Some(text)
    }
}

/// The text after a comment that begins here.
pub(super) fn after_comment(text: &[u8]) -> &[u8] {
    let mut depth = 0usize;
    let mut escaped = false;
    for (at, &octet) in text.iter().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 && !escaped {
            return &text[at + 1..];
        }
    }
    &[]
}

/// A quoted string that begins here: its text and what follows.
pub(super) fn quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut out = Vec::new();
    let mut escaped = false;
    for (at, &octet) in text.iter().enumerate().skip(1) {
        match octet {
            _ if escaped => {
                out.push(octet);
                escaped = false;
            }
            b'\\' => escaped = true,
            b'"' => return Some((out, &text[at + 1..])),
            _ => out.push(octet),
        }
    }
    None
}

/// A value without folds and comments around it.
pub(super) fn plain_value(value: &[u8]) -> Vec<u8> {
    let value = unfolded(value);
    let mut cursor = Cursor { rest: &value };
    cursor.skip();
    cursor.rest.trim_ascii_end().to_vec()
}

/// The first token; none if there is none.
pub(super) fn token(value: &[u8]) -> Option<Vec<u8>> {
    let value = unfolded(value);
    let token = Cursor { rest: &value }.token().to_vec();
    (!token.is_empty()).then_some(token)
}

/// `Content-Type` as it is; a value that is none has empty names.
pub(super) fn parse_content_type(value: &[u8]) -> ContentType {
    let value = unfolded(value);
    let mut cursor = Cursor { rest: &value };
    let name = cursor.token().to_vec();
    let subtype = if cursor.eat(b'/') { cursor.token().to_vec() } else { Vec::new() };
    // What has no type has no parameters that mean anything.
    let parameters = if name.is_empty() { Vec::new() } else { parameters(&mut cursor) };
    ContentType { name, subtype, parameters }
}

pub(super) fn parse_disposition(value: &[u8]) -> Disposition {
    let value = unfolded(value);
    let mut cursor = Cursor { rest: &value };
    let name = cursor.token().to_vec();
    Disposition { name, parameters: parameters(&mut cursor) }
}

/// `Content-Language`: tags between commas.
pub(super) fn languages(value: &[u8]) -> Vec<Vec<u8>> {
    let value = unfolded(value);
    let mut cursor = Cursor { rest: &value };
    let mut languages = Vec::new();
    loop {
        let tag = cursor.token();
        if !tag.is_empty() {
            languages.push(tag.to_vec());
        }
        if !cursor.eat(b',') || languages.len() == PARAMETER_LIMIT {
            return languages;
        }
    }
}

/// `*(";" attribute "=" value)`; reading ends where it makes no sense any more.
fn parameters(cursor: &mut Cursor) -> Vec<Parameter> {
    let mut found = Vec::new();
    while cursor.eat(b';') && found.len() < PARAMETER_LIMIT {
        let name = cursor.token().to_vec();
        if !cursor.eat(b'=') {
            continue;
        }
        let Some(value) = cursor.value() else { break };
        found.push(Parameter { name, value });
    }
    joined(found)
}

/// Joins the pieces of RFC 2231 continuations (`name*0`, `name*1*`); they come after the others, as in Dovecot.
fn joined(parameters: Vec<Parameter>) -> Vec<Parameter> {
    let (pieces, mut plain): (Vec<_>, Vec<_>) = parameters.into_iter().partition(|p| piece(&p.name).is_some());
    let mut pieces: Vec<(Vec<u8>, u32, bool, Vec<u8>)> = pieces
        .into_iter()
        .filter_map(|p| {
            piece(&p.name).map(|(name, number, extended)| (name.to_ascii_lowercase(), number, extended, p.value))
        })
        .collect();
    pieces.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    for group in pieces.chunk_by(|a, b| a.0 == b.0) {
        let extended = group.iter().any(|p| p.2);
        let name = [&group[0].0[..], if extended { b"*" } else { b"" }].concat();
        plain.push(Parameter { name, value: group.iter().flat_map(|p| p.3.iter().copied()).collect() });
    }
    plain
}

/// `name*3` or `name*3*`: the name, the number, whether the value is encoded.
fn piece(name: &[u8]) -> Option<(&[u8], u32, bool)> {
    let star = name.iter().position(|&b| b == b'*')?;
    let (base, number) = (&name[..star], &name[star + 1..]);
    let (number, extended) = number.strip_suffix(b"*").map_or((number, false), |number| (number, true));
    // `name*` is the whole of an encoded value.
    if number.is_empty() {
        return Some((base, 0, true));
    }
    let number = std::str::from_utf8(number).ok().filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    Some((base, number, extended))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        let kind = parse_content_type(value.as_bytes());
        let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
        let parameters: Vec<_> =
            kind.parameters.iter().map(|p| format!(" {}={}", text(&p.name), text(&p.value))).collect();
        format!("{}/{}{}", text(&kind.name), text(&kind.subtype), parameters.concat())
    }

    #[test]
    fn types_and_parameters_are_read_as_dovecot_reads_them() {
        // I14
        let cases = [
            (
                " text/plain; charset=\"us\\\"x\"; name*0=\"ab\";\r\n name*1=\"cd\"; format=flowed",
                "text/plain charset=us\"x format=flowed name=abcd",
            ),
            ("text", "text/"),
            ("/; x=y", "/"),
            ("a/b; name*=utf-8''x; size=1", "a/b size=1 name*=utf-8''x"),
            ("text/plain; charset", "text/plain"),
            ("text/plain; charset=iso 8859; name=\"unterm", "text/plain charset=iso"),
            ("(c) text (d) / (e(f)) html (f); charset=utf-8 (g)", "text/html charset=utf-8"),
            ("text/plain; =foo; a=; b", "text/plain =foo a="),
            ("a/b; name*1*=%20x; name*0*=utf-8''y", "a/b name*=utf-8''y%20x"),
            ("a/b; x=(unclosed", "a/b x="),
        ];
        for (value, expected) in cases {
            assert_eq!(shown(value), expected, "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_value_makes_it_panic(value: Vec<u8>) {
            parse_content_type(&value);
            parse_disposition(&value);
            languages(&value);
        }
    }
}
