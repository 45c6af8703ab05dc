//! Facts about the machine that defaults depend on: its name and its addresses.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// What the system says about itself; kept in a generation, so that every daemon sees the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The host name.
    pub hostname: String,
    /// Each address of the machine with the network of its interface; loopback included.
    #[serde(with = "as_text")]
    pub interfaces: Vec<IpNet>,
}

impl Machine {
    /// Reads what /proc says. What cannot be read is absent; loopback never is.
    #[must_use]
    pub fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let hostname = read("/proc/sys/kernel/hostname").trim().to_ascii_lowercase();
        let mut interfaces = v4(&read("/proc/net/fib_trie"), &read("/proc/net/route"));
        interfaces.extend(v6(&read("/proc/net/if_inet6")));
        if !interfaces.iter().any(|net| net.addr() == IpAddr::V4(Ipv4Addr::LOCALHOST)) {
            interfaces.insert(0, IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8)));
        }
        Self { hostname: if hostname.is_empty() { "localhost".to_owned() } else { hostname }, interfaces }
    }

    /// A machine for tests: a name and loopback.
    #[must_use]
    pub fn named(hostname: &str) -> Self {
        let interfaces = vec![
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8)),
            IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
        ];
        Self { hostname: hostname.to_owned(), interfaces }
    }

    /// Whether the machine speaks IPv6 at all.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.interfaces.iter().any(|net| net.addr().is_ipv6())
    }

    /// The default of `mynetworks` in its written form: the machine's addresses, or the networks of its interfaces.
    pub(crate) fn networks(&self, subnets: bool, protocols: &str) -> String {
        let uses = |name: &str| protocols.contains("all") || protocols.contains(name);
        let mut words: Vec<String> = Vec::new();
        for interface in &self.interfaces {
            let word = match interface {
                IpNet::V4(_) if !uses("ipv4") => continue,
                IpNet::V6(_) if !uses("ipv6") => continue,
                IpNet::V4(net) if subnets || net.addr().is_loopback() => net.trunc().to_string(),
                IpNet::V4(net) => format!("{}/32", net.addr()),
                IpNet::V6(net) if subnets => format!("[{}]/{}", net.trunc().addr(), net.prefix_len()),
                IpNet::V6(net) => format!("[{}]/128", net.addr()),
            };
            if !words.contains(&word) {
                words.push(word);
            }
        }
        words.join(" ")
    }
}

/// Local IPv4 addresses of fib_trie, each in the narrowest directly connected network of the routing table.
fn v4(fib_trie: &str, routes: &str) -> Vec<IpNet> {
    let connected: Vec<Ipv4Net> = routes.lines().skip(1).filter_map(connected_route).collect();
    let mut found: Vec<IpNet> = Vec::new();
    let mut address = None;
    for line in fib_trie.lines() {
        let line = line.trim_start_matches([' ', '|', '+']);
        if let Some(leaf) = line.strip_prefix("-- ") {
            address = leaf.trim().parse::<Ipv4Addr>().ok();
        } else if let (Some(address), true) = (address, line.starts_with("/32 host LOCAL")) {
            let around = connected.iter().filter(|net| net.contains(&address)).map(Ipv4Net::prefix_len).max();
            let prefix = around.unwrap_or(if address.is_loopback() { 8 } else { 32 });
            let net = IpNet::V4(Ipv4Net::new_assert(address, prefix));
            if !found.contains(&net) {
                found.push(net);
            }
        }
    }
    found
}

/// A line of /proc/net/route without gateway: destination and mask are hexadecimal in the machine's byte order.
fn connected_route(line: &str) -> Option<Ipv4Net> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|f| u32::from_str_radix(f, 16).ok()).map(u32::to_ne_bytes);
    let (destination, gateway, mask) = (number(1)?, number(2)?, number(7)?);
    if gateway != [0; 4] || mask == [0; 4] {
        return None;
    }
    Ipv4Net::with_netmask(Ipv4Addr::from(destination), Ipv4Addr::from(mask)).ok()
}

/// Addresses of /proc/net/if_inet6: 32 hexadecimal digits, interface, prefix length, scope, flags, name.
fn v6(text: &str) -> Vec<IpNet> {
    let net = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        let prefix = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
        Ipv6Net::new(Ipv6Addr::from(address), prefix).ok().map(IpNet::V6)
    };
    text.lines().filter_map(net).collect()
}

/// Networks as `ADDRESS/BITS` texts in JSON.
mod as_text {
    use ipnet::IpNet;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(nets: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(nets.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_their_networks() {
        let trie = "Local:\n  +-- 0.0.0.0/1 2 0 2\n     |-- 192.0.2.2\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        let mask = u32::from_ne_bytes([255, 255, 255, 0]);
        let destination = u32::from_ne_bytes([192, 0, 2, 0]);
        let routes =
            format!("Iface\tDestination\neth0\t{destination:08X}\t00000000\t0001\t0\t0\t0\t{mask:08X}\t0\t0\t0\n");
        let shown: Vec<_> = v4(trie, &routes).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.2/24", "127.0.0.1/8"]);
        let v6 = v6("00000000000000000000000000000001 01 80 10 80       lo\n");
        assert_eq!(v6[0].to_string(), "::1/128");
        let machine = Machine { hostname: "h".into(), interfaces: [v4(trie, &routes), v6].concat() };
        assert_eq!(machine.networks(false, "all"), "192.0.2.2/32 127.0.0.0/8 [::1]/128");
        assert_eq!(machine.networks(true, "ipv4"), "192.0.2.0/24 127.0.0.0/8");
    }
}
