//! SMTP, submission and local submission: the only door.

use std::process::ExitCode;

fn main() -> ExitCode {
    mail_daemon::run(smtpd::daemon())
}
