//! The grammar of commands, with Dovecot's words for what does not fit it.

use nom::bytes::complete::{tag, take_till, take_while};
use nom::combinator::opt;
use nom::sequence::terminated;
use nom::{IResult, Parser};

use crate::reply::printable;

/// A command line cut into its keyword, in upper case, and what follows the first space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// The keyword in upper case; empty where the line begins with a space.
    pub keyword: String,
    /// Everything after the first space, spaces included: a password may begin with one (P08c).
    pub argument: &'a [u8],
}

/// `keyword [SP argument]` (RFC 1939 section 3, RFC 2449 section 4). P01c
#[must_use]
pub fn line(input: &[u8]) -> Line<'_> {
    fn keyword(input: &[u8]) -> IResult<&[u8], &[u8]> {
        terminated(take_till(|b| b == b' '), opt(tag(&b" "[..]))).parse(input)
    }
    let (argument, keyword) = keyword(input).unwrap_or((&[], input));
    Line { keyword: String::from_utf8_lossy(keyword).to_ascii_uppercase(), argument }
}

/// Why an argument is refused; the texts are Dovecot's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArgumentError {
    /// No digits where a number must stand. The octets are what stood there.
    Invalid(Number, Vec<u8>),
    /// More than 32 bits.
    TooLarge(Number, Vec<u8>),
    /// Something follows the number.
    Noise(Number, Vec<u8>),
}

/// Which number of a command an error speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// A message number.
    Message,
    /// The line count of TOP.
    Size,
}

impl ArgumentError {
    /// The reply's text, without `-ERR`.
    #[must_use]
    pub fn text(&self) -> String {
        let name = |number: &Number, capital: bool| match (number, capital) {
            (Number::Message, true) => "Message number",
            (Number::Message, false) => "message number",
            (Number::Size, true) => "Size",
            (Number::Size, false) => "size",
        };
        match self {
            Self::Invalid(number, what) => format!("Invalid {}: {}", name(number, false), printable(what)),
            Self::TooLarge(number, what) => format!("{} too large: {}", name(number, true), printable(what)),
            Self::Noise(number, what) => format!("Noise after {}: {}", name(number, false), printable(what)),
        }
    }
}

/// `*SP 1*DIGIT`: a number that fits 32 bits, and what follows it.
fn number(kind: Number, input: &[u8]) -> Result<(u32, &[u8]), ArgumentError> {
    fn parts(input: &[u8]) -> IResult<&[u8], (&[u8], &[u8])> {
        (take_while(|b| b == b' '), take_while(|b: u8| b.is_ascii_digit())).parse(input)
    }
    let Ok((after, (_, digits))) = parts(input) else {
        return Err(ArgumentError::Invalid(kind, input.to_vec()));
    };
    if digits.is_empty() {
        return Err(ArgumentError::Invalid(kind, after.to_vec()));
    }
    let value = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    value.map(|value| (value, after)).ok_or_else(|| ArgumentError::TooLarge(kind, digits.to_vec()))
}

/// `msg`: one message number and nothing else, as RETR and DELE take it.
///
/// # Errors
/// [`ArgumentError`] says what stands there instead.
pub fn message_number(argument: &[u8]) -> Result<u32, ArgumentError> {
    let (value, after) = number(Number::Message, argument)?;
    if after.is_empty() { Ok(value) } else { Err(ArgumentError::Noise(Number::Message, after.to_vec())) }
}

/// `[msg]`: a message number or nothing, as LIST and UIDL take it.
///
/// # Errors
/// [`ArgumentError`] says what stands there instead.
pub fn optional_number(argument: &[u8]) -> Result<Option<u32>, ArgumentError> {
    if argument.is_empty() { Ok(None) } else { message_number(argument).map(Some) }
}

/// `msg n`: a message number and a count of lines, as TOP takes them.
///
/// # Errors
/// [`ArgumentError`] says what stands there instead.
pub fn top(argument: &[u8]) -> Result<(u32, u32), ArgumentError> {
    let (message, after) = number(Number::Message, argument)?;
    if !after.starts_with(b" ") {
        return Err(ArgumentError::Noise(Number::Message, after.to_vec()));
    }
    let (lines, after) = number(Number::Size, after)?;
    if after.is_empty() { Ok((message, lines)) } else { Err(ArgumentError::Noise(Number::Size, after.to_vec())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_argument_is_everything_after_the_first_space() {
        // P01c, P08c
        assert_eq!(line(b"pass  two words "), Line { keyword: "PASS".into(), argument: b" two words " });
        assert_eq!(line(b"Stat"), Line { keyword: "STAT".into(), argument: b"" });
        assert_eq!(line(b" STAT"), Line { keyword: String::new(), argument: b"STAT" });
    }

    #[test]
    fn numbers_are_refused_in_dovecots_words() {
        let cases: [(&[u8], &str); 7] = [
            (b"x", "Invalid message number: x"),
            (b"-1", "Invalid message number: -1"),
            (b"", "Invalid message number: "),
            (b"1 2", "Noise after message number:  2"),
            (b"1x", "Noise after message number: x"),
            (b"99999999999999999999", "Message number too large: 99999999999999999999"),
            (b"1\x1b[2J", "Noise after message number: ?[2J"),
        ];
        for (argument, text) in cases {
            assert_eq!(message_number(argument).expect_err("wrong").text(), text);
        }
        assert_eq!(message_number(b" 01"), Ok(1));
    }

    #[test]
    fn top_needs_two_numbers() {
        assert_eq!(top(b"1 0"), Ok((1, 0)));
        assert_eq!(top(b" 1  2"), Ok((1, 2)));
        let cases: [(&[u8], &str); 4] = [
            (b"1", "Noise after message number: "),
            (b"1 x", "Invalid size: x"),
            (b"1 5 x", "Noise after size:  x"),
            (b"1 99999999999", "Size too large: 99999999999"),
        ];
        for (argument, text) in cases {
            assert_eq!(top(argument).expect_err("wrong").text(), text);
        }
    }

    proptest! {
        #[test]
        fn no_octets_make_the_parsers_panic(bytes: Vec<u8>) {
            let line = line(&bytes);
            let _ = (message_number(line.argument), optional_number(line.argument), top(line.argument));
        }

        #[test]
        fn every_number_is_read_as_it_was_written(message: u32, lines: u32) {
            prop_assert_eq!(top(format!("{message} {lines}").as_bytes()), Ok((message, lines)));
        }
    }
}
