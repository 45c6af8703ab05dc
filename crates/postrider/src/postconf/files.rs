//! main.cf and master.cf as written, without types, and what is odd about their names.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use mail_config::expand::mentioned;
use mail_config::lines::logical_lines;
use mail_config::main_cf::names::{self, Class, Names};
use mail_config::main_cf::{Entry, RawMain};
use mail_config::{Level, Machine, main_cf, master_cf};
use mail_types::SourceLine;

use super::entry::{Service, Word};
use super::print::Look;
use crate::exit::Failure;

/// The files of a configuration directory.
pub struct Files {
    /// main.cf.
    pub raw: RawMain,
    /// The entries of master.cf; nothing if there is no such file.
    pub master: Option<Vec<Service>>,
    /// What the names of main.cf mean.
    pub names: Names,
    master_file: String,
    said: Vec<String>,
}

impl Files {
    /// main.cf alone.
    ///
    /// # Errors
    /// It is missing, unreadable or not of its form.
    pub fn main(directory: &Path) -> Result<RawMain, Failure> {
        let path = directory.join("main.cf");
        let text = read(&path)?;
        let file: Arc<str> = Arc::from(path.display().to_string());
        let mut reports = Vec::new();
        let entries = main_cf::parse(&file, &text, &mut reports);
        if let Some(report) = reports.iter().find(|report| report.level == Level::Error) {
            return Err(Failure::usage(report.line()));
        }
        let directory = directory.display().to_string();
        Ok(RawMain { file, directory, entries, machine: Machine::read() })
    }

    /// Both files; with `defaults` main.cf as if it were empty.
    ///
    /// # Errors
    /// main.cf cannot be read, or one of them is not of its form.
    pub fn read(directory: &Path, defaults: bool) -> Result<Self, Failure> {
        let mut raw = if defaults { defaults_of(directory) } else { Self::main(directory)? };
        let path = directory.join("master.cf");
        let master_file = path.display().to_string();
        let mut said = Vec::new();
        let (mut services, mut master) = (Vec::new(), None);
        match fs::read(&path) {
            Ok(octets) => {
                let text = String::from_utf8_lossy(&octets);
                services = master_cf::parse(&Arc::from(master_file.as_str()), &text, &mut Vec::new()).services;
                master = Some(entries(&master_file, &text, &mut said)?);
            }
            Err(_) => said.push(format!("open {master_file}: No such file or directory")),
        }
        if defaults {
            raw.entries.clear();
        }
        let names = Names::of(&raw, &services);
        Ok(Self { raw, master, names, master_file, said })
    }

    /// `-o name=value`.
    ///
    /// # Errors
    /// It is no assignment.
    pub fn set(&mut self, text: &str) -> Result<(), Failure> {
        let wrong = || Failure::usage(format!("missing '=' after attribute name: \"{text}\""));
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        let entry = Entry::new(name.trim(), value.trim(), SourceLine::built_in());
        self.raw.entries.insert(entry.name.clone(), entry);
        Ok(())
    }

    /// Names that nothing uses, and names that are used and nothing defines; sorted. Unused names of main.cf only where that is shown.
    #[must_use]
    pub fn warnings(&self, of_main: bool) -> Vec<String> {
        let mut found: BTreeSet<String> = BTreeSet::new();
        let main = &self.raw.file;
        for entry in self.raw.entries.values() {
            if of_main && self.names.class(&entry.name).is_none() {
                found.insert(format!("{main}: unused parameter: {}={}", entry.name, entry.value));
            }
            for name in mentioned(&entry.value).into_iter().filter(|name| !self.is_defined(name)) {
                found.insert(format!("{main}: undefined parameter: {name}"));
            }
        }
        for service in self.master.iter().flatten() {
            self.warn_about(service, &mut found);
        }
        self.said.iter().cloned().chain(found).collect()
    }

    fn warn_about(&self, service: &Service, found: &mut BTreeSet<String>) {
        let own = service.overrides(&self.raw, Look::default());
        let mut used: BTreeSet<String> = own.values().flat_map(|value| mentioned(value)).collect();
        for word in &service.words {
            if let Word::Argument(text) | Word::Option(text) = word {
                used.extend(mentioned(text));
            }
        }
        for name in own.values().flat_map(|value| mentioned(value)) {
            if !self.is_defined(&name) && !own.contains_key(name.as_str()) {
                found.insert(format!("{}: undefined parameter: {name}", self.master_file));
            }
        }
        for (name, value) in &own {
            let known = used.contains(*name) || self.means_something(name);
            if !known {
                found.insert(format!("{}: unused parameter: {name}={value}", self.master_file));
            }
        }
    }

    /// Whether a name has a meaning for main.cf itself.
    fn means_something(&self, name: &str) -> bool {
        let used_by_main = || {
            let known = self.raw.entries.values().filter(|entry| self.names.class(&entry.name).is_some());
            known.flat_map(|entry| mentioned(&entry.value)).any(|mentioned| mentioned == name)
        };
        matches!(self.names.class(name), Some(Class::Builtin | Class::Service)) || used_by_main()
    }

    fn is_defined(&self, name: &str) -> bool {
        self.raw.lookup(name).is_some() || ["service_name", "process_name", "process_id"].contains(&name)
    }

    /// Every name of a class, sorted.
    #[must_use]
    pub fn names_of(&self, classes: &[Class]) -> BTreeSet<String> {
        let builtin = names::builtin().map(str::to_owned);
        let transports = self.names.of_transports().map(str::to_owned);
        let written = self.raw.entries.keys().cloned();
        let all = builtin.chain(transports).chain(written);
        all.filter(|name| self.names.class(name).is_some_and(|class| classes.contains(&class))).collect()
    }
}

/// main.cf as if it were empty.
fn defaults_of(directory: &Path) -> RawMain {
    RawMain {
        file: Arc::from(directory.join("main.cf").display().to_string()),
        directory: crate::system::DEFAULT_DIRECTORY.to_owned(),
        entries: Default::default(),
        machine: Machine::read(),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let octets = fs::read(path).map_err(|error| {
        let text = error.to_string();
        let reason = text.split(" (os error").next().unwrap_or_default().to_owned();
        Failure::usage(format!("open {}: {reason}", path.display()))
    })?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

fn entries(file: &str, text: &str, said: &mut Vec<String>) -> Result<Vec<Service>, Failure> {
    let mut found = Vec::new();
    for line in logical_lines(text) {
        if line.indented {
            said.push(format!("{file}: logical line must not start with whitespace: \"{}\"", line.text));
            continue;
        }
        let failed = |error: String| match error.as_str() {
            "bad field count" => Failure::usage(format!("file {file}: line {}: {error}", line.line)),
            _ => Failure::usage(error),
        };
        found.push(Service::read(&line.text).map_err(failed)?);
    }
    Ok(found)
}
