//! POP3 service.

fn main() {}
