//! Attacks on the SMTP, submission and LMTP server.

pub mod next_hop;
mod relay;

use test_support::harness::Test;

/// All tests of this side.
pub fn tests() -> Vec<Test> {
    [relay::tests()].into_iter().flatten().collect()
}
