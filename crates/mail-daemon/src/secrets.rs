//! TLS keys: read by the process that has the right to, and handed on by value.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mail_posix::locks::{self, Family, Kind};

/// The files of a certificate and its key, as the configuration names them; without names the self-signed pair of the state directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// The chain in PEM.
    pub certificate: Option<PathBuf>,
    /// The key in PEM; often in the same file.
    pub key: Option<PathBuf>,
}

/// A certificate chain and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// The chain.
    pub certificate: Vec<u8>,
    /// The key.
    pub key: Vec<u8>,
}

impl Drop for Pem {
    /// The monitor forks session processes: no copy of a key may stay in its memory.
    fn drop(&mut self) {
        self.key.fill(0);
        std::hint::black_box(&self.key);
    }
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pem")
    }
}

impl TlsFiles {
    /// Reads the pair; makes the self-signed one where no files are named and none was made before.
    ///
    /// # Errors
    /// A file cannot be read; the text names it.
    pub fn read(&self, state: &Path, host: &str) -> io::Result<Pem> {
        let made = (state.join("tls/certificate.pem"), state.join("tls/key.pem"));
        let (certificate, key) = match (&self.certificate, &self.key) {
            (None, _) => {
                make_once(&made.0, &made.1, host)?;
                (&made.0, &made.1)
            }
            (Some(certificate), None) => (certificate, certificate),
            (Some(certificate), Some(key)) => (certificate, key),
        };
        Ok(Pem { certificate: read(certificate)?, key: read(key)? })
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display())))
}

/// Several daemons may start at the same moment: a lock lets one of them make the pair.
fn make_once(certificate: &Path, key: &Path, host: &str) -> io::Result<()> {
    let directory = key.parent().unwrap_or(key);
    let lock =
        fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(directory.join("lock"))?;
    let deadline = Instant::now() + Duration::from_secs(30);
    let _held = locks::lock_until(&lock, Family::Flock, Kind::Exclusive, deadline)?
        .ok_or_else(|| io::Error::other("another process has been making the certificate for 30 seconds"))?;
    if certificate.exists() && key.exists() {
        return Ok(());
    }
    let pair = mail_net::tls::self_signed(host)?;
    write(key, pair.key.as_bytes())?;
    write(certificate, pair.certificate.as_bytes())?;
    fs::File::open(directory)?.sync_all()
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_self_signed_pair_is_made_once_and_kept() {
        let state = tempfile::tempdir().expect("a directory");
        fs::create_dir(state.path().join("tls")).expect("made");
        let first = TlsFiles::default().read(state.path(), "mail.info.net").expect("made");
        assert!(first == TlsFiles::default().read(state.path(), "mail.info.net").expect("kept"));
        let mode = fs::metadata(state.path().join("tls/key.pem")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_missing_key_is_named() {
        let files = TlsFiles { certificate: Some("/nonexistent/cert.pem".into()), key: None };
        let error = files.read(Path::new("/"), "x").expect_err("missing");
        assert!(error.to_string().contains("/nonexistent/cert.pem"));
    }
}
