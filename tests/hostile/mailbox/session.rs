//! A session whose every response is read as a strict client reads it.

use std::time::{Duration, Instant};

use test_support::System;
use test_support::clients::Security;

use super::dialogue::{Raw, check};
use super::syntax;

/// No command of a test may take longer, whatever the mailbox holds. On a machine that does much else, a command that took longer may not have cost
/// imapd more processor time than that.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one may take whose work is not measured.
const UNMEASURED: Duration = Duration::from_secs(100);

/// A session that has logged in.
pub struct Session {
    raw: Raw,
    number: u32,
    /// The processes whose work is measured.
    processes: Vec<u32>,
}

impl Session {
    /// Logs in as a user with the password `secret`.
    pub fn login(system: &System, user: &str, what: &'static str) -> Result<Self, String> {
        let raw = Raw::connect(system.ports.at(system.ports.imap), Security::Clear, what)?;
        let mut session = Self { raw, number: 0, processes: Vec::new() };
        session.ok(&format!("LOGIN {user} secret"))?;
        Ok(session)
    }

    /// Logs in for commands that are laborious: from now on the work of imapd's processes is measured for each.
    pub fn login_to_work(system: &System, user: &str, what: &'static str) -> Result<Self, String> {
        let session = Self::login(system, user, what)?;
        Ok(Self { processes: system.pids_of("imapd"), ..session })
    }

    /// Processor time that imapd has used.
    fn work(&self) -> Duration {
        self.processes.iter().map(|pid| Duration::from_millis(10 * work(*pid))).sum()
    }

    /// Sends a command of octets and gives all its responses, each well-formed, the tagged one last.
    pub fn say(&mut self, command: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        self.number += 1;
        let tag = format!("t{}", self.number);
        self.raw.send(&[tag.as_bytes(), b" ", command, b"\r\n"].concat())?;
        let (began, before) = (Instant::now(), self.work());
        let mut responses = Vec::new();
        loop {
            let response = self.response().map_err(|error| format!("{}: {error}", shown(command)))?;
            let last = response.starts_with(format!("{tag} ").as_bytes());
            syntax::check(&response).map_err(|error| format!("{}: {error}", shown(command)))?;
            responses.push(response);
            if last {
                let (took, cost) = (began.elapsed(), self.work().saturating_sub(before));
                let good = if self.processes.is_empty() { took < UNMEASURED } else { took.min(cost) < PATIENCE };
                check(good, || format!("{} took {took:?}, {cost:?} of them work", shown(command)))?;
                return Ok(responses);
            }
        }
    }

    /// A command that must succeed; its responses as text.
    pub fn ok(&mut self, command: &str) -> Result<String, String> {
        let text = self.text(command.as_bytes())?;
        let good = text.rsplit("\r\n").nth(1).is_some_and(|line| line.contains(" OK "));
        check(good, || format!("{}: {}", shown(command.as_bytes()), shown(text.as_bytes())))?;
        Ok(text)
    }

    /// A command that must be refused with NO or BAD; the reply.
    pub fn refused(&mut self, command: &[u8]) -> Result<String, String> {
        let text = self.text(command)?;
        let reply = text.rsplit("\r\n").nth(1).unwrap_or_default().to_owned();
        check(reply.contains(" NO ") || reply.contains(" BAD "), || format!("{}: {reply}", shown(command)))?;
        Ok(reply)
    }

    /// The responses to a command as text.
    pub fn text(&mut self, command: &[u8]) -> Result<String, String> {
        Ok(String::from_utf8_lossy(&self.say(command)?.concat()).into_owned())
    }

    /// One response: a line, and the literals that it announces with what follows them.
    fn response(&mut self) -> Result<Vec<u8>, String> {
        let mut response = Vec::new();
        loop {
            let line = self.raw.line()?;
            let size = literal(&line);
            response.extend_from_slice(&line);
            match size {
                Some(size) => response.extend(self.raw.take(size)?),
                None => return Ok(response),
            }
        }
    }
}

/// Clock ticks of processor time that a process has used: hundredths of a second.
pub fn work(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; utime and stime are fields 14 and 15.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// The size that a line announces at its end.
fn literal(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"}\r\n")?;
    let at = line.iter().rposition(|&b| b == b'{')?;
    std::str::from_utf8(&line[at + 1..]).ok()?.parse().ok()
}

fn shown(octets: &[u8]) -> String {
    octets[..octets.len().min(100)].escape_ascii().to_string()
}
