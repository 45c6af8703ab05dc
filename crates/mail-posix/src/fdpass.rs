//! Descriptors over Unix sockets, and who is at the other end.
//!
//! A socket that may carry descriptors is read only with [`receive`]: a plain read would drop them silently, and a descriptor that nobody
//! expected would stay open. All received descriptors are close-on-exec.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// The most descriptors that one call sends or takes.
pub const MAX_DESCRIPTORS: usize = 64;

/// What one call of [`receive`] took.
#[derive(Debug)]
pub struct Received {
    /// How many bytes were written to the buffer; 0 means the peer closed its side.
    pub bytes: usize,
    /// The descriptors that came with them, in order.
    pub descriptors: Vec<OwnedFd>,
}

/// The process at the other end of a Unix socket, as it was when it connected (or made the pair).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its process id.
    pub pid: u32,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
}

/// Sends bytes and, with the first of them, descriptors. Returns how many bytes were taken: if at least one was, the descriptors are gone
/// with it and the rest of the bytes is sent without them. On a non-blocking socket the error may be [`io::ErrorKind::WouldBlock`].
///
/// # Errors
/// Descriptors without bytes, more than [`MAX_DESCRIPTORS`], or the socket's error (a closed peer is `BrokenPipe`, never SIGPIPE).
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if descriptors.len() > MAX_DESCRIPTORS || (bytes.is_empty() && !descriptors.is_empty()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    retry(|| rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL))
}

/// Receives bytes and the descriptors that travel with them, at most `limit` of them.
///
/// # Errors
/// The socket's error ([`io::ErrorKind::WouldBlock`] on a non-blocking one), or `InvalidData` when more descriptors came than allowed: they
/// are closed and the connection must be closed too.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], limit: usize) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message =
        retry(|| rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more descriptors than expected"));
    }
    Ok(Received { bytes: message.bytes, descriptors })
}

/// The credentials of the peer (SO_PEERCRED). The uid is what decides which role may connect.
///
/// # Errors
/// Not a connected Unix socket.
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let credentials = rustix::net::sockopt::socket_peercred(socket)?;
    Ok(Peer {
        pid: credentials.pid.as_raw_nonzero().get().unsigned_abs(),
        uid: credentials.uid.as_raw(),
        gid: credentials.gid.as_raw(),
    })
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Takes the descriptors that a supervisor left open for this process: as many as it says, from number 3 on (sd_listen_fds(3)). They become
/// close-on-exec. To be called once, before this process has opened anything itself; numbers that are not open are left out.
#[must_use]
pub fn inherited(count: u32) -> Vec<OwnedFd> {
    const FIRST: i32 = 3;
    let last = FIRST.saturating_add(i32::try_from(count.min(1024)).unwrap_or(0));
    let open = (FIRST..last).filter(|&number| {
        // SAFETY: sets a flag of a descriptor; a number that is not open gives an error.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) == 0 }
    });
    // SAFETY: they are open, and the caller says that nothing in this process owns them.
    open.map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn file_with(text: &str) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn bytes_and_descriptors_arrive_together() {
        let (left, right) = UnixStream::pair().unwrap();
        let (one, two) = (file_with("one"), file_with("two"));
        assert_eq!(send(&left, b"hello", &[one.as_fd(), two.as_fd()]).unwrap(), 5);
        let mut buffer = [0; 16];
        let received = receive(&right, &mut buffer, 2).unwrap();
        assert_eq!((&buffer[..received.bytes], received.descriptors.len()), (&b"hello"[..], 2));
        let mut text = String::new();
        let mut second = std::fs::File::from(received.descriptors.into_iter().nth(1).unwrap());
        second.read_to_string(&mut text).unwrap();
        assert_eq!(text, "two");
        assert!(rustix::io::fcntl_getfd(&second).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn an_unexpected_descriptor_is_an_error() {
        let (left, right) = UnixStream::pair().unwrap();
        send(&left, b"x", &[left.as_fd()]).unwrap();
        assert_eq!(receive(&right, &mut [0; 4], 0).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_non_blocking_socket_says_would_block() {
        let (left, right) = UnixStream::pair().unwrap();
        right.set_nonblocking(true).unwrap();
        assert_eq!(receive(&right, &mut [0; 4], 1).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(left);
        assert_eq!(receive(&right, &mut [0; 4], 1).unwrap().bytes, 0);
    }

    #[test]
    fn a_closed_peer_is_an_error_and_not_a_signal() {
        let (left, right) = UnixStream::pair().unwrap();
        drop(right);
        assert_eq!(send(&left, b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn descriptors_need_a_byte_to_travel_with() {
        let (left, _right) = UnixStream::pair().unwrap();
        assert_eq!(send(&left, b"", &[left.as_fd()]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn the_peer_is_who_made_the_pair() {
        let (left, _right) = UnixStream::pair().unwrap();
        let peer = peer(&left).unwrap();
        assert_eq!((peer.pid, peer.uid), (std::process::id(), rustix::process::geteuid().as_raw()));
    }
}
