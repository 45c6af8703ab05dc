//! Aliases, Maildir and mbox delivery, by deliverers of the recipient's own uid.

fn main() {}
