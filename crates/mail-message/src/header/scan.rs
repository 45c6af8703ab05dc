//! From octets to fields.

use std::borrow::Cow;
use std::ops::Range;

/// One field: its place in the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    content: &'a [u8],
    /// From the first octet of the name to the last line end.
    range: Range<usize>,
    /// Where the colon is.
    colon: usize,
}

impl<'a> Field<'a> {
    /// The name as it is written, without blanks before the colon.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        self.content[self.range.start..self.colon].trim_ascii_end()
    }

    /// Whether the field has this name, in any case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name.as_bytes())
    }

    /// The whole field with its line ends.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        &self.content[self.range.clone()]
    }

    /// Where the field is in the content.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// What follows the colon, folded as it is, without blanks and line ends around it.
    #[must_use]
    pub fn folded(&self) -> &'a [u8] {
        self.content[self.colon + 1..self.range.end].trim_ascii()
    }

    /// The value on one line: line ends before a blank are taken out (RFC 5322 section 2.2.3, F01).
    #[must_use]
    pub fn value(&self) -> Cow<'a, [u8]> {
        let folded = self.folded();
        if !folded.contains(&b'\n') {
            return Cow::Borrowed(folded);
        }
        let lines = folded.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        Cow::Owned(lines.collect::<Vec<_>>().concat())
    }

    /// The value as text; octets that are no UTF-8 become U+FFFD.
    #[must_use]
    pub fn text(&self) -> Cow<'a, str> {
        match self.value() {
            Cow::Borrowed(value) => String::from_utf8_lossy(value),
            Cow::Owned(value) => Cow::Owned(String::from_utf8_lossy(&value).into_owned()),
        }
    }
}

/// The header of a message, found in one pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header<'a> {
    fields: Vec<Field<'a>>,
    end: usize,
    body: usize,
}

impl<'a> Header<'a> {
    /// Scans content from its beginning. The header ends at the first empty line, at the first line that is neither field nor continuation,
    /// or with the content.
    ///
    /// ```abnf
    /// field      = field-name *WSP ":" unstructured CRLF
    /// field-name = 1*( %d33-57 / %d59-126 )
    /// ```
    #[must_use]
    pub fn scan(content: &'a [u8]) -> Self {
        let mut fields: Vec<Field<'a>> = Vec::new();
        let mut at = 0;
        while at < content.len() {
            let next = content[at..].iter().position(|&b| b == b'\n').map_or(content.len(), |lf| at + lf + 1);
            let line = &content[at..next];
            if matches!(line, b"\n" | b"\r\n") {
                return Self { fields, end: at, body: next };
            }
            if let (b' ' | b'\t', Some(field)) = (line[0], fields.last_mut()) {
                field.range.end = next;
            } else if let Some(colon) = field_name(line) {
                fields.push(Field { content, range: at..next, colon: at + colon });
            } else {
                break;
            }
            at = next;
        }
        Self { fields, end: at, body: at }
    }

    /// Where the empty line that ends the header ends, if `content` holds it whole; for a caller that gets content in pieces.
    /// The second value is where to go on searching when more has come.
    ///
    /// # Errors
    /// Where to go on.
    pub fn find_end(content: &[u8], from: usize) -> Result<usize, usize> {
        let mut at = from;
        while let Some(lf) = content[at..].iter().position(|&b| b == b'\n') {
            let line = &content[at..at + lf];
            at += lf + 1;
            if matches!(line, b"" | b"\r") {
                return Ok(at);
            }
        }
        Err(at)
    }

    /// The fields in their order.
    #[must_use]
    pub fn fields(&self) -> &[Field<'a>] {
        &self.fields
    }

    /// The first field of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Field<'a>> {
        self.fields.iter().find(|field| field.is(name))
    }

    /// All fields of a name.
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Field<'a>> {
        self.fields.iter().filter(move |field| field.is(name))
    }

    /// How many Received fields there are, for `hopcount_limit` (S16).
    #[must_use]
    pub fn hops(&self) -> usize {
        self.all("Received").count()
    }

    /// Where the last field ends.
    #[must_use]
    pub fn end(&self) -> usize {
        self.end
    }

    /// Where the body begins; equal to [`Header::end`] if no empty line separates them.
    #[must_use]
    pub fn body(&self) -> usize {
        self.body
    }
}

/// The length of the field name and blanks before the colon, if a line begins with one.
fn field_name(line: &[u8]) -> Option<usize> {
    let name = line.iter().take_while(|b| matches!(b, 33..=57 | 59..=126)).count();
    let blanks = line[name..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    (name > 0 && line.get(name + blanks) == Some(&b':')).then_some(name + blanks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_unfolded_without_loss() {
        // F01
        let content = b"Subject: a\r\n b\r\n\tc\r\nX-Empty:\r\nreceived : by x\r\nReceived: by y\n\r\nbody\r\n";
        let header = Header::scan(content);
        let names: Vec<_> = header.fields().iter().map(|field| field.name()).collect();
        assert_eq!(names, [&b"Subject"[..], b"X-Empty", b"received", b"Received"]);
        assert_eq!(header.get("subject").expect("there").text(), "a b\tc");
        assert_eq!(header.get("x-empty").expect("there").text(), "");
        assert_eq!(header.hops(), 2);
        assert_eq!(&content[header.body()..], b"body\r\n");
    }

    #[test]
    fn the_header_ends_at_the_first_line_that_is_no_field() {
        for (content, fields, end, body) in [
            (&b""[..], 0, 0, 0),
            (b"\r\nbody", 0, 0, 2),
            (b"hello\r\nA: b\r\n", 0, 0, 0),
            (b" A: b\r\n", 0, 0, 0),
            (b"A: b", 1, 4, 4),
            (b"A: b\r\nno field\r\n\r\n", 1, 6, 6),
            (b"A: b\r\nFrom x y\r\n", 1, 6, 6),
            (b": b\r\n\r\n", 0, 0, 0),
        ] {
            let header = Header::scan(content);
            assert_eq!((header.fields().len(), header.end(), header.body()), (fields, end, body), "{content:?}");
        }
    }

    #[test]
    fn the_end_is_found_in_pieces() {
        let content = b"A: b\r\nC: d\r\n\r\nbody";
        let mut from = 0;
        for length in 0..14 {
            from = Header::find_end(&content[..length], from).expect_err("not yet");
        }
        assert_eq!(Header::find_end(content, from), Ok(14));
        assert_eq!(Header::find_end(b"\nx", 0), Ok(1));
    }

    proptest::proptest! {
        #[test]
        fn no_octets_break_the_scanner(content: Vec<u8>) {
            let header = Header::scan(&content);
            proptest::prop_assert!(header.end() <= header.body() && header.body() <= content.len());
            let joined: Vec<u8> = header.fields().iter().flat_map(|field| field.raw().to_vec()).collect();
            proptest::prop_assert_eq!(&joined[..], &content[..header.end()]);
        }

        #[test]
        fn values_stay_on_one_line(content in "(A: [a \r\n\t]{0,9}\r\n){0,4}\r\n") {
            for field in Header::scan(content.as_bytes()).fields() {
                proptest::prop_assert!(!field.value().contains(&b'\n'));
            }
        }
    }
}
