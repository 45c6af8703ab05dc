//! `reject_unverified_recipient` and `reject_unverified_sender`: a probe asks the server of the address, and its answer is remembered.

use std::net::Ipv4Addr;

use test_support::clients::{Security, Smtp};
use test_support::remote::{Act, At, Remote, Setup};
use test_support::{Builder, System, free_port};

fn world(lines: &str) -> Result<(System, Remote), String> {
    let port = free_port(Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
    let remote = Setup::new("mx.far.example").start((Ipv4Addr::LOCALHOST, port).into());
    let remote = remote.map_err(|error| error.to_string())?;
    remote.about("bad@", At::Rcpt, Act::say("550 5.1.1 no such user"));
    remote.about("later@", At::Rcpt, Act::say("450 4.2.0 come back"));
    let lines = format!("relay_domains = far.example\nrelayhost = [127.0.0.1]:{port}\n{lines}\n");
    Ok((Builder::new("a.example").main_cf(&lines).start()?, remote))
}

/// The refusal of a recipient, or `250`.
fn reply(system: &System, from: &str, to: &str) -> Result<String, String> {
    let connected = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear);
    let mut smtp = connected.map_err(|error| error.to_string())?;
    smtp.command(&format!("MAIL FROM:<{from}>"), 2).map_err(|error| error.to_string())?;
    Ok(smtp.command(&format!("RCPT TO:<{to}>"), 2).map_or_else(|refusal| refusal.to_string(), |_| "250".to_owned()))
}

/// How often the server was asked about an address.
fn probes(remote: &Remote) -> usize {
    remote.heard().iter().filter(|line| line.starts_with("RCPT TO:")).count()
}

pub fn of_a_recipient() -> Result<(), String> {
    let lines = "smtpd_recipient_restrictions = reject_unverified_recipient\nunverified_recipient_reject_code = 550\n\
         address_verify_poll_delay = 40s";
    let (mut system, remote) = world(lines)?;
    let refused = |address: &str, why: &str| format!("<{address}>: Recipient address rejected: {why}");
    let expected = [
        ("good@far.example", "250".to_owned()),
        (
            "bad@far.example",
            refused(
                "bad@far.example",
                "undeliverable address: host 127.0.0.1[127.0.0.1] said: 550 5.1.1 no such user (in reply to RCPT TO command)",
            ),
        ),
        (
            "later@far.example",
            refused(
                "later@far.example",
                "unverified address: host 127.0.0.1[127.0.0.1] said: 450 4.2.0 come back (in reply to RCPT TO command)",
            ),
        ),
        ("mary@a.example", "250".to_owned()),
    ];
    let mut first = None;
    for round in 0..3 {
        for (address, wanted) in &expected {
            let reply = reply(&system, "x@client.example", address)?;
            if !reply.contains(wanted.as_str()) {
                return Err(format!("{address}: {reply} instead of {wanted}\n{}", system.logs()));
            }
        }
        // A server that asked to come back may have been tried again on a fresh connection, once.
        let asked = *first.get_or_insert_with(|| probes(&remote));
        if !(3..=4).contains(&asked) || probes(&remote) != asked {
            return Err(format!("round {round}: {} probes: {:?}", probes(&remote), remote.heard()));
        }
        if round == 1 {
            // What is known outlives a restart.
            system.stop()?;
            system.start()?;
        }
    }
    explained(&system, &remote, &expected)?;
    let heard = remote.heard();
    if heard.iter().any(|line| line.starts_with("DATA"))
        || !heard.iter().any(|line| line.starts_with("MAIL FROM:<double-bounce@a.example>"))
    {
        return Err(format!("not what a probe says: {heard:?}"));
    }
    if system.messages("mary").is_empty() { Ok(()) } else { Err("a probe was delivered".to_owned()) }
}

/// `explain` asks queue-manager for what it remembers, says the same as smtpd, and has nothing probed.
fn explained(system: &System, remote: &Remote, expected: &[(&str, String)]) -> Result<(), String> {
    let before = probes(remote);
    let port = system.ports.smtp.to_string();
    let ask = |to: &str| -> Result<serde_json::Value, String> {
        let options = [
            "explain",
            "--json",
            "--client",
            "127.0.0.1",
            "--helo",
            "x",
            "--from",
            "x@client.example",
            "--port",
            &port,
            "--to",
            to,
        ];
        serde_json::from_str(&system.run(&options, "")?).map_err(|error| error.to_string())
    };
    for (to, wanted) in expected {
        let found = ask(to)?;
        let reply = found["recipients"][0]["reply"][0].as_str().unwrap_or_default();
        let from = found["steps"].to_string();
        if !reply.contains(wanted.as_str())
            || !from.contains("queue-manager, found out 20")
            || !found["alternatives"].is_null()
        {
            return Err(format!("explain {to}: {reply} instead of {wanted}: {found}"));
        }
    }
    let unknown = ask("new@far.example")?;
    let others = unknown["alternatives"].as_array().map_or(0, Vec::len);
    if unknown["outcome"] != "accept" || others != 2 {
        return Err(format!("nobody knows new@far.example yet: {unknown}"));
    }
    if probes(remote) == before { Ok(()) } else { Err("explain had an address probed".to_owned()) }
}

pub fn of_a_sender() -> Result<(), String> {
    let lines = "smtpd_sender_restrictions = reject_unverified_sender\naddress_verify_sender = <>\n\
         address_verify_map =\naddress_verify_poll_delay = 40s\nunverified_sender_reject_reason = we cannot answer you";
    let (system, remote) = world(lines)?;
    let expected = [
        ("good@far.example", "250"),
        ("", "250"),
        (
            "bad@far.example",
            "450 4.1.7 <bad@far.example>: Sender address rejected: undeliverable address: we cannot answer you",
        ),
    ];
    for (sender, wanted) in expected {
        let reply = reply(&system, sender, "mary@a.example")?;
        if !reply.contains(wanted) {
            return Err(format!("{sender}: {reply} instead of {wanted}\n{}", system.logs()));
        }
    }
    let heard = remote.heard();
    if heard.iter().any(|line| line.starts_with("MAIL FROM:<>")) { Ok(()) } else { Err(format!("{heard:?}")) }
}

pub fn when_its_server_does_not_answer() -> Result<(), String> {
    let lines = "smtpd_recipient_restrictions = reject_unverified_recipient\naddress_verify_poll_delay = 1s";
    let (system, remote) = world(lines)?;
    remote.on(At::Rcpt, Act::Silence);
    let reply = reply(&system, "x@client.example", "slow@far.example")?;
    let wanted = "450 4.1.1 <slow@far.example>: Recipient address rejected: unverified address: Address verification in progress";
    if reply.contains(wanted) { Ok(()) } else { Err(format!("{reply}\n{}", system.logs())) }
}
