//! Submissions in our `maildrop/` that smtpd has not seen: they become files of Postfix's `maildrop/`, each its submitter's own.
//!
//! Ours gets another name and is made incomplete first, so that no smtpd looks at it; then Postfix's gets its name; then ours goes. The name of the waiting file
//! tells which belongs to which.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mail_ipc::maildrop::{COMPLETE, DIRECTORY, INCOMPLETE, head};
use mail_ipc::submit::Request;
use mail_posix::files::{rename_noreplace, sync_directory};
use mail_posix::{points, users};
use mail_types::UnixTime;
use postfix_queue::{Dropped, id};

use super::account::{Account, Handed, Left};
use super::hand_over::write;
use crate::exit::{Failure, IO};
use crate::ours::Ours;
use crate::own_log::OwnLog;
use crate::spool::{DROPPED, Spool};

/// What the names of waiting submissions begin with.
pub const PREFIX: &str = "drop-";

fn failed(what: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::new(IO, format!("{}: {error}", what.display()))
}

/// The complete submissions that wait.
#[must_use]
pub fn waiting(state: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state.join(DIRECTORY)).into_iter().flatten().flatten();
    let complete = |path: &PathBuf| {
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o777 == COMPLETE)
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(complete).collect();
    paths.sort();
    paths
}

/// Hands them over, after finishing what an earlier run began.
///
/// # Errors
/// The disk refuses; a further run goes on from there.
pub fn hand_over(
    spool: &Spool,
    ours: &Ours,
    staging: &Path,
    log: &OwnLog,
    account: &mut Account,
) -> Result<(), Failure> {
    resume(&ours.state, staging)?;
    for path in waiting(&ours.state) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match prepare(&path) {
            Ok((file, owner)) => {
                let target = hand_one(spool, &path, &staging.join(format!("{PREFIX}{name}")), &file, owner)?;
                log.line(&format!("maildrop/{name}: handed over to Postfix as {target}"));
                account.submitted += 1;
                account.handed.push(Handed { old: format!("maildrop/{name}"), new: target });
            }
            Err(reason) => {
                log.warning(&format!("maildrop/{name}: left: {reason}"));
                account.left.push(Left { message: format!("maildrop/{name}"), reason });
            }
        }
    }
    Ok(())
}

/// A waiting file that has not got its name: its submission is still ours. One that is gone got it: ours goes.
fn resume(state: &Path, staging: &Path) -> Result<(), Failure> {
    let entries = fs::read_dir(state.join(DIRECTORY)).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(original) = name.strip_prefix(LEAVING) else { continue };
        let staged = staging.join(format!("{PREFIX}{original}"));
        if staged.exists() {
            fs::remove_file(&staged).map_err(failed(&staged))?;
            let back = path.with_file_name(original);
            fs::rename(&path, &back).map_err(failed(&back))?;
            fs::set_permissions(&back, fs::Permissions::from_mode(COMPLETE)).map_err(failed(&back))?;
        } else {
            fs::remove_file(&path).map_err(failed(&path))?;
        }
    }
    // A file that waits for a submission that was not renamed yet.
    for entry in fs::read_dir(staging).map_err(failed(staging))?.flatten() {
        fs::remove_file(entry.path()).map_err(failed(&entry.path()))?;
    }
    Ok(())
}

/// What the names of submissions begin with while they are handed over.
const LEAVING: &str = "leaving-";

fn hand_one(spool: &Spool, path: &Path, staged: &Path, octets: &[u8], owner: u32) -> Result<String, Failure> {
    let file = write(spool, staged, octets, DROPPED).map_err(failed(staged))?;
    if rustix::process::geteuid().is_root() {
        chown(staged, Some(owner), spool.drop_group).map_err(failed(staged))?;
    }
    file.sync_all().map_err(failed(staged))?;
    let inode = file.metadata().map_err(failed(staged))?.ino();
    staged.parent().map_or(Ok(()), sync_directory).map_err(failed(staged))?;
    points::reached("leave-drop-staged");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let leaving = path.with_file_name(format!("{LEAVING}{name}"));
    fs::rename(path, &leaving).map_err(failed(path))?;
    fs::set_permissions(&leaving, fs::Permissions::from_mode(INCOMPLETE)).map_err(failed(path))?;
    File::open(&leaving).and_then(|file| file.sync_all()).map_err(failed(path))?;
    path.parent().map_or(Ok(()), sync_directory).map_err(failed(path))?;
    points::reached("leave-drop-leaving");
    let now = UnixTime::from_system(SystemTime::now());
    let id = id::name(now.seconds(), u32::try_from(now.0 % 1000 * 1000).unwrap_or(0), inode, spool.long_ids);
    let target = spool.path("maildrop", &id);
    rename_noreplace(staged, &target).map_err(failed(&target))?;
    target.parent().map_or(Ok(()), sync_directory).map_err(failed(&target))?;
    points::reached("leave-drop-named");
    fs::remove_file(&leaving).map_err(failed(&leaving))?;
    Ok(format!("maildrop/{id}"))
}

/// The octets of Postfix's file and the submitter, or why there can be none.
fn prepare(path: &Path) -> Result<(Vec<u8>, u32), String> {
    let mut octets = Vec::new();
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    file.read_to_end(&mut octets).map_err(|error| error.to_string())?;
    let owner = file.metadata().map_err(|error| error.to_string())?.uid();
    let head = head(&octets).map_err(|error| error.to_string())?.ok_or("it is cut short")?;
    let begin = usize::try_from(head.offset).map_err(|error| error.to_string())?;
    let content = octets.get(begin..).filter(|content| content.len() as u64 == head.length).ok_or("it is cut short")?;
    let Request::Submit { sender, full_name, recipients, dsn, notify, purpose, .. } = head.submission else {
        return Err("it is no submission".to_owned());
    };
    let sender = match sender {
        Some(sender) => sender,
        None => user_name(owner)?,
    };
    let dropped = Dropped {
        arrival: UnixTime::from_system(SystemTime::now()),
        sender: &sender,
        full_name: full_name.as_ref().map(mail_types::Octets::as_bytes),
        recipients: &recipients,
        ret: dsn.ret,
        envid: dsn.envid.as_deref(),
        notify,
        purpose,
        content,
    };
    Ok((dropped.write(), owner))
}

fn user_name(uid: u32) -> Result<String, String> {
    let user = users::by_uid(uid).map_err(|error| error.to_string())?;
    user.map(|user| user.name).ok_or_else(|| format!("its submitter, uid {uid}, is no user of this machine"))
}
