//! SASL PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login): machines that turn responses into a name and a password.

use std::fmt;

use mail_types::Octets;

/// The mechanisms that are built, as they are announced.
pub const MECHANISMS: [&str; 2] = ["PLAIN", "LOGIN"];

/// The longest name and the longest password taken, in octets; longer ones would only cost time.
const MAX_FIELD: usize = 1024;

/// One exchange, from the mechanism's name to the credentials.
#[derive(Debug)]
pub enum Exchange {
    /// Waits for the one message of PLAIN.
    Plain,
    /// Waits for LOGIN's name.
    LoginUser,
    /// Waits for LOGIN's password.
    LoginPassword {
        /// The name that came first.
        user: String,
    },
    /// Credentials or an error have been given; nothing more is taken.
    Over,
}

/// What comes of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Send this challenge and give the answer to [`Exchange::respond`].
    Challenge(&'static [u8]),
    /// The client has said everything.
    Credentials(Credentials),
    /// This is no exchange of the mechanism; the text is for the log.
    Invalid(&'static str),
}

/// A name and a password in clear. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Whom PLAIN's client wants to be (authorization identity); empty for the user that the password belongs to.
    pub authzid: String,
    /// The name as the client sent it.
    pub user: String,
    /// The password.
    pub password: Octets,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown.field("authzid", &self.authzid).field("user", &self.user).finish_non_exhaustive()
    }
}

impl Exchange {
    /// An exchange of the mechanism, by its name in upper case; none if it is not built.
    #[must_use]
    pub fn new(mechanism: &str) -> Option<Self> {
        match mechanism {
            "PLAIN" => Some(Self::Plain),
            "LOGIN" => Some(Self::LoginUser),
            _ => None,
        }
    }

    /// Begins, with the client's initial response if it sent one. An empty one (`=`) is a message, and PLAIN has no empty message.
    pub fn begin(&mut self, initial: Option<&[u8]>) -> Progress {
        match (&self, initial) {
            (Self::Plain, None) => Progress::Challenge(b""),
            (Self::LoginUser, None | Some(b"")) => Progress::Challenge(b"Username:"),
            (_, Some(response)) => self.respond(response),
            (_, None) => Progress::Invalid("exchange is over"),
        }
    }

    /// Takes the client's next response.
    pub fn respond(&mut self, response: &[u8]) -> Progress {
        match std::mem::replace(self, Self::Over) {
            Self::Plain => plain(response),
            Self::LoginUser => match name(response) {
                Ok(user) => {
                    *self = Self::LoginPassword { user };
                    Progress::Challenge(b"Password:")
                }
                Err(text) => Progress::Invalid(text),
            },
            Self::LoginPassword { user } => credentials(String::new(), user, response),
            Self::Over => Progress::Invalid("exchange is over"),
        }
    }
}

/// `message = [authzid] NUL authcid NUL passwd` (RFC 4616 section 2): exactly two NULs. A04c
fn plain(message: &[u8]) -> Progress {
    let fields: Vec<&[u8]> = message.split(|byte| *byte == 0).collect();
    let [authzid, authcid, password] = fields[..] else { return Progress::Invalid("invalid input") };
    // Who names themselves twice asks for nobody else.
    let other = if authzid.is_empty() || authzid == authcid { Ok(String::new()) } else { name(authzid) };
    match (other, name(authcid)) {
        (Ok(other), Ok(user)) => credentials(other, user, password),
        (Err(text), _) | (_, Err(text)) => Progress::Invalid(text),
    }
}

fn name(octets: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(octets).map_err(|_| "user name is not UTF-8")?;
    if text.is_empty() || text.len() > MAX_FIELD || text.contains('\0') {
        return Err("user name is empty or too long");
    }
    Ok(text.to_owned())
}

fn credentials(authzid: String, user: String, password: &[u8]) -> Progress {
    if password.len() > MAX_FIELD || password.contains(&0) {
        return Progress::Invalid("password is too long");
    }
    Progress::Credentials(Credentials { authzid, user, password: Octets::new(password) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(user: &str, password: &str) -> Progress {
        given_for("", user, password)
    }

    fn given_for(authzid: &str, user: &str, password: &str) -> Progress {
        Progress::Credentials(Credentials { authzid: authzid.into(), user: user.into(), password: password.into() })
    }

    fn once(mechanism: &str, initial: &[u8]) -> Progress {
        Exchange::new(mechanism).unwrap().begin(Some(initial))
    }

    // A04c
    #[test]
    fn plain_takes_one_message() {
        assert_eq!(once("PLAIN", b"\0tim\0tanstaaftanstaaf"), given("tim", "tanstaaftanstaaf"));
        assert_eq!(once("PLAIN", b"tim\0tim\0x"), given("tim", "x"));
        let mut exchange = Exchange::new("PLAIN").unwrap();
        assert_eq!(exchange.begin(None), Progress::Challenge(b""));
        assert_eq!(exchange.respond("\0ti\u{e9}\0x\u{e9}".as_bytes()), given("tié", "xé"));
        assert!(matches!(exchange.respond(b"\0tim\0x"), Progress::Invalid(_)));
    }

    // A04c
    #[test]
    fn plain_needs_exactly_two_nuls_and_names_that_are_text() {
        for message in [&b""[..], b"tim", b"\0tim", b"\0tim\0x\0", b"\0\0x", b"\xff\0kurt\0x", b"\0\xff\0x"] {
            assert!(matches!(once("PLAIN", message), Progress::Invalid(_)), "{message:?}");
        }
        assert!(matches!(once("PLAIN", &[b"\0", "u".repeat(2000).as_bytes(), b"\0x"].concat()), Progress::Invalid(_)));
    }

    // A04c
    #[test]
    fn plain_may_ask_for_another_user() {
        assert_eq!(once("PLAIN", b"ursel\0kurt\0xipj3plmq"), given_for("ursel", "kurt", "xipj3plmq"));
        let long = [b"u".repeat(2000).as_slice(), b"\0kurt\0x"].concat();
        assert!(matches!(once("PLAIN", &long), Progress::Invalid(_)));
    }

    // A02c
    #[test]
    fn an_empty_initial_response_is_a_message() {
        assert!(matches!(once("PLAIN", b""), Progress::Invalid(_)));
        assert_eq!(once("LOGIN", b""), Progress::Challenge(b"Username:"));
    }

    #[test]
    fn login_asks_twice() {
        let mut exchange = Exchange::new("LOGIN").unwrap();
        assert_eq!(exchange.begin(None), Progress::Challenge(b"Username:"));
        assert_eq!(exchange.respond(b"tim"), Progress::Challenge(b"Password:"));
        assert_eq!(exchange.respond(b"x y"), given("tim", "x y"));
        let mut exchange = Exchange::new("LOGIN").unwrap();
        assert_eq!(exchange.begin(Some(b"tim")), Progress::Challenge(b"Password:"));
    }

    #[test]
    fn what_is_not_built_is_no_exchange() {
        assert!(Exchange::new("CRAM-MD5").is_none());
        assert!(Exchange::new("plain").is_none());
    }

    #[test]
    fn the_password_is_never_printed() {
        assert!(!format!("{:?}", once("PLAIN", b"\0tim\0secret")).contains("secret"));
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_taken_without_a_panic(responses: Vec<Vec<u8>>, login: bool) {
            let mut exchange = Exchange::new(if login { "LOGIN" } else { "PLAIN" }).unwrap();
            exchange.begin(None);
            for response in responses {
                exchange.respond(&response);
            }
        }
    }
}
