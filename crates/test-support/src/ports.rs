//! Ports for listeners that are started later, by another process.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// The ports that are given out: below those that Linux gives to connections (`ip_local_port_range` begins at 32768), so that no connection
/// of another test takes one between here and the listener's start.
const FIRST: u16 = 20_000;
const NUMBER: u16 = 12_000;

/// A port that nobody on this machine has now for TCP or UDP, and that this process gives out once. It is looked up, never bound: what binds a port
/// to try it leaves it for a moment with the child that another thread is just forking, and then the listener finds it in use.
///
/// # Errors
/// No port is free, or the address is not one of this machine.
pub fn free_port(address: impl Into<IpAddr>) -> io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Whether the address is ours; the system gives the port from its own range.
    drop(TcpListener::bind((address.into(), 0))?);
    let taken = taken()?;
    // Test programs that run side by side begin at different places.
    let start = std::process::id().wrapping_mul(251);
    for _ in 0..NUMBER {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let Ok(offset) = u16::try_from(start.wrapping_add(step) % u32::from(NUMBER)) else { continue };
        let port = FIRST + offset;
        if !taken.contains(&port) {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// The local ports of all sockets of this network, connections among them.
fn taken() -> io::Result<HashSet<u16>> {
    let mut ports = HashSet::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = match std::fs::read_to_string(format!("/proc/self/net/{table}")) {
            Ok(text) => text,
            // A kernel without IPv6 has no table for it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        // `sl local_address rem_address ...`, the addresses as HEX:PORT.
        let local = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)?.rsplit_once(':'));
        ports.extend(local.filter_map(|(_, port)| u16::from_str_radix(port, 16).ok()));
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    use super::{free_port, taken};

    #[test]
    fn a_port_is_given_out_once_and_never_while_it_is_in_use() {
        let ports: Vec<u16> = (0..50).map(|_| free_port(Ipv4Addr::LOCALHOST).expect("a port")).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 50);
        let next = ports[49] + 1;
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, next));
        assert_ne!(free_port(Ipv4Addr::LOCALHOST).expect("a port"), next);
        drop(held);
    }

    #[test]
    fn listeners_connections_and_datagrams_have_their_ports() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let address = listener.local_addr().expect("an address");
        let stream = std::net::TcpStream::connect(address).expect("connected");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let taken = taken().expect("read");
        for port in [address, stream.local_addr().expect("its own"), socket.local_addr().expect("its own")] {
            assert!(taken.contains(&port.port()), "{port}");
        }
    }

    #[test]
    fn an_address_of_another_machine_has_none() {
        assert!(free_port(Ipv4Addr::new(192, 0, 2, 1)).is_err());
    }
}
