//! Attack classes (section 2 of the conformance rules) against the real binaries: one file per family of attacks, each with its own list of tests.
//!
//! Most stories share one running system, [`door`]; a story that needs another configuration, or that exhausts something, starts its own.

mod door;
mod mailbox;
mod smtp;

use std::process::ExitCode;

use test_support::harness::main as run;

fn main() -> ExitCode {
    let code = run([smtp::tests(), mailbox::tests()].into_iter().flatten().collect());
    door::close();
    smtp::close();
    code
}
