//! `postrider doctor`: looks at a mail server from outside.

mod relay;
mod variants;

use std::ffi::OsString;

use crate::arguments::Grammar;
use crate::exit::{Failure, Outcome, USAGE};

const GRAMMAR: Grammar = Grammar { letters: "R:T:", long: &[("relay", 'R'), ("to", 'T')] };

/// The recipient in a domain that is nobody's (RFC 2606).
const RECIPIENT: &str = "relay-test@example.com";

/// Runs the command.
///
/// # Errors
/// Wrong options, or a server that cannot be reached.
pub fn run(arguments: &[OsString]) -> Outcome {
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::new(USAGE, error.to_string()))?;
    let text = |option| parsed.last(option).map(|text| text.to_string_lossy().into_owned());
    match text('R') {
        Some(host) if parsed.operands.is_empty() => {
            relay::run(&relay::Target::new(&host, text('T').as_deref().unwrap_or(RECIPIENT))?)
        }
        _ => Err(Failure::new(USAGE, "usage: doctor --relay HOST[:PORT] [--to ADDRESS]")),
    }
}
