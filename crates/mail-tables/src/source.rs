//! Source texts of `hash:`, `btree:` and `texthash:`, in the form of postmap(1) and of aliases(5).

use std::sync::Arc;

use mail_config::lines::{LogicalLine, logical_lines};
use mail_config::{Level, Report};
use mail_types::SourceLine;

/// One entry of a source text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, in lower case.
    pub key: String,
    /// The value.
    pub value: String,
    /// The line, counted from 1.
    pub line: u32,
}

/// The syntax of a source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// `key whitespace value`.
    Map,
    /// `name: value, value`.
    Aliases,
}

/// Reads a source text; lines that are wrong are left out and reported, the first of equal keys counts, as with postmap.
#[must_use]
pub fn parse_entries(file: &Arc<str>, text: &str, aliases: bool) -> (Vec<Entry>, Vec<Report>) {
    parse_entries_with(file, text, aliases, false)
}

/// The same with keys in the case in which they stand, if `keep_case`.
#[must_use]
pub fn parse_entries_with(file: &Arc<str>, text: &str, aliases: bool, keep_case: bool) -> (Vec<Entry>, Vec<Report>) {
    let (mut entries, mut reports) = parse_lines(file, text, aliases, keep_case);
    let mut seen = std::collections::HashSet::new();
    entries.retain(|entry| {
        let first = seen.insert(entry.key.clone());
        if !first {
            let source = SourceLine::new(Arc::clone(file), entry.line);
            let message = format!("`{}' stands there twice", entry.key);
            reports.push(Report::new(Level::Warning, source, message, "the first line counts"));
        }
        first
    });
    reports.sort_by_key(|report| report.source.line);
    (entries, reports)
}

/// Every entry of a source text, those with equal keys too.
#[must_use]
pub fn parse_lines(file: &Arc<str>, text: &str, aliases: bool, keep_case: bool) -> (Vec<Entry>, Vec<Report>) {
    let syntax = if aliases { Syntax::Aliases } else { Syntax::Map };
    let mut reports = Vec::new();
    let mut entries: Vec<Entry> = Vec::new();
    for line in logical_lines(text) {
        let mut warn = |message: String, hint: &str| {
            let source = SourceLine::new(Arc::clone(file), line.line);
            reports.push(Report::new(Level::Warning, source, message, hint));
        };
        if line.indented {
            warn("the first line begins with white space".into(), "it is ignored");
            continue;
        }
        let Some((key, value)) = split(&line, syntax) else {
            match syntax {
                Syntax::Map => {
                    warn("no value after the key".into(), "write KEY, a blank and VALUE; the line is ignored")
                }
                Syntax::Aliases => warn("no `name: value' pair".into(), "the line is ignored"),
            }
            continue;
        };
        if syntax == Syntax::Map && key.ends_with(':') {
            warn(format!("the key `{key}' ends in a colon"), "is this an alias file?");
        }
        let key = if keep_case { key } else { key.to_lowercase() };
        entries.push(Entry { key, value, line: line.line });
    }
    (entries, reports)
}

fn split(line: &LogicalLine, syntax: Syntax) -> Option<(String, String)> {
    let (key, value) = match syntax {
        Syntax::Map => split_map(&line.text)?,
        Syntax::Aliases => split_alias(&line.text)?,
    };
    let value = value.trim();
    (!key.is_empty() && !value.is_empty()).then(|| (key, value.to_owned()))
}

/// The key ends at the first white space outside quotes; quotes stay part of it.
fn split_map(text: &str) -> Option<(String, &str)> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            c if c.is_ascii_whitespace() && !quoted => return Some((text[..at].to_owned(), &text[at..])),
            _ => {}
        }
    }
    None
}

/// The name ends at the first colon outside quotes; quotes and backslashes are removed from it.
fn split_alias(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut quoted = false;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?.1),
            '"' => quoted = !quoted,
            ':' if !quoted => return Some((name.trim().to_owned(), &text[at + 1..])),
            c => name.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, aliases: bool) -> (Vec<(String, String)>, Vec<u32>) {
        let (entries, reports) = parse_entries(&Arc::from("t"), text, aliases);
        let pairs = entries.into_iter().map(|e| (e.key, e.value)).collect();
        (pairs, reports.iter().map(|r| r.source.line).collect())
    }

    fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
        wanted.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    // Compared with `postmap -s` of Postfix 3.7.11.
    #[test]
    fn a_map_is_read_as_postmap_reads_it() {
        let text = "Key1  value one  \nkey1 second\n\"a b\"@x.org  quoted\nnovalue\n  cont\nali: x\n192.168.2.0/24 OK\nempty   \n";
        let (found, warned) = read(text, false);
        let wanted = [
            ("key1", "value one"),
            ("\"a b\"@x.org", "quoted"),
            ("novalue", "cont"),
            ("ali:", "x"),
            ("192.168.2.0/24", "OK"),
        ];
        assert_eq!(found, pairs(&wanted));
        assert_eq!(warned, [2, 6, 8]);
    }

    #[test]
    fn a_first_line_that_continues_nothing_is_ignored() {
        assert_eq!(read("  lost value\nkey value\n", false), (pairs(&[("key", "value")]), vec![1]));
    }

    // Compared with `postalias -s` of Postfix 3.7.11.
    #[test]
    fn aliases_are_read_as_postalias_reads_them() {
        let text = "root: john\n\"sales team\": a,b\nCharles : x@y , \"|cmd a, b\"\nroot: second\nnocolon x\nempty:\n\"a\\\"b\": c\nx y: d\n: e\n";
        let (found, warned) = read(text, true);
        let wanted =
            [("root", "john"), ("sales team", "a,b"), ("charles", "x@y , \"|cmd a, b\""), ("a\"b", "c"), ("x y", "d")];
        assert_eq!(found, pairs(&wanted));
        assert_eq!(warned, [4, 5, 6, 9]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "[a-cA-C:@\"\\\\ \\n\\t#é,]{0,80}") {
            for aliases in [false, true] {
                let (entries, _) = parse_entries(&Arc::from("t"), &text, aliases);
                for entry in entries {
                    proptest::prop_assert!(!entry.key.is_empty() && !entry.value.is_empty() && entry.line > 0);
                }
            }
        }
    }
}
