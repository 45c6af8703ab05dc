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

/// The pauses between two looks.
const OFTEN: Duration = Duration::from_millis(10);
const SELDOM: Duration = Duration::from_millis(100);

/// Looks again and again until the condition gives something.
///
/// # Errors
/// A sentence with what was waited for, when patience has ended.
pub fn wait_for<T>(what: &str, patience: Patience, mut condition: impl FnMut() -> Option<T>) -> Result<T, String> {
    let began = Instant::now();
    loop {
        if let Some(found) = condition() {
            return Ok(found);
        }
        let waited = began.elapsed();
        if waited >= patience.0 {
            return Err(format!("waited {:?} in vain for {what}", patience.0));
        }
        // Less often the longer it takes: looking takes time from who is waited for.
        std::thread::sleep((waited / 20).clamp(OFTEN, SELDOM));
    }
}
