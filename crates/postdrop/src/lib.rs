//! The setgid writer of the maildrop directory: `sendmail` runs it when smtpd cannot be reached.
//!
//! It reads one submission from standard input, writes it into a file of `maildrop/` that only smtpd can read, syncs file and
//! directory, and ends: exit code 0 means that the message survives a power cut. Its one privilege is the group that may write that
//! directory, so everything that a caller can influence (arguments, environment, descriptors, size, content) is checked here.
//!
//! It talks to nobody. It does not parse the message, rewrite addresses or decide who may send where: smtpd does when it picks the
//! file up, as with every other submission.

mod caller;
mod drop;
mod users;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use mail_config::Config;

/// Exit codes of sysexits.h.
const USAGE: u8 = 64;
const DATA_ERROR: u8 = 65;
const UNAVAILABLE: u8 = 69;
const TEMPORARY: u8 = 75;
const NO_PERMISSION: u8 = 77;

/// Why nothing was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Runs with the arguments of the process: `[-r] [-v] [-c config_dir]`.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match submit(arguments.into_iter().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody can be told if standard error is gone.
            let _ = writeln!(io::stderr().lock(), "postdrop: fatal: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn submit(arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    mail_posix::signals::ignore_sigpipe();
    let caller = caller::Caller::current();
    let directory = caller.configuration_directory(option_c(arguments)?)?;
    // dovecot.conf may be secret and says nothing that is needed here.
    let loaded = Config::load(&directory, Some("/dev/null".as_ref()));
    let config = loaded.map_err(|errors| Failure::new(TEMPORARY, errors.to_string()))?.config;
    let main = &config.main;
    let user = caller.name();
    if !users::permitted(&main.authorized_submit_users, &user) {
        let text = format!("User {user}({}) is not allowed to submit mail", caller.uid);
        return Err(Failure::new(NO_PERMISSION, text));
    }
    let limit = Some(*main.message_size_limit).filter(|limit| *limit > 0);
    let maildrop = config.state_dir().join(mail_ipc::maildrop::DIRECTORY);
    drop::drop_message(&maildrop, io::stdin().lock(), limit)
}

/// The argument of `-c`; `-r` and `-v` are accepted as Postfix's postdrop accepts them, and change nothing.
fn option_c(mut arguments: impl Iterator<Item = OsString>) -> Result<Option<PathBuf>, Failure> {
    let mut directory = None;
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("-r" | "-v") => {}
            Some("-c") => directory = arguments.next().map(PathBuf::from),
            _ => return Err(Failure::new(USAGE, "usage: postdrop [-c config_dir] [-rv]")),
        }
    }
    Ok(directory)
}
