//! Who listens on which port, as the kernel shows it in /proc: no program is run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use serde::Serialize;

/// The state of a socket that listens, in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// A port that somebody listens on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Listening {
    /// The address and port.
    pub address: SocketAddr,
    /// The programs that hold it, such as `master`; empty where the caller may not look.
    pub programs: Vec<String>,
}

/// All TCP ports that somebody listens on.
#[must_use]
pub fn listening(proc: &Path) -> Vec<Listening> {
    let mut sockets = BTreeMap::new();
    for name in ["net/tcp", "net/tcp6"] {
        sockets.extend(sockets_of(&fs::read_to_string(proc.join(name)).unwrap_or_default()));
    }
    let mut holders = holders(proc, &sockets);
    let mut found: Vec<Listening> = sockets
        .into_iter()
        .map(|(inode, address)| Listening {
            address,
            programs: holders.remove(&inode).unwrap_or_default().into_iter().collect(),
        })
        .collect();
    found.sort();
    found
}

/// The listening sockets of one of the kernel's tables, by inode.
fn sockets_of(table: &str) -> BTreeMap<u64, SocketAddr> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields.get(3) == Some(&LISTENS);
        let address = fields.get(1).filter(|_| listens).and_then(|text| address(text))?;
        Some((fields.get(9)?.parse().ok()?, address))
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// `0100007F:0019`: each group of four octets in the order of the machine, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(host.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match host.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (group, octets) in octets.chunks_mut(4).enumerate() {
                octets.copy_from_slice(&word(group * 8)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Which programs have which sockets open.
fn holders(proc: &Path, sockets: &BTreeMap<u64, SocketAddr>) -> BTreeMap<u64, BTreeSet<String>> {
    let mut holders: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for pid in pids(proc) {
        let process = proc.join(pid.to_string());
        let Ok(descriptors) = fs::read_dir(process.join("fd")) else { continue };
        for target in descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()) {
            let text = target.to_string_lossy().into_owned();
            let inode = text.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|inode| inode.parse().ok()).filter(|inode| sockets.contains_key(inode))
            {
                holders.entry(inode).or_default().insert(name(&process));
            }
        }
    }
    holders
}

fn pids(proc: &Path) -> Vec<u32> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn name(process: &Path) -> String {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// Whether a program of this name runs.
#[must_use]
pub fn runs(proc: &Path, program: &str) -> bool {
    pids(proc).into_iter().any(|pid| name(&proc.join(pid.to_string())) == program)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_kernels_way_of_writing_addresses_is_read() {
        if cfg!(target_endian = "little") {
            assert_eq!(address("0100007F:0019"), "127.0.0.1:25".parse().ok());
            assert_eq!(address("00000000000000000000000001000000:03E1"), "[::1]:993".parse().ok());
        }
        assert_eq!(address("0100007F"), None);
    }

    #[test]
    fn our_own_listener_is_found_with_its_program() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("known");
        let found = listening(Path::new("/proc"));
        let ours = found.iter().find(|one| one.address == address).expect("it is listed");
        let own = name(Path::new("/proc/self"));
        assert_eq!(ours.programs, std::slice::from_ref(&own));
        assert!(runs(Path::new("/proc"), &own) && !runs(Path::new("/proc"), "no such program"));
    }
}
