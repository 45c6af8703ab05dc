//! A real memcached answers `memcache:` tables, with and without a table behind it.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::tables::{Dice, Place, enough, key, keys, rounds};

use super::{NOBODY, Server, compare_each_of};

/// Puts values into the cache, with and without a prefix of the key.
fn fill(port: u16) -> Result<(), String> {
    let wrong = |error: std::io::Error| error.to_string();
    let stream = TcpStream::connect(("127.0.0.1", port)).map_err(wrong)?;
    let (mut lines, mut sink) = (BufReader::new(stream.try_clone().map_err(wrong)?), stream);
    let mut dice = Dice::new(0, "memcache");
    for _ in 0..200 {
        let (key, value) = (key(&mut dice).to_lowercase(), key(&mut dice));
        let key = if dice.chance(50) { format!("v:{key}") } else { key };
        let value = match dice.below(20) {
            0 => String::new(),
            1 => "long ".repeat(100),
            _ => value,
        };
        write!(sink, "set {key} 0 0 {}\r\n{value}\r\n", value.len()).map_err(wrong)?;
        let mut said = String::new();
        lines.read_line(&mut said).map_err(wrong)?;
        if said != "STORED\r\n" {
            return Err(format!("memcached says: {said}"));
        }
    }
    Ok(())
}

/// A server with values; each program has its own, since both put what they find behind it into the cache.
fn start() -> Result<(Server, u16), String> {
    let port = test_support::free_port(Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
    let mut command = Command::new("memcached");
    command.args(["-l", "127.0.0.1", "-p", &port.to_string(), "-U", "0", "-m", "16", "-t", "1"]);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut server = Server::start(&mut command)?;
    server.wait_for_port(port)?;
    fill(port)?;
    Ok((server, port))
}

/// The same table for both programs, each with its server.
struct Tables<'a> {
    place: &'a Place,
    ports: (u16, u16),
}

impl Tables<'_> {
    fn write(&self, lines: &str) -> Result<(String, String), String> {
        let table = |name: &str, port: u16| {
            self.place.write(name, &format!("memcache = inet:127.0.0.1:{port}\ntimeout = 60\n{lines}"))?;
            Ok::<String, String>(format!("memcache:{}/{name}", self.place.root().display()))
        };
        Ok((table("theirs.cf", self.ports.0)?, table("ours.cf", self.ports.1)?))
    }

    fn compare_each(&self, lines: &str, keys: &[String]) -> Result<(usize, usize), String> {
        let (theirs, ours) = self.write(lines)?;
        compare_each_of(self.place, (&theirs, &ours), keys, lines)
    }
}

pub fn gives_the_same_values() -> Result<(), String> {
    let place = Place::new()?;
    let ((theirs, their_port), (ours, our_port)) = (start()?, start()?);
    let tables = Tables { place: &place, ports: (their_port, our_port) };
    let mut asked = 0;
    for round in 0..rounds() {
        let mut dice = Dice::new(round, "memcache");
        let lines = generated(&mut dice);
        let keys = keys(&mut dice);
        asked += if lines.contains("nosuch") || lines.contains("size_limit") {
            tables.compare_each(&lines, &keys[..15])?.0
        } else {
            let (theirs, ours) = tables.write(&lines)?;
            place.compare_two(&theirs, &ours, &keys, &lines)?
        };
    }
    asked += tables.compare_each("", &["a b", "a\tb", "\u{a0}", &"k".repeat(260)].map(str::to_owned))?.0;
    drop((theirs, ours));
    let mut failures = 0;
    for behind in ["", "backup = inline:{john=back}\n", "backup = fail:x\n"] {
        let lines = format!("max_try = 1\nretry_pause = 1\n{behind}");
        failures += tables.compare_each(&lines, &["john", "mary"].map(str::to_owned))?.1;
    }
    if failures == 0 { Err("a server that is not there fails no lookup".to_owned()) } else { enough(asked) }
}

fn generated(dice: &mut Dice) -> String {
    let mut lines = String::new();
    for (chance, name, values) in [
        (60, "key_format", &["v:%s", "%u@%d", "v:%s", "%2.%1"][..]),
        (60, "backup", &["inline:{john=back}", "static:all", "texthash:nosuch", "inline:{a=b,info@info.net=c d}"]),
        (30, "domain", &["example.org", "!org, static:x"]),
        (20, "data_size_limit", &["100", "1000"]),
        (20, "ttl", &["10", "0"]),
    ] {
        if dice.chance(chance) {
            let _ = writeln!(lines, "{name} = {}", dice.of(values));
        }
    }
    lines
}
