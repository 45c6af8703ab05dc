//! One connection of a [`super::Remote`]: the dialogue, with a look at the rules before each answer.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};

use super::wire::Wire;
use super::{Act, At, Shared, Taken};

/// What a client must key with its password (RFC 2195).
const CHALLENGE: &str = "<1.2@remote.example>";

fn keyed(password: &str) -> String {
    // A key of any length will do.
    let Ok(mut keyed) = Hmac::<md5::Md5>::new_from_slice(password.as_bytes()) else { return String::new() };
    keyed.update(CHALLENGE.as_bytes());
    keyed.finalize().into_bytes().iter().map(|octet| format!("{octet:02x}")).collect()
}

/// So many commands are remembered.
const HEARD: usize = 1000;

struct Session<'a> {
    wire: Wire,
    shared: &'a Shared,
    hello: String,
    user: Option<String>,
    mail: Option<Taken>,
}

/// Serves one connection to its end, whatever that is.
pub fn serve(stream: TcpStream, shared: &Arc<Shared>) {
    let Ok(wire) = Wire::new(stream) else { return };
    let mut session = Session { wire, shared, hello: String::new(), user: None, mail: None };
    // The end of a connection is how most of these stories end.
    let _ = session.run();
}

/// The connection has come to its end.
fn ended<T>() -> io::Result<T> {
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// The first digit of a reply, from its last line.
fn class(reply: &[u8]) -> u8 {
    let last = reply.split(|&octet| octet == b'\n').rfind(|line| !line.is_empty());
    last.and_then(|line| line.first()).copied().unwrap_or(b'0')
}

impl Session<'_> {
    /// Answers a step as the rules say, or as usual; gives the first digit of what was said.
    fn step(&mut self, at: At, line: &str, usual: &str) -> io::Result<u8> {
        match self.shared.act(at, line) {
            None => self.say(format!("{usual}\r\n").as_bytes()),
            Some(Act::Say(octets)) => self.say(&octets),
            Some(Act::Close(octets)) => {
                let _ = self.say(&octets);
                self.wire.close();
                ended()
            }
            Some(Act::Reset(octets)) => {
                let _ = self.say(&octets);
                self.wire.reset();
                ended()
            }
            Some(Act::Silence) => {
                while !self.shared.is_ending() && !self.wire.is_gone() {}
                ended()
            }
            Some(Act::Wait) => {
                while self.has_rule(at) && !self.shared.is_ending() && !self.wire.is_gone() {}
                self.say(format!("{usual}\r\n").as_bytes())
            }
        }
    }

    fn has_rule(&self, at: At) -> bool {
        self.shared.state().rules.iter().any(|rule| rule.at == at && rule.left != Some(0))
    }

    fn say(&mut self, octets: &[u8]) -> io::Result<u8> {
        self.wire.say(octets)?;
        Ok(class(octets))
    }

    fn hear(&mut self) -> io::Result<String> {
        let line = String::from_utf8_lossy(&self.wire.line()?).trim_end().to_owned();
        let mut state = self.shared.state();
        if state.heard.len() == HEARD {
            state.heard.pop_front();
        }
        state.heard.push_back(line.clone());
        Ok(line)
    }

    fn run(&mut self) -> io::Result<()> {
        let protocol = if self.shared.setup.lmtp { "LMTP" } else { "ESMTP" };
        let greeting = format!("220 {} {protocol}", self.shared.setup.name);
        self.step(At::Greeting, "", &greeting)?;
        loop {
            let line = self.hear()?;
            let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" | "LHLO" => self.ehlo(&line)?,
                "HELO" => {
                    self.hello = line.clone();
                    let usual = format!("250 {}", self.shared.setup.name);
                    self.step(At::Helo, &line, &usual)?;
                }
                "STARTTLS" => self.starttls(&line)?,
                "AUTH" => self.auth(&line)?,
                "MAIL" => self.mail(&line)?,
                "RCPT" => self.rcpt(&line)?,
                "DATA" => self.data(&line)?,
                "RSET" => {
                    self.mail = None;
                    self.step(At::Rset, &line, "250 2.0.0 Ok")?;
                }
                "QUIT" => {
                    self.step(At::Quit, &line, "221 2.0.0 Bye")?;
                    self.wire.close();
                    return Ok(());
                }
                _ => drop(self.say(b"500 5.5.2 what?\r\n")?),
            }
        }
    }

    fn ehlo(&mut self, line: &str) -> io::Result<()> {
        self.hello = line.to_owned();
        self.mail = None;
        let secure = self.wire.is_secure();
        let setup = &self.shared.setup;
        let keywords = setup.keywords.iter().filter(|keyword| !(secure && *keyword == "STARTTLS"));
        let lines: Vec<&str> = std::iter::once(setup.name.as_str()).chain(keywords.map(String::as_str)).collect();
        let last = lines.len() - 1;
        let marked =
            lines.iter().enumerate().map(|(at, text)| format!("250{}{text}", if at == last { ' ' } else { '-' }));
        let usual = marked.collect::<Vec<_>>().join("\r\n");
        self.step(At::Ehlo, line, &usual).map(drop)
    }

    fn starttls(&mut self, line: &str) -> io::Result<()> {
        let Some(tls) = self.shared.setup.tls.clone() else {
            return self.say(b"502 5.5.1 no TLS here\r\n").map(drop);
        };
        if self.step(At::Starttls, line, "220 2.0.0 Ready")? != b'2' {
            return Ok(());
        }
        if self.has_rule(At::Handshake) {
            self.step(At::Handshake, line, "")?;
            // Whatever was said, it was no handshake.
            self.wire.close();
            return ended();
        }
        self.wire.secure(&tls)
    }

    fn auth(&mut self, line: &str) -> io::Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let (mechanism, initial) = (words.get(1).copied().unwrap_or_default(), words.get(2));
        let decode = |text: &str| String::from_utf8_lossy(&STANDARD.decode(text).unwrap_or_default()).into_owned();
        let given = match (mechanism, initial) {
            ("PLAIN", Some(response)) => decode(response).trim_start_matches('\0').to_owned(),
            ("LOGIN", _) => {
                self.say(b"334 VXNlcm5hbWU6\r\n")?;
                let user = decode(&self.hear()?);
                self.say(b"334 UGFzc3dvcmQ6\r\n")?;
                let password = decode(&self.hear()?);
                format!("{user}\0{password}")
            }
            ("CRAM-MD5", _) => {
                self.say(format!("334 {}\r\n", STANDARD.encode(CHALLENGE)).as_bytes())?;
                decode(&self.hear()?).replacen(' ', "\0", 1)
            }
            _ => return self.say(b"504 5.5.4 no such mechanism\r\n").map(drop),
        };
        let login = self.shared.setup.login.as_ref();
        let wanted = login.map(|(user, password)| match mechanism {
            "CRAM-MD5" => format!("{user}\0{}", keyed(password)),
            _ => format!("{user}\0{password}"),
        });
        let right = wanted.is_some_and(|wanted| wanted == given);
        let usual = if right { "235 2.7.0 Ok" } else { "535 5.7.8 no" };
        if self.step(At::Auth, line, usual)? == b'2' {
            self.user = given.split('\0').next().map(str::to_owned);
        }
        Ok(())
    }

    fn mail(&mut self, line: &str) -> io::Result<()> {
        if self.shared.setup.login.is_some() && self.user.is_none() {
            return self.say(b"530 5.7.0 log in first\r\n").map(drop);
        }
        if self.mail.is_some() {
            return self.say(b"503 5.5.1 nested MAIL\r\n").map(drop);
        }
        if self.step(At::Mail, line, "250 2.1.0 Ok")? == b'2' {
            self.mail = Some(Taken {
                from: argument(line),
                tls: self.wire.is_secure(),
                user: self.user.clone(),
                hello: self.hello.clone(),
                ..Taken::default()
            });
        }
        Ok(())
    }

    fn rcpt(&mut self, line: &str) -> io::Result<()> {
        if self.mail.is_none() {
            return self.say(b"503 5.5.1 MAIL first\r\n").map(drop);
        }
        let said = self.step(At::Rcpt, line, "250 2.1.5 Ok")?;
        if let Some(mail) = self.mail.as_mut().filter(|_| said == b'2') {
            mail.to.push(argument(line));
        }
        Ok(())
    }

    fn data(&mut self, line: &str) -> io::Result<()> {
        if self.mail.as_ref().is_none_or(|mail| mail.to.is_empty()) {
            return self.say(b"503 5.5.1 no valid recipients\r\n").map(drop);
        }
        if self.step(At::Data, line, "354 go on")? != b'3' {
            return Ok(());
        }
        let mut raw = Vec::new();
        loop {
            let line = self.wire.line()?;
            if line == b".\r\n" {
                break;
            }
            if raw.is_empty() && self.has_rule(At::Content) {
                self.step(At::Content, "", "")?;
            }
            raw.extend_from_slice(&line);
        }
        self.dot(raw)
    }

    fn dot(&mut self, raw: Vec<u8>) -> io::Result<()> {
        let Some(mail) = self.mail.take() else { return Ok(()) };
        let mail = Taken { raw, ..mail };
        if !self.shared.setup.lmtp {
            let refused = matches!(self.refusal("."), b'4' | b'5');
            if !refused {
                self.shared.state().taken.push(mail);
            }
            return self.step(At::Dot, ".", "250 2.0.0 Ok: taken").map(drop);
        }
        for to in &mail.to {
            if !matches!(self.refusal(to), b'4' | b'5') {
                self.shared.state().taken.push(Taken { to: vec![to.clone()], ..mail.clone() });
            }
            self.step(At::Dot, to, "250 2.1.5 Ok: stored")?;
        }
        Ok(())
    }

    /// The first digit of what will be said to the final dot; the message counts as taken before the client may know.
    fn refusal(&self, line: &str) -> u8 {
        let state = self.shared.state();
        let rule = state.rules.iter().find(|r| r.at == At::Dot && r.left != Some(0) && line.contains(&r.about));
        match rule.map(|rule| &rule.act) {
            Some(Act::Say(octets) | Act::Close(octets) | Act::Reset(octets)) if !octets.is_empty() => class(octets),
            _ => b'2',
        }
    }
}

/// What stands behind the colon of MAIL or RCPT.
fn argument(line: &str) -> String {
    line.split_once(':').map_or(String::new(), |(_, argument)| argument.trim().to_owned())
}
