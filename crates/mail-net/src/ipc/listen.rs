//! Unix sockets below the state directory, however deep that lies.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tokio::net::UnixStream;

/// The longest path that fits into `sun_path`.
const PATH_MAX: usize = 107;

/// Runs `act` with a path to `directory/name` that is short enough for a socket address: through a descriptor of the directory where needed.
fn with_short_path<T>(directory: &Path, name: &str, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let path = directory.join(name);
    if path.as_os_str().len() <= PATH_MAX {
        return act(&path);
    }
    let handle =
        File::from(rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
    act(&PathBuf::from(format!("/proc/self/fd/{}/{name}", handle.as_raw_fd())))
}

/// Opens a listening socket file, non-blocking, with a mode. Who sees its name can connect. A file that nobody listens on any more is replaced.
///
/// # Errors
/// Another process listens there (`AddrInUse`, naming the path), or the directory cannot be written.
pub fn bind(directory: &Path, name: &str, mode: u32) -> io::Result<StdListener> {
    let path = directory.join(name);
    match with_short_path(directory, name, |path| StdStream::connect(path)) {
        Ok(_) => {
            let text = format!("another process listens on {}", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(&path)?,
        Err(_) => {}
    }
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display()));
    // Between bind and listen a socket refuses its callers, and its mode is not yet right: it gets its name last.
    let new = format!(".{name}.new");
    let made = directory.join(&new);
    match fs::remove_file(&made) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(error)),
        _ => {}
    }
    let listener = with_short_path(directory, &new, |path| StdListener::bind(path)).map_err(named)?;
    fs::set_permissions(&made, fs::Permissions::from_mode(mode))?;
    fs::rename(&made, &path).map_err(named)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects to a socket file.
///
/// # Errors
/// Nobody listens, or its mode forbids it.
pub fn connect_stream(directory: &Path, name: &str) -> io::Result<UnixStream> {
    let stream = with_short_path(directory, name, |path| StdStream::connect(path))?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deep_directory_and_a_stale_file_are_no_obstacle() {
        let temporary = tempfile::tempdir().expect("a directory");
        let deep = temporary.path().join("x".repeat(100)).join("y".repeat(100));
        fs::create_dir_all(&deep).expect("created");
        drop(bind(&deep, "a.sock", 0o600).expect("bound"));
        let listener = bind(&deep, "a.sock", 0o600).expect("the stale file is replaced");
        connect_stream(&deep, "a.sock").expect("connected");
        assert_eq!(bind(&deep, "a.sock", 0o600).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
        drop(listener);
    }

    #[tokio::test]
    async fn whoever_sees_the_socket_can_connect() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path().join("a.sock");
        let seen = std::thread::spawn({
            let (directory, path) = (temporary.path().to_owned(), path.clone());
            move || {
                while !path.exists() {
                    std::hint::spin_loop();
                }
                let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o777;
                with_short_path(&directory, "a.sock", |path| StdStream::connect(path)).map(|_| mode)
            }
        });
        let listener = bind(temporary.path(), "a.sock", 0o622).expect("bound");
        assert_eq!(seen.join().expect("ended").expect("connected"), 0o622);
        assert_eq!(fs::read_dir(temporary.path()).expect("listed").count(), 1, "nothing is left behind");
        drop(listener);
    }
}
