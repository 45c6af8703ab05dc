//! mysql_table(5): the protocol of MySQL and MariaDB, version 10, with text queries.

use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::connection::{Connection, Endpoint, Failure};
use crate::pool::{Pool, Protocol};
use crate::settings::{Mistake, Settings};
use crate::sql::{ANSWER_MAX, Question, Values};
use crate::tls::Trust;

pub(crate) const PARAMETERS: [&str; 13] = [
    "hosts",
    "user",
    "password",
    "dbname",
    "option_file",
    "option_group",
    "require_result_set",
    "tls_cert_file",
    "tls_key_file",
    "tls_CAfile",
    "tls_CApath",
    "tls_ciphers",
    "tls_verify_cert",
];
/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 3306;
/// Where `localhost` listens on a Debian machine.
const LOCAL: &str = "/run/mysqld/mysqld.sock";
/// The longest packet that a server may send.
const PACKET_MAX: usize = 1 << 20;
/// The most columns of a result.
const COLUMNS_MAX: u64 = 4096;

/// What we can: long flags, a database at login, protocol 4.1, transactions, its passwords, several results (of CALL), named ways to log in.
const CAPABILITIES: u32 = 1 | 8 | 0x200 | 0x2000 | 0x8000 | 0x2_0000 | 0x8_0000;
const CAN_TLS: u32 = 0x800;
/// utf8mb4_general_ci.
const CHARSET: u8 = 45;
/// A result follows this one.
const MORE_RESULTS: u16 = 8;
/// A backslash stands for itself in a string.
const NO_BACKSLASH: u16 = 0x200;

/// The servers of one table.
pub(crate) struct Mysql(Pool<Server>);

struct Server {
    user: String,
    password: String,
    database: String,
    trust: Trust,
    /// Whether a statement without a result is a mistake.
    needs_result: bool,
}

/// A connection after the login.
pub(crate) struct Line {
    connection: Connection,
    sequence: u8,
    status: u16,
    /// Nobody can listen: TLS, or a socket of this machine.
    private: bool,
}

impl Mysql {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Mistake> {
        settings.refuse(&["option_file", "tls_cert_file", "tls_key_file", "tls_CApath", "tls_ciphers"])?;
        let trust = match (settings.get("tls_CAfile"), settings.yes("tls_verify_cert", false)?) {
            (Some(file), true) => Trust::Verified { authorities: file.to_owned() },
            (None, true) => return Err(Mistake::of("tls_verify_cert", "it needs tls_CAfile")),
            (Some(_), false) => Trust::Required,
            (None, false) => Trust::Never,
        };
        let server = Server {
            user: settings.text("user", "").to_owned(),
            password: settings.text("password", "").to_owned(),
            database: settings.text("dbname", "").to_owned(),
            trust,
            needs_result: settings.yes("require_result_set", true)?,
        };
        let mut hosts = settings.words("hosts");
        if hosts.is_empty() {
            hosts.push("localhost".to_owned());
        }
        let place = |host: &String| match host.strip_prefix("inet:").unwrap_or(host) {
            "localhost" => Some(Endpoint::Unix(LOCAL.into())),
            _ => Endpoint::parse(host, Some(PORT)),
        };
        let named = hosts
            .iter()
            .map(|host| place(host).ok_or_else(|| Mistake::of("hosts", format!("`{host}' names no server"))));
        Ok(Self(Pool::new(server, named.collect::<Result<Vec<_>, _>>()?, PATIENCE)))
    }

    pub(crate) async fn ask(&self, question: &Question) -> Result<Values, String> {
        self.0.ask(question).await
    }

    pub(crate) async fn reach(&self, patience: Duration) -> Vec<String> {
        self.0.reach(patience).await
    }
}

impl Protocol for Server {
    type Line = Line;
    type Question = Question;
    type Answer = Values;

    async fn connect(&self, to: &Endpoint) -> Result<Line, Failure> {
        let connection = to.connect().await?;
        let mut line = Line { connection, sequence: 0, status: 0, private: matches!(to, Endpoint::Unix(_)) };
        let greeting = greeting(&line.packet().await?).map_err(Failure::Broken)?;
        let mut wanted = CAPABILITIES;
        if let (Endpoint::Tcp(host, _), true) = (to, self.trust != Trust::Never) {
            if greeting.capabilities & CAN_TLS == 0 {
                return Err(Failure::Broken("the server has no TLS".to_owned()));
            }
            wanted |= CAN_TLS;
            line.send(&login_head(wanted)).await?;
            line.connection = self.trust.handshake(line.connection, host).await?;
            line.private = true;
        }
        let proof = proof(&greeting.method, &self.password, &greeting.salt, line.private)?;
        let name = greeting.method;
        let mut login = login_head(wanted);
        login.extend_from_slice(self.user.as_bytes());
        login.push(0);
        login.push(u8::try_from(proof.len()).unwrap_or_default());
        login.extend_from_slice(&proof);
        for text in [self.database.as_str(), name.as_str()] {
            login.extend_from_slice(text.as_bytes());
            login.push(0);
        }
        line.send(&login).await?;
        self.finish(&mut line, name).await?;
        Ok(line)
    }

    async fn ask(&self, line: &mut Line, question: &Question) -> Result<Values, Failure> {
        let backslash = line.status & NO_BACKSLASH == 0;
        let Some(query) = question.query(&|text| quoted(text, backslash)) else { return Ok(Values::new()) };
        line.sequence = 0;
        line.send(&[b"\x03", query.as_bytes()].concat()).await?;
        let (mut values, mut results) = (Values::new(), 0);
        loop {
            let first = line.packet().await?;
            match first.first() {
                Some(0) => line.status = ok_status(&first).unwrap_or(0),
                Some(0xff) => return Err(Failure::Refused(error_text(&first))),
                // It asks for a file of ours.
                Some(0xfb) | None => return Err(Failure::Broken("the server answers what was not asked".to_owned())),
                Some(_) => {
                    results += 1;
                    line.rows(&first, &mut values).await?;
                }
            }
            if line.status & MORE_RESULTS == 0 {
                break;
            }
        }
        match results {
            0 if self.needs_result => Err(Failure::Refused("the query gives no result set".to_owned())),
            0 | 1 => Ok(values),
            _ => Err(Failure::Refused("the query gives several result sets".to_owned())),
        }
    }
}

impl Server {
    /// What follows our login, until the server is content.
    async fn finish(&self, line: &mut Line, mut method: String) -> Result<(), Failure> {
        // No login takes more turns.
        for _ in 0..8 {
            let packet = line.packet().await?;
            match packet.first() {
                Some(0) => {
                    line.status = ok_status(&packet).unwrap_or(0);
                    return Ok(());
                }
                Some(0xff) => return Err(Failure::Broken(error_text(&packet))),
                Some(0xfe) => {
                    let mut parts = packet[1..].splitn(2, |octet| *octet == 0);
                    method = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
                    let salt = parts.next().unwrap_or_default();
                    let proof = proof(&method, &self.password, &salt[..salt.len().min(20)], line.private)?;
                    line.send(&proof).await?;
                }
                // caching_sha2_password: it remembers us, or wants the password itself.
                Some(1) if packet.get(1) == Some(&3) => {}
                Some(1) if packet.get(1) == Some(&4) && line.private => {
                    line.send(&[self.password.as_bytes(), b"\0"].concat()).await?;
                }
                _ => {
                    let why = format!("the login by {method} needs TLS or a socket of this machine");
                    return Err(Failure::Broken(why));
                }
            }
        }
        Err(Failure::Broken("the login does not end".to_owned()))
    }
}

impl Line {
    async fn packet(&mut self) -> Result<Vec<u8>, Failure> {
        let (body, sequence) = self.connection.read(PACKET_MAX + 4, packet).await?;
        self.sequence = sequence.wrapping_add(1);
        Ok(body)
    }

    async fn send(&mut self, body: &[u8]) -> Result<(), Failure> {
        let length = u32::try_from(body.len()).ok().filter(|length| *length < 0xff_ffff);
        let length = length.ok_or_else(|| Failure::Refused("the query is too long".to_owned()))?;
        let mut out = length.to_le_bytes()[..3].to_vec();
        out.push(self.sequence);
        out.extend_from_slice(body);
        self.sequence = self.sequence.wrapping_add(1);
        Ok(self.connection.send(&out).await?)
    }

    /// Reads a result set behind its number of columns.
    async fn rows(&mut self, first: &[u8], values: &mut Values) -> Result<(), Failure> {
        let cut = || Failure::Broken("a result is cut off".to_owned());
        let (columns, _) = number(first).ok_or_else(cut)?;
        if columns > COLUMNS_MAX {
            return Err(Failure::Broken(format!("a result of {columns} columns")));
        }
        // The columns' names, which do not matter, and the end of them.
        for _ in 0..=columns {
            self.packet().await?;
        }
        let mut octets = 0;
        loop {
            let packet = self.packet().await?;
            match packet.first() {
                Some(0xfe) if packet.len() < 9 => {
                    self.status = packet.get(3..5).map_or(0, |octets| u16::from_le_bytes([octets[0], octets[1]]));
                    return Ok(());
                }
                Some(0xff) => return Err(Failure::Refused(error_text(&packet))),
                _ => {}
            }
            octets += packet.len();
            if octets > ANSWER_MAX {
                return Err(Failure::Broken(format!("the answer is longer than {ANSWER_MAX} octets")));
            }
            values.extend(row(&packet, columns).ok_or_else(cut)?);
        }
    }
}

/// The text inside of quotes.
fn quoted(text: &str, backslash: bool) -> String {
    if !backslash {
        return text.replace('\'', "''");
    }
    let mut out = String::with_capacity(text.len() + 2);
    for c in text.chars() {
        match c {
            '\'' | '"' | '\\' => out.extend(['\\', c]),
            '\0' => out.push_str("\\0"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\x1a' => out.push_str("\\Z"),
            c => out.push(c),
        }
    }
    out
}

fn login_head(capabilities: u32) -> Vec<u8> {
    let mut head = capabilities.to_le_bytes().to_vec();
    head.extend(0x0100_0000u32.to_le_bytes());
    head.push(CHARSET);
    head.extend([0; 23]);
    head
}

/// What proves that we know the password.
fn proof(method: &str, password: &str, salt: &[u8], private: bool) -> Result<Vec<u8>, Failure> {
    let mixed = |one: &[u8], other: &[u8]| one.iter().zip(other).map(|(a, b)| a ^ b).collect();
    match method {
        _ if password.is_empty() => Ok(Vec::new()),
        "mysql_native_password" => {
            let once = Sha1::digest(password);
            let key = Sha1::new().chain_update(salt).chain_update(Sha1::digest(once)).finalize();
            Ok(mixed(&once, &key))
        }
        "caching_sha2_password" => {
            let once = Sha256::digest(password);
            let key = Sha256::new().chain_update(Sha256::digest(once)).chain_update(salt).finalize();
            Ok(mixed(&once, &key))
        }
        "mysql_clear_password" if private => Ok([password.as_bytes(), b"\0"].concat()),
        other => Err(Failure::Broken(format!("the server asks for a login by {other}, which is not built here"))),
    }
}

/// What a server says first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Greeting {
    capabilities: u32,
    salt: Vec<u8>,
    method: String,
}

fn greeting(packet: &[u8]) -> Result<Greeting, String> {
    let cut = || "the server's greeting is cut off".to_owned();
    match packet.first() {
        Some(10) => {}
        Some(0xff) => return Err(error_text(packet)),
        _ => return Err("the server does not speak MySQL's protocol".to_owned()),
    }
    let version = packet.iter().position(|octet| *octet == 0).ok_or_else(cut)?;
    let rest = packet.get(version + 5..).ok_or_else(cut)?;
    let (first, rest) = rest.split_at_checked(9).ok_or_else(cut)?;
    let (flags, rest) = rest.split_at_checked(8).ok_or_else(cut)?;
    let capabilities = u32::from_le_bytes([flags[0], flags[1], flags[5], flags[6]]);
    let second = rest.get(10..).ok_or_else(cut)?;
    let length = usize::from(flags[7]).saturating_sub(8).max(13).min(second.len());
    let (second, name) = second.split_at(length);
    let mut salt = first[..8].to_vec();
    salt.extend_from_slice(second);
    salt.truncate(20);
    let name = name.split(|octet| *octet == 0).next().unwrap_or_default();
    let method = if name.is_empty() { "mysql_native_password".into() } else { String::from_utf8_lossy(name) };
    Ok(Greeting { capabilities, salt, method: method.into_owned() })
}

/// Reads the first packet of what came: its octets and number, and how many octets it took; none until it is complete.
///
/// # Errors
/// It is too long.
#[expect(clippy::type_complexity, reason = "a decoder gives what it found and how many octets that took")]
pub fn packet(octets: &[u8]) -> Result<Option<((Vec<u8>, u8), usize)>, String> {
    let Some(head) = octets.get(..4) else { return Ok(None) };
    let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    if length > PACKET_MAX {
        return Err(format!("a packet of {length} octets"));
    }
    Ok(octets.get(4..4 + length).map(|body| ((body.to_vec(), head[3]), 4 + length)))
}

/// A number of one to nine octets, and how many.
fn number(octets: &[u8]) -> Option<(u64, usize)> {
    let count = match *octets.first()? {
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        0xfb | 0xff => return None,
        small => return Some((u64::from(small), 1)),
    };
    let octets = octets.get(1..=count)?;
    let number = octets.iter().rev().fold(0, |number, octet| number << 8 | u64::from(*octet));
    Some((number, count + 1))
}

/// The columns of a row, none for NULL; nothing if it is cut off.
#[must_use]
pub fn row(packet: &[u8], columns: u64) -> Option<Vec<Option<String>>> {
    let (mut values, mut rest) = (Vec::new(), packet);
    for _ in 0..columns {
        if let Some(after) = rest.strip_prefix(b"\xfb") {
            values.push(None);
            rest = after;
            continue;
        }
        let (length, used) = number(rest)?;
        let (value, after) = rest[used..].split_at_checked(usize::try_from(length).ok()?)?;
        values.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    Some(values)
}

/// The status of an OK packet: behind two numbers.
fn ok_status(packet: &[u8]) -> Option<u16> {
    let (_, first) = number(packet.get(1..)?)?;
    let (_, second) = number(packet.get(1 + first..)?)?;
    let status = packet.get(1 + first + second..)?.get(..2)?;
    Some(u16::from_le_bytes([status[0], status[1]]))
}

/// The text of an error packet: behind its number and its state.
fn error_text(packet: &[u8]) -> String {
    let text = packet.get(3..).unwrap_or_default();
    let text = if text.first() == Some(&b'#') { text.get(6..).unwrap_or_default() } else { text };
    String::from_utf8_lossy(text).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut packet = b"\x0a8.0.30\0\x01\0\0\0".to_vec();
        packet.extend_from_slice(b"abcdefgh\0\xff\xff\x2d\x02\0\xff\xdf\x15");
        packet.extend_from_slice(&[0; 10]);
        packet.extend_from_slice(b"ijklmnopqrst\0caching_sha2_password\0");
        packet
    }

    #[test]
    fn a_greeting_names_salt_and_method() {
        let greeting = super::greeting(&sample()).expect("a greeting");
        assert_eq!(greeting.salt, b"abcdefghijklmnopqrst");
        assert_eq!((greeting.method.as_str(), greeting.capabilities & CAN_TLS), ("caching_sha2_password", CAN_TLS));
        for cut in 0..39 {
            super::greeting(&sample()[..cut]).expect_err("cut off");
        }
        assert_eq!(super::greeting(b"\xff\x10\x04Too many").expect_err("refused"), "Too many");
    }

    #[test]
    fn a_password_is_never_sent_to_whoever_listens() {
        assert_eq!(
            proof("mysql_native_password", "p", b"12345678901234567890", false).map(|proof| proof.len()),
            Ok(20)
        );
        assert_eq!(
            proof("caching_sha2_password", "p", b"12345678901234567890", false).map(|proof| proof.len()),
            Ok(32)
        );
        assert_eq!(proof("mysql_clear_password", "p", b"", true), Ok(b"p\0".to_vec()));
        assert!(proof("mysql_clear_password", "p", b"", false).is_err());
        assert_eq!(proof("anything", "", b"", false), Ok(Vec::new()));
    }

    #[test]
    fn rows_and_statuses_are_read() {
        assert_eq!(row(b"\x01a\xfb\x02bc", 3), Some(vec![Some("a".to_owned()), None, Some("bc".to_owned())]));
        assert_eq!(row(b"\x05a", 1), None);
        assert_eq!(ok_status(b"\0\0\0\x0a\0\0\0"), Some(10));
        assert_eq!(number(b"\xfc\x01\x02"), Some((0x201, 3)));
        assert_eq!(error_text(b"\xff\x15\x04#28000Access denied"), "Access denied");
        assert_eq!(packet(b"\x01\0\0\x07a"), Ok(Some(((b"a".to_vec(), 7), 5))));
        assert_eq!((packet(b"\x02\0\0\x07a"), packet(b"\x02")), (Ok(None), Ok(None)));
        packet(b"\xff\xff\xff\0").expect_err("too long");
    }

    #[test]
    fn what_is_quoted_stays_inside_of_its_quotes() {
        assert_eq!(quoted("o'n\\\"\n\0", true), "o\\'n\\\\\\\"\\n\\0");
        assert_eq!(quoted("o'n\\", false), "o''n\\");
    }

    #[test]
    fn settings_that_are_not_built_are_refused() {
        let table = |text: &str| Mysql::new(&Settings::of_text(text)).map(drop);
        assert_eq!(table("user = u\nhosts = unix:/run/x inet:db:3307 localhost\n"), Ok(()));
        assert!(table("tls_cert_file = /x\n").is_err() && table("tls_verify_cert = yes\n").is_err());
        assert!(table("hosts = db:x\n").is_err() && table("require_result_set = maybe\n").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_packet_breaks_the_decoders(octets: Vec<u8>, columns in 0u64..5) {
            let _ = (packet(&octets), row(&octets, columns), greeting(&octets), ok_status(&octets), error_text(&octets));
        }
    }
}
