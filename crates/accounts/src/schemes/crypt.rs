//! The crypt(3) family, by the prefix of the stored text: DES, BSDi, `$1$`, `$2?$`, `$5$`, `$6$`, `$y$`.

use super::{SchemeError, equal};

/// Dovecot's own default is 5,000 rounds; the most that common tools write is 656,000.
const MAX_ROUNDS: u32 = 2_000_000;
/// Each step doubles the time; 15 takes about three seconds.
const MAX_BCRYPT_COST: u32 = 15;
const BASE64: &[u8] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whether the password fits. What is no hash at all (a locked account's `*` or `!`) fits no password.
pub(super) fn verify(stored: &str, password: &[u8]) -> Result<bool, SchemeError> {
    // C strings end at NUL: a password with one would be compared in part only.
    if password.contains(&0) {
        return Ok(false);
    }
    match stored.split('$').nth(1).filter(|_| stored.starts_with('$')) {
        Some("2a" | "2b" | "2y") => bcrypt(stored, password),
        Some("y") => yescrypt(stored, password),
        Some("1") => recompute(stored, password),
        Some("5" | "6") => {
            rounds_are_bearable(stored)?;
            recompute(stored, password)
        }
        None if is_des(stored) || is_bsdi(stored) => recompute(stored, password),
        None => Ok(false),
        Some(_) => Err(SchemeError::Malformed("unknown crypt() prefix")),
    }
}

fn is_des(stored: &str) -> bool {
    stored.len() == 13 && stored.bytes().all(|byte| BASE64.contains(&byte))
}

/// `_` and 19 characters; the first four are the rounds, lowest first.
fn is_bsdi(stored: &str) -> bool {
    let rounds = |text: &[u8]| text.iter().rev().fold(0, |sum, byte| sum * 64 + value(*byte).unwrap_or(0));
    stored.len() == 20
        && stored.starts_with('_')
        && stored.bytes().skip(1).all(|byte| BASE64.contains(&byte))
        && rounds(&stored.as_bytes()[1..5]) <= MAX_ROUNDS
}

fn value(byte: u8) -> Option<u32> {
    BASE64.iter().position(|other| *other == byte).and_then(|index| u32::try_from(index).ok())
}

/// Hashes again with the stored salt and compares what stands behind it.
fn recompute(stored: &str, password: &[u8]) -> Result<bool, SchemeError> {
    let Ok(computed) = pwhash::unix::crypt(password, stored) else {
        return Err(SchemeError::Malformed("not a crypt() string"));
    };
    let last = |text: &str| text.rsplit('$').next().unwrap_or_default().as_bytes().to_vec();
    Ok(!last(stored).is_empty() && equal(&last(stored), &last(&computed)))
}

fn rounds_are_bearable(stored: &str) -> Result<(), SchemeError> {
    let Some(rounds) = stored.split('$').nth(2).and_then(|field| field.strip_prefix("rounds=")) else { return Ok(()) };
    match rounds.parse::<u32>() {
        Ok(rounds) if rounds <= MAX_ROUNDS => Ok(()),
        Ok(_) => Err(SchemeError::TooExpensive("more than 2,000,000 rounds")),
        Err(_) => Err(SchemeError::Malformed("rounds is not a number")),
    }
}

fn bcrypt(stored: &str, password: &[u8]) -> Result<bool, SchemeError> {
    let cost: u32 =
        stored.split('$').nth(2).and_then(|cost| cost.parse().ok()).ok_or(SchemeError::Malformed("bcrypt cost"))?;
    if cost > MAX_BCRYPT_COST {
        return Err(SchemeError::TooExpensive("bcrypt cost above 15"));
    }
    bcrypt::verify(password, stored).map_err(|_| SchemeError::Malformed("bcrypt"))
}

/// `$y$j9T$salt$hash`: flavour, block count and block size of one character each, as libxcrypt and shadow write them.
fn yescrypt(stored: &str, password: &[u8]) -> Result<bool, SchemeError> {
    use yescrypt::PasswordVerifier;
    let fields: Vec<&str> = stored.split('$').collect();
    let [_, _, parameters, _, hash] = fields[..] else { return Err(SchemeError::Malformed("yescrypt")) };
    let [b'j', blocks, size] = parameters.as_bytes() else { return Err(SchemeError::Malformed("yescrypt parameters")) };
    let (Some(blocks), Some(size)) = (value(*blocks), value(*size)) else {
        return Err(SchemeError::Malformed("yescrypt parameters"));
    };
    // Memory is 128 * size * blocks bytes: 2^(blocks + 1) blocks of (size + 1) units. 256 MiB is the most.
    if blocks > 15 || 128 * (u64::from(size) + 1) * (1 << (blocks + 1)) > 256 << 20 {
        return Err(SchemeError::TooExpensive("yescrypt memory above 256 MiB"));
    }
    // 43 characters are the 32 octets of a whole hash; a shorter one would be compared in part only.
    if hash.len() != 43 {
        return Err(SchemeError::Malformed("yescrypt hash"));
    }
    match yescrypt::Yescrypt::default().verify_password(password, stored) {
        Ok(()) => Ok(true),
        Err(yescrypt::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(_) => Err(SchemeError::Malformed("yescrypt")),
    }
}
