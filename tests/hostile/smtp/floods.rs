//! Harvesting and floods of commands: who makes mistakes is slowed and then hung up on, and VRFY and EXPN tell nothing that RCPT does not.

use test_support::harness::{Test, test};

use super::{ensure, wrong};
use crate::door::{self, DOMAIN, STRANGER};

pub fn tests() -> Vec<Test> {
    vec![
        // S10
        test("a list of guessed recipients is cut off", &[], guessed_recipients),
        // S05
        test("VRFY and EXPN are no way around the limits", &[], vrfy_and_expn),
        test("floods of commands without effect end the session", &[], junk),
    ]
}

/// How many replies of this code came before the connection ended, and what the last one was.
fn until_cut(commands: impl Iterator<Item = String>) -> Result<(Vec<u16>, String), String> {
    let door = door::open()?;
    let mut smtp = door.smtp(STRANGER)?;
    smtp.command("MAIL FROM:<somebody@elsewhere.example>", 2).map_err(wrong)?;
    let mut codes = Vec::new();
    for command in commands {
        if smtp.lines.say(&command).is_err() {
            break;
        }
        let Ok((code, text)) = smtp.reply() else { break };
        if code == 421 {
            return Ok((codes, text));
        }
        codes.push(code);
    }
    let (_, text) = smtp.reply().map_err(|error| format!("{codes:?}: {error}"))?;
    Ok((codes, text))
}

fn guessed_recipients() -> Result<(), String> {
    let guesses = (0..25).map(|number| format!("RCPT TO:<guess{number}@{DOMAIN}>"));
    let (codes, last) = until_cut(guesses)?;
    let refused = codes.iter().filter(|&&code| code == 550).count();
    ensure(refused == 20 && last.starts_with("421 4.7.0"), || format!("{codes:?} {last}"))?;
    // Between good ones it is the same: a recipient that is accepted forgives nothing.
    let guesses = (0..60).map(|number| if number % 2 == 0 { "john".to_owned() } else { format!("guess{number}") });
    let (codes, last) = until_cut(guesses.map(|name| format!("RCPT TO:<{name}@{DOMAIN}>")))?;
    let refused = codes.iter().filter(|&&code| code == 550).count();
    ensure(refused == 20 && last.starts_with("421 4.7.0"), || format!("{codes:?} {last}"))
}

fn vrfy_and_expn() -> Result<(), String> {
    let door = door::open()?;
    let mut smtp = door.smtp(STRANGER)?;
    let known = smtp.command(&format!("VRFY john@{DOMAIN}"), 2).map_err(wrong)?;
    let unknown = smtp.command(&format!("VRFY nobody-here@{DOMAIN}"), 5).map_err(wrong)?;
    let foreign = smtp.command("VRFY user@outside.example", 5).map_err(wrong)?;
    let list = smtp.command("EXPN postmaster", 5).map_err(wrong)?;
    let good = known == format!("252 2.0.0 john@{DOMAIN}")
        && unknown.starts_with("550 5.1.1")
        && foreign.starts_with("554 5.7.1")
        && list.starts_with("500 5.5.2");
    let told = [&known, &unknown, &foreign, &list].iter().any(|reply| reply.contains('/') || reply.contains("home"));
    ensure(good && !told, || format!("{known}\n{unknown}\n{foreign}\n{list}"))?;
    let guesses = (0..25).map(|number| format!("VRFY guess{number}@{DOMAIN}"));
    let (codes, last) = until_cut(guesses)?;
    ensure(codes.len() == 20 && last.starts_with("421 4.7.0"), || format!("{codes:?} {last}"))
}

fn junk() -> Result<(), String> {
    for command in ["NOOP", "HELP", &format!("VRFY john@{DOMAIN}")] {
        let (codes, last) = until_cut((0..200).map(|_| command.to_owned()))?;
        ensure(codes.len() == 120 && last.starts_with("421 4.7.0"), || format!("{command}: {} {last}", codes.len()))?;
    }
    let (codes, last) = until_cut((0..30).map(|number| format!("COMMAND{number}")))?;
    ensure(codes.len() == 20 && last.starts_with("421 4.7.0"), || format!("{codes:?} {last}"))
}
