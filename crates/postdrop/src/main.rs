//! The setgid writer of the maildrop directory.

fn main() {}
