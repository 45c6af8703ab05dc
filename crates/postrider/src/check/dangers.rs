//! What the files allow that they should not: an open relay, files that others may write, keys that others may read, files that are missing.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use admission::facts::{Fetched, View};
use ipnet::IpNet;
use mail_config::dovecot::Driver;
use mail_config::main_cf::Entry;
use mail_config::main_cf::lists::{NetworkPattern, Pattern, TableRef};
use mail_config::{Config, Level, Listener, Report, Value};
use mail_policy::Plan;
use mail_policy::relay::{OpenRelay, open_relay};
use mail_tables::{Disk, TableSet};
use mail_types::{Domain, SourceLine};

/// Everything that is dangerous about a configuration; errors are what the start refuses.
#[must_use]
pub fn dangers(config: &Config) -> Vec<Report> {
    let (tables, mut reports) = TableSet::open(config, Box::new(Disk));
    let tables = tables.snapshot();
    for listener in config.listeners().iter().filter(|listener| !listener.is_loopback_only()) {
        let fetched = Fetched::default();
        let view = View { config, main: &listener.main, tables: &tables, fetched: &fetched };
        let Ok(own) = Domain::new(&listener.main.myhostname) else { continue };
        let plan = Plan::new(Arc::clone(&listener.main));
        reports.extend(open_relay(&plan, &own, &view).into_iter().next().map(|open| relay(listener, open)));
    }
    reports.extend(wide_networks(config));
    reports.extend(configuration_files(config));
    reports.extend(table_files(config));
    reports.extend(key_files(config));
    reports.extend(password_files(config));
    reports
}

fn relay(listener: &Listener, open: OpenRelay) -> Report {
    let source = open.reason.as_ref().map_or(listener.service.source.clone(), |reason| reason.source.clone());
    let rule = open.reason.map(|reason| format!("`{}' lets it through", reason.rule));
    let (attempt, name) = (open.attempt, &listener.service.name);
    let message = format!(
        "`{name}' would be an open relay ({}): {} may send from <{}> to <{}>: {}",
        attempt.form,
        attempt.client,
        attempt.sender,
        attempt.recipient,
        rule.unwrap_or_else(|| "no rule refuses it".to_owned())
    );
    let allowed = *listener.main.postrider_allow_open_relay;
    let level = if allowed { Level::Warning } else { Level::Error };
    let hint = "strangers would send their mail through this machine; name a network or a login in that rule, or put \
                `reject_unauth_destination' before it";
    Report::new(level, source, message, hint).of("smtpd_relay_restrictions")
}

/// Networks that nobody can know all hosts of.
fn wide_networks(config: &Config) -> Vec<Report> {
    let networks = &config.main.mynetworks;
    let wide = networks.iter().filter(|item| !item.negated).filter_map(|item| match &item.pattern {
        Pattern::Literal(NetworkPattern::Net(IpNet::V4(net))) if net.prefix_len() < 8 => Some(&item.text),
        Pattern::Literal(NetworkPattern::Net(IpNet::V6(net))) if net.prefix_len() < 16 => Some(&item.text),
        _ => None,
    });
    let report = |text: &String| {
        let message = format!("mynetworks: `{text}' holds a great part of the Internet, and all of it may relay");
        warning(&networks.source, message, "write the networks of your own machines").of("mynetworks")
    };
    wide.map(report).collect()
}

fn configuration_files(config: &Config) -> Vec<Report> {
    let dovecot = PathBuf::from(&config.dovecot.raw().file);
    let files = [config.dir.clone(), config.dir.join("main.cf"), config.dir.join("master.cf"), dovecot];
    let mut reports: Vec<Report> = Vec::new();
    for file in &files {
        let source = SourceLine::new(file.display().to_string(), 0);
        reports.extend(written_by_others(file, "who may write it rules this machine's mail", &source));
    }
    let state = config.state_dir();
    for path in ["segments", "content", "sled", "ledger", "private", "tls"].map(|name| state.join(name)) {
        let mode = std::fs::metadata(&path).map_or(0, |metadata| metadata.mode() & 0o7777);
        if mode & 0o007 != 0 {
            let source = SourceLine::new(path.display().to_string(), 0);
            let message = format!("{} is open to everyone (mode {mode:o})", path.display());
            reports.push(warning(&source, message, format!("run `chmod o-rwx {}'", path.display())));
        }
    }
    reports
}

/// The files of tables, and the directories in which they lie.
fn table_files(config: &Config) -> Vec<Report> {
    let mut reports = Vec::new();
    let mut seen = BTreeSet::new();
    let secrets: Vec<TableRef> = config.main.smtp_sasl_password_maps.value.clone();
    let tables = config.tables().into_iter().map(|(table, _)| table).chain(secrets.iter().cloned());
    for table in tables {
        let client = table.client_file();
        let holds_passwords = client.is_some() || secrets.contains(&table);
        let Some(file) = table.file().or(client).filter(|file| seen.insert(file.clone())) else { continue };
        let (parameter, source) = named_by(config, &table);
        let mut found: Vec<Report> =
            written_by_others(&file, "who may write it decides what becomes of mail", &source).into_iter().collect();
        if found.is_empty() {
            found.extend(file.parent().and_then(|directory| replaceable(&file, directory, &source)));
        }
        if holds_passwords {
            found.extend(read_by_others(&file, "it holds passwords", &source));
        }
        reports.extend(found.into_iter().map(|report| report.of(&parameter)));
    }
    reports
}

/// The parameter that names a table, and its line; the file itself where only a default does.
pub(super) fn named_by(config: &Config, table: &TableRef) -> (String, SourceLine) {
    let raw = config.main.raw();
    let overrides = config.master.services.iter().flat_map(|service| &service.overrides);
    let names = |entry: &&Entry| raw.expand(&entry.value).is_ok_and(|value| value.contains(&table.name));
    match raw.entries.values().chain(overrides).find(names) {
        Some(entry) => (entry.name.clone(), entry.source.clone()),
        None => (String::new(), SourceLine::new(table.name.clone(), 0)),
    }
}

/// Certificates and keys that the files name.
fn key_files(config: &Config) -> Vec<Report> {
    let main = &config.main;
    // A key without a file of its own lies in that of the certificate.
    let joint = main.smtpd_tls_key_file.value == main.smtpd_tls_cert_file.value;
    let mut named = vec![
        written("smtpd_tls_cert_file", &main.smtpd_tls_cert_file, joint),
        written("smtpd_tls_key_file", &main.smtpd_tls_key_file, true),
        written("smtp_tls_CAfile", &main.smtp_tls_CAfile, false),
    ];
    // Single addresses and names have certificates of their own.
    for seen in config.dovecot.seen_by_all() {
        named.push(written("ssl_cert", &seen.settings.ssl_cert, false));
        named.push(written("ssl_key", &seen.settings.ssl_key, true));
    }
    let mut reports: Vec<Report> = Vec::new();
    for KeyFile { name, path, source, is_key } in named.into_iter().flatten() {
        let found = match std::fs::File::open(&path) {
            Err(error) => Some(unreadable(name, &path, &error, &source)),
            Ok(_) if is_key => read_by_others(&path, "it holds a private key", &source)
                .or_else(|| written_by_others(&path, "it holds a private key", &source)),
            Ok(_) => written_by_others(&path, "clients trust it", &source),
        };
        reports.extend(found.map(|report| report.of(name)).filter(|report| !reports.contains(report)));
    }
    reports
}

/// A file of a certificate or key that a file names.
struct KeyFile {
    name: &'static str,
    path: PathBuf,
    source: SourceLine,
    is_key: bool,
}

fn written(name: &'static str, value: &Value<Option<PathBuf>>, is_key: bool) -> Option<KeyFile> {
    let path = value.value.clone().filter(|path| value.is_written() && path.as_os_str() != "none")?;
    Some(KeyFile { name, path, source: value.source.clone(), is_key })
}

fn unreadable(name: &str, path: &Path, error: &std::io::Error, source: &SourceLine) -> Report {
    let (shown, reason) = (path.display(), reason(error));
    let message = format!("{name}: {shown} cannot be read: {reason}; what needs it has no TLS or does not start");
    warning(source, message, "name a file that exists and that root may read")
}

/// The system's words without the error number.
fn reason(error: &std::io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_owned()
}

/// The files of users and passwords that passdbs and userdbs name, as far as they are the same for every user.
fn password_files(config: &Config) -> Vec<Report> {
    let seen = config.dovecot.seen_by_all();
    let databases = seen.iter().flat_map(|dovecot| dovecot.passdbs.iter().chain(&dovecot.userdbs));
    let mut reports: Vec<Report> = Vec::new();
    for database in databases.filter(|database| database.driver == Driver::PasswdFile) {
        let Some(path) = database.path.as_deref().filter(|path| !path.contains('%')).map(Path::new) else { continue };
        let found = match std::fs::metadata(path) {
            Err(error) => {
                let reason = reason(&error);
                let message = format!("{} cannot be read: {reason}; whom it alone knows cannot log in", path.display());
                Some(warning(&database.source, message, "name a file that exists"))
            }
            Ok(_) => written_by_others(path, "who may write it can log in as anybody", &database.source)
                .or_else(|| read_by_others(path, "it holds passwords", &database.source)),
        };
        reports.extend(found.map(|report| report.of("passwd-file")).filter(|report| !reports.contains(report)));
    }
    reports
}

fn warning(source: &SourceLine, message: impl Into<String>, hint: impl Into<String>) -> Report {
    Report::new(Level::Warning, source.clone(), message, hint)
}

/// What a file decides should be for its owner alone to write, and the owner should be root or who runs this.
fn written_by_others(path: &Path, means: &str, source: &SourceLine) -> Option<Report> {
    let metadata = std::fs::metadata(path).ok().filter(|metadata| metadata.is_file() || metadata.is_dir())?;
    let (mode, shown) = (metadata.mode() & 0o7777, path.display());
    if mode & 0o022 != 0 {
        let message = format!("{shown} can be written by others than its owner (mode {mode:o}): {means}");
        return Some(warning(source, message, format!("run `chmod go-w {shown}'")));
    }
    let is_stranger = metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw();
    is_stranger.then(|| {
        let message = format!("{shown} belongs to uid {}, not to root: {means}", metadata.uid());
        warning(source, message, format!("run `chown root {shown}'"))
    })
}

/// A directory in which others may put another file in the place of this one.
fn replaceable(file: &Path, directory: &Path, source: &SourceLine) -> Option<Report> {
    let mode = std::fs::metadata(directory).ok()?.mode() & 0o7777;
    (mode & 0o022 != 0 && mode & 0o1000 == 0).then(|| {
        let message =
            format!("{} can be replaced by others than its owner: its directory has mode {mode:o}", file.display());
        warning(source, message, format!("run `chmod go-w {}'", directory.display()))
    })
}

fn read_by_others(path: &Path, means: &str, source: &SourceLine) -> Option<Report> {
    let mode = std::fs::metadata(path).ok()?.mode() & 0o7777;
    (mode & 0o004 != 0).then(|| {
        let message = format!("{} can be read by everyone (mode {mode:o}): {means}", path.display());
        warning(source, message, format!("run `chmod o-rwx {}'", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// The dangers of a directory with these files and modes: level, line, text with `DIR` for the directory.
    fn found(files: &[(&str, &str, u32)]) -> Vec<(Level, u32, String)> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().display().to_string();
        for (name, text, mode) in files {
            let file = directory.path().join(name);
            fs::write(&file, text.replace("DIR", &path)).expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(*mode)).expect("a mode");
        }
        let config = Config::load(directory.path(), Some(&directory.path().join("dovecot.conf"))).expect("good").config;
        let state = config.state_dir().display().to_string();
        let shown = |report: Report| (report.level, report.source.line, report.line().replace(&path, "DIR"));
        dangers(&config).into_iter().map(shown).filter(|(_, _, line)| !line.contains(&state)).collect()
    }

    const MAIN: &str = "alias_maps =\nalias_database =\nmyhostname = mail.example.org\n";
    const QUIET: (&str, &str, u32) = ("dovecot.conf", "protocols =\n", 0o644);

    #[test]
    fn a_plain_server_is_no_danger() {
        assert_eq!(found(&[("main.cf", MAIN, 0o644), QUIET]), []);
    }

    #[test]
    fn an_open_relay_is_named_with_the_line_that_opens_it() {
        let main =
            format!("{MAIN}smtpd_relay_restrictions = check_client_access static:OK reject_unauth_destination\n");
        let found = found(&[("main.cf", &main, 0o644), QUIET]);
        assert_eq!((found.len(), found[0].0, found[0].1), (1, Level::Error, 4), "{found:?}");
        assert!(
            found[0].2.contains("would be an open relay") && found[0].2.contains("static:OK' lets it through"),
            "{found:?}"
        );
    }

    #[test]
    fn a_table_that_others_may_write_is_named_with_its_parameter() {
        let main = format!("{MAIN}virtual_alias_maps = texthash:DIR/virtual\nmynetworks = 0.0.0.0/1 127.0.0.0/8\n");
        let files = [("main.cf", main.as_str(), 0o644), ("virtual", "a@b.example c@d.example\n", 0o666), QUIET];
        let found = found(&files);
        let has = |line: u32, text: &str| found.iter().any(|(_, at, said)| *at == line && said.contains(text));
        assert!(
            has(4, "(mode 666): who may write it decides what becomes of mail: run `chmod go-w DIR/virtual'"),
            "{found:?}"
        );
        assert!(has(5, "a great part of the Internet"), "{found:?}");
    }

    #[test]
    fn a_key_that_everyone_may_read_and_a_file_that_is_missing_are_named() {
        let main = format!(
            "{MAIN}smtpd_tls_cert_file = DIR/none.pem\nsmtpd_tls_key_file = DIR/key.pem\nrelay_recipient_maps = texthash:DIR/gone\n"
        );
        let dovecot = "protocols =\npassdb {\n driver = passwd-file\n args = DIR/users\n}\nlocal_name mail.example.org {\n ssl_cert = <DIR/named.pem\n ssl_key = <DIR/key.pem\n}\n";
        let files = [
            ("main.cf", main.as_str(), 0o644),
            ("key.pem", "x", 0o644),
            ("users", "a:{PLAIN}b\n", 0o644),
            ("dovecot.conf", dovecot, 0o644),
        ];
        let found = found(&files);
        let has = |line: u32, text: &str| found.iter().any(|(_, at, said)| *at == line && said.contains(text));
        assert!(has(4, "none.pem cannot be read: No such file"), "{found:?}");
        assert!(has(5, "key.pem can be read by everyone"), "{found:?}");
        assert!(has(2, "users can be read by everyone (mode 644): it holds passwords"), "{found:?}");
        assert!(has(7, "named.pem cannot be read: No such file"), "{found:?}");
        assert!(has(8, "key.pem can be read by everyone"), "{found:?}");
        assert!(found.iter().any(|(_, _, said)| said.contains("DIR/gone")), "{found:?}");
    }
}
