//! Logins and user lookups.

fn main() {}
