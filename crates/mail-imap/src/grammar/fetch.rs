//! What FETCH asks for (RFC 3501 section 6.4.5).

use std::fmt;
use std::num::NonZeroU32;

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::tag_no_case;
use nom::character::complete::char;
use nom::combinator::{map, map_opt, opt, value, verify};
use nom::multi::separated_list1;
use nom::sequence::{delimited, preceded};
use serde::{Deserialize, Serialize};

use super::{Parsed, after_sp, astring, fail, keyword, number, number64, sp};

/// The deepest part number that is read; MIME nesting has the same limit.
const PART_DEPTH: usize = 100;

/// One data item of a FETCH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchItem {
    /// `ENVELOPE`
    Envelope,
    /// `FLAGS`
    Flags,
    /// `INTERNALDATE`
    InternalDate,
    /// `RFC822`: the whole message; sets `\Seen`.
    Rfc822,
    /// `RFC822.HEADER`: the header; does not set `\Seen`.
    Rfc822Header,
    /// `RFC822.SIZE`: octets with CRLF.
    Rfc822Size,
    /// `RFC822.TEXT`: the body; sets `\Seen`.
    Rfc822Text,
    /// `BODY`: the structure without extensions.
    Body,
    /// `BODYSTRUCTURE`
    BodyStructure,
    /// `UID`
    Uid,
    /// `BODY[...]<...>` and `BODY.PEEK[...]<...>`
    Section(BodySection),
}

/// A section of a message and the part of it that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodySection {
    /// Which section.
    pub section: Section,
    /// `BODY.PEEK`: does not set `\Seen` (I12).
    pub peek: bool,
    /// First octet and greatest count, where only a part is wanted.
    pub partial: Option<(u64, NonZeroU32)>,
}

/// `section-spec`: a part number, possibly empty, and what of that part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// `1.2.3`, empty for the message itself.
    pub part: Vec<u32>,
    /// What of it.
    pub text: SectionText,
}

/// `section-text`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SectionText {
    /// The whole message or the contents of the part.
    All,
    /// `HEADER`: the header of the message or of an enclosed message/rfc822.
    Header,
    /// `HEADER.FIELDS (...)`
    Fields(Vec<String>),
    /// `HEADER.FIELDS.NOT (...)`
    FieldsNot(Vec<String>),
    /// `TEXT`: the body of the message or of an enclosed message/rfc822.
    Text,
    /// `MIME`: the MIME header of a part.
    Mime,
}

impl FetchItem {
    /// Whether fetching this sets `\Seen`, unless the mailbox is read-only (I12).
    #[must_use]
    pub fn sets_seen(&self) -> bool {
        match self {
            Self::Rfc822 | Self::Rfc822Text => true,
            Self::Section(section) => !section.peek,
            _ => false,
        }
    }
}

/// The section as the response names it: `1.2.HEADER.FIELDS (FROM TO)`.
impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, number) in self.part.iter().enumerate() {
            let dot = if i > 0 { "." } else { "" };
            write!(f, "{dot}{number}")?;
        }
        let name = match &self.text {
            SectionText::All => return Ok(()),
            SectionText::Header => "HEADER",
            SectionText::Fields(_) => "HEADER.FIELDS",
            SectionText::FieldsNot(_) => "HEADER.FIELDS.NOT",
            SectionText::Text => "TEXT",
            SectionText::Mime => "MIME",
        };
        let dot = if self.part.is_empty() { "" } else { "." };
        write!(f, "{dot}{name}")?;
        match &self.text {
            SectionText::Fields(names) | SectionText::FieldsNot(names) => write!(f, " ({})", names.join(" ")),
            _ => Ok(()),
        }
    }
}

/// The item as the response names it: `BODY[1.2]<0>` (the origin is echoed, the count is not).
impl fmt::Display for FetchItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Envelope => "ENVELOPE",
            Self::Flags => "FLAGS",
            Self::InternalDate => "INTERNALDATE",
            Self::Rfc822 => "RFC822",
            Self::Rfc822Header => "RFC822.HEADER",
            Self::Rfc822Size => "RFC822.SIZE",
            Self::Rfc822Text => "RFC822.TEXT",
            Self::Body => "BODY",
            Self::BodyStructure => "BODYSTRUCTURE",
            Self::Uid => "UID",
            Self::Section(section) => {
                write!(f, "BODY[{}]", section.section)?;
                return section.partial.map_or(Ok(()), |(origin, _)| write!(f, "<{origin}>"));
            }
        })
    }
}

/// `fetch = ("ALL" / "FULL" / "FAST" / fetch-att / "(" fetch-att *(SP fetch-att) ")")`
pub(crate) fn fetch_items(input: &[u8]) -> Parsed<'_, Vec<FetchItem>> {
    let list = delimited(char('('), separated_list1(sp, fetch_att), char(')'));
    map(alt((macro_items, list, map(fetch_att, |item| vec![item]))), without_repeats).parse(input)
}

/// An item asked for twice is answered once; the number of items is bounded by the command line, so this stays small.
fn without_repeats(items: Vec<FetchItem>) -> Vec<FetchItem> {
    let mut kept: Vec<FetchItem> = Vec::with_capacity(items.len().min(64));
    for item in items {
        if kept.len() >= 1024 || !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

fn macro_items(input: &[u8]) -> Parsed<'_, Vec<FetchItem>> {
    use FetchItem::{Body, Envelope, Flags, InternalDate, Rfc822Size};
    alt((
        value(vec![Flags, InternalDate, Rfc822Size, Envelope], keyword("ALL")),
        value(vec![Flags, InternalDate, Rfc822Size, Envelope, Body], keyword("FULL")),
        value(vec![Flags, InternalDate, Rfc822Size], keyword("FAST")),
    ))
    .parse(input)
}

fn fetch_att(input: &[u8]) -> Parsed<'_, FetchItem> {
    alt((
        map(body_section, FetchItem::Section),
        value(FetchItem::Envelope, keyword("ENVELOPE")),
        value(FetchItem::Flags, keyword("FLAGS")),
        value(FetchItem::InternalDate, keyword("INTERNALDATE")),
        value(FetchItem::Rfc822Header, keyword("RFC822.HEADER")),
        value(FetchItem::Rfc822Size, keyword("RFC822.SIZE")),
        value(FetchItem::Rfc822Text, keyword("RFC822.TEXT")),
        value(FetchItem::Rfc822, keyword("RFC822")),
        value(FetchItem::BodyStructure, keyword("BODYSTRUCTURE")),
        value(FetchItem::Body, keyword("BODY")),
        value(FetchItem::Uid, keyword("UID")),
    ))
    .parse(input)
}

fn body_section(input: &[u8]) -> Parsed<'_, BodySection> {
    let name = alt((value(true, tag_no_case(&b"BODY.PEEK["[..])), value(false, tag_no_case(&b"BODY["[..]))));
    map((name, section, char(']'), opt(partial)), |(peek, section, _, partial)| BodySection { section, peek, partial })
        .parse(input)
}

/// `"<" number "." nz-number ">"`
fn partial(input: &[u8]) -> Parsed<'_, (u64, NonZeroU32)> {
    delimited(char('<'), (number64, preceded(char('.'), map_opt(number, NonZeroU32::new))), char('>')).parse(input)
}

/// `section-spec = section-msgtext / (section-part ["." section-text])`
fn section(input: &[u8]) -> Parsed<'_, Section> {
    let (rest, part) = section_part(input)?;
    if part.is_empty() {
        let (rest, text) = opt(section_msgtext).parse(rest)?;
        return Ok((rest, Section { part, text: text.unwrap_or(SectionText::All) }));
    }
    let text = opt(preceded(char('.'), alt((section_msgtext, value(SectionText::Mime, keyword("MIME"))))));
    map(text, |text| Section { part: part.clone(), text: text.unwrap_or(SectionText::All) }).parse(rest)
}

/// `section-part = nz-number *("." nz-number)`, possibly empty here.
fn section_part(input: &[u8]) -> Parsed<'_, Vec<u32>> {
    let mut part = Vec::new();
    let mut rest = input;
    loop {
        let separated = if part.is_empty() { Some(rest) } else { rest.strip_prefix(b".") };
        let next = separated.and_then(|at| verify(number, |n| *n > 0).parse(at).ok());
        let Some((after, number)) = next else { return Ok((rest, part)) };
        if part.len() == PART_DEPTH {
            return fail(input);
        }
        part.push(number);
        rest = after;
    }
}

/// `section-msgtext = "HEADER" / "HEADER.FIELDS" [".NOT"] SP header-list / "TEXT"`
fn section_msgtext(input: &[u8]) -> Parsed<'_, SectionText> {
    alt((
        map(preceded(tag_no_case(&b"HEADER.FIELDS.NOT"[..]), after_sp(header_list)), SectionText::FieldsNot),
        map(preceded(tag_no_case(&b"HEADER.FIELDS"[..]), after_sp(header_list)), SectionText::Fields),
        value(SectionText::Header, keyword("HEADER")),
        value(SectionText::Text, keyword("TEXT")),
    ))
    .parse(input)
}

/// `header-list = "(" header-fld-name *(SP header-fld-name) ")"`; names in upper case, and only such as the response can carry as atoms.
fn header_list(input: &[u8]) -> Parsed<'_, Vec<String>> {
    delimited(char('('), separated_list1(sp, header_field_name), char(')')).parse(input)
}

fn header_field_name(input: &[u8]) -> Parsed<'_, String> {
    let valid = |name: &Vec<u8>| !name.is_empty() && name.iter().all(|&b| super::is_astring_char(b) && b != b':');
    map(verify(astring, valid), |name| String::from_utf8_lossy(&name).to_ascii_uppercase()).parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echoed(text: &str) -> Option<String> {
        let (rest, items) = fetch_items(text.as_bytes()).ok()?;
        rest.is_empty().then(|| items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn items_are_echoed_as_the_response_names_them() {
        // I13
        let cases = [
            ("full", "FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY"),
            ("(UID body.peek[header.fields (From \"to\")])", "UID BODY[HEADER.FIELDS (FROM TO)]"),
            ("BODY[1.2.3.MIME]<10.20>", "BODY[1.2.3.MIME]<10>"),
            ("BODY[]<0.1>", "BODY[]<0>"),
            ("(BODY BODYSTRUCTURE BODY[1] BODY[1.TEXT] BODY[1])", "BODY BODYSTRUCTURE BODY[1] BODY[1.TEXT]"),
            ("RFC822.SIZE", "RFC822.SIZE"),
        ];
        for (text, expected) in cases {
            assert_eq!(echoed(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_section_is_refused() {
        for bad in [
            "BODY[MIME]",
            "BODY[0]",
            "BODY[1..2]",
            "BODY[HEADER.FIELDS ()]",
            "BODY[]<0.0>",
            "BODY[]<1>",
            "()",
            "(ALL)",
            "BODY[1",
            "BODY[FOO]",
        ] {
            assert_eq!(echoed(bad), None, "{bad}");
        }
        let deep = format!("BODY[{}1]", "1.".repeat(200));
        assert_eq!(echoed(&deep), None);
    }

    #[test]
    fn only_bodies_without_peek_set_seen() {
        // I12
        let sets = |text: &str| fetch_items(text.as_bytes()).expect(text).1.iter().any(FetchItem::sets_seen);
        assert!(sets("BODY[]") && sets("RFC822") && sets("RFC822.TEXT") && sets("BODY[1.MIME]"));
        assert!(!sets("BODY.PEEK[]") && !sets("RFC822.HEADER") && !sets("FULL"));
    }
}
