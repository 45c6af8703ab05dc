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
    /// `auth_master_user_separator`: what stands between the login name and the master user's; none where nobody is named so.
    pub master_separator: Option<char>,
}

/// Who logs in, after the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Whose password it is.
    pub user: String,
    /// Whom a master user logs in as; none for oneself.
    pub login: Option<String>,
}

/// Why somebody is refused before any database is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Whose password it would be; none where that name itself is refused.
    pub user: Option<String>,
    /// The name that the log shows.
    pub shown: String,
    /// Why, for the log.
    pub why: String,
}

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// A character outside `auth_username_chars`.
    Character(char, String),
    /// Nothing is left of it.
    Empty,
    /// A master user names nobody to log in as.
    EmptyLogin,
    /// Somebody would log in as somebody else, and no master passdb is configured.
    NoMasters,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character(character, name) => {
                let code = u32::from(*character);
                write!(f, "Username character disallowed by auth_username_chars: 0x{code:02x} (username: {name})")
            }
            Self::Empty => write!(f, "Empty username"),
            Self::EmptyLogin => write!(f, "Master user login attempted to use empty login username"),
            Self::NoMasters => write!(f, "Master user login attempted without master passdbs"),
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

    /// Who logs in with these names: `authcid` is the one that the password belongs to, or `login*master`; `authzid` whom that user wants to be, empty
    /// for no more than `authcid` says. Where both name somebody, `authzid` counts.
    ///
    /// # Errors
    /// A name is refused, or there is nobody who may act as others.
    pub fn identify(
        &self,
        (authzid, authcid): (&str, &str),
        service: &str,
        has_masters: bool,
    ) -> Result<Identity, Refused> {
        let (login, name) = match self.master_separator.and_then(|separator| authcid.split_once(separator)) {
            Some((login, master)) => (Some(login), master),
            None => (None, authcid),
        };
        let user = self.apply(name, service).map_err(|error| Refused {
            user: None,
            shown: name.to_owned(),
            why: error.to_string(),
        })?;
        let refused = |why: String| Refused { user: Some(user.clone()), shown: user.clone(), why };
        let mut identity = Identity { user: user.clone(), login: None };
        if let Some(login) = login {
            let other = self.login_name(login, &user, service, has_masters);
            identity.login = other.map_err(|error| refused(error.to_string()))?;
        }
        if !authzid.is_empty() {
            let other = self.login_name(authzid, &user, service, has_masters);
            let other = other.map_err(|error| refused(format!("login user: {error}")))?;
            identity.login = other.or(identity.login);
        }
        Ok(identity)
    }

    /// Whom a master user logs in as; none for themselves. The name is held against the master's before the rules change it, as Dovecot does: `John*john` asks
    /// the master passdbs.
    fn login_name(
        &self,
        login: &str,
        user: &str,
        service: &str,
        has_masters: bool,
    ) -> Result<Option<String>, NameError> {
        match login {
            "" => Err(NameError::EmptyLogin),
            _ if login == user => Ok(None),
            _ if !has_masters => Err(NameError::NoMasters),
            _ => self.apply(login, service).map(Some),
        }
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
            master_separator: None,
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

    fn identified(
        rules: &NameRules,
        authzid: &str,
        authcid: &str,
    ) -> Result<(String, Option<String>), (String, String)> {
        let identity = rules.identify((authzid, authcid), "imap", true);
        identity.map(|identity| (identity.user, identity.login)).map_err(|refused| (refused.shown, refused.why))
    }

    fn with_separator() -> NameRules {
        NameRules { master_separator: Some('*'), ..NameRules::default() }
    }

    // As Dovecot 2.3.19 takes them.
    #[test]
    fn a_name_with_the_separator_is_a_master_and_a_login() {
        let rules = with_separator();
        let cases = [
            ("", "John", "john", None),
            ("", "John*Admin", "admin", Some("john")),
            ("", "admin*admin", "admin", None),
            ("", "Admin*admin", "admin", Some("admin")),
            ("John", "admin", "admin", Some("john")),
            ("admin", "admin", "admin", None),
            ("mary", "john*admin", "admin", Some("mary")),
            ("admin", "john*admin", "admin", Some("john")),
        ];
        for (authzid, authcid, user, login) in cases {
            let expected = (user.to_owned(), login.map(str::to_owned));
            assert_eq!(identified(&rules, authzid, authcid), Ok(expected), "{authzid} {authcid}");
        }
    }

    #[test]
    fn half_a_name_and_wrong_characters_on_either_side_are_nobody() {
        let cases = [
            ("", "*admin", "admin", "Master user login attempted to use empty login username"),
            ("", "john*", "", "Empty username"),
            ("", "*", "", "Empty username"),
            (
                "",
                "john*admin*x",
                "admin*x",
                "Username character disallowed by auth_username_chars: 0x2a (username: admin*x)",
            ),
            (
                "",
                "jo!hn*admin",
                "admin",
                "Username character disallowed by auth_username_chars: 0x21 (username: jo!hn)",
            ),
            (
                "",
                "john*ad!min",
                "ad!min",
                "Username character disallowed by auth_username_chars: 0x21 (username: ad!min)",
            ),
            (
                "john*admin",
                "admin",
                "admin",
                "login user: Username character disallowed by auth_username_chars: 0x2a (username: john*admin)",
            ),
        ];
        for (authzid, authcid, shown, why) in cases {
            assert_eq!(
                identified(&with_separator(), authzid, authcid),
                Err((shown.into(), why.into())),
                "{authzid} {authcid}"
            );
        }
    }

    #[test]
    fn without_separator_or_masters_nobody_is_somebody_else() {
        let error = identified(&NameRules::default(), "", "john*admin").unwrap_err();
        assert!(error.1.starts_with("Username character disallowed"), "{error:?}");
        for (authzid, authcid) in [("", "john*admin"), ("john", "admin")] {
            let refused = with_separator().identify((authzid, authcid), "imap", false).unwrap_err();
            assert!(refused.why.ends_with("Master user login attempted without master passdbs"), "{refused:?}");
        }
        let oneself = with_separator().identify(("admin", "admin*admin"), "imap", false).unwrap();
        assert_eq!(oneself, Identity { user: "admin".into(), login: None });
    }

    #[test]
    fn realm_and_format_are_for_both_names() {
        let rules = NameRules { default_realm: "info.net".into(), ..with_separator() };
        let expected = ("admin@info.net".to_owned(), Some("john@info.net".to_owned()));
        assert_eq!(identified(&rules, "", "john*admin"), Ok(expected));
        let rules = NameRules { format: Template::parse("%Ln").ok(), ..with_separator() };
        assert_eq!(identified(&rules, "", "john@x*admin@y"), Ok(("admin".into(), Some("john".into()))));
        assert!(identified(&rules, "", "@x*admin").is_err() && identified(&rules, "", "john*@y").is_err());
    }

    #[test]
    fn translation_comes_before_the_check() {
        let rules = NameRules { translation: vec![('#', '@'), ('/', '@')], ..NameRules::default() };
        assert_eq!(rules.apply("john#info.net", "imap").unwrap(), "john@info.net");
    }
}
