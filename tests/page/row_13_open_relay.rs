//! Strangers get 554 5.7.1; `defer_unauth_destination` gets 454 4.7.1; `doctor --relay` plays the lab's dialogue.

use crate::server;

/// swaks would do as well; the shell's own TCP needs nothing installed.
const STRANGER: &str = "bash -c 'exec 3<>/dev/tcp/192.168.7.1/25; \
    say() { printf \"%s\\r\\n\" \"$1\" >&3; }; hear() { read -r line <&3; echo \"$line\"; }; \
    hear; say \"HELO stranger.example\"; hear; say \"MAIL FROM:<a@b.example>\"; hear; say \"RCPT TO:<x@y.example>\"; hear; say QUIT; hear'";

pub fn is_refused() -> Result<(), String> {
    let machine = server::machine("")?;
    machine.add_address("192.168.7.1/24")?;
    server::start(&machine)?;
    server::holds(&machine, &machine.shell(STRANGER)?, &["554 5.7.1 <x@y.example>: Relay access denied"])?;
    server::logged(
        &machine,
        &["smtpd.log"],
        &[
            "NOQUEUE: reject: RCPT from unknown[192.168.7.1]: 554 5.7.1 <x@y.example>: Relay access denied; from=<a@b.example> to=<x@y.example> proto=SMTP helo=<stranger.example>",
        ],
    )?;
    let verdict = server::ours(&machine, "postrider doctor --relay 192.168.7.1")?;
    server::holds(&machine, &verdict, &["no open relay"])?;
    machine.shell("echo 'smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination' >> /etc/postfix/main.cf")?;
    server::ours(&machine, "postfix reload")?;
    server::holds(&machine, &machine.shell(STRANGER)?, &["454 4.7.1 <x@y.example>: Relay access denied"])
}
