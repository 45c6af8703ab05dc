//! mailq, postqueue -p, postqueue -j, sendmail -bp, mailq --json. The headline is Postfix's for long queue ids.

use crate::server;

pub fn says_why() -> Result<(), String> {
    let machine = server::machine("")?;
    let _names = machine.name_server("fail gmail.com")?;
    server::start(&machine)?;
    server::holds(&machine, &server::ours(&machine, "mailq")?, &["Mail queue is empty"])?;
    server::send(&machine, "john@info.net", "mike@gmail.com", "it waits")?;
    machine
        .wait_until("export PATH=/run/postrider:$PATH MAIL_CONFIG=/etc/postfix; mailq | grep 'Name service error'")
        .map_err(|error| format!("{error}\n{}", server::logs(&machine)))?;
    for command in ["mailq", "postqueue -p", "sendmail -bp"] {
        let shown = server::ours(&machine, command)?;
        let wanted = [
            "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------",
            "john@info.net",
            "(Host or domain name not found",
            "in 1 Request.",
        ];
        server::holds(&machine, &shown, &wanted)?;
    }
    for command in ["postqueue -j", "mailq --json"] {
        let shown = server::ours(&machine, command)?;
        let object: serde_json::Value =
            serde_json::from_str(shown.trim()).map_err(|error| format!("{command}: {error}: {shown}"))?;
        let recipient = &object["recipients"][0];
        if object["queue_name"] != "deferred"
            || object["sender"] != "john@info.net"
            || recipient["address"] != "mike@gmail.com"
        {
            return Err(format!("{command}: {object}"));
        }
        server::holds(&machine, &recipient["delay_reason"].to_string(), &["Name service error"])?;
    }
    Ok(())
}
