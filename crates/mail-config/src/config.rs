//! The whole configuration: read from its files, checked, and kept as a generation.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mail_types::SourceLine;
use serde::{Deserialize, Serialize};

use crate::agreement;
use crate::dovecot::{self, Dovecot};
use crate::machine::Machine;
use crate::main_cf::lists::TableRef;
use crate::main_cf::{self, Main, RawMain};
use crate::master_cf::{self, Listener, Master, Service, TransportKind};
use crate::report::{Errors, Level, Report};
use crate::unbuilt;

/// main.cf, master.cf and dovecot.conf, checked.
///
/// As JSON it is a generation: the written values with their lines and the facts of the machine, typed again when it is
/// read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Config {
    /// The directory of main.cf and master.cf.
    pub dir: PathBuf,
    /// main.cf as a daemon without overrides sees it.
    pub main: Arc<Main>,
    /// master.cf.
    pub master: Arc<Master>,
    /// dovecot.conf.
    pub dovecot: Arc<Dovecot>,
    listeners: Arc<[Listener]>,
}

/// A configuration and what is to be said about its files, in their order: warnings for the log, notes for `check`.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The remarks.
    pub reports: Vec<Report>,
}

/// A generation as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Raw {
    main: RawMain,
    master: Master,
    dovecot: dovecot::RawDovecot,
}

impl Config {
    /// Reads and checks the files of a directory. Any of them may be missing. `dovecot` names dovecot.conf; otherwise it is
    /// `dovecot.conf` in the directory, or /etc/dovecot/dovecot.conf.
    ///
    /// # Errors
    /// [`Errors`] with everything that stops the start (exit 78).
    pub fn load(dir: &Path, dovecot: Option<&Path>) -> Result<Loaded, Errors> {
        Self::load_on(dir, dovecot, Machine::read())
    }

    /// The same for a machine that the caller describes.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_on(dir: &Path, dovecot: Option<&Path>, machine: Machine) -> Result<Loaded, Errors> {
        let (config, reports) = Self::examine_on(dir, dovecot, machine)?;
        let (errors, reports): (Vec<_>, Vec<_>) = reports.into_iter().partition(|r| r.level == Level::Error);
        if errors.is_empty() { Ok(Loaded { config, reports }) } else { Err(Errors(errors)) }
    }

    /// The configuration with everything that is to be said about it, mistakes included: a wrong value is that of an empty file. It is for looking at;
    /// daemons run what [`Config::load`] gives.
    ///
    /// # Errors
    /// There is no such directory.
    pub fn examine(dir: &Path, dovecot: Option<&Path>) -> Result<(Self, Vec<Report>), Errors> {
        Self::examine_on(dir, dovecot, Machine::read())
    }

    fn examine_on(dir: &Path, dovecot: Option<&Path>, machine: Machine) -> Result<(Self, Vec<Report>), Errors> {
        let mut reports = Vec::new();
        if !dir.is_dir() {
            let source = SourceLine::new(dir.display().to_string(), 0);
            let message = format!("{}: no such directory", dir.display());
            return Err(Errors(vec![Report::new(Level::Error, source, message, "name the directory of main.cf")]));
        }
        let (file, text) = read(&dir.join("main.cf"), &mut reports);
        let mut entries = main_cf::parse(&file, &text.unwrap_or_default(), &mut reports);
        replace_origin(&mut entries, &mut reports);
        let main = RawMain { file, directory: dir.display().to_string(), entries, machine };
        let (file, text) = read(&dir.join("master.cf"), &mut reports);
        let master = match text {
            Some(text) => master_cf::parse(&file, &text, &mut reports),
            None => master_cf::parse(&Arc::from("default"), master_cf::DEFAULT, &mut reports),
        };
        let path = dovecot_path(dir, dovecot);
        let raw = dovecot::load(&path, &mut reports);
        if dovecot.is_some() && !raw.present {
            let message = format!("{}: no such file", path.display());
            let source = SourceLine::new(path.display().to_string(), 0);
            reports.push(Report::new(Level::Warning, source, message, "the defaults of Dovecot hold"));
        }
        let dovecot = raw;
        let config = Self::typed(Raw { main, master, dovecot }, &mut reports);
        unbuilt::report(&config, &mut reports);
        agreement::report(&config, &mut reports);
        Ok((config, reports))
    }

    /// Gives the written values their types.
    fn typed(raw: Raw, reports: &mut Vec<Report>) -> Self {
        let main = Arc::new(raw.main);
        let (typed, said) = Main::of(&main);
        reports.extend(said);
        master_cf::report(&raw.master, reports);
        for transport in raw.master.transports().filter(|transport| !transport.service.overrides.is_empty()) {
            master_cf::service_main(&main, transport.service, reports);
        }
        let listeners = master_cf::listeners(&raw.master, &main, reports);
        Self {
            dir: PathBuf::from(&main.directory),
            main: Arc::new(typed),
            master: Arc::new(raw.master),
            dovecot: Arc::new(Dovecot::typed(raw.dovecot, main.machine.has_ipv6(), reports)),
            listeners: listeners.into(),
        }
    }

    /// The same with dovecot.conf as a connection sees it ([`Dovecot::seen`]). A generation is never written from it.
    #[must_use]
    pub fn seen(&self, connection: &dovecot::Connection) -> Self {
        Self { dovecot: Arc::new(self.dovecot.seen(connection)), ..self.clone() }
    }

    /// The ports on which smtpd listens.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// main.cf with the `-o` overrides of a service of master.cf.
    #[must_use]
    pub fn for_service(&self, service: &Service) -> Main {
        // Mistakes in overrides were refused when the files were read.
        master_cf::service_main(&self.main.raw, service, &mut Vec::new())
    }

    /// The configuration as a transport sees it: main.cf with the `-o` of its line in master.cf.
    #[must_use]
    pub fn as_transport(&self, name: &str) -> Self {
        match self.master.transport(name).filter(|transport| !transport.service.overrides.is_empty()) {
            Some(transport) => Self { main: Arc::new(self.for_service(transport.service)), ..self.clone() },
            None => self.clone(),
        }
    }

    /// Every table and list file that main.cf and the overrides of its listeners and of local delivery name, each once; whether a file states
    /// it, or only a default.
    #[must_use]
    pub fn tables(&self) -> Vec<(TableRef, bool)> {
        self.tables_where(|_| true)
    }

    /// The same for what one daemon uses.
    #[must_use]
    pub fn tables_of(&self, daemon: &str) -> Vec<(TableRef, bool)> {
        self.tables_where(|users| users.contains(&daemon))
    }

    fn tables_where(&self, is_wanted: impl Fn(&[&str]) -> bool) -> Vec<(TableRef, bool)> {
        let mut found: Vec<(TableRef, bool)> = Vec::new();
        // Local submission has a line of its own in master.cf.
        let pickup =
            self.master.services.iter().find(|service| service.name == "pickup" && !service.overrides.is_empty());
        let pickup = pickup.map(|service| Arc::new(self.for_service(service)));
        let listeners = self.listeners.iter().map(|listener| &listener.main);
        let local = self.master.transports().filter(|transport| {
            matches!(transport.kind, TransportKind::Local | TransportKind::Virtual)
                && !transport.service.overrides.is_empty()
        });
        let local: Vec<_> = local.map(|transport| Arc::new(self.for_service(transport.service))).collect();
        let mains = std::iter::once(&self.main).chain(listeners).chain(&pickup).chain(&local);
        let named = mains.flat_map(|main| main.tables_where(&is_wanted));
        let all = named.flat_map(|(table, written)| table.with_parts().into_iter().map(move |part| (part, written)));
        for (table, written) in all {
            match found.iter_mut().find(|(known, _)| *known == table) {
                Some((_, known)) => *known |= written,
                None => found.push((table, written)),
            }
        }
        found
    }

    /// The tables with passwords for other servers (`smtp_sasl_password_maps`), which are not among [`Config::tables`].
    #[must_use]
    pub fn secret_tables(&self) -> Vec<TableRef> {
        let own = self.master.transports().filter(|transport| !transport.service.overrides.is_empty());
        let mains = own.map(|transport| self.for_service(transport.service).smtp_sasl_password_maps.value);
        let named = mains.chain([self.main.smtp_sasl_password_maps.value.clone()]).flatten();
        named.flat_map(|table| table.with_parts()).collect()
    }

    /// The directory of our state (DESIGN section 5): /var/spool/postrider, or `postrider` below a `queue_directory` that is
    /// not Postfix's own.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        match self.main.queue_directory.trim_end_matches('/') {
            "/var/spool/postfix" | "" => PathBuf::from("/var/spool/postrider"),
            other => Path::new(other).join("postrider"),
        }
    }

    /// The TCP ports of the policy services that any listener's restrictions name.
    #[must_use]
    pub fn policy_ports(&self) -> Vec<u16> {
        let services = self.listeners().iter().flat_map(|listener| listener.main.policy_services()).collect::<Vec<_>>();
        let inet = services.iter().filter_map(|service| service.strip_prefix("inet:"));
        inet.filter_map(|place| self.port(place.rsplit(':').next().unwrap_or(place))).collect()
    }

    /// A TCP port by number or name.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<u16> {
        master_cf::port_number(name, &self.main)
    }
}

impl From<Config> for Raw {
    fn from(config: Config) -> Self {
        Self {
            main: RawMain::clone(&config.main.raw),
            master: Master::clone(&config.master),
            dovecot: config.dovecot.raw().clone(),
        }
    }
}

impl TryFrom<Raw> for Config {
    type Error = Errors;

    fn try_from(raw: Raw) -> Result<Self, Errors> {
        let mut reports = Vec::new();
        let config = Self::typed(raw, &mut reports);
        reports.retain(|report| report.level == Level::Error);
        if reports.is_empty() { Ok(config) } else { Err(Errors(reports)) }
    }
}

/// Where dovecot.conf is.
fn dovecot_path(dir: &Path, named: Option<&Path>) -> PathBuf {
    match named {
        Some(path) => path.to_owned(),
        None if dir.join("dovecot.conf").exists() => dir.join("dovecot.conf"),
        None => PathBuf::from("/etc/dovecot/dovecot.conf"),
    }
}

/// The text of a file that may be missing. What is not UTF-8 is read with replacement characters and reported.
pub(crate) fn read(path: &Path, reports: &mut Vec<Report>) -> (Arc<str>, Option<String>) {
    let file: Arc<str> = Arc::from(path.display().to_string());
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if text.len() != bytes.len() || text.as_bytes() != bytes {
                let source = SourceLine::new(Arc::clone(&file), 0);
                let message = format!("{file}: not UTF-8");
                reports.push(Report::new(Level::Warning, source, message, "write it in UTF-8; other octets are lost"));
            }
            (file, Some(text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (file, None),
        Err(error) => {
            let source = SourceLine::new(Arc::clone(&file), 0);
            let message = format!("{file}: {error}");
            reports.push(Report::new(Level::Error, source, message, "make it readable"));
            (file, None)
        }
    }
}

/// `myorigin = /etc/mailname`, as Debian's Postfix reads it: the first line of that file.
fn replace_origin(entries: &mut std::collections::BTreeMap<String, main_cf::Entry>, reports: &mut Vec<Report>) {
    let Some(entry) = entries.get_mut("myorigin").filter(|entry| entry.value.starts_with('/')) else { return };
    let text = fs::read_to_string(&entry.value).map_err(|error| error.to_string());
    match text.map(|text| text.lines().next().unwrap_or_default().trim().to_owned()) {
        Ok(line) if !line.is_empty() => entry.value = line,
        Ok(_) => {
            let message = format!("`{}' is empty", entry.value);
            reports.push(entry.report(Level::Error, "", message, "write the domain into its first line".into()));
        }
        Err(error) => {
            let message = format!("`{}' cannot be read: {error}", entry.value);
            reports.push(entry.report(Level::Error, "", message, "write the domain itself".into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::main_cf::PARAMETERS;
    use crate::main_cf::kinds::{Escaped, IpVersions, ServerTls};
    use crate::main_cf::lists::{NetworkPattern, Pattern};
    use crate::master_cf::ListenerMode;

    /// The configuration of a directory with these files.
    fn load(files: &[(&str, &str)]) -> Result<Loaded, Errors> {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::write(dir.path().join("dovecot.conf"), "").expect("written");
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("written");
        }
        Config::load_on(dir.path(), Some(&dir.path().join("dovecot.conf")), Machine::named("server"))
    }

    fn main_cf(text: &str) -> Loaded {
        load(&[("main.cf", text)]).unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn an_empty_directory_is_a_safe_server() {
        let loaded = main_cf("");
        let main = &loaded.config.main;
        assert_eq!((main.myhostname.as_str(), main.mydomain.as_str()), ("server.localdomain", "localdomain"));
        assert_eq!(main.smtpd_relay_restrictions.len(), 3);
        assert_eq!(loaded.config.state_dir(), Path::new("/var/spool/postrider"));
        let trusted = main.mynetworks.iter().map(|item| item.text.as_str()).collect::<Vec<_>>();
        assert_eq!(trusted, ["127.0.0.0/8", "[::1]/128"]);
        assert_eq!(loaded.reports.len(), 1, "only that mail and logins differ: {:?}", loaded.reports);
        assert_eq!(loaded.config.listeners()[0].addresses[0].port(), 25);
    }

    // The user's page, row 3.
    #[test]
    fn the_page_s_main_cf_is_read_with_its_slips() {
        let text = "...\nmydomain = info.net\nmyorigin = $mydomain\n# all of them\ninet_interfaces = all\n...\n\
                    mydestination = $myhostname, localhost.$mydomain, localhost, $mydomain, server.$mydomain, mail.$mydomain\n\
                    mynetworks = 192.168.01.0/24, 127.0.0.0/8\nhome_mailbox = Maildir/\n";
        let Loaded { config, reports } = main_cf(text);
        assert_eq!((config.main.myorigin.as_str(), config.main.myhostname.as_str()), ("info.net", "server.info.net"));
        assert_eq!(config.main.mydestination.last().map(|item| item.text.as_str()), Some("mail.info.net"));
        let Pattern::Literal(NetworkPattern::Net(net)) = &config.main.mynetworks[0].pattern else {
            panic!("a network")
        };
        assert_eq!(net.to_string(), "192.168.1.0/24");
        let warnings: Vec<_> = reports.iter().filter(|r| r.level == Level::Warning).map(|r| r.source.line).collect();
        assert_eq!(warnings, [1, 6, 8]);
        assert_eq!(config.main.home_mailbox.source.line, 9);
    }

    #[test]
    fn a_wrong_value_stops_the_start_with_line_and_caret() {
        let errors = load(&[("main.cf", "a = 1\nmessage_size_limit = 10M\n")]).expect_err("refused");
        assert_eq!(errors.0.len(), 1);
        let shown = errors.to_string();
        assert!(shown.contains("main.cf:2:22: message_size_limit: `10M' is no whole number"), "{shown}");
        assert!(
            shown.ends_with("\n  message_size_limit = 10M\n                       ^~~  write `10485760'"),
            "{shown}"
        );
        let errors = load(&[("main.cf", "mynetworks = 127.0.0.0/8,\n  192.168.010.0/24\n")]).expect_err("refused");
        assert!(errors.to_string().contains("main.cf:2:3: mynetworks: `192.168.010.0/24' is no network"), "{errors}");
    }

    #[test]
    fn a_wrong_value_that_defaults_name_is_reported_once() {
        let errors = load(&[("main.cf", "mynetworks = 10.0.0.1/8\n")]).expect_err("refused");
        assert_eq!(errors.0.len(), 1, "{errors}");
        let errors = load(&[("main.cf", "smtpd_per_record_deadline = maybe\n")]).expect_err("refused");
        assert!(errors.to_string().starts_with("smtpd_per_request_deadline: `maybe'"), "{errors}");
    }

    #[test]
    fn an_unknown_parameter_is_warned_about_with_the_nearest_name() {
        let loaded = main_cf("mydestinations = info.net\nmine = 1\nsmtpd_banner = $mine\n");
        let warnings: Vec<_> = loaded.reports.iter().filter(|r| r.column > 0 && r.level == Level::Warning).collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].to_string().ends_with("^~~~~~~~~~~~~~  did you mean `mydestination'?"), "{}", warnings[0]);
    }

    #[test]
    fn what_is_not_built_stops_the_start_unless_named() {
        let text = "smtpd_milters = inet:localhost:11332\nvirtual_alias_maps = nis:virtual\n";
        let errors = load(&[("main.cf", text)]).expect_err("refused");
        assert_eq!(errors.0.len(), 2, "{errors}");
        let loaded = main_cf(&format!("{text}postrider_run_without = smtpd_milters, nis\n"));
        assert_eq!(loaded.reports.iter().filter(|r| r.column > 0 && r.level == Level::Warning).count(), 2);
        assert!(loaded.config.main.virtual_alias_maps.is_empty());
        let loaded = main_cf("smtpd_milters =\nsmtpd_tls_ciphers = high\n");
        assert!(loaded.reports.iter().any(|r| r.message.contains("acts stricter")));
    }

    #[test]
    fn overrides_belong_to_their_service_alone() {
        let master = "smtp inet n - y - - smtpd\n127.0.0.1:10587 inet n - y - 7 smtpd\n  -o smtpd_tls_security_level=encrypt\n  -o smtpd_recipient_limit=5\n\
                      submissions inet n - y - - smtpd -o smtpd_tls_wrappermode=yes\n";
        let loaded = load(&[("main.cf", "inet_protocols = ipv4\n"), ("master.cf", master)]).expect("loads");
        let listeners = loaded.config.listeners();
        assert_eq!(
            listeners.iter().map(|l| l.addresses[0].to_string()).collect::<Vec<_>>(),
            ["0.0.0.0:25", "127.0.0.1:10587", "0.0.0.0:465"]
        );
        assert_eq!(listeners[1].main.smtpd_tls_security_level.value, ServerTls::Encrypt);
        assert_eq!(listeners[1].main.smtpd_recipient_limit.source.line, 4);
        assert_eq!(*listeners[0].main.smtpd_recipient_limit, 1000);
        assert_eq!((listeners[1].sessions, listeners[0].sessions), (7, 10_000));
        assert_eq!((listeners[2].mode, listeners[1].is_loopback_only()), (ListenerMode::Tls, true));
        assert_eq!(*loaded.config.main.inet_protocols, IpVersions { v4: true, v6: false });
        assert_eq!(*loaded.config.for_service(&listeners[1].service).smtpd_recipient_limit, 5);
    }

    #[test]
    fn what_a_line_of_a_program_without_counterpart_says_is_refused_or_harmless() {
        let master = |line: &str| {
            load(&[
                ("main.cf", "bounce_size_limit = 7000\n"),
                ("master.cf", &format!("127.0.0.1:2525 inet n - n - - smtpd\n{line}\n")),
            ])
        };
        for (line, name) in [
            ("cleanup unix n - y - 0 cleanup -o always_bcc=archive@x.org", "always_bcc"),
            ("bounce unix - - y - 0 bounce -o bounce_size_limit=1", "bounce_size_limit"),
            ("rewrite unix - - y - - trivial-rewrite -o relayhost=other.example", "relayhost"),
        ] {
            let errors = master(line).expect_err(line);
            assert_eq!((errors.0.len(), errors.0[0].source.line), (1, 2), "{errors}");
            assert!(errors.to_string().contains(&format!("{name}: not read in this line")), "{errors}");
            let without = load(&[
                ("main.cf", &format!("postrider_run_without = {name}\n")),
                ("master.cf", &format!("127.0.0.1:2525 inet n - n - - smtpd\n{line}\n")),
            ]);
            assert!(without.is_ok(), "{line}");
        }
        for line in [
            "bounce unix - - y - 0 bounce -o bounce_size_limit=7000",
            "cleanup unix n - y - 0 cleanup -o syslog_name=postfix/mine",
            "watchdog unix n - y - 0 cleanup -o always_bcc=archive@x.org",
            "local unix - n n - - local -o mailbox_size_limit=0",
            "smtp unix - - y - - smtp -o smtp_connect_timeout=9s",
        ] {
            assert!(master(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_transport_of_this_machine_sees_its_own_line() {
        let master = "local unix - n n - - local -o home_mailbox=Own/ -o fallback_transport_maps=texthash:/own\nvirtual unix - n n - - virtual\n";
        let config = load(&[("main.cf", "home_mailbox = Mail/\n"), ("master.cf", master)]).expect("loads").config;
        assert_eq!(config.as_transport("local").main.home_mailbox.as_str(), "Own/");
        assert_eq!(config.as_transport("virtual").main.home_mailbox.as_str(), "Mail/");
        assert!(config.tables_of("local-delivery").iter().any(|(table, _)| table.name == "/own"));
        assert!(!config.tables_of("smtpd").iter().any(|(table, _)| table.name == "/own"));
    }

    #[test]
    fn a_wrong_override_is_reported_once_with_its_line() {
        let master = "smtp inet n - y - - smtpd\n  -o smtpd_recipient_limit=many\n";
        let errors = load(&[("master.cf", master)]).expect_err("refused");
        assert_eq!(errors.0.len(), 1, "{errors}");
        assert_eq!(errors.0[0].source.line, 2);
    }

    #[test]
    fn postscreen_opens_its_port_with_the_options_behind_it() {
        let master = "smtp inet n - y - 1 postscreen\nsmtpd pass - - y - - smtpd -o smtpd_recipient_limit=9\ntlsproxy unix - - y - 0 tlsproxy\n";
        let loaded = load(&[("master.cf", master)]).expect("loads");
        assert_eq!(
            (*loaded.config.listeners()[0].main.smtpd_recipient_limit, loaded.config.listeners()[0].sessions),
            (9, 10_000)
        );
        let errors = load(&[("master.cf", "628 inet n - y - - qmqpd\n")]).expect_err("refused");
        assert!(errors.to_string().contains("qmqpd"));
    }

    #[test]
    fn a_generation_gives_the_same_configuration_again() {
        let files = [
            (
                "main.cf",
                "mydomain = info.net\nsmtp_destination_concurrency_limit = 3\nbig_destination_rate_delay = 2m\n",
            ),
            ("master.cf", "smtp inet n - y - - smtpd\n  -o syslog_name=x\nbig unix - - n - 5 smtp\n"),
            ("dovecot.conf", "protocols = imap\nmail_location = maildir:~/Maildir\n"),
        ];
        let config = load(&files).expect("loads").config;
        let json = serde_json::to_string(&config).expect("serialises");
        let again: Config = serde_json::from_str(&json).expect("reads");
        assert_eq!(serde_json::to_string(&again).expect("serialises"), json);
        assert_eq!(again.main.mydomain, config.main.mydomain);
        assert_eq!(again.dovecot, config.dovecot);
        assert_eq!(again.main.transport_limits("smtp").concurrency, 3);
        assert_eq!(again.main.transport_limits("big").destination_rate_delay.as_secs(), 120);
        assert_eq!(again.main.transport_limits("local").concurrency, 2);
        assert_eq!(again.listeners()[0].main.syslog_name.as_str(), "x");
    }

    #[test]
    fn every_declared_default_is_of_its_type() {
        for level in ["0", "1", "2", "3.6"] {
            let loaded = main_cf(&format!("compatibility_level = {level}\n"));
            let about_values = loaded.reports.iter().filter(|r| !r.message.starts_with("mail is delivered to"));
            assert!(about_values.clone().all(|r| r.level == Level::Note), "{:?}", loaded.reports);
        }
        // A default may name only parameters that exist, or that Postfix itself leaves undefined.
        let raw = main_cf("").config.main.raw.clone();
        // A set of characters is none of texts with names.
        for parameter in
            PARAMETERS.iter().filter(|parameter| parameter.kind != <Escaped as crate::main_cf::kinds::Kind>::NAME)
        {
            assert!(raw.expand(parameter.default).is_ok(), "{}", parameter.name);
        }
    }

    #[test]
    fn parameters_that_a_file_invents_are_checked_too() {
        let errors = |main: &str, master: &str| match load(&[("main.cf", main), ("master.cf", master)]) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.0.iter().map(|report| report.source.line).collect(),
        };
        assert_eq!(errors("\nsmtp_destination_concurrency_limit = many\n", ""), [2]);
        assert_eq!(errors("\n\nslow_destination_rate_delay = 1x\n", ""), [3]);
        let class = "smtpd_restriction_classes = mine\nmine = check_client_access\n";
        assert_eq!(errors(class, ""), [2]);
        let unbuilt = "smtpd_restriction_classes = mine\nmine = check_client_access nis:x\n";
        assert_eq!(errors(unbuilt, ""), [2]);
        assert_eq!(errors("", "big unix - - n - - smtp\n  -o smtp_connect_timeout=long\n"), [2]);
    }

    #[test]
    fn mail_that_no_login_would_show_is_warned_about() {
        let count = |main: &str, dovecot: &str| {
            let loaded = load(&[("main.cf", main), ("dovecot.conf", dovecot)]).expect("loads");
            loaded.reports.iter().filter(|r| r.message.starts_with("mail is delivered to")).count()
        };
        assert_eq!(count("home_mailbox = Maildir/\n", "mail_location = maildir:~/Maildir\n"), 0);
        assert_eq!(count("home_mailbox = mail/\n", "mail_location = maildir:~/Maildir\n"), 1);
        assert_eq!(count("mail_spool_directory = /var/mail/\n", "mail_location = maildir:/var/mail/%u\n"), 0);
        assert_eq!(count("mail_spool_directory = /var/mail/\n", "mail_location = maildir:~/x:INBOX=/var/mail/%n\n"), 0);
        assert_eq!(count("home_mailbox = Maildir/\n", "mail_location = maildir:$HOME/Maildir/\n"), 0);
        assert_eq!(count("", "mail_location = maildir:~/Maildir\n"), 1);
        assert_eq!(
            count("local_transport = lmtp:unix:private/dovecot-lmtp\n", "mail_location = maildir:~/Maildir\n"),
            0
        );
        assert_eq!(count("", "protocols = lmtp\n"), 0);
    }

    #[test]
    fn the_state_lies_beside_a_queue_of_one_s_own() {
        let loaded = main_cf("queue_directory = /tmp/q/\n");
        assert_eq!(loaded.config.state_dir(), Path::new("/tmp/q/postrider"));
    }
}
