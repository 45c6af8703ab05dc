//! Unix sockets in directories of any depth.
//!
//! An address holds 107 bytes of path, which a temporary directory easily exceeds. So the directory is opened, and the socket is reached
//! through `/proc/self/fd/N/NAME`, which is short.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Binds a stream socket at `path` with this mode and listens. Before anyone can connect the mode is right.
/// A socket that a dead process left is replaced; one that answers is `AddrInUse`. Two starters are kept apart by a lock on the directory.
///
/// # Errors
/// The directory is missing, somebody listens there, or something that is no socket has the name.
pub fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let (directory, name) = open_parent(path)?;
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive)?;
    remove_stale(&directory, &name)?;
    let socket = new_socket()?;
    // On Linux the name gets the socket's own mode, less the umask: never more than wanted, and exactly it before listen.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
    rustix::net::bind(&socket, &address(&directory, &name)?)?;
    rustix::fs::chmodat(&directory, &name, Mode::from_raw_mode(mode), AtFlags::empty())?;
    rustix::net::listen(&socket, 1024)?;
    Ok(UnixListener::from(socket))
}

/// Connects to the stream socket at `path`.
///
/// # Errors
/// `NotFound` when there is no such socket, `ConnectionRefused` when nobody listens.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let (directory, name) = open_parent(path)?;
    let socket = new_socket()?;
    rustix::net::connect(&socket, &address(&directory, &name)?)?;
    Ok(UnixStream::from(socket))
}

/// A connected pair of stream sockets, close-on-exec.
///
/// # Errors
/// The system has no descriptor left.
pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
    UnixStream::pair()
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

fn open_parent(path: &Path) -> io::Result<(OwnedFd, String)> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty()).or_else(|error| match error {
        // A directory that may be passed through but not listed (mode 0710).
        rustix::io::Errno::ACCESS => rustix::fs::open(parent, flags | OFlags::PATH, Mode::empty()),
        other => Err(other),
    })?;
    Ok((directory, name.to_owned()))
}

fn address(directory: &OwnedFd, name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?)
}

fn remove_stale(directory: &OwnedFd, name: &str) -> io::Result<()> {
    let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{name} exists and is not a socket")));
    }
    let probe = new_socket()?;
    match rustix::net::connect(probe.as_fd(), &address(directory, name)?) {
        Err(rustix::io::Errno::CONNREFUSED) => Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_deep_directory_is_no_obstacle() {
        let temporary = tempfile::tempdir().unwrap();
        let deep = temporary.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("x.sock");
        let listener = bind(&path, 0o660).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let mut client = connect(&path).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hi").unwrap();
        let mut text = [0; 2];
        server.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hi");
    }

    #[test]
    fn a_listening_socket_is_not_taken_over() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("x.sock");
        let _first = bind(&path, 0o600).unwrap();
        assert_eq!(bind(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_socket_of_a_dead_process_is_replaced() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("x.sock");
        drop(bind(&path, 0o600).unwrap());
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let _second = bind(&path, 0o600).unwrap();
        connect(&path).unwrap();
    }

    #[test]
    fn a_file_with_the_name_is_left_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("x.sock");
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn an_absent_socket_is_not_found() {
        let temporary = tempfile::tempdir().unwrap();
        assert_eq!(connect(&temporary.path().join("x.sock")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
