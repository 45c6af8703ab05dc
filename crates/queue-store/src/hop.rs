//! The name of a destination in the schedule.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A destination as the schedule orders by it: any text without NUL that queue-manager gives it, empty while no route was found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hop(Arc<str>);

/// The text holds a NUL or is longer than 1,024 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopError;

impl fmt::Display for HopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no name of a destination")
    }
}

impl std::error::Error for HopError {}

impl Hop {
    /// Takes a name.
    ///
    /// # Errors
    /// [`HopError`] if the text cannot be part of a key.
    pub fn new(text: &str) -> Result<Self, HopError> {
        if text.len() <= 1024 && !text.contains('\0') { Ok(Self(Arc::from(text))) } else { Err(HopError) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether no route was found yet.
    #[must_use]
    pub fn is_unrouted(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Hop {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Hop {
    type Error = HopError;

    fn try_from(text: String) -> Result<Self, HopError> {
        Self::new(&text)
    }
}

impl From<Hop> for String {
    fn from(hop: Hop) -> Self {
        hop.0.as_ref().to_owned()
    }
}
