//! `-d` and `-i`: entries taken out of a table and put into it. The table is its source text, so that is what changes; all else in it, comments
//! included, stays as it is.

use std::sync::Arc;

use mail_tables::parse_entries;

/// An entry to be added, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    key: String,
    line: String,
}

/// Reads the entries of standard input; lines that are none are complained about with `warn`.
pub fn additions(input: &str, aliases: bool, warn: &mut dyn FnMut(String)) -> Vec<Addition> {
    let mut added: Vec<Addition> = Vec::new();
    for group in groups(input) {
        match key_of(group, aliases) {
            Some(key) => added.push(Addition { key, line: format!("{}\n", group.trim_end()) }),
            None if is_note(group) => {}
            None if aliases => warn(format!("expected format: name: value: {}", group.trim_end())),
            None => warn(format!("expected format: key whitespace value: {}", group.trim_end())),
        }
    }
    added
}

/// The text without the entries of these keys; none if it has none of them.
#[must_use]
pub fn without(text: &str, aliases: bool, keys: &[String]) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut found = false;
    for group in groups(text) {
        let key = key_of(group, aliases);
        if key.is_some_and(|key| keys.iter().any(|wanted| wanted.to_lowercase() == key)) {
            found = true;
            // Comments between the lines of an entry are not the entry's.
            group.split_inclusive('\n').filter(|line| is_note(line)).for_each(|line| out.push_str(line));
        } else {
            out.push_str(group);
        }
    }
    found.then_some(out)
}

/// The text with these entries at its end. One whose key is there already replaces it if `replace`, else it is left out and complained about.
#[must_use]
pub fn with(text: &str, aliases: bool, added: Vec<Addition>, replace: bool, warn: &mut dyn FnMut(String)) -> String {
    let mut out = text.to_owned();
    for addition in added {
        let there = groups(&out).into_iter().any(|group| key_of(group, aliases).as_ref() == Some(&addition.key));
        if there && !replace {
            warn(format!("duplicate entry: \"{}\"", addition.key));
            continue;
        }
        if there && let Some(rest) = without(&out, aliases, std::slice::from_ref(&addition.key)) {
            out = rest;
        }
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(&addition.line);
    }
    out
}

/// The text in pieces: an entry with its continuation lines and what stands between them, or a comment or empty line before an entry.
fn groups(text: &str) -> Vec<&str> {
    let mut groups = Vec::new();
    let (mut begin, mut at, mut in_entry) = (0, 0, false);
    for line in text.split_inclusive('\n') {
        let continues = in_entry && (is_note(line) || line.starts_with([' ', '\t']));
        if !continues {
            if at > begin {
                groups.push(&text[begin..at]);
            }
            begin = at;
            in_entry = !is_note(line) && !line.starts_with([' ', '\t']);
        }
        at += line.len();
    }
    if at > begin {
        groups.push(&text[begin..at]);
    }
    groups
}

fn is_note(line: &str) -> bool {
    line.trim().is_empty() || line.trim_start().starts_with('#')
}

fn key_of(group: &str, aliases: bool) -> Option<String> {
    let (entries, _) = parse_entries(&Arc::from(""), group, aliases);
    entries.into_iter().next().map(|entry| entry.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# head\nA 1\nb 2,\n  # inner\n  3\n\n# tail\nc 4\nb 5";

    fn added(text: &str, input: &str, replace: bool) -> (String, Vec<String>) {
        let mut said = Vec::new();
        let new = additions(input, false, &mut |text| said.push(text));
        let text = with(text, false, new, replace, &mut |text| said.push(text));
        (text, said)
    }

    #[test]
    fn an_entry_goes_with_all_its_lines_and_nothing_else() {
        let gone = |keys: &[&str]| without(TABLE, false, &keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>());
        assert_eq!(gone(&["a"]).as_deref(), Some("# head\nb 2,\n  # inner\n  3\n\n# tail\nc 4\nb 5"));
        assert_eq!(gone(&["B"]).as_deref(), Some("# head\nA 1\n  # inner\n\n# tail\nc 4\n"));
        assert_eq!(gone(&["z"]), None);
        assert_eq!(without("root: john\nsales: a,\n b\n", true, &["sales".into()]).as_deref(), Some("root: john\n"));
    }

    #[test]
    fn entries_come_to_the_end_and_replace_only_when_asked() {
        assert_eq!(added("a 1", "d 4\n", false), ("a 1\nd 4\n".to_owned(), vec![]));
        assert_eq!(added("a 1\n", "A 2\n", false), ("a 1\n".to_owned(), vec!["duplicate entry: \"a\"".to_owned()]));
        assert_eq!(added("a 1\nb 2\n", "a 9\n", true), ("b 2\na 9\n".to_owned(), vec![]));
        let (text, said) = added("", "# note\nx\ny 1\n", false);
        assert_eq!((text.as_str(), said.len()), ("y 1\n", 1), "{said:?}");
    }
}
