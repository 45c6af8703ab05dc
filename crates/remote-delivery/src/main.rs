//! The daemon `remote-delivery`.

fn main() -> std::process::ExitCode {
    mail_daemon::run(remote_delivery::daemon())
}
