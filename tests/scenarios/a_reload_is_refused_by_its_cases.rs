//! `postrider_reload_tests`: a configuration that would refuse john's mail is not taken; one that passes is.

use test_support::clients::{Security, Smtp};
use test_support::{Builder, System};

const CASES: &str = "\
client 192.0.2.1
helo   client.example
from   anna@known.example

case john gets his mail
  to     john@c.example
  expect accept
  expect mailbox {root}/home/john/Maildir

case strangers cannot relay
  to     far@known.example
  expect reject
  expect reply 554 5.7.1
  expect rule reject_unauth_destination
";

pub fn and_nothing_changes() -> Result<(), String> {
    let system =
        Builder::new("c.example").main_cf("postrider_reload_tests = {root}/etc/cases").file("cases", CASES).start()?;
    story(&system).map_err(|error| format!("{error}\n{}", system.logs()))
}

fn story(system: &System) -> Result<(), String> {
    let printed = system.run(&["test", &system.etc().join("cases").display().to_string()], "")?;
    if !printed.contains("ok    john gets his mail") || !printed.ends_with("2 cases: 2 as expected, 0 not\n") {
        return Err(printed);
    }
    system.run(&["reload"], "")?;
    let before = generation(system)?;
    let file = system.etc().join("main.cf");
    let good = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let write = |more: &str| std::fs::write(&file, format!("{good}{more}")).map_err(|error| error.to_string());
    write("smtpd_sender_restrictions = reject\n")?;
    for command in [&["reload"][..], &["postfix", "reload"]] {
        let refused = system.tool(command, b"").map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        if refused.status.code() != Some(78)
            || !said.contains("FAIL  john gets his mail")
            || !said.contains("postrider_reload_tests")
        {
            return Err(format!("{command:?}: {}: {said}", refused.status));
        }
    }
    if generation(system)? != before {
        return Err("another generation runs".to_owned());
    }
    takes_mail(system)?;
    write("message_size_limit = 12345678\n")?;
    system.run(&["reload"], "")?;
    if generation(system)? == before {
        return Err("what passes its cases is not taken".to_owned());
    }
    // A sandbox is not opened again: who needs a restart is told so.
    write("smtpd_end_of_data_restrictions = check_policy_service inet:127.0.0.1:10023\n")?;
    let said = system.tool(&["reload"], b"").map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    if !said.contains("the policy service on TCP port 10023 is reached after `systemctl restart smtpd'") {
        return Err(format!("reload said: {said}"));
    }
    write("message_size_limit = 12345678\n")?;
    system.run(&["reload"], "")?;
    takes_mail(system)
}

fn generation(system: &System) -> Result<String, String> {
    let link = std::fs::read_link(system.state().join("generation/current")).map_err(|error| error.to_string())?;
    Ok(link.display().to_string())
}

fn takes_mail(system: &System) -> Result<(), String> {
    let smtp = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear);
    let sent = smtp.and_then(|mut smtp| smtp.send("anna@known.example", &["john@c.example"], "Subject: x\r\n\r\nx"));
    sent.map(drop).map_err(|error| error.to_string())
}
