//! Replies as a client reads them: by code, with bounded memory.

use mail_types::{EnhancedStatus, Reply, ReplyCode};
use nom::bytes::complete::take_while_m_n;
use nom::character::complete::{char, one_of};
use nom::combinator::{map_opt, opt};
use nom::{IResult, Parser};

/// How much text of one reply is kept; the rest of a longer one is read and forgotten.
const TEXT_MAX: usize = 8 * 1024;

/// One line of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyLine<'a> {
    /// The code, 200 to 599.
    pub code: ReplyCode,
    /// Whether more lines follow.
    pub more: bool,
    /// What stands after code and separator.
    pub text: &'a [u8],
}

impl<'a> ReplyLine<'a> {
    /// Reads one line without its line end; none if it is no reply line.
    ///
    /// ```abnf
    /// Reply-line = Reply-code [ ( "-" / SP ) textstring ]
    /// Reply-code = %x32-35 %x30-39 %x30-39
    /// ```
    /// RFC 5321 section 4.2; the second digit is not restricted (S23: judged by its first digit).
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        fn head(line: &[u8]) -> IResult<&[u8], (ReplyCode, Option<char>)> {
            let code = map_opt(take_while_m_n(3, 3, |b: u8| b.is_ascii_digit()), |digits: &[u8]| {
                std::str::from_utf8(digits).ok()?.parse::<u16>().ok().and_then(|code| ReplyCode::try_from(code).ok())
            });
            (code, opt(one_of("- "))).parse(line)
        }
        let (text, (code, separator)) = head(line).ok()?;
        // A fourth digit or a letter right after the code is garbage, not text.
        let good = separator.is_some() || text.is_empty();
        good.then_some(Self { code, more: separator == Some('-'), text })
    }
}

/// Gathers the lines of one reply.
#[derive(Debug, Clone, Default)]
pub struct ReplyParser {
    code: Option<ReplyCode>,
    text: String,
    lines: usize,
}

impl ReplyParser {
    /// Takes one line; gives the whole reply with its last line.
    ///
    /// The code of the last line counts (S23). Control characters in the text become `?`, so that a log or a bounce cannot be forged with them.
    ///
    /// # Errors
    /// The line, if it is no reply line; the connection is of no use then.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, String> {
        let Some(parsed) = ReplyLine::parse(line) else {
            return Err(printable(&line[..line.len().min(100)]));
        };
        self.code = Some(parsed.code);
        if self.text.len() < TEXT_MAX {
            if self.lines > 0 {
                self.text.push('\n');
            }
            let room = (TEXT_MAX - self.text.len()).min(parsed.text.len());
            self.text.push_str(&printable(&parsed.text[..room]));
        }
        self.lines += 1;
        if parsed.more {
            return Ok(None);
        }
        let text = std::mem::take(self).text;
        let (status, text) = split_status(parsed.code, text);
        Ok(Some(Reply { code: parsed.code, status, text }))
    }

    /// Whether a reply has begun and not ended.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.code.is_some()
    }
}

/// Takes the enhanced status off every line, if the first line bears one of the code's class (RFC 2034).
fn split_status(code: ReplyCode, text: String) -> (Option<EnhancedStatus>, String) {
    fn status(line: &str) -> Option<EnhancedStatus> {
        line.split(' ').next()?.parse().ok()
    }
    let first = text.lines().next().and_then(status);
    let Some(first) = first.filter(|status| status.severity() == code.severity()) else {
        return (None, text);
    };
    let mark = first.to_string();
    let stripped = text.split('\n').map(|line| match line.strip_prefix(mark.as_str()) {
        Some(rest) => rest.strip_prefix(' ').unwrap_or(rest),
        None => line,
    });
    (Some(first), stripped.collect::<Vec<_>>().join("\n"))
}

fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// One keyword line of an EHLO reply: the keyword in upper case and its parameters.
///
/// ```abnf
/// ehlo-line    = ehlo-keyword *( SP ehlo-param )
/// ehlo-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
/// ```
/// Some servers write `AUTH=LOGIN`; the `=` stands for the blank there.
pub(crate) fn ehlo_line(line: &str) -> (String, &str) {
    let end = line.find([' ', '=']).unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = opt(char::<_, nom::error::Error<&str>>('=')).parse(rest).map_or("", |(rest, _)| rest);
    (keyword.to_ascii_uppercase(), rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Option<Reply>, String> {
        let mut parser = ReplyParser::default();
        let mut last = Ok(None);
        for line in lines {
            last = parser.line(line.as_bytes());
        }
        last
    }

    #[test]
    fn replies_are_read_by_code_only() {
        // S23
        let reply = read(&["250-mx.example.org greets", "250-SIZE 1000", "250 DSN"]).expect("good").expect("whole");
        assert_eq!((reply.code.get(), reply.text.as_str()), (250, "mx.example.org greets\nSIZE 1000\nDSN"));
        assert_eq!(read(&["250"]).expect("good").expect("whole").text, "");
        assert_eq!(read(&["299 odd"]).expect("good").expect("whole").code.get(), 299);
        for line in ["", "25", "2500 x", "999 x", "ok", "250x", "100 x"] {
            assert!(read(&[line]).is_err(), "{line:?}");
        }
    }

    // D04c
    #[test]
    fn an_enhanced_status_counts_only_in_its_class() {
        let reply = read(&["550-5.1.1 no such", "550 5.1.1 user"]).expect("good").expect("whole");
        assert_eq!((reply.status, reply.text.as_str()), (Some(EnhancedStatus::of(5, 1, 1)), "no such\nuser"));
        let reply = read(&["450 5.1.1 odd"]).expect("good").expect("whole");
        assert_eq!((reply.status, reply.text.as_str()), (None, "5.1.1 odd"));
    }

    #[test]
    fn an_endless_reply_keeps_little_memory() {
        let mut parser = ReplyParser::default();
        for _ in 0..20_000 {
            assert_eq!(parser.line(b"250-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"), Ok(None));
        }
        assert!(parser.text.len() <= TEXT_MAX + 1);
    }

    proptest::proptest! {
        #[test]
        fn no_line_breaks_the_parser(line: Vec<u8>) {
            let mut parser = ReplyParser::default();
            if let Ok(Some(reply)) = parser.line(&line) {
                proptest::prop_assert!(!reply.text.contains(|c: char| c.is_control() && c != '\n'));
            }
        }
    }
}
