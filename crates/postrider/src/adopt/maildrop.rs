//! Submissions that Postfix has not seen: they become files of our own `maildrop/`, which smtpd picks up as it does postdrop's, with all
//! rewriting and checks.
//!
//! The file is written incomplete, so that nobody looks at it; then Postfix's own moves away; then ours is complete. The name tells what
//! belongs together.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use mail_ipc::maildrop::{COMPLETE, DIRECTORY, INCOMPLETE};
use mail_posix::files::sync_directory;
use mail_posix::points;
use mail_types::{Address, DsnOptions, Notify, Octets, Ret};
use postfix_queue::{LIMITS, QueueFile, Recipient, read};

use super::account::Account;
use super::moving::move_durably;
use crate::exit::{Failure, IO};
use crate::ours::Ours;
use crate::own_log::OwnLog;
use crate::sendmail::options::Submission;
use crate::sendmail::submit::maildrop_file;
use crate::spool::{Found, Spool};

/// What the names of adopted submissions begin with.
const PREFIX: &str = "adopted-";

fn failed(what: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::new(IO, format!("{}: {error}", what.display()))
}

/// Takes the submissions, after finishing what an earlier run began.
///
/// # Errors
/// The disk refuses; a further run goes on from there.
pub fn take_all(
    spool: &Spool,
    ours: &Ours,
    adopted: &Path,
    files: Vec<Found>,
    log: &OwnLog,
    account: &mut Account,
) -> Result<(), Failure> {
    let directory = ours.state.join(DIRECTORY);
    finish(&directory, adopted, account)?;
    for found in files {
        match prepare(&found) {
            Ok(file) => {
                let name = format!("{PREFIX}{}-{}", found.id, found.inode);
                take(&found, &file, &directory.join(&name), &adopted.join(&name))?;
                log.line(&format!("{}: adopted as maildrop/{name}", found.shown()));
                account.submission(found.id.clone(), format!("maildrop/{name}"));
            }
            Err(reason) => {
                log.warning(&format!("{}: left in Postfix's queue: {reason}", found.shown()));
                account.left(found.shown(), &reason);
            }
        }
    }
    sync_directory(&spool.root.join("maildrop")).or_else(missing).map_err(failed(&spool.root))
}

fn missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Files that were written and not made complete: those whose originals have moved are complete now, the others go.
fn finish(directory: &Path, adopted: &Path, account: &mut Account) -> Result<(), Failure> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let incomplete = entry.metadata().is_ok_and(|metadata| metadata.mode() & 0o777 == INCOMPLETE);
        if !(incomplete && name.to_string_lossy().starts_with(PREFIX)) {
            continue;
        }
        let path = entry.path();
        if adopted.join(&name).exists() {
            complete(&path).map_err(failed(&path))?;
            account.resumed += 1;
        } else {
            fs::remove_file(&path).map_err(failed(&path))?;
        }
    }
    Ok(())
}

fn take(found: &Found, file: &[u8], ours: &Path, adopted: &Path) -> Result<(), Failure> {
    write(ours, file, found.owner).map_err(failed(ours))?;
    points::reached("adopt-dropped");
    move_durably(&found.path, adopted).map_err(failed(&found.path))?;
    adopted.parent().map_or(Ok(()), sync_directory).map_err(failed(adopted))?;
    points::reached("adopt-drop-moved");
    complete(ours).map_err(failed(ours))
}

/// Writes the file, incomplete, durable, as the submitter's own.
fn write(path: &Path, octets: &[u8], owner: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(INCOMPLETE).open(path)?;
    file.write_all(octets)?;
    if rustix::process::geteuid().is_root() {
        fchown(&file, Some(owner), None)?;
    }
    file.sync_all()?;
    path.parent().map_or(Ok(()), sync_directory)
}

fn complete(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(COMPLETE))?;
    File::open(path)?.sync_all()
}

/// The octets of our file, or why there can be none.
fn prepare(found: &Found) -> Result<Vec<u8>, String> {
    if !found.complete {
        return Err("it is incomplete: its sender was never told that it was accepted".to_owned());
    }
    let octets = found.read().map_err(|error| error.to_string())?;
    let file = read(&octets, &LIMITS).map_err(|error| format!("it is no queue file: {error}"))?;
    let (submission, recipients) = submission(&file)?;
    maildrop_file(&submission, &recipients, &file.content).map_err(|failure| failure.text)
}

fn submission(file: &QueueFile) -> Result<(Submission, Vec<String>), String> {
    if file.verp.is_some() || file.filter.is_some() {
        return Err("it asks for VERP or a content filter".to_owned());
    }
    let purpose = file.purpose().map_err(|refused| format!("it {refused}"))?;
    let sender = file.sender.as_deref().ok_or("it has no sender")?;
    let first = file.recipients.first().ok_or("it has no recipients")?;
    if file.recipients.iter().any(|to| to.notify != first.notify || to.orcpt.is_some()) {
        return Err("its recipients have different DSN parameters".to_owned());
    }
    let typed = |to: &Recipient| as_typed(&to.address);
    let recipients = file.recipients.iter().map(typed).collect::<Option<Vec<_>>>();
    let envid = file.envid.clone().map(String::from_utf8).transpose().map_err(|_| "its ENVID is not ASCII")?;
    let ret = [None, Some(Ret::Full), Some(Ret::Headers)].get(usize::from(file.ret)).copied().flatten();
    let submission = Submission {
        sender: Some(as_typed(sender).ok_or("its sender is not UTF-8")?),
        full_name: file.full_name.clone().map(Octets::new),
        dsn: DsnOptions { ret, envid },
        notify: notify(first.notify),
        purpose,
        ..Submission::default()
    };
    Ok((submission, recipients.ok_or("a recipient is not UTF-8")?))
}

fn notify(bits: u8) -> Option<Notify> {
    (bits != 0).then_some(Notify { success: bits & 2 != 0, failure: bits & 4 != 0, delay: bits & 8 != 0 })
}

/// An address in its internal form as somebody would type it: with quotes where it needs them.
fn as_typed(octets: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(octets).ok()?;
    let complete = text.rsplit_once('@').and_then(|(local, domain)| {
        Address::new(local, mail_types::Domain::new(domain).ok()?).ok().map(|address| address.to_string())
    });
    Some(complete.unwrap_or_else(|| text.to_owned()))
}
