//! What the real Postfix makes of addresses and messages: its resolver's socket, its SMTP server, its queue files.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::generate::Message;
use crate::postfix::Postfix;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A conversation with trivial-rewrite(8).
pub struct Rewrite(BufReader<UnixStream>);

impl Rewrite {
    pub fn connect(postfix: &Postfix) -> Result<Self, String> {
        let stream = UnixStream::connect(postfix.spool().join("private/rewrite")).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        let mut rewrite = Self(BufReader::new(stream));
        rewrite.attributes()?;
        Ok(rewrite)
    }

    /// The values of a list of attributes, up to the empty name that ends it.
    fn attributes(&mut self) -> Result<Vec<String>, String> {
        let mut values = Vec::new();
        loop {
            if self.part()?.is_empty() {
                return Ok(values);
            }
            values.push(self.part()?);
        }
    }

    fn part(&mut self) -> Result<String, String> {
        let mut octets = Vec::new();
        self.0.read_until(0, &mut octets).map_err(text)?;
        if octets.pop() != Some(0) {
            return Err("the resolver has hung up".to_owned());
        }
        String::from_utf8(octets).map_err(text)
    }

    /// `class transport nexthop address`; addresses are given and taken without quotes.
    pub fn resolve(&mut self, sender: &str, address: &str) -> Result<String, String> {
        let request = [("request", "resolve"), ("sender", &internal(sender)), ("address", &internal(address))];
        let request: String = request.iter().map(|(name, value)| format!("{name}\0{value}\0")).collect();
        self.0.get_mut().write_all(format!("{request}\0").as_bytes()).map_err(text)?;
        let answer = self.attributes()?;
        let [_, transport, nexthop, recipient, flags] = answer.as_slice() else {
            return Err(format!("{answer:?} is no answer of the resolver"));
        };
        let flags: u32 = flags.parse().map_err(text)?;
        if flags & 4 != 0 {
            return Ok("bad address".to_owned());
        }
        let class = match flags & 0x1f00 {
            256 => "local",
            512 => "alias",
            1024 => "virtual",
            2048 => "relay",
            _ => "default",
        };
        // What stands for mailboxes here has no next hop with us.
        let nexthop = if matches!(transport.as_str(), "local" | "virtual") { "-" } else { nexthop };
        Ok(format!("{class} {transport} {nexthop} {recipient}"))
    }
}

/// An address without the quotes of its local part.
pub fn internal(address: &str) -> String {
    let Some(rest) = address.strip_prefix('"') else { return address.to_owned() };
    let (local, domain) = rest.rsplit_once('"').unwrap_or((rest, ""));
    format!("{}{domain}", local.replace('\\', ""))
}

/// The words of a refusal that say why; `taken` where it is none.
pub fn refusal(reply: &str) -> String {
    if reply.starts_with('2') {
        return "taken".to_owned();
    }
    if reply.starts_with("501 5.1.3") {
        return "bad address".to_owned();
    }
    let (head, words) = reply.split_once("rejected: ").unwrap_or((reply, reply));
    let mut numbers = head.split(' ');
    format!("{} {} {words}", numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

/// A client that sends many messages over one connection.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        let mut client = Self(BufReader::new(stream));
        client.reply()?;
        client.command("EHLO client.example")?;
        Ok(client)
    }

    fn reply(&mut self) -> Result<String, String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).map_err(text)? == 0 {
                return Err("the server has hung up".to_owned());
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line.trim_end().to_owned());
            }
        }
    }

    fn say(&mut self, octets: &str) -> Result<(), String> {
        self.0.get_mut().write_all(octets.as_bytes()).map_err(text)
    }

    /// One command and its reply.
    pub fn command(&mut self, line: &str) -> Result<String, String> {
        self.say(&format!("{line}\r\n"))?;
        self.reply()
    }

    /// Sends a message; its queue id, or nothing if it is refused.
    pub fn send(&mut self, message: &Message) -> Result<Option<String>, String> {
        let recipients: String = message.recipients.iter().map(|to| format!("RCPT TO:<{to}>\r\n")).collect();
        self.say(&format!("MAIL FROM:<{}>\r\n{recipients}DATA\r\n", message.from))?;
        let mut good = true;
        for _ in 0..=message.recipients.len() {
            good &= self.reply()?.starts_with('2');
        }
        if !self.reply()?.starts_with("354") {
            self.command("RSET")?;
            return Ok(None);
        }
        self.say(&format!("{}\r\n\r\nbody\r\n.\r\n", message.fields.join("\r\n")))?;
        let reply = self.reply()?;
        let id = reply.split_once("queued as ").map(|(_, id)| id.trim().to_owned());
        Ok(id.filter(|_| good))
    }
}

/// A message as it is queued.
#[derive(Debug)]
pub struct Queued {
    /// The envelope sender without quotes.
    pub sender: String,
    /// The recipients without quotes, each once.
    pub to: BTreeSet<String>,
    /// The fields of the message in their order, without blanks.
    pub header: Vec<String>,
}

impl Queued {
    pub fn recipients(&self) -> String {
        self.to.iter().cloned().collect::<Vec<_>>().join(" | ")
    }
}

/// Reads a file of Postfix's queue: records of a type, a length and content.
pub fn queued(postfix: &Postfix, id: &str) -> Result<Queued, String> {
    let path = postfix.spool().join("hold").join(id);
    let mut octets = Vec::new();
    std::fs::File::open(&path)
        .and_then(|mut file| file.read_to_end(&mut octets))
        .map_err(|e| format!("{path:?}: {e}"))?;
    let mut queued = Queued { sender: String::new(), to: BTreeSet::new(), header: Vec::new() };
    let (mut at, mut content) = (0, String::new());
    while at < octets.len() {
        let kind = octets[at];
        at += 1;
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let octet = *octets.get(at).ok_or("the queue file breaks off")?;
            at += 1;
            length |= usize::from(octet & 0x7f) << shift;
            shift += 7;
            if octet < 0x80 {
                break;
            }
        }
        let data = octets.get(at..at + length).ok_or("the queue file breaks off")?;
        let data = String::from_utf8_lossy(data).into_owned();
        at += length;
        match kind {
            b'S' => queued.sender = data,
            b'R' => drop(queued.to.insert(data)),
            b'N' => content.push_str(&format!("{data}\r\n")),
            _ => {}
        }
    }
    let made = ["received:", "date:", "message-id:", "from:", "resent-date:", "resent-message-id:"];
    let fields = unfolded(&content);
    // What Postfix adds stands on top and at the end.
    let (first, last) = (fields.iter().position(|field| !field.starts_with("received:")), fields.len());
    let added = fields.iter().rev().take_while(|field| made[1..].iter().any(|name| field.starts_with(name))).count();
    queued.header = fields[first.unwrap_or(last)..last - added].to_vec();
    Ok(queued)
}

/// The fields of a header on one line each, names in lower case, without any blanks and quotes: Postfix takes away those that need not be.
pub fn unfolded(content: &str) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for line in content.split("\r\n").take_while(|line| !line.is_empty()) {
        match fields.last_mut() {
            Some(field) if line.starts_with([' ', '\t']) => field.push_str(line),
            _ => fields.push(line.to_owned()),
        }
    }
    let plain = |field: &String| {
        let (name, value) = field.split_once(':').unwrap_or((field, ""));
        format!("{}:{}", name.to_ascii_lowercase(), value.replace([' ', '\t', '"'], ""))
    };
    fields.iter().map(plain).collect()
}
