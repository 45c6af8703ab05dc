//! Logins and user lookups.

use std::process::ExitCode;

fn main() -> ExitCode {
    mail_daemon::run(authd::daemon())
}
