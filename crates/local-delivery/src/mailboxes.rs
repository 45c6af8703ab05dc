//! Deliveries into one mailbox, carried out by a deliverer.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mail_store::StoreError;
use mail_store::maildir::{Batch, DeliveryName, Maildir};
use mail_store::mbox::{Mbox, MboxError, lock_methods};
use mail_types::Octets;

use crate::command;
use crate::deliverer::Task;
use crate::job::{GONE, Report, Target};

/// Delivers tasks that all have this target: one report for each, in their order.
#[must_use]
pub fn deliver(target: &Target, tasks: &[Task]) -> Vec<Report> {
    match target {
        Target::Maildir { path, size_limit } => to_maildir(&path_of(path), *size_limit, tasks),
        Target::Mbox { path, size_limit, locks, patience, stale, owner } => {
            let locks = match lock_methods(locks.iter().map(String::as_str)) {
                Ok(locks) => locks,
                Err(word) => {
                    let text = format!("mail system configuration error: mailbox_delivery_lock: {word}");
                    return tasks.iter().map(|_| Report::deferred(3, 5, text.clone())).collect();
                }
            };
            let mbox = Mbox {
                path: path_of(path),
                locks,
                patience: Duration::from_millis(*patience),
                stale: Duration::from_millis(*stale),
                size_limit: *size_limit,
                owner: *owner,
            };
            to_mbox(mbox, tasks)
        }
        Target::Nothing => tasks.iter().map(|_| Report::bounced(3, 5, GONE)).collect(),
        Target::Elsewhere => tasks.iter().map(|_| target.verified()).collect(),
        Target::Command(program) => tasks.iter().map(|task| command::run(program, task)).collect(),
    }
}

fn path_of(path: &Octets) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(path.as_bytes()))
}

fn to_maildir(path: &Path, size_limit: u64, tasks: &[Task]) -> Vec<Report> {
    let failed = |error: &StoreError| maildir_failure(path, error);
    let maildir = match Maildir::create(path) {
        Ok(maildir) => maildir,
        Err(error) => return tasks.iter().map(|_| failed(&error)).collect(),
    };
    let mut batch = maildir.batch();
    let too_large: Vec<bool> = tasks.iter().map(|task| add(&mut batch, task, size_limit)).collect();
    // Nothing is reported before these syncs.
    let mut results = batch.commit().into_iter();
    let report = |too_large: bool| match results.next() {
        Some(Ok(())) => Report::Delivered { text: "delivered to maildir".to_owned() },
        Some(Err(_)) if too_large => {
            Report::bounced(2, 2, "maildir delivery failed: error writing message: File too large")
        }
        Some(Err(error)) => failed(&error),
        None => Report::deferred(3, 0, "maildir delivery failed: no result"),
    };
    too_large.into_iter().map(report).collect()
}

/// Adds a task to a batch; whether it is larger than allowed.
fn add(batch: &mut Batch<'_>, task: &Task, size_limit: u64) -> bool {
    let job = &task.job;
    let name = DeliveryName { queue_id: job.id, recipient: job.recipient, host: &job.host };
    let mut too_large = false;
    batch.add(&name, job.repeated, |message| {
        message.write(job.prefix.as_bytes())?;
        task.body.pieces(&job.omit, |piece| {
            message.write(piece)?;
            too_large |= size_limit != 0 && message.sizes().0 > size_limit;
            if too_large { Err(StoreError::NoSpace) } else { Ok(()) }
        })
    });
    too_large
}

/// What is reported of a Maildir that cannot be written to.
#[must_use]
pub fn maildir_failure(path: &Path, error: &StoreError) -> Report {
    match error {
        StoreError::NoSpace => Report::deferred(3, 1, "maildir delivery failed: No space left on device"),
        StoreError::NoSuchMailbox => {
            Report::deferred(2, 0, format!("maildir delivery failed: {} is not a directory", path.display()))
        }
        other => Report::deferred(2, 0, format!("maildir delivery failed: {other}")),
    }
}

/// One message after the other. A lock that nobody gives up is waited for once.
fn to_mbox(mut mbox: Mbox, tasks: &[Task]) -> Vec<Report> {
    let deliver = |task: &Task| {
        let (report, locked) = append(&mbox, task);
        if locked {
            mbox.patience = Duration::ZERO;
        }
        report
    };
    tasks.iter().map(deliver).collect()
}

/// Appends a message; also whether others held the lock all the time.
fn append(mbox: &Mbox, task: &Task) -> (Report, bool) {
    let job = &task.job;
    let appended = mbox.append(&job.from_line, |writer| {
        writer.write(job.prefix.as_bytes())?;
        task.body.pieces(&job.omit, |piece| writer.write(piece))
    });
    let prefix = format!("cannot update mailbox {}", mbox.path.display());
    let locked = matches!(appended, Err(MboxError::Store(StoreError::Locked)));
    let report = match appended {
        Ok(()) => Report::Delivered { text: "delivered to mailbox".to_owned() },
        Err(MboxError::TooLarge) => Report::bounced(2, 2, format!("{prefix}. error writing message: File too large")),
        Err(MboxError::Unsafe(why)) => Report::deferred(2, 0, format!("{prefix}. {why}")),
        Err(MboxError::Store(StoreError::NoSpace)) => {
            Report::deferred(3, 1, format!("{prefix}. No space left on device"))
        }
        Err(MboxError::Store(StoreError::Locked)) => Report::deferred(
            2,
            0,
            format!("{prefix}. unable to lock for exclusive access: Resource temporarily unavailable"),
        ),
        Err(MboxError::Store(error)) => Report::deferred(2, 0, format!("{prefix}. {error}")),
    };
    (report, locked)
}
