//! `username_filter`: the names that a passdb is used for.

/// `username_filter`: with patterns, one must match; a pattern after `!` must not.
pub(crate) fn filter_allows(patterns: &[String], user: &str) -> bool {
    let excluded =
        patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(|pattern| matches(pattern, user));
    let mut wanted = patterns.iter().filter(|pattern| !pattern.starts_with('!')).peekable();
    !excluded && (wanted.peek().is_none() || wanted.any(|pattern| matches(pattern, user)))
}

/// `*` stands for anything, `?` for one character.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            text.char_indices().map(|(index, _)| index).chain([text.len()]).any(|index| matches(rest, &text[index..]))
        }
        Some(wanted) => {
            let mut characters = text.chars();
            characters.next().is_some_and(|c| wanted == '?' || wanted == c)
                && matches(&pattern[wanted.len_utf8()..], characters.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_choose_and_exclude() {
        let cases: [(&[&str], &str, bool); 7] = [
            (&[], "john", true),
            (&["*@info.net"], "john@info.net", true),
            (&["*@info.net"], "john", false),
            (&["!*@info.net"], "john", true),
            (&["*", "!j?hn"], "john", false),
            (&["a*", "*n"], "john", true),
            (&["j*h*n*"], "john", true),
        ];
        for (patterns, user, expected) in cases {
            let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(filter_allows(&patterns, user), expected, "{patterns:?} {user}");
        }
    }
}
