//! Text search in a message: decoded, any case (RFC 3501 section 6.4.4).

use std::collections::HashMap;
use std::ops::Range;

use super::decode::{charset_decoded, transfer_decoded, words_decoded};
use super::structure::{Body, Content, Part};
use super::{fields, unfolded};

/// What is looked for, ready to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needle(String);

impl Needle {
    /// The text of a SEARCH in its charset; none if the charset is not known.
    #[must_use]
    pub fn new(text: &[u8], charset: Option<&str>) -> Option<Self> {
        let text = charset_decoded(text, charset.unwrap_or("utf-8").as_bytes())?;
        Some(Self(folded(&text)))
    }

    fn is_in(&self, folded: &str) -> bool {
        self.0.is_empty() || folded.contains(&self.0)
    }
}

/// Case does not matter.
fn folded(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_lowercase() } else { text.chars().flat_map(char::to_lowercase).collect() }
}

/// The searchable text of one message, decoded when it is first asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SearchText {
    header: Option<String>,
    body: Option<String>,
    /// Of each name that was asked for the text of its fields; none where there is no such field.
    fields: HashMap<String, Option<String>>,
}

impl SearchText {
    /// Whether a field of this name (in any case) holds the text; an empty text asks only for the field.
    pub fn field_contains(&mut self, header: &[u8], name: &str, needle: &Needle) -> bool {
        if !self.fields.contains_key(name) {
            self.fields.insert(name.to_owned(), field_text(header, name));
        }
        self.fields.get(name).is_some_and(|text| text.as_ref().is_some_and(|text| needle.is_in(text)))
    }

    /// Whether the header holds the text in one of its fields.
    pub fn header_contains(&mut self, header: &[u8], needle: &Needle) -> bool {
        let text = self.header.get_or_insert_with(|| {
            let mut text = String::new();
            gather_fields(header, &mut text);
            text
        });
        needle.is_in(text)
    }

    /// Whether the body of the message with this structure holds the text: its text parts decoded, the headers of its parts and of messages in it.
    pub fn body_contains(&mut self, message: &[u8], part: &Part, needle: &Needle) -> bool {
        let text = self.body.get_or_insert_with(|| {
            let mut text = String::new();
            for piece in part.searchable() {
                piece.write(&message[piece.range.clone()], &mut text);
            }
            text
        });
        needle.is_in(text)
    }
}

/// A piece of a body that is searched by itself: the header of a part, or the contents of a text.
#[derive(Debug, Clone)]
pub struct SearchPiece<'p> {
    /// Its octets in the message.
    pub range: Range<usize>,
    /// What says how the contents are encoded; none for a header.
    content: Option<&'p Content>,
}

impl SearchPiece<'_> {
    /// Whether the piece, whose octets these are, holds the text.
    #[must_use]
    pub fn contains(&self, octets: &[u8], needle: &Needle) -> bool {
        let mut text = String::new();
        self.write(octets, &mut text);
        needle.is_in(&text)
    }

    /// Adds the text, folded.
    fn write(&self, octets: &[u8], out: &mut String) {
        let Some(content) = self.content else { return gather_fields(octets, out) };
        let octets = transfer_decoded(octets, content.encoding.as_deref());
        let charset = content.kind.as_ref().and_then(|kind| kind.parameter("charset")).unwrap_or(b"utf-8");
        let text = charset_decoded(&octets, charset).unwrap_or_else(|| String::from_utf8_lossy(&octets).into_owned());
        out.push_str(&folded(&text));
        out.push('\0');
    }
}

impl Part {
    /// What of the body of the message with this structure is searched, in its order.
    #[must_use]
    pub fn searchable(&self) -> Vec<SearchPiece<'_>> {
        let mut pieces = Vec::new();
        gather(self, true, &mut pieces);
        pieces
    }
}

fn field_text(header: &[u8], name: &str) -> Option<String> {
    let mut text = None;
    for field in fields(header).filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes())) {
        let text = text.get_or_insert_with(String::new);
        text.push_str(&folded(&words_decoded(&unfolded(field.value))));
        text.push('\0');
    }
    text
}

/// Fields are kept apart by NUL, which no needle holds.
fn gather_fields(header: &[u8], out: &mut String) {
    for field in fields(header) {
        let value = words_decoded(&unfolded(field.value));
        out.push_str(&folded(&format!("{}: {value}", String::from_utf8_lossy(field.name))));
        out.push('\0');
    }
}

fn gather<'p>(part: &'p Part, root: bool, pieces: &mut Vec<SearchPiece<'p>>) {
    if !root {
        pieces.push(SearchPiece { range: part.header.clone(), content: None });
    }
    match &part.kind {
        Body::Multipart(children) => children.iter().for_each(|child| gather(child, false, pieces)),
        Body::Message(inner) => gather(inner, false, pieces),
        Body::Single if part.content.is("text") || part.content.is("message") => {
            pieces.push(SearchPiece { range: part.body.clone(), content: Some(&part.content) });
        }
        Body::Single => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mime::with_crlf;

    const MESSAGE: &str = "Subject: =?iso-8859-1?q?CAF=C9?= today\nFrom: =?utf-8?b?SsO2cmc=?= <j@x>\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\
        Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nGr=FC=DFe\n--b\nContent-Type: image/png; name=Bild.png\n\
        Content-Transfer-Encoding: base64\n\naGVsbG8=\n--b\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\nSGVsbG8gV29ybGQ=\n--b--\n";

    #[test]
    fn text_is_found_in_any_charset_encoding_and_case() {
        // I17
        let message = with_crlf(MESSAGE.as_bytes());
        let part = Part::parse(&message);
        let mut text = SearchText::default();
        let needle = |t: &str| Needle::new(t.as_bytes(), None).expect("UTF-8");
        assert!(text.header_contains(&message[part.header.clone()], &needle("café TODAY")));
        assert!(text.field_contains(&message, "from", &needle("JÖRG")));
        assert!(!text.field_contains(&message, "cc", &needle("")));
        assert!(text.body_contains(&message, &part, &needle("GRÜSS".replace("SS", "ß").as_str())));
        assert!(text.body_contains(&message, &part, &needle("hello world")));
        assert!(text.body_contains(&message, &part, &needle("bild.PNG")));
        assert!(!text.body_contains(&message, &part, &needle("hello\0")), "an image is no text");
        assert!(!text.body_contains(&message, &part, &needle("café")));
    }

    #[test]
    fn the_charset_of_the_search_counts_and_an_unknown_one_is_told() {
        // I17
        let message = with_crlf(MESSAGE.as_bytes());
        let part = Part::parse(&message);
        let mut text = SearchText::default();
        assert!(text.body_contains(&message, &part, &Needle::new(b"Gr\xfc\xdfe", Some("ISO-8859-1")).expect("known")));
        assert!(Needle::new(b"x", Some("X-UNKNOWN")).is_none());
    }
}
