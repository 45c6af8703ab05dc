//! Aliases, Maildir and mbox delivery, by deliverers of the recipient's own uid.

fn main() -> std::process::ExitCode {
    mail_daemon::run(local_delivery::daemon())
}
