//! Secrets kept for CRAM-MD5 and DIGEST-MD5: enough to recognise a password, which is all that is done with them here.

use md5::block_api::Md5Core;
use md5::digest::block_api::UpdateCore;
use md5::digest::common::hazmat::SerializableState;

use super::digest::{Hash, md5};

/// The states of the outer and the inner digest of HMAC-MD5 (RFC 2104) after their first block, as Dovecot stores them.
pub(super) fn cram_md5(password: &[u8]) -> Vec<u8> {
    let mut key = [0_u8; 64];
    let digest;
    let shortened = if password.len() > key.len() {
        digest = Hash::Md5.of(&[password]);
        digest.as_slice()
    } else {
        password
    };
    key[..shortened.len()].copy_from_slice(shortened);
    [0x5c, 0x36].into_iter().flat_map(|pad| state_after(key.map(|byte| byte ^ pad))).collect()
}

fn state_after(block: [u8; 64]) -> Vec<u8> {
    let mut core = Md5Core::default();
    core.update_blocks(&[block.into()]);
    // 16 octets of state, then the count of blocks.
    core.serialize()[..16].to_vec()
}

/// MD5 of `user:realm:password` (RFC 2831 section 2.1.2.1); the realm is what follows the `@`.
pub(super) fn digest_md5(user: &str, password: &[u8]) -> Vec<u8> {
    let (user, realm) = user.split_once('@').unwrap_or((user, ""));
    let mut text = format!("{user}:{realm}:").into_bytes();
    text.extend_from_slice(password);
    md5(&text)
}
