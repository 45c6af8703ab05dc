//! Handing a message in: to smtpd over `submit.sock`, or to postdrop when smtpd cannot take it now.

use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mail_ipc::frame::{Frame, encode};
use mail_ipc::sockets::SUBMIT;
use mail_ipc::submit::{Request, Response};
use mail_types::{QueueId, Reply, Severity};

use super::options::Submission;
use crate::conversation::{Conversation, TalkError};
use crate::exit::{Failure, TEMPORARY, UNAVAILABLE};

/// Octets of recipients in one frame, well below the limit of frames also where JSON escapes much.
const PAGE: usize = 32 * 1024;

/// How smtpd took a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is in the queue, durable.
    Queued(QueueId),
    /// It will never be taken.
    Refused(Reply),
    /// It could not be taken now; the text says why. Whether smtpd has it may be unknown: then it is handed in again,
    /// because a second copy is better than none.
    NotNow(String),
}

/// The frames of a submission: the first with as many recipients as fit, then the further pages.
fn requests(submission: &Submission, recipients: &[String], length: u64) -> Vec<Request> {
    let mut pages = vec![Vec::new()];
    let mut octets = 0;
    for recipient in recipients {
        if octets + recipient.len() > PAGE {
            pages.push(Vec::new());
            octets = 0;
        }
        octets += recipient.len() + 4;
        if let Some(page) = pages.last_mut() {
            page.push(recipient.clone());
        }
    }
    let count = pages.len();
    let request = |(at, recipients): (usize, Vec<String>)| match at {
        0 => Request::Submit {
            sender: submission.sender.clone(),
            full_name: submission.full_name.clone(),
            recipients,
            more_recipients: count > 1,
            dsn: submission.dsn.clone(),
            notify: submission.notify,
            purpose: submission.purpose,
            length,
        },
        _ => Request::Recipients { recipients, more: at + 1 < count },
    };
    pages.into_iter().enumerate().map(request).collect()
}

/// Hands the message to smtpd.
#[must_use]
pub fn to_smtpd(state: &Path, submission: &Submission, recipients: &[String], content: &[u8]) -> Taken {
    let talk = || {
        let mut conversation = Conversation::open(state, SUBMIT)?;
        for request in requests(submission, recipients, content.len() as u64) {
            conversation.say(&request)?;
        }
        // smtpd may refuse after the first frame and close; its answer counts then, not the broken pipe.
        let sent = conversation.content(content);
        match conversation.answer::<Response>() {
            Ok((response, _)) => Ok(response),
            Err(error) => Err(sent.err().unwrap_or(error)),
        }
    };
    match talk() {
        Ok(Response::Accepted { id }) => Taken::Queued(id),
        Ok(Response::Refused { reply }) if reply.severity() == Severity::Permanent => Taken::Refused(reply),
        Ok(Response::Refused { reply }) => Taken::NotNow(reply.to_string()),
        Ok(Response::NotUnderstood) => Taken::NotNow("smtpd is of another version".to_owned()),
        Err(TalkError::Down(error)) => Taken::NotNow(format!("smtpd is down: {error}")),
        Err(error) => Taken::NotNow(format!("smtpd: {error}")),
    }
}

/// The octets of a maildrop file (see `mail_ipc::maildrop`).
///
/// # Errors
/// A single field is longer than a frame may be.
pub fn maildrop_file(submission: &Submission, recipients: &[String], content: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut file = Vec::with_capacity(content.len() + PAGE);
    for request in requests(submission, recipients, content.len() as u64) {
        encode(&Frame::new(1, request), 0, &mut file).map_err(|error| Failure::new(UNAVAILABLE, error.to_string()))?;
    }
    file.extend_from_slice(content);
    Ok(file)
}

/// Hands the message to postdrop, which keeps it in `maildrop/` until smtpd is back. `program` is tried beside this binary first.
///
/// # Errors
/// postdrop's own exit code and what it said; 75 if it cannot be run.
pub fn to_postdrop(
    command_directory: &Path,
    configuration: &Path,
    submission: &Submission,
    recipients: &[String],
    content: &[u8],
) -> Result<(), Failure> {
    let file = maildrop_file(submission, recipients, content)?;
    let program = postdrop(command_directory);
    let unable = |error: io::Error| Failure::new(TEMPORARY, format!("{}: {error}", program.display()));
    let mut command = Command::new(&program);
    command.arg("-r").arg("-c").arg(configuration).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(unable)?;
    if let Some(mut input) = child.stdin.take() {
        // A postdrop that refuses stops reading; its exit code says why.
        let _ = input.write_all(&file);
    }
    let output = child.wait_with_output().map_err(unable)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or("postdrop failed").trim();
    let code =
        output.status.code().and_then(|code| u8::try_from(code).ok()).filter(|_| output.status.signal().is_none());
    Err(Failure::new(code.unwrap_or(TEMPORARY), said.strip_prefix("postdrop: fatal: ").unwrap_or(said)))
}

fn postdrop(command_directory: &Path) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|us| us.parent().map(|directory| directory.join("postdrop")));
    beside.filter(|path| path.exists()).unwrap_or_else(|| command_directory.join("postdrop"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_recipients_go_in_pages_that_come_back_as_one() {
        let recipients: Vec<String> = (0..10_000).map(|n| format!("\"user {n}\"@a-long-domain.example")).collect();
        let submission = Submission { sender: Some(String::new()), ..Submission::default() };
        let file = maildrop_file(&submission, &recipients, b"hello\n").expect("fits");
        let head = mail_ipc::maildrop::head(&file).expect("good").expect("whole");
        assert_eq!(&file[usize::try_from(head.offset).expect("short")..], b"hello\n");
        let Request::Submit { recipients: read, sender, more_recipients, .. } = head.submission else {
            panic!("submit")
        };
        assert_eq!((read, sender.as_deref(), more_recipients), (recipients, Some(""), false));
    }
}
