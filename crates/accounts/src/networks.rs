//! `allow_nets`: from where a user may log in.

use std::net::IpAddr;

/// Whether the address is in the comma-separated list of networks (`192.0.2.0/24`, `2001:db8::/32`, `192.0.2.7`; `local` is this machine).
/// An entry that cannot be read allows nobody.
#[must_use]
pub fn allows(list: &str, peer: IpAddr) -> bool {
    list.split(',').map(str::trim).any(|entry| match entry {
        "local" => peer.to_canonical().is_loopback(),
        _ => contains(entry, peer.to_canonical()).unwrap_or(false),
    })
}

fn contains(network: &str, peer: IpAddr) -> Option<bool> {
    let (address, length) = match network.split_once('/') {
        Some((address, length)) => (address.parse::<IpAddr>().ok()?, Some(length.parse::<u32>().ok()?)),
        None => (network.parse::<IpAddr>().ok()?, None),
    };
    let (one, other, width) = match (address, peer) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (u128::from(one.to_bits()), u128::from(other.to_bits()), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
        _ => return Some(false),
    };
    let length = length.unwrap_or(width);
    if length > width {
        return None;
    }
    let host_bits = width - length;
    Some((one ^ other).checked_shr(host_bits).unwrap_or(0) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_networks() {
        let cases = [
            ("192.0.2.0/24", "192.0.2.77", true),
            ("192.0.2.0/24", "192.0.3.1", false),
            ("127.0.0.1, 192.0.2.7", "192.0.2.7", true),
            ("0.0.0.0/0", "198.51.100.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("192.0.2.0/24", "::ffff:192.0.2.1", true),
            ("local", "127.0.0.1", true),
            ("local", "192.0.2.1", false),
            ("nonsense", "192.0.2.1", false),
            ("192.0.2.0/33", "192.0.2.0", false),
            ("", "192.0.2.1", false),
        ];
        for (list, peer, expected) in cases {
            assert_eq!(allows(list, peer.parse().unwrap()), expected, "{list} {peer}");
        }
    }
}
