//! `sendmail`, and its other names `mailq` and `newaliases`: hands in a message, or does what its options ask for instead.

pub mod addresses;
pub mod message;
pub mod options;
mod smtp;
pub mod submit;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use mail_types::{Octets, Purpose};

use self::message::ReadError;
use self::options::{Flush, Mode, Submission};
use self::submit::Taken;
use crate::exit::{Failure, IO, Outcome, TEMPORARY, UNAVAILABLE};
use crate::postqueue::{self, Form};
use crate::system::{System, directory};
use crate::terminal::{complain, print};

/// Runs the command under the name that was typed.
///
/// # Errors
/// Exit codes of sysexits.h, as Postfix's sendmail has them.
pub fn run(name: &str, arguments: &[OsString]) -> Outcome {
    let options = options::parse(name, arguments)?;
    for warning in &options.warnings {
        complain(&format!("{name}: warning: {warning}"));
    }
    let configuration = options.configuration.as_deref();
    match options.mode {
        Mode::Nothing => return Ok(0),
        Mode::Start => return crate::postfix::start(&directory(configuration)),
        _ => {}
    }
    let door = Door::find(configuration)?;
    match options.mode {
        Mode::Submit(submission) => submit(&door, *submission),
        Mode::Smtp => smtp::run(&System::load(configuration)?.config.main, &door),
        Mode::List { json } => postqueue::list(&door.state, if json { Form::Json } else { Form::Text }),
        Mode::Aliases(database) => crate::postmap::new_aliases(&System::load(configuration)?, database.as_deref()),
        Mode::Flush(Flush::All) => postqueue::flush(&door.state),
        Mode::Flush(Flush::Message(id)) => postqueue::flush_message(&door.state, id),
        Mode::Flush(Flush::Site(site)) => postqueue::flush_site(&door.state, site.as_ref()),
        Mode::Nothing | Mode::Start => Ok(0),
    }
}

/// Where messages are handed in.
struct Door {
    /// The configuration directory.
    configuration: PathBuf,
    /// The state directory.
    state: PathBuf,
    /// The directory of postdrop, where it is not beside this binary.
    commands: PathBuf,
    /// The largest message in octets, if there is a limit.
    limit: Option<u64>,
}

impl Door {
    /// Reads it from main.cf. While main.cf is broken, mail of a running system still goes in: smtpd holds to its own limits.
    fn find(option: Option<&OsStr>) -> Result<Self, Failure> {
        let configuration = directory(option);
        match System::load(option) {
            Ok(System { config }) => Ok(Self {
                configuration,
                state: config.state_dir(),
                commands: config.main.expanded("command_directory").map(PathBuf::from).unwrap_or_default(),
                limit: Some(*config.main.message_size_limit).filter(|limit| *limit > 0),
            }),
            // A broken main.cf is for a person to mend; until then the message stays with the caller.
            Err(failure) => System::state(option)
                .map(|state| Self { configuration, state, commands: PathBuf::from("/usr/sbin"), limit: None })
                .map_err(|_| Failure::new(TEMPORARY, failure.text)),
        }
    }
}

fn submit(door: &Door, mut submission: Submission) -> Outcome {
    let who = who();
    let fatal = |code, text: &str| Failure::new(code, format!("{who}: {text}"));
    if !submission.extract && submission.recipients.is_empty() {
        return Err(fatal(TEMPORARY, "Recipient addresses must be specified on the command line or via the -t option"));
    }
    if submission.purpose == Purpose::Verify {
        return verify(door, submission);
    }
    let content =
        message::read(std::io::stdin().lock(), submission.ignore_dots, door.limit).map_err(|error| match error {
            ReadError::TooBig => fatal(UNAVAILABLE, "message file too big"),
            ReadError::Input(error) => fatal(IO, &format!("error reading input: {error}")),
        })?;
    let message = message::take_header(&content);
    drop(content);
    let mut recipients = std::mem::take(&mut submission.recipients);
    if submission.extract {
        recipients.extend(message.header_recipients);
        if recipients.is_empty() {
            return Err(fatal(TEMPORARY, "No recipient addresses found in message header"));
        }
    }
    submission.full_name = submission.full_name.take().or_else(own_full_name);
    hand_in(door, &submission, &recipients, &message.content)?;
    announce(&submission);
    Ok(0)
}

/// Asks what would become of the recipients; nothing is read.
fn verify(door: &Door, mut submission: Submission) -> Outcome {
    let recipients = std::mem::take(&mut submission.recipients);
    hand_in(door, &submission, &recipients, &message::probe(&reported_to(&submission), &recipients))?;
    announce(&submission);
    Ok(0)
}

/// Who gets the report: the envelope sender as it was typed.
fn reported_to(submission: &Submission) -> String {
    submission.sender.clone().unwrap_or_else(|| login().unwrap_or_else(|| "unknown".to_owned()))
}

/// Says where to look for the report that was asked for.
fn announce(submission: &Submission) {
    if submission.purpose != Purpose::Deliver {
        // The message is in: a reader that has gone is no failure.
        let _ = print(&format!("Mail Delivery Status Report will be mailed to <{}>.\n", reported_to(submission)));
    }
}

/// To smtpd, else to postdrop.
fn hand_in(door: &Door, submission: &Submission, recipients: &[String], content: &[u8]) -> Result<(), Failure> {
    match submit::to_smtpd(&door.state, submission, recipients, content) {
        Taken::Queued(_) => Ok(()),
        Taken::Refused(reply) => Err(Failure::new(UNAVAILABLE, format!("{}: {}", who(), reply))),
        Taken::NotNow(why) => drop_off(door, submission, recipients, content)
            .map_err(|failure| Failure::new(failure.code, format!("{}: {} (and {why})", who(), failure.text))),
    }
}

/// To postdrop, for smtpd to pick up later.
fn drop_off(door: &Door, submission: &Submission, recipients: &[String], content: &[u8]) -> Result<(), Failure> {
    submit::to_postdrop(&door.commands, &door.configuration, submission, recipients, content)
}

/// `login(uid)`, as Postfix names the caller in its messages.
fn who() -> String {
    let uid = rustix::process::getuid().as_raw();
    format!("{}({uid})", login().unwrap_or_else(|| "unknown".to_owned()))
}

/// The caller's login name.
fn login() -> Option<String> {
    let uid = rustix::process::getuid().as_raw();
    mail_posix::users::by_uid(uid).ok().flatten().map(|user| user.name)
}

/// The caller's full name: `NAME` of the environment, else the comment field of the passwd entry up to its first comma, with the login
/// name for `&`.
fn own_full_name() -> Option<Octets> {
    let named = std::env::var("NAME").ok().filter(|name| !name.is_empty());
    let name = named.or_else(|| {
        let user = mail_posix::users::by_uid(rustix::process::getuid().as_raw()).ok().flatten()?;
        Some(from_gecos(&user.gecos, &user.name))
    })?;
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    (!name.is_empty()).then(|| Octets::from(name.as_str()))
}

fn from_gecos(gecos: &str, login: &str) -> String {
    let mut letters = login.chars();
    let capitalised: String =
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect();
    gecos.split(',').next().unwrap_or_default().replace('&', &capitalised)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_name_is_the_first_part_of_the_comment() {
        assert_eq!(from_gecos("John Smith,Room 7,,", "john"), "John Smith");
        assert_eq!(from_gecos("& Smith", "john"), "John Smith");
        assert_eq!(from_gecos("", "john"), "");
    }
}
