//! main.cf with `...`, a leading zero in a network, and every name of mydestination local.

use crate::server;

pub fn starts() -> Result<(), String> {
    let machine = server::machine("")?;
    server::start(&machine)?;
    let up = machine.read("/run/up.out");
    server::holds(&machine, &up, &["main.cf:7", "192.168.01.0/24"])?;
    let names = ["info.net", "server.info.net", "mail.info.net", "localhost.info.net", "localhost"];
    for name in names {
        server::send(&machine, "mike@info.net", &format!("john@{name}"), "page row 3")?;
    }
    server::send(&machine, "mike@info.net", "john", "page row 3")?;
    server::arrives(&machine, "john", "page row 3", names.len() + 1)?;
    server::logged(
        &machine,
        &["local-delivery.log"],
        &["to=<john@info.net>, orig_to=<john>, relay=local", "status=sent (delivered to maildir)"],
    )?;
    let owner = machine.shell("stat -c %U:%a /home/john/Maildir /home/john/Maildir/new/* | sort -u")?;
    server::holds(&machine, &owner, &["john:700", "john:600"])
}
