//! `%` variables of dovecot.conf: `%u`, `%Ln`, `%2.256Nu`, `%{user}`, and 2.4's `%{user | lower}` ([`pipeline`]).
//!
//! A text is parsed once; what is not built is an error then, at start, and never an empty place in somebody's path.

use std::fmt;
use std::net::IpAddr;

use crate::schemes::digest::md5;
use pipeline::Pipeline;

mod pipeline;

/// What the variables stand for. A name that comes from a client has passed `auth_username_chars` before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Values<'a> {
    /// The user name.
    pub user: &'a str,
    /// Whom a master user wants to be, while it is the master user's password that is asked for.
    pub login_user: Option<&'a str>,
    /// The master user who has logged in as the user.
    pub master_user: Option<&'a str>,
    /// `imap`, `pop3`, `smtp`, `lmtp`.
    pub service: &'a str,
    /// The home directory, once it is known.
    pub home: Option<&'a str>,
    /// Our address.
    pub local: Option<IpAddr>,
    /// The name that the client asked for in its TLS handshake.
    pub local_name: Option<&'a str>,
    /// The peer's address.
    pub remote: Option<IpAddr>,
    /// The session's name.
    pub session: &'a str,
    /// The SASL mechanism.
    pub mechanism: &'a str,
}

impl Values<'_> {
    /// Whose password it was: the master user's, or the user's own.
    fn auth_user(&self) -> &str {
        self.master_user.unwrap_or(self.user)
    }

    /// What clients give to a path that holds variables must stay one name in it.
    #[must_use]
    pub(crate) fn are_harmless_in_path(&self) -> bool {
        [Some(self.user), self.login_user, self.master_user].into_iter().flatten().all(crate::plan::harmless_in_path)
    }
}

/// A text with variables, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// Why a text is refused, or cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariableError {
    /// No such variable or modifier is built.
    Unknown(String),
    /// The text ends inside a variable.
    Unfinished,
    /// The variable has no value here, such as `%h` for a user without a home directory.
    NoValue(&'static str),
    /// The setting could not be read.
    Refused(String),
}

impl fmt::Display for VariableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "unknown or unsupported variable %{name}"),
            Self::Unfinished => write!(f, "variable without an end"),
            Self::Refused(why) => f.write_str(why),
            Self::NoValue(name) => write!(f, "{name} is not set for this user"),
        }
    }
}

impl std::error::Error for VariableError {}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Refused(String),
    Variable { name: Name, filters: Vec<Filter>, offset: i32, width: usize },
    Pipeline(Pipeline),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    User,
    Username,
    Domain,
    /// Whose password it was: the master user, or the user.
    AuthUser,
    AuthUsername,
    AuthDomain,
    LoginUser,
    LoginUsername,
    LoginDomain,
    MasterUser,
    Service,
    Home,
    Local,
    Remote,
    Sni,
    Session,
    Mechanism,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    Lower,
    Upper,
    Reverse,
    Trim,
    Md5,
    /// `N`: a number made from MD5, modulo the width.
    Hash,
}

impl Template {
    /// Parses a text.
    ///
    /// # Errors
    /// A variable or modifier that is not built, or a text that ends inside one.
    pub fn parse(text: &str) -> Result<Self, VariableError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            push_text(&mut parts, before);
            rest = match after.strip_prefix('%') {
                Some(after) => {
                    push_text(&mut parts, "%");
                    after
                }
                None => {
                    let (part, after) = variable(after)?;
                    parts.push(part);
                    after
                }
            };
        }
        push_text(&mut parts, rest);
        Ok(Self { parts })
    }

    /// Parses a text of 2.4, where `%{...}` alone is a variable, `%%{` is `%{`, and any other `%` is one.
    ///
    /// # Errors
    /// A variable or filter that is not built, wrong arguments, or a text that ends inside one.
    pub fn parse_new(text: &str) -> Result<Self, VariableError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("%{") {
            push_text(&mut parts, before);
            rest = if before.ends_with('%') {
                push_text(&mut parts, "{");
                after
            } else {
                let (pipeline, after) = pipeline::read(after)?;
                parts.push(Part::Pipeline(pipeline));
                after
            };
        }
        push_text(&mut parts, rest);
        Ok(Self { parts })
    }

    /// A text that cannot be expanded, for a setting that could not be read.
    #[must_use]
    pub fn refused(error: &VariableError) -> Self {
        Self { parts: vec![Part::Refused(error.to_string())] }
    }

    /// The text with the values in the variables' places.
    ///
    /// # Errors
    /// A variable without a value.
    pub fn expand(&self, values: &Values<'_>) -> Result<String, VariableError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(fixed) => text.push_str(fixed),
                Part::Refused(why) => return Err(VariableError::Refused(why.clone())),
                Part::Pipeline(pipeline) => text.push_str(&pipeline.expand(values)?),
                Part::Variable { name, filters, offset, width } => {
                    text.push_str(&cut(
                        filtered(name.value(values)?, filters, *offset, *width),
                        filters,
                        *offset,
                        *width,
                    ));
                }
            }
        }
        Ok(text)
    }

    /// Whether some values make this text of the template, each variable standing for something without `/` that is not `.` or `..`.
    #[must_use]
    pub fn could_be(&self, text: &str) -> bool {
        fits(&self.parts, text) && !text.split('/').any(|name| name == "." || name == "..")
    }
}

/// Time in proportion to parts times text: the places that the parts so far may end at are moved along the text.
fn fits(parts: &[Part], text: &str) -> bool {
    let text = text.as_bytes();
    let mut ends = vec![false; text.len() + 1];
    ends[0] = true;
    for part in parts {
        ends = match part {
            Part::Refused(_) => return false,
            Part::Text(fixed) => after_text(&ends, text, fixed.as_bytes()),
            Part::Variable { .. } | Part::Pipeline(_) => after_variable(ends, text),
        };
    }
    ends[text.len()]
}

fn after_text(ends: &[bool], text: &[u8], fixed: &[u8]) -> Vec<bool> {
    let mut after = vec![false; ends.len()];
    for at in (0..ends.len()).filter(|&at| ends[at] && text[at..].starts_with(fixed)) {
        after[at + fixed.len()] = true;
    }
    after
}

/// A variable stands for any octets but `/`.
fn after_variable(mut ends: Vec<bool>, text: &[u8]) -> Vec<bool> {
    for at in 1..ends.len() {
        ends[at] |= ends[at - 1] && text[at - 1] != b'/';
    }
    ends
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(last)) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

/// What follows a `%`: `[offset][.width]modifiers letter`, or `{name}`, or `{name | filter | filter}`.
fn variable(text: &str) -> Result<(Part, &str), VariableError> {
    if let Some(long) = text.strip_prefix('{') {
        // 2.4's filters are understood in the files of 2.3 too.
        let (pipeline, after) = pipeline::read(long)?;
        return Ok((Part::Pipeline(pipeline), after));
    }
    let (numbers, rest) = split_at_first(text, |c| !(c.is_ascii_digit() || c == '.' || c == '-'));
    let (offset, width) = match numbers.split_once('.') {
        Some((offset, width)) => (offset.parse().unwrap_or(0), width.parse().unwrap_or(0)),
        None => (0, numbers.parse().unwrap_or(0)),
    };
    let mut filters = Vec::new();
    for (index, letter) in rest.char_indices() {
        let after = &rest[index + letter.len_utf8()..];
        match letter {
            'L' => filters.push(Filter::Lower),
            'U' => filters.push(Filter::Upper),
            'R' => filters.push(Filter::Reverse),
            'T' => filters.push(Filter::Trim),
            'M' => filters.push(Filter::Md5),
            'N' => filters.push(Filter::Hash),
            '{' => {
                let (inside, after) = after.split_once('}').ok_or(VariableError::Unfinished)?;
                let name = Name::long(inside).ok_or_else(|| VariableError::Unknown(inside.to_owned()))?;
                return Ok((Part::Variable { name, filters, offset, width }, after));
            }
            _ => {
                let name = Name::short(letter).ok_or_else(|| VariableError::Unknown(letter.to_string()))?;
                return Ok((Part::Variable { name, filters, offset, width }, after));
            }
        }
    }
    Err(VariableError::Unfinished)
}

fn split_at_first(text: &str, stop: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(stop).unwrap_or(text.len()))
}

impl Name {
    fn short(letter: char) -> Option<Self> {
        Some(match letter {
            'u' => Self::User,
            'n' => Self::Username,
            'd' => Self::Domain,
            's' => Self::Service,
            'h' => Self::Home,
            'l' => Self::Local,
            'r' => Self::Remote,
            'm' => Self::Mechanism,
            _ => return None,
        })
    }

    fn long(name: &str) -> Option<Self> {
        Some(match name {
            "user" => Self::User,
            "username" => Self::Username,
            "domain" => Self::Domain,
            "auth_user" => Self::AuthUser,
            "auth_username" => Self::AuthUsername,
            "auth_domain" => Self::AuthDomain,
            "login_user" => Self::LoginUser,
            "login_username" => Self::LoginUsername,
            "login_domain" => Self::LoginDomain,
            "master_user" => Self::MasterUser,
            "service" | "protocol" => Self::Service,
            "home" => Self::Home,
            "lip" | "local_ip" => Self::Local,
            "rip" | "remote_ip" => Self::Remote,
            "local_name" => Self::Sni,
            "session" => Self::Session,
            "mech" | "mechanism" => Self::Mechanism,
            _ => return None,
        })
    }

    fn value(self, values: &Values<'_>) -> Result<String, VariableError> {
        let owned = |text: Option<&str>, name| text.map(str::to_owned).ok_or(VariableError::NoValue(name));
        let address = |address: Option<IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
        Ok(match self {
            Self::User => values.user.to_owned(),
            Self::Username => username(values.user).to_owned(),
            Self::Domain => domain(values.user).to_owned(),
            Self::AuthUser => values.auth_user().to_owned(),
            Self::AuthUsername => username(values.auth_user()).to_owned(),
            Self::AuthDomain => domain(values.auth_user()).to_owned(),
            Self::LoginUser => values.login_user.unwrap_or_default().to_owned(),
            Self::LoginUsername => username(values.login_user.unwrap_or_default()).to_owned(),
            Self::LoginDomain => domain(values.login_user.unwrap_or_default()).to_owned(),
            Self::MasterUser => values.master_user.unwrap_or_default().to_owned(),
            Self::Service => values.service.to_owned(),
            Self::Home => owned(values.home, "home directory")?,
            Self::Local => address(values.local),
            Self::Remote => address(values.remote),
            Self::Sni => values.local_name.unwrap_or_default().to_owned(),
            Self::Session => values.session.to_owned(),
            Self::Mechanism => values.mechanism.to_owned(),
        })
    }
}

/// What stands before the first `@`: `%n`.
#[must_use]
pub fn username(user: &str) -> &str {
    user.split_once('@').map_or(user, |(name, _)| name)
}

/// What stands after the first `@`: `%d`.
#[must_use]
pub fn domain(user: &str) -> &str {
    user.split_once('@').map_or("", |(_, domain)| domain)
}

fn filtered(value: String, filters: &[Filter], offset: i32, width: usize) -> String {
    filters.iter().fold(value, |value, filter| match filter {
        Filter::Lower => value.to_ascii_lowercase(),
        Filter::Upper => value.to_ascii_uppercase(),
        Filter::Reverse => value.chars().rev().collect(),
        Filter::Trim => value.trim().to_owned(),
        Filter::Md5 => md5(value.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect(),
        Filter::Hash => hash(&value, offset, width),
    })
}

/// The first 64 bits of MD5, modulo the width; the low 32 of them in hexadecimal, at least as long as the offset says.
fn hash(value: &str, offset: i32, width: usize) -> String {
    let number = md5(value.as_bytes()).iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let number = if width == 0 { number } else { number % width as u64 };
    format!("{:0length$x}", number & 0xFFFF_FFFF, length = usize::try_from(offset).unwrap_or(0).min(16))
}

/// The part from the offset (from the end, if negative) of the width (all, if 0). A hash has used both numbers already.
fn cut(value: String, filters: &[Filter], offset: i32, width: usize) -> String {
    if filters.contains(&Filter::Hash) || (offset == 0 && width == 0) {
        return value;
    }
    let length = value.chars().count();
    let distance = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
    let skip = if offset < 0 { length.saturating_sub(distance) } else { distance };
    value.chars().skip(skip).take(if width == 0 { usize::MAX } else { width }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, VariableError> {
        let values = Values {
            user: "John.Doe@Info.Net",
            service: "imap",
            home: Some("/srv/john"),
            local: "127.0.0.1".parse().ok(),
            remote: "192.0.2.1".parse().ok(),
            ..Values::default()
        };
        Template::parse(text)?.expand(&values)
    }

    // The values were compared with `doveadm user` of Dovecot 2.3.19 on a static userdb.
    #[test]
    fn variables_have_values() {
        let cases = [
            ("maildir:~/Maildir", "maildir:~/Maildir"),
            ("%u", "John.Doe@Info.Net"),
            ("/srv/%Ld/%Ln", "/srv/info.net/john.doe"),
            ("%Uu", "JOHN.DOE@INFO.NET"),
            ("%s %h %r %l", "imap /srv/john 192.0.2.1 127.0.0.1"),
            ("%{user}|%{username}|%{domain}|%{protocol}", "John.Doe@Info.Net|John.Doe|Info.Net|imap"),
            ("%{user | lower}", "john.doe@info.net"),
            ("%{user|username|upper}", "JOHN.DOE"),
            ("%1n", "J"),
            ("%1.1n/%0.2Ln", "o/jo"),
            ("%L{domain}", "info.net"),
            ("100%%", "100%"),
            ("%Rn", "eoD.nhoJ"),
            ("%2Mn", "7e"),
            ("%-3.3n", "Doe"),
            ("%2.256Nu %4.256Nn %.16Nu %2Nu %Nu", "10 00e5 0 0 44684410"),
            ("%Mn", "7ecb9bba8130abe56cfd9a8430ca969c"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_master_user_and_whom_they_become_have_names_of_their_own() {
        let all = "%{user} %{auth_user} %{auth_username} %{auth_domain} %{login_user} %{login_username} %{login_domain} %{master_user}";
        let expand = |values: Values<'_>| Template::parse(all).unwrap().expand(&values).unwrap();
        let user = "john@info.net";
        assert_eq!(expand(Values { user, ..Values::default() }), "john@info.net john@info.net john info.net    ");
        let before = Values { user: "admin@x.org", login_user: Some(user), ..Values::default() };
        assert_eq!(expand(before), "admin@x.org admin@x.org admin x.org john@info.net john info.net ");
        let after = Values { user, master_user: Some("admin@x.org"), ..Values::default() };
        assert_eq!(expand(after), "john@info.net admin@x.org admin x.org    admin@x.org");
    }

    #[test]
    fn what_is_not_built_is_refused_when_it_is_read() {
        for text in ["%z", "%{env:X}", "%{if;a;b}", "%{user | sha1024}", "%Hu", "%E{user"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        assert_eq!(Template::parse("100%"), Err(VariableError::Unfinished));
        assert_eq!(Template::parse("%{user"), Err(VariableError::Unfinished));
    }

    #[test]
    fn no_home_is_no_empty_place_in_a_path() {
        let template = Template::parse("mbox:%h/mail").unwrap();
        assert_eq!(template.expand(&Values::default()), Err(VariableError::NoValue("home directory")));
    }

    #[test]
    fn a_template_knows_what_it_could_become() {
        let template = Template::parse("/etc/mail/%d/passwd").unwrap();
        assert!(template.could_be("/etc/mail/info.net/passwd"));
        for path in ["/etc/mail/../passwd", "/etc/mail/a/b/passwd", "/etc/mail/info.net/passwd2", "/etc/shadow", ""] {
            assert!(!template.could_be(path), "{path}");
        }
        assert!(Template::parse("/etc/users").unwrap().could_be("/etc/users"));
    }

    // R12
    #[test]
    fn many_variables_cost_no_more_than_their_number_times_the_text() {
        let template = Template::parse(&"%u".repeat(40)).unwrap();
        assert!(template.could_be(&"a".repeat(4000)));
        let template = Template::parse(&format!("{}/end", "%u".repeat(40))).unwrap();
        assert!(!template.could_be(&"a".repeat(4000)));
    }

    // CVE-2017-2669: what a variable's value holds is not expanded again.
    #[test]
    fn a_value_is_never_expanded_again() {
        let values = Values { user: "%{home}", ..Values::default() };
        assert_eq!(Template::parse("/srv/%u").unwrap().expand(&values).unwrap(), "/srv/%{home}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(%|[\\PC]|[0-9.{}LMNu-]){0,40}", user in "\\PC{0,12}") {
            if let Ok(template) = Template::parse(&text) {
                let _ = template.expand(&Values { user: &user, ..Values::default() });
            }
        }
    }
}
