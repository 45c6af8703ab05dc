//! Login tokens: what a front hands to its monitor instead of a user name that it could forge.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use mail_ipc::auth::Login;

/// How long a token is good.
const LIFE: Duration = Duration::from_secs(60);
/// The most tokens that wait to be redeemed.
const MOST: usize = 20_000;

/// The tokens that wait to be redeemed, each once.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    waiting: HashMap<String, (Instant, Login)>,
}

impl Tokens {
    /// A new token for a login: 128 random bits.
    ///
    /// # Errors
    /// No randomness, or too many logins that nobody redeems.
    pub(crate) fn issue(&mut self, login: Login, now: Instant) -> io::Result<String> {
        if self.waiting.len() >= MOST {
            self.waiting.retain(|_, (end, _)| now < *end);
        }
        if self.waiting.len() >= MOST {
            return Err(io::Error::other("too many logins wait for their monitor"));
        }
        let mut random = [0_u8; 16];
        let length = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        if length != random.len() {
            return Err(io::Error::other("not enough randomness"));
        }
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        self.waiting.insert(token.clone(), (now + LIFE, login));
        Ok(token)
    }

    /// The login of a token, once.
    pub(crate) fn redeem(&mut self, token: &str, now: Instant) -> Option<Login> {
        self.waiting.remove(token).filter(|(end, _)| now < *end).map(|(_, login)| login)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login {
            user: "john".into(),
            master: None,
            service: "imap".into(),
            uid: None,
            gid: None,
            home: None,
            mail: None,
        }
    }

    #[test]
    fn a_token_is_good_once_and_for_a_minute() {
        let now = Instant::now();
        let mut tokens = Tokens::default();
        let token = tokens.issue(login(), now).unwrap();
        assert_eq!(token.len(), 32);
        assert_eq!(tokens.redeem(&token, now), Some(login()));
        assert_eq!(tokens.redeem(&token, now), None);
        let late = tokens.issue(login(), now).unwrap();
        assert_ne!(late, token);
        assert_eq!(tokens.redeem(&late, now + LIFE), None);
    }

    #[test]
    fn tokens_that_nobody_wants_are_bounded() {
        let now = Instant::now();
        let mut tokens = Tokens::default();
        for number in 0..MOST {
            tokens.waiting.insert(number.to_string(), (now + LIFE, login()));
        }
        assert!(tokens.issue(login(), now).is_err());
        assert!(tokens.issue(login(), now + LIFE).is_ok());
        assert_eq!(tokens.waiting.len(), 1);
    }
}
