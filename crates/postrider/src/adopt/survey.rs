//! What is on the machine, how much of it is carried out, what will differ, and what to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use mail_config::{Config, Level, Loaded, Status};
use mail_daemon::state;
use serde::Serialize;

use super::listeners::{Listening, listening, runs};
use crate::exit::{Failure, IO};
use crate::spool::{QUEUES, Spool};

/// The ports of mail: SMTP, submission, POP3, IMAP, ManageSieve.
const MAIL_PORTS: [u16; 8] = [25, 465, 587, 110, 143, 993, 995, 4190];

/// Where the files of a machine are; another directory than `/` for a trial.
#[derive(Debug, Clone)]
pub struct Places {
    /// The directory that stands for `/`.
    pub root: PathBuf,
    /// The directory of main.cf.
    pub postfix: PathBuf,
    /// dovecot.conf, where it is not beside main.cf.
    pub dovecot: Option<PathBuf>,
    /// Where our configuration is looked for.
    pub ours: PathBuf,
}

/// A parameter, setting or file of which something is to be said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// The file and line.
    pub place: String,
    /// The parameter or setting; empty for a whole file.
    pub parameter: String,
    /// In one word.
    pub status: &'static str,
    /// In a sentence.
    pub effect: String,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Running {
    /// Postfix's master.
    pub postfix: bool,
    /// Dovecot's master.
    pub dovecot: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Survey {
    /// The directory of main.cf.
    pub configuration: PathBuf,
    /// dovecot.conf.
    pub dovecot: PathBuf,
    /// Our state directory.
    pub state: PathBuf,
    /// Postfix's queue directory.
    pub queue_directory: PathBuf,
    /// How many parameters and settings of the files are supported, partly so, and so on.
    pub coverage: BTreeMap<&'static str, usize>,
    /// What will differ.
    pub differences: Vec<Remark>,
    /// The tables that the files name.
    pub tables: Vec<String>,
    /// How to get the text back of those that have only a compiled file.
    pub without_text: Vec<String>,
    /// Where mail is delivered and read.
    pub mail_location: String,
    /// Users of the machine that have a Maildir in their home.
    pub maildirs: usize,
    /// Messages of Postfix's queue, by state, as far as the caller may look.
    pub queue: BTreeMap<&'static str, usize>,
    /// The ports of mail that somebody listens on.
    pub listening: Vec<Listening>,
    /// What runs.
    pub running: Running,
    /// Users and groups that are missing.
    pub missing: Vec<String>,
    /// What to do, in order.
    pub steps: Vec<String>,
}

impl Survey {
    /// Looks at the machine.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn of(places: &Places, loaded: &Loaded, spool: &Spool) -> Result<Self, Failure> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| Failure::new(IO, format!("{what}: {error}"))
        };
        let config = &loaded.config;
        let mut queue = BTreeMap::new();
        for name in QUEUES {
            match spool.files(name) {
                Ok(files) => drop(queue.insert(name.name(), files.len())),
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(failed(name.name())(error)),
            }
        }
        let proc = Path::new("/proc");
        // Without the right to look at the lock, a process of that name has to do.
        let running = Running {
            postfix: spool.is_running().unwrap_or_else(|_| runs(proc, "master")),
            dovecot: runs(proc, "dovecot"),
        };
        let ports = ports(config);
        let listening = listening(proc).into_iter().filter(|one| ports.contains(&one.address.port())).collect();
        let mut survey = Self {
            configuration: places.postfix.clone(),
            dovecot: PathBuf::from(&config.dovecot.raw().file),
            state: config.state_dir(),
            queue_directory: spool.root.clone(),
            coverage: coverage(loaded),
            differences: differences(loaded),
            tables: tables(config),
            without_text: tables_without_text(config),
            mail_location: config.dovecot.settings.mail_location.as_str().to_owned(),
            maildirs: maildirs(&places.root),
            queue,
            listening,
            running,
            missing: state::missing().map_err(failed("passwd"))?,
            steps: Vec::new(),
        };
        survey.steps = survey.steps(places);
        Ok(survey)
    }

    /// The same for files that would not start: they come first.
    #[must_use]
    pub fn after_mistakes(mut self) -> Self {
        self.steps.insert(
            0,
            format!("mend what is wrong in {} (postrider check), then ask again", self.configuration.display()),
        );
        self
    }

    fn steps(&self, places: &Places) -> Vec<String> {
        let mut steps = Vec::new();
        steps.extend(self.without_text.iter().cloned());
        if self.running.postfix {
            steps.push(format!("postfix -c {} stop", self.configuration.display()));
        }
        if self.running.dovecot {
            steps.push("systemctl disable --now dovecot".to_owned());
        }
        steps.push(format!("postrider adopt -c {} --yes", places.postfix.display()));
        steps.push("systemctl disable postfix".to_owned());
        steps.push("systemctl enable --now postrider.target".to_owned());
        steps
    }

    /// The survey for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |text: String| {
            // Writing into a string cannot fail.
            let _ = writeln!(out, "{text}");
        };
        line(format!("main.cf and master.cf   {}", self.configuration.display()));
        line(format!("dovecot.conf            {}", self.dovecot.display()));
        line(format!("Postfix's queue         {}", self.queue_directory.display()));
        line(format!("our state               {}", self.state.display()));
        let counts: Vec<String> = self.queue.iter().map(|(name, count)| format!("{name} {count}")).collect();
        line(format!(
            "messages                {}",
            if counts.is_empty() { "(only root may look)".to_owned() } else { counts.join(", ") }
        ));
        line(format!("tables                  {}", self.tables.join(", ")));
        line(format!("mail_location           {}", self.mail_location));
        line(format!("homes with a Maildir    {}", self.maildirs));
        let runs = |what: &str, runs: bool| format!("{what} {}", if runs { "runs" } else { "does not run" });
        line(format!(
            "now                     {}, {}",
            runs("Postfix", self.running.postfix),
            runs("Dovecot", self.running.dovecot)
        ));
        for one in &self.listening {
            let who = if one.programs.is_empty() { "(not ours to see)".to_owned() } else { one.programs.join(", ") };
            line(format!("listens                 {} {who}", one.address));
        }
        if !self.missing.is_empty() {
            line(format!("missing                 {} (adopt --yes makes them)", self.missing.join(", ")));
        }
        let counts: Vec<String> = self.coverage.iter().map(|(status, count)| format!("{status} {count}")).collect();
        line(format!("\nParameters and settings: {}", counts.join(", ")));
        if !self.differences.is_empty() {
            line("\nWhat will differ:".to_owned());
        }
        for remark in &self.differences {
            line(format!("  {}: {}: {}", remark.place, remark.status, remark.effect));
        }
        line("\nWhat to do:".to_owned());
        for step in &self.steps {
            line(format!("  {step}"));
        }
        out
    }
}

fn coverage(loaded: &Loaded) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for report in loaded.reports.iter().filter(|report| !report.parameter.is_empty()) {
        *counts.entry(report.status.as_str()).or_default() += 1;
    }
    counts
}

/// Everything that is not simply supported or without a meaning here.
fn differences(loaded: &Loaded) -> Vec<Remark> {
    let differs = |report: &&mail_config::Report| {
        !matches!(report.status, Status::Supported | Status::NoEffect) || report.level != Level::Note
    };
    let remark = |report: &mail_config::Report| Remark {
        place: report.source.to_string(),
        parameter: report.parameter.clone(),
        status: report.status.as_str(),
        effect: if report.hint.is_empty() {
            report.message.clone()
        } else {
            format!("{}: {}", report.message, report.hint)
        },
    };
    loaded.reports.iter().filter(differs).map(remark).collect()
}

/// The tables that a file states.
fn tables(config: &Config) -> Vec<String> {
    config.tables().into_iter().filter(|(_, written)| *written).map(|(table, _)| table.to_string()).collect()
}

/// The source of a `hash:` is the table here; where only the compiled file is left, Postfix's own programs give the text back.
fn tables_without_text(config: &Config) -> Vec<String> {
    let without = |table: &mail_config::main_cf::lists::TableRef| {
        let (kind, path) = (table.to_string(), Path::new(&table.name));
        let kind = kind.trim_start_matches("proxy:").split(':').next()?.to_owned();
        let suffix = match kind.as_str() {
            "hash" | "btree" => "db",
            "lmdb" => "lmdb",
            "cdb" => "cdb",
            _ => return None,
        };
        let compiled = PathBuf::from(format!("{}.{suffix}", path.display()));
        (!path.exists() && compiled.exists()).then(|| format!("postmap -s {kind}:{0} > {0}", path.display()))
    };
    config.tables().iter().filter_map(|(table, _)| without(table)).collect()
}

/// The ports of mail, and those that the files name.
fn ports(config: &Config) -> Vec<u16> {
    let smtp = config.listeners().iter().flat_map(|listener| &listener.addresses);
    let logins = config.dovecot.logins.iter().flat_map(|login| &login.addresses);
    smtp.chain(logins).map(std::net::SocketAddr::port).chain(MAIL_PORTS).collect()
}

fn maildirs(root: &Path) -> usize {
    let passwd = fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
    let home = |line: &str| line.split(':').nth(5).map(|home| root.join(home.trim_start_matches('/')));
    let homes: std::collections::BTreeSet<PathBuf> = passwd.lines().filter_map(home).collect();
    homes.iter().filter(|home| home.join("Maildir/cur").is_dir()).count()
}
