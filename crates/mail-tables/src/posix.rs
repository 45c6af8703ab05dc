//! POSIX extended expressions of `regexp:` tables in the words of our engines: of the one that takes linear time whatever the key or, for references to
//! groups, of the one that goes back.
//!
//! What glibc reads beyond POSIX (`\w`, `\<`, `a{,3}`, `\1`) is read too.

use crate::pattern::{Pattern, Reading};
use crate::pcre::{Words, escape};

/// Compiles an expression with the flags of regexp_table(5).
///
/// # Errors
/// What is wrong, or is not built.
pub(crate) fn compile(expression: &str, flags: &str) -> Result<Pattern, String> {
    // `i` makes case count (it does not by default), `m` makes `^` and `$` match at line ends.
    let mut reading = Reading { case_insensitive: true, ..Reading::default() };
    for flag in flags.chars() {
        match flag {
            'i' => reading.case_insensitive = !reading.case_insensitive,
            'm' => reading.multi_line = !reading.multi_line,
            other => return Err(format!("flag `{other}' is not built")),
        }
    }
    reading.dot_all = !reading.multi_line;
    let translated = translate(expression)?;
    match translated.refers {
        true => Pattern::backtracking(&translated.out, reading),
        false => Pattern::longest(&translated.out, reading),
    }
}

/// An expression in our engine's words, as far as it is written.
struct Translation {
    out: String,
    /// Where the last atom begins, which a repetition would repeat; whether it is repeated already.
    atom: Option<(usize, bool)>,
    /// Where the open groups begin.
    groups: Vec<usize>,
    /// Whether it refers to what a group matched.
    refers: bool,
}

fn translate(expression: &str) -> Result<Translation, String> {
    let mut made = Translation { out: String::new(), atom: None, groups: Vec::new(), refers: false };
    let words = if refers(expression) { Words::Backtracking } else { Words::Linear };
    made.refers = words == Words::Backtracking;
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let escaped = rest.chars().next().ok_or("trailing backslash")?;
                rest = &rest[escaped.len_utf8()..];
                made.atom(&escape_posix(escaped, words)?);
            }
            '[' => {
                let (class, after) = class(rest)?;
                made.atom(&class);
                rest = after;
            }
            '(' => {
                made.groups.push(made.out.len());
                made.out.push('(');
                made.atom = None;
            }
            ')' => match made.groups.pop() {
                Some(begin) => {
                    made.out.push(')');
                    made.atom = Some((begin, false));
                }
                // Without its other half it stands for itself.
                None => made.atom("\\)"),
            },
            '|' => {
                made.out.push('|');
                made.atom = None;
            }
            '*' | '+' | '?' => made.repeat(&c.to_string())?,
            '{' => match interval(rest) {
                Some((interval, after)) => {
                    made.repeat(&interval)?;
                    rest = after;
                }
                None => made.atom("\\{"),
            },
            '^' | '$' => {
                made.atom = None;
                made.out.push(c);
            }
            '.' => made.atom("."),
            c => octets(c).iter().for_each(|octet| made.atom(octet)),
        }
    }
    if made.groups.is_empty() { Ok(made) } else { Err("a parenthesis is not closed".to_owned()) }
}

impl Translation {
    fn atom(&mut self, text: &str) {
        self.atom = Some((self.out.len(), false));
        self.out.push_str(text);
    }

    /// `a+?` is `(a+)?`: nothing is lazy or possessive in these expressions.
    fn repeat(&mut self, times: &str) -> Result<(), String> {
        let (begin, repeated) = self.atom.ok_or("nothing stands before a repetition")?;
        if repeated {
            self.out.insert_str(begin, "(?:");
            self.out.push(')');
        }
        self.out.push_str(times);
        self.atom = Some((begin, true));
        Ok(())
    }
}

/// `{n}`, `{n,}`, `{,m}`, `{n,m}`; none for a brace that stands for itself.
fn interval(rest: &str) -> Option<(String, &str)> {
    let (inside, after) = rest.split_once('}')?;
    let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    let (least, most) = inside.split_once(',').unwrap_or((inside, inside));
    if !digits(least) || !digits(most) || inside.is_empty() || inside == "," {
        return None;
    }
    let least = if least.is_empty() { "0" } else { least };
    let times = if inside.contains(',') { format!("{{{least},{most}}}") } else { format!("{{{least}}}") };
    Some((times, after))
}

/// A class up to its bracket, and what follows. A backslash stands for itself in it.
fn class(rest: &str) -> Result<(String, &str), String> {
    let open = || "a bracket is not closed".to_owned();
    let mut out = String::from("[");
    let mut rest = rest;
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    let mut first = true;
    loop {
        let c = rest.chars().next().ok_or_else(open)?;
        rest = &rest[c.len_utf8()..];
        match c {
            ']' if !first => return Ok((out + "]", rest)),
            '[' if rest.starts_with(':') => {
                let end = rest.find(":]").ok_or_else(open)? + 2;
                out.push('[');
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            '[' if rest.starts_with(['.', '=']) => {
                let kind = &rest[..1];
                let (name, after) = rest[1..].split_once(&format!("{kind}]")).ok_or_else(open)?;
                let mut chars = name.chars();
                let (Some(only), None) = (chars.next(), chars.next()) else {
                    return Err(format!("`[{kind}{name}{kind}]' in a class is not built"));
                };
                out.push_str(&escaped_in_class(only));
                rest = after;
            }
            // Between two characters it makes a range.
            '-' if !first && !rest.starts_with([']', '-']) => out.push('-'),
            c => out.push_str(&escaped_in_class(c)),
        }
        first = false;
    }
}

fn escaped_in_class(c: char) -> String {
    if c.is_ascii_punctuation() { format!("\\{c}") } else { octets(c).concat() }
}

/// A character as our engine's expressions of octets write it, each octet by itself.
pub(crate) fn octets(c: char) -> Vec<String> {
    match c.is_ascii() {
        true => vec![regex::escape(&c.to_string())],
        false => c.to_string().bytes().map(|octet| format!("\\x{octet:02X}")).collect(),
    }
}

/// Whether a `\\1` stands in an expression; within a class a backslash stands for itself.
fn refers(expression: &str) -> bool {
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => match rest.chars().next() {
                Some('1'..='9') => return true,
                Some(escaped) => rest = &rest[escaped.len_utf8()..],
                None => {}
            },
            '[' => rest = class(rest).map_or("", |(_, after)| after),
            _ => {}
        }
    }
    false
}

fn escape_posix(escaped: char, words: Words) -> Result<String, String> {
    Ok(match (escaped, words) {
        ('w' | 'W' | 's' | 'S' | 'b' | 'B', _) => escape(escaped, false, words)?,
        ('<', Words::Linear) => "(?-u:\\b{start})".to_owned(),
        ('>', Words::Linear) => "(?-u:\\b{end})".to_owned(),
        ('<', Words::Backtracking) => "(?:\\b(?=\\w))".to_owned(),
        ('>', Words::Backtracking) => "(?:\\b(?<=\\w))".to_owned(),
        ('`', _) => "\\A".to_owned(),
        ('\'', _) => "\\z".to_owned(),
        ('1'..='9', _) => format!("(?:\\{escaped})"),
        (c, _) => octets(c).concat(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Compared with `postmap -q` of Postfix 3.7.11.
    #[test]
    fn expressions_mean_what_glibc_makes_of_them() {
        for (expression, key, wanted) in [
            ("^[\\.]x$", "\\x", true),
            ("^[a\\]b]$", "\\b]", true),
            ("^a{x$", "a{x", true),
            ("^a{,2}$", "aa", true),
            ("^(ab)+?$", "", true),
            ("^(ab)+?$", "abab", true),
            ("^a)$", "a)", true),
            ("^[]a]+$", "]a", true),
            ("^[^]a]$", "]", false),
            ("^[[:alpha:]-]+$", "a-b", true),
            ("^[[.-.]a]+$", "a-", true),
            ("^\\d$", "d", true),
            ("\\<foo\\>", "a foo b", true),
            ("\\<foo\\>", "afoo", false),
            ("a.c", "a\nc", true),
            ("^[a-c]$", "b", true),
            ("^(a)\\1$", "aa", true),
            ("^(.*)x\\1$", "abxab", true),
            ("^(.*)x\\1$", "abxa", false),
            ("^[\\1]$", "1", true),
            ("\\<(o)\\1\\>", "a oo", true),
        ] {
            let pattern = compile(expression, "").unwrap_or_else(|error| panic!("{expression}: {error}"));
            assert_eq!(pattern.is_match(key.as_bytes()), Ok(wanted), "{expression} {key}");
        }
        for wrong in ["(", "*a", "(?:a)", "(a)\\2", "[a", "a\\", "a|*"] {
            assert!(compile(wrong, "").is_err(), "{wrong}");
        }
        assert!(compile("a", "x").is_err(), "basic expressions");
    }

    proptest::proptest! {
        #[test]
        fn no_expression_breaks_the_translation(expression in "[a(|)*+?{},0-9\\[\\].^$\\\\:é-]{0,20}", key in "[a-c0-9é]{0,6}") {
            if let Ok(pattern) = compile(&expression, "") {
                let _ = pattern.find(key.as_bytes());
            }
        }
    }
}
