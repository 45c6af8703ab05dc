//! `postrider leave`: hands the queue to the Postfix that is installed, and builds the tables that Postfix wants built.

mod account;
mod hand_over;
mod maildrop;
mod message;
mod tables;

use std::ffi::OsString;
use std::path::PathBuf;

use mail_config::Config;
use serde::Serialize;

use self::account::Account;
use self::hand_over::HandOver;
use crate::arguments::Grammar;
use crate::exit::{Failure, IO, Outcome, TEMPORARY, UNAVAILABLE, USAGE};
use crate::ours::Ours;
use crate::own_log::OwnLog;
use crate::spool::{Spool, load};
use crate::system::directory;
use crate::terminal::print;

const GRAMMAR: Grammar = Grammar { letters: "c:D:jy", long: &[("dovecot", 'D'), ("json", 'j'), ("yes", 'y')] };
const USAGE_LINE: &str = "usage: leave [-c DIR] [--dovecot FILE] [--json] [--yes]";

/// What the command prints as JSON.
#[derive(Serialize)]
struct Report<'a> {
    tables: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a Account>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<usize>,
}

/// Runs the command: without `--yes` it only says what it would do.
///
/// # Errors
/// 75 where something runs that must not, or a message is left; 69 where no Postfix is installed.
pub fn run(arguments: &[OsString]) -> Outcome {
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::new(USAGE, format!("{error}; {USAGE_LINE}")))?;
    if !parsed.operands.is_empty() {
        return Err(Failure::new(USAGE, USAGE_LINE));
    }
    let loaded = load(&directory(parsed.last('c')), parsed.last('D').map(std::path::Path::new))?;
    let config = &loaded.config;
    let spool = Spool::of(config)?;
    let programs = Programs::of(config)?;
    let json = parsed.has('j');
    let stale = tables::stale(config);
    if !parsed.has('y') {
        return plan(config, &stale, json).map(|()| 0);
    }
    let account = hand_over(config, &spool)?;
    let built = tables::build(config, &programs, &stale)?;
    let report = Report { tables: &built, account: Some(&account), waiting: None };
    if json {
        show(&report)?
    } else {
        print(&text(&built, &account))?
    }
    Ok(if account.left.is_empty() { 0 } else { TEMPORARY })
}

fn show(report: &Report<'_>) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(report).map_err(|error| Failure::new(IO, error.to_string()))?;
    print(&format!("{text}\n"))
}

fn text(built: &[String], account: &Account) -> String {
    let mut out: String = built.iter().map(|command| format!("{command}\n")).collect();
    out.push_str(&account.text());
    out
}

/// What would be done.
fn plan(config: &Config, stale: &[tables::Stale], json: bool) -> Result<(), Failure> {
    let ours = Ours::open(config)?;
    let waiting = ours.with(|store| Ok(store.counts().messages));
    ours.close()?;
    let waiting = usize::try_from(waiting?).unwrap_or(usize::MAX) + maildrop::waiting(&config.state_dir()).len();
    let commands: Vec<String> = stale.iter().map(ToString::to_string).collect();
    if json {
        return show(&Report { tables: &commands, account: None, waiting: Some(waiting) });
    }
    let mut out = format!("messages to hand over   {waiting}\n");
    for command in commands {
        out.push_str(&format!("table to build          {command}\n"));
    }
    out.push_str("\nWhat to do:\n  systemctl disable --now postrider.target\n  postrider leave --yes\n  systemctl enable --now postfix dovecot\n");
    print(&out)
}

/// Hands every message over. Holds our queue and Postfix's lock meanwhile.
fn hand_over(config: &Config, spool: &Spool) -> Result<Account, Failure> {
    if !spool.exists() {
        let text = format!("{} is no queue of Postfix: run `postfix check' once", spool.root.display());
        return Err(Failure::new(UNAVAILABLE, text));
    }
    let _lock = spool.lock()?;
    let ours = Ours::open(config)?;
    let log = OwnLog::open(config, "leave", rustix::process::geteuid().is_root())
        .map_err(|error| Failure::new(IO, error.to_string()))?;
    let mut hand_over = HandOver::open(config, spool, &ours, &log)?;
    let done = hand_over.run();
    let account = std::mem::take(&mut hand_over.account);
    drop(hand_over);
    let closed = ours.close();
    done.and(closed).map(|()| account)
}

/// The programs of the installed Postfix.
struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Looks for them where main.cf says.
    ///
    /// # Errors
    /// There are none, or the names are links to this program.
    fn of(config: &Config) -> Result<Self, Failure> {
        let directory = PathBuf::from(config.main.expanded("command_directory").unwrap_or_default());
        for name in ["postmap", "postalias"] {
            let program = directory.join(name);
            let real = std::fs::canonicalize(&program).ok();
            let ours = real.as_deref().and_then(std::path::Path::file_name).is_some_and(|name| name == "postrider");
            if real.is_none() || ours {
                let text = format!("{} is not Postfix's: install Postfix first", program.display());
                return Err(Failure::new(UNAVAILABLE, text));
            }
        }
        Ok(Self { directory })
    }
}
