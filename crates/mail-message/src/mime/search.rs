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

    fn is_in(&self, text: &str) -> bool {
        self.0.is_empty() || folded(text).contains(&self.0)
    }
}

/// Case does not matter, nor do line ends.
fn folded(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// A message to search in. Header and body are decoded when they are first asked for.
#[derive(Debug)]
pub struct SearchText<'m> {
    message: &'m [u8],
    part: &'m Part,
    body: Option<String>,
}

impl<'m> SearchText<'m> {
    /// A message with CRLF line ends and its structure.
    #[must_use]
    pub fn new(message: &'m [u8], part: &'m Part) -> Self {
        Self { message, part, body: None }
    }

    /// Whether a field of this name (in any case) holds the text; an empty text asks only for the field.
    #[must_use]
    pub fn field_contains(header: &[u8], name: &str, needle: &Needle) -> bool {
        fields(header)
            .filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()))
            .any(|field| needle.is_in(&words_decoded(&unfolded(field.value))))
    }

    /// Whether the header of the message holds the text.
    #[must_use]
    pub fn header_contains(&self, needle: &Needle) -> bool {
        header_contains(&self.message[self.part.header.clone()], needle)
    }

    /// Whether the body holds the text: its text parts decoded, the headers of its parts and of messages in it.
    pub fn body_contains(&mut self, needle: &Needle) -> bool {
        let (message, part) = (self.message, self.part);
        let body = self.body.get_or_insert_with(|| {
            let mut text = String::new();
            gather(message, part, true, &mut text);
            text
        });
        needle.0.is_empty() || body.contains(&needle.0)
    }
}

fn header_contains(header: &[u8], needle: &Needle) -> bool {
    fields(header).any(|field| {
        let line = format!("{}: {}", String::from_utf8_lossy(field.name), words_decoded(&unfolded(field.value)));
        needle.is_in(&line)
    })
}

/// The searchable text of a part, folded. Parts are kept apart by NUL, which no needle holds.
fn gather(message: &[u8], part: &Part, root: bool, out: &mut String) {
    if !root {
        for field in fields(&message[part.header.clone()]) {
            out.push_str(&folded(&format!(
                "{}: {}\0",
                String::from_utf8_lossy(field.name),
                words_decoded(&unfolded(field.value))
            )));
        }
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
        let mut text = SearchText::new(&message, &part);
        let needle = |t: &str| Needle::new(t.as_bytes(), None).expect("UTF-8");
        assert!(text.header_contains(&needle("café TODAY")));
        assert!(SearchText::field_contains(&message, "from", &needle("JÖRG")));
        assert!(!SearchText::field_contains(&message, "cc", &needle("")));
        assert!(text.body_contains(&needle("GRÜSS".replace("SS", "ß").as_str())));
        assert!(text.body_contains(&needle("hello world")));
        assert!(text.body_contains(&needle("bild.PNG")));
        assert!(!text.body_contains(&needle("hello\0")), "an image is no text");
        assert!(!text.body_contains(&needle("café")));
    }

    #[test]
    fn the_charset_of_the_search_counts_and_an_unknown_one_is_told() {
        // I17
        let message = with_crlf(MESSAGE.as_bytes());
        let part = Part::parse(&message);
        let mut text = SearchText::new(&message, &part);
        assert!(text.body_contains(&Needle::new(b"Gr\xfc\xdfe", Some("ISO-8859-1")).expect("known")));
        assert!(Needle::new(b"x", Some("X-UNKNOWN")).is_none());
    }
}
