//! Attack class enumeration by text or time.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use test_support::{Builder, System};

use super::dialogue::{Raw, check};

/// The first exists, the others do not.
const NAMES: [&str; 5] = ["john", "nobody-of-that-name", "john@elsewhere.net", "root", "%n"];

/// How often it is tried: a machine that stops for a moment makes one of them slow, not the best of several.
const TRIES: u8 = 6;

/// Who exists and who does not get the same words, in the same time. Each client has an address of its own, as every failure makes the next
/// one from its address slower.
pub fn an_unknown_user_looks_like_a_wrong_password() -> Result<(), String> {
    let system = Builder::new("info.net").dovecot("disable_plaintext_auth = no").start()?;
    let mut best = [Duration::MAX; NAMES.len()];
    for network in 1..=TRIES {
        for (best, time) in best.iter_mut().zip(times(&system, network)?) {
            *best = time.min(*best);
        }
        let (fastest, slowest) = (best.iter().min(), best.iter().max());
        if slowest.zip(fastest).is_some_and(|(slowest, fastest)| *slowest - *fastest < Duration::from_millis(1000)) {
            return Ok(());
        }
    }
    Err(format!("the times tell: {NAMES:?} took {best:?}"))
}

/// All at once, each from an address of the network 127.0.N.0; how long each name took.
fn times(system: &System, network: u8) -> Result<Vec<Duration>, String> {
    std::thread::scope(|scope| {
        let client = |number: usize| Ipv4Addr::new(127, 0, network, u8::try_from(number).unwrap_or(u8::MAX));
        let clients = NAMES.iter().enumerate().map(|(number, name)| {
            let by_pop3 = client(number + 100);
            (
                scope.spawn(move || by_imap(system, client(number), name)),
                scope.spawn(move || pop3(system, by_pop3, name)),
            )
        });
        let clients: Vec<_> = clients.collect();
        let mut times = Vec::new();
        for (imap, pop3) in clients {
            times.push(imap.join().map_err(|_| "a client panicked")??);
            pop3.join().map_err(|_| "a client panicked")??;
        }
        Ok(times)
    })
}

fn by_imap(system: &System, client: Ipv4Addr, name: &str) -> Result<Duration, String> {
    let mut client = Raw::connect_from(client, system.ports.at(system.ports.imap), "IMAP enumeration")?;
    let began = Instant::now();
    client.send(format!("a LOGIN \"{name}\" wrong\r\n").as_bytes())?;
    let heard = client.hear()?;
    check(heard == "a NO [AUTHENTICATIONFAILED] Authentication failed.", || format!("{name:?}: {heard}"))?;
    Ok(began.elapsed())
}

fn pop3(system: &System, client: Ipv4Addr, name: &str) -> Result<(), String> {
    let mut client = Raw::connect_from(client, system.ports.at(system.ports.pop3), "POP3 enumeration")?;
    client.send(format!("USER {name}\r\nPASS wrong\r\n").as_bytes())?;
    client.hear()?;
    let heard = client.hear()?;
    check(heard == "-ERR [AUTH] Authentication failed.", || format!("{name:?}: {heard}"))
}
