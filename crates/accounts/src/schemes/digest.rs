//! Plain and salted digests: `{SHA256}`, `{SSHA}`, `{SMD5}` and friends. The salt follows the digest.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use super::{SchemeError, equal};

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

impl Hash {
    pub(super) fn length(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The digest of the parts, one after the other.
    pub(super) fn of(self, parts: &[&[u8]]) -> Vec<u8> {
        fn run<D: sha2::Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut hash = D::new();
            for part in parts {
                hash.update(part);
            }
            hash.finalize().to_vec()
        }
        match self {
            Self::Md5 => run::<Md5>(parts),
            Self::Sha1 => run::<Sha1>(parts),
            Self::Sha256 => run::<Sha256>(parts),
            Self::Sha512 => run::<Sha512>(parts),
        }
    }
}

/// Whether the password fits digest and salt.
pub(super) fn verify(hash: Hash, salted: bool, data: &[u8], password: &[u8]) -> Result<bool, SchemeError> {
    let (digest, salt) =
        data.split_at_checked(hash.length()).ok_or(SchemeError::Malformed("shorter than the digest"))?;
    if salted && salt.is_empty() {
        return Err(SchemeError::Malformed("salted digest without a salt"));
    }
    Ok(equal(digest, &hash.of(&[password, salt])))
}

/// MD5 of the text, for `{DIGEST-MD5}` and `%M`.
pub(crate) fn md5(text: &[u8]) -> Vec<u8> {
    Md5::digest(text).to_vec()
}
