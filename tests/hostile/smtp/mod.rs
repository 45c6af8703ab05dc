//! Attacks on the SMTP and submission server, on `sendmail` and on `postdrop`.

pub mod next_hop;

mod addresses;
mod bombs;
mod commands;
mod floods;
mod limits;
mod lmtp;
mod relay;
mod sasl;
mod sendmail;
mod slow;
mod smuggling;
mod starttls;

use std::io;

use test_support::harness::Test;

/// All tests of this side.
pub fn tests() -> Vec<Test> {
    [
        smuggling::tests(),
        starttls::tests(),
        commands::tests(),
        addresses::tests(),
        relay::tests(),
        floods::tests(),
        bombs::tests(),
        sasl::tests(),
        sendmail::tests(),
        limits::tests(),
        slow::tests(),
        lmtp::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Stops what the stories share among them.
pub fn close() {
    limits::close();
    lmtp::close();
}

/// The message of a failed connection.
fn wrong(error: io::Error) -> String {
    error.to_string()
}

/// Fails with what was found unless the condition holds.
fn ensure(holds: bool, found: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(found()) }
}
