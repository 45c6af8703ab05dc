//! Writing the file: limited, complete or not there at all, and durable before anyone is told.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mail_ipc::maildrop::{COMPLETE, Head, INCOMPLETE, head};
use mail_ipc::submit::Request;

use crate::{DATA_ERROR, Failure, TEMPORARY, UNAVAILABLE};

/// The most octets before the content: room for some 200,000 recipients.
const HEAD_MAX: u64 = 16 * 1024 * 1024;
/// Octets copied at once.
const CHUNK: usize = 64 * 1024;
/// How many names are tried; only another process with the same id in the same microsecond could have taken one.
const NAMES: u32 = 10;

/// A file that goes away again unless it becomes complete.
struct Unfinished {
    path: PathBuf,
    file: File,
    complete: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.complete {
            // A file that stays is incomplete by its mode, and nobody takes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Copies a submission into a new file of the directory. After Ok it survives a power cut.
///
/// # Errors
/// Exit code 69 if it is larger than `limit` allows, 65 if it is no submission, 75 if the file cannot be written.
pub(crate) fn drop_message(directory: &Path, input: impl Read, limit: Option<u64>) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(TEMPORARY, format!("{}: {error}", directory.display()));
    let mut unfinished = create(directory).map_err(failed)?;
    let most = limit.map(|limit| limit.saturating_add(HEAD_MAX));
    let length = copy(input, &mut unfinished.file, most, failed)?;
    check(&unfinished.file, length, limit)?;
    let file = &unfinished.file;
    // The content is on disk before the mode says that it is complete, and the mode before anyone is told.
    file.sync_all().map_err(failed)?;
    file.set_permissions(fs::Permissions::from_mode(COMPLETE)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    sync_directory(directory, file).map_err(failed)?;
    unfinished.complete = true;
    Ok(())
}

fn create(directory: &Path) -> io::Result<Unfinished> {
    let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
    for attempt in 0..NAMES {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{:X}{:05X}{:X}{attempt}", time.as_secs(), time.subsec_micros(), std::process::id());
        let path = directory.join(name);
        match OpenOptions::new().read(true).write(true).create_new(true).mode(INCOMPLETE).open(&path) {
            Ok(file) => return Ok(Unfinished { path, file, complete: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}

fn copy(
    mut input: impl Read,
    file: &mut File,
    most: Option<u64>,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<u64, Failure> {
    let mut buffer = vec![0; CHUNK];
    let mut length = 0;
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => return Ok(length),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        length += count as u64;
        if most.is_some_and(|most| length > most) {
            return Err(too_big());
        }
        file.write_all(&buffer[..count]).map_err(&failed)?;
    }
}

fn too_big() -> Failure {
    Failure::new(UNAVAILABLE, "message file too big")
}

/// The file must be exactly one submission: smtpd would find out too late.
fn check(file: &File, length: u64, limit: Option<u64>) -> Result<(), Failure> {
    let wrong = |text: &str| Failure::new(DATA_ERROR, format!("malformed input: {text}"));
    let mut start = vec![0; usize::try_from(length.min(HEAD_MAX)).unwrap_or(CHUNK)];
    file.read_exact_at(&mut start, 0).map_err(|error| Failure::new(TEMPORARY, error.to_string()))?;
    let head = head(&start).map_err(|error| wrong(&error.to_string()))?.ok_or_else(|| wrong("no submission"))?;
    if head.offset.checked_add(head.length) != Some(length) {
        return Err(wrong("the content is not as long as it says"));
    }
    if limit.is_some_and(|limit| head.length > limit) {
        return Err(too_big());
    }
    envelope(&head).map_err(wrong)
}

/// Addresses without control characters, and at least one recipient.
fn envelope(head: &Head) -> Result<(), &'static str> {
    let Request::Submit { sender, recipients, .. } = &head.submission else { return Err("no submission") };
    if recipients.is_empty() {
        return Err("no recipients");
    }
    let clean = |text: &String| !text.chars().any(char::is_control);
    if recipients.iter().chain(sender).all(clean) { Ok(()) } else { Err("control character in an address") }
}

/// Makes the new name durable. The group may write the directory and not read it, so it may not be opened for a sync of its own; then the
/// whole file system is synced, which is slow and rare.
fn sync_directory(directory: &Path, file: &File) -> io::Result<()> {
    match mail_posix::files::sync_directory(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(rustix::fs::syncfs(file)?),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use mail_ipc::frame::{Frame, encode};

    use super::*;

    fn submission(recipients: &[&str], content: &[u8], length: u64) -> Vec<u8> {
        let submit = Request::Submit {
            sender: None,
            full_name: None,
            recipients: recipients.iter().map(|&text| text.to_owned()).collect(),
            more_recipients: false,
            dsn: mail_types::DsnOptions::default(),
            notify: None,
            purpose: mail_types::Purpose::Deliver,
            length,
        };
        let mut file = Vec::new();
        encode(&Frame::new(1, submit), 0, &mut file).expect("short");
        file.extend_from_slice(content);
        file
    }

    fn files(directory: &Path) -> Vec<PathBuf> {
        fs::read_dir(directory).expect("reads").map(|entry| entry.expect("an entry").path()).collect()
    }

    #[test]
    fn a_submission_becomes_one_complete_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let octets = submission(&["a@b"], b"hello\n", 6);
        drop_message(directory.path(), &octets[..], Some(6)).expect("dropped");
        let [path] = &files(directory.path())[..] else { panic!("one file") };
        assert_eq!(fs::read(path).expect("reads"), octets);
        assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o7777, COMPLETE);
    }

    #[test]
    fn what_is_refused_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let cases: &[(Vec<u8>, u8)] = &[
            (submission(&["a@b"], b"hello\n", 6), 69),
            (submission(&["a@b"], b"hell", 5), 65),
            (submission(&["a@b"], b"hello", 4), 65),
            (submission(&[], b"", 0), 65),
            (submission(&["a@b\nc@d"], b"", 0), 65),
            (b"From: me\n\nhello\n".to_vec(), 65),
            (Vec::new(), 65),
            (vec![0xff; 100], 65),
        ];
        for (octets, code) in cases {
            let failure = drop_message(directory.path(), &octets[..], Some(5)).expect_err("refused");
            assert_eq!(failure.code, *code, "{failure}");
        }
        assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn endless_input_ends_at_the_limit() {
        let directory = tempfile::tempdir().expect("a directory");
        let failure = drop_message(directory.path(), io::repeat(b'x'), Some(1000)).expect_err("refused");
        assert_eq!(failure.code, 69);
        assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_missing_directory_is_for_now() {
        assert_eq!(drop_message(Path::new("/nonexistent"), &b""[..], None).expect_err("refused").code, TEMPORARY);
    }
}
