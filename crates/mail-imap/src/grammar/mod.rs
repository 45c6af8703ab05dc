//! The grammar of RFC 3501 section 9, as far as a server reads it. Input is one whole command: lines without their last end, literals in their place.
//!
//! A parser carries the rule's name. Nothing here allocates more than a small multiple of its input, and nesting is bounded.

pub mod command;
pub mod date;
pub mod fetch;
pub mod flags;
pub mod search;
pub mod sequence;

use nom::branch::alt;
use nom::bytes::complete::{tag, tag_no_case, take, take_while, take_while_m_n, take_while1};
use nom::character::complete::{char, digit1};
use nom::combinator::{map, map_res, opt, value, verify};
use nom::error::{Error, ErrorKind, ParseError};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

/// Result of a parser here.
pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T>;

/// The longest tag that is echoed. Longer ones are not tags (a client counts them up from `a1`).
pub const TAG_LIMIT: usize = 128;

pub(crate) fn fail<T>(input: &[u8]) -> Parsed<'_, T> {
    Err(nom::Err::Error(Error::from_error_kind(input, ErrorKind::Fail)))
}

/// `ATOM-CHAR = <any CHAR except atom-specials>`
pub(crate) fn is_atom_char(byte: u8) -> bool {
    (0x21..0x7f).contains(&byte) && !matches!(byte, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

/// `ASTRING-CHAR = ATOM-CHAR / resp-specials`
pub(crate) fn is_astring_char(byte: u8) -> bool {
    is_atom_char(byte) || byte == b']'
}

/// `list-char = ATOM-CHAR / list-wildcards / resp-specials`
fn is_list_char(byte: u8) -> bool {
    is_astring_char(byte) || matches!(byte, b'%' | b'*')
}

/// `tag = 1*<any ASTRING-CHAR except "+">`
pub(crate) fn tag_name(input: &[u8]) -> Parsed<'_, &[u8]> {
    take_while_m_n(1, TAG_LIMIT, |b| is_astring_char(b) && b != b'+').parse(input)
}

pub(crate) fn sp(input: &[u8]) -> Parsed<'_, ()> {
    value((), char(' ')).parse(input)
}

/// `atom = 1*ATOM-CHAR`
pub(crate) fn atom(input: &[u8]) -> Parsed<'_, &[u8]> {
    take_while1(is_atom_char).parse(input)
}

/// A keyword of the protocol: an atom, in upper case.
pub(crate) fn word(input: &[u8]) -> Parsed<'_, String> {
    map(atom, |a| String::from_utf8_lossy(a).to_ascii_uppercase()).parse(input)
}

/// Exactly this keyword, in any case, and not the beginning of a longer one.
pub(crate) fn keyword<'a>(name: &'static str) -> impl Parser<&'a [u8], Output = (), Error = Error<&'a [u8]>> {
    move |input: &'a [u8]| {
        let (rest, _) = tag_no_case(name.as_bytes()).parse(input)?;
        match rest.first() {
            Some(&b) if is_atom_char(b) && b != b'[' => fail(input),
            _ => Ok((rest, ())),
        }
    }
}

/// `number = 1*DIGIT`, 32 bits
pub(crate) fn number(input: &[u8]) -> Parsed<'_, u32> {
    map_res(digits, |d| d.parse()).parse(input)
}

/// A number of 64 bits: partial offsets and literal sizes.
pub(crate) fn number64(input: &[u8]) -> Parsed<'_, u64> {
    map_res(digits, |d| d.parse()).parse(input)
}

fn digits(input: &[u8]) -> Parsed<'_, &str> {
    map_res(digit1, std::str::from_utf8).parse(input)
}

/// `quoted = DQUOTE *QUOTED-CHAR DQUOTE`. No NUL, no CR, no LF (I05); 8-bit octets pass, as every server lets them.
pub(crate) fn quoted(input: &[u8]) -> Parsed<'_, Vec<u8>> {
    let (mut rest, _) = char('"').parse(input)?;
    let mut text = Vec::new();
    loop {
        let (after, plain) = take_while(|b| !matches!(b, b'"' | b'\\' | b'\r' | b'\n' | 0))
            .parse(rest)
            .map_err(|e: nom::Err<Error<&[u8]>>| e)?;
        text.extend_from_slice(plain);
        match after {
            [b'"', end @ ..] => return Ok((end, text)),
            [b'\\', escaped @ (b'"' | b'\\'), end @ ..] => {
                text.push(*escaped);
                rest = end;
            }
            _ => return fail(input),
        }
    }
}

/// `literal = "{" number ["+"] "}" CRLF *CHAR8`: the octets are already here. No NUL (I05).
pub(crate) fn literal(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (rest, size) =
        terminated(delimited(char('{'), number, (opt(char('+')), char('}'))), tag(&b"\r\n"[..])).parse(input)?;
    verify(take(size as usize), |octets: &[u8]| !octets.contains(&0)).parse(rest)
}

/// `string = quoted / literal`
pub(crate) fn string(input: &[u8]) -> Parsed<'_, Vec<u8>> {
    alt((quoted, map(literal, <[u8]>::to_vec))).parse(input)
}

/// `astring = 1*ASTRING-CHAR / string`
pub(crate) fn astring(input: &[u8]) -> Parsed<'_, Vec<u8>> {
    alt((map(take_while1(is_astring_char), <[u8]>::to_vec), string)).parse(input)
}

/// `list-mailbox = 1*list-char / string`
pub(crate) fn list_mailbox(input: &[u8]) -> Parsed<'_, Vec<u8>> {
    alt((map(take_while1(is_list_char), <[u8]>::to_vec), string)).parse(input)
}

/// `nstring = string / nil`
pub(crate) fn nstring(input: &[u8]) -> Parsed<'_, Option<Vec<u8>>> {
    alt((map(string, Some), value(None, keyword("NIL")))).parse(input)
}

/// `"(" item *(SP item) ")"`, where the list may be empty.
pub(crate) fn parenthesised<'a, T, P>(item: P) -> impl Parser<&'a [u8], Output = Vec<T>, Error = Error<&'a [u8]>>
where
    P: Parser<&'a [u8], Output = T, Error = Error<&'a [u8]>>,
{
    delimited(char('('), spaced(item), char(')'))
}

/// Items between single spaces; possibly none.
pub(crate) fn spaced<'a, T, P>(item: P) -> impl Parser<&'a [u8], Output = Vec<T>, Error = Error<&'a [u8]>>
where
    P: Parser<&'a [u8], Output = T, Error = Error<&'a [u8]>>,
{
    nom::multi::separated_list0(sp, item)
}

/// A space and what follows it.
pub(crate) fn after_sp<'a, T, P>(item: P) -> impl Parser<&'a [u8], Output = T, Error = Error<&'a [u8]>>
where
    P: Parser<&'a [u8], Output = T, Error = Error<&'a [u8]>>,
{
    preceded(sp, item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_string_holds_no_nul_and_no_line_end() {
        // I05
        assert_eq!(quoted(br#""a\"b\\c" x"#), Ok((&b" x"[..], br#"a"b\c"#.to_vec())));
        for bad in [&b"\"a\0b\""[..], b"\"a\rb\"", b"\"a\nb\"", b"\"a", br#""a\x""#] {
            assert!(quoted(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_literal_holds_exactly_its_octets_and_no_nul() {
        // I05
        assert_eq!(literal(b"{3}\r\na\"b x"), Ok((&b" x"[..], &b"a\"b"[..])));
        assert_eq!(literal(b"{0+}\r\n"), Ok((&b""[..], &b""[..])));
        assert!(literal(b"{3}\r\na\0b").is_err());
        assert!(literal(b"{4}\r\nabc").is_err());
    }

    #[test]
    fn a_keyword_is_not_the_beginning_of_a_longer_word() {
        assert!(keyword("BODY").parse(b"BODYSTRUCTURE").is_err());
        assert!(keyword("BODY").parse(b"body[]").is_ok());
    }
}
