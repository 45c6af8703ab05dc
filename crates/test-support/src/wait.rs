//! Waiting for a condition with a deadline, instead of sleeping and hoping.

use std::time::{Duration, Instant};

/// How long a test waits for something that must happen.
#[derive(Debug, Clone, Copy)]
pub struct Patience(pub Duration);

impl Default for Patience {
    /// Two minutes: far more than anything takes, so that a machine that does much else fails no test.
    fn default() -> Self {
        Self(Duration::from_secs(120))
    }
}

/// Looks again and again until the condition gives something.
///
/// # Errors
/// A sentence with what was waited for, when patience has ended.
pub fn wait_for<T>(what: &str, patience: Patience, mut condition: impl FnMut() -> Option<T>) -> Result<T, String> {
    let deadline = Instant::now() + patience.0;
    loop {
        if let Some(found) = condition() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(format!("waited {:?} in vain for {what}", patience.0));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
