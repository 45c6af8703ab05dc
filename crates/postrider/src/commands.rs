//! The table of commands, and how one is found: by the name of the link, or by the first argument of `postrider`.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use crate::exit::{Outcome, USAGE};
use crate::terminal::{complain, print};
use crate::{
    adopt, check, doctor, doveconf, explain, leave, manual, postcat, postconf, postfix, postmap, postqueue, postsuper,
    sendmail, up,
};

/// The names of this binary itself.
const OURSELVES: &str = "postrider";

/// One command.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a few words; empty for names that are refused or meant for programs, which the help leaves out.
    pub summary: &'static str,
    /// Runs it with its arguments.
    pub run: fn(&[OsString]) -> Outcome,
}

const fn command(name: &'static str, summary: &'static str, run: fn(&[OsString]) -> Outcome) -> Command {
    Command { name, summary, run }
}

/// Every command.
pub const COMMANDS: &[Command] = &[
    command("up", "start all daemons and keep them alive, in the foreground", up::run),
    command("check", "say what of the configuration is supported, and what is wrong with it", check::run),
    command(
        "reload",
        "check and publish the configuration, and wait until every daemon has it",
        postfix::reload_command,
    ),
    command("publish", "check and publish the configuration; the units do so before a daemon starts", check::publish),
    command("explain", "say what would become of a message, rule by rule, and what would change that", explain::run),
    command("test", "run a file of cases with what must become of them", explain::cases::run),
    command("doctor", "ask a server whether it is an open relay", doctor::run),
    command("adopt", "take over the configuration and the queue of Postfix and Dovecot", adopt::run),
    command("leave", "hand the queue back to Postfix", leave::run),
    command("sendmail", "hand in a message", |arguments| sendmail::run("sendmail", arguments)),
    command("mailq", "list the queue", |arguments| sendmail::run("mailq", arguments)),
    command("newaliases", "check the aliases and have them taken at once", |arguments| {
        sendmail::run("newaliases", arguments)
    }),
    command("postalias", "check an alias file, or look a name up in it", postmap::run_postalias),
    command("postmap", "check a table, or look a key up in it", postmap::run_postmap),
    command("postqueue", "list the queue, attempt what waits", postqueue::run),
    command("postsuper", "delete, expire, hold, release or requeue messages", postsuper::run),
    command("postcat", "show a message of the queue", postcat::run),
    command("postconf", "show parameters and their defaults, edit main.cf", postconf::run),
    command("postfix", "start, stop, reload the mail system as a whole", postfix::run),
    command("doveconf", "show what dovecot.conf says", doveconf::run),
    command("doveadm", "", |_| doveconf::refuse("doveadm", "only `doveconf -n' is")),
    command("dovecot", "", doveconf::dovecot),
    command("man", "", manual::run),
];

/// The command of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// Runs what the arguments of a process ask for: the first is the name it was called by.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (called, rest) = arguments.split_first().map_or((OsStr::new(OURSELVES), &[][..]), |(name, rest)| (name, rest));
    let link = Path::new(called).file_name().and_then(OsStr::to_str).unwrap_or(OURSELVES);
    let (name, rest) = match (find(link), rest.split_first()) {
        (Some(command), _) => (command.name.to_owned(), rest),
        (None, None) => return finish(OURSELVES, help()),
        (None, Some((first, rest))) => (first.to_string_lossy().into_owned(), rest),
    };
    match (find(&name), name.as_str()) {
        (Some(command), _) => finish(command.name, (command.run)(rest)),
        (None, "help" | "--help" | "-h") => finish(OURSELVES, help()),
        (None, "--version" | "version") => {
            finish(OURSELVES, print(concat!("postrider ", env!("CARGO_PKG_VERSION"), "\n")).map(|()| 0))
        }
        (None, _) => {
            complain(&format!("postrider: unknown command `{name}'; `postrider help' lists them"));
            ExitCode::from(USAGE)
        }
    }
}

fn help() -> Outcome {
    let mut out = "usage: postrider COMMAND ..., or COMMAND as a link to postrider\n\n".to_owned();
    for command in COMMANDS.iter().filter(|command| !command.summary.is_empty()) {
        out.push_str(&format!("  {:<11} {}\n", command.name, command.summary));
    }
    print(&out)?;
    Ok(0)
}

/// The exit code; a failure is told as Postfix's commands tell it.
fn finish(name: &str, outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.text.is_empty() {
                complain(&format!("{name}: fatal: {}", failure.text));
            }
            ExitCode::from(failure.code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_later_commands_are_not_promised() {
        for command in COMMANDS {
            assert_eq!(COMMANDS.iter().filter(|other| other.name == command.name).count(), 1, "{}", command.name);
        }
        for name in ["trace", "queue", "ledger"] {
            assert!(find(name).is_none(), "{name}");
        }
    }
}
