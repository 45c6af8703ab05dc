//! memcache_table(5): `get KEY`, and `set KEY` with what the table behind it said.

use std::time::Duration;

use crate::connection::{Connection, Endpoint, Failure};
use crate::pool::{Pool, Protocol};
use crate::settings::{Mistake, Settings};
use crate::template::Template;

pub(crate) const PARAMETERS: [&str; 11] = [
    "memcache",
    "backup",
    "flags",
    "ttl",
    "key_format",
    "data_size_limit",
    "line_size_limit",
    "max_try",
    "retry_pause",
    "timeout",
    "domain",
];
/// The longest key of the protocol.
const KEY_MAX: usize = 250;

/// A memcached server.
pub(crate) struct Memcache {
    pool: Pool<Lines>,
    key_format: Template,
    flags: u64,
    ttl: u64,
}

struct Lines {
    data_max: usize,
    line_max: usize,
}

/// What is sent; whether a value is expected.
pub(crate) struct Command {
    text: String,
    get: bool,
}

impl Memcache {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Mistake> {
        let size = |name, default| -> Result<usize, Mistake> {
            usize::try_from(settings.number(name, default)?).map_err(|_| Mistake::of(name, "it is too large"))
        };
        let lines = Lines { data_max: size("data_size_limit", 10240)?, line_max: size("line_size_limit", 1024)? };
        let server = settings.text("memcache", "inet:localhost:11211");
        let server = Endpoint::parse(server, Some(11211))
            .ok_or_else(|| Mistake::of("memcache", format!("`{server}' names no server")))?;
        let timeout = settings.number("timeout", 2)?.saturating_mul(settings.number("max_try", 2)?.max(1));
        Ok(Self {
            pool: Pool::new(lines, vec![server], Duration::from_secs(timeout)),
            key_format: Template::parse(settings.text("key_format", "%s"))
                .map_err(|what| Mistake::of("key_format", what))?,
            flags: settings.number("flags", 0)?,
            ttl: settings.number("ttl", 3600)?,
        })
    }

    pub(crate) async fn reach(&self, patience: Duration) -> Vec<String> {
        self.pool.reach(patience).await
    }

    /// The key as the server knows it; none where it can have no such key, and then neither has the table behind it.
    pub(crate) fn key(&self, key: &str) -> Option<String> {
        let key = self.key_format.query(key, &str::to_owned)?;
        let plain = !key.contains(|c: char| c.is_ascii_whitespace() || c.is_ascii_control());
        (plain && !key.is_empty()).then_some(key)
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<String>, String> {
        if key.len() > KEY_MAX {
            return Err(format!("a key of {} octets is too long for the server", key.len()));
        }
        self.pool.ask(&Command { text: format!("get {key}\r\n"), get: true }).await
    }

    /// Remembers a value; that this fails matters to nobody.
    pub(crate) async fn set(&self, key: &str, value: &str) {
        let text = format!("set {key} {} {} {}\r\n{value}\r\n", self.flags, self.ttl, value.len());
        let _ = self.pool.ask(&Command { text, get: false }).await;
    }
}

impl Protocol for Lines {
    type Line = Connection;
    type Question = Command;
    type Answer = Option<String>;

    async fn connect(&self, to: &Endpoint) -> Result<Connection, Failure> {
        Ok(to.connect().await?)
    }

    async fn ask(&self, line: &mut Connection, command: &Command) -> Result<Option<String>, Failure> {
        line.send(command.text.as_bytes()).await?;
        let limit = self.data_max + 2 * self.line_max;
        if command.get {
            return line.read(limit, |octets| value(octets, self.data_max)).await;
        }
        line.read(limit, |octets| Ok(split_line(octets).map(|(_, used)| (None, used)))).await
    }
}

/// A line without its end, and how many octets it took.
fn split_line(octets: &[u8]) -> Option<(&str, usize)> {
    let end = octets.windows(2).position(|pair| pair == b"\r\n")?;
    Some((std::str::from_utf8(&octets[..end]).unwrap_or("?"), end + 2))
}

/// `END`, or `VALUE key flags length`, the value, `END`.
///
/// # Errors
/// The server says something else, or the value is too long.
pub fn value(octets: &[u8], most: usize) -> Result<Option<(Option<String>, usize)>, String> {
    let Some((line, used)) = split_line(octets) else { return Ok(None) };
    if line == "END" {
        return Ok(Some((None, used)));
    }
    let length = line.strip_prefix("VALUE ").and_then(|rest| rest.split(' ').nth(2)?.parse::<usize>().ok());
    let length = length.ok_or_else(|| format!("the server says: {line:.100}"))?;
    if length > most {
        return Err(format!("a value of {length} octets is longer than {most}"));
    }
    let end = used + length;
    let Some(tail) = octets.get(end..end + 7) else { return Ok(None) };
    if tail != b"\r\nEND\r\n" {
        return Err("the value has another length than the server says".to_owned());
    }
    Ok(Some((Some(String::from_utf8_lossy(&octets[used..end]).into_owned()), end + 7)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_when_it_is_complete() {
        let reply = b"VALUE k 0 5\r\nhello\r\nEND\r\nmore";
        assert_eq!(value(reply, 10), Ok(Some((Some("hello".to_owned()), 25))));
        for cut in 0..25 {
            assert_eq!(value(&reply[..cut], 10), Ok(None), "{cut}");
        }
        assert_eq!(value(b"END\r\n", 10), Ok(Some((None, 5))));
        for wrong in
            ["ERROR\r\n", "SERVER_ERROR busy\r\n", "VALUE k 0 11\r\n", "VALUE k\r\n", "VALUE k 0 1\r\nxyEND\r\nEN"]
        {
            value(wrong.as_bytes(), 10).expect_err(wrong);
        }
    }

    #[test]
    fn keys_that_the_protocol_cannot_carry_are_not_asked_for() {
        let cache = Memcache::new(&Settings::of_text("key_format = v:%s\n")).expect("a cache");
        assert_eq!(cache.key("john@x.org").as_deref(), Some("v:john@x.org"));
        assert_eq!((cache.key("a b"), cache.key("a\r\nset x")), (None, None));
        let plain = Memcache::new(&Settings::of_text("")).expect("a cache");
        assert_eq!((plain.key(""), cache.key("").as_deref()), (None, Some("v:")));
    }
}
