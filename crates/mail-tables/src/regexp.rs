//! `regexp:` and `pcre:` tables (regexp_table(5), pcre_table(5)): the first match wins. Here are the lines and POSIX extended expressions.

use std::sync::Arc;

use mail_config::lines::logical_lines;
use mail_config::{Level, Report};
use mail_types::SourceLine;

use crate::pattern::{Groups, Pattern};

#[derive(Debug)]
enum Rule {
    /// `/pattern/flags value`.
    Match { negated: bool, pattern: Pattern, value: Vec<Piece>, line: u32 },
    /// `if /pattern/flags`; the index of the line after its `endif`.
    If { negated: bool, pattern: Pattern, end: usize, line: u32 },
}

/// A part of a value: text, or what a group matched.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(usize),
}

/// How an expression with its flags becomes a pattern.
pub(crate) type Compile = fn(&str, &str) -> Result<Pattern, String>;

/// A table of patterns.
#[derive(Debug)]
pub(crate) struct RegexpTable {
    file: Arc<str>,
    rules: Vec<Rule>,
    /// The first expression that cannot be carried out, with its line.
    broken: Option<String>,
}

/// What is wrong with a line.
#[derive(Debug)]
enum Wrong {
    /// It is left out, as Postfix does.
    Line(String),
    /// Its expression cannot be used; nobody knows what it would have matched.
    Expression(String),
}

impl From<String> for Wrong {
    fn from(text: String) -> Self {
        Self::Line(text)
    }
}

impl From<&str> for Wrong {
    fn from(text: &str) -> Self {
        Self::Line(text.to_owned())
    }
}

impl RegexpTable {
    /// Reads the text; lines that are wrong are left out and reported, as Postfix does. One whose expression cannot be used breaks the table.
    pub(crate) fn parse(file: &Arc<str>, text: &str) -> (Self, Vec<Report>) {
        Self::parse_with(file, text, crate::posix::compile)
    }

    /// The same with another kind of expressions.
    pub(crate) fn parse_with(file: &Arc<str>, text: &str, compile: Compile) -> (Self, Vec<Report>) {
        let mut rules: Vec<Rule> = Vec::new();
        let mut open = Vec::new();
        let (mut reports, mut broken) = (Vec::new(), None);
        for line in logical_lines(text) {
            let text = line.text.trim();
            let result: Result<(), Wrong> = if text.eq_ignore_ascii_case("endif") {
                match open.pop() {
                    Some(at) => {
                        close(&mut rules, at);
                        Ok(())
                    }
                    None => Err("endif without if".into()),
                }
            } else {
                rule(text, line.line, compile).map(|rule| {
                    if matches!(rule, Rule::If { .. }) {
                        open.push(rules.len());
                    }
                    rules.push(rule);
                })
            };
            let source = SourceLine::new(Arc::clone(file), line.line);
            match result {
                Ok(()) => {}
                Err(Wrong::Line(message)) => {
                    reports.push(Report::new(Level::Warning, source, message, "the line is ignored"));
                }
                Err(Wrong::Expression(message)) => {
                    broken.get_or_insert_with(|| format!("{source}: {message}"));
                    reports.push(Report::new(Level::Warning, source, message, "no lookup succeeds until it is mended"));
                }
            }
        }
        open.into_iter().for_each(|at| close(&mut rules, at));
        (Self { file: Arc::clone(file), rules, broken }, reports)
    }

    /// Why no lookup can succeed, if none can.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// The value, with what its groups matched, and the line.
    ///
    /// # Errors
    /// A line that cannot say, since its pattern takes too many steps for this key: nothing behind it may decide.
    pub(crate) fn get(&self, key: &str) -> Result<Option<(String, u32)>, String> {
        let octets = key.as_bytes();
        let mut at = 0;
        while let Some(rule) = self.rules.get(at) {
            at += 1;
            match rule {
                Rule::Match { negated: false, pattern, value, line } => {
                    let has_groups = value.iter().any(|piece| matches!(piece, Piece::Group(_)));
                    let found = match has_groups {
                        true => pattern.find(octets),
                        false => pattern.is_match(octets).map(|matches| matches.then(Groups::new)),
                    };
                    if let Some(groups) = found.map_err(|why| self.at(*line, &why))? {
                        return Ok(Some((substituted(value, octets, &groups), *line)));
                    }
                }
                Rule::Match { negated: true, pattern, value, line } => {
                    if !pattern.is_match(octets).map_err(|why| self.at(*line, &why))? {
                        return Ok(Some((substituted(value, octets, &Groups::new()), *line)));
                    }
                }
                Rule::If { negated, pattern, end, line } => {
                    if pattern.is_match(octets).map_err(|why| self.at(*line, &why))? == *negated {
                        at = *end;
                    }
                }
            }
        }
        Ok(None)
    }

    fn at(&self, line: u32, why: &str) -> String {
        format!("{}: {why}", SourceLine::new(Arc::clone(&self.file), line))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

fn close(rules: &mut [Rule], at: usize) {
    let after = rules.len();
    if let Some(Rule::If { end, .. }) = rules.get_mut(at) {
        *end = after;
    }
}

fn rule(text: &str, line: u32, compile: Compile) -> Result<Rule, Wrong> {
    let after_if = text.get(..2).filter(|word| word.eq_ignore_ascii_case("if")).map(|_| &text[2..]);
    let is_if =
        after_if.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_whitespace() || c.is_ascii_punctuation()));
    let pattern = if is_if { after_if.unwrap_or_default().trim_start() } else { text };
    let (negated, pattern) = match pattern.strip_prefix('!') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, pattern),
    };
    let delimiter = pattern.chars().next().filter(|c| !c.is_alphanumeric() && !c.is_whitespace());
    let delimiter = delimiter.ok_or("a pattern must stand between slashes")?;
    let (expression, rest) = delimited(&pattern[delimiter.len_utf8()..], delimiter).ok_or("the pattern has no end")?;
    let flags_end = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
    let regex = compile(&expression, &rest[..flags_end]).map_err(Wrong::Expression)?;
    let value = rest[flags_end..].trim();
    if is_if {
        return Ok(Rule::If { negated, pattern: regex, end: 0, line });
    }
    let value = pieces(value)?;
    let groups = if negated { 0 } else { regex.groups() };
    match value.iter().find(|piece| matches!(piece, Piece::Group(n) if *n > groups)) {
        Some(Piece::Group(n)) => Err(Wrong::Line(format!("the pattern has no group ${n}"))),
        _ => Ok(Rule::Match { negated, pattern: regex, value, line }),
    }
}

/// The text up to an unescaped delimiter, and what follows it.
fn delimited(text: &str, delimiter: char) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                let (_, next) = chars.next()?;
                if next != delimiter {
                    out.push('\\');
                }
                out.push(next);
            }
            c if c == delimiter => return Some((out, &text[at + c.len_utf8()..])),
            c => out.push(c),
        }
    }
    None
}

/// `$1`, `${1}`, `$(1)` and `$$` in a value.
fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        plain.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (number, end) = match after.chars().next() {
            Some('$') => {
                plain.push('$');
                rest = &after[1..];
                continue;
            }
            Some(open @ ('{' | '(')) => {
                let close = after.find(if open == '{' { '}' } else { ')' }).ok_or("`$' without end in the value")?;
                (&after[1..close], close + 1)
            }
            _ => {
                let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        let number =
            number.parse().map_err(|_| "`$' must be followed by a number; write `$$' for a dollar".to_owned())?;
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Group(number));
        rest = &after[end..];
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

fn substituted(pieces: &[Piece], key: &[u8], groups: &Groups) -> String {
    let mut out = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Group(n) => {
                let taken = groups.get(*n).cloned().flatten().and_then(|range| key.get(range));
                out.extend_from_slice(taken.unwrap_or_default());
            }
        }
    }
    // A group of octets may end inside of a character.
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Compared with `postmap -q` of Postfix 3.7.11.
    #[test]
    fn the_first_pattern_that_matches_wins() {
        let text = "/^(.*)@Example\\.com$/ $1-${1}x$(1)$$\n/Case/i sens\n!/foo/ notfoo\nif /foo/\n/bar/ foobar\nendif\n/x(/ bad\n/a/ $2\n\
                    m!^x/y$! slash\n/fo+\\/z/ escaped\n";
        let (table, reports) = RegexpTable::parse(&Arc::from("t"), text);
        assert_eq!(reports.iter().map(|r| r.source.line).collect::<Vec<_>>(), [7, 8, 9]);
        let cases = [
            ("u@EXAMPLE.com", Some(("u-uxu$", 1))),
            ("xCase", Some(("sens", 2))),
            ("xcase", Some(("notfoo", 3))),
            ("foobar", Some(("foobar", 5))),
            ("foo", None),
            ("foo/z", Some(("escaped", 10))),
        ];
        for (key, wanted) in cases {
            let wanted = wanted.map(|(value, line)| (value.to_owned(), line));
            assert_eq!(table.get(key), Ok(wanted), "{key}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "(if|endif|!|/|\\(|\\)|a|\\$1|\\$|[ \\n{}\\\\é*]){0,30}", key in "[a-z]{0,5}") {
            let (table, _) = RegexpTable::parse(&Arc::from("t"), &text);
            let _ = table.get(&key);
        }
    }
}
