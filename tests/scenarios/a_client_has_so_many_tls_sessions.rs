//! `smtpd_client_new_tls_session_rate_limit`: the handshake that is one too many is done, and the next command hears 421.

use std::io;

use test_support::clients::{Security, Smtp};
use test_support::{Builder, Patience, System, wait_for};

pub fn then_it_hears_421() -> Result<(), String> {
    let lines = "smtpd_client_new_tls_session_rate_limit = 1\nsmtpd_client_event_limit_exceptions =\n";
    let system = Builder::new("a.example").main_cf(lines).start()?;
    let wrong = |error: io::Error| format!("{error}\n{}", system.logs());
    let mut first = started(&system).map_err(wrong)?;
    first.command("EHLO client.example", 2).map_err(wrong)?;
    first.command("NOOP", 2).map_err(wrong)?;
    let refusal = "421 4.7.0 mail.a.example Error: too many new TLS sessions from 127.0.0.1";
    let mut second = started(&system).map_err(wrong)?;
    let said = second.command("EHLO client.example", 4).map_err(wrong)?;
    if said.trim_end() != refusal || second.command("NOOP", 2).is_ok() {
        return Err(format!("after STARTTLS: {said}\n{}", system.logs()));
    }
    // With TLS from the first octet it is the same client; its EHLO is refused.
    match Smtp::connect(system.ports.at(system.ports.submissions), Security::Tls) {
        Err(error) if error.to_string().contains(refusal) => {}
        other => return Err(format!("{:?}\n{}", other.err(), system.logs())),
    }
    let line = "New TLS session rate limit exceeded: 2 from localhost[127.0.0.1] for service ";
    wait_for("the warning", Patience::default(), || system.log("smtpd").contains(line).then_some(()))
        .map_err(|error| format!("{error}\n{}", system.logs()))?;
    first.command("NOOP", 2).map(drop).map_err(wrong)
}

/// A session in which TLS was just started.
fn started(system: &System) -> io::Result<Smtp> {
    let mut smtp = Smtp::connect(system.ports.at(system.ports.submission), Security::Clear)?;
    smtp.command("STARTTLS", 2)?;
    smtp.lines.start_tls()?;
    Ok(smtp)
}
