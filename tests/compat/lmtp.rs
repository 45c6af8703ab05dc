//! A real Postfix with `lmtp:inet:127.0.0.1:PORT` and our LMTP listener behind it: what is stored it calls sent, what is not it bounces or keeps.

use test_support::clients::{Security, Smtp};
use test_support::{Builder, Patience, wait_for};

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
