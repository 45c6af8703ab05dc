//! ldap_table(5): searches in a directory, and the entries that a result names.
//!
//! The protocol is spoken here and not by a library: docs/decisions/0004-ldap-without-a-library.md says why.

mod ber;
mod filter;
mod message;
mod result;
mod url;

use std::time::Duration;

use crate::connection::{Connection, Endpoint, Failure};
use crate::pool::{Pool, Protocol};
use crate::settings::{Mistake, Settings};
use crate::sql::{Plan, Values};
use crate::template::Template;
use crate::tls::Trust;

use message::{NO_SUCH_OBJECT, Outcome, Response, Scope};
use result::{Attributes, Work};

pub(crate) const PARAMETERS: [&str; 38] = [
    "server_host",
    "server_port",
    "timeout",
    "search_base",
    "query_filter",
    "result_format",
    "result_filter",
    "domain",
    "result_attribute",
    "special_result_attribute",
    "terminal_result_attribute",
    "leaf_result_attribute",
    "scope",
    "bind",
    "bind_dn",
    "bind_pw",
    "cache",
    "cache_expiry",
    "cache_size",
    "recursion_limit",
    "expansion_limit",
    "size_limit",
    "dereference",
    "chase_referrals",
    "version",
    "debuglevel",
    "sasl_mechs",
    "sasl_realm",
    "sasl_authz_id",
    "sasl_minssf",
    "start_tls",
    "tls_ca_cert_dir",
    "tls_ca_cert_file",
    "tls_cert",
    "tls_key",
    "tls_require_cert",
    "tls_random_file",
    "tls_cipher_suite",
];
/// How long a question may take in all, with everything that its result names.
const PATIENCE: Duration = Duration::from_secs(100);
/// The most octets of the values of one question.
const OCTETS_MAX: usize = 1 << 20;

/// The servers of one table.
pub(crate) struct Ldap {
    pool: Pool<Directory>,
    base: Template,
}

/// How the servers are asked.
struct Directory {
    login: Option<(String, String)>,
    version: u32,
    /// The servers that have TLS from the first octet on.
    at_once: Vec<Endpoint>,
    starts_tls: bool,
    trust: Trust,
    /// How long a login may take, and a search.
    timeout: Duration,
    scope: Scope,
    dereference: u32,
    size_limit: u32,
    recursion_limit: u64,
    /// Whether the base of the search depends on the key, so that it may be missing.
    base_varies: bool,
    attributes: Attributes,
}

/// A question: where to search, and the filter as it is sent.
pub(crate) struct Question {
    base: String,
    filter: Vec<u8>,
}

/// A connection after the login.
pub(crate) struct Line {
    connection: Connection,
    /// The number of the last request.
    last: u32,
}

impl Ldap {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Mistake> {
        settings.refuse(&["tls_cert", "tls_key", "tls_cipher_suite", "tls_ca_cert_dir"])?;
        if settings.yes("chase_referrals", false)? {
            return Err(Mistake::of("chase_referrals", "referrals to other servers are not followed here; write `no'"));
        }
        let servers = servers(settings)?;
        let base =
            Template::parse(settings.text("search_base", "")).map_err(|what| Mistake::of("search_base", what))?;
        let starts_tls = settings.yes("start_tls", false)?;
        let small = |name, default| -> Result<u32, Mistake> {
            let number = settings.number(name, default)?;
            u32::try_from(number).map_err(|_| Mistake::of(name, format!("{number} is too large")))
        };
        let secure =
            starts_tls || servers.iter().any(|server| !matches!(server.endpoint, Endpoint::Tcp(..)) || server.tls);
        let directory = Directory {
            login: login(settings)?,
            version: match small("version", 3)? {
                2 if !secure => 2,
                2 | 3 => 3,
                other => return Err(Mistake::of("version", format!("the protocol has no version {other}"))),
            },
            at_once: servers.iter().filter(|server| server.tls).map(|server| server.endpoint.clone()).collect(),
            starts_tls,
            trust: trust(settings)?,
            timeout: Duration::from_secs(settings.number("timeout", 10)?.clamp(1, PATIENCE.as_secs())),
            scope: Scope::parse(settings.text("scope", "sub"))
                .ok_or_else(|| Mistake::of("scope", "write sub, one or base"))?,
            dereference: Some(small("dereference", 0)?)
                .filter(|when| *when <= 3)
                .ok_or_else(|| Mistake::of("dereference", "write 0, 1, 2 or 3"))?,
            size_limit: small("size_limit", settings.number("expansion_limit", 0)?)?,
            recursion_limit: Some(settings.number("recursion_limit", 1000)?)
                .filter(|limit| *limit > 0)
                .ok_or_else(|| Mistake::of("recursion_limit", "it must be positive"))?,
            base_varies: base.asks_for_the_key(),
            attributes: Attributes::new(settings),
        };
        let endpoints = servers.into_iter().map(|server| server.endpoint).collect();
        Ok(Self { pool: Pool::in_order(directory, endpoints, PATIENCE), base })
    }

    /// The plan of an LDAP table: its filter and what becomes of values.
    pub(crate) fn plan(settings: &Settings) -> Result<Plan, Mistake> {
        let query = settings.text("query_filter", "(mailacceptinggeneralid=%s)");
        let format = if settings.get("result_format").is_some() { "result_format" } else { "result_filter" };
        let plan = Plan::new(("query_filter", query), (format, settings.text(format, "%s")), settings)?;
        // With some key in its place, what is wrong with a filter shows before anybody asks.
        if let Some(sample) = plan.query.query("user@a.b.c.d.e.f.g.h.i", &filter::quoted) {
            filter::encode(&sample).map_err(|what| Mistake::of("query_filter", what))?;
        }
        Ok(plan)
    }

    pub(crate) async fn ask(&self, plan: &Plan, key: &str) -> Result<Values, String> {
        let (base, filter) = (self.base.query(key, &distinguished), plan.query.query(key, &filter::quoted));
        let (Some(base), Some(filter)) = (base, filter) else { return Ok(Values::new()) };
        self.pool.ask(&Question { base, filter: filter::encode(&filter)? }).await
    }

    pub(crate) async fn reach(&self, patience: Duration) -> Vec<String> {
        self.pool.reach(patience).await
    }
}

fn servers(settings: &Settings) -> Result<Vec<url::Server>, Mistake> {
    let wrong = |what: String| Mistake::of("server_host", what);
    let port = settings.number("server_port", 389)?;
    let port = u16::try_from(port).map_err(|_| Mistake::of("server_port", format!("{port} is no port")))?;
    let mut words = settings.words("server_host");
    if words.is_empty() {
        words.push("localhost".to_owned());
    }
    words.iter().map(|word| url::server(word, port).map_err(wrong)).collect()
}

fn login(settings: &Settings) -> Result<Option<(String, String)>, Mistake> {
    match settings.text("bind", "yes").to_ascii_lowercase().as_str() {
        "yes" | "simple" => {
            Ok(Some((settings.text("bind_dn", "").to_owned(), settings.text("bind_pw", "").to_owned())))
        }
        "no" | "none" => Ok(None),
        "sasl" => Err(Mistake::of("bind", "`sasl' is not built; write `yes' or `no'")),
        other => Err(Mistake::of("bind", format!("write yes or no, not `{other}'"))),
    }
}

fn trust(settings: &Settings) -> Result<Trust, Mistake> {
    match (settings.yes("tls_require_cert", false)?, settings.get("tls_ca_cert_file")) {
        (false, _) => Ok(Trust::Required),
        (true, Some(file)) => Ok(Trust::Verified { authorities: file.to_owned() }),
        (true, None) => Err(Mistake::of("tls_require_cert", "it needs tls_ca_cert_file")),
    }
}

/// Writes what of a key stands for itself in a distinguished name (RFC 4514 section 2.4).
fn distinguished(key: &str) -> String {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'@');
    let written = |octet: u8| if plain(octet) { char::from(octet).to_string() } else { format!("\\{octet:02X}") };
    key.bytes().map(written).collect()
}

impl Protocol for Directory {
    type Line = Line;
    type Question = Question;
    type Answer = Values;

    async fn connect(&self, to: &Endpoint) -> Result<Line, Failure> {
        let connected = tokio::time::timeout(self.timeout, self.log_in(to)).await;
        connected.unwrap_or_else(|_| Err(self.silence()))
    }

    async fn ask(&self, line: &mut Line, question: &Question) -> Result<Values, Failure> {
        let mut values = Values::new();
        let mut octets = 0;
        let first = Work::Search {
            base: question.base.clone(),
            scope: self.scope,
            filter: question.filter.clone(),
            attributes: self.attributes.all(),
            depth: 1,
        };
        // What an entry names stands where the entry stands. A list and no recursion: the directory decides how deep it goes.
        let mut waiting = vec![first];
        while let Some(work) = waiting.pop() {
            match work {
                Work::Value(value) => values.push(Some(value)),
                Work::Search { base, scope, filter, attributes, depth } => {
                    let request = message::Search {
                        base: &base,
                        scope,
                        dereference: self.dereference,
                        size_limit: self.size_limit,
                        time_limit: u32::try_from(self.timeout.as_secs()).unwrap_or(0),
                        filter: &filter,
                        attributes: &attributes,
                    };
                    for entry in self.search(line, &request, &mut octets, depth).await?.into_iter().rev() {
                        let mut found =
                            self.attributes.work(entry, depth, self.recursion_limit).map_err(Failure::Refused)?;
                        found.reverse();
                        waiting.extend(found);
                    }
                }
            }
        }
        Ok(values)
    }
}

impl Directory {
    async fn log_in(&self, to: &Endpoint) -> Result<Line, Failure> {
        let host = match to {
            Endpoint::Tcp(host, _) => host.as_str(),
            Endpoint::Unix(_) => "localhost",
        };
        let mut line = Line { connection: to.connect().await?, last: 0 };
        if self.at_once.contains(to) {
            line.connection = self.trust.handshake(line.connection, host).await?;
        } else if self.starts_tls {
            let id = line.next_id();
            line.connection.send(&message::start_tls(id)).await?;
            line.done(id).await?.map_err(|outcome| Failure::Broken(format!("no TLS: {outcome}")))?;
            line.connection = self.trust.handshake(line.connection, host).await?;
        }
        if let Some((name, password)) = &self.login {
            let id = line.next_id();
            line.connection.send(&message::bind(id, self.version, name, password)).await?;
            let as_whom = if name.is_empty() { "nobody" } else { name };
            let refused = |outcome| Failure::Broken(format!("the login as {as_whom} failed: {outcome}"));
            line.done(id).await?.map_err(refused)?;
        }
        Ok(line)
    }

    /// The entries that a search finds.
    async fn search(
        &self,
        line: &mut Line,
        request: &message::Search<'_>,
        octets: &mut usize,
        depth: u64,
    ) -> Result<Vec<Vec<message::Attribute>>, Failure> {
        let found = tokio::time::timeout(self.timeout, line.search(request, octets)).await;
        let (entries, outcome) = found.unwrap_or_else(|_| Err(self.silence()))?;
        // An entry that is named and not there has nothing to give; of the table's own base that is known only if it depends on the key.
        if outcome.code == NO_SUCH_OBJECT && (depth > 1 || self.base_varies) {
            return Ok(Vec::new());
        }
        let busy = matches!(outcome.code, 51 | 52);
        if !outcome.is_success() {
            let text = format!("the search in `{}' failed: {outcome}", request.base);
            return Err(if busy { Failure::Broken(text) } else { Failure::Refused(text) });
        }
        if self.size_limit > 0 && entries.len() as u64 > u64::from(self.size_limit) {
            return Err(Failure::Refused(format!("more than {} entries (size_limit)", self.size_limit)));
        }
        Ok(entries)
    }

    fn silence(&self) -> Failure {
        Failure::Broken(format!("no answer within {} seconds (timeout)", self.timeout.as_secs()))
    }
}

impl Line {
    fn next_id(&mut self) -> u32 {
        self.last = self.last % 0x7fff_ffff + 1;
        self.last
    }

    async fn response(&mut self, id: u32) -> Result<Response, Failure> {
        let (of, response) = self.connection.read(message::MESSAGE_MAX + 20, message::message).await?;
        match response {
            // RFC 4511 section 4.4.1: it ends the connection.
            Response::Done(outcome) if of == 0 => Err(Failure::Broken(format!("the server hangs up: {outcome}"))),
            response if of == id => Ok(response),
            _ => Err(Failure::Broken("the server answers what nobody asked".to_owned())),
        }
    }

    /// How a request ended that finds nothing.
    async fn done(&mut self, id: u32) -> Result<Result<(), Outcome>, Failure> {
        match self.response(id).await? {
            Response::Done(outcome) => Ok(if outcome.is_success() { Ok(()) } else { Err(outcome) }),
            _ => Err(Failure::Broken("the server answers what nobody asked".to_owned())),
        }
    }

    async fn search(
        &mut self,
        request: &message::Search<'_>,
        octets: &mut usize,
    ) -> Result<(Vec<Vec<message::Attribute>>, Outcome), Failure> {
        let id = self.next_id();
        self.connection.send(&message::search(id, request)).await?;
        let mut entries = Vec::new();
        loop {
            match self.response(id).await? {
                Response::Entry(entry) => {
                    *octets += size(&entry);
                    if *octets > OCTETS_MAX {
                        return Err(Failure::Broken(format!("the answer is longer than {OCTETS_MAX} octets")));
                    }
                    entries.push(entry);
                }
                // As in Postfix, what other servers know is not asked for.
                Response::Reference => {}
                Response::Done(outcome) => return Ok((entries, outcome)),
            }
        }
    }
}

/// How much an entry counts: its texts, and one for each, so that empty ones are not for nothing.
fn size(entry: &[message::Attribute]) -> usize {
    let of =
        |(name, values): &message::Attribute| name.len() + values.iter().map(|value| value.len() + 1).sum::<usize>();
    1 + entry.iter().map(of).sum::<usize>()
}

/// Reads the first message of what a server sent; how many octets it took.
///
/// # Errors
/// It is no message of the protocol, or too long.
pub fn decode(octets: &[u8]) -> Result<Option<usize>, String> {
    Ok(message::message(octets)?.map(|(_, used)| used))
}

/// Reads a filter as text; its octets on the wire.
///
/// # Errors
/// It is none.
pub fn encode_filter(text: &str) -> Result<Vec<u8>, String> {
    filter::encode(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_of_a_key_means_something_in_a_name_is_escaped() {
        assert_eq!(distinguished("o'neil, x=y+\u{e9}@a-b.org"), "o\\27neil\\2C\\20x\\3Dy\\2B\\C3\\A9@a-b.org");
    }

    #[test]
    fn empty_values_count_too() {
        let entry = vec![("mail".to_owned(), vec![String::new(), "a".to_owned()]), (String::new(), Vec::new())];
        assert_eq!((size(&entry), size(&[])), (4 + 1 + 2 + 1, 1));
    }

    #[test]
    fn settings_that_are_wrong_or_not_built_are_refused_by_their_name() {
        let made = |text: &str| {
            let settings = Settings::of_text(text);
            Ldap::plan(&settings).and_then(|_| Ldap::new(&settings)).map(drop).map_err(|wrong| wrong.parameter)
        };
        let good = "server_host = ldap://a ldaps://b:1636, ldapi://%2Frun%2Fx c:390\nsearch_base = dc=x\nversion = 2\nbind = None\n";
        assert_eq!(made(good), Ok(()));
        assert_eq!(made(""), Ok(()), "everything has a default");
        for (line, parameter) in [
            ("server_host = ldap://x:y", "server_host"),
            ("server_port = 70000", "server_port"),
            ("bind = sasl", "bind"),
            ("scope = tree", "scope"),
            ("query_filter = (mail=%s", "query_filter"),
            ("query_filter = (mail=%x)", "query_filter"),
            ("search_base = %", "search_base"),
            ("result_filter = %y", "result_filter"),
            ("chase_referrals = yes", "chase_referrals"),
            ("start_tls = maybe", "start_tls"),
            ("tls_require_cert = yes", "tls_require_cert"),
            ("tls_cert = /x", "tls_cert"),
            ("timeout = soon", "timeout"),
            ("dereference = 4", "dereference"),
            ("recursion_limit = 0", "recursion_limit"),
            ("version = 4", "version"),
        ] {
            assert_eq!(made(line), Err(Some(parameter.to_owned())), "{line}");
        }
    }
}
