//! A real PostgreSQL answers `pgsql:` tables: each kind of login, quoting, servers that are down.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use test_support::clients::{Security, Smtp};
use test_support::{Builder, Patience, System, wait_for};

/// PostgreSQL does not run as root.
const NOBODY: u32 = 65534;

/// Where a distribution keeps the servers.
pub const PROGRAMS: &str = "/usr/lib/postgresql";

/// A server of its own; it ends when it is dropped.
struct Postgres {
    directory: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
}

impl Postgres {
    fn start() -> Result<Self, String> {
        let wrong = |error: std::io::Error| error.to_string();
        let mut versions: Vec<PathBuf> =
            fs::read_dir(PROGRAMS).map_err(wrong)?.flatten().map(|entry| entry.path()).collect();
        versions.sort();
        let programs = versions.pop().ok_or("no version of PostgreSQL")?.join("bin");
        let directory = tempfile::tempdir().map_err(wrong)?;
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).map_err(wrong)?;
        }
        let port = test_support::free_port(Ipv4Addr::LOCALHOST).map_err(wrong)?;
        let server = Self { directory, programs, port };
        server
            .run("initdb", &["-D", "data", "-U", "owner", "--auth=trust", "-E", "UTF8", "--no-sync", "--no-locale"])?;
        let rules =
            "local all owner trust\nhost all md5user 127.0.0.1/32 md5\nhost all scramuser 127.0.0.1/32 scram-sha-256\n";
        fs::write(server.data().join("pg_hba.conf"), rules).map_err(wrong)?;
        let root = server.directory.path().display();
        let options =
            format!("-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={root} -c fsync=off");
        server.run("pg_ctl", &["-D", "data", "-w", "-l", "log", "-o", &options, "start"])?;
        Ok(server)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.current_dir(self.directory.path()).env("PGCTLTIMEOUT", "180").stdout(Stdio::null());
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), String> {
        let status = self.command(&self.programs.join(program)).args(arguments).status();
        let status = status.map_err(|error| format!("{program}: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("{program}: {status}")) }
    }

    fn sql(&self, statements: &str) -> Result<(), String> {
        let (root, port) = (self.directory.path().display().to_string(), self.port.to_string());
        self.run("psql", &["-q", "-h", &root, "-p", &port, "-U", "owner", "-d", "postgres", "-c", statements])
    }

    fn stop(&self) -> Result<(), String> {
        self.run("pg_ctl", &["-D", "data", "-m", "immediate", "-w", "stop"])
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It may have been stopped already.
        let _ = self.stop();
    }
}

fn value(system: &System, table: &str, key: &str) -> Result<Option<String>, String> {
    let output = system.tool(&["postmap", "-q", key, table], b"").map_err(|error| error.to_string())?;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match (output.status.success(), complained.is_empty()) {
        (true, _) => Ok(Some(said.trim_end().to_owned())),
        (false, true) => Ok(None),
        (false, false) => Err(complained.into_owned()),
    }
}

pub fn answers_our_tables() -> Result<(), String> {
    let server = Postgres::start()?;
    server.sql(
        "SET password_encryption = 'md5'; CREATE ROLE md5user LOGIN PASSWORD 'one'; \
         SET password_encryption = 'scram-sha-256'; CREATE ROLE scramuser LOGIN PASSWORD 'two words'; \
         CREATE TABLE aliases (name text, target text); GRANT SELECT ON aliases TO md5user, scramuser; \
         INSERT INTO aliases VALUES ('staff@list.example', 'john@a.example'), ('staff@list.example', 'mary@a.example'), \
         ('o''neil\\@list.example', 'quoted'), ('null@list.example', NULL);",
    )?;
    let (root, port) = (server.directory.path().display().to_string(), server.port);
    let query = "query = SELECT target FROM aliases WHERE name = '%s' ORDER BY target\n";
    let file = |hosts: &str, user: &str, password: &str| {
        format!("hosts = {hosts}\nuser = {user}\npassword = {password}\ndbname = postgres\n{query}")
    };
    let lines = "virtual_alias_domains = list.example\nvirtual_alias_maps = pgsql:{root}/etc/scram.cf\n";
    let system = Builder::new("a.example")
        .main_cf(lines)
        .file("unix.cf", &file(&format!("unix:{root}/.s.PGSQL.{port}"), "owner", ""))
        .file("md5.cf", &file(&format!("127.0.0.1:{port}"), "md5user", "one"))
        .file("scram.cf", &file(&format!("inet:127.0.0.1:{port}"), "scramuser", "two words"))
        .file("wrong.cf", &file(&format!("127.0.0.1:{port}"), "scramuser", "wrong"))
        .file("one.cf", &(file(&format!("127.0.0.1:{port}"), "md5user", "one") + "expansion_limit = 1\n"))
        .start()?;
    let of = |name: &str, key: &str| value(&system, &format!("pgsql:{}/{name}.cf", system.etc().display()), key);
    for name in ["unix", "md5", "scram"] {
        let both = Some("john@a.example,mary@a.example".to_owned());
        for (key, wanted) in [
            ("staff@list.example", both),
            ("o'neil\\@list.example", Some("quoted".to_owned())),
            ("null@list.example", None),
            ("' OR 'a' = 'a", None),
        ] {
            let said = of(name, key)?;
            if said != wanted {
                return Err(format!("{name}: {key}: {said:?}, not {wanted:?}"));
            }
        }
    }
    for (name, wanted) in [("wrong", "password authentication failed"), ("one", "expansion_limit")] {
        match of(name, "staff@list.example") {
            Err(said) if said.contains(wanted) => {}
            other => return Err(format!("{name}: {other:?}")),
        }
    }
    system.run(&["sendmail", "-f", "x@a.example", "staff@list.example"], "Subject: to both\n\nhello\n")?;
    for user in ["john", "mary"] {
        system.wait_for_messages(user, 1).map_err(|error| format!("{error}\n{}", system.logs()))?;
    }
    server.stop()?;
    let wrong = |error: std::io::Error| error.to_string();
    let mut smtp = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).map_err(wrong)?;
    smtp.command("MAIL FROM:<x@elsewhere.example>", 2).map_err(wrong)?;
    let said = smtp.command("RCPT TO:<staff@list.example>", 4).map_err(wrong)?;
    if !said.starts_with("451 4.3.0") {
        return Err(format!("without the server: {said}"));
    }
    wait_for("the reason in the log", Patience::default(), || system.log("authd").contains("scram.cf").then_some(()))
        .map_err(|error| format!("{error}\n{}", system.logs()))
}
