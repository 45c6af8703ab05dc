//! Sections of a message: what `BODY[1.2.HEADER]` means (RFC 3501 section 6.4.5).

use std::collections::HashSet;
use std::ops::Range;

use super::fields;
use super::structure::{Body, Part};

/// What of a part is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionPart<'a> {
    /// The contents.
    All,
    /// The header of a message.
    Header,
    /// These fields of it, in the order in which they stand there, and a blank line.
    Fields(&'a [String]),
    /// All but these fields.
    FieldsNot(&'a [String]),
    /// The body of a message.
    Text,
    /// The MIME header of a part.
    Mime,
}

/// Where a section is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// These octets of the message.
    At(Range<usize>),
    /// Fields of the header that lies here; [`SectionPart::choose`] picks them.
    Among(Range<usize>),
    /// There is no such section.
    Nowhere,
}

impl SectionPart<'_> {
    /// The fields of a header that are wanted, in the order in which they stand there, with the blank line (I13). A header of which no fields
    /// are to be picked is given whole.
    #[must_use]
    pub fn choose(self, header: &[u8]) -> Vec<u8> {
        match self {
            Self::Fields(names) => selected(header, &Names::new(names)),
            Self::FieldsNot(names) => unselected(header, &Names::new(names)),
            Self::All | Self::Header | Self::Text | Self::Mime => header.to_vec(),
        }
    }
}

/// A place in the tree: a message has a header of its own, a part has only its MIME header.
#[derive(Clone, Copy)]
enum Place<'p> {
    Message(&'p Part),
    Part(&'p Part),
}

impl Part {
    /// Finds a section of a message whose structure this is. `path` are part numbers, empty for the message itself.
    #[must_use]
    pub fn locate(&self, path: &[u32], wanted: SectionPart) -> Located {
        let mut place = Place::Message(self);
        for &number in path {
            match step(place, number) {
                Some(next) => place = next,
                None => return Located::Nowhere,
            }
        }
        match (place, wanted) {
            (Place::Message(part), SectionPart::All) => Located::At(part.whole()),
            (Place::Part(part), SectionPart::All) => Located::At(part.body.clone()),
            (Place::Part(part) | Place::Message(part), SectionPart::Mime) => Located::At(part.header.clone()),
            (place, wanted) => match message_at(place) {
                Some(part) => of_message(part, wanted),
                None => Located::Nowhere,
            },
        }
    }
}

/// Part `number` of what is here. A message that is no multipart has one part, its body.
fn step(place: Place<'_>, number: u32) -> Option<Place<'_>> {
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    match (place, kind_of(place)) {
        (_, Body::Multipart(children)) => children.get(index).map(Place::Part),
        (Place::Message(part), _) => (index == 0).then_some(Place::Part(part)),
        (Place::Part(_), Body::Message(inner)) => step(Place::Message(inner), number),
        (Place::Part(_), _) => None,
    }
}

fn kind_of<'p>(place: Place<'p>) -> &'p Body {
    match place {
        Place::Message(part) | Place::Part(part) => &part.kind,
    }
}

/// The message whose header and text are asked for here.
fn message_at(place: Place<'_>) -> Option<&Part> {
    match place {
        Place::Message(part) => Some(part),
        Place::Part(Part { kind: Body::Message(inner), .. }) => Some(inner),
        Place::Part(_) => None,
    }
}

fn of_message(part: &Part, wanted: SectionPart) -> Located {
    match wanted {
        SectionPart::Header => Located::At(part.header.clone()),
        SectionPart::Text => Located::At(part.body.clone()),
        SectionPart::Fields(_) | SectionPart::FieldsNot(_) => Located::Among(part.header.clone()),
        SectionPart::All | SectionPart::Mime => Located::Nowhere,
    }
}

/// Names of fields in lower case: a client may ask for thousands, and a header may have millions.
struct Names(HashSet<Vec<u8>>, usize);

impl Names {
    fn new(names: &[String]) -> Self {
        let longest = names.iter().map(String::len).max().unwrap_or(0);
        Self(names.iter().map(|name| name.to_ascii_lowercase().into_bytes()).collect(), longest)
    }

    fn hold(&self, name: &[u8]) -> bool {
        name.len() <= self.1 && self.0.contains(&name.to_ascii_lowercase())
    }
}

/// The fields whose names are among `names`, and the blank line that ends them.
fn selected(header: &[u8], names: &Names) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields(header).filter(|field| names.hold(field.name)) {
        out.extend_from_slice(field.whole);
        if !field.whole.ends_with(b"\n") {
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Everything in the header but these fields: also lines that are no field, and the blank line if there is one.
fn unselected(header: &[u8], names: &Names) -> Vec<u8> {
    let mut out = Vec::with_capacity(header.len());
    let mut kept_to = 0;
    for field in fields(header).filter(|field| names.hold(field.name)) {
        out.extend_from_slice(&header[kept_to..field.at]);
        kept_to = field.at + field.whole.len();
    }
    out.extend_from_slice(&header[kept_to..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mime::with_crlf;

    const NESTED: &str = "Subject: outer\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\nContent-Type: message/rfc822\n\n\
                          Subject: inner\nTo: x\n y\nContent-Type: multipart/mixed; boundary=c\n\n--c\nContent-Type: text/html\n\ntwo.one\n--c--\n--b\n\
                          Content-Type: message/rfc822\n\nSubject: plain\n\nthree\n--b--\n";

    fn found(path: &[u32], wanted: SectionPart) -> Option<String> {
        let message = with_crlf(NESTED.as_bytes());
        let part = Part::parse(&message);
        let octets = match part.locate(path, wanted) {
            Located::At(range) => message[range].to_vec(),
            Located::Among(header) => wanted.choose(&message[header]),
            Located::Nowhere => return None,
        };
        Some(String::from_utf8(octets).expect("ASCII").replace("\r\n", "|"))
    }

    #[test]
    fn parts_are_numbered_as_the_rfc_says() {
        // I13
        let names = ["TO".to_owned()];
        let cases = [
            (&[1][..], SectionPart::All, Some("one")),
            (&[1], SectionPart::Mime, Some("|")),
            (&[1], SectionPart::Header, None),
            (&[1, 1], SectionPart::All, None),
            (&[2], SectionPart::Mime, Some("Content-Type: message/rfc822||")),
            (&[2, 1], SectionPart::All, Some("two.one")),
            (&[2, 1], SectionPart::Mime, Some("Content-Type: text/html||")),
            (&[2], SectionPart::Fields(&names), Some("To: x| y||")),
            (&[2], SectionPart::FieldsNot(&names), Some("Subject: inner|Content-Type: multipart/mixed; boundary=c||")),
            (&[3], SectionPart::Header, Some("Subject: plain||")),
            (&[3], SectionPart::Text, Some("three")),
            (&[3, 1], SectionPart::All, Some("three")),
            (&[3, 2], SectionPart::All, None),
            (&[4], SectionPart::All, None),
            (&[], SectionPart::Fields(&names), Some("|")),
        ];
        for (path, wanted, expected) in cases {
            assert_eq!(found(path, wanted).as_deref(), expected, "{path:?} {wanted:?}");
        }
    }

    #[test]
    fn a_message_that_is_no_multipart_has_one_part() {
        // I13
        let message = b"Subject: x\r\n\r\nbody";
        let part = Part::parse(message);
        assert_eq!(part.locate(&[1], SectionPart::All), Located::At(14..18));
        assert_eq!(part.locate(&[2], SectionPart::All), Located::Nowhere);
        assert_eq!(part.locate(&[], SectionPart::All), Located::At(0..18));
    }
}
