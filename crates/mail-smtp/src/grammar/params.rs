//! Parameters after the path of MAIL and RCPT, and their values.

use mail_types::{Notify, Ret};
use nom::bytes::complete::take_while1;
use nom::character::complete::{char, satisfy, space1};
use nom::combinator::{all_consuming, opt, recognize};
use nom::multi::{many0_count, separated_list0};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use super::xtext_decode;

/// One parameter: `keyword[=value]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<'a> {
    /// The whole parameter as it was written, for the reply.
    pub text: &'a str,
    /// The keyword, in the client's case.
    pub keyword: &'a str,
    /// What follows the first `=`, if there is one.
    pub value: Option<&'a str>,
}

/// Reads the parameters of MAIL or RCPT. The error is the first parameter that is none.
///
/// ```abnf
/// Mail-parameters = esmtp-param *(1*SP esmtp-param)
/// esmtp-param     = esmtp-keyword ["=" esmtp-value]
/// esmtp-keyword   = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
/// esmtp-value     = 1*(%d33-60 / %d62-126 / UTF8-non-ascii)
/// ```
/// RFC 5321 section 4.1.2. A value may hold `=` as ORCPT does, and may be empty so that the keyword's own rule can refuse it.
///
/// # Errors
/// The text of the first parameter that does not match.
pub fn params(text: &str) -> Result<Vec<Param<'_>>, String> {
    let (_, words) = all_consuming(separated_list0(space1, take_while1(|c| !matches!(c, ' ' | '\t'))))
        .parse(text)
        .map_err(|_: nom::Err<nom::error::Error<&str>>| text.to_owned())?;
    words.into_iter().map(|word| esmtp_param(word).map(|(_, param)| param).map_err(|_| word.to_owned())).collect()
}

fn esmtp_param(text: &str) -> IResult<&str, Param<'_>> {
    let keyword = recognize((
        satisfy(|c| c.is_ascii_alphanumeric()),
        many0_count(satisfy(|c| c.is_ascii_alphanumeric() || c == '-')),
    ));
    let value = recognize(many0_count(satisfy(|c| c.is_ascii_graphic() || (!c.is_ascii() && !c.is_control()))));
    let (rest, (keyword, value)) = all_consuming((keyword, opt(preceded(char('='), value)))).parse(text)?;
    Ok((rest, Param { text, keyword, value }))
}

/// Reads the value of RET (RFC 3461 section 4.3).
#[must_use]
pub(crate) fn ret(value: &str) -> Option<Ret> {
    match value.to_ascii_uppercase().as_str() {
        "FULL" => Some(Ret::Full),
        "HDRS" => Some(Ret::Headers),
        _ => None,
    }
}

/// Reads the value of ENVID: xtext of printable ASCII, 1 to 100 octets (RFC 3461 section 4.4).
#[must_use]
pub(crate) fn envid(value: &str) -> Option<String> {
    let good = |text: &String| (1..=100).contains(&text.len()) && text.bytes().all(|b| matches!(b, b' '..=b'~'));
    xtext_decode(value).filter(good)
}

/// Reads the value of NOTIFY (RFC 3461 section 4.1).
///
/// ```abnf
/// notify-esmtp-value = "NEVER" / 1#notify-list-element
/// notify-list-element = "SUCCESS" / "FAILURE" / "DELAY"
/// ```
#[must_use]
pub(crate) fn notify(value: &str) -> Option<Notify> {
    // D02c: NEVER stands alone.
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::NEVER);
    }
    value.split(',').try_fold(Notify::NEVER, |notify, word| match word.to_ascii_uppercase().as_str() {
        "SUCCESS" => Some(Notify { success: true, ..notify }),
        "FAILURE" => Some(Notify { failure: true, ..notify }),
        "DELAY" => Some(Notify { delay: true, ..notify }),
        _ => None,
    })
}

/// Reads the value of ORCPT: type, semicolon, address in xtext (RFC 3461 section 4.2) or, with SMTPUTF8, in UTF-8 (RFC 6533 section 3).
/// The result is the decoded form `type;address` without control characters.
#[must_use]
pub(crate) fn orcpt(value: &str) -> Option<String> {
    let (kind, address) = value.split_once(';')?;
    let atom = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let address = if address.is_ascii() { xtext_decode(address)? } else { address.to_owned() };
    let good = atom && !address.is_empty() && address.len() <= 500 && !address.contains(char::is_control);
    good.then(|| format!("{kind};{address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_words_with_values() {
        let read = params("SIZE=10  BODY=8BITMIME\tSMTPUTF8 ORCPT=rfc822;a=b").expect("good");
        let flat: Vec<_> = read.iter().map(|p| (p.keyword, p.value)).collect();
        let expected =
            [("SIZE", Some("10")), ("BODY", Some("8BITMIME")), ("SMTPUTF8", None), ("ORCPT", Some("rfc822;a=b"))];
        assert_eq!(flat, expected);
        assert_eq!(params(""), Ok(vec![]));
        assert_eq!(params("SIZE=1 =x"), Err("=x".to_owned()));
    }

    #[test]
    fn notify_never_stands_alone() {
        // D02c
        assert_eq!(notify("never"), Some(Notify::NEVER));
        assert_eq!(notify("SUCCESS,delay"), Some(Notify { success: true, failure: false, delay: true }));
        for text in ["", "NEVER,SUCCESS", "foo", "SUCCESS,", ",SUCCESS"] {
            assert_eq!(notify(text), None, "{text}");
        }
    }

    #[test]
    fn decoded_values_hold_no_control_characters() {
        // CVE-2020-28026
        assert_eq!(orcpt("rfc822;a+2Bb@c.org"), Some("rfc822;a+b@c.org".to_owned()));
        for text in ["foo", ";a@b", "rfc822;", "rfc822;a+0Ab", "rfc822;a+2", "r f;a"] {
            assert_eq!(orcpt(text), None, "{text}");
        }
        assert_eq!(envid("a+40b"), Some("a@b".to_owned()));
        for text in ["", "a+0A", "a+zz", &"x".repeat(101)] {
            assert_eq!(envid(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_parsers(text in "[A-Za-z0-9=+;, \t-]{0,60}") {
            if let Ok(read) = params(&text) {
                for param in read {
                    proptest::prop_assert!(!param.keyword.is_empty());
                }
            }
            let _ = (ret(&text), envid(&text), notify(&text), orcpt(&text));
        }
    }
}
