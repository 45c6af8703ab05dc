//! Another server on the other end of a cable: a real Postfix.

use std::net::Ipv4Addr;

use test_support::Machine;

use crate::server;

/// Its address.
pub const ADDRESS: [u8; 4] = [192, 168, 7, 2];

/// A machine with Postfix as the mail server of these domains, and these users; connected to `ours`.
pub fn postfix(ours: &Machine, domains: &str, users: &[&str]) -> Result<Machine, String> {
    let other = Machine::new("mx.other.example")?;
    ours.connect(Ipv4Addr::from(server::ADDRESS), &other, Ipv4Addr::from(ADDRESS))?;
    for (number, user) in users.iter().enumerate() {
        other.add_user(user, 3001 + u32::try_from(number).unwrap_or(0), "secret")?;
    }
    let main_cf = format!(
        "compatibility_level = 3.6\nmyhostname = mx.other.example\nmydestination = {domains}\ninet_protocols = ipv4\n\
         mynetworks = 127.0.0.0/8\nhome_mailbox = Maildir/\nalias_maps =\nalias_database =\nsmtpd_peername_lookup = no\n\
         maillog_file = /var/log/mail.log\n"
    );
    other.write("/etc/postfix/main.cf", &main_cf)?;
    other.shell("grep -q '^postlog' /etc/postfix/master.cf || echo 'postlog unix-dgram n - n - 1 postlogd' >> /etc/postfix/master.cf")?;
    other.shell("postfix start")?;
    other.wait_for_port(25)?;
    Ok(other)
}

/// Waits until a user there has a message with this text.
pub fn arrives(other: &Machine, ours: &Machine, user: &str, text: &str) -> Result<String, String> {
    other
        .wait_until(&format!(
            "grep -l '^Subject:.*{text}' /home/{user}/Maildir/new/* && cat /home/{user}/Maildir/new/*"
        ))
        .map_err(|error| format!("{error}\n{}\n{}", server::logs(ours), other.read("/var/log/mail.log")))
}
