//! What SEARCH asks for (RFC 3501 section 6.4.4).

use nom::Parser;
use nom::character::complete::char;
use nom::combinator::{map, opt, verify};
use nom::multi::separated_list1;
use nom::sequence::{delimited, preceded, terminated};
use serde::{Deserialize, Serialize};

use super::date::{Day, date};
use super::flags::SystemFlags;
use super::sequence::{Ranges, SequenceSet, sequence_set};
use super::{Parsed, after_sp, astring, atom, fail, keyword, number, sp, word};

/// How deep NOT, OR and parentheses may nest.
const DEPTH_LIMIT: usize = 100;

/// A SEARCH as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchProgram {
    /// `CHARSET`, in upper case.
    pub charset: Option<String>,
    /// What a message must be.
    pub key: SearchKey<SequenceSet>,
}

/// `search-key`. `Set` is how sets are held: as written, or resolved to UIDs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SearchKey<Set> {
    /// `ALL`
    All,
    /// Every key holds; a parenthesised list.
    And(Vec<SearchKey<Set>>),
    /// `OR`
    Or(Box<SearchKey<Set>>, Box<SearchKey<Set>>),
    /// `NOT`, and the `UN...` keys.
    Not(Box<SearchKey<Set>>),
    /// Message numbers. Never present after resolving.
    Messages(Set),
    /// `UID`
    Uids(Set),
    /// A system flag is set.
    Flag(SystemFlags),
    /// `KEYWORD`
    Keyword(String),
    /// `RECENT`. Never present after resolving: the session knows it.
    Recent,
    /// `BEFORE`, `ON`, `SINCE` on the internal date.
    Internal(DateTest, Day),
    /// `SENTBEFORE`, `SENTON`, `SENTSINCE` on the Date field.
    Sent(DateTest, Day),
    /// `LARGER`: more octets.
    Larger(u32),
    /// `SMALLER`: fewer octets.
    Smaller(u32),
    /// `HEADER`, and `BCC`, `CC`, `FROM`, `SUBJECT`, `TO`: field name in upper case, text.
    Header(String, Vec<u8>),
    /// `BODY`: the text is in the body.
    Body(Vec<u8>),
    /// `TEXT`: the text is in header or body.
    Text(Vec<u8>),
}

/// How a date is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DateTest {
    /// Earlier than the day.
    Before,
    /// On the day.
    On,
    /// On the day or later.
    Since,
}

impl DateTest {
    /// Whether a message of `day` passes.
    #[must_use]
    pub fn passes(self, day: Day, wanted: Day) -> bool {
        match self {
            Self::Before => day < wanted,
            Self::On => day == wanted,
            Self::Since => day >= wanted,
        }
    }
}

/// What a session knows and a store does not: the meaning of message numbers and `\Recent`.
pub trait Resolve {
    /// The UIDs of message numbers; none where a number is not in the mailbox.
    fn messages(&self, set: &SequenceSet) -> Option<Ranges>;
    /// UIDs, with `*` resolved.
    fn uids(&self, set: &SequenceSet) -> Ranges;
    /// The UIDs that are `\Recent` in this session.
    fn recent(&self) -> Ranges;
}

impl SearchKey<SequenceSet> {
    /// The same key with UIDs only; none where a message number is not in the mailbox.
    #[must_use]
    pub fn resolve(&self, session: &impl Resolve) -> Option<SearchKey<Ranges>> {
        let boxed = |key: &Self| key.resolve(session).map(Box::new);
        Some(match self {
            Self::And(keys) => SearchKey::And(keys.iter().map(|k| k.resolve(session)).collect::<Option<_>>()?),
            Self::Or(a, b) => SearchKey::Or(boxed(a)?, boxed(b)?),
            Self::Not(key) => SearchKey::Not(boxed(key)?),
            Self::Messages(set) => SearchKey::Uids(session.messages(set)?),
            Self::Uids(set) => SearchKey::Uids(session.uids(set)),
            Self::Recent => SearchKey::Uids(session.recent()),
            Self::All => SearchKey::All,
            Self::Flag(flag) => SearchKey::Flag(*flag),
            Self::Keyword(name) => SearchKey::Keyword(name.clone()),
            Self::Internal(test, day) => SearchKey::Internal(*test, *day),
            Self::Sent(test, day) => SearchKey::Sent(*test, *day),
            Self::Larger(size) => SearchKey::Larger(*size),
            Self::Smaller(size) => SearchKey::Smaller(*size),
            Self::Header(name, text) => SearchKey::Header(name.clone(), text.clone()),
            Self::Body(text) => SearchKey::Body(text.clone()),
            Self::Text(text) => SearchKey::Text(text.clone()),
        })
    }
}

type Key = SearchKey<SequenceSet>;

/// `search = [SP "CHARSET" SP astring] 1*(SP search-key)`, without the first space.
pub(crate) fn search_program(input: &[u8]) -> Parsed<'_, SearchProgram> {
    let mut charset = opt(delimited((keyword("CHARSET"), sp), astring, sp));
    let (rest, charset) = charset.parse(input)?;
    let charset = charset.map(|c| String::from_utf8_lossy(&c).to_ascii_uppercase());
    map(|i| keys(i, 0), |key| SearchProgram { charset: charset.clone(), key }).parse(rest)
}

fn keys(input: &[u8], depth: usize) -> Parsed<'_, Key> {
    map(separated_list1(sp, |i| key(i, depth)), |mut keys| match keys.len() {
        1 => keys.remove(0),
        _ => SearchKey::And(keys),
    })
    .parse(input)
}

fn key(input: &[u8], depth: usize) -> Parsed<'_, Key> {
    if depth > DEPTH_LIMIT {
        return fail(input);
    }
    match input.first() {
        Some(b'(') => delimited(char('('), |i| keys(i, depth + 1), char(')')).parse(input),
        Some(b'0'..=b'9' | b'*') => map(sequence_set, SearchKey::Messages).parse(input),
        _ => {
            let (rest, name) = word(input)?;
            named_key(&name, rest, depth)
        }
    }
}

fn named_key<'a>(name: &str, rest: &'a [u8], depth: usize) -> Parsed<'a, Key> {
    let plain = |key: Key| Ok((rest, key));
    let flag = |flag: SystemFlags| Ok((rest, SearchKey::Flag(flag)));
    let unset = |key: Key| Ok((rest, SearchKey::Not(Box::new(key))));
    match name {
        "ALL" => plain(SearchKey::All),
        "ANSWERED" => flag(SystemFlags::ANSWERED),
        "DELETED" => flag(SystemFlags::DELETED),
        "DRAFT" => flag(SystemFlags::DRAFT),
        "FLAGGED" => flag(SystemFlags::FLAGGED),
        "SEEN" => flag(SystemFlags::SEEN),
        "UNANSWERED" => unset(SearchKey::Flag(SystemFlags::ANSWERED)),
        "UNDELETED" => unset(SearchKey::Flag(SystemFlags::DELETED)),
        "UNDRAFT" => unset(SearchKey::Flag(SystemFlags::DRAFT)),
        "UNFLAGGED" => unset(SearchKey::Flag(SystemFlags::FLAGGED)),
        "UNSEEN" => unset(SearchKey::Flag(SystemFlags::SEEN)),
        "RECENT" => plain(SearchKey::Recent),
        "OLD" => unset(SearchKey::Recent),
        "NEW" => {
            plain(SearchKey::And(vec![SearchKey::Recent, SearchKey::Not(Box::new(SearchKey::Flag(SystemFlags::SEEN)))]))
        }
        "KEYWORD" => flag_keyword(rest),
        "UNKEYWORD" => map(flag_keyword, |key| SearchKey::Not(Box::new(key))).parse(rest),
        "BEFORE" => dated(rest, DateTest::Before, SearchKey::Internal),
        "ON" => dated(rest, DateTest::On, SearchKey::Internal),
        "SINCE" => dated(rest, DateTest::Since, SearchKey::Internal),
        "SENTBEFORE" => dated(rest, DateTest::Before, SearchKey::Sent),
        "SENTON" => dated(rest, DateTest::On, SearchKey::Sent),
        "SENTSINCE" => dated(rest, DateTest::Since, SearchKey::Sent),
        "LARGER" => map(after_sp(number), SearchKey::Larger).parse(rest),
        "SMALLER" => map(after_sp(number), SearchKey::Smaller).parse(rest),
        "BCC" | "CC" | "FROM" | "SUBJECT" | "TO" => {
            map(after_sp(astring), |text| SearchKey::Header(name.to_owned(), text)).parse(rest)
        }
        "HEADER" => header(rest),
        "BODY" => map(after_sp(astring), SearchKey::Body).parse(rest),
        "TEXT" => map(after_sp(astring), SearchKey::Text).parse(rest),
        "UID" => map(after_sp(sequence_set), SearchKey::Uids).parse(rest),
        "NOT" => map(after_sp(|i| key(i, depth + 1)), |key| SearchKey::Not(Box::new(key))).parse(rest),
        "OR" => or(rest, depth),
        _ => fail(rest),
    }
}

fn flag_keyword(input: &[u8]) -> Parsed<'_, Key> {
    map(after_sp(atom), |name: &[u8]| SearchKey::Keyword(String::from_utf8_lossy(name).into_owned())).parse(input)
}

fn dated(input: &[u8], test: DateTest, make: fn(DateTest, Day) -> Key) -> Parsed<'_, Key> {
    map(after_sp(date), |day| make(test, day)).parse(input)
}

fn header(input: &[u8]) -> Parsed<'_, Key> {
    let name = verify(astring, |name: &Vec<u8>| !name.is_empty());
    map((after_sp(name), after_sp(astring)), |(name, text)| {
        SearchKey::Header(String::from_utf8_lossy(&name).to_ascii_uppercase(), text)
    })
    .parse(input)
}

fn or(input: &[u8], depth: usize) -> Parsed<'_, Key> {
    let one = |i| key(i, depth + 1);
    let both = (terminated(preceded(sp, one), sp), one);
    map(both, |(a, b)| SearchKey::Or(Box::new(a), Box::new(b))).parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Option<SearchProgram> {
        search_program(text.as_bytes()).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, program)| program)
    }

    #[test]
    fn every_key_of_the_rfc_is_read() {
        // I17
        let all = "ALL ANSWERED BCC a BEFORE 1-Jan-2024 BODY b CC c DELETED DRAFT FLAGGED FROM \"d e\" HEADER x-y \"\" KEYWORD k LARGER 5 NEW \
                   NOT OLD ON 2-Feb-2024 OR RECENT SEEN SENTBEFORE 1-Jan-2024 SENTON 1-Jan-2024 SENTSINCE 1-Jan-2024 SINCE 1-Jan-2024 SMALLER 9 \
                   SUBJECT s TEXT t TO o UID 1:* UNANSWERED UNDELETED UNDRAFT UNFLAGGED UNKEYWORD k UNSEEN 1,3:5 (SEEN (DRAFT))";
        assert!(
            matches!(whole(all), Some(SearchProgram { charset: None, key: SearchKey::And(keys) }) if keys.len() == 34)
        );
        assert_eq!(whole("charset utf-8 seen").and_then(|p| p.charset).as_deref(), Some("UTF-8"));
    }

    #[test]
    fn nesting_is_bounded_and_errors_are_no_panic() {
        assert!(whole(&format!("{}seen", "not ".repeat(90))).is_some());
        assert!(whole(&format!("{}seen", "not ".repeat(30_000))).is_none());
        assert!(whole(&format!("{}seen{}", "(".repeat(30_000), ")".repeat(30_000))).is_none());
        for bad in ["", "foo", "or seen", "not", "since", "uid", "()", "larger x", "before 31-feb-2024"] {
            assert!(whole(bad).is_none(), "{bad}");
        }
    }
}
