//! Certificates of authorities that main.cf names: a file, a directory, and the machine's own.

use std::fs;
use std::path::{Path, PathBuf};

use mail_net::tls::Roots;

/// The certificates of the machine's own authorities (`tls_append_default_CA`).
const OWN: &str = "/etc/ssl/certs";

/// Reads the authorities of a file and a directory; as with Postfix the machine's `own` only join others. The texts say what cannot be read, whose
/// authorities are then not trusted.
#[must_use]
pub fn authorities(file: Option<&Path>, directory: Option<&Path>, own: bool) -> (Roots, Vec<String>) {
    let mut wrong = Vec::new();
    let mut pem = Vec::new();
    let own = (own && (file.is_some() || directory.is_some())).then_some(Path::new(OWN));
    let directories = directory.into_iter().chain(own).flat_map(|directory| match certificates(directory) {
        Ok(paths) => paths,
        Err(error) => {
            wrong.push(format!("cannot read authorities in {}: {error}", directory.display()));
            Vec::new()
        }
    });
    let paths: Vec<PathBuf> = file.into_iter().map(Path::to_owned).chain(directories).collect();
    for path in paths {
        match fs::read(&path) {
            Ok(text) => {
                pem.extend(text);
                pem.push(b'\n');
            }
            Err(error) => wrong.push(format!("cannot read authorities of {}: {error}", path.display())),
        }
    }
    (Roots::from_pem(&pem), wrong)
}

/// The files of a directory of certificates: those with names as OpenSSL looks them up (`c_rehash`), or all where there are none of these.
fn certificates(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)?.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.is_file());
    if paths.iter().any(|path| is_hashed(path)) {
        paths.retain(|path| is_hashed(path));
    }
    paths.sort();
    Ok(paths)
}

/// `9d66eef0.0`
fn is_hashed(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once('.'));
    name.is_some_and(|(hash, number)| {
        hash.len() == 8
            && hash.bytes().all(|digit| digit.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_come_from_a_file_and_from_names_that_are_hashes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let pem = |name: &str| mail_net::tls::self_signed(name).expect("made").certificate;
        fs::write(path("one.pem"), pem("one.example")).expect("written");
        let count = |file: Option<&Path>| authorities(file, Some(directory.path()), false).0.count();
        assert_eq!(count(None), 1);
        fs::write(path("9d66eef0.0"), pem("two.example")).expect("written");
        fs::write(path("9d66eef0.r0"), pem("three.example")).expect("written");
        assert_eq!(count(None), 1);
        assert_eq!(count(Some(&path("one.pem"))), 2);
        let (roots, wrong) = authorities(Some(&path("gone.pem")), None, false);
        assert_eq!((roots.count(), wrong.len()), (0, 1));
        assert_eq!(authorities(None, None, true).0.count(), 0);
    }
}
