//! `relayhost = [host]:port`: mail waits and says why, goes on when the other server is back, and travels encrypted.

use test_support::{Builder, Patience, wait_for};

pub fn and_then_goes_on() -> Result<(), String> {
    let mut theirs = Builder::new("b.example").prepare()?;
    let relay = theirs.ports.at(theirs.ports.smtp);
    let lines = format!("relayhost = [{}]:{}\nsmtp_tls_security_level = encrypt", relay.ip(), relay.port());
    let ours = Builder::new("a.example").main_cf(&lines).start()?;
    ours.run(&["sendmail", "-f", "mary@a.example", "john@b.example"], "Subject: through the relay\n\nhello\n")?;
    let refused = format!("connect to {}[{}]:{}: Connection refused", relay.ip(), relay.ip(), relay.port());
    wait_for("the reason in mailq", Patience::default(), || {
        ours.run(&["mailq"], "").ok().filter(|queue| queue.contains(&refused))
    })
    .map_err(|error| format!("{error}\n{}", ours.logs()))?;
    theirs.start()?;
    ours.run(&["postqueue", "-f"], "")?;
    let messages = theirs.wait_for_messages("john", 1).map_err(|error| format!("{error}\n{}", ours.logs()))?;
    let message = messages.first().ok_or("no message")?;
    for wanted in ["Return-Path: <mary@a.example>", "with ESMTPS id", "Subject: through the relay"] {
        if !message.contains(wanted) {
            return Err(format!("{wanted:?} is missing in:\n{message}"));
        }
    }
    let sent = format!("to=<john@b.example>, relay={}[{}]:{}, ", relay.ip(), relay.ip(), relay.port());
    wait_for("the line of the log", Patience::default(), || {
        let log = ours.log("remote-delivery");
        log.lines()
            .any(|line| line.contains(&sent) && line.contains("dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as"))
            .then_some(())
    })
    .map_err(|error| format!("{error}\n{}", ours.logs()))
}
