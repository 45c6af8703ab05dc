//! The setgid writer of the maildrop directory.

fn main() -> std::process::ExitCode {
    postdrop::run(std::env::args_os())
}
