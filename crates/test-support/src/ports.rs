//! Ports for listeners that are started later, by another process.

use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::{Patience, wait_for};

/// The ports that are given out: below those that Linux gives to connections (`ip_local_port_range` begins at 32768), so that no connection
/// of another test takes one between here and the listener's start.
const FIRST: u16 = 20_000;
const NUMBER: u16 = 12_000;

/// A port that is free now for TCP and UDP on an address, and that this process gives out once.
///
/// # Errors
/// No port is free, or the address is not one of this machine.
pub fn free_port(address: impl Into<IpAddr>) -> io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let address = address.into();
    // Test programs that run side by side begin at different places.
    let start = std::process::id().wrapping_mul(251);
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..NUMBER {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let Ok(offset) = u16::try_from(start.wrapping_add(step) % u32::from(NUMBER)) else { continue };
        let port = FIRST + offset;
        match TcpListener::bind((address, port)).and_then(|_| UdpSocket::bind((address, port))) {
            Ok(_) => return Ok(port),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Binds a port that [`free_port`] gave. The child that another thread has forked in the moment of looking holds the socket that looked until
/// it runs its program, so a port in use is tried again for a while.
///
/// # Errors
/// The port stays in use, or the address is not one of this machine.
pub(crate) fn bound<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let in_use = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    let settled = || Some(bind()).filter(|bound| !bound.as_ref().is_err_and(in_use));
    wait_for("a port", Patience(Duration::from_secs(2)), settled).unwrap_or_else(|_| bind())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, TcpListener};

    use super::{bound, free_port};

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
    fn a_port_that_is_held_for_a_moment_is_waited_for() {
        let port = free_port(Ipv4Addr::LOCALHOST).expect("a port");
        let held = std::cell::Cell::new(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
        let listener = bound(|| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            drop(held.take());
            listener
        });
        assert_eq!(listener.expect("bound").local_addr().expect("an address").port(), port);
    }

    #[test]
    fn an_address_of_another_machine_has_none() {
        assert!(free_port(Ipv4Addr::new(192, 0, 2, 1)).is_err());
    }
}
