//! What main.cf says about destinations.

use std::collections::HashMap;
use std::time::Duration;

use queue_store::Hop;

use crate::destination::service;

/// What main.cf says about one transport.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransportLimits {
    /// `initial_destination_concurrency`.
    pub initial: u32,
    /// `transport_destination_concurrency_limit`; 0 is no limit.
    pub concurrency: u32,
    /// `transport_destination_recipient_limit`: recipients of one lease. With 1, a destination is a recipient, not a domain.
    pub recipients: u32,
    /// `transport_destination_concurrency_positive_feedback`, as a function of the window.
    pub positive: Feedback,
    /// `transport_destination_concurrency_negative_feedback`.
    pub negative: Feedback,
    /// `transport_destination_concurrency_failed_cohort_limit`; 0 never declares a destination dead.
    pub failed_cohorts: f64,
    /// `transport_destination_rate_delay`: how long a destination rests after each delivery. With one, deliveries come one after the other.
    pub rate_delay: Duration,
    /// maxproc of the transport's line in master.cf, else `default_process_limit`: deliveries that one worker carries at once. 0 is no limit.
    pub processes: u32,
}

impl Default for TransportLimits {
    fn default() -> Self {
        Self {
            initial: 5,
            concurrency: 20,
            recipients: 50,
            positive: Feedback { amount: 1.0, divisor: Divisor::One },
            negative: Feedback { amount: 1.0, divisor: Divisor::One },
            failed_cohorts: 1.0,
            rate_delay: Duration::ZERO,
            processes: 100,
        }
    }
}

/// How much one delivery moves the window: `number`, `number / concurrency`, `number / sqrt_concurrency`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Feedback {
    /// The number, 0 to 1.
    pub amount: f64,
    /// What it is divided by.
    pub divisor: Divisor,
}

/// The divisor of a [`Feedback`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Divisor {
    /// 1.
    One,
    /// The window.
    Concurrency,
    /// Its square root.
    SquareRoot,
}

impl Feedback {
    /// Reads the value of a feedback parameter.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (amount, divisor) = match text.split_once('/') {
            None => (text, Divisor::One),
            Some((amount, by)) => match by.trim() {
                "concurrency" => (amount, Divisor::Concurrency),
                "sqrt_concurrency" => (amount, Divisor::SquareRoot),
                _ => return None,
            },
        };
        let amount: f64 = amount.trim().parse().ok()?;
        (0.0..=1.0).contains(&amount).then_some(Self { amount, divisor })
    }

    pub(super) fn at(self, window: u32) -> f64 {
        let window = f64::from(window.max(1));
        match self.divisor {
            Divisor::One => self.amount,
            Divisor::Concurrency => self.amount / window,
            Divisor::SquareRoot => self.amount / window.sqrt(),
        }
    }
}

/// What the scheduler works by.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// `qmgr_message_active_limit`, counted in recipients that are ready or leased.
    pub active: usize,
    /// `minimal_backoff_time`: how long a dead destination is left alone.
    pub dead_for: Duration,
    /// Limits of transports by name.
    pub transports: HashMap<String, TransportLimits>,
    /// Limits of every other transport.
    pub others: TransportLimits,
}

impl Default for Limits {
    fn default() -> Self {
        let local = TransportLimits { concurrency: 2, recipients: 1, ..TransportLimits::default() };
        Self {
            active: 20_000,
            dead_for: Duration::from_secs(300),
            transports: HashMap::from([("local".to_owned(), local)]),
            others: TransportLimits::default(),
        }
    }
}

impl Limits {
    /// The processes of a transport.
    #[must_use]
    pub fn processes(&self, transport: &str) -> u32 {
        self.transports.get(transport).unwrap_or(&self.others).processes
    }

    pub(super) fn of(&self, hop: &Hop) -> TransportLimits {
        let limits = service(hop).and_then(|name| self.transports.get(name)).copied().unwrap_or(self.others);
        if limits.rate_delay.is_zero() { limits } else { TransportLimits { concurrency: 1, ..limits } }
    }
}
