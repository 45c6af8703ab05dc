//! Schemes with a written cost: Argon2, PBKDF2, SCRAM.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::{SchemeError, equal, from_hex};

/// Dovecot's default is 5,000; current advice for SHA-1 is 1,300,000.
const MAX_ITERATIONS: u32 = 2_000_000;
/// In KiB: 512 MiB; Dovecot's default is 64 MiB.
const MAX_ARGON2_MEMORY: u32 = 512 * 1024;
/// Memory in KiB times passes; about two seconds.
const MAX_ARGON2_WORK: u64 = 2 << 20;

/// `$argon2id$v=19$m=65536,t=3,p=1$salt$hash`
pub(super) fn argon2(stored: &str, password: &[u8]) -> Result<bool, SchemeError> {
    use argon2::password_hash::phc::PasswordHash;
    use argon2::{Argon2, Params, PasswordVerifier};
    let hash = PasswordHash::new(stored).map_err(|_| SchemeError::Malformed("argon2"))?;
    let params = Params::try_from(&hash).map_err(|_| SchemeError::Malformed("argon2 parameters"))?;
    if params.m_cost() > MAX_ARGON2_MEMORY || u64::from(params.m_cost()) * u64::from(params.t_cost()) > MAX_ARGON2_WORK
    {
        return Err(SchemeError::TooExpensive("argon2 above 512 MiB or too many passes"));
    }
    match Argon2::default().verify_password(password, &hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(_) => Err(SchemeError::Malformed("argon2")),
    }
}

/// `$1$salt$iterations$hex`, with HMAC-SHA-1 and the salt as written.
pub(super) fn pbkdf2(stored: &str, password: &[u8]) -> Result<bool, SchemeError> {
    let fields: Vec<&str> = stored.split('$').collect();
    let ["", "1", salt, iterations, key] = fields[..] else { return Err(SchemeError::Malformed("PBKDF2")) };
    let iterations = bearable(iterations)?;
    let key = from_hex(key).filter(|key| key.len() == 20).ok_or(SchemeError::Malformed("PBKDF2 key"))?;
    let mut derived = [0; 20];
    ::pbkdf2::pbkdf2_hmac::<Sha1>(password, salt.as_bytes(), iterations, &mut derived);
    Ok(equal(&key, &derived))
}

/// `iterations,salt,StoredKey,ServerKey` (RFC 5802 section 3).
pub(super) fn scram_sha1(stored: &str, password: &[u8]) -> Result<bool, SchemeError> {
    let (iterations, salt, stored_key) = scram_fields(stored)?;
    let mut salted = [0; 20];
    ::pbkdf2::pbkdf2_hmac::<Sha1>(password, &salt, iterations, &mut salted);
    let mut mac = Hmac::<Sha1>::new_from_slice(&salted).map_err(|_| SchemeError::Malformed("SCRAM key"))?;
    mac.update(b"Client Key");
    Ok(equal(&stored_key, &Sha1::digest(mac.finalize().into_bytes())))
}

/// As [`scram_sha1`], with SHA-256 (RFC 7677).
pub(super) fn scram_sha256(stored: &str, password: &[u8]) -> Result<bool, SchemeError> {
    let (iterations, salt, stored_key) = scram_fields(stored)?;
    let mut salted = [0; 32];
    ::pbkdf2::pbkdf2_hmac::<Sha256>(password, &salt, iterations, &mut salted);
    let mut mac = Hmac::<Sha256>::new_from_slice(&salted).map_err(|_| SchemeError::Malformed("SCRAM key"))?;
    mac.update(b"Client Key");
    Ok(equal(&stored_key, &Sha256::digest(mac.finalize().into_bytes())))
}

fn scram_fields(stored: &str) -> Result<(u32, Vec<u8>, Vec<u8>), SchemeError> {
    let fields: Vec<&str> = stored.split(',').collect();
    let [iterations, salt, stored_key, _server_key] = fields[..] else { return Err(SchemeError::Malformed("SCRAM")) };
    let decoded = |text: &str| STANDARD.decode(text).map_err(|_| SchemeError::Malformed("SCRAM base64"));
    Ok((bearable(iterations)?, decoded(salt)?, decoded(stored_key)?))
}

fn bearable(iterations: &str) -> Result<u32, SchemeError> {
    match iterations.parse::<u32>() {
        Ok(0) | Err(_) => Err(SchemeError::Malformed("iteration count")),
        Ok(count) if count > MAX_ITERATIONS => Err(SchemeError::TooExpensive("more than 2,000,000 iterations")),
        Ok(count) => Ok(count),
    }
}
