//! Text search in a message: decoded, any case (RFC 3501 section 6.4.4).

use super::decode::{charset_decoded, transfer_decoded, words_decoded};
use super::structure::{Body, Part};
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

/// Whether a field of this name (in any case) holds the text; an empty text asks only for the field.
#[must_use]
pub fn field_contains(header: &[u8], name: &str, needle: &Needle) -> bool {
    fields(header)
        .filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()))
        .any(|field| needle.is_in(&folded(&words_decoded(&unfolded(field.value)))))
}

/// The searchable text of one message, decoded when it is first asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SearchText {
    header: Option<String>,
    body: Option<String>,
}

impl SearchText {
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
            gather(message, part, true, &mut text);
            text
        });
        needle.is_in(text)
    }
}

/// Fields are kept apart by NUL, which no needle holds.
fn gather_fields(header: &[u8], out: &mut String) {
    for field in fields(header) {
        let value = words_decoded(&unfolded(field.value));
        out.push_str(&folded(&format!("{}: {value}", String::from_utf8_lossy(field.name))));
        out.push('\0');
    }
}

/// The searchable text of a part, folded.
fn gather(message: &[u8], part: &Part, root: bool, out: &mut String) {
    if !root {
        gather_fields(&message[part.header.clone()], out);
    }
    match &part.kind {
        Body::Multipart(children) => children.iter().for_each(|child| gather(message, child, false, out)),
        Body::Message(inner) => gather(message, inner, false, out),
        Body::Single if part.content.is("text") || part.content.is("message") => {
            let octets = transfer_decoded(&message[part.body.clone()], part.content.encoding.as_deref());
            let charset = part.content.kind.as_ref().and_then(|kind| kind.parameter("charset")).unwrap_or(b"utf-8");
            let text =
                charset_decoded(&octets, charset).unwrap_or_else(|| String::from_utf8_lossy(&octets).into_owned());
            out.push_str(&folded(&text));
            out.push('\0');
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
        assert!(field_contains(&message, "from", &needle("JÖRG")));
        assert!(!field_contains(&message, "cc", &needle("")));
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
