//! MX by preference, fallback, A without MX, null MX, aliases of names, loops to ourselves.

use crate::{other, server};

const ZONE: &str = "\
    mx gmail.com 5 dead.gmail.com
    mx gmail.com 10 mx.other.example
    a dead.gmail.com 192.168.7.3
    a mx.other.example 192.168.7.2
    a only-address.example 192.168.7.2
    cname alias.example gmail.com
    mx null.example 0 .
    mx loop.example 10 server.info.net
    a server.info.net 192.168.7.1";

pub fn are_tried_in_order() -> Result<(), String> {
    let machine = server::machine("smtp_connect_timeout = 2s\n")?;
    let _names = machine.name_server(ZONE)?;
    let other = other::postfix(&machine, "gmail.com, only-address.example, alias.example", &["mike"])?;
    server::start(&machine)?;
    for domain in ["gmail.com", "only-address.example", "alias.example"] {
        server::send(&machine, "john@info.net", &format!("mike@{domain}"), &format!("to {domain}"))?;
        other::arrives(&other, &machine, "mike", &format!("to {domain}"))?;
    }
    for (domain, words) in [("null.example", "Status: 5.1.10"), ("loop.example", "Status: 5.4.6")] {
        server::send(&machine, "john@info.net", &format!("mike@{domain}"), "never")?;
        machine
            .wait_until(&format!(
                "grep -h 'mike@{domain}' /home/john/Maildir/new/* && grep -h '{words}' /home/john/Maildir/new/*"
            ))
            .map_err(|error| format!("{error}\n{}", server::logs(&machine)))?;
    }
    server::logged(&machine, &["remote-delivery.log"], &["dsn=5.1.10, status=bounced", "dsn=5.4.6, status=bounced"])
}
