//! From the text of main.cf to its entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use mail_types::SourceLine;

use super::Entry;
use crate::lines::{LogicalLine, logical_lines};
use crate::report::{Excerpt, Level, Report};

/// The entries of a main.cf's text; what is wrong with it goes to `reports`. The last value of a name wins, at the place where it stands.
pub fn parse(file: &Arc<str>, text: &str, reports: &mut Vec<Report>) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    for mut line in logical_lines(text) {
        drop_ellipses(file, &mut line, reports);
        if line.text.is_empty() {
            continue;
        }
        if line.indented {
            let hint = "it continues nothing and is ignored, as Postfix does".to_owned();
            reports.push(about(file, &line, Level::Warning, "the first line begins with white space", hint));
            continue;
        }
        match split(&line) {
            Some((name, value_at)) => {
                let value = line.text[value_at..].to_owned();
                let source = SourceLine::new(Arc::clone(file), line.line);
                let name = name.to_owned();
                let entry = Entry { name: name.clone(), value, source, value_at, written: line.pieces };
                if let Some(earlier) = entries.insert(name, entry) {
                    reports.push(overridden(&earlier, line.line));
                }
            }
            None if line.text.starts_with('=') => {
                let hint = "write NAME = VALUE".to_owned();
                reports.push(about(file, &line, Level::Error, "a name is missing before `='", hint));
            }
            None => {
                let word = line.text.split_ascii_whitespace().next().unwrap_or_default();
                let hint = format!("write `{word} = VALUE', or `#' before a comment");
                reports.push(about(file, &line, Level::Error, "`=' is missing", hint));
            }
        }
    }
    entries
}

/// What is said about a value that a later line replaces.
fn overridden(earlier: &Entry, line: u32) -> Report {
    let message = format!("{}: no effect, it is set again", earlier.name);
    earlier.report_name(Level::Note, message, format!("line {line} holds; remove one of them"))
}

/// Where name and value stand.
fn split(line: &LogicalLine) -> Option<(&str, usize)> {
    let equals = line.text.find('=')?;
    let name = line.text[..equals].trim_end();
    let after = &line.text[equals + 1..];
    (!name.is_empty()).then(|| (name, line.text.len() - after.trim_start().len()))
}

/// Takes lines out that consist of dots: where a page of notes leaves out a part of the file, so does its reader.
fn drop_ellipses(file: &Arc<str>, line: &mut LogicalLine, reports: &mut Vec<Report>) {
    let is_dots = |text: &str| matches!(text.trim(), "..." | "....");
    if !line.pieces.iter().any(|piece| is_dots(&piece.text)) {
        return;
    }
    let mut kept = LogicalLine { text: String::new(), pieces: Vec::new(), ..line.clone() };
    for piece in &line.pieces {
        if is_dots(&piece.text) {
            let one = LogicalLine { pieces: vec![piece.clone()], line: piece.line, ..line.clone() };
            let hint = "ignored; it is no part of main.cf".to_owned();
            reports.push(about(file, &one, Level::Warning, "a line of dots", hint));
        } else {
            kept.pieces.push(crate::lines::Piece { at: kept.text.len(), ..piece.clone() });
            kept.text.push_str(&piece.text);
        }
    }
    kept.text.truncate(kept.text.trim_end().len());
    *line = kept;
}

fn about(file: &Arc<str>, line: &LogicalLine, level: Level, message: &str, hint: String) -> Report {
    let text = line.pieces.first().map_or_else(String::new, |piece| piece.text.to_string());
    let start = text.len() - text.trim_start().len();
    let length = text.trim().len();
    Report {
        column: u32::try_from(start + 1).unwrap_or(0),
        excerpt: Some(Box::new(Excerpt { text, start, length })),
        ..Report::new(level, SourceLine::new(Arc::clone(file), line.line), message, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (BTreeMap<String, Entry>, Vec<Report>) {
        let mut reports = Vec::new();
        (parse(&Arc::from("main.cf"), text, &mut reports), reports)
    }

    #[test]
    fn the_last_value_wins_and_a_value_may_be_empty() {
        let (entries, reports) = read("a = 1\nb =\na=2,\n   3\nc = x = y\n");
        assert_eq!(reports.iter().map(|r| (r.level, r.source.line)).collect::<Vec<_>>(), [(Level::Note, 1)]);
        assert_eq!((entries["a"].value.as_str(), entries["a"].source.line), ("2,   3", 3));
        assert_eq!((entries["b"].value.as_str(), entries["c"].value.as_str()), ("", "x = y"));
    }

    #[test]
    fn a_line_of_dots_is_no_mistake() {
        let (entries, reports) = read("...\na = 1\n...\n    ...\nb = 2,\n  ...\n  3\n");
        assert_eq!((entries["a"].value.as_str(), entries["b"].value.as_str()), ("1", "2,  3"));
        assert!(reports.iter().all(|r| r.level == Level::Warning));
        assert_eq!(reports.iter().map(|r| r.source.line).collect::<Vec<_>>(), [1, 3, 4, 6]);
    }

    #[test]
    fn a_line_without_equals_sign_is_shown() {
        let (_, reports) = read("a = 1\nmydestination info.net\n");
        let wanted = "main.cf:2:1: `=' is missing\n  mydestination info.net\n  ^~~~~~~~~~~~~~~~~~~~~~  write `mydestination = VALUE', or `#' before a comment";
        assert_eq!(reports[0].to_string(), wanted);
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "[ a-c=#.,\\n\\t{}$é]{0,80}") {
            let (entries, _) = read(&text);
            for entry in entries.values() {
                proptest::prop_assert!(!entry.name.is_empty());
                let _ = entry.report(Level::Error, "a", String::new(), String::new()).to_string();
            }
        }
    }
}
