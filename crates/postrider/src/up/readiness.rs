//! Where a daemon says READY=1: the notification protocol of sd_notify(3), on a socket of ours per daemon.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The longest notification that is read in octets.
const NOTIFICATION_MAX: usize = 4096;

/// A socket that one daemon is told of through `NOTIFY_SOCKET`.
#[derive(Debug)]
pub struct ReadySocket {
    socket: UnixDatagram,
    name: String,
}

impl ReadySocket {
    /// Opens a socket with an abstract name, so that no directory is too deep for it and nothing stays behind.
    ///
    /// # Errors
    /// The system has no descriptor or no random octets.
    pub fn open(instance: &str) -> io::Result<Self> {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let name = format!("postrider-up/{}/{instance}/{:016x}", std::process::id(), u64::from_ne_bytes(random));
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, name })
    }

    /// The value of `NOTIFY_SOCKET`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("@{}", self.name)
    }

    /// Reads what has come; whether the daemon said that it is ready.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub fn take(&self) -> io::Result<bool> {
        let mut buffer = [0; NOTIFICATION_MAX];
        let mut ready = false;
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(count) => ready |= buffer[..count].split(|&b| b == b'\n').any(|line| line == b"READY=1"),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ready),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for ReadySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_heard_and_other_news_is_not_taken_for_it() {
        let socket = ReadySocket::open("smtpd").expect("opens");
        let name = socket.address();
        let address = SocketAddr::from_abstract_name(name.trim_start_matches('@')).expect("a name");
        let daemon = UnixDatagram::unbound().expect("a socket");
        daemon.send_to_addr(b"STATUS=starting\nNOTREADY=1", &address).expect("sends");
        assert!(!socket.take().expect("reads"));
        daemon.send_to_addr(b"STATUS=serving\nREADY=1\n", &address).expect("sends");
        assert!(socket.take().expect("reads"));
        assert!(!socket.take().expect("reads"));
    }
}
