//! From raw entries to typed values; collects what is wrong on the way.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mail_types::SourceLine;

use super::kinds::{Context, Kind, Mistake};
use super::{Entry, RawMain, Value};
use crate::expand::{self, Scope};
use crate::machine::Machine;
use crate::report::{Level, Report};
use crate::words::split_words;

/// Reads typed values out of a main.cf.
pub(crate) struct Reader<'a> {
    pub(super) raw: &'a Arc<RawMain>,
    run_without: Vec<String>,
    default_table: String,
    reports: Vec<Report>,
}

/// A scope that remembers the names that nothing defines.
struct Noting<'a> {
    raw: &'a RawMain,
    undefined: RefCell<BTreeSet<String>>,
}

impl Scope for Noting<'_> {
    fn raw(&self, name: &str) -> Option<String> {
        self.raw.lookup(name).map(Cow::into_owned)
    }

    fn undefined(&self, name: &str) {
        self.undefined.borrow_mut().insert(name.to_owned());
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(raw: &'a Arc<RawMain>) -> Self {
        Self {
            raw,
            run_without: split_words(&raw.expanded("postrider_run_without")).unwrap_or_default(),
            default_table: raw.expanded("default_database_type"),
            reports: Vec::new(),
        }
    }

    /// What is to be said, each thing once.
    pub(crate) fn into_reports(mut self) -> Vec<Report> {
        // A mistake in a written value also spoils the defaults that name it; the written one says all.
        if self.reports.iter().any(|report| report.level == Level::Error && !report.source.is_built_in()) {
            self.reports.retain(|report| !report.source.is_built_in());
        }
        self.reports
    }

    /// The value of a parameter; after a mistake, which stops the start, that of an empty main.cf.
    pub(super) fn value<K: Kind>(&mut self, name: &str, default: &'static str) -> Value<K::Value> {
        if let Some(value) = self.try_value::<K>(name, default) {
            return value;
        }
        let entries = BTreeMap::new();
        let pristine = RawMain { entries, machine: Machine::named("localhost"), ..RawMain::clone(self.raw) };
        let text = pristine.default_of(name).map_or_else(String::new, Cow::into_owned);
        let text = if K::EXPAND { pristine.expand(&text).unwrap_or_default() } else { text };
        let value = K::parse(text.trim(), &mut self.context(default, false));
        let value = value.unwrap_or_else(|m| unreachable!("a test reads the declared default of {name}: {}", m.what));
        Value { value, source: SourceLine::built_in() }
    }

    /// The value of a parameter, or nothing after a mistake, which is reported.
    pub(super) fn try_value<K: Kind>(&mut self, name: &str, default: &'static str) -> Option<Value<K::Value>> {
        let text = self.raw.lookup(name)?.into_owned();
        let entry = self.raw.entries.get(name);
        let source = entry.map_or_else(SourceLine::built_in, |entry| entry.source.clone());
        let expanded = match self.expanded::<K>(entry, &text) {
            Ok(expanded) => expanded,
            Err(mistake) => {
                self.report(Level::Error, name, entry, mistake);
                return None;
            }
        };
        let mut context = self.context(default, entry.is_some());
        let result = K::parse(&expanded, &mut context);
        // A default repeats what another parameter says, and so would its warnings.
        let warnings = std::mem::take(&mut context.warnings);
        for warning in warnings.into_iter().filter(|_| entry.is_some()) {
            self.report(Level::Warning, name, entry, warning);
        }
        match result {
            Ok(value) => Some(Value { value, source }),
            Err(mistake) => {
                self.report(Level::Error, name, entry, mistake);
                None
            }
        }
    }

    fn context(&self, default: &'static str, written: bool) -> Context<'_> {
        Context {
            default,
            written,
            run_without: &self.run_without,
            default_table: &self.default_table,
            warnings: Vec::new(),
        }
    }

    fn expanded<K: Kind>(&mut self, entry: Option<&Entry>, text: &str) -> Result<String, Mistake> {
        if !K::EXPAND {
            return Ok(text.to_owned());
        }
        let scope = Noting { raw: self.raw, undefined: RefCell::default() };
        let expanded = expand::expand(text, &scope).map_err(|error| Mistake::new(error.0, ""))?;
        // Postfix's own defaults name parameters that exist only where somebody writes them.
        if let Some(entry) = entry {
            for name in scope.undefined.into_inner() {
                let message = format!("undefined parameter `${name}'");
                let report = entry.report(Level::Warning, &name, message, "it is read as empty".into());
                self.push(report);
            }
        }
        Ok(expanded.trim().to_owned())
    }

    fn report(&mut self, level: Level, name: &str, entry: Option<&Entry>, mistake: Mistake) {
        let message = format!("{name}: {}", mistake.what);
        let report = match entry {
            Some(entry) => entry.report(level, &mistake.fragment, message, mistake.instead),
            None => Report::new(level, SourceLine::built_in(), message, mistake.instead).of(name),
        };
        self.push(report);
    }

    fn push(&mut self, report: Report) {
        if !self.reports.contains(&report) {
            self.reports.push(report);
        }
    }
}
