//! Sockets that the supervisor opened for us: sd_listen_fds(3). Each is matched with what the configuration asks for by its address, so that a
//! socket unit may give some, all, or none of the listeners.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{SocketAddrAny, SocketType};

/// The listeners that were given.
#[derive(Debug, Default)]
pub(crate) struct Given {
    tcp: Vec<(SocketAddr, OwnedFd)>,
    unix: Vec<(PathBuf, OwnedFd)>,
}

impl Given {
    /// Takes what the environment announces for this process (`LISTEN_PID`, `LISTEN_FDS`). Called once, before any descriptor is opened.
    pub(crate) fn take() -> Self {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        if number("LISTEN_PID") != Some(std::process::id()) {
            return Self::default();
        }
        Self::of(mail_posix::fdpass::inherited(number("LISTEN_FDS").unwrap_or(0)))
    }

    fn of(descriptors: Vec<OwnedFd>) -> Self {
        let mut given = Self::default();
        for descriptor in descriptors {
            let listens = rustix::net::sockopt::socket_acceptconn(&descriptor).unwrap_or(false)
                && rustix::net::sockopt::socket_type(&descriptor) == Ok(SocketType::STREAM);
            let Some(address) = listens.then(|| rustix::net::getsockname(&descriptor).ok()).flatten() else { continue };
            match tcp_address(&address) {
                Some(address) => given.tcp.push((address, descriptor)),
                None => given.unix.extend(unix_path(&address).map(|path| (path, descriptor))),
            }
        }
        given
    }

    /// The listener on a TCP address, if it was given.
    pub(crate) fn tcp(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let at = self.tcp.iter().position(|(address, _)| *address == wanted)?;
        let listener = TcpListener::from(self.tcp.swap_remove(at).1);
        listener.set_nonblocking(true).ok().map(|()| listener)
    }

    /// The listener on the socket file of this path, if it was given.
    pub(crate) fn unix(&mut self, wanted: &Path) -> Option<UnixListener> {
        let at = self.unix.iter().position(|(path, _)| path == wanted)?;
        let listener = UnixListener::from(self.unix.swap_remove(at).1);
        listener.set_nonblocking(true).ok().map(|()| listener)
    }

    /// What nobody asked for.
    pub(crate) fn rest(self) -> Vec<String> {
        let tcp = self.tcp.into_iter().map(|(address, _)| address.to_string());
        tcp.chain(self.unix.into_iter().map(|(path, _)| path.display().to_string())).collect()
    }
}

fn tcp_address(address: &SocketAddrAny) -> Option<SocketAddr> {
    SocketAddr::try_from(address.clone()).ok()
}

fn unix_path(address: &SocketAddrAny) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    let unix = rustix::net::SocketAddrUnix::try_from(address.clone()).ok()?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(unix.path()?.to_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_by_its_address_and_the_rest_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        let (tcp, other) =
            (TcpListener::bind("127.0.0.1:0").expect("bound"), TcpListener::bind("127.0.0.1:0").expect("bound"));
        let (address, unasked) = (tcp.local_addr().expect("named"), other.local_addr().expect("named"));
        let unix = UnixListener::bind(&path).expect("bound");
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
        let mut given = Given::of(vec![tcp.into(), unix.into(), other.into(), stranger.into()]);
        assert_eq!(given.tcp(address).expect("given").local_addr().expect("named"), address);
        assert!(given.tcp(address).is_none(), "once only");
        assert!(given.unix(&path).is_some() && given.unix(Path::new("/nowhere")).is_none());
        assert_eq!(given.rest(), [unasked.to_string()]);
    }

    #[test]
    fn descriptors_for_another_process_are_left_alone() {
        assert!(Given::take().rest().is_empty());
    }
}
