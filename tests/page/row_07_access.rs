//! `smtpd_client_restrictions=hash:/etc/postfix/access`, with a network and an address of it as keys.

use crate::client::Client;
use crate::server;

const ACCESS: &str = "192.168.2.0/24 OK\n192.168.2.10 REJECT\n";
const REFUSED: &str = "554 5.7.1 <unknown[192.168.2.10]>: Client host rejected: Access denied";

pub fn admits_a_network_and_refuses_an_address() -> Result<(), String> {
    let machine = server::machine("postrider_json_log = smtpd\n")?;
    server::start(&machine)?;
    // The page adds the table to the running server.
    machine.shell("echo 'smtpd_client_restrictions=hash:/etc/postfix/access' >> /etc/postfix/main.cf")?;
    machine.write("/etc/postfix/access", ACCESS)?;
    let said = server::ours(&machine, "postmap /etc/postfix/access 2>&1 && postfix reload")?;
    server::holds(
        &machine,
        &said,
        &["postmap: warning: /etc/postfix/access:1: the key `192.168.2.0/24' is a network"],
    )?;

    let refused =
        Client::join(&machine, [192, 168, 2, 10])?.send("a@client.example", "john@info.net", "page row 7 no")?;
    server::holds(&machine, &refused, &[REFUSED])?;
    let friend = Client::join(&machine, [192, 168, 2, 20])?;
    let taken = friend.send("a@client.example", "john@info.net", "page row 7 yes")?;
    server::holds(&machine, &taken, &["250 2.0.0 Ok: queued as"])?;
    server::arrives(&machine, "john", "page row 7 yes", 1)?;
    // May connect and send is not may relay.
    let relayed = friend.send("a@client.example", "x@elsewhere.example", "page row 7 relay")?;
    server::holds(&machine, &relayed, &["554 5.7.1 <x@elsewhere.example>: Relay access denied"])?;

    let line = format!(
        "NOQUEUE: reject: RCPT from unknown[192.168.2.10]: {REFUSED}; from=<a@client.example> to=<john@info.net>"
    );
    let warning = "/etc/postfix/access:1: the key `192.168.2.0/24' is a network: Postfix ignores it";
    server::logged(&machine, &["smtpd.log"], &[&line, warning])?;
    // The rule and the line of the table that decided.
    server::logged(&machine, &["smtpd.json"], &["Client host rejected"])?;
    let records = machine.read("/var/spool/postrider/log/smtpd.json");
    let record = records.lines().find(|line| line.contains("Client host rejected")).unwrap_or_default();
    server::holds(&machine, record, &["/etc/postfix/main.cf:", "/etc/postfix/access:2", "192.168.2.10"])
}
