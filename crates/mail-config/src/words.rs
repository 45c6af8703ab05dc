//! Words of a value: separated by commas and white space, with `{...}` kept together.

use std::fmt;

/// A brace without its partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unbalanced;

impl fmt::Display for Unbalanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`}' is missing")
    }
}

impl std::error::Error for Unbalanced {}

/// Splits at commas and white space outside braces.
///
/// # Errors
/// [`Unbalanced`] if a `{` is not closed.
pub fn split_words(text: &str) -> Result<Vec<String>, Unbalanced> {
    split_at(text, |c| c == ',' || c.is_ascii_whitespace())
}

/// Splits at white space outside braces, as master.cf does.
///
/// # Errors
/// [`Unbalanced`] if a `{` is not closed.
pub fn split_blanks(text: &str) -> Result<Vec<String>, Unbalanced> {
    split_at(text, |c| c.is_ascii_whitespace())
}

/// Splits at commas outside braces, without white space around the parts.
///
/// # Errors
/// [`Unbalanced`] if a `{` is not closed.
pub fn split_commas(text: &str) -> Result<Vec<String>, Unbalanced> {
    Ok(split_at(text, |c| c == ',')?.iter().map(|part| part.trim().to_owned()).filter(|p| !p.is_empty()).collect())
}

fn split_at(text: &str, separates: fn(char) -> bool) -> Result<Vec<String>, Unbalanced> {
    let mut words = Vec::new();
    let (mut word, mut depth) = (String::new(), 0usize);
    for c in text.chars() {
        if depth == 0 && separates(c) {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        depth = match c {
            '{' => depth + 1,
            '}' => depth.saturating_sub(1),
            _ => depth,
        };
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    if depth == 0 { Ok(words) } else { Err(Unbalanced) }
}

/// The inside of a word in braces, without white space at its ends; nothing if it has none.
#[must_use]
pub fn unbraced(word: &str) -> Option<&str> {
    word.strip_prefix('{')?.strip_suffix('}').map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_keep_words_together() {
        let words = split_words("a, b\tc,,{ d, e {f} } inline:{ x = y, z=1 }").expect("balanced");
        assert_eq!(words, ["a", "b", "c", "{ d, e {f} }", "inline:{ x = y, z=1 }"]);
        assert_eq!(split_words("a {b"), Err(Unbalanced));
        assert_eq!(unbraced("{ d, e }"), Some("d, e"));
    }
}
