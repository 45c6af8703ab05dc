//! xtext: octets in printable ASCII (RFC 3461 section 4).

use std::fmt::Write as _;

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while_m_n};
use nom::character::complete::satisfy;
use nom::combinator::{all_consuming, map_opt};
use nom::multi::fold_many0;
use nom::{IResult, Parser};

/// Decodes xtext; none if it is not xtext or holds what is no UTF-8.
///
/// ```abnf
/// xtext   = *( xchar / hexchar )
/// xchar   = any ASCII CHAR between "!" (33) and "~" (126) inclusive, except for "+" and "="
/// hexchar = "+" 2(%x30-39 / %x41-46)
/// ```
/// The decoded text may hold control characters: who uses it checks it (CVE-2020-28026).
#[must_use]
pub fn xtext_decode(text: &str) -> Option<String> {
    fn octets(text: &str) -> IResult<&str, Vec<u8>> {
        all_consuming(fold_many0(alt((hexchar, xchar)), Vec::new, |mut all, octet| {
            all.push(octet);
            all
        }))
        .parse(text)
    }
    let (_, octets) = octets(text).ok()?;
    String::from_utf8(octets).ok()
}

fn xchar(input: &str) -> IResult<&str, u8> {
    // ASCII was checked, so the cast keeps the value.
    satisfy(|c| c.is_ascii_graphic() && !matches!(c, '+' | '=')).map(|c| c as u8).parse(input)
}

fn hexchar(input: &str) -> IResult<&str, u8> {
    let digits = take_while_m_n(2, 2, |c: char| c.is_ascii_digit() || ('A'..='F').contains(&c));
    map_opt((tag("+"), digits), |(_, digits)| u8::from_str_radix(digits, 16).ok()).parse(input)
}

/// Encodes a text as xtext.
#[must_use]
pub fn xtext_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'+' | b'=') {
            out.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(out, "+{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_xtext_is_refused() {
        // D02c
        for text in ["+", "+4", "+zz", "+4a", "a=b", "a b", "ä", "+FF"] {
            assert_eq!(xtext_decode(text), None, "{text:?}");
        }
        assert_eq!(xtext_decode("a+2Bb+3D"), Some("a+b=".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn what_is_encoded_is_decoded_again(text in "\\PC*") {
            let encoded = xtext_encode(&text);
            proptest::prop_assert!(encoded.bytes().all(|b| b.is_ascii_graphic()));
            proptest::prop_assert_eq!(xtext_decode(&encoded), Some(text));
        }

        #[test]
        fn no_text_breaks_the_decoder(text in "[+0-9A-Fa-f=~ ]*") {
            let _ = xtext_decode(&text);
        }
    }
}
