//! How postconf prints: blanks run together, long lines folded if asked for.

use std::fmt::Write as _;

/// The length that a folded line stays below.
pub const LINE_LIMIT: usize = 80;
/// What a continuation line begins with.
pub const INDENT: &str = "    ";

/// What of a setting is printed, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// `-h`: values without names.
    pub values_only: bool,
    /// `-H`: names without values.
    pub names_only: bool,
    /// `-x`: `$name` expanded.
    pub expanded: bool,
    /// `-f`: long lines folded.
    pub folded: bool,
    /// `-j`: JSON.
    pub json: bool,
}

impl Look {
    /// `name = value`, or the part of it that is asked for.
    #[must_use]
    pub fn setting(&self, name: &str, value: &str) -> String {
        if self.names_only {
            return format!("{name}\n");
        }
        let gap = if value.is_empty() { "" } else { " " };
        let text = if self.values_only { value.to_owned() } else { format!("{name} ={gap}{value}") };
        self.line(&text)
    }

    /// A line of words with one blank between them, folded if asked for.
    #[must_use]
    pub fn line(&self, text: &str) -> String {
        let (mut out, mut length) = (String::new(), 0);
        for word in text.split([' ', '\t', '\r', '\n']).filter(|word| !word.is_empty()) {
            if length == 0 {
            } else if !self.folded || length + word.len() < LINE_LIMIT {
                out.push(' ');
                length += 1;
            } else {
                let _ = write!(out, "\n{INDENT}");
                length = INDENT.len();
            }
            out.push_str(word);
            length += word.len();
        }
        out.push('\n');
        out
    }
}

/// A list of objects as JSON, one to a line.
#[must_use]
pub fn json(objects: &[serde_json::Value]) -> String {
    let lines: Vec<String> = objects.iter().map(|object| format!("  {object}")).collect();
    if lines.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", lines.join(",\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_folded_at_words() {
        let look = Look { folded: true, ..Look::default() };
        let value = "permit_mynetworks,  permit_sasl_authenticated,\treject_unauth_destination, reject";
        let wanted = "smtpd_recipient_restrictions = permit_mynetworks, permit_sasl_authenticated,\n    reject_unauth_destination, reject\n";
        assert_eq!(look.setting("smtpd_recipient_restrictions", value), wanted);
        assert_eq!(Look::default().setting("relayhost", ""), "relayhost =\n");
        let values = Look { values_only: true, ..Look::default() };
        assert_eq!((values.setting("a", "").as_str(), values.setting("a", "b  c").as_str()), ("\n", "b c\n"));
    }
}
