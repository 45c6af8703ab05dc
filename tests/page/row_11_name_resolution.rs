//! Broken name resolution defers and is retried; a domain that does not exist comes back.

use crate::{other, server};

pub fn is_waited_for() -> Result<(), String> {
    let machine = server::machine("minimal_backoff_time = 1s\nmaximal_backoff_time = 2s\nqueue_run_delay = 1s\n")?;
    let mut names = machine.name_server("fail gmail.com\na mx.other.example 192.168.7.2")?;
    let other = other::postfix(&machine, "gmail.com", &["mike"])?;
    server::start(&machine)?;
    server::send(&machine, "john@info.net", "mike@gmail.com", "it waits")?;
    let log = "/var/spool/postrider/log/remote-delivery.log";
    // The second line is the retry, on schedule and without help.
    machine
        .wait_until(&format!("test $(grep -c 'to=<mike@gmail.com>.*dsn=4.4.3, status=deferred' {log}) -ge 2"))
        .map_err(|error| format!("{error}\n{}", server::logs(&machine)))?;
    machine
        .wait_until(
            "export PATH=/run/postrider:$PATH MAIL_CONFIG=/etc/postfix; mailq | tr '\\n' ' ' | \
             grep 'Host or domain name not found.*mike@gmail.com'",
        )
        .map_err(|error| format!("{error}\n{}", server::logs(&machine)))?;
    names.tell("forget gmail.com\nmx gmail.com 10 mx.other.example")?;
    other::arrives(&other, &machine, "mike", "it waits")?;

    server::send(&machine, "john@info.net", "mike@no-such-domain.example", "it comes back")?;
    server::arrives(&machine, "john", "Undelivered Mail Returned to Sender", 1)?;
    let words = "550 5.1.2 <mike@no-such-domain.example>... Host unknown";
    // The human part folds long lines.
    let bounce = machine.shell("cat /home/john/Maildir/new/* | tr -s '[:space:]' ' '")?;
    server::holds(
        &machine,
        &bounce,
        &[words, "Final-Recipient: rfc822; mike@no-such-domain.example", "Action: failed", "Status: 5.1.2"],
    )?;
    server::logged(&machine, &["remote-delivery.log"], &[&format!("status=bounced ({words})")])
}
