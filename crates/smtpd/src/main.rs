//! SMTP, submission and local submission: the only door.

fn main() {}
