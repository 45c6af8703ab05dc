//! Attack classes on POP3: STLS injection, endless lines, arguments, dot-stuffing, two sessions.

use test_support::clients::{Pop3, Security};
use test_support::{Builder, System};

use super::dialogue::{Raw, check};
use super::session::Session;

pub fn nothing_but_a_login_gets_through() -> Result<(), String> {
    let system =
        Builder::new("info.net").dovecot("auth_failure_delay = 0\nlogin_trusted_networks = 127.0.0.0/8").start()?;
    let connect = |what| Raw::connect(system.ports.at(system.ports.pop3), Security::Clear, what);
    // STLS injection: what came in clear is never answered inside TLS.
    for injected in [&b"USER john\r\nPASS secret\r\nSTAT\r\n"[..], b"CAPA", b"QUIT\r\n"] {
        let mut client = connect("STLS injection")?;
        client.send(&[b"STLS\r\n", injected].concat())?;
        check(client.hear()?.starts_with("+OK"), || "STLS is refused".to_owned())?;
        if client.start_tls().is_err() || !client.try_send(b"CAPA\r\n") {
            continue;
        }
        let Ok(heard) = client.until(".") else { continue };
        check(heard[0] == "+OK" && heard.contains(&"USER".to_owned()) && !heard.contains(&"STLS".to_owned()), || {
            format!("inside TLS: {heard:?}")
        })?;
        client.send(b"STLS\r\n")?;
        check(client.hear()?.starts_with("-ERR"), || "TLS within TLS".to_owned())?;
    }
    // Endless lines, NUL, a browser, commands of a later state, SASL that is none.
    for (what, babble) in [
        ("an endless line", b"x".repeat(200_000)),
        ("a browser", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nUSER john\r\nPASS secret\r\n".to_vec()),
        ("NUL", b"US\0ER\r\n\0\r\n\xff\r\nUSER john\r\nPASS secret\r\n".to_vec()),
        ("later states", b"STAT\r\nRETR 1\r\nDELE 1\r\nUSER john\r\nPASS secret\r\n".to_vec()),
    ] {
        let mut client = connect(what)?;
        client.try_send(&[&babble[..], b"\r\n"].concat());
        let heard = client.rest()?;
        check(!heard.iter().any(|line| line.starts_with("+OK Logged")), || format!("{what}: {heard:?}"))?;
    }
    for exchange in [
        "AUTH PLAIN !!!!",
        "AUTH PLAIN\r\n*",
        "AUTH PLAIN am9obgAAc2VjcmV0",
        "AUTH PLAIN AABzZWNyZXQ=",
        "AUTH PLAIN bWFyeQBqb2huAHNlY3JldA==",
        "AUTH PLAIN AGpvaG4Ac2VjcmV0AA==",
        "AUTH %s",
        "AUTH EXTERNAL =",
        "APOP john c4c9334bac560ecc979e58001b3e22fb",
        "PASS secret",
        "USER john\r\nPASS  secret",
        "USER john\r\nPASS secret ",
        "USER\r\nPASS secret",
        "USER ../john\r\nPASS secret",
    ] {
        let mut client = connect("SASL")?;
        client.send(format!("{exchange}\r\nQUIT\r\n").as_bytes())?;
        let heard = client.rest()?;
        check(!heard.iter().any(|line| line.starts_with("+OK Logged in")), || format!("{exchange}: {heard:?}"))?;
        check(heard.iter().any(|line| line.starts_with("-ERR")), || format!("{exchange}: {heard:?}"))?;
    }
    Ok(())
}

/// No number is ever another message, whatever is asked and whoever else is there.
pub fn no_number_is_another_message() -> Result<(), String> {
    let system = Builder::new("info.net").start()?;
    let mut imap = Session::login(&system, "john", "the other session")?;
    for text in ["one", "..two\r\n.\r\n...", "three"] {
        let message = format!("Subject: {}\r\n\r\n{text}\r\n", &text[text.len() - 3..]);
        imap.ok(&format!("APPEND INBOX {{{}+}}\r\n{message}", message.len()))?;
    }
    let mut pop3 = login(&system)?;
    let mut second = login(&system)?;
    for argument in [
        "0",
        "-1",
        "4",
        "4294967297",
        "18446744073709551617",
        "1 2",
        "1x",
        "x",
        "1.0",
        "+1",
        "0x1",
        "",
        " ",
        "1\0",
        &"9".repeat(300),
    ] {
        for command in ["RETR", "DELE", "TOP", "LIST", "UIDL"] {
            let all_are_listed = argument.trim().is_empty() && matches!(command, "LIST" | "UIDL");
            if all_are_listed || (argument, command) == ("1 2", "TOP") {
                continue;
            }
            let said = pop3.command(&format!("{command} {argument}"));
            check(said.is_err(), || format!("{command} {argument:?}: {said:?}"))?;
            // Some of these are errors in a row.
            pop3.command("NOOP").map_err(|error| format!("after {command} {argument:?}: {error}"))?;
        }
    }
    for argument in ["1 -1", "1 4294967296", "1 1 1", "1 x", "1"] {
        let said = pop3.command(&format!("TOP {argument}"));
        check(said.is_err(), || format!("TOP {argument}: {said:?}"))?;
    }
    let failed = |error: std::io::Error| error.to_string();
    let dotted = pop3.listing("RETR 2").map_err(failed)?;
    check(dotted[2..] == ["..two", ".", "..."], || format!("dots: {dotted:?}"))?;
    // Another session removes the first message; the numbers here stay, and the first is gone.
    imap.ok("SELECT INBOX")?;
    imap.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")?;
    imap.ok("EXPUNGE")?;
    let gone = pop3.listing("RETR 1");
    check(gone.is_err(), || format!("an expunged message: {gone:?}"))?;
    let third = pop3.listing("RETR 3").map_err(failed)?;
    check(third.last().is_some_and(|line| line == "three"), || format!("RETR 3: {third:?}"))?;
    // The second session deletes message 2 and loses its connection: nothing is deleted. Then the first quits: nothing of it either.
    second.command("DELE 2").map_err(failed)?;
    drop(second);
    pop3.command("DELE 3").map_err(failed)?;
    pop3.command("RSET").map_err(failed)?;
    pop3.command("QUIT").map_err(failed)?;
    let left = login(&system)?.listing("LIST").map_err(failed)?;
    check(left.len() == 2, || format!("left: {left:?}"))
}

fn login(system: &System) -> Result<Pop3, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut pop3 = Pop3::connect(system.ports.at(system.ports.pop3), Security::Clear).map_err(failed)?;
    pop3.login("john", "secret").map_err(failed)?;
    Ok(pop3)
}
