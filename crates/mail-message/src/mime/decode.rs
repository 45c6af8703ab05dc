//! Decoding for SEARCH: transfer encodings, charsets, encoded words (RFC 2045 section 6, RFC 2047).

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Padding and trailing bits do not matter to somebody who searches.
const LAX: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The contents of a part without its transfer encoding; unknown encodings are taken as they are.
pub(super) fn transfer_decoded(body: &[u8], encoding: Option<&[u8]>) -> Vec<u8> {
    match encoding.map(<[u8]>::to_ascii_lowercase).as_deref() {
        Some(b"base64") => base64_decoded(body),
        Some(b"quoted-printable") => quoted_printable_decoded(body, false),
        _ => body.to_vec(),
    }
}

/// Decodes up to the first padding or the end; octets that are no base64 are skipped (RFC 2045 section 6.8).
fn base64_decoded(text: &[u8]) -> Vec<u8> {
    let digits = text
        .iter()
        .copied()
        .take_while(|&b| b != b'=')
        .filter(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'));
    let mut digits: Vec<u8> = digits.collect();
    if digits.len() % 4 == 1 {
        digits.pop();
    }
    LAX.decode(digits).unwrap_or_default()
}

/// `word` is the Q encoding of RFC 2047, where `_` is a space and lines have no end.
fn quoted_printable_decoded(text: &[u8], word: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        match octet {
            b'_' if word => out.push(b' '),
            b'=' => match after {
                [b'\r', b'\n', end @ ..] | [b'\n', end @ ..] if !word => rest = end,
                [high, low, end @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    out.push(hex(*high) << 4 | hex(*low));
                    rest = end;
                }
                _ => out.push(octet),
            },
            _ => out.push(octet),
        }
    }
    out
}

fn hex(digit: u8) -> u8 {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok()).unwrap_or(0)
}

/// Text of a charset; none for an unknown one. UTF-7 is not decoded: no two programs agree on it and it hides things.
pub(super) fn charset_decoded(text: &[u8], charset: &[u8]) -> Option<String> {
    if charset.eq_ignore_ascii_case(b"us-ascii") || charset.is_empty() {
        return Some(String::from_utf8_lossy(text).into_owned());
    }
    let encoding = encoding_rs::Encoding::for_label(charset)?;
    Some(encoding.decode_without_bom_handling(text).0.into_owned())
}

/// Decodes the encoded words of an unfolded value; raw 8-bit text is taken for UTF-8.
pub(super) fn words_decoded(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    let mut after_word = false;
    while let Some(at) = rest.windows(2).position(|w| w == b"=?") {
        let Some((decoded, end)) = encoded_word(&rest[at..]) else {
            out.push_str(&String::from_utf8_lossy(&rest[..at + 2]));
            rest = &rest[at + 2..];
            after_word = false;
            continue;
        };
        // White space between two encoded words is not shown (RFC 2047 section 6.2).
        if !(after_word && rest[..at].trim_ascii().is_empty()) {
            out.push_str(&String::from_utf8_lossy(&rest[..at]));
        }
        out.push_str(&decoded);
        rest = &rest[at + end..];
        after_word = true;
    }
    out.push_str(&String::from_utf8_lossy(rest));
    out
}

/// `"=?" charset ["*" language] "?" encoding "?" encoded-text "?="`: its text and its length. An encoded word has at most 75 octets; longer ones that
/// people send are read up to 4,096, so that a header of many `=?` costs linear time.
fn encoded_word(text: &[u8]) -> Option<(String, usize)> {
    let window = &text[..text.len().min(4096)];
    let mut pieces = window.get(2..)?.splitn(4, |&b| b == b'?');
    let (charset, encoding, encoded) = (pieces.next()?, pieces.next()?, pieces.next()?);
    if !pieces.next()?.starts_with(b"=") || charset.is_empty() || charset.len() > 64 {
        return None;
    }
    let octets = match encoding {
        b"B" | b"b" => base64_decoded(encoded),
        b"Q" | b"q" => quoted_printable_decoded(encoded, true),
        _ => return None,
    };
    let charset = charset.split(|&b| b == b'*').next().unwrap_or(charset);
    let length = 2 + charset_length(window, charset) + encoding.len() + encoded.len() + 4;
    Some((charset_decoded(&octets, charset)?, length))
}

/// The octets of the charset with its language.
fn charset_length(word: &[u8], charset: &[u8]) -> usize {
    word[2..].iter().position(|&b| b == b'?').unwrap_or(charset.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_words_are_read_and_the_space_between_two_is_dropped() {
        let cases = [
            ("=?utf-8?b?4oKs?= =?utf-8?b?4oKs?=", "€€"),
            ("caf=?iso-8859-1?Q?=E9_?= x", "café  x"),
            ("=?utf-8*en?q?a=20b?=!", "a b!"),
            ("=?x-unknown?q?a?=", "=?x-unknown?q?a?="),
            ("=? =?utf-8?q?a", "=? =?utf-8?q?a"),
            ("a =?utf-8?q?b?= c =?utf-8?q?d?=", "a b c d"),
        ];
        for (value, expected) in cases {
            assert_eq!(words_decoded(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn transfer_encodings_are_undone() {
        assert_eq!(transfer_decoded(b"aGVs\r\nbG8=\r\n", Some(b"BASE64")), b"hello");
        assert_eq!(transfer_decoded(b"caf=C3=A9 =\r\nx=4", Some(b"quoted-printable")), "café x=4".as_bytes());
        assert_eq!(transfer_decoded(b"=41", None), b"=41");
    }

    // R12
    #[test]
    fn many_beginnings_of_words_cost_linear_time() {
        words_decoded("=?utf-8?q?".repeat(100_000).as_bytes());
    }

    proptest::proptest! {
        #[test]
        fn no_value_makes_it_panic(value: Vec<u8>, word in "[=?a-z*_ ]{0,60}") {
            words_decoded(&value);
            words_decoded(word.as_bytes());
            transfer_decoded(&value, Some(b"base64"));
            transfer_decoded(&value, Some(b"quoted-printable"));
        }
    }
}
