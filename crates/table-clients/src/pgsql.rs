//! pgsql_table(5): PostgreSQL's protocol, version 3, with simple queries.

use std::time::Duration;

use crate::connection::{Connection, Endpoint, Failure};
use crate::pool::{Pool, Protocol};
use crate::scram::Scram;
use crate::settings::{Mistake, Settings};
use crate::sql::{ANSWER_MAX, Question, Values};
use crate::tls::Trust;

pub(crate) const PARAMETERS: [&str; 4] = ["hosts", "user", "password", "dbname"];
/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 5432;
/// The longest message that a server may send.
const MESSAGE_MAX: usize = 1 << 20;
/// The request for TLS, in the place of a version.
const TLS_REQUEST: u32 = 80_877_103;
/// Version 3.0.
const VERSION: u32 = 196_608;

/// The servers of one table.
pub(crate) struct Pgsql(Pool<Server>);

struct Server {
    user: String,
    password: String,
    database: String,
    trust: Trust,
}

/// A connection after the login.
pub(crate) struct Line {
    connection: Connection,
    /// Whether a backslash stands for itself in a string.
    standard_strings: bool,
}

impl Pgsql {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Mistake> {
        let mut server = Server {
            user: settings.text("user", "").to_owned(),
            password: settings.text("password", "").to_owned(),
            database: settings.text("dbname", "").to_owned(),
            trust: Trust::Offered,
        };
        let mut hosts = settings.words("hosts");
        if hosts.is_empty() {
            hosts.push("localhost".to_owned());
        }
        let mut endpoints = Vec::new();
        for host in &hosts {
            let endpoint = match host.strip_prefix("postgresql://").or_else(|| host.strip_prefix("postgres://")) {
                Some(_) if hosts.len() > 1 => {
                    return Err(Mistake::of("hosts", "only one server can be named with postgresql://"));
                }
                Some(rest) => server.uri(rest).map_err(|what| Mistake::of("hosts", what))?,
                None => place(host),
            };
            endpoints.push(endpoint.ok_or_else(|| Mistake::of("hosts", format!("`{host}' names no server")))?);
        }
        if server.user.is_empty() {
            return Err(Mistake::of("user", "it names nobody"));
        }
        if server.database.is_empty() {
            server.database.clone_from(&server.user);
        }
        Ok(Self(Pool::new(server, endpoints, PATIENCE)))
    }

    pub(crate) async fn ask(&self, question: &Question) -> Result<Values, String> {
        self.0.ask(question).await
    }

    pub(crate) async fn reach(&self, patience: Duration) -> Vec<String> {
        self.0.reach(patience).await
    }
}

/// A directory stands for the usual socket in it, as with libpq.
fn place(host: &str) -> Option<Endpoint> {
    match host.strip_prefix("unix:").unwrap_or(host) {
        path if path.starts_with('/') && !path.contains(".s.PGSQL.") => {
            Endpoint::parse(&format!("unix:{}/.s.PGSQL.{PORT}", path.trim_end_matches('/')), None)
        }
        path if path.starts_with('/') => Endpoint::parse(&format!("unix:{path}"), None),
        host => Endpoint::parse(host, Some(PORT)),
    }
}

impl Server {
    /// `user:password@host:port/database?sslmode=require&sslrootcert=FILE`.
    fn uri(&mut self, rest: &str) -> Result<Option<Endpoint>, String> {
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (rest, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        for (own, given) in [(&mut self.user, user), (&mut self.password, password), (&mut self.database, database)] {
            if !given.is_empty() {
                *own = decoded(given)?;
            }
        }
        let options: Vec<_> = options.split('&').filter_map(|option| option.split_once('=')).collect();
        let authorities = options.iter().find(|(name, _)| *name == "sslrootcert").map(|(_, file)| decoded(file));
        for (name, value) in &options {
            self.trust = match (*name, *value) {
                ("sslmode", "disable") => Trust::Never,
                ("sslmode", "allow" | "prefer") => Trust::Offered,
                ("sslmode", "require") => Trust::Required,
                ("sslmode", "verify-ca" | "verify-full") => {
                    let authorities = authorities.clone().ok_or("sslmode=verify-full needs sslrootcert")??;
                    Trust::Verified { authorities }
                }
                ("sslrootcert" | "connect_timeout" | "application_name", _) => continue,
                _ => return Err(format!("`{name}={value}' is not built")),
            };
        }
        Ok(place(&decoded(host)?))
    }

    async fn login(&self, line: &mut Line) -> Result<(), Failure> {
        let mut body = VERSION.to_be_bytes().to_vec();
        let pairs = [("user", self.user.as_str()), ("database", self.database.as_str()), ("client_encoding", "UTF8")];
        for text in pairs.iter().flat_map(|(name, value)| [*name, *value]) {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        line.connection.send(&framed(None, &body)?).await?;
        let mut scram = None;
        loop {
            let message = line.message().await?;
            match message.kind {
                b'R' => self.authenticate(line, &message.body, &mut scram).await?,
                b'Z' => return Ok(()),
                b'E' => return Err(Failure::Broken(error_text(&message.body))),
                _ => line.note(&message),
            }
        }
    }

    async fn authenticate(&self, line: &mut Line, body: &[u8], scram: &mut Option<Scram>) -> Result<(), Failure> {
        let broken = |text: &str| Failure::Broken(text.to_owned());
        let (kind, rest) = body.split_at_checked(4).ok_or_else(|| broken("a login message is cut off"))?;
        let answer = match u32::from_be_bytes([kind[0], kind[1], kind[2], kind[3]]) {
            0 => return Ok(()),
            3 => [self.password.as_bytes(), b"\0"].concat(),
            5 => md5_answer(&self.user, &self.password, rest),
            10 if rest.split(|octet| *octet == 0).any(|name| name == b"SCRAM-SHA-256") => {
                let (begun, first) = Scram::begin(&self.password).map_err(|why| broken(&why))?;
                *scram = Some(begun);
                let length = u32::try_from(first.len()).unwrap_or_default().to_be_bytes();
                [b"SCRAM-SHA-256\0".as_slice(), &length, first.as_bytes()].concat()
            }
            11 => {
                let scram = scram.as_mut().ok_or_else(|| broken("the server speaks out of turn"))?;
                scram.answer(&String::from_utf8_lossy(rest)).map_err(|why| broken(&why))?.into_bytes()
            }
            12 => {
                let scram = scram.as_ref().ok_or_else(|| broken("the server speaks out of turn"))?;
                return scram.check(&String::from_utf8_lossy(rest)).map_err(|why| broken(&why));
            }
            _ => return Err(broken("the server asks for a kind of login that is not built")),
        };
        Ok(line.connection.send(&framed(Some(b'p'), &answer)?).await?)
    }
}

impl Protocol for Server {
    type Line = Line;
    type Question = Question;
    type Answer = Values;

    async fn connect(&self, to: &Endpoint) -> Result<Line, Failure> {
        let mut connection = to.connect().await?;
        if let (Endpoint::Tcp(host, _), true) = (to, self.trust != Trust::Never) {
            connection.send(&framed(None, &TLS_REQUEST.to_be_bytes())?).await?;
            let answer = connection.read(1, |octets| Ok(octets.first().map(|octet| (*octet, 1)))).await?;
            if answer == b'S' {
                connection = self.trust.handshake(connection, host).await?;
            } else if self.trust != Trust::Offered {
                return Err(Failure::Broken("the server has no TLS".to_owned()));
            }
        }
        let mut line = Line { connection, standard_strings: true };
        self.login(&mut line).await?;
        Ok(line)
    }

    async fn ask(&self, line: &mut Line, question: &Question) -> Result<Values, Failure> {
        let standard = line.standard_strings;
        let quote = move |text: &str| quoted(text, standard);
        let Some(text) = question.query(&quote) else { return Ok(Values::new()) };
        line.connection.send(&framed(Some(b'Q'), &[text.as_bytes(), b"\0"].concat())?).await?;
        let (mut values, mut octets, mut refused) = (Values::new(), 0, None);
        loop {
            let message = line.message().await?;
            match message.kind {
                b'D' => {
                    octets += message.body.len();
                    if octets > ANSWER_MAX {
                        return Err(Failure::Broken(format!("the answer is longer than {ANSWER_MAX} octets")));
                    }
                    values.extend(row(&message.body).map_err(Failure::Broken)?);
                }
                b'E' => refused = Some(error_text(&message.body)),
                b'Z' => return refused.map_or(Ok(values), |why| Err(Failure::Refused(why))),
                b'G' | b'H' | b'W' => return Err(Failure::Broken("the query copies data".to_owned())),
                _ => line.note(&message),
            }
        }
    }
}

impl Line {
    async fn message(&mut self) -> Result<Message, Failure> {
        self.connection.read(MESSAGE_MAX + 5, message).await
    }

    fn note(&mut self, message: &Message) {
        if message.kind == b'S' && message.body.starts_with(b"standard_conforming_strings\0") {
            self.standard_strings = message.body.ends_with(b"\0on\0");
        }
    }
}

/// The text inside of quotes. PostgreSQL before 9.1, and settings like it, read backslashes too.
fn quoted(text: &str, standard: bool) -> String {
    let text = text.replace('\'', "''");
    if standard { text } else { text.replace('\\', "\\\\") }
}

fn framed(kind: Option<u8>, body: &[u8]) -> Result<Vec<u8>, Failure> {
    let length = u32::try_from(body.len() + 4).map_err(|_| Failure::Refused("the query is too long".to_owned()))?;
    let mut out: Vec<u8> = kind.into_iter().collect();
    out.extend(length.to_be_bytes());
    out.extend_from_slice(body);
    Ok(out)
}

fn md5_answer(user: &str, password: &str, salt: &[u8]) -> Vec<u8> {
    use md5::{Digest as _, Md5};
    let hex = |parts: [&[u8]; 2]| {
        let digest = Md5::new().chain_update(parts[0]).chain_update(parts[1]).finalize();
        digest.iter().map(|octet| format!("{octet:02x}")).collect::<String>()
    };
    let inner = hex([password.as_bytes(), user.as_bytes()]);
    format!("md5{}\0", hex([inner.as_bytes(), salt])).into_bytes()
}

/// A message of a server: its kind and what follows the length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    kind: u8,
    body: Vec<u8>,
}

/// Reads the first message of what came, and says how many octets it took; none until it is complete.
///
/// # Errors
/// It is too long, or no message.
pub fn message(octets: &[u8]) -> Result<Option<(Message, usize)>, String> {
    let Some(head) = octets.get(..5) else { return Ok(None) };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(4..=MESSAGE_MAX).contains(&length) {
        return Err("the server's message has a length that cannot be right".to_owned());
    }
    let body = octets.get(5..1 + length);
    Ok(body.map(|body| (Message { kind: head[0], body: body.to_vec() }, 1 + length)))
}

/// The columns of a row; none for NULL.
///
/// # Errors
/// It is cut off.
pub fn row(body: &[u8]) -> Result<Vec<Option<String>>, String> {
    let cut = || "a row is cut off".to_owned();
    let (count, mut rest) = body.split_at_checked(2).ok_or_else(cut)?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes([count[0], count[1]]) {
        let (length, after) = rest.split_at_checked(4).ok_or_else(cut)?;
        let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        rest = after;
        let Ok(length) = usize::try_from(length) else {
            columns.push(None);
            continue;
        };
        let (value, after) = rest.split_at_checked(length).ok_or_else(cut)?;
        columns.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    Ok(columns)
}

/// The text of an error: the field `M`, in one line.
fn error_text(body: &[u8]) -> String {
    let field = body.split(|octet| *octet == 0).find_map(|field| field.strip_prefix(b"M"));
    field.map_or_else(|| "an error without a text".to_owned(), |text| String::from_utf8_lossy(text).replace('\n', " "))
}

fn decoded(text: &str) -> Result<String, String> {
    let octets = crate::tcp::decoded(text.as_bytes());
    octets
        .and_then(|octets| String::from_utf8(octets).ok())
        .ok_or_else(|| format!("hosts: `{text}' is no text of a URI"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_named_in_every_way_that_libpq_knows() {
        let unix = |path: &str| Some(Endpoint::Unix(path.into()));
        assert_eq!(place("unix:/run/postgresql"), unix("/run/postgresql/.s.PGSQL.5432"));
        assert_eq!(place("unix:/run/x/.s.PGSQL.5433"), unix("/run/x/.s.PGSQL.5433"));
        assert_eq!(place("inet:db:99"), Some(Endpoint::Tcp("db".to_owned(), 99)));
        let settings = "hosts = postgresql://u%40x:p@db.example/mail?sslmode=require\n";
        let Ok(Pgsql(Pool { protocol: server, .. })) = Pgsql::new(&Settings::of_text(settings)) else {
            panic!("a server")
        };
        assert_eq!((server.user.as_str(), server.password.as_str(), server.database.as_str()), ("u@x", "p", "mail"));
        assert_eq!(server.trust, Trust::Required);
        for wrong in
            ["hosts = db\n", "user = u\nhosts = postgresql://db/x?sslmode=verify-full\n", "user = u\nhosts = db:x\n"]
        {
            assert!(Pgsql::new(&Settings::of_text(wrong)).is_err(), "{wrong}");
        }
    }

    // The example of a login with the name `u`, password `p`, salt 1234, as psql sends it.
    #[test]
    fn a_password_is_sent_as_its_digest() {
        let answer = String::from_utf8(md5_answer("u", "p", &[1, 2, 3, 4])).expect("text");
        assert!(answer.starts_with("md5") && answer.len() == 36, "{answer}");
        assert_eq!(quoted("a'b\\", true), "a''b\\");
        assert_eq!(quoted("a'b\\", false), "a''b\\\\");
    }

    #[test]
    fn a_row_has_columns_and_nulls() {
        let body = [&[0u8, 2][..], &[0, 0, 0, 1], b"a", &[255, 255, 255, 255]].concat();
        assert_eq!(row(&body), Ok(vec![Some("a".to_owned()), None]));
        row(&body[..6]).expect_err("cut off");
        let framed = framed(Some(b'D'), &body).expect("short");
        assert_eq!(message(&framed), Ok(Some((Message { kind: b'D', body }, framed.len()))));
        assert_eq!(message(&framed[..8]), Ok(None));
        message(b"D\xff\xff\xff\xff").expect_err("too long");
    }
}
