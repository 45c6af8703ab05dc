//! The queue: commit, schedule, lease, retry, bounce, hold.

fn main() -> std::process::ExitCode {
    mail_daemon::run(queue_manager::daemon())
}
