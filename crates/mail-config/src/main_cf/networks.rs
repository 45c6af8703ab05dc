//! Networks as main.cf writes them.

use ipnet::IpNet;

use super::kinds::Mistake;

/// Reads `192.0.2.0/24`, `192.0.2.1`, `[::1]/128` or `[::1]`. The second value says what an old spelling means.
///
/// A leading zero is read where decimal and octal agree (`192.168.01.0`), with a warning. A network whose host part is
/// not zero is an error, as in Postfix.
///
/// # Errors
/// [`Mistake`] with the corrected spelling.
pub fn parse_network(text: &str) -> Result<(IpNet, Option<String>), Mistake> {
    let wrong = |instead: &str| Mistake::new(format!("`{text}' is no network"), instead.to_owned()).at(text);
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let bare = match address.strip_prefix('[') {
        Some(inside) => inside.strip_suffix(']').ok_or_else(|| wrong("close the `[' with a `]'"))?,
        None if address.contains(':') => {
            return Err(wrong(&format!("write `[{address}]{}'", prefix.map_or(String::new(), |p| format!("/{p}")))));
        }
        None => address,
    };
    let (plain, old) = without_leading_zeros(bare).map_err(|e| wrong(&e))?;
    let address: std::net::IpAddr =
        plain.parse().map_err(|_| wrong("write an address such as `192.0.2.0/24' or `[2001:db8::]/32'"))?;
    let full = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(p) => {
            p.parse::<u8>().ok().filter(|p| *p <= full).ok_or_else(|| wrong(&format!("after `/' write 0 to {full}")))?
        }
        None => full,
    };
    let net = IpNet::new(address, prefix).map_err(|_| wrong("write ADDRESS/BITS"))?;
    if net.network() != address {
        return Err(wrong(&format!("the address has bits beyond /{prefix}; write `{}'", show_network(&net.trunc()))));
    }
    let meant = old.then(|| show_network(&net));
    Ok((net, meant))
}

fn show_network(net: &IpNet) -> String {
    match net {
        IpNet::V4(net) => net.to_string(),
        IpNet::V6(net) => format!("[{}]/{}", net.addr(), net.prefix_len()),
    }
}

/// Removes leading zeros of a dotted quad where that cannot change the meaning.
fn without_leading_zeros(text: &str) -> Result<(String, bool), String> {
    if text.contains(':') || !text.split('.').any(|part| part.len() > 1 && part.starts_with('0')) {
        return Ok((text.to_owned(), false));
    }
    let mut parts = Vec::new();
    for part in text.split('.') {
        let decimal = part.parse::<u32>().ok();
        if part.len() > 1 && part.starts_with('0') && decimal != u32::from_str_radix(part, 8).ok() {
            return Err(format!("`{part}' may be decimal or octal; write it without the leading zero"));
        }
        parts.push(decimal.map_or(part.to_owned(), |d| d.to_string()));
    }
    Ok((parts.join("."), true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_zero_is_read_where_it_cannot_mean_two_things() {
        let (net, meant) = parse_network("192.168.01.0/24").expect("reads");
        assert_eq!((net.to_string().as_str(), meant.as_deref()), ("192.168.1.0/24", Some("192.168.1.0/24")));
        assert!(parse_network("192.168.010.0/24").is_err());
        assert!(parse_network("192.168.1.1/24").expect_err("host bits").instead.contains("192.168.1.0/24"));
        assert!(parse_network("::1").expect_err("brackets").instead.contains("[::1]"));
        assert_eq!(parse_network("[::1]/128").expect("reads").0.to_string(), "::1/128");
        for text in ["", "a", "1.2.3.4/33", "[::1", "1.2.3", "300.1.1.1", "[::1]/129", "1.2.3.4/"] {
            assert!(parse_network(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_a_network(text in "[0-9a-f./:\\[\\]]{0,30}") {
            let _ = parse_network(&text);
        }
    }
}
