//! A POP3 client.

use std::io;
use std::net::SocketAddr;

use super::{Lines, Security};

/// A POP3 session after its greeting.
pub struct Pop3 {
    /// The connection.
    pub lines: Lines,
}

impl Pop3 {
    /// Connects and hears the greeting.
    ///
    /// # Errors
    /// The connection broke, or the greeting is `-ERR`.
    pub fn connect(address: SocketAddr, security: Security) -> io::Result<Self> {
        Self::over(Lines::connect(address, security)?)
    }

    /// Hears the greeting on a connection.
    ///
    /// # Errors
    /// As [`Pop3::connect`].
    pub fn over(lines: Lines) -> io::Result<Self> {
        let mut pop3 = Self { lines };
        pop3.expect("the greeting")?;
        Ok(pop3)
    }

    fn expect(&mut self, what: &str) -> io::Result<String> {
        let line = self.lines.hear()?;
        if line.starts_with("+OK") { Ok(line) } else { Err(io::Error::other(format!("{what}: {line}"))) }
    }

    /// Sends a command that must succeed; gives the line.
    ///
    /// # Errors
    /// The connection broke, or the answer is `-ERR`.
    pub fn command(&mut self, command: &str) -> io::Result<String> {
        self.lines.say(command)?;
        self.expect(command)
    }

    /// Sends a command with an answer of several lines; gives them without dot-stuffing.
    ///
    /// # Errors
    /// As [`Pop3::command`].
    pub fn listing(&mut self, command: &str) -> io::Result<Vec<String>> {
        self.command(command)?;
        let mut lines = Vec::new();
        loop {
            let line = self.lines.hear()?;
            if line == "." {
                return Ok(lines);
            }
            lines.push(line.strip_prefix('.').map_or_else(|| line.clone(), str::to_owned));
        }
    }

    /// USER and PASS.
    ///
    /// # Errors
    /// As [`Pop3::command`].
    pub fn login(&mut self, user: &str, password: &str) -> io::Result<()> {
        self.command(&format!("USER {user}"))?;
        self.command(&format!("PASS {password}")).map(drop)
    }
}
