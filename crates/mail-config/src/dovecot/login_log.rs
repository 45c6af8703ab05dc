//! `login_log_format` and `login_log_format_elements`: how a login is written down.

use super::kinds::Kind;

/// What a login line can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginFact {
    /// The user, as authd names it.
    User,
    /// What stands before the `@`.
    Username,
    /// What stands behind it.
    Domain,
    /// Whose password it was: the master user, or the user.
    AuthUser,
    /// What stands before its `@`.
    AuthUsername,
    /// What stands behind it.
    AuthDomain,
    /// `imap`, `pop3`.
    Protocol,
    /// The SASL mechanism.
    Mechanism,
    /// The client's address.
    RemoteAddress,
    /// Our address.
    LocalAddress,
    /// The client's port.
    RemotePort,
    /// Our port.
    LocalPort,
    /// The session process.
    MailPid,
    /// `TLS`, `secured` or nothing.
    Secured,
    /// TLS version and cipher.
    Security,
    /// The session's name.
    Session,
    /// The name that the client asked for in its TLS handshake.
    LocalName,
    /// The process that writes the line.
    Pid,
}

/// A piece of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text as it stands.
    Text(String),
    /// A fact; in the case that a modifier asks for.
    Fact(LoginFact, Case),
    /// A variable that nobody knows.
    Unknown(String),
}

/// The letters of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// As they are.
    Same,
    /// Small.
    Lower,
    /// Capital.
    Upper,
}

/// One element of `login_log_format_elements`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginElement(pub Vec<Piece>);

impl LoginElement {
    fn read(word: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = word;
        while let Some((before, after)) = rest.split_once('%') {
            push(&mut pieces, before);
            let (piece, after) = variable(after);
            pieces.push(piece);
            rest = after;
        }
        push(&mut pieces, rest);
        Self(pieces)
    }

    /// The element with its facts; nothing if it has none to tell. The user is told even where there was none, as Dovecot does.
    #[must_use]
    pub fn text(&self, fact: &dyn Fn(LoginFact) -> String) -> Option<String> {
        let (mut text, mut told) = (String::new(), false);
        for piece in &self.0 {
            match piece {
                Piece::Text(fixed) => text.push_str(fixed),
                Piece::Unknown(_) => return None,
                Piece::Fact(name, case) => {
                    let value = fact(*name);
                    told |= !value.is_empty() || matches!(name, LoginFact::User | LoginFact::Username);
                    text.push_str(&match case {
                        Case::Same => value,
                        Case::Lower => value.to_ascii_lowercase(),
                        Case::Upper => value.to_ascii_uppercase(),
                    });
                }
            }
        }
        told.then_some(text)
    }
}

fn push(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// What follows a `%`: `u`, `Lu`, `{user}`, or another `%`.
fn variable(text: &str) -> (Piece, &str) {
    let (case, rest) = match text.chars().next() {
        Some('%') => return (Piece::Text("%".to_owned()), &text[1..]),
        Some('L') => (Case::Lower, &text[1..]),
        Some('U') => (Case::Upper, &text[1..]),
        _ => (Case::Same, text),
    };
    let (name, after) = match rest.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
        Some(parts) => parts,
        None => rest.split_at(rest.chars().next().map_or(0, char::len_utf8)),
    };
    let fact = match name.trim() {
        "u" | "user" => LoginFact::User,
        "n" | "username" => LoginFact::Username,
        "d" | "domain" => LoginFact::Domain,
        "auth_user" | "orig_user" | "original_user" => LoginFact::AuthUser,
        "auth_username" | "orig_username" | "original_username" => LoginFact::AuthUsername,
        "auth_domain" | "orig_domain" | "original_domain" => LoginFact::AuthDomain,
        "s" | "service" | "protocol" => LoginFact::Protocol,
        "m" | "mech" | "mechanism" => LoginFact::Mechanism,
        "r" | "rip" | "real_rip" | "remote_ip" | "real_remote_ip" => LoginFact::RemoteAddress,
        "l" | "lip" | "real_lip" | "local_ip" | "real_local_ip" => LoginFact::LocalAddress,
        "b" | "rport" | "real_rport" | "remote_port" | "real_remote_port" => LoginFact::RemotePort,
        "a" | "lport" | "real_lport" | "local_port" | "real_local_port" => LoginFact::LocalPort,
        "e" | "mail_pid" => LoginFact::MailPid,
        "c" | "secured" => LoginFact::Secured,
        "k" | "ssl_security" => LoginFact::Security,
        "session" => LoginFact::Session,
        "local_name" => LoginFact::LocalName,
        "p" | "pid" => LoginFact::Pid,
        _ => return (Piece::Unknown(name.to_owned()), after),
    };
    (Piece::Fact(fact, case), after)
}

/// `login_log_format_elements`: elements separated by blanks.
pub struct LoginElements;

impl Kind for LoginElements {
    type Value = Vec<LoginElement>;
    const NAME: &'static str = "elements";

    fn parse(text: &str) -> Result<Vec<LoginElement>, (String, String)> {
        Ok(elements(text).into_iter().map(|word| LoginElement::read(&word)).collect())
    }
}

/// Words at blanks; a blank within `%{ }` belongs to its variable.
fn elements(text: &str) -> Vec<String> {
    let (mut words, mut word, mut inside) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        inside = match c {
            '{' => word.ends_with(['%', 'L', 'U']),
            '}' => false,
            _ => inside,
        };
        match c {
            ' ' if !inside => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// A login line: `login_log_format` around what happened (`%$`, 2.4: `%{message}`) and the elements (`%s`, 2.4: `%{elements}`).
#[must_use]
pub fn login_line(format: &str, message: &str, elements: &str) -> String {
    let mut line = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        line.push_str(before);
        let known = [("$", message), ("{message}", message), ("s", elements), ("{elements}", elements), ("%", "%")];
        match known.iter().find_map(|(name, value)| Some((after.strip_prefix(name)?, value))) {
            Some((after, value)) => {
                line.push_str(value);
                rest = after;
            }
            None => {
                line.push('%');
                rest = after;
            }
        }
    }
    line + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(elements: &str, user: &str) -> String {
        let fact = |fact| match fact {
            LoginFact::User | LoginFact::Username => user.to_owned(),
            LoginFact::Mechanism if !user.is_empty() => "PLAIN".to_owned(),
            LoginFact::RemoteAddress => "127.0.0.1".to_owned(),
            LoginFact::Secured => "TLS".to_owned(),
            LoginFact::Session => "ABC".to_owned(),
            _ => String::new(),
        };
        let elements = LoginElements::parse(elements).expect("always");
        elements.iter().filter_map(|element| element.text(&fact)).collect::<Vec<_>>().join(", ")
    }

    // Compared with the log of Dovecot 2.3.19.
    #[test]
    fn elements_without_anything_to_tell_are_left_out() {
        let elements = "u=<%u> n=%n d=%d static m=%m r=%r %c ln=%{local_name} x=%{nosuch} L=%Lm q=<%{session}> U=%U{user} two=%r/%{local_name}";
        assert_eq!(
            told(elements, "john"),
            "u=<john>, n=john, m=PLAIN, r=127.0.0.1, TLS, L=plain, q=<ABC>, U=JOHN, two=127.0.0.1/"
        );
        assert_eq!(told(elements, ""), "u=<>, n=, r=127.0.0.1, TLS, q=<ABC>, U=, two=127.0.0.1/");
        assert_eq!(told("user=<%{user}> %{ remote_ip } 100%% %", "john"), "user=<john>, 127.0.0.1");
    }

    #[test]
    fn a_format_stands_around_message_and_elements() {
        assert_eq!(login_line("%$: %s", "Login", "user=<john>"), "Login: user=<john>");
        assert_eq!(login_line("%{elements} -- %{message} 100%%%x%", "Login", "u"), "u -- Login 100%%x%");
    }
}
