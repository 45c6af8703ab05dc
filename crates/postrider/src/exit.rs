//! Exit codes of sysexits.h, and failures that carry one.

use std::fmt;

/// The command line is wrong.
pub const USAGE: u8 = 64;
/// The data given are wrong.
pub const DATA: u8 = 65;
/// What was asked for is not to be had: a service is down, an address does not exist.
pub const UNAVAILABLE: u8 = 69;
/// Something inside went wrong.
pub const SOFTWARE: u8 = 70;
/// A file cannot be read or written.
pub const IO: u8 = 74;
/// Try again later.
pub const TEMPORARY: u8 = 75;
/// The caller may not do this.
pub const NO_PERMISSION: u8 = 77;
/// The configuration is wrong; starting again does not help.
pub const CONFIGURATION: u8 = 78;

/// Why a command ends without success: the exit code, and one line for the person who typed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What went wrong. Empty if everything has been said already.
    pub text: String,
}

impl Failure {
    /// A failure with its line.
    pub fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The command line is wrong; Postfix's commands (other than `sendmail`) exit with 1 then.
    pub fn usage(text: impl fmt::Display) -> Self {
        Self::new(1, text.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// What a command gives: its exit code, or why it failed.
pub type Outcome = Result<u8, Failure>;
