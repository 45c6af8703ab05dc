//! The first word of a command.

use nom::bytes::complete::take_while;
use nom::{IResult, Parser};

/// Splits a command line into its verb and what follows it, without the blanks between them.
///
/// ```abnf
/// command = *WSP verb [1*WSP arguments]
/// verb    = 1*( any character but WSP )
/// ```
/// Trailing blanks are no part of the arguments (RFC 5321 section 4.1.1).
#[must_use]
pub fn verb(line: &str) -> (&str, &str) {
    fn parse(line: &str) -> IResult<&str, &str> {
        (take_while(blank), take_while(|c| !blank(c))).map(|(_, word)| word).parse(line)
    }
    match parse(line) {
        Ok((rest, word)) => (word, rest.trim_matches(blank)),
        Err(_) => ("", ""),
    }
}

fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

#[cfg(test)]
mod tests {
    use super::verb;

    #[test]
    fn a_line_is_a_verb_and_the_rest() {
        for (line, word, rest) in [
            ("NOOP", "NOOP", ""),
            ("mail FROM:<a@b> SIZE=1 ", "mail", "FROM:<a@b> SIZE=1"),
            ("  QUIT\t", "QUIT", ""),
            ("", "", ""),
            (" ", "", ""),
        ] {
            assert_eq!(verb(line), (word, rest), "{line:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_has_a_verb_without_blanks(line in "\\PC*") {
            let (word, rest) = verb(&line);
            proptest::prop_assert!(!word.contains([' ', '\t']));
            proptest::prop_assert!(word.len() + rest.len() <= line.len());
        }
    }
}
