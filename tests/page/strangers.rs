//! Rows 3 and 8 again, from machines of a network that is not in mynetworks.

use crate::client::Client;
use crate::{other, server};

const CLIENTS: [[u8; 4]; 2] = [[192, 168, 2, 10], [192, 168, 2, 20]];

pub fn reach_every_name_of_the_server() -> Result<(), String> {
    let machine = server::machine("")?;
    server::start(&machine)?;
    let names = ["info.net", "server.info.net", "mail.info.net", "localhost.info.net", "localhost"];
    for address in CLIENTS {
        let client = Client::join(&machine, address)?;
        for name in names {
            let said = client.send("a@client.example", &format!("john@{name}"), "page row 3 from outside")?;
            server::holds(&machine, &said, &["250 2.0.0 Ok: queued as"])?;
        }
        let unknown = client.send("a@client.example", "missing@info.net", "page row 3 missing")?;
        server::holds(&machine, &unknown, &["550 5.1.1 <missing@info.net>: Recipient address rejected: User unknown"])?;
        let relayed = client.send("a@client.example", "x@elsewhere.example", "page row 3 relay")?;
        server::holds(&machine, &relayed, &["554 5.7.1 <x@elsewhere.example>: Relay access denied"])?;
    }
    server::arrives(&machine, "john", "page row 3 from outside", CLIENTS.len() * names.len())?;
    // What a stranger writes in a header is not completed with our domain.
    let shown = machine.shell("cat /home/john/Maildir/new/* | grep -c '^From:' || true")?;
    if shown.trim() == "0" {
        Ok(())
    } else {
        Err(format!("{shown} From fields were added\n{}", server::logs(&machine)))
    }
}

pub fn reach_the_virtual_domain() -> Result<(), String> {
    let machine =
        server::machine("virtual_alias_domains = example.net\nvirtual_alias_maps = hash:/etc/postfix/virtual\n")?;
    let _names = machine.name_server("mx example.com 10 mx.other.example\na mx.other.example 192.168.7.2")?;
    let other = other::postfix(&machine, "example.com", &["infonetaccount"])?;
    machine.write("/etc/postfix/virtual", "@example.net infonetaccount@example.com\n")?;
    server::start(&machine)?;
    for (number, address) in CLIENTS.into_iter().enumerate() {
        let client = Client::join(&machine, address)?;
        let text = format!("page row 8 from outside {number}");
        let said = client.send("a@client.example", &format!("anyone{number}@example.net"), &text)?;
        server::holds(&machine, &said, &["250 2.0.0 Ok: queued as"])?;
        let message = other::arrives(&other, &machine, "infonetaccount", &text)?;
        server::holds(&machine, &message, &["Return-Path: <a@client.example>"])?;
        let direct = client.send("a@client.example", "infonetaccount@example.com", "page row 8 relay")?;
        server::holds(&machine, &direct, &["554 5.7.1 <infonetaccount@example.com>: Relay access denied"])?;
    }
    Ok(())
}
