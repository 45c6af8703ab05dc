//! What names look like.

/// Whether what stands in brackets is an address (RFC 5321 section 4.1.3).
pub(super) fn is_literal(inside: &str) -> bool {
    match inside.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:")) {
        Some(_) => inside[5..].parse::<std::net::Ipv6Addr>().is_ok(),
        None => inside.parse::<std::net::IpAddr>().is_ok(),
    }
}

/// Labels of letters, digits, hyphens and underscores; not a number, which would be an address without brackets.
pub(super) fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || !c.is_ascii())
    };
    let numeric = name.split('.').all(|label| label.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 255 && !numeric && name.split('.').all(label)
}

/// Whether a name has a dot inside.
pub(super) fn is_fqdn(name: &str) -> bool {
    name.strip_suffix('.').unwrap_or(name).contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts_are_told_apart() {
        for name in ["a", "a.b", "a_b.c-d", "x1.y", "a.b."] {
            assert!(is_host_name(name), "{name}");
        }
        for name in ["", ".", "a..b", "-a", "a-", "192.0.2.1", "[x]", "a b", "a@b", &"a".repeat(64)] {
            assert!(!is_host_name(name), "{name}");
        }
        assert!(is_fqdn("a.b") && is_fqdn("a.b.") && !is_fqdn("a") && !is_fqdn("a."));
        assert!(
            is_literal("192.0.2.1") && is_literal("IPv6:2001:db8::1") && !is_literal("x") && !is_literal("IPv6:1.2")
        );
    }
}
