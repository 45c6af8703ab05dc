//! An IMAP client.

use std::io;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Lines, Security};

/// An IMAP session after its greeting.
pub struct Imap {
    /// The connection.
    pub lines: Lines,
    /// The greeting.
    pub greeting: String,
    next: u32,
}

impl Imap {
    /// Connects and hears the greeting.
    ///
    /// # Errors
    /// The connection broke.
    pub fn connect(address: SocketAddr, security: Security) -> io::Result<Self> {
        Self::over(Lines::connect(address, security)?)
    }

    /// Hears the greeting on a connection.
    ///
    /// # Errors
    /// The connection broke.
    pub fn over(mut lines: Lines) -> io::Result<Self> {
        let greeting = lines.hear()?;
        Ok(Self { lines, greeting, next: 1 })
    }

    /// Sends a command that must succeed; gives the untagged responses, literals included in their line.
    ///
    /// # Errors
    /// The connection broke, or the answer is NO or BAD.
    pub fn command(&mut self, command: &str) -> io::Result<Vec<String>> {
        let tag = format!("a{}", self.next);
        self.next += 1;
        self.lines.say(&format!("{tag} {command}"))?;
        let mut responses = Vec::new();
        loop {
            let line = self.response()?;
            match line.strip_prefix(&format!("{tag} ")) {
                Some(end) if end.starts_with("OK") => {
                    responses.push(end.to_owned());
                    return Ok(responses);
                }
                Some(end) => return Err(io::Error::other(format!("{command}: {end}"))),
                None => responses.push(line),
            }
        }
    }

    /// One response: a line, and the literals that it announces with what follows them.
    fn response(&mut self) -> io::Result<String> {
        let mut text = self.lines.hear()?;
        while let Some(length) =
            text.strip_suffix('}').and_then(|t| t.rsplit_once('{')).and_then(|(_, n)| n.parse().ok())
        {
            let literal = self.lines.take(length)?;
            text.push('\n');
            text.push_str(&String::from_utf8_lossy(&literal));
            text.push_str(&self.lines.hear()?);
        }
        Ok(text)
    }

    /// LOGIN.
    ///
    /// # Errors
    /// As [`Imap::command`].
    pub fn login(&mut self, user: &str, password: &str) -> io::Result<()> {
        self.command(&format!("LOGIN \"{user}\" \"{password}\"")).map(drop)
    }

    /// AUTHENTICATE PLAIN with an authorization identity, which may be empty.
    ///
    /// # Errors
    /// As [`Imap::command`].
    pub fn authenticate(&mut self, authzid: &str, user: &str, password: &str) -> io::Result<()> {
        let response = STANDARD.encode(format!("{authzid}\0{user}\0{password}"));
        self.command(&format!("AUTHENTICATE PLAIN {response}")).map(drop)
    }
}
