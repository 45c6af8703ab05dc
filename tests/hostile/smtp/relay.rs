//! Open relay: every form that ever made a server send on what was not its own, from a client that may not.

use test_support::harness::{Test, test};

use crate::door::{self, DOMAIN, STRANGER};

pub fn tests() -> Vec<Test> {
    vec![
        // S17, S18
        test("a stranger relays through us in no form", &[], in_no_form),
        // S12
        test("postmaster is accepted at every domain of ours, in any case", &[], postmaster),
        test("a name in HELO and a sender of ours open nothing", &[], whatever_the_client_says_of_itself),
    ]
}

/// Recipients that lead outside, or would with a second reading.
fn forms() -> Vec<String> {
    let own = DOMAIN;
    [
        "user@outside.example",
        "user%outside.example",
        "user%outside.example@OWN",
        "user%outside.example@[127.0.0.1]",
        "outside.example!user",
        "outside.example!user@OWN",
        "outside.example!user@[127.0.0.1]",
        "\"user@outside.example\"",
        "\"user@outside.example\"@OWN",
        "\"user%outside.example\"@OWN",
        "\"outside.example!user\"@OWN",
        "user@outside.example@OWN",
        "@OWN:user@outside.example",
        "@outside.example:user@OWN",
        "@OWN,@other.example:user@outside.example",
        "user@[192.0.2.9]",
        "user@[IPv6:2001:db8::9]",
        "user@outside.example.",
        "user@[outside.example]",
        "\"user\"@outside.example",
        "user@OWN.outside.example",
        "user@ outside.example",
        "user@outside.example\\@OWN",
        "\"user\\@outside.example\"@OWN",
    ]
    .map(|form| form.replace("OWN", own))
    .to_vec()
}

fn in_no_form() -> Result<(), String> {
    let door = door::open()?;
    for form in forms() {
        let mut smtp = door.smtp(STRANGER)?;
        smtp.command("MAIL FROM:<somebody@elsewhere.example>", 2).map_err(|error| error.to_string())?;
        let reply = smtp.command(&format!("RCPT TO:<{form}>"), 5).map_err(|error| format!("{form}: {error}"))?;
        let relays = ["554 5.7.1", "550 5.1.1", "501 5.1.3"];
        if !relays.iter().any(|code| reply.starts_with(code)) {
            return Err(format!("<{form}> is refused with: {reply}"));
        }
    }
    Ok(())
}

fn postmaster() -> Result<(), String> {
    let door = door::open()?;
    let mut smtp = door.smtp(STRANGER)?;
    smtp.command("MAIL FROM:<somebody@elsewhere.example>", 2).map_err(|error| error.to_string())?;
    for domain in ["", &format!("@{DOMAIN}"), &format!("@mail.{DOMAIN}"), "@localhost", "@[127.0.0.1]"] {
        for local in ["postmaster", "Postmaster", "POSTMASTER", "\"PostMaster\""] {
            smtp.command(&format!("RCPT TO:<{local}{domain}>"), 2).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn whatever_the_client_says_of_itself() -> Result<(), String> {
    let door = door::open()?;
    let wrong = |error: std::io::Error| error.to_string();
    for helo in ["localhost", "127.0.0.1", "[127.0.0.1]", &format!("mail.{DOMAIN}"), DOMAIN] {
        for sender in [&format!("john@{DOMAIN}"), "", "postmaster", "john@localhost", "john@[127.0.0.1]"] {
            let mut smtp = door.smtp(STRANGER)?;
            smtp.command(&format!("EHLO {helo}"), 2).map_err(wrong)?;
            smtp.command(&format!("MAIL FROM:<{sender}>"), 2).map_err(wrong)?;
            let reply = smtp.command("RCPT TO:<user@outside.example>", 5).map_err(wrong)?;
            if reply != "554 5.7.1 <user@outside.example>: Relay access denied" {
                return Err(format!("EHLO {helo}, MAIL FROM:<{sender}>: {reply}"));
            }
        }
    }
    Ok(())
}
