//! The developer's commands: demo, ci, docs, load, install.

fn main() {}
