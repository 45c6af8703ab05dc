//! IMAP service.

fn main() {}
