//! `virtual_alias_domains = example.net` with a catch-all to another server.

use crate::{other, server};

pub fn is_forwarded() -> Result<(), String> {
    let machine = server::machine("")?;
    let _names = machine.name_server("mx example.com 10 mx.other.example\na mx.other.example 192.168.7.2")?;
    let other = other::postfix(&machine, "example.com", &["infonetaccount"])?;
    server::start(&machine)?;
    // The page adds the domain to the running server.
    machine.shell(
        "printf 'virtual_alias_domains = example.net\\nvirtual_alias_maps = hash:/etc/postfix/virtual\\n' >> /etc/postfix/main.cf",
    )?;
    machine.write("/etc/postfix/virtual", "@example.net infonetaccount@example.com\n")?;
    server::ours(&machine, "postmap /etc/postfix/virtual && postfix reload")?;
    server::send(&machine, "john@info.net", "anyone.at.all@example.net", "page row 8")?;
    let message = other::arrives(&other, &machine, "infonetaccount", "page row 8")?;
    server::holds(&machine, &message, &["Return-Path: <john@info.net>", "Delivered-To: infonetaccount@example.com"])?;
    server::logged(
        &machine,
        &["remote-delivery.log"],
        &[
            "to=<infonetaccount@example.com>, orig_to=<anyone.at.all@example.net>, relay=mx.other.example[192.168.7.2]:25",
            "status=sent (250 2.0.0 Ok: queued as",
        ],
    )
}
