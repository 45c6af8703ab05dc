//! POP3 service.

fn main() -> std::process::ExitCode {
    mail_daemon::run(pop3d::daemon())
}
