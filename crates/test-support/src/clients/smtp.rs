//! An SMTP client.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Lines, Security};

/// An SMTP session after its greeting and EHLO.
pub struct Smtp {
    /// The connection.
    pub lines: Lines,
}

impl Smtp {
    /// Connects, hears the greeting, says EHLO.
    ///
    /// # Errors
    /// The connection broke, or the server refused.
    pub fn connect(address: SocketAddr, security: Security) -> io::Result<Self> {
        Self::over(Lines::connect(address, security)?)
    }

    /// As [`Smtp::connect`], from another address of this machine.
    ///
    /// # Errors
    /// As [`Smtp::connect`].
    pub fn connect_from(client: Ipv4Addr, address: SocketAddr, security: Security) -> io::Result<Self> {
        Self::over(Lines::connect_from(client, address, security)?)
    }

    /// Hears the greeting on a connection, says EHLO.
    ///
    /// # Errors
    /// As [`Smtp::connect`].
    pub fn over(lines: Lines) -> io::Result<Self> {
        let mut smtp = Self { lines };
        smtp.expect(2, "the greeting")?;
        smtp.command("EHLO client.example", 2)?;
        Ok(smtp)
    }

    /// The next reply: its code and its lines.
    ///
    /// # Errors
    /// The connection broke, or what came is no reply.
    pub fn reply(&mut self) -> io::Result<(u16, String)> {
        let mut text = String::new();
        loop {
            let line = self.lines.hear()?;
            let code = line.get(..3).and_then(|digits| digits.parse().ok());
            let code = code.ok_or_else(|| io::Error::other(format!("no reply: {line}")))?;
            text.push_str(&line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok((code, text));
            }
            text.push('\n');
        }
    }

    fn expect(&mut self, class: u16, what: &str) -> io::Result<String> {
        let (code, text) = self.reply()?;
        if code / 100 == class { Ok(text) } else { Err(io::Error::other(format!("{what}: {text}"))) }
    }

    /// Sends a command whose reply must have this first digit; gives the reply.
    ///
    /// # Errors
    /// The connection broke, or the reply is another.
    pub fn command(&mut self, command: &str, class: u16) -> io::Result<String> {
        self.lines.say(command)?;
        self.expect(class, command)
    }

    /// STARTTLS and EHLO again.
    ///
    /// # Errors
    /// As [`Smtp::command`], or the handshake fails.
    pub fn start_tls(&mut self) -> io::Result<()> {
        self.command("STARTTLS", 2)?;
        self.lines.start_tls()?;
        self.command("EHLO client.example", 2).map(drop)
    }

    /// AUTH PLAIN.
    ///
    /// # Errors
    /// As [`Smtp::command`].
    pub fn login(&mut self, user: &str, password: &str) -> io::Result<()> {
        let response = STANDARD.encode(format!("\0{user}\0{password}"));
        self.command(&format!("AUTH PLAIN {response}"), 2).map(drop)
    }

    /// Sends one message (lines with CRLF, no dot at the end); gives the reply to its end.
    ///
    /// # Errors
    /// As [`Smtp::command`].
    pub fn send(&mut self, from: &str, to: &[&str], message: &str) -> io::Result<String> {
        self.command(&format!("MAIL FROM:<{from}>"), 2)?;
        for recipient in to {
            self.command(&format!("RCPT TO:<{recipient}>"), 2)?;
        }
        self.command("DATA", 3)?;
        self.lines.send(message.as_bytes())?;
        self.lines.send(b"\r\n.\r\n")?;
        self.expect(2, "the end of data")
    }
}
