//! `postrider doctor --relay`: asks a server to relay in every known way, and says what its answers mean. No mail is sent.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::variants::{Attempt, Meaning, Names, attempts};
use crate::exit::{Failure, Outcome, TEMPORARY, UNAVAILABLE, USAGE};
use crate::terminal::print;

/// How long each reply may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most lines and octets of a reply that are read.
const REPLY_LINES: usize = 100;
const REPLY_LINE: u64 = 4096;

/// What one attempt showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The server would have relayed.
    Relays,
    /// The server took an address that it may resolve to somewhere else.
    Suspect,
    /// The server refused.
    Refused,
    /// The server refused for now, for a reason that says nothing about relaying, or hung up.
    Unclear,
}

/// What all attempts together mean, with the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every attempt was refused: 0.
    Closed,
    /// At least one suspect address was accepted: 1.
    Suspect,
    /// The server relays: 1.
    Open,
    /// Nothing was accepted, but not everything was clearly refused: 75.
    Unclear,
}

impl Verdict {
    /// From the findings; no findings are unclear.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        if findings.contains(&Finding::Relays) {
            Self::Open
        } else if findings.contains(&Finding::Suspect) {
            Self::Suspect
        } else if findings.is_empty() || findings.contains(&Finding::Unclear) {
            Self::Unclear
        } else {
            Self::Closed
        }
    }

    fn exit(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Suspect | Self::Open => 1,
            Self::Unclear => TEMPORARY,
        }
    }
}

/// A reply of the server: its code and its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reply {
    code: u16,
    text: String,
}

impl Reply {
    fn accepts(&self) -> bool {
        self.code / 100 == 2
    }

    /// Judges a refusal: a temporary one counts only where it is about relaying (`defer_unauth_destination`).
    fn refusal(&self) -> Finding {
        let about_relaying = self.text.starts_with("4.7.") || self.text.to_ascii_lowercase().contains("relay");
        if self.code / 100 == 5 || (self.code / 100 == 4 && about_relaying) {
            Finding::Refused
        } else {
            Finding::Unclear
        }
    }
}

/// One SMTP connection, a reply to each command.
struct Dialogue<S: Read + Write> {
    stream: BufReader<S>,
}

impl<S: Read + Write> Dialogue<S> {
    fn reply(&mut self) -> io::Result<Reply> {
        let mut text = String::new();
        for _ in 0..REPLY_LINES {
            let mut line = Vec::new();
            (&mut self.stream).take(REPLY_LINE).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = String::from_utf8_lossy(&line);
            let line: String = line.trim_end().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            let code = line.get(..3).and_then(|code| code.parse().ok()).filter(|code| (200..600).contains(code));
            let code = code.ok_or(io::ErrorKind::InvalidData)?;
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(line.get(4..).unwrap_or_default());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, text });
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Plays one attempt after the greeting; the last reply is the one that decides.
    fn play(&mut self, attempt: &Attempt) -> io::Result<(Finding, Reply)> {
        let mut reply = self.command(&format!("EHLO {}", attempt.helo))?;
        if !reply.accepts() {
            reply = self.command(&format!("HELO {}", attempt.helo))?;
        }
        if reply.accepts() {
            reply = self.command(&format!("MAIL FROM:<{}>", attempt.sender))?;
        }
        if !reply.accepts() {
            return Ok((reply.refusal(), reply));
        }
        let reply = self.command(&format!("RCPT TO:<{}>", attempt.recipient))?;
        let finding = match (reply.accepts(), attempt.meaning) {
            (true, Meaning::Relay) => Finding::Relays,
            (true, Meaning::Suspect) => Finding::Suspect,
            (false, _) => reply.refusal(),
        };
        // The answer to QUIT changes nothing any more.
        let _ = self.command("QUIT");
        Ok((finding, reply))
    }
}

/// What to test.
#[derive(Debug, Clone)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The foreign recipient.
    pub recipient: String,
}

impl Target {
    /// Reads `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`, or a bare IPv6 address.
    ///
    /// # Errors
    /// The port is no number, or the recipient has no domain.
    pub fn new(text: &str, recipient: &str) -> Result<Self, Failure> {
        let wrong =
            |what: &str| Failure::new(USAGE, format!("{what}; usage: doctor --relay HOST[:PORT] [--to ADDRESS]"));
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, "25"),
            Some((host, rest)) => (host, rest.strip_prefix(':').ok_or_else(|| wrong("bad host"))?),
            None if text.parse::<IpAddr>().is_ok() => (text, "25"),
            None => text.split_once(':').unwrap_or((text, "25")),
        };
        let port = port.parse().map_err(|_| wrong(&format!("bad port `{port}'")))?;
        let shaped = recipient.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
        if host.is_empty() || !shaped || recipient.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(wrong("a host and a foreign recipient are needed"));
        }
        Ok(Self { host: host.to_owned(), port, recipient: recipient.to_owned() })
    }
}

/// Runs every attempt on a connection of its own and prints the report.
///
/// # Errors
/// The host has no address, or the first connection fails.
pub fn run(target: &Target) -> Outcome {
    let unavailable = |error: io::Error| Failure::new(UNAVAILABLE, format!("{}:{}: {error}", target.host, target.port));
    let address = (target.host.as_str(), target.port).to_socket_addrs().map_err(unavailable)?.next();
    let address = address.ok_or_else(|| unavailable(io::ErrorKind::NotFound.into()))?;
    let (mut dialogue, greeting, ours) = connect(address).map_err(unavailable)?;
    let _ = dialogue.command("QUIT");

    print(&format!("Relay test of {}, asked from {ours}\n", describe(&target.host, address)))?;
    let names = names(target, address.ip(), &greeting);
    let mut findings = Vec::new();
    for attempt in attempts(&names) {
        let played = connect(address).and_then(|(mut dialogue, greeting, _)| match greeting.accepts() {
            true => dialogue.play(&attempt),
            false => Ok((greeting.refusal(), greeting)),
        });
        let (finding, reply) = match played {
            Ok((finding, reply)) => (finding, format!("{} {}", reply.code, reply.text)),
            Err(error) => (Finding::Unclear, error.to_string()),
        };
        findings.push(finding);
        print(&line(&attempt, finding, &reply))?;
    }
    let verdict = Verdict::of(&findings);
    print(&summary(verdict, &findings, ours))?;
    Ok(verdict.exit())
}

fn connect(address: SocketAddr) -> io::Result<(Dialogue<TcpStream>, Reply, IpAddr)> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let ours = stream.local_addr()?.ip();
    let mut dialogue = Dialogue { stream: BufReader::new(stream) };
    let greeting = dialogue.reply()?;
    Ok((dialogue, greeting, ours))
}

fn describe(host: &str, address: SocketAddr) -> String {
    if host.parse::<IpAddr>().is_ok() {
        address.to_string()
    } else {
        format!("{host}[{}]:{}", address.ip(), address.port())
    }
}

fn names(target: &Target, server: IpAddr, greeting: &Reply) -> Names {
    // RFC 5321 section 4.2: the greeting's first word is the server's name.
    let named = greeting.text.split_whitespace().next().filter(|name| name.contains('.'));
    let (local, domain) = target.recipient.rsplit_once('@').unwrap_or((&target.recipient, "example.com"));
    Names {
        client: "relay-test.example".to_owned(),
        server: named.unwrap_or(&target.host).to_owned(),
        literal: match server {
            IpAddr::V4(address) => format!("[{address}]"),
            IpAddr::V6(address) => format!("[IPv6:{address}]"),
        },
        local: local.to_owned(),
        domain: domain.to_owned(),
    }
}

fn line(attempt: &Attempt, finding: Finding, reply: &str) -> String {
    let word = match finding {
        Finding::Relays => "RELAYS",
        Finding::Suspect => "SUSPECT",
        Finding::Refused => "refused",
        Finding::Unclear => "unclear",
    };
    let mut out = format!("  {word:<8} {}\n", attempt.name);
    let _ = writeln!(out, "           MAIL FROM:<{}> RCPT TO:<{}>", attempt.sender, attempt.recipient);
    let _ = writeln!(out, "           {reply}");
    out
}

fn summary(verdict: Verdict, findings: &[Finding], ours: IpAddr) -> String {
    let count = |finding| findings.iter().filter(|found| **found == finding).count();
    let refused = format!("{} of {} attempts were refused", count(Finding::Refused), findings.len());
    let mut out = match verdict {
        Verdict::Closed => format!("Verdict: no open relay; {refused}.\n"),
        Verdict::Open => format!("Verdict: OPEN RELAY; {} attempts would have been relayed.\n", count(Finding::Relays)),
        Verdict::Suspect => format!(
            "Verdict: suspect; {} addresses were accepted that a server could take apart and relay. Find out where it delivers them.\n",
            count(Finding::Suspect)
        ),
        Verdict::Unclear => format!("Verdict: cannot tell; {refused}, nothing was accepted.\n"),
    };
    if verdict != Verdict::Closed && ours.is_loopback() {
        out.push_str(
            "You asked from this machine itself, which mynetworks usually permits; ask from outside to be sure.\n",
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn attempt(meaning: Meaning) -> Attempt {
        Attempt { name: "x", helo: "h".into(), sender: "s@t".into(), recipient: "r@u".into(), meaning }
    }

    /// Plays against a server that gives these replies in order.
    fn play(meaning: Meaning, replies: &str) -> io::Result<(Finding, Reply)> {
        let (ours, mut server) = UnixStream::pair().expect("a pair");
        server.write_all(replies.as_bytes()).expect("a small text");
        server.shutdown(std::net::Shutdown::Write).expect("open");
        Dialogue { stream: BufReader::new(ours) }.play(&attempt(meaning))
    }

    #[test]
    fn an_accepted_recipient_is_a_relay_or_suspect() {
        let replies = "250-mail\r\n250 SIZE\r\n250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n221 Bye\r\n";
        assert_eq!(play(Meaning::Relay, replies).expect("talks").0, Finding::Relays);
        assert_eq!(play(Meaning::Suspect, replies).expect("talks").0, Finding::Suspect);
    }

    #[test]
    fn refusals_are_told_from_troubles() {
        let cases = [
            ("250 hi\r\n250 ok\r\n554 5.7.1 <r@u>: Relay access denied\r\n221 bye\r\n", Finding::Refused),
            ("250 hi\r\n250 ok\r\n454 4.7.1 <r@u>: Relay access denied\r\n221 bye\r\n", Finding::Refused),
            ("250 hi\r\n250 ok\r\n450 4.2.0 Greylisted\r\n221 bye\r\n", Finding::Unclear),
            ("250 hi\r\n530 5.7.0 Must issue a STARTTLS command first\r\n", Finding::Refused),
            ("502 no\r\n250 hi\r\n553 5.1.8 sender\r\n", Finding::Refused),
        ];
        for (replies, finding) in cases {
            assert_eq!(play(Meaning::Relay, replies).expect("talks").0, finding, "{replies}");
        }
    }

    #[test]
    fn a_server_that_talks_nonsense_or_hangs_up_is_an_error() {
        assert!(play(Meaning::Relay, "hello there\r\n").is_err());
        assert!(play(Meaning::Relay, "250 hi\r\n").is_err());
        assert!(play(Meaning::Relay, &"250-more\r\n".repeat(REPLY_LINES + 1)).is_err());
    }

    #[test]
    fn the_verdict_is_the_worst_finding() {
        use Finding::{Refused, Relays, Suspect, Unclear};
        assert_eq!(Verdict::of(&[Refused, Refused]), Verdict::Closed);
        assert_eq!(Verdict::of(&[Refused, Suspect, Relays]), Verdict::Open);
        assert_eq!(Verdict::of(&[Refused, Unclear, Suspect]), Verdict::Suspect);
        assert_eq!(Verdict::of(&[Refused, Unclear]), Verdict::Unclear);
        assert_eq!(Verdict::of(&[]), Verdict::Unclear);
    }

    #[test]
    fn a_target_is_read_with_and_without_a_port() {
        let read = |text| Target::new(text, "a@b.example").map(|target| (target.host, target.port));
        assert_eq!(read("mail.info.net"), Ok(("mail.info.net".into(), 25)));
        assert_eq!(read("mail.info.net:2525"), Ok(("mail.info.net".into(), 2525)));
        assert_eq!(read("::1"), Ok(("::1".into(), 25)));
        assert_eq!(read("[::1]:2525"), Ok(("::1".into(), 2525)));
        assert!(read("host:smtp").is_err() && read("").is_err() && read("[::1]x").is_err());
        assert!(Target::new("host", "nobody").is_err());
    }
}
