//! A real MariaDB answers `mysql:` tables. `TABLE_ROUNDS` says how many generated tables there are.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::tables::{Dice, Place, enough, key, keys, rounds};

use super::{NOBODY, Server, compare_each, side_by_side};

struct Database {
    place: Place,
    /// Where the server may write.
    data: tempfile::TempDir,
    server: Option<Server>,
    port: u16,
}

impl Database {
    fn start() -> Result<Self, String> {
        let wrong = |error: std::io::Error| error.to_string();
        let place = Place::new()?;
        let data = tempfile::tempdir().map_err(wrong)?;
        let made = mail_net::tls::self_signed("localhost").map_err(|error| error.to_string())?;
        for (name, text) in [("cert.pem", &made.certificate), ("key.pem", &made.key), ("init.sql", &statements())] {
            fs::write(data.path().join(name), text).map_err(wrong)?;
        }
        place.write("cert.pem", &made.certificate)?;
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(data.path(), Some(NOBODY), Some(NOBODY)).map_err(wrong)?;
        }
        let port = test_support::free_port(Ipv4Addr::LOCALHOST).map_err(wrong)?;
        let mut database = Self { place, data, server: None, port };
        let directory = database.directory();
        let made = database
            .command("mariadb-install-db")
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ])
            .args([format!("--datadir={directory}/db"), "--innodb-flush-log-at-trx-commit=0".to_owned()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(wrong)?;
        if !made.success() {
            return Err(format!("mariadb-install-db: {made}"));
        }
        let mut server = Server::start(
            database
                .command("/usr/sbin/mariadbd")
                .args([
                    "--no-defaults",
                    "--skip-name-resolve",
                    "--bind-address=127.0.0.1",
                    "--innodb-flush-log-at-trx-commit=0",
                ])
                .args([
                    format!("--datadir={directory}/db"),
                    format!("--socket={directory}/socket"),
                    format!("--port={port}"),
                ])
                .args([format!("--init-file={directory}/init.sql"), format!("--pid-file={directory}/pid")])
                .args([format!("--ssl-cert={directory}/cert.pem"), format!("--ssl-key={directory}/key.pem")]),
        )?;
        server.wait_for_port(port)?;
        database.server = Some(server);
        Ok(database)
    }

    fn directory(&self) -> String {
        self.data.path().display().to_string()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.current_dir(self.data.path());
        command
    }

    fn table(&self, lines: &str) -> Result<(String, String), String> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("table{}.cf", NUMBER.fetch_add(1, Ordering::Relaxed));
        let lines = lines
            .replace("@PORT@", &self.port.to_string())
            .replace("@SOCKET@", &format!("{}/socket", self.directory()))
            .replace("@ROOT@", &self.place.root().display().to_string());
        self.place.write(&name, &lines)?;
        Ok((format!("mysql:{}/{name}", self.place.root().display()), lines))
    }
}

/// What the server does when it starts, one statement in each line.
fn statements() -> String {
    let mut out = String::from(
        "CREATE DATABASE mail CHARACTER SET utf8mb4;\nCREATE TABLE mail.t (k VARCHAR(200), v VARCHAR(200)) CHARACTER SET utf8mb4;\n\
         CREATE USER 'reader'@'%' IDENTIFIED BY 'two words';\nCREATE USER 'empty'@'%';\nCREATE USER 'private'@'%' IDENTIFIED BY 'p' REQUIRE SSL;\n\
         GRANT SELECT, EXECUTE ON mail.* TO 'reader'@'%', 'empty'@'%', 'private'@'%';\n\
         CREATE PROCEDURE mail.find (IN w VARCHAR(200)) SELECT v FROM mail.t WHERE k = w ORDER BY v;\n\
         CREATE PROCEDURE mail.nothing (IN w VARCHAR(200)) SET @x = w;\n",
    );
    let mut dice = Dice::new(0, "mysql");
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "''");
    for _ in 0..200 {
        let (key, value) = (quoted(&key(&mut dice).to_lowercase()), quoted(&key(&mut dice)));
        let value = match dice.below(20) {
            0 => "NULL".to_owned(),
            1 => "''".to_owned(),
            _ => format!("'{value}'"),
        };
        let _ = writeln!(out, "INSERT INTO mail.t VALUES ('{key}', {value});");
    }
    out
}

pub fn gives_the_same_values() -> Result<(), String> {
    let mut database = Database::start()?;
    let asked = queries(&database)? + logins(&database)?;
    database.server = None;
    let login = "hosts = inet:127.0.0.1:@PORT@\nuser = reader\npassword = two words\ndbname = mail\nquery = SELECT v FROM t WHERE k = '%s'\n";
    let (table, shown) = database.table(login)?;
    match compare_each(&database.place, &table, [&"john".to_owned()], &shown)? {
        (_, 1) => enough(asked),
        _ => Err("a server that is not there fails no lookup".to_owned()),
    }
}

fn queries(database: &Database) -> Result<usize, String> {
    let numbers: Vec<u64> = (0..rounds() * 2).collect();
    side_by_side(&numbers, |number| {
        let mut dice = Dice::new(*number, "queries");
        let queries = [
            "query = SELECT v FROM t WHERE k = '%s' ORDER BY v",
            "query = SELECT v FROM t WHERE k = '%u@%d' ORDER BY v",
            "query = SELECT v, k FROM t WHERE k LIKE '%u%%' ORDER BY v, k",
            "query = SELECT v FROM t WHERE k = '%S' OR k = '%2.%1' ORDER BY v",
            "query = SELECT '%1-%2-%3'",
            "query = SELECT 1 FROM t WHERE k = '%s' LIMIT 1",
            "query = CALL find('%s')",
            "select_field = v\ntable = t\nwhere_field = k\nadditional_conditions = ORDER BY v",
            "query = SELECT v FROM nosuch WHERE k = '%s'",
            "query = CALL nothing('%s')",
            "query = CALL nothing('%s')\nrequire_result_set = no",
        ];
        let formats = ["%s", "%s", "<%s>", "%u", "%d", "%S=%s", "%U/%D/%1"];
        let query = dice.of(&queries);
        let mut lines =
            format!("hosts = inet:127.0.0.1:@PORT@\nuser = reader\npassword = two words\ndbname = mail\n{query}\n");
        let _ = writeln!(lines, "result_format = {}", dice.of(&formats));
        if dice.chance(25) {
            let _ =
                writeln!(lines, "domain = {}", dice.of(&["example.org", "info.net, example.com", "!org, static:x"]));
        }
        let limited = dice.chance(15);
        if limited {
            let _ = writeln!(lines, "expansion_limit = {}", dice.below(3));
        }
        let (table, shown) = database.table(&lines)?;
        let keys = keys(&mut dice);
        match limited || query.contains("no") {
            true => Ok(compare_each(&database.place, &table, keys.iter().take(8), &shown)?.0),
            false => database.place.compare(&table, &keys, &shown),
        }
    })
}

fn logins(database: &Database) -> Result<usize, String> {
    let good = [
        "hosts = unix:@SOCKET@\nuser = reader\npassword = two words\n",
        "hosts = 127.0.0.1:1 127.0.0.1:@PORT@\nuser = empty\n",
        "hosts = 127.0.0.1:@PORT@\nuser = private\npassword = p\ntls_CAfile = @ROOT@/cert.pem\n",
    ];
    let bad = [
        "hosts = 127.0.0.1:@PORT@\nuser = reader\npassword = wrong\n",
        "hosts = 127.0.0.1:@PORT@\nuser = private\npassword = p\n",
        "hosts = 127.0.0.1:@PORT@\nuser = reader\npassword = two words\ndbname = nosuch\n",
    ];
    let keys = ["info", "john@example.org", "o'neil", "p=q@info.net"].map(str::to_owned);
    let cases = good.map(|lines| (lines, false)).into_iter().chain(bad.map(|lines| (lines, true)));
    side_by_side(&cases.collect::<Vec<_>>(), |(lines, fails)| {
        let name = if lines.contains("dbname") { "" } else { "dbname = mail\n" };
        let (table, shown) =
            database.table(&format!("{lines}{name}query = SELECT v FROM t WHERE k = '%s' ORDER BY v\n"))?;
        let keys = if *fails { &keys[..1] } else { &keys[..] };
        let (asked, failed) = compare_each(&database.place, &table, keys, &shown)?;
        if (failed > 0) == *fails { Ok(asked) } else { Err(format!("{failed} of {asked} lookups fail:\n{shown}")) }
    })
}
