//! `postrider adopt`: takes over a machine on which Postfix and Dovecot run, without editing a file of theirs.

mod account;
mod import;
mod listeners;
mod maildrop;
pub mod moving;
mod role_users;
mod survey;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use mail_config::{Config, Loaded};
use serde::Serialize;

use self::account::Account;
use self::import::Import;
use self::survey::{Places, Survey};
use crate::arguments::{Grammar, Parsed};
use crate::exit::{Failure, IO, Outcome, TEMPORARY, USAGE};
use crate::ours::Ours;
use crate::own_log::OwnLog;
use crate::spool::{Spool, load};
use crate::terminal::print;

const GRAMMAR: Grammar =
    Grammar { letters: "c:R:D:jy", long: &[("root", 'R'), ("dovecot", 'D'), ("json", 'j'), ("yes", 'y')] };
const USAGE_LINE: &str = "usage: adopt [-c DIR] [--dovecot FILE] [--root DIR] [--json] [--yes]";

/// What the command prints as JSON.
#[derive(Serialize)]
struct Report<'a> {
    survey: &'a Survey,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a Account>,
}

/// Runs the command: a survey, and with `--yes` the take-over.
///
/// # Errors
/// 78 where the files would not start, 75 where something runs that must not or a message stays behind.
pub fn run(arguments: &[OsString]) -> Outcome {
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::new(USAGE, format!("{error}; {USAGE_LINE}")))?;
    if !parsed.operands.is_empty() {
        return Err(Failure::new(USAGE, USAGE_LINE));
    }
    let places = places(&parsed);
    let json = parsed.has('j');
    let loaded = match load(&places.postfix, places.dovecot.as_deref()) {
        Ok(loaded) => loaded,
        Err(mistakes) => return Err(what_can_be_seen(&places, json, mistakes)),
    };
    let spool = Spool::of(&loaded.config)?;
    let mut survey = Survey::of(&places, &loaded, &spool)?;
    if !parsed.has('y') {
        return show(&survey, None, json).map(|()| 0);
    }
    let made = if parsed.has('R') { Vec::new() } else { users_of_roles(&mut survey)? };
    let mut account = take_over(&places, &loaded, &spool, !parsed.has('R'))?;
    account.made = made;
    show(&survey, Some(&account), json)?;
    // What stays behind is a reason to look, whatever else went well.
    Ok(if account.left.is_empty() { 0 } else { TEMPORARY })
}

/// The survey of a machine whose files would not start, and what is wrong with them. Nothing is prepared then.
fn what_can_be_seen(places: &Places, json: bool, mistakes: Failure) -> Failure {
    let Ok((config, reports)) = Config::examine(&places.postfix, places.dovecot.as_deref()) else { return mistakes };
    let loaded = Loaded { config, reports };
    let seen = Spool::of(&loaded.config).and_then(|spool| Survey::of(places, &loaded, &spool));
    // What is wrong with the files is the answer; what else was seen is an extra.
    match seen.and_then(|survey| show(&survey.after_mistakes(), None, json)) {
        Ok(()) => mistakes,
        Err(failure) => Failure::new(mistakes.code, format!("{}\n{}", mistakes.text, failure.text)),
    }
}

/// Makes the users and groups that the daemons run as, where root asks and they are missing; the names of those that were.
fn users_of_roles(survey: &mut Survey) -> Result<Vec<String>, Failure> {
    if survey.missing.is_empty() || !rustix::process::geteuid().is_root() {
        return Ok(Vec::new());
    }
    role_users::make(Path::new("/"))?;
    let left = mail_daemon::state::missing().map_err(|error| Failure::new(IO, error.to_string()))?;
    Ok(std::mem::replace(&mut survey.missing, left))
}

fn show(survey: &Survey, account: Option<&Account>, json: bool) -> Result<(), Failure> {
    if json {
        let text = serde_json::to_string_pretty(&Report { survey, account });
        return print(&format!("{}\n", text.map_err(|error| Failure::new(IO, error.to_string()))?));
    }
    match account {
        None => print(&survey.text()),
        Some(account) => print(&account.text()),
    }
}

fn places(parsed: &Parsed) -> Places {
    let root = parsed.last('R').map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let postfix = parsed.last('c').map_or_else(|| root.join("etc/postfix"), PathBuf::from);
    let named = parsed.last('D').map(PathBuf::from);
    let default = root.join("etc/dovecot/dovecot.conf");
    let beside = postfix.join("dovecot.conf").exists();
    let dovecot = named.or_else(|| (!beside && default.exists()).then_some(default));
    let ours = root.join("etc/postrider");
    Places { root, postfix, dovecot, ours }
}

/// Prepares our configuration directory and imports the queue. Holds Postfix's lock and our queue's meanwhile.
fn take_over(places: &Places, loaded: &Loaded, spool: &Spool, system: bool) -> Result<Account, Failure> {
    let config = &loaded.config;
    let _lock = spool.lock()?;
    let ours = Ours::open(config)?;
    link(places)?;
    if !spool.exists() {
        ours.close()?;
        return Ok(Account::default());
    }
    let log = OwnLog::open(config, "adopt", system && rustix::process::geteuid().is_root())
        .map_err(|error| Failure::new(IO, error.to_string()))?;
    let mut import = Import::open(spool, &ours, &log)?;
    let done = import.run();
    let account = std::mem::take(&mut import.account);
    drop(import);
    // The mark of a clean end is worth having even where the import stopped half way.
    let closed = ours.close();
    done.and(closed).map(|()| account)
}

/// Makes /etc/postrider a link to the directory of main.cf.
fn link(places: &Places) -> Result<(), Failure> {
    let (ours, target) = (&places.ours, &places.postfix);
    let failed = |error: io::Error| Failure::new(IO, format!("{}: {error}", ours.display()));
    let same = |a: &Path, b: &Path| matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b);
    if same(ours, target) {
        return Ok(());
    }
    if fs::symlink_metadata(ours).is_ok() {
        let text = format!(
            "{0} is there and is not {1}: move it away (mv {0} {0}.before) or name it with -c",
            ours.display(),
            target.display()
        );
        return Err(Failure::new(crate::exit::CONFIGURATION, text));
    }
    let beside = ours.parent() == target.parent();
    let written = match target.file_name().filter(|_| beside) {
        Some(name) => PathBuf::from(name),
        None => fs::canonicalize(target).map_err(failed)?,
    };
    symlink(written, ours).map_err(failed)?;
    ours.parent().map_or(Ok(()), mail_posix::files::sync_directory).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places_in(root: &Path) -> Places {
        fs::create_dir_all(root.join("etc/postfix")).expect("made");
        let words = ["--root".into(), root.as_os_str().to_owned()];
        places(&GRAMMAR.parse(&words).expect("good"))
    }

    #[test]
    fn our_directory_becomes_a_link_once_and_nothing_of_somebody_elses_is_touched() {
        let root = tempfile::tempdir().expect("a directory");
        let places = places_in(root.path());
        link(&places).expect("made");
        assert_eq!(fs::read_link(&places.ours).expect("a link"), Path::new("postfix"));
        link(&places).expect("there already");
        fs::remove_file(&places.ours).expect("removed");
        fs::create_dir(&places.ours).expect("made");
        assert_eq!(link(&places).expect_err("not ours to replace").code, crate::exit::CONFIGURATION);
        let elsewhere = root.path().join("here/postfix");
        fs::create_dir_all(&elsewhere).expect("made");
        fs::remove_dir(&places.ours).expect("removed");
        link(&Places { postfix: elsewhere.clone(), ..places.clone() }).expect("made");
        let expected = fs::canonicalize(&elsewhere).expect("there");
        assert_eq!(fs::read_link(&places.ours).expect("a link"), expected);
    }
}
