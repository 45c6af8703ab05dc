//! The commands: up, check, sendmail, mailq, postqueue and the rest.

fn main() {}
