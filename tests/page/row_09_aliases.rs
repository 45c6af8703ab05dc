//! `root: john`, `sales: charles,john,mike`, `charles: charles@gmail.com`, and a bad member beside the good ones.

use crate::{other, server};

pub fn reach_everyone() -> Result<(), String> {
    let machine = server::machine("")?;
    let _names = machine.name_server("mx gmail.com 10 mx.other.example\na mx.other.example 192.168.7.2")?;
    let other = other::postfix(&machine, "gmail.com", &["charles"])?;
    server::start(&machine)?;
    machine.write(
        "/etc/aliases",
        "root: john\nsales: charles,john,mike,nobody.here@nowhere.info.net\ncharles: charles@gmail.com\n",
    )?;
    server::ours(&machine, "newaliases")?;
    server::send(&machine, "mike@info.net", "root@info.net", "for root")?;
    server::arrives(&machine, "john", "for root", 1)?;
    server::send(&machine, "john@info.net", "sales@info.net", "for sales")?;
    server::arrives(&machine, "john", "for sales", 1)?;
    server::arrives(&machine, "mike", "for sales", 1)?;
    other::arrives(&other, &machine, "charles", "for sales")?;
    // The bad member comes back to the sender, and takes nobody else's mail along.
    server::arrives(&machine, "john", "Undelivered Mail Returned to Sender", 1)?;
    let bounce = machine.shell("grep -l 'Undelivered Mail' /home/john/Maildir/new/* | xargs cat")?;
    server::holds(&machine, &bounce, &["nobody.here@nowhere.info.net", "Host unknown", "multipart/report"])
}
