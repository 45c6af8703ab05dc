//! What postconf prints: parameters of main.cf; entries, fields and overrides of master.cf.

use mail_config::main_cf::names::Class;
use mail_config::main_cf::reference;
use serde_json::json;

use super::entry::{FIELDS, Service};
use super::files::Files;
use super::print::{Look, json};
use crate::exit::Failure;

/// Which parameters are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// `-d`: their defaults.
    pub defaults: bool,
    /// `-n`: those that main.cf sets.
    pub written: bool,
    /// `-C`: those of these classes.
    pub classes: Vec<Class>,
}

/// A text, and warnings about operands.
type Shown = (String, Vec<String>);

/// Parameters of main.cf: those that the operands name, else all that the choice allows.
///
/// # Errors
/// A value cannot be expanded.
pub fn parameters(files: &Files, operands: &[&str], look: Look, choice: &Choice) -> Result<Shown, Failure> {
    let mut warnings = Vec::new();
    let mut names: Vec<String> = Vec::new();
    if operands.is_empty() {
        names.extend(files.names_of(&choice.classes));
    }
    for name in operands {
        match files.names.class(name) {
            Some(_) => names.push((*name).to_owned()),
            None => warnings.push(format!("{name}: unknown parameter")),
        }
    }
    let is_written = |name: &String| {
        let elsewhere = name == "config_directory" && files.raw.directory != crate::system::DEFAULT_DIRECTORY;
        files.raw.entries.contains_key(name) || elsewhere
    };
    let (mut text, mut objects) = (String::new(), Vec::new());
    for name in names.iter().filter(|name| !choice.written || is_written(name)) {
        let raw = if choice.defaults { files.raw.default_of(name) } else { files.raw.lookup(name) };
        let Some(raw) = raw else { continue };
        let value = if look.expanded && !is_template(name) {
            files.raw.expand(&raw).map_err(|_| Failure::usage(format!("macro processing error in \"{raw}\"")))?
        } else {
            raw.into_owned()
        };
        text.push_str(&look.setting(name, &value));
        objects.push(json!({ "name": name, "value": value }));
    }
    Ok((if look.json { json(&objects) } else { text }, warnings))
}

/// Whether Postfix expands a value only where it is used.
fn is_template(name: &str) -> bool {
    reference::find(name).is_some_and(|known| known.kind == "template")
}

/// An operand `service[/type[/part]]`, with what it has matched.
struct Request<'a> {
    text: &'a str,
    path: Vec<&'a str>,
    matched: bool,
}

impl Request<'_> {
    fn fits(&self, names: &[&str]) -> bool {
        self.path.iter().zip(names).all(|(pattern, name)| *pattern == "*" || pattern == name)
    }
}

fn requests<'a>(operands: &[&'a str], parts: usize) -> Vec<Request<'a>> {
    operands.iter().map(|text| Request { text, path: text.splitn(parts, '/').collect(), matched: false }).collect()
}

/// Whether one of the requests, or that there is none, asks for a part.
fn is_wanted(requests: &mut [Request<'_>], names: &[&str]) -> bool {
    let mut wanted = requests.is_empty();
    for request in requests.iter_mut().filter(|request| request.fits(names)) {
        request.matched = true;
        wanted = true;
    }
    wanted
}

fn unmatched(requests: &[Request<'_>]) -> Vec<String> {
    let missed = requests.iter().filter(|request| !request.matched);
    missed.map(|request| format!("unmatched request: \"{}\"", request.text)).collect()
}

/// Whole entries of master.cf.
#[must_use]
pub fn entries(files: &Files, operands: &[&str], look: Look) -> Shown {
    let mut requests = requests(operands, 2);
    let (mut text, mut objects) = (String::new(), Vec::new());
    for service in files.master.iter().flatten() {
        if is_wanted(&mut requests, &[&service.fields[0], &service.fields[1]]) {
            text.push_str(&service.line(&files.raw, look));
            let field = |at: usize| (FIELDS[at].to_owned(), json!(service.field(at, &files.raw, look)));
            objects.push(serde_json::Value::Object((0..FIELDS.len()).map(field).collect()));
        }
    }
    (if look.json { json(&objects) } else { text }, unmatched(&requests))
}

/// Single fields of entries.
///
/// # Errors
/// An operand names a field that does not exist.
pub fn fields(files: &Files, operands: &[&str], look: Look) -> Result<Shown, Failure> {
    let mut requests = requests(operands, 3);
    let named = requests.iter().filter_map(|request| request.path.get(2)).filter(|field| **field != "*");
    if let Some(wrong) = named.into_iter().find(|field| !FIELDS.contains(field)) {
        return Err(Failure::usage(format!("invalid service attribute name: \"{wrong}\"")));
    }
    let (mut text, mut objects) = (String::new(), Vec::new());
    for service in files.master.iter().flatten() {
        for (at, field) in FIELDS.iter().enumerate() {
            if is_wanted(&mut requests, &[&service.fields[0], &service.fields[1], field]) {
                let value = service.field(at, &files.raw, look);
                text.push_str(&look.setting(&format!("{}/{field}", service.path()), &value));
                objects.push(object(service, "field", field, &value));
            }
        }
    }
    Ok((if look.json { json(&objects) } else { text }, unmatched(&requests)))
}

/// Overrides of entries.
#[must_use]
pub fn overrides(files: &Files, operands: &[&str], look: Look) -> Shown {
    let mut requests = requests(operands, 3);
    let (mut text, mut objects) = (String::new(), Vec::new());
    for service in files.master.iter().flatten() {
        for (name, value) in service.overrides(&files.raw, look) {
            if is_wanted(&mut requests, &[&service.fields[0], &service.fields[1], name]) {
                text.push_str(&look.setting(&format!("{}/{name}", service.path()), &value));
                objects.push(object(service, "parameter", name, &value));
            }
        }
    }
    (if look.json { json(&objects) } else { text }, unmatched(&requests))
}

fn object(service: &Service, part: &str, name: &str, value: &str) -> serde_json::Value {
    json!({ "service": service.fields[0], "type": service.fields[1], part: name, "value": value })
}
