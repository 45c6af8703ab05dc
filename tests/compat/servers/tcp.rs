//! A server as tcp_table(5) describes it, in the test itself: values, keys that are not there, failures, and what is no reply.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::tables::{Dice, Place, enough, keys, rounds};

use super::{compare_each, side_by_side};

/// What the server says about a key as it came over the wire.
fn reply(key: &str) -> String {
    let mut dice = Dice::new(key.len() as u64, key);
    match dice.below(16) {
        0..=3 => "500 no%20such\n".to_owned(),
        4 => "400 later\n".to_owned(),
        5 => "200 \n".to_owned(),
        6 => format!("200 {}\n", "long%20".repeat(300)),
        7 => format!("200 {}\n", "x".repeat(5000)),
        8 => "200 wrong%2\n".to_owned(),
        9 => "200 wrong%zz\n".to_owned(),
        10 => "300 what\n".to_owned(),
        11 => "200\n".to_owned(),
        12 => "200 with%20%C3%A9%25+plus and blanks\n".to_owned(),
        13 => "200 ended\r\n".to_owned(),
        _ => format!("200 {key}\n"),
    }
}

fn serve(listener: TcpListener) {
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || drop(talk(stream)));
    }
}

fn talk(stream: TcpStream) -> std::io::Result<()> {
    let mut sink = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        match line.strip_prefix("get ") {
            Some(key) => sink.write_all(reply(key).as_bytes())?,
            None => sink.write_all(b"500 what?\n")?,
        }
    }
    Ok(())
}

pub fn gives_the_same_values() -> Result<(), String> {
    let place = Place::new()?;
    let port = test_support::free_port(std::net::Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    std::thread::spawn(move || serve(listener));
    let table = format!("tcp:127.0.0.1:{port}");
    let failures = AtomicUsize::new(0);
    let numbers: Vec<u64> = (0..rounds()).collect();
    let asked = side_by_side(&numbers, |number| {
        let mut keys = keys(&mut Dice::new(*number, "tcp"));
        keys.truncate(20);
        keys.push(format!("with blank {number}%"));
        let (asked, failed) = compare_each(&place, &table, &keys, "")?;
        failures.fetch_add(failed, Ordering::Relaxed);
        Ok(asked)
    })?;
    let mut failed = failures.into_inner();
    let nobody = test_support::free_port(std::net::Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
    failed += compare_each(&place, &format!("tcp:127.0.0.1:{nobody}"), [&"a".to_owned()], "")?.1;
    if failed < 2 { Err("no lookup failed".to_owned()) } else { enough(asked) }
}
