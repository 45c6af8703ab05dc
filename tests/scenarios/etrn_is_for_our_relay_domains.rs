//! ETRN: the queue of a relay domain is tried at once, for clients that the restrictions let.

use test_support::Builder;
use test_support::clients::{Security, Smtp};

pub fn alone() -> Result<(), String> {
    let system = Builder::new("info.net")
        .main_cf("relay_domains = relay.net\nsmtpd_etrn_restrictions = check_etrn_access inline:{ {closed.relay.net = REJECT not now} }")
        .start()?;
    let wrong = |error: std::io::Error| error.to_string();
    let mut smtp = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).map_err(wrong)?;
    for (command, class, expected) in [
        ("ETRN relay.net", 2, "250 Queuing started"),
        ("ETRN @relay.net", 2, "250 Queuing started"),
        ("ETRN elsewhere.example", 4, "459 <elsewhere.example>: service unavailable"),
        ("ETRN closed.relay.net", 5, "554 5.7.1 <closed.relay.net>: Etrn command rejected: not now"),
        ("ETRN", 5, "500 Syntax: ETRN domain"),
        ("ETRN a..b", 5, "501 5.5.4 Error: invalid parameter syntax"),
    ] {
        let reply = smtp.command(command, class).map_err(wrong)?;
        if reply != expected {
            return Err(format!("{command}: {reply}\n{}", system.logs()));
        }
    }
    Ok(())
}
