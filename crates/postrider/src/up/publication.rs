//! What `up` knows of a published generation.
//!
//! A child process reads and publishes the configuration and tells this much of it: so the supervisor, which lives as long as the mail system,
//! stays as small as its job, and outlives whatever a file does to its reader.

use std::io::Read as _;
use std::path::PathBuf;

use mail_config::{Level, ListenerMode};
use mail_daemon::generation::Published;
use mail_posix::fork::{die_with_parent, fork_child};
use mail_posix::signals::unblock_all;
use serde::{Deserialize, Serialize};

use super::plan::Doors;
use crate::exit::{Failure, SOFTWARE, UNAVAILABLE};

/// A generation that was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Its number.
    pub number: u64,
    /// The state directory.
    pub state: PathBuf,
    /// What of the files is worth a warning, a line each.
    pub remarks: Vec<String>,
    /// Who answers at which port, a line each.
    pub ports: Vec<String>,
    /// What decides which daemons run.
    pub doors: Doors,
}

impl Publication {
    fn of(published: &Published) -> Self {
        let Published { number, config, reports } = published;
        let warnings = reports.iter().filter(|report| report.level >= Level::Warning);
        Self {
            number: *number,
            state: config.state_dir(),
            remarks: warnings.map(mail_config::Report::line).collect(),
            ports: ports(published),
            doors: Doors { pop3: config.dovecot.serves("pop3"), imap: config.dovecot.serves("imap") },
        }
    }
}

/// One line per port: who answers there.
fn ports(published: &Published) -> Vec<String> {
    let config = &published.config;
    let smtp = config.listeners().iter().flat_map(|listener| {
        let what = match listener.mode {
            ListenerMode::Plain => "SMTP",
            ListenerMode::Tls => "SMTP with TLS",
        };
        listener.addresses.iter().map(move |address| (what.to_owned(), *address))
    });
    let logins = config.dovecot.logins.iter().flat_map(|listener| {
        let what = format!("{}{}", listener.name.to_uppercase(), if listener.tls { " with TLS" } else { "" });
        listener.addresses.iter().map(move |address| (what.clone(), *address))
    });
    smtp.chain(logins).map(|(what, address)| format!("{what} on {address}")).collect()
}

/// Publishes in a child process.
///
/// # Errors
/// What the publishing says, or 69 and 70 where there is no child or it ended without a word.
pub fn publish(make: impl FnOnce() -> Result<Published, Failure>) -> Result<Publication, Failure> {
    let unavailable = |error: std::io::Error| Failure::new(UNAVAILABLE, error.to_string());
    let (mut reader, writer) = std::io::pipe().map_err(unavailable)?;
    let parent = std::process::id();
    let child = fork_child(move || {
        let ready = unblock_all().and_then(|()| die_with_parent(parent));
        let made = ready.map_err(unavailable).and_then(|()| make());
        let told = made.map(|published| Publication::of(&published)).map_err(|failure| (failure.code, failure.text));
        if serde_json::to_writer(&writer, &told).is_ok() { 0 } else { SOFTWARE }
    })
    .map_err(unavailable)?;
    let mut told = Vec::new();
    reader.read_to_end(&mut told).map_err(unavailable)?;
    let ended = child.wait().map_err(unavailable)?;
    match serde_json::from_slice::<Result<Publication, (u8, String)>>(&told) {
        Ok(told) => told.map_err(|(code, text)| Failure::new(code, text)),
        Err(_) => Err(Failure::new(SOFTWARE, format!("the configuration could not be read: {ended}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Tests have threads, so that no child can be forked here; tests/up.rs runs the whole.
    #[test]
    fn what_a_child_tells_is_read_again() {
        let told: Result<Publication, (u8, String)> = Ok(Publication {
            number: 3,
            state: PathBuf::from("/var/spool/postrider"),
            remarks: vec!["main.cf:1: unknown".to_owned()],
            ports: vec!["SMTP on 127.0.0.1:25".to_owned()],
            doors: Doors { pop3: true, imap: false },
        });
        let text = serde_json::to_vec(&told).expect("written");
        assert_eq!(serde_json::from_slice::<Result<Publication, (u8, String)>>(&text).expect("read"), told);
    }
}
