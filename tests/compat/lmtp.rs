//! A real Postfix with `lmtp:inet:127.0.0.1:PORT` and our LMTP listener behind it: what is stored it calls sent, what is not it bounces or keeps.
//! And the other way: a real Dovecot behind us, over a Unix socket in place of the mailbox and over TCP.

use std::fs;

use test_support::clients::{Security, Smtp};
use test_support::{Builder, Patience, System, wait_for};

use crate::dovecot::Dovecot;
use crate::postfix::{Postfix, free_port};

pub fn takes_mail_from_postfix() -> Result<(), String> {
    let lmtp = free_port()?;
    let listener = format!(
        "service lmtp {{\n  inet_listener lmtp {{\n    address = 127.0.0.1\n    port = {}\n  }}\n}}",
        lmtp.port()
    );
    let mut ours = Builder::new("behind.example").dovecot(&listener).start()?;
    let postfix = Postfix::start(&format!(
        "compatibility_level = 3.6\nmyhostname = front.example\nmydestination = behind.example\nlocal_recipient_maps =\n\
         local_transport = lmtp:inet:127.0.0.1:{}\nmynetworks = 127.0.0.0/8\ninet_protocols = ipv4",
        lmtp.port()
    ))?;
    let logged = |wanted: &[&str]| {
        let found = wait_for(&format!("{wanted:?} in Postfix's log"), Patience::default(), || {
            postfix.log().lines().any(|line| wanted.iter().all(|word| line.contains(word))).then_some(())
        });
        found.map_err(|error| format!("{error}\n{}\n{}", postfix.log(), ours.logs()))
    };
    let mut smtp = Smtp::connect(postfix.address, Security::Clear).map_err(|error| error.to_string())?;
    let recipients = ["john@behind.example", "mary+x@behind.example", "nobody@behind.example"];
    smtp.send("mary@behind.example", &recipients, "Subject: through Postfix\r\n\r\n..dots\r\nhello")
        .map_err(|error| error.to_string())?;
    for user in ["john", "mary"] {
        let messages = ours.wait_for_messages(user, 1)?;
        let good = messages.iter().any(|m| m.contains("with LMTP id ") && m.contains("Subject: through Postfix"));
        if !good {
            return Err(format!("{user} has {messages:?}"));
        }
    }
    logged(&["to=<john@behind.example>", "status=sent (250 2.0.0 <john@behind.example> Saved)"])?;
    logged(&["to=<mary+x@behind.example>", "status=sent (250 2.0.0 <mary+x@behind.example> Saved)"])?;
    logged(&["to=<nobody@behind.example>", "dsn=5.1.1, status=bounced", "User doesn't exist: nobody@behind.example"])?;
    // The bounce comes back to mary through the same listener.
    ours.wait_for_messages("mary", 2)?;
    // While we are away Postfix keeps its mail.
    ours.stop()?;
    smtp.send("john@behind.example", &["john@behind.example"], "Subject: later\r\n\r\nhello")
        .map_err(|e| e.to_string())?;
    let deferred = ["to=<john@behind.example>", "status=deferred", "Connection refused"];
    wait_for("a deferral", Patience::default(), || {
        postfix.log().lines().any(|line| deferred.iter().all(|word| line.contains(word))).then_some(())
    })
    .map_err(|error| format!("{error}\n{}", postfix.log()))
}

/// More of it is refused in a mailbox; mary's is full.
const QUOTA: &str =
    "mail_plugins = quota\nplugin {\n quota = maildir:User quota\n quota_rule = *:storage=8K\n quota_grace = 0\n}\n";

pub fn gives_mail_to_dovecot() -> Result<(), String> {
    let port = free_port()?.port();
    let main_cf = format!(
        "local_recipient_maps =\nlocal_transport = local:$myhostname\nmailbox_transport = lmtp:unix:{{root}}/dovecot/lmtp\n\
         virtual_mailbox_domains = boxes.example\nvirtual_mailbox_maps = static:x\nvirtual_transport = lmtp:inet:127.0.0.1:{port}\n\
         mynetworks = 127.0.0.0/8\nrecipient_delimiter = +"
    );
    let system = Builder::new("ours.example").user("bob", "secret").main_cf(&main_cf).start()?;
    let full = system.maildir("mary").join("cur");
    for directory in ["cur", "new", "tmp"] {
        fs::create_dir_all(full.with_file_name(directory)).map_err(|error| error.to_string())?;
    }
    let file = full.join("1.M1P1.h,S=9000:2,S");
    fs::write(&file, "x".repeat(9000)).map_err(|error| error.to_string())?;
    let maildir = system.maildir("mary");
    for path in [maildir.clone(), maildir.join("cur"), maildir.join("new"), maildir.join("tmp"), file] {
        system.give_to_user(&path).map_err(|error| error.to_string())?;
    }
    let listener =
        format!("{QUOTA}service lmtp {{\n inet_listener lmtp {{\n address = 127.0.0.1\n port = {port}\n }}\n}}");
    let _dovecot = Dovecot::beside_with(&system, &listener)?;
    story(&system, port).map_err(|error| {
        let dovecot = fs::read_to_string(system.root().join("dovecot/log")).unwrap_or_default();
        format!("{error}\n{}\n{dovecot}", system.logs())
    })
}

fn story(system: &System, port: u16) -> Result<(), String> {
    let socket = format!("relay=mail.ours.example[{}]", system.root().join("dovecot/lmtp").display());
    let inet = format!("relay=127.0.0.1[127.0.0.1]:{port}");
    for (domain, relay) in [("ours.example", &socket), ("boxes.example", &inet)] {
        let to = ["john", "nobody", "mary", "bob+x"].map(|name| format!("{name}@{domain}"));
        let mut smtp = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).map_err(|e| e.to_string())?;
        let names: Vec<&str> = to.iter().map(String::as_str).collect();
        smtp.send("bob@boxes.example", &names, &format!("Subject: for {domain}\r\n\r\nhello"))
            .map_err(|error| error.to_string())?;
        for (name, end) in [
            ("john", "dsn=2.0.0, status=sent (250 2.0.0 <john@"),
            ("nobody", "dsn=5.1.1, status=bounced (host"),
            ("mary", "dsn=5.2.2, status=bounced (host"),
            ("bob+x", "dsn=2.0.0, status=sent (250 2.0.0 <bob+x@"),
        ] {
            let to = format!("to=<{name}@{domain}>");
            let words = [to.as_str(), relay, end];
            wait_for(&format!("{words:?}"), Patience::default(), || {
                let log = system.log("remote-delivery");
                log.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
            })?;
        }
        let john = system.wait_for_messages("john", if domain == "ours.example" { 1 } else { 2 })?;
        if !john.iter().any(|message| message.contains(&format!("Subject: for {domain}"))) {
            return Err(format!("john has {john:?}"));
        }
    }
    // Two messages of his own, and two reports about nobody and mary together.
    let bob = system.wait_for_messages("bob", 4)?;
    let reports = bob.iter().filter(|message| message.contains("Undelivered Mail Returned to Sender"));
    let told =
        reports.filter(|report| report.contains("User doesn't exist") && report.contains("Quota exceeded")).count();
    if told == 2 { Ok(()) } else { Err(format!("{told} reports: {bob:?}")) }
}
