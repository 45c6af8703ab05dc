//! main.cf: entries as written, `$name` expansion, typed values with their lines.

pub mod catalogue;
pub mod kinds;
pub mod lists;
pub mod names;
pub mod networks;
mod parameters;
mod parse;
mod reader;
pub mod reference;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use mail_types::SourceLine;
use serde::{Deserialize, Serialize};

pub use parameters::{Main, PARAMETERS};
pub use parse::parse;
pub(crate) use reader::Reader;

use crate::expand::{self, ExpandError, Scope};
use crate::lines::Piece;
use crate::machine::Machine;
use crate::report::{Excerpt, Level, Report};

/// What the table of parameters says about one of them.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name in main.cf.
    pub name: &'static str,
    /// Its type, for manual pages.
    pub kind: &'static str,
    /// Its default as `postconf -d` shows it.
    pub default: &'static str,
    /// What it means; one or more lines.
    pub doc: &'static str,
    /// The daemons and commands that use it.
    pub used_by: &'static [&'static str],
    /// What is built of it, where that is not all.
    pub partly: Option<&'static str>,
}

/// A value with the line that states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value<T> {
    /// The value.
    pub value: T,
    /// The line that states it; [`SourceLine::built_in`] for a default.
    pub source: SourceLine,
}

impl<T> Value<T> {
    /// Whether a file states the value.
    #[must_use]
    pub fn is_written(&self) -> bool {
        !self.source.is_built_in()
    }
}

impl<T> Deref for Value<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Display> fmt::Display for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// `name = value` as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// The value, continuation lines joined, nothing expanded.
    pub value: String,
    /// The first line.
    pub source: SourceLine,
    /// The physical lines, and where the value begins in the joined text; for carets, not kept in a generation.
    #[serde(skip)]
    written: Vec<Piece>,
    #[serde(skip)]
    value_at: usize,
}

impl Entry {
    /// An entry without its physical lines, such as an override.
    #[must_use]
    pub fn new(name: impl Into<String>, value: impl Into<String>, source: SourceLine) -> Self {
        Self { name: name.into(), value: value.into(), source, written: Vec::new(), value_at: 0 }
    }

    /// A report about a part of the value, about the whole value if `fragment` does not stand in it as it is.
    #[must_use]
    pub fn report(&self, level: Level, fragment: &str, message: String, hint: String) -> Report {
        let (offset, length) = match self.value.find(fragment) {
            Some(at) if !fragment.is_empty() => (at, fragment.len()),
            _ => (0, self.value.len()),
        };
        self.report_at(level, self.value_at + offset, length, message, hint)
    }

    /// A report about the name.
    #[must_use]
    pub fn report_name(&self, level: Level, message: String, hint: String) -> Report {
        self.report_at(level, 0, self.name.len(), message, hint)
    }

    fn report_at(&self, level: Level, at: usize, length: usize, message: String, hint: String) -> Report {
        let mut report = Report::new(level, self.source.clone(), message, hint).of(&self.name);
        if let Some(piece) = self.written.iter().rev().find(|piece| piece.at <= at) {
            let start = piece.column as usize - 1 + at - piece.at;
            let length = length.min(piece.text.trim_end().len().saturating_sub(start));
            report.source.line = piece.line;
            report.column = u32::try_from(start + 1).unwrap_or(0);
            report.excerpt = Some(Box::new(Excerpt { text: piece.text.to_string(), start, length }));
        }
        report
    }
}

/// main.cf without types: what is written, and what the machine says where nothing is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RawMain {
    /// The file.
    pub file: Arc<str>,
    /// The directory of the configuration, `$config_directory`.
    pub directory: String,
    /// What is written, later values over earlier ones, overrides of a service over all.
    pub entries: BTreeMap<String, Entry>,
    /// Facts about the machine.
    pub machine: Machine,
}

impl RawMain {
    /// The unexpanded value: what is written, else the default. Nothing for a name that nobody knows.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.entries.get(name) {
            Some(entry) => Some(Cow::Borrowed(&entry.value)),
            None => self.default_of(name),
        }
    }

    /// The default of a parameter, unexpanded.
    #[must_use]
    pub fn default_of(&self, name: &str) -> Option<Cow<'_, str>> {
        self.default_within(name, &[])
    }

    /// The default where those of `busy` are being computed: one that leads back to itself is that of a machine without a name.
    fn default_within(&self, name: &str, busy: &[&str]) -> Option<Cow<'_, str>> {
        let expanded = |inner: &str| self.expanded_within(inner, &[busy, &[name]].concat());
        let computed = match name {
            "myhostname" | "mydomain" if busy.contains(&name) => Some(DOMAIN.to_owned()),
            "mynetworks" if busy.contains(&name) => Some(String::new()),
            "myhostname" => Some(self.default_hostname(expanded)),
            "mydomain" => Some(default_domain(expanded)),
            "mynetworks" => Some(self.default_networks(expanded)),
            "config_directory" => Some(self.directory.clone()),
            "process_id" | "process_name" | "service_name" => Some(String::new()),
            _ => None,
        };
        let declared = || PARAMETERS.iter().find(|p| p.name == name).map(|p| p.default);
        let known = || declared().or_else(|| reference::find(name).and_then(|known| known.default));
        computed.map(Cow::Owned).or_else(|| known().map(Cow::Borrowed)).or_else(|| transport_default(name))
    }

    fn expanded_within(&self, name: &str, busy: &[&str]) -> String {
        let scope = Computing { raw: self, busy };
        expand::Scope::raw(&scope, name).and_then(|text| expand::expand(&text, &scope).ok()).unwrap_or_default()
    }

    /// A value with everything expanded.
    ///
    /// # Errors
    /// [`ExpandError`] if the text cannot be expanded.
    pub fn expand(&self, text: &str) -> Result<String, ExpandError> {
        expand::expand(text, &Silent(self))
    }

    fn expanded(&self, name: &str) -> String {
        self.lookup(name).and_then(|text| self.expand(&text).ok()).unwrap_or_default()
    }

    fn default_hostname(&self, expanded: impl Fn(&str) -> String) -> String {
        let host = &self.machine.hostname;
        if host.contains('.') {
            return host.clone();
        }
        // Only a written domain completes the host name; the default domain comes from the host name itself.
        let domain = if self.entries.contains_key("mydomain") { expanded("mydomain") } else { DOMAIN.to_owned() };
        format!("{host}.{domain}")
    }

    fn default_networks(&self, expanded: impl Fn(&str) -> String) -> String {
        let style = expanded("mynetworks_style");
        let versions = expanded("inet_protocols");
        self.machine.networks(style.eq_ignore_ascii_case("subnet"), &versions)
    }
}

fn default_domain(expanded: impl Fn(&str) -> String) -> String {
    expanded("myhostname").split_once('.').map_or(DOMAIN.to_owned(), |(_, domain)| domain.to_owned())
}

/// The scope of a default that is being computed.
struct Computing<'a> {
    raw: &'a RawMain,
    busy: &'a [&'a str],
}

impl expand::Scope for Computing<'_> {
    fn raw(&self, name: &str) -> Option<String> {
        let written = self.raw.entries.get(name).map(|entry| entry.value.clone());
        written.or_else(|| self.raw.default_within(name, self.busy).map(Cow::into_owned))
    }

    fn undefined(&self, _: &str) {}
}

/// The domain of a machine that has none.
const DOMAIN: &str = "localdomain";

/// The default of `TRANSPORT_destination_concurrency_limit` and its relatives.
fn transport_default(name: &str) -> Option<Cow<'static, str>> {
    let suffix = TRANSPORT_PARAMETERS.iter().find(|(suffix, _)| name.len() > suffix.len() && name.ends_with(suffix));
    suffix.map(|(_, default)| Cow::Borrowed(*default))
}

/// The parameters that each transport has under its own name, and their defaults.
pub(crate) const TRANSPORT_PARAMETERS: [(&str, &str); 17] = [
    ("_destination_concurrency_limit", "$default_destination_concurrency_limit"),
    ("_destination_recipient_limit", "$default_destination_recipient_limit"),
    ("_initial_destination_concurrency", "$initial_destination_concurrency"),
    ("_destination_concurrency_failed_cohort_limit", "$default_destination_concurrency_failed_cohort_limit"),
    ("_destination_rate_delay", "$default_destination_rate_delay"),
    ("_transport_rate_delay", "$default_transport_rate_delay"),
    ("_destination_concurrency_negative_feedback", "$default_destination_concurrency_negative_feedback"),
    ("_destination_concurrency_positive_feedback", "$default_destination_concurrency_positive_feedback"),
    ("_delivery_slot_cost", "$default_delivery_slot_cost"),
    ("_delivery_slot_discount", "$default_delivery_slot_discount"),
    ("_delivery_slot_loan", "$default_delivery_slot_loan"),
    ("_minimum_delivery_slots", "$default_minimum_delivery_slots"),
    ("_extra_recipient_limit", "$default_extra_recipient_limit"),
    ("_recipient_refill_delay", "$default_recipient_refill_delay"),
    ("_recipient_refill_limit", "$default_recipient_refill_limit"),
    ("_recipient_limit", "$default_recipient_limit"),
    ("_time_limit", "$command_time_limit"),
];

/// How many of them, from the first, we use.
const TRANSPORT_TYPED: usize = 6;

/// A scope that forgets undefined names.
struct Silent<'a>(&'a RawMain);

impl Scope for Silent<'_> {
    fn raw(&self, name: &str) -> Option<String> {
        self.0.lookup(name).map(Cow::into_owned)
    }

    fn undefined(&self, _: &str) {}
}

/// The limits of one transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportLimits {
    /// The most deliveries at once to one destination; 0 for no limit.
    pub concurrency: u64,
    /// The concurrency with which a destination is begun.
    pub initial_concurrency: u64,
    /// The most recipients of one delivery; 0 for no limit.
    pub recipients: u64,
    /// How many failed sessions in a row close a destination; 0 for none.
    pub failed_cohorts: u64,
    /// The pause between deliveries to one destination.
    pub destination_rate_delay: std::time::Duration,
    /// The pause between deliveries of the transport.
    pub transport_rate_delay: std::time::Duration,
}

impl Main {
    /// main.cf with its types, and what is to be said about its values.
    #[must_use]
    pub fn of(raw: &Arc<RawMain>) -> (Self, Vec<Report>) {
        let mut reader = Reader::new(raw);
        let main = Self::read(&mut reader);
        let mut reports = reader.into_reports();
        reports.extend(main.invented());
        (main, reports)
    }

    /// main.cf without types.
    #[must_use]
    pub fn raw(&self) -> &RawMain {
        &self.raw
    }

    /// Any parameter by name, expanded; nothing for a name that nobody knows.
    #[must_use]
    pub fn expanded(&self, name: &str) -> Option<String> {
        self.raw.lookup(name).map(|_| self.raw.expanded(name))
    }

    /// A parameter that master.cf or main.cf invents, such as a restriction class, read as another one of `kind` would be.
    ///
    /// # Errors
    /// The report with the line of the mistake.
    pub fn typed<K: kinds::Kind>(&self, name: &str) -> Result<Option<Value<K::Value>>, Report> {
        if self.raw.lookup(name).is_none() {
            return Ok(None);
        }
        let mut reader = Reader::new(&self.raw);
        let value = reader.try_value::<K>(name, "");
        match (value, reader.into_reports().into_iter().find(|report| report.level == Level::Error)) {
            (Some(value), _) => Ok(Some(value)),
            (None, Some(report)) => Err(report),
            (None, None) => Ok(None),
        }
    }

    /// The limits of a transport: `NAME_destination_concurrency_limit` and so on, else the `default_` ones.
    #[must_use]
    pub fn transport_limits(&self, transport: &str) -> TransportLimits {
        // Wrong values were refused when the configuration was read, so a default here is only a fallback.
        let count = |suffix: &str, fallback: u64| {
            let value = self.typed::<kinds::Count>(&format!("{transport}{suffix}"));
            value.ok().flatten().map_or(fallback, |value| value.value)
        };
        let span = |suffix: &str, fallback: &Value<std::time::Duration>| {
            let value = self.typed::<kinds::Span>(&format!("{transport}{suffix}"));
            value.ok().flatten().map_or(fallback.value, |value| value.value)
        };
        TransportLimits {
            concurrency: count("_destination_concurrency_limit", *self.default_destination_concurrency_limit),
            initial_concurrency: count("_initial_destination_concurrency", *self.initial_destination_concurrency),
            recipients: count("_destination_recipient_limit", *self.default_destination_recipient_limit),
            failed_cohorts: count(
                "_destination_concurrency_failed_cohort_limit",
                *self.default_destination_concurrency_failed_cohort_limit,
            ),
            destination_rate_delay: span("_destination_rate_delay", &self.default_destination_rate_delay),
            transport_rate_delay: span("_transport_rate_delay", &self.default_transport_rate_delay),
        }
    }

    /// Mistakes in what the file invents: restriction classes and the parameters of single transports.
    pub(crate) fn invented(&self) -> Vec<Report> {
        let classes = self.smtpd_restriction_classes.iter().map(|name| self.typed::<lists::Restrictions>(name).err());
        let transports = self.raw.entries.keys().filter(|name| !PARAMETERS.iter().any(|p| p.name == name.as_str()));
        let limits = transports.filter_map(|name| {
            let (suffix, _) =
                TRANSPORT_PARAMETERS[..TRANSPORT_TYPED].iter().find(|(suffix, _)| name.ends_with(suffix))?;
            let is_delay = suffix.ends_with("_delay");
            Some(if is_delay { self.typed::<kinds::Span>(name).err() } else { self.typed::<kinds::Count>(name).err() })
        });
        classes.chain(limits).flatten().collect()
    }

    /// The policy services that the restrictions name: `inet:HOST:PORT`, `inet:PORT` or `unix:PATH`.
    #[must_use]
    pub fn policy_services(&self) -> Vec<String> {
        let lists = [
            &self.smtpd_client_restrictions,
            &self.smtpd_helo_restrictions,
            &self.smtpd_sender_restrictions,
            &self.smtpd_relay_restrictions,
            &self.smtpd_recipient_restrictions,
            &self.smtpd_data_restrictions,
            &self.smtpd_end_of_data_restrictions,
            &self.smtpd_etrn_restrictions,
        ];
        let classes = self.smtpd_restriction_classes.iter().filter_map(|name| self.restriction_class(name));
        let rules = lists.into_iter().map(|list| list.value.clone()).chain(classes.map(|class| class.value)).flatten();
        let named = rules.filter(|rule| rule.name == "check_policy_service").filter_map(|rule| rule.argument);
        let endpoint = |argument: String| {
            let inside = crate::words::unbraced(&argument).unwrap_or(&argument);
            crate::words::split_words(inside).ok()?.into_iter().next()
        };
        named.filter_map(endpoint).collect()
    }

    /// The restrictions of a class that `smtpd_restriction_classes` names.
    #[must_use]
    pub fn restriction_class(&self, name: &str) -> Option<Value<Vec<lists::Rule>>> {
        let known = self.smtpd_restriction_classes.iter().any(|class| class.eq_ignore_ascii_case(name));
        if known { self.typed::<lists::Restrictions>(name).ok().flatten() } else { None }
    }
}
