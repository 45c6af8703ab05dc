//! IMAP service.

fn main() -> std::process::ExitCode {
    mail_daemon::run(imapd::daemon())
}
