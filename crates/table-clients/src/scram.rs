//! The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding, as PostgreSQL speaks it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// More rounds than any server asks for; they cost our time.
const ROUNDS_MAX: u32 = 1_000_000;

/// A login under way.
pub(crate) struct Scram {
    password: String,
    nonce: String,
    first_bare: String,
    /// What the server must prove.
    signature: Option<[u8; 32]>,
}

impl Scram {
    /// Begins; the first message.
    pub(crate) fn begin(password: &str) -> Result<(Self, String), String> {
        let mut random = [0; 18];
        let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        if filled != Ok(random.len()) {
            return Err("the system gives no random numbers".to_owned());
        }
        Ok(Self::with_nonce(password, "", &BASE64.encode(random)))
    }

    fn with_nonce(password: &str, user: &str, nonce: &str) -> (Self, String) {
        let first_bare = format!("n={user},r={nonce}");
        let first = format!("n,,{first_bare}");
        (Self { password: password.to_owned(), nonce: nonce.to_owned(), first_bare, signature: None }, first)
    }

    /// The proof for what the server answered.
    pub(crate) fn answer(&mut self, challenge: &str) -> Result<String, String> {
        let field = |name: &str| challenge.split(',').find_map(|field| field.strip_prefix(name));
        let wrong = || "the server's challenge is none of SCRAM".to_owned();
        let nonce = field("r=").filter(|nonce| nonce.starts_with(&self.nonce)).ok_or_else(wrong)?;
        let salt = field("s=").and_then(|salt| BASE64.decode(salt).ok()).ok_or_else(wrong)?;
        let rounds = field("i=").and_then(|rounds| rounds.parse().ok()).ok_or_else(wrong)?;
        if !(1..=ROUNDS_MAX).contains(&rounds) {
            return Err(format!("the server asks for {rounds} rounds"));
        }
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(self.password.as_bytes(), &salt, rounds, &mut salted);
        let last = format!("c=biws,r={nonce}");
        let text = format!("{},{challenge},{last}", self.first_bare);
        let client_key = mac(&salted, b"Client Key")?;
        let signature = mac(&Sha256::digest(client_key), text.as_bytes())?;
        self.signature = Some(mac(&mac(&salted, b"Server Key")?, text.as_bytes())?);
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, octet)| key ^ octet).collect();
        Ok(format!("{last},p={}", BASE64.encode(proof)))
    }

    /// Whether the server knows the password too.
    pub(crate) fn check(&self, last: &str) -> Result<(), String> {
        let shown = last.strip_prefix("v=").and_then(|text| BASE64.decode(text).ok());
        match (shown, self.signature) {
            (Some(shown), Some(wanted)) if shown == wanted => Ok(()),
            _ => Err("the server cannot prove that it knows the password".to_owned()),
        }
    }
}

fn mac(key: &[u8], text: &[u8]) -> Result<[u8; 32], String> {
    let mac = Hmac::<Sha256>::new_from_slice(key).map_err(|error| error.to_string())?;
    Ok(mac.chain_update(text).finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of RFC 7677 section 3.
    #[test]
    fn the_example_of_the_standard_is_met() {
        let (mut scram, first) = Scram::with_nonce("pencil", "user", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let proof = scram.answer(challenge).expect("a proof");
        assert!(proof.ends_with(",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), "{proof}");
        assert_eq!(scram.check("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
        scram.check("v=AAAA").expect_err("no proof");
        scram.answer("r=other,s=AAAA,i=1").expect_err("not our nonce");
        scram.answer("r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=999999999").expect_err("too many rounds");
    }
}
