//! The commands: up, check, sendmail, mailq, postqueue and the rest.

fn main() -> std::process::ExitCode {
    postrider::run(std::env::args_os())
}
