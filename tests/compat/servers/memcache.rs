//! A real memcached answers `memcache:` tables, with and without a table behind it.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::tables::{Dice, Place, enough, key, keys, rounds};

use super::{NOBODY, Server, compare_each, side_by_side};

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

pub fn gives_the_same_values() -> Result<(), String> {
    let place = Place::new()?;
    let port = test_support::free_port(Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
    let mut command = Command::new("memcached");
    command.args(["-l", "127.0.0.1", "-p", &port.to_string(), "-U", "0", "-m", "16", "-t", "1"]);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut server = Server::start(&mut command)?;
    server.wait_for_port(port)?;
    fill(port)?;
    let table = |name: &str| format!("memcache:{}/{name}", place.root().display());
    let numbers: Vec<u64> = (0..rounds()).collect();
    let mut asked = side_by_side(&numbers, |number| {
        let mut dice = Dice::new(*number, "memcache");
        let mut lines = format!("memcache = inet:127.0.0.1:{port}\n");
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
        let name = format!("generated{number}.cf");
        place.write(&name, &lines)?;
        let keys = keys(&mut dice);
        match lines.contains("nosuch") || lines.contains("size_limit") {
            true => Ok(compare_each(&place, &table(&name), keys.iter().take(15), &lines)?.0),
            false => place.compare(&table(&name), &keys, &lines),
        }
    })?;
    place.write("plain.cf", &format!("memcache = inet:127.0.0.1:{port}\n"))?;
    let odd = ["a b", "a\tb", "\u{a0}", &"k".repeat(260)].map(str::to_owned);
    asked += compare_each(&place, &table("plain.cf"), &odd, "")?.0;
    drop(server);
    let failures = AtomicUsize::new(0);
    let tables = ["", "backup = inline:{john=back}\n", "backup = fail:x\n"];
    asked += side_by_side(&tables, |lines| {
        let name = format!("down{}.cf", lines.len());
        let lines = format!("memcache = inet:127.0.0.1:{port}\nmax_try = 1\nretry_pause = 1\n{lines}");
        place.write(&name, &lines)?;
        let (asked, failed) = compare_each(&place, &table(&name), &["john", "mary"].map(str::to_owned), &lines)?;
        failures.fetch_add(failed, Ordering::Relaxed);
        Ok(asked)
    })?;
    if failures.into_inner() == 0 {
        Err("a server that is not there fails no lookup".to_owned())
    } else {
        enough(asked)
    }
}
