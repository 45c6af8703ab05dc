//! `auth_cache_size`: what the databases said of a login, for `auth_cache_ttl` or `auth_cache_negative_ttl`.
//!
//! Remembered is that this client's login with this user and this password was right (and where the mail lies), or wrong; never the password: a keyed hash
//! of all of it is the key, and its secret ends with the process and at every reload. Plans of passwd-files alone are not remembered: those files are in
//! memory, and a change of one must count at once.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use accounts::login::Attempt;
use mail_config::Config;
use mail_ipc::auth::{Failure, Login};

use crate::cache::Cache;

/// What an entry takes of `auth_cache_size`, with its strings.
const ENTRY: u64 = 512;

/// A login that was judged: the user after all rules, and where the mail lies, or that it was refused.
pub(crate) type Judged = (String, Option<Login>);

/// The memory of one configuration.
pub(crate) struct Remembered {
    secret: [u8; 32],
    known: Mutex<Cache<Judged>>,
    /// How long right and wrong logins count; zero for not at all.
    lives: (Duration, Duration),
}

impl Remembered {
    /// An empty memory; nothing if the configuration asks for none, or no secret can be had.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let settings = &config.dovecot.settings;
        let most = usize::try_from(*settings.auth_cache_size / ENTRY).ok().filter(|most| *most > 0)?;
        let mut secret = [0; 32];
        let length = rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty()).ok()?;
        let lives = (*settings.auth_cache_ttl, *settings.auth_cache_negative_ttl);
        let known = Mutex::new(Cache::new(most, lives.0));
        (length == secret.len()).then_some(Self { secret, known, lives })
    }

    /// What is remembered of an attempt.
    pub(crate) fn recall(&self, attempt: &Attempt, now: Instant) -> Option<(String, Result<Login, Failure>)> {
        let key = attempt.fingerprint(&self.secret);
        let (user, login) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key, now)?;
        Some((user, login.ok_or(Failure::Credentials)))
    }

    /// Remembers what an attempt came to. That nobody knew is not remembered.
    pub(crate) fn keep(&self, attempt: &Attempt, user: &str, result: &Result<Login, Failure>, now: Instant) {
        let (login, life) = match result {
            Ok(login) => (Some(login.clone()), self.lives.0),
            Err(Failure::Credentials) => (None, self.lives.1),
            Err(_) => return,
        };
        if !life.is_zero() {
            let key = attempt.fingerprint(&self.secret);
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.put_for(&key, (user.to_owned(), login), life, now);
        }
    }
}
