//! Every table that a server answers, opened when it is asked first.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use mail_config::{Level, Main, Report, nearest};
use mail_tables::lists::{Match, match_domain};
use mail_tables::{Answer, Disk, Files, Query, RemoteAnswer as Said, Scope, Stamp, TableKind, TableRef, TableSet};
use mail_types::SourceLine;

use crate::RemoteAnswer;
use crate::ldap::{self, Ldap};
use crate::memcache::{self, Memcache};
use crate::mysql::{self, Mysql};
use crate::pgsql::{self, Pgsql};
use crate::settings::{Mistake, Settings};
use crate::socketmap::Socketmap;
use crate::sql::{self, Plan, Question, Values};
use crate::sqlite::{self, Sqlite};
use crate::tcp::Tcp;

/// How often the file that describes a table is looked at.
const LOOKED_AT: Duration = Duration::from_secs(1);
/// How deep tables may lead to tables (`domain`, `backup`).
const DEPTH_MAX: u32 = 4;
/// Tables that one table may ask about one key.
const QUESTIONS_MAX: usize = 10;
/// How long [`Clients::reach`] waits for each server.
const TRIED: Duration = Duration::from_secs(3);
/// What a mistake in a description means.
const BROKEN: &str = "lookups fail temporarily until it is mended";

/// The clients of a process.
pub struct Clients {
    main: Arc<Main>,
    files: Arc<dyn Files>,
    open: Mutex<HashMap<TableRef, Arc<Client>>>,
}

/// One table.
struct Client {
    server: Server,
    /// Only these domains are asked for.
    plan: Option<Arc<Plan>>,
    /// The table behind a cache.
    backup: Option<TableRef>,
    /// The tables that `domain` and `backup` name and that files hold.
    tables: TableSet,
    file: Option<PathBuf>,
    stamp: Option<Stamp>,
    looked: Mutex<Instant>,
}

enum Server {
    Socketmap(Socketmap),
    Tcp(Tcp),
    Sqlite(Sqlite),
    Pgsql(Pgsql),
    Mysql(Mysql),
    Ldap(Ldap),
    Memcache(Memcache),
}

type Asking<'a> = Pin<Box<dyn Future<Output = RemoteAnswer> + Send + 'a>>;

impl Clients {
    /// Clients for a configuration. `files` reads what describes the tables.
    #[must_use]
    pub fn new(main: Arc<Main>, files: Arc<dyn Files>) -> Self {
        Self { main, files, open: Mutex::default() }
    }

    /// Asks a table for a key.
    pub async fn ask(&self, table: &TableRef, key: &str) -> RemoteAnswer {
        self.ask_within(table, key, 0).await
    }

    /// What is wrong with the description of a table, with its lines; nothing is asked.
    #[must_use]
    pub fn check(&self, table: &TableRef) -> Vec<Report> {
        let settings = match self.settings(table) {
            Ok(settings) => settings,
            Err(why) => return vec![about(table, None, why.to_string(), BROKEN)],
        };
        let mut reports = remarks(table, &settings);
        if let Err(mistake) = self.describe(table) {
            let source = mistake.parameter.as_deref().and_then(|parameter| settings.source(parameter));
            reports.push(about(table, source, mistake.to_string(), BROKEN));
        }
        reports
    }

    /// Tries the servers of a table: what is wrong with each that does not answer.
    pub async fn reach(&self, table: &TableRef) -> Vec<String> {
        let Ok(client) = self.client(table) else { return Vec::new() };
        match &client.server {
            Server::Socketmap(map) => map.reach(TRIED).await,
            Server::Tcp(map) => map.reach(TRIED).await,
            Server::Sqlite(database) => database.reach().into_iter().collect(),
            Server::Pgsql(servers) => servers.reach(TRIED).await,
            Server::Mysql(servers) => servers.reach(TRIED).await,
            Server::Ldap(servers) => servers.reach(TRIED).await,
            Server::Memcache(cache) => cache.reach(TRIED).await,
        }
    }

    fn ask_within<'a>(&'a self, table: &'a TableRef, key: &'a str, depth: u32) -> Asking<'a> {
        Box::pin(async move {
            let answer = match self.client(table) {
                Ok(client) if depth < DEPTH_MAX => self.put(&client, key, depth).await,
                Ok(_) => RemoteAnswer::Temporary("tables lead to tables in a circle".to_owned()),
                Err(why) => RemoteAnswer::Temporary(why.to_string()),
            };
            match answer {
                RemoteAnswer::Temporary(why) => RemoteAnswer::Temporary(format!("{table}: {why}")),
                other => other,
            }
        })
    }

    async fn put(&self, client: &Client, key: &str, depth: u32) -> RemoteAnswer {
        if let Some(plan) = &client.plan {
            match self.is_wanted(client, plan, key, depth).await {
                Ok(true) => {}
                Ok(false) => return RemoteAnswer::NotFound,
                Err(why) => return RemoteAnswer::Temporary(why),
            }
        }
        let question = |plan: &Arc<Plan>| Question { plan: Arc::clone(plan), key: key.to_owned() };
        let values = match (&client.server, &client.plan) {
            (Server::Socketmap(map), _) => return map.ask(key).await,
            (Server::Tcp(map), _) => return map.ask(key).await,
            (Server::Memcache(cache), _) => return self.cached(client, cache, key, depth).await,
            (Server::Sqlite(database), Some(plan)) => match plan.query.query(key, &Sqlite::quote) {
                Some(query) => database.ask(query).await,
                None => Ok(Values::new()),
            },
            (Server::Pgsql(servers), Some(plan)) => servers.ask(&question(plan)).await,
            (Server::Mysql(servers), Some(plan)) => servers.ask(&question(plan)).await,
            (Server::Ldap(servers), Some(plan)) => servers.ask(plan, key).await,
            (_, None) => Err("it has no query".to_owned()),
        };
        match (values, &client.plan) {
            (Ok(values), Some(plan)) => plan.answer(key, &values),
            (Ok(_), None) => RemoteAnswer::NotFound,
            (Err(why), _) => RemoteAnswer::Temporary(why),
        }
    }

    /// Whether a key is one that the table is asked for: an address in one of its domains, if it names any.
    async fn is_wanted(&self, client: &Client, plan: &Plan, key: &str, depth: u32) -> Result<bool, String> {
        if key.is_empty() || key.contains('\0') {
            return Ok(false);
        }
        let Some(domains) = &plan.domains else { return Ok(true) };
        let Some((user, domain)) = key.rsplit_once('@') else { return Ok(false) };
        if user.is_empty() || domain.is_empty() {
            return Ok(false);
        }
        let mut answers = HashMap::new();
        for _ in 0..QUESTIONS_MAX {
            match match_domain(domains, domain, false, &client.tables.snapshot(), &answers) {
                Match::Decided { is_in, .. } => return Ok(is_in),
                Match::No => return Ok(false),
                Match::Temporary(why) => return Err(why),
                Match::Missing(query) => self.fetch(query, &mut answers, depth).await,
            }
        }
        Err("too many lookups for `domain'".to_owned())
    }

    /// A cache first, then the table behind it, whose value the cache is told.
    async fn cached(&self, client: &Client, cache: &Memcache, key: &str, depth: u32) -> RemoteAnswer {
        let Some(own_key) = cache.key(key) else { return RemoteAnswer::NotFound };
        let failure = match cache.get(&own_key).await {
            Ok(Some(value)) => return RemoteAnswer::Found(value),
            Ok(None) => None,
            Err(why) => Some(why),
        };
        let Some(backup) = &client.backup else {
            return failure.map_or(RemoteAnswer::NotFound, RemoteAnswer::Temporary);
        };
        let mut answers = HashMap::new();
        for _ in 0..QUESTIONS_MAX {
            match client.tables.snapshot().get(backup, key, Scope::Full, &answers) {
                Answer::NotFound => return RemoteAnswer::NotFound,
                Answer::Temporary(why) => return RemoteAnswer::Temporary(why),
                Answer::Missing(query) => self.fetch(query, &mut answers, depth).await,
                Answer::Found(found) => {
                    if failure.is_none() {
                        cache.set(&own_key, &found.value).await;
                    }
                    return RemoteAnswer::Found(found.value);
                }
            }
        }
        RemoteAnswer::Temporary("too many lookups for `backup'".to_owned())
    }

    async fn fetch(&self, query: Query, answers: &mut HashMap<Query, Said>, depth: u32) {
        let answer = self.ask_within(&query.table, &query.key, depth + 1).await;
        answers.insert(query, answer);
    }

    /// The client of a table, opened anew when the file that describes it has changed.
    fn client(&self, table: &TableRef) -> Result<Arc<Client>, Mistake> {
        let known = self.open().get(table).cloned();
        if let Some(client) = known.filter(|client| !client.is_outdated(self.files.as_ref())) {
            return Ok(client);
        }
        let client = Arc::new(self.describe(table)?);
        self.open().insert(table.clone(), Arc::clone(&client));
        Ok(client)
    }

    fn describe(&self, table: &TableRef) -> Result<Client, Mistake> {
        let file = table.client_file();
        let stamp = file.as_ref().and_then(|file| self.files.stamp(file).ok());
        let settings = self.settings(table)?;
        let planned = || Plan::sql(&settings).map(|plan| Some(Arc::new(plan)));
        let (server, plan) = match table.kind {
            TableKind::Socketmap => (Server::Socketmap(Socketmap::new(&table.name)?), None),
            TableKind::Tcp => (Server::Tcp(Tcp::new(&table.name)?), None),
            TableKind::Sqlite => (Server::Sqlite(Sqlite::new(&settings)?), planned()?),
            TableKind::Pgsql => (Server::Pgsql(Pgsql::new(&settings)?), planned()?),
            TableKind::Mysql => (Server::Mysql(Mysql::new(&settings)?), planned()?),
            TableKind::Ldap => (Server::Ldap(Ldap::new(&settings)?), Some(Arc::new(Ldap::plan(&settings)?))),
            TableKind::Memcache => {
                let plan = Plan::new(("", "%s"), ("", "%s"), &settings)?;
                (Server::Memcache(Memcache::new(&settings)?), Some(Arc::new(plan)))
            }
            _ => return Err("this type of table is not built".into()),
        };
        let backup = settings.get("backup").map(mail_tables::parse_table).transpose();
        let backup = backup.map_err(|what| Mistake::of("backup", what))?.flatten();
        let domains = plan.iter().flat_map(|plan| plan.domains.iter().flatten());
        let named = domains.filter_map(|item| match &item.pattern {
            mail_config::main_cf::lists::Pattern::Table(table) => Some(table.clone()),
            mail_config::main_cf::lists::Pattern::Literal(_) => None,
        });
        let tables: Vec<_> =
            named.chain(backup.clone()).flat_map(|table| table.with_parts()).map(|t| (t, true)).collect();
        let (tables, _) = TableSet::of(&tables, &[], Box::new(Disk));
        Ok(Client { server, plan, backup, tables, file, stamp, looked: Mutex::new(Instant::now()) })
    }

    fn settings(&self, table: &TableRef) -> Result<Settings, Mistake> {
        let names = parameters(table.kind);
        if names.is_empty() {
            return Ok(Settings::default());
        }
        let Some(file) = table.client_file() else { return Ok(Settings::of_main(&self.main, &table.name, &names)) };
        let octets = self.files.read(&file).map_err(|error| error.to_string())?;
        Ok(Settings::of_file(&table.name, &String::from_utf8_lossy(&octets)))
    }

    fn open(&self) -> MutexGuard<'_, HashMap<TableRef, Arc<Client>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Whether the file that describes the table is another one than was read. Looks about once a second, also at the tables it names.
    fn is_outdated(&self, files: &dyn Files) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.elapsed() < LOOKED_AT {
            return false;
        }
        *looked = Instant::now();
        self.tables.check(SystemTime::now());
        // While it cannot be read the old one serves.
        let now = self.file.as_ref().and_then(|file| files.stamp(file).ok());
        now.is_some() && now != self.stamp
    }
}

/// The parameters of a type of table; none for one that has no file.
fn parameters(kind: TableKind) -> Vec<&'static str> {
    let with_sql = |own: &[&'static str]| [own, &sql::PARAMETERS].concat();
    match kind {
        TableKind::Sqlite => with_sql(&sqlite::PARAMETERS),
        TableKind::Pgsql => with_sql(&pgsql::PARAMETERS),
        TableKind::Mysql => with_sql(&mysql::PARAMETERS),
        TableKind::Ldap => ldap::PARAMETERS.to_vec(),
        TableKind::Memcache => memcache::PARAMETERS.to_vec(),
        _ => Vec::new(),
    }
}

/// What of a file is passed over, as Postfix does without a word.
fn remarks(table: &TableRef, settings: &Settings) -> Vec<Report> {
    let known = parameters(table.kind);
    let unknown = settings.names().into_iter().filter(|name| !known.contains(name)).map(|name| {
        let hint = nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}'?"));
        let message = format!("unknown parameter `{name}'");
        about(table, settings.source(name), message, &hint.unwrap_or_else(|| "it is ignored".to_owned()))
    });
    let idle = settings.idle_lines().iter().map(|line| {
        let source = SourceLine::new(table.name.as_str(), *line);
        about(table, Some(&source), "no `name = value'".to_owned(), "the line is ignored")
    });
    unknown.chain(idle).collect()
}

/// A report about a table, at a line of what describes it if one is to blame.
fn about(table: &TableRef, source: Option<&SourceLine>, message: String, hint: &str) -> Report {
    let source = source.cloned().unwrap_or_else(|| SourceLine::new(table.name.as_str(), 0));
    Report::new(Level::Warning, source, message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: TableKind, text: &str) -> Vec<(u32, String)> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("client.cf");
        std::fs::write(&file, text).expect("writable");
        std::fs::write(directory.path().join("main.cf"), "").expect("writable");
        let (config, _) = mail_config::Config::examine(directory.path(), None).expect("a configuration");
        let clients = Clients::new(Arc::clone(&config.main), Arc::new(Disk));
        let table = TableRef { kind, name: file.display().to_string(), proxy: false };
        clients.check(&table).into_iter().map(|report| (report.source.line, report.message)).collect()
    }

    #[test]
    fn a_mistake_is_reported_at_its_line() {
        for (kind, text, wanted) in [
            (TableKind::Mysql, "user = u\npassword = p\ndbname = d\nquery = SELECT '%s'\n", &[] as &[u32]),
            (TableKind::Mysql, "query = SELECT '%s'\ntls_verify_cert = yes\n", &[2]),
            (TableKind::Pgsql, "user = u\n\nresult_format = %x\nquery = x\nhost = x\n", &[5, 3]),
            (TableKind::Sqlite, "query = x\nnothing\n", &[2, 0]),
            (TableKind::Memcache, "memcache = inet:localhost\nttl = long\n", &[2]),
            (TableKind::Memcache, "backup = hsh:/etc/x\n", &[1]),
            (TableKind::Ldap, "server_host = ldap://x\nscope = all\nserch_base = dc=x\n", &[3, 2]),
        ] {
            let lines: Vec<u32> = check(kind, text).into_iter().map(|(line, _)| line).collect();
            assert_eq!(lines, wanted, "{text}");
        }
        let said = check(TableKind::Ldap, "query_filtr = x\n");
        assert_eq!(said, [(1, "unknown parameter `query_filtr'".to_owned())]);
    }
}
