//! What becomes of a login name before any database sees it.

use std::fmt;

use crate::variables::{Template, Values};

/// The rules of `auth_default_realm`, `auth_username_translation`, `auth_username_chars` and `auth_username_format`.
#[derive(Debug, Clone)]
pub struct NameRules {
    /// Appended as `@realm` to a name without one; empty for none.
    pub default_realm: String,
    /// Pairs of characters: the first is replaced by the second.
    pub translation: Vec<(char, char)>,
    /// The characters that may stand in a name; empty for all.
    pub allowed: String,
    /// The form of the name, `%Lu` by default; none leaves it as it is.
    pub format: Option<Template>,
}

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// A character outside `auth_username_chars`.
    Character(char, String),
    /// Nothing is left of it.
    Empty,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character(character, name) => {
                let code = u32::from(*character);
                write!(f, "Username character disallowed by auth_username_chars: 0x{code:02x} (username: {name})")
            }
            Self::Empty => write!(f, "Empty username"),
        }
    }
}

impl std::error::Error for NameError {}

impl NameRules {
    /// The name that the databases are asked for.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn apply(&self, name: &str, service: &str) -> Result<String, NameError> {
        let mut user = name.to_owned();
        if !self.default_realm.is_empty() && !user.contains('@') {
            user = format!("{user}@{}", self.default_realm);
        }
        let translated = |c| self.translation.iter().find(|(from, _)| *from == c).map_or(c, |(_, to)| *to);
        user = user.chars().map(translated).collect();
        if let Some(bad) = user.chars().find(|c| !self.allowed.is_empty() && !self.allowed.contains(*c)) {
            return Err(NameError::Character(bad, name.to_owned()));
        }
        if let Some(format) = &self.format {
            let values = Values { user: &user, service, ..Values::default() };
            user = format.expand(&values).unwrap_or_default();
        }
        if user.is_empty() { Err(NameError::Empty) } else { Ok(user) }
    }
}

impl Default for NameRules {
    /// Dovecot 2.3.19's defaults.
    fn default() -> Self {
        Self {
            default_realm: String::new(),
            translation: Vec::new(),
            allowed: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@".into(),
            format: Template::parse("%Lu").ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lowered_by_default() {
        assert_eq!(NameRules::default().apply("John@Info.NET", "imap").unwrap(), "john@info.net");
    }

    #[test]
    fn a_realm_is_appended_once() {
        let rules = NameRules { default_realm: "info.net".into(), ..NameRules::default() };
        assert_eq!(rules.apply("john", "imap").unwrap(), "john@info.net");
        assert_eq!(rules.apply("john@other.org", "imap").unwrap(), "john@other.org");
    }

    #[test]
    fn the_domain_can_be_dropped() {
        let rules = NameRules { format: Template::parse("%Ln").ok(), ..NameRules::default() };
        assert_eq!(rules.apply("John@Info.Net", "imap").unwrap(), "john");
        assert_eq!(rules.apply("@info.net", "imap"), Err(NameError::Empty));
    }

    #[test]
    fn other_characters_are_refused_as_dovecot_says_it() {
        let error = NameRules::default().apply("we!rd", "imap").unwrap_err();
        assert_eq!(error.to_string(), "Username character disallowed by auth_username_chars: 0x21 (username: we!rd)");
        let all = NameRules { allowed: String::new(), ..NameRules::default() };
        assert_eq!(all.apply("we!rd", "imap").unwrap(), "we!rd");
    }

    #[test]
    fn translation_comes_before_the_check() {
        let rules = NameRules { translation: vec![('#', '@'), ('/', '@')], ..NameRules::default() };
        assert_eq!(rules.apply("john#info.net", "imap").unwrap(), "john@info.net");
    }
}
