//! What queue-manager takes from main.cf.

use std::time::Duration;

use decision::Ident;
use mail_config::main_cf::kinds;
use mail_config::{Config, Main};
use mail_types::{Sender, SourceLine, UnixTime};
use queue_store::addresses::{Deliverability, Standing};

use crate::backoff::Times;
use crate::schedule::{Feedback, Limits, TransportLimits};

/// The configuration of the queue.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Back-off, lifetimes, warnings.
    pub times: Times,
    /// Concurrency.
    pub limits: Limits,
    /// `queue_run_delay`: how often the index is looked through for what is due, beside the timers.
    pub run_delay: std::time::Duration,
    /// `bounce_size_limit`: longer messages come back as their header only; octets.
    pub bounce_size: u64,
    /// `myhostname`.
    pub host: String,
    /// `mail_name`.
    pub mail_name: String,
    /// `postmaster`, completed with `myorigin`.
    pub postmaster: String,
    /// Whose log lines are whose.
    pub idents: Idents,
    /// Whether somebody reads the decision records (`postrider_json_log`), so that the rules in them are worth finding.
    pub records: bool,
    /// The lines that state the times.
    pub sources: Sources,
    /// Address verification.
    pub verification: Verification,
    /// How long leases of a worker whose connection broke are kept for it.
    pub lease_grace: std::time::Duration,
}

/// How long what is known of an address is believed, and how probes are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// `address_verify_sender`.
    pub sender: Sender,
    /// `address_verify_positive_expire_time` and `_refresh_time`.
    pub positive: (Duration, Duration),
    /// `address_verify_negative_expire_time` and `_refresh_time`.
    pub negative: (Duration, Duration),
    /// `address_verify_negative_cache`.
    pub negative_cache: bool,
    /// `address_verify_pending_request_limit`.
    pub pending_limit: usize,
    /// `address_verify_cache_cleanup_interval`.
    pub cleanup_interval: Duration,
}

impl Verification {
    /// What main.cf says.
    #[must_use]
    pub fn of(main: &Main) -> Self {
        let sender = match main.address_verify_sender.trim() {
            "" | "<>" => Sender::Null,
            text => {
                let complete = if text.contains('@') { text.to_owned() } else { format!("{text}@{}", *main.myorigin) };
                complete.parse().map_or(Sender::Null, Sender::Address)
            }
        };
        Self {
            sender,
            positive: (*main.address_verify_positive_expire_time, *main.address_verify_positive_refresh_time),
            negative: (*main.address_verify_negative_expire_time, *main.address_verify_negative_refresh_time),
            negative_cache: *main.address_verify_negative_cache,
            pending_limit: usize::try_from(*main.address_verify_pending_request_limit).unwrap_or(usize::MAX),
            cleanup_interval: *main.address_verify_cache_cleanup_interval,
        }
    }

    fn times(&self, standing: &Standing) -> (Duration, Duration) {
        if standing.is == Deliverability::Deliverable { self.positive } else { self.negative }
    }

    /// Whether it is believed no more.
    #[must_use]
    pub fn is_expired(&self, standing: &Standing, now: UnixTime) -> bool {
        now.since(standing.at) > self.times(standing).0
    }

    /// Whether its next use sends a probe.
    #[must_use]
    pub fn is_due(&self, standing: &Standing, now: UnixTime) -> bool {
        now.since(standing.at) > self.times(standing).1
    }
}

impl Default for Verification {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            sender: Sender::Null,
            positive: (Duration::from_secs(31 * DAY), Duration::from_secs(7 * DAY)),
            negative: (Duration::from_secs(3 * DAY), Duration::from_secs(3 * 3600)),
            negative_cache: true,
            pending_limit: 5000,
            cleanup_interval: Duration::from_secs(12 * 3600),
        }
    }
}

/// Where the times that end or announce a wait are written.
#[derive(Debug, Clone)]
pub struct Sources {
    /// `maximal_queue_lifetime`
    pub lifetime: SourceLine,
    /// `bounce_queue_lifetime`
    pub bounce_lifetime: SourceLine,
    /// `delay_warning_time`
    pub warning: SourceLine,
}

impl Default for Sources {
    fn default() -> Self {
        let [lifetime, bounce_lifetime, warning] = std::array::from_fn(|_| SourceLine::built_in());
        Self { lifetime, bounce_lifetime, warning }
    }
}

/// The idents of the programs whose lines queue-manager writes.
#[derive(Debug, Clone)]
pub struct Idents {
    /// `postfix/qmgr`
    pub qmgr: Ident,
    /// `postfix/bounce`
    pub bounce: Ident,
    /// `postfix/error`
    pub error: Ident,
    /// `postfix/discard`
    pub discard: Ident,
}

impl Idents {
    /// The idents under a `syslog_name`.
    #[must_use]
    pub fn new(syslog_name: &str) -> Self {
        let of = |program| Ident::postfix(syslog_name, program);
        Self { qmgr: of("qmgr"), bounce: of("bounce"), error: of("error"), discard: of("discard") }
    }
}

impl Settings {
    /// What a configuration says.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let main = &config.main;
        let limits_of = |name: &str| {
            let limits = main.transport_limits(name);
            let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
            let feedback = |sign: &str, otherwise: Feedback| {
                let text = |name: &str| main.typed::<kinds::Text>(name).ok().flatten().map(|value| value.value);
                let own = text(&format!("{name}_destination_concurrency_{sign}_feedback"));
                let all = || text(&format!("default_destination_concurrency_{sign}_feedback"));
                own.or_else(all).and_then(|text| Feedback::parse(&text)).unwrap_or(otherwise)
            };
            let plain = TransportLimits::default();
            TransportLimits {
                initial: narrow(limits.initial_concurrency),
                concurrency: narrow(limits.concurrency),
                recipients: narrow(limits.recipients),
                positive: feedback("positive", plain.positive),
                negative: feedback("negative", plain.negative),
                failed_cohorts: f64::from(narrow(limits.failed_cohorts)),
                rate_delay: limits.destination_rate_delay,
                processes: narrow(*main.default_process_limit),
            }
        };
        let transports = config.master.transports().map(|transport| {
            let limits = limits_of(transport.name());
            let processes = transport.service.maxproc.unwrap_or(limits.processes);
            (transport.name().to_owned(), TransportLimits { processes, ..limits })
        });
        Self {
            times: Times {
                backoff_min: *main.minimal_backoff_time,
                backoff_max: *main.maximal_backoff_time,
                lifetime: *main.maximal_queue_lifetime,
                bounce_lifetime: *main.bounce_queue_lifetime,
                warn_after: *main.delay_warning_time,
            },
            limits: Limits {
                active: usize::try_from(*main.qmgr_message_active_limit).unwrap_or(usize::MAX),
                dead_for: *main.minimal_backoff_time,
                transports: transports.collect(),
                others: TransportLimits::default(),
            },
            run_delay: *main.queue_run_delay,
            bounce_size: *main.bounce_size_limit,
            host: main.myhostname.value.clone(),
            mail_name: main.mail_name.value.clone(),
            postmaster: format!("postmaster@{}", main.myorigin.value),
            idents: Idents::new(&main.syslog_name),
            records: !main.postrider_json_log.is_empty(),
            verification: Verification::of(main),
            sources: Sources {
                lifetime: main.maximal_queue_lifetime.source.clone(),
                bounce_lifetime: main.bounce_queue_lifetime.source.clone(),
                warning: main.delay_warning_time.source.clone(),
            },
            ..Self::default()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            times: Times::default(),
            limits: Limits::default(),
            run_delay: std::time::Duration::from_secs(300),
            bounce_size: 50_000,
            host: "localhost".to_owned(),
            mail_name: "Postfix".to_owned(),
            postmaster: "postmaster@localhost".to_owned(),
            idents: Idents::new("postfix"),
            records: false,
            verification: Verification::default(),
            sources: Sources::default(),
            lease_grace: std::time::Duration::from_secs(10),
        }
    }
}
