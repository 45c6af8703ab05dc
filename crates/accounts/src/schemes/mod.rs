//! Password schemes: what stands in a passwd-file as `{SCHEME}data`, and whether a password fits it.
//!
//! The names, encodings and detection rules are Dovecot 2.3.19's. Every comparison takes constant time; every scheme whose cost stands in the
//! stored text has a limit, so that a line of a file cannot stop the machine.

mod crypt;
pub(crate) mod digest;
mod keyed;
mod modern;

use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use subtle::ConstantTimeEq;

/// Why a stored password cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemeError {
    /// No scheme of this name is built.
    Unknown(String),
    /// The data is not what the scheme needs.
    Malformed(&'static str),
    /// Checking it would cost more time or memory than a login may.
    TooExpensive(&'static str),
}

impl fmt::Display for SchemeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "Unknown scheme {name}"),
            Self::Malformed(what) => write!(f, "Invalid password format: {what}"),
            Self::TooExpensive(what) => write!(f, "Refusing to check password: {what}"),
        }
    }
}

impl std::error::Error for SchemeError {}

/// A scheme that can be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Plain,
    PlainTruncated,
    Crypt,
    Md5,
    Digest { hash: digest::Hash, salted: bool, usual: Encoding },
    Argon2,
    Pbkdf2,
    ScramSha1,
    ScramSha256,
    CramMd5,
    DigestMd5,
}

/// How binary data is written in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Hex,
    Base64,
}

/// A stored password, ready to be compared with what a client sends. `Debug` shows the scheme only.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    scheme: Scheme,
    data: Vec<u8>,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stored({:?})", self.scheme)
    }
}

/// A stored password's scheme name and data: `{SSHA}xyz` is `("SSHA", "xyz")`; without braces it is the default scheme's.
#[must_use]
pub fn split<'a>(text: &'a str, default: &'a str) -> (&'a str, &'a str) {
    match text.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        Some((scheme, data)) => (scheme, data),
        None if text.starts_with("$1$") => ("MD5-CRYPT", text),
        None => (default, text),
    }
}

impl Stored {
    /// Reads a stored password, with or without a `{SCHEME}`; without one it is of the default scheme (`CRYPT` in a passwd-file).
    ///
    /// # Errors
    /// See [`SchemeError`]. The data of `CRYPT` and friends is judged when it is compared.
    pub fn parse(text: &str, default: &str) -> Result<Self, SchemeError> {
        let (name, data) = split(text, default);
        let (base, suffix) = match name.split_once('.') {
            Some((base, suffix)) => (base, Some(encoding_of(suffix).ok_or_else(|| SchemeError::Unknown(name.into()))?)),
            None => (name, None),
        };
        let scheme = scheme_of(base).ok_or_else(|| SchemeError::Unknown(name.into()))?;
        let data = match scheme.binary() {
            None => data.as_bytes().to_vec(),
            Some((usual, length)) => decode(data, suffix.unwrap_or(usual), suffix.is_some(), length)?,
        };
        Ok(Self { scheme, data })
    }

    /// Whether a check takes some microseconds only: no hash, or one that was not made to take long.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        match self.scheme {
            Scheme::Plain | Scheme::PlainTruncated | Scheme::Digest { .. } | Scheme::CramMd5 | Scheme::DigestMd5 => {
                true
            }
            Scheme::Crypt | Scheme::Md5 | Scheme::Argon2 | Scheme::Pbkdf2 | Scheme::ScramSha1 | Scheme::ScramSha256 => {
                false
            }
        }
    }

    /// Whether the password fits. The user name matters to a few schemes only. May take long (tens of milliseconds): not on an event loop.
    ///
    /// # Errors
    /// The stored data is malformed or too expensive. No password fits it then.
    pub fn verify(&self, user: &str, password: &[u8]) -> Result<bool, SchemeError> {
        let data = self.data.as_slice();
        match self.scheme {
            Scheme::Plain => Ok(equal(data, password)),
            Scheme::PlainTruncated => truncated(data, password),
            Scheme::Crypt => crypt::verify(as_text(data)?, password),
            Scheme::Md5 if data.starts_with(b"$1$") => crypt::verify(as_text(data)?, password),
            Scheme::Md5 => {
                Ok(equal(&decode(as_text(data)?, Encoding::Hex, false, 16)?, &digest::Hash::Md5.of(&[password])))
            }
            Scheme::Digest { hash, salted, .. } => digest::verify(hash, salted, data, password),
            Scheme::Argon2 => modern::argon2(as_text(data)?, password),
            Scheme::Pbkdf2 => modern::pbkdf2(as_text(data)?, password),
            Scheme::ScramSha1 => modern::scram_sha1(as_text(data)?, password),
            Scheme::ScramSha256 => modern::scram_sha256(as_text(data)?, password),
            Scheme::CramMd5 => Ok(equal(data, &keyed::cram_md5(password))),
            Scheme::DigestMd5 => Ok(equal(data, &keyed::digest_md5(user, password))),
        }
    }
}

impl Scheme {
    /// For schemes whose data is binary: the usual encoding, and the length of the data where it is fixed (0 where not).
    fn binary(self) -> Option<(Encoding, usize)> {
        match self {
            Self::Digest { hash, salted, usual } => Some((usual, if salted { 0 } else { hash.length() })),
            Self::CramMd5 => Some((Encoding::Hex, 32)),
            Self::DigestMd5 => Some((Encoding::Hex, 16)),
            _ => None,
        }
    }
}

fn scheme_of(name: &str) -> Option<Scheme> {
    use digest::Hash;
    let digest = |hash, salted, usual| Scheme::Digest { hash, salted, usual };
    Some(match name.to_ascii_uppercase().as_str() {
        "PLAIN" | "CLEAR" | "CLEARTEXT" => Scheme::Plain,
        "PLAIN-TRUNC" => Scheme::PlainTruncated,
        "CRYPT" | "DES-CRYPT" | "MD5-CRYPT" | "SHA256-CRYPT" | "SHA512-CRYPT" | "BLF-CRYPT" => Scheme::Crypt,
        "MD5" => Scheme::Md5,
        "SHA" | "SHA1" => digest(Hash::Sha1, false, Encoding::Base64),
        "SHA256" => digest(Hash::Sha256, false, Encoding::Base64),
        "SHA512" => digest(Hash::Sha512, false, Encoding::Base64),
        "SSHA" => digest(Hash::Sha1, true, Encoding::Base64),
        "SSHA256" => digest(Hash::Sha256, true, Encoding::Base64),
        "SSHA512" => digest(Hash::Sha512, true, Encoding::Base64),
        "SMD5" => digest(Hash::Md5, true, Encoding::Base64),
        "LDAP-MD5" => digest(Hash::Md5, false, Encoding::Base64),
        "PLAIN-MD5" => digest(Hash::Md5, false, Encoding::Hex),
        "ARGON2I" | "ARGON2ID" => Scheme::Argon2,
        "PBKDF2" => Scheme::Pbkdf2,
        "SCRAM-SHA-1" => Scheme::ScramSha1,
        "SCRAM-SHA-256" => Scheme::ScramSha256,
        "CRAM-MD5" | "HMAC-MD5" => Scheme::CramMd5,
        "DIGEST-MD5" => Scheme::DigestMd5,
        _ => return None,
    })
}

fn encoding_of(suffix: &str) -> Option<Encoding> {
    match suffix.to_ascii_lowercase().as_str() {
        "hex" => Some(Encoding::Hex),
        "b64" | "base64" => Some(Encoding::Base64),
        _ => None,
    }
}

/// Decodes as Dovecot does: data of a fixed length says by its own length whether it is hexadecimal; what is no hexadecimal may be base64.
fn decode(data: &str, encoding: Encoding, written: bool, length: usize) -> Result<Vec<u8>, SchemeError> {
    let looks_hex = length != 0 && data.len() == length * 2 && !written;
    let decoded = match encoding {
        Encoding::Hex => from_hex(data).or_else(|| from_base64(data)),
        Encoding::Base64 if looks_hex => from_hex(data).or_else(|| from_base64(data)),
        Encoding::Base64 => from_base64(data),
    };
    let decoded = decoded.ok_or(SchemeError::Malformed("neither hexadecimal nor base64"))?;
    if length != 0 && decoded.len() != length {
        return Err(SchemeError::Malformed("wrong length"));
    }
    Ok(decoded)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match pair {
        [high, low] => {
            let digit = |c: u8| char::from(c).to_digit(16);
            u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
        }
        _ => None,
    };
    digits.map(byte).collect()
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&ALPHABET, config).decode(text).ok()
}

/// `N-prefix`: a password of which only the first N octets were kept.
fn truncated(data: &[u8], password: &[u8]) -> Result<bool, SchemeError> {
    let (length, prefix) =
        as_text(data)?.split_once('-').ok_or(SchemeError::Malformed("PLAIN-TRUNC missing length: prefix"))?;
    let length: usize = length.parse().map_err(|_| SchemeError::Malformed("PLAIN-TRUNC missing length: prefix"))?;
    let prefix = prefix.as_bytes();
    Ok(if prefix.len() < length {
        equal(prefix, password)
    } else {
        password.get(..prefix.len()).is_some_and(|start| equal(prefix, start))
    })
}

fn as_text(data: &[u8]) -> Result<&str, SchemeError> {
    std::str::from_utf8(data).map_err(|_| SchemeError::Malformed("not UTF-8"))
}

fn equal(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// HMAC-SHA256 in hexadecimal (RFC 2104).
pub(crate) fn keyed_hash(key: &[u8; 32], message: &[u8]) -> String {
    use hmac::{KeyInit as _, Mac as _};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `doveadm pw -u tester -p 'pass word-é'` of Dovecot 2.3.19.1, the `$y$`, DES and BSDi ones with libxcrypt.
    const VECTORS: &[&str] = &[
        "{PLAIN}pass word-é",
        "{CLEARTEXT}pass word-é",
        "{CLEAR}pass word-é",
        "{plain}pass word-é",
        "{CRYPT}$2y$05$BoPH47ROYN7NdVZ/4Gw78eAU/PYL513AXxeOP6FB49OZbdXfevrdC",
        "{CRYPT}$y$j9T$dCYo2rt.PvCHr0PXJ7rCp.$GoKf8IPdCeQG3gS2OtEbi3nRjLlusDadDHh0CuSffg0",
        "$y$j9T$dCYo2rt.PvCHr0PXJ7rCp.$GoKf8IPdCeQG3gS2OtEbi3nRjLlusDadDHh0CuSffg0",
        "{CRYPT}ab3jcLo8aNLw6",
        "{CRYPT}_J9..rasmDPM7OczANM6",
        "{CRYPT}$1$saltsalt$7L0mbXeUlt85sQTf62.Xq1",
        "$1$saltsalt$7L0mbXeUlt85sQTf62.Xq1",
        "{CRYPT}$6$rounds=1000$saltstring$7cYSOPyxqU0hwST2plnv0sUzfdBdJ/sAOU7C/E1d30OIjeDIQyCke3pi1XWQ1POnbgH1VE/souy//StD4p17..",
        "{CRYPT}$5$rounds=5000$saltstring$OFAolEABSoeKDCBL9kpdC73f5SEOaQeBefve8gCQK48",
        "{MD5-CRYPT}$1$M0De0157$G2Aa4ujCwQt/Nw5KXU.rA.",
        "{SHA512-CRYPT}$1$M0De0157$G2Aa4ujCwQt/Nw5KXU.rA.",
        "{MD5}$1$FTcFxb5v$pNYgQzEkDYrses59hKQP.1",
        "{MD5}93c27c7e19eed662fc06f7efba99ea83",
        "{SHA256-CRYPT}$5$CRhqEBucqxpd6Qro$RS5C1ku2hcR/ZTc.sVMRH6qZrJKBnprXB/daH1tggn4",
        "{SHA512-CRYPT}$6$MoNbspLlgYQ8v475$3zZ30kViN9OKusMm5UW0dqvb1TJhQuS30pkTZFExr0ZXsr9mN0YzKx8TnfGvFFwKI1VCGJ/Al4ijLVbIUXu7c/",
        "{BLF-CRYPT}$2y$05$OVvhtQKnDDz5.BWbtp.y9ue.bgoftXjyQtRlBQnWHEVs4d05ZuTZe",
        "{DES-CRYPT}UAyCBVW5BkSoM",
        "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$bqRGIZIiAz7nTl/bymgFAQ$9g2LWG6WPNiX53bi2MFfMOmvZNyZzB1M9+wD6Bg08rI",
        "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$gF1JIB5jqEUQqIKhfD+iiw$gm/U+bSC06sB2M9YRIBJRcCPfi6QMBsydlFspbgAWd4",
        "{PBKDF2}$1$AuXlmJHH1VES1Ygu$5000$f66c309a2e3f370384378988e92e7ffe2f352251",
        "{SHA}rCRxGSr05uR/zkfGWQyaSTIjdqQ=",
        "{SHA}ac2471192af4e6e47fce47c6590c9a49322376a4",
        "{SHA1}rCRxGSr05uR/zkfGWQyaSTIjdqQ=",
        "{SHA256}CTN2bH7qVLFJhYlIZlu1wi492y0fs0FOJp0dq/tGfdw=",
        "{SHA512}r95tBcrGjs4tbSwxMVYOZ1BrwP2ry9/Vt3RkyDPMb275I8PSJq2cIR+JOgPXsWCnA8VcnIYIn5N9am2Vhg/DZg==",
        "{SSHA}ZWPlqaR3JsgbPsodubzbWpVOCQzSsQXq",
        "{SSHA256}0fWWX7auE63/dj+uIGNRb0SCcEMgCYbUhpohu9Q60sFNwcgc",
        "{SSHA512}Yw23o9+gDmtxxKwM6GrV5z0ne3KJTuqDr/j2ly/zqf1XBTJuqqOTClSUXC7/grjupZR0PAVzmUUVjvl9muEHTN89oPg=",
        "{SMD5}JUi3RXzPsFIQOBq4ioWVzN+vNVk=",
        "{LDAP-MD5}k8J8fhnu1mL8Bvfvupnqgw==",
        "{LDAP-MD5}93c27c7e19eed662fc06f7efba99ea83",
        "{PLAIN-MD5}93c27c7e19eed662fc06f7efba99ea83",
        "{PLAIN-MD5}k8J8fhnu1mL8Bvfvupnqgw==",
        "{SHA.HEX}ac2471192af4e6e47fce47c6590c9a49322376a4",
        "{SSHA.HEX}2c6432c3d63537d45b5268e76728bd3645f4d09fe1b75930",
        "{SHA256.HEX}0933766c7eea54b149858948665bb5c22e3ddb2d1fb3414e269d1dabfb467ddc",
        "{SHA512.b64}r95tBcrGjs4tbSwxMVYOZ1BrwP2ry9/Vt3RkyDPMb275I8PSJq2cIR+JOgPXsWCnA8VcnIYIn5N9am2Vhg/DZg==",
        "{SMD5.HEX}a3c4b622a444771ea36bd9fd1271dc3b64cbc63d",
        "{PLAIN-MD5.BASE64}k8J8fhnu1mL8Bvfvupnqgw==",
        "{SSHA256.HEX}41d435327cb9d24e83bc74d0c9ef0d521a36304070ee728116b66da031f9d8886d6eeb4f",
        "{CRAM-MD5}d542276c5250f6179885790d3928dd82c0d29b8ec0e11bb75ccc6b383458f117",
        "{HMAC-MD5}d542276c5250f6179885790d3928dd82c0d29b8ec0e11bb75ccc6b383458f117",
        "{DIGEST-MD5}93bf796a8197baa6452c7902dc18b814",
        "{SCRAM-SHA-1}4096,HS5VC5nslgHbQEg6hCmgfA==,edOnmb97hTzx4v4SMT41bZMnyFo=,o6JyLrluGQjrUjH4If1rH6mtZxw=",
        "{SCRAM-SHA-256}4096,1ED7/ei6feWmPYs7q9uBHw==,/lt40H115Rk8MUXR5mKqeyGM642cE16FVE62zxoaFW0=,JhE2W8Q65ZNRgmCzIUhzQQh0otWcXw6oxW4RXjBl1r4=",
        "{PLAIN-TRUNC}4-pass",
        "{PLAIN-TRUNC}64-pass word-é",
    ];

    #[test]
    fn what_dovecot_made_fits_and_nothing_else_does() {
        for text in VECTORS {
            let stored = Stored::parse(text, "CRYPT").unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(stored.verify("tester", "pass word-é".as_bytes()), Ok(true), "{text}");
            for wrong in ["", "pas", "Pass word-é"] {
                assert_eq!(stored.verify("tester", wrong.as_bytes()), Ok(false), "{text} against {wrong:?}");
            }
        }
    }

    #[test]
    fn a_truncated_password_is_compared_as_far_as_it_is_known() {
        let fits = |stored: &str, password: &str| {
            Stored::parse(stored, "CRYPT").unwrap().verify("u", password.as_bytes()).unwrap()
        };
        assert!(fits("{PLAIN-TRUNC}4-abcd", "abcdef"));
        assert!(fits("{PLAIN-TRUNC}4-abc", "abc"));
        assert!(!fits("{PLAIN-TRUNC}4-abc", "abcd"));
        assert!(!fits("{PLAIN-TRUNC}4-abcdef", "abcd"));
    }

    #[test]
    fn an_unknown_scheme_fits_nothing() {
        for name in ["PLAIN-MD4", "NTLM", "SHA.ROT13", ""] {
            let text = format!("{{{name}}}x");
            assert_eq!(Stored::parse(&text, "CRYPT"), Err(SchemeError::Unknown(name.into())));
        }
    }

    #[test]
    fn malformed_data_is_an_error_and_never_fits() {
        for text in ["{SHA}x", "{SHA}", "{SSHA}AAAA", "{LDAP-MD5}zz", "{CRAM-MD5}00"] {
            let verified = Stored::parse(text, "CRYPT").and_then(|stored| stored.verify("u", b""));
            assert!(matches!(verified, Err(SchemeError::Malformed(_))), "{text}: {verified:?}");
        }
        for text in ["{PBKDF2}$1$a$b", "{ARGON2ID}$argon2id$", "{SCRAM-SHA-1}1,2", "{MD5}x", "{PLAIN-TRUNC}abc"] {
            let verified = Stored::parse(text, "CRYPT").and_then(|stored| stored.verify("u", b"abc"));
            assert!(matches!(verified, Err(SchemeError::Malformed(_))), "{text}: {verified:?}");
        }
    }

    #[test]
    fn a_locked_password_fits_nothing() {
        for text in ["*", "!", "x", "!!", "!$6$salt$hash", "{CRYPT}*0", "", "$6$salt", "$6$salt$", "ab", "$y$j9T$salt$"]
        {
            let verified = Stored::parse(text, "CRYPT").unwrap().verify("u", b"abc");
            assert_ne!(verified, Ok(true), "{text}");
        }
    }

    #[test]
    fn a_line_of_a_file_cannot_stop_the_machine() {
        for text in [
            "$6$rounds=999999999$saltstring$x",
            "$2y$31$abcdefghijklmnopqrstuuP9gOXcPBEi/rinoDKE8cx3fFP4n2xMC",
            "$y$jHT$dCYo2rt.PvCHr0PXJ7rCp.$GoKf8IPdCeQG3gS2OtEbi3nRjLlusDadDHh0CuSffg0",
            "{ARGON2ID}$argon2id$v=19$m=4194304,t=3,p=1$gF1JIB5jqEUQqIKhfD+iiw$gm/U+bSC06sB2M9YRIBJRcCPfi6QMBsydlFspbgAWd4",
            // Memory that is bearable, passes that are not; and the other way round.
            "{ARGON2ID}$argon2id$v=19$m=65536,t=40,p=1$gF1JIB5jqEUQqIKhfD+iiw$gm/U+bSC06sB2M9YRIBJRcCPfi6QMBsydlFspbgAWd4",
            "{ARGON2ID}$argon2id$v=19$m=524296,t=1,p=1$gF1JIB5jqEUQqIKhfD+iiw$gm/U+bSC06sB2M9YRIBJRcCPfi6QMBsydlFspbgAWd4",
            "{PBKDF2}$1$AuXlmJHH1VES1Ygu$500000000$f66c309a2e3f370384378988e92e7ffe2f352251",
            "{SCRAM-SHA-1}1000000000,HS5VC5nslgHbQEg6hCmgfA==,edOnmb97hTzx4v4SMT41bZMnyFo=,o6JyLrluGQjrUjH4If1rH6mtZxw=",
        ] {
            let verified = Stored::parse(text, "CRYPT").unwrap().verify("u", b"abc");
            assert!(matches!(verified, Err(SchemeError::TooExpensive(_))), "{text}: {verified:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_stored_text_is_answered_without_a_panic(text in "\\PC{0,60}", password in "\\PC{0,20}") {
            for stored in [text.clone(), format!("$5${text}"), format!("{{SSHA}}{text}"), format!("{{PBKDF2}}$1${text}")] {
                if let Ok(stored) = Stored::parse(&stored, "CRYPT") {
                    let _ = stored.verify("u", password.as_bytes());
                }
            }
        }
    }
}
