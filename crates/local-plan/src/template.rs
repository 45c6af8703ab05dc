//! `$name` in parameters that are expanded for each delivery: forward_path, command_execution_directory; and what a command sees.

use std::cell::Cell;

use mail_config::Main;
use mail_config::expand::{Scope, expand};
use mail_ipc::delivery::{Lease, LeaseRecipient};
use mail_ipc::lookup::PasswdUser;
use mail_types::{Address, Octets};

/// For whom a delivery is made.
#[derive(Debug, Clone, Copy)]
pub struct Person<'a> {
    /// The recipient.
    pub address: &'a Address,
    /// The user's name, or the alias that stands in its place.
    pub name: &'a str,
    /// What the address holds behind the name.
    pub extension: Option<&'a str>,
    /// The user of the machine; none for what an alias says.
    pub user: Option<&'a PasswdUser>,
}

impl Person<'_> {
    /// A name of local(8)'s expansion; nothing if it has no value here.
    fn value(&self, name: &str, main: &Main) -> Option<Octets> {
        let text = |text: &str| Some(Octets::from(text));
        match name {
            "user" => text(self.name),
            "home" => self.user.map(|user| user.home.clone()),
            "shell" => self.user.map(|user| user.shell.clone()),
            "recipient" => text(&self.address.to_string()),
            "extension" => self.extension.and_then(text),
            "domain" => text(self.address.domain().as_str()),
            "local" => text(self.address.local()),
            "recipient_delimiter" => self.delimiter(main).and_then(|delimiter| text(&delimiter)),
            _ => None,
        }
    }

    /// The delimiter that stands in the address, else the first that could.
    fn delimiter(&self, main: &Main) -> Option<String> {
        let written = self.extension.and_then(|_| self.address.local().get(self.name.len()..)?.chars().next());
        written.or_else(|| main.recipient_delimiter.chars().next()).map(String::from)
    }
}

struct Names<'a> {
    person: Person<'a>,
    main: &'a Main,
    filter: &'a str,
    incomplete: Cell<bool>,
}

impl Scope for Names<'_> {
    fn raw(&self, name: &str) -> Option<String> {
        let value = self.person.value(name, self.main)?;
        let text = String::from_utf8(filtered(value.as_bytes(), self.filter)).ok()?;
        // A dollar that the filter lets pass is no name.
        Some(text.replace('$', "$$"))
    }

    fn undefined(&self, _: &str) {
        self.incomplete.set(true);
    }
}

/// The same without a filter.
struct Unfiltered<'a> {
    person: Person<'a>,
    main: &'a Main,
}

impl Scope for Unfiltered<'_> {
    fn raw(&self, name: &str) -> Option<String> {
        let value = self.person.value(name, self.main)?;
        Some(value.as_str()?.replace('$', "$$"))
    }

    fn undefined(&self, _: &str) {}
}

/// The octets, those outside the filter as `_`.
#[must_use]
pub fn filtered(value: &[u8], filter: &str) -> Vec<u8> {
    let allowed = |byte: &u8| filter.as_bytes().contains(byte);
    value.iter().map(|byte| if allowed(byte) { *byte } else { b'_' }).collect()
}

/// The files of `forward_path` that may hold a user's wishes; those whose name needs what the address lacks are left out.
///
/// # Errors
/// What is wrong with the parameter.
pub fn forward_files(person: Person<'_>, main: &Main) -> Result<Vec<Octets>, String> {
    let filter = main.forward_expansion_filter.as_str();
    let mut files = Vec::new();
    for template in main.forward_path.split([',', ' ', '\t', '\r', '\n']).filter(|template| !template.is_empty()) {
        let names = Names { person, main, filter, incomplete: Cell::new(false) };
        let path = expand(template, &names).map_err(|error| format!("forward_path: {}", error.0))?;
        if !names.incomplete.get() {
            files.push(Octets::from(path.as_str()));
        }
    }
    Ok(files)
}

/// `command_execution_directory`; none if it is empty.
///
/// # Errors
/// What is wrong with the parameter.
pub fn directory(person: Person<'_>, main: &Main) -> Result<Option<Octets>, String> {
    let filter = main.execution_directory_expansion_filter.as_str();
    let names = Names { person, main, filter, incomplete: Cell::new(false) };
    let path = expand(&main.command_execution_directory, &names);
    let path = path.map_err(|error| format!("command_execution_directory: {}", error.0))?;
    Ok((!path.is_empty()).then(|| Octets::from(path.as_str())))
}

/// The address of `luser_relay` for mail that nobody else takes; none if it is empty. No character is filtered out: the result is read as one address.
///
/// # Errors
/// What is wrong with the parameter.
pub fn luser(person: Person<'_>, main: &Main) -> Result<Option<String>, String> {
    let address = expand(&main.luser_relay, &Unfiltered { person, main });
    let address = address.map_err(|error| format!("luser_relay: {}", error.0))?;
    Ok((!address.is_empty()).then_some(address))
}

/// What a command sees of the mail in its environment, as local(8) names it, with `command_expansion_filter` applied.
#[must_use]
pub fn environment(
    person: Person<'_>,
    lease: &Lease,
    recipient: &LeaseRecipient,
    original: &str,
    main: &Main,
) -> Vec<(String, Octets)> {
    let client = &lease.client;
    let text = |value: &str| Some(Octets::from(value));
    let some = |value: &str| if value.is_empty() { None } else { text(value) };
    let values = [
        ("HOME", person.value("home", main)),
        ("LOGNAME", text(person.name)),
        ("USER", text(person.name)),
        ("SENDER", text(&lease.sender.to_string())),
        ("RECIPIENT", text(&recipient.address.to_string())),
        ("LOCAL", text(recipient.address.local())),
        ("SHELL", person.value("shell", main)),
        ("DOMAIN", text(recipient.address.domain().as_str())),
        ("EXTENSION", person.extension.and_then(text)),
        ("ORIGINAL_RECIPIENT", some(original)),
        ("CLIENT_HOSTNAME", some(&client.name)),
        ("CLIENT_ADDRESS", client.address.and_then(|address| text(&address.to_string()))),
        ("CLIENT_HELO", client.helo.clone()),
        ("CLIENT_PROTOCOL", some(&client.protocol)),
        ("SASL_METHOD", client.sasl_method.as_deref().and_then(some)),
        ("SASL_USERNAME", client.sasl_username.as_deref().and_then(some)),
    ];
    let filter = main.command_expansion_filter.as_str();
    let set = values.into_iter().filter_map(|(name, value)| Some((name, value?)));
    set.map(|(name, value)| (name.to_owned(), Octets::new(filtered(value.as_bytes(), filter)))).collect()
}
