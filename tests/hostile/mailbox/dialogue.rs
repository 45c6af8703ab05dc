//! A client with bad manners: octets as they are, and waiting for what a server says to them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use test_support::clients::{Lines, Security};

/// A connection whose errors are sentences.
pub struct Raw {
    lines: Lines,
    what: &'static str,
}

impl Raw {
    /// Connects and hears the greeting.
    pub fn connect(address: SocketAddr, security: Security, what: &'static str) -> Result<Self, String> {
        let lines = Lines::connect(address, security).map_err(|error| format!("{what}: connecting: {error}"))?;
        let mut raw = Self { lines, what };
        raw.hear()?;
        Ok(raw)
    }

    /// As [`Raw::connect`], in clear, from another address of this machine.
    pub fn connect_from(client: Ipv4Addr, address: SocketAddr, what: &'static str) -> Result<Self, String> {
        let lines = Lines::connect_from(client, address, Security::Clear);
        let mut raw = Self { lines: lines.map_err(|error| format!("{what}: connecting: {error}"))?, what };
        raw.hear()?;
        Ok(raw)
    }

    fn named<T>(&self, result: io::Result<T>, doing: &str) -> Result<T, String> {
        result.map_err(|error| format!("{}: {doing}: {error}", self.what))
    }

    /// Sends octets.
    pub fn send(&mut self, octets: &[u8]) -> Result<(), String> {
        let sent = self.lines.send(octets);
        self.named(sent, "sending")
    }

    /// Sends octets to somebody who may hang up meanwhile.
    pub fn try_send(&mut self, octets: &[u8]) -> bool {
        self.lines.send(octets).is_ok()
    }

    /// The next line.
    pub fn hear(&mut self) -> Result<String, String> {
        let heard = self.lines.hear();
        self.named(heard, "hearing")
    }

    /// The next line with its end.
    pub fn line(&mut self) -> Result<Vec<u8>, String> {
        let line = self.lines.line();
        self.named(line, "hearing")
    }

    /// So many octets.
    pub fn take(&mut self, count: usize) -> Result<Vec<u8>, String> {
        let taken = self.lines.take(count);
        self.named(taken, "reading")
    }

    /// Lines up to the first that begins so, with it.
    pub fn until(&mut self, beginning: &str) -> Result<Vec<String>, String> {
        let mut heard = Vec::new();
        loop {
            match self.lines.hear() {
                Ok(line) => heard.push(line),
                Err(error) => return Err(format!("{}: no {beginning}: {error}; heard {heard:?}", self.what)),
            }
            if heard.last().is_some_and(|line| line.starts_with(beginning)) {
                return Ok(heard);
            }
        }
    }

    /// Everything up to the end of the connection, which must come.
    pub fn rest(&mut self) -> Result<Vec<String>, String> {
        let mut heard = Vec::new();
        loop {
            match self.lines.hear() {
                Ok(line) => heard.push(line),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(format!("{}: not closed; heard {heard:?}", self.what));
                }
                // A server that hangs up on somebody who is still sending resets the connection.
                Err(_) => return Ok(heard),
            }
        }
    }

    /// Goes over to TLS.
    pub fn start_tls(&mut self) -> Result<(), String> {
        let started = self.lines.start_tls();
        self.named(started, "TLS")
    }
}

/// What must be true, or the sentence that says what is.
pub fn check(holds: bool, sentence: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(sentence()) }
}
