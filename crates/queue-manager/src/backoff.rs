//! When a deferred recipient is attempted again, and when it has waited long enough.

use std::time::Duration;

use mail_types::UnixTime;

/// The times that main.cf sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// `minimal_backoff_time`.
    pub backoff_min: Duration,
    /// `maximal_backoff_time`.
    pub backoff_max: Duration,
    /// `maximal_queue_lifetime`.
    pub lifetime: Duration,
    /// `bounce_queue_lifetime`: for mail from `<>`.
    pub bounce_lifetime: Duration,
    /// `delay_warning_time`; zero sends no warnings.
    pub warn_after: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            backoff_min: Duration::from_secs(300),
            backoff_max: Duration::from_secs(4000),
            lifetime: Duration::from_secs(5 * 86_400),
            bounce_lifetime: Duration::from_secs(5 * 86_400),
            warn_after: Duration::ZERO,
        }
    }
}

impl Times {
    /// The next attempt of a message that arrived then and was deferred now: after as long as it has waited, within the bounds (S22).
    ///
    /// Whole seconds, so that recipients deferred together stay together.
    #[must_use]
    pub fn next_attempt(&self, arrival: UnixTime, now: UnixTime) -> UnixTime {
        let wait = now.since(arrival).clamp(self.backoff_min, self.backoff_max.max(self.backoff_min));
        UnixTime(now.after(wait).0.div_ceil(1000) * 1000)
    }

    /// Whether a message that arrived then is too old to be attempted again.
    #[must_use]
    pub fn expired(&self, arrival: UnixTime, from_null: bool, now: UnixTime) -> bool {
        now.since(arrival) >= if from_null { self.bounce_lifetime } else { self.lifetime }
    }

    /// Whether the sender is to be told that the message waits.
    #[must_use]
    pub fn warns(&self, arrival: UnixTime, now: UnixTime) -> bool {
        !self.warn_after.is_zero() && now.since(arrival) >= self.warn_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // S22
    #[test]
    fn waits_double_between_the_bounds() {
        let times = Times::default();
        let mut now = UnixTime(1_000_000);
        let arrival = now;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let next = times.next_attempt(arrival, now);
            waits.push(next.since(now).as_secs());
            now = next;
        }
        assert_eq!(waits, [300, 300, 600, 1200, 2400, 4000, 4000, 4000]);
    }

    // S22
    #[test]
    fn a_message_expires_at_the_end_of_its_life_and_a_bounce_at_the_end_of_its_own() {
        let times = Times { bounce_lifetime: Duration::ZERO, ..Times::default() };
        let at = UnixTime(0);
        assert!(!times.expired(at, false, UnixTime(5 * 86_400_000 - 1)));
        assert!(times.expired(at, false, UnixTime(5 * 86_400_000)));
        assert!(times.expired(at, true, at), "a lifetime of zero allows one attempt");
    }
}
