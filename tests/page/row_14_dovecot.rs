//! dovecot.conf of two lines: IMAP and POP3, in clear from the machine itself and with TLS, system users with their system password.

use crate::server;

pub fn serves() -> Result<(), String> {
    let machine = server::machine("")?;
    server::start(&machine)?;
    server::send(&machine, "mike@info.net", "john@info.net", "page row 14")?;
    server::arrives(&machine, "john", "page row 14", 1)?;
    for url in [
        "imap://127.0.0.1/INBOX;MAILINDEX=1",
        "imaps://127.0.0.1/INBOX;MAILINDEX=1",
        "pop3://127.0.0.1/1",
        "pop3s://127.0.0.1/1",
    ] {
        let message = machine
            .shell(&format!("curl -sS -k -u john:secret '{url}'"))
            .map_err(|error| format!("{error}\n{}", server::logs(&machine)))?;
        server::holds(&machine, &message, &["Subject: page row 14"])?;
        let refused = machine.try_shell(&format!("curl -sS -k -u john:wrong '{url}'"), "")?;
        if refused.status.success() {
            return Err(format!("{url}: a wrong password is accepted"));
        }
    }
    let wanted = [
        "imap-login: Login: user=<john>, method=PLAIN, rip=127.0.0.1",
        "pop3-login: Login: user=<john>",
        "TLS, session=<",
        "auth failed",
    ];
    server::logged(&machine, &["imapd.log", "pop3d.log"], &wanted)
}
