//! The known ways to ask a server to relay, as data.

/// What an accepted attempt means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The recipient is plainly somewhere else: the server relays.
    Relay,
    /// The address looks like one of the server's own and would be one elsewhere for a server that takes it apart.
    Suspect,
}

/// One attempt: what is said, and what it means if the server agrees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The trick's usual name.
    pub name: &'static str,
    /// The name in EHLO.
    pub helo: String,
    /// The path in MAIL FROM, without brackets.
    pub sender: String,
    /// The path in RCPT TO, without brackets.
    pub recipient: String,
    /// What acceptance means.
    pub meaning: Meaning,
}

/// The names that the attempts are made of.
#[derive(Debug, Clone)]
pub struct Names {
    /// Our own name for EHLO.
    pub client: String,
    /// The server's name or domain.
    pub server: String,
    /// The server's address literal, with brackets.
    pub literal: String,
    /// The local part of the foreign recipient.
    pub local: String,
    /// The domain of the foreign recipient.
    pub domain: String,
}

/// Every attempt, plain ones first.
#[must_use]
pub fn attempts(names: &Names) -> Vec<Attempt> {
    let Names { server, literal, local, domain, .. } = names;
    let stranger = format!("relay-test@{domain}");
    let foreign = format!("{local}@{domain}");
    let inside = format!("postmaster@{server}");
    let mut all = Vec::new();
    let mut add = |name, helo: &str, sender: &str, recipient: &str, meaning| {
        all.push(Attempt { name, helo: helo.into(), sender: sender.into(), recipient: recipient.into(), meaning });
    };
    let us = names.client.as_str();

    // Who asks: the recipient is plainly foreign, the sender and the greeting try to look like family.
    add("foreign sender", us, &stranger, &foreign, Meaning::Relay);
    add("null sender", us, "", &foreign, Meaning::Relay);
    add("sender without a domain", us, "relay-test", &foreign, Meaning::Relay);
    add("local sender", us, &inside, &foreign, Meaning::Relay);
    add("sender at the server's address", us, &format!("postmaster@{literal}"), &foreign, Meaning::Relay);
    add("sender at localhost", us, "root@localhost", &foreign, Meaning::Relay);
    add("sender at 127.0.0.1", us, "root@[127.0.0.1]", &foreign, Meaning::Relay);
    add("HELO localhost", "localhost", &stranger, &foreign, Meaning::Relay);
    add("HELO 127.0.0.1", "[127.0.0.1]", &stranger, &foreign, Meaning::Relay);
    add("HELO with the server's name", server, &inside, &foreign, Meaning::Relay);

    // How the recipient is written.
    let to = |recipient: String, name, meaning| (name, recipient, meaning);
    let written = [
        to(format!("{local}@[192.0.2.1]"), "foreign address literal", Meaning::Relay),
        to(format!("\"{local}\"@{domain}"), "quoted local part", Meaning::Relay),
        to(format!("{foreign}."), "domain with a final dot", Meaning::Relay),
        to(format!("@{server}:{foreign}"), "source route", Meaning::Relay),
        to(format!("@{literal}:{foreign}"), "source route over the address", Meaning::Relay),
        to(format!("@{server},@{server}:{foreign}"), "source route with two hops", Meaning::Relay),
        to(format!("{local}%{domain}"), "%-hack without a domain", Meaning::Suspect),
        to(format!("{local}%{domain}@{server}"), "%-hack", Meaning::Suspect),
        to(format!("{local}%{domain}@{literal}"), "%-hack at the address", Meaning::Suspect),
        to(format!("{local}%{domain}@localhost"), "%-hack at localhost", Meaning::Suspect),
        to(format!("\"{local}%{domain}\"@{server}"), "quoted %-hack", Meaning::Suspect),
        to(format!("{domain}!{local}"), "bang path", Meaning::Suspect),
        to(format!("{domain}!{local}@{server}"), "bang path at the server", Meaning::Suspect),
        to(format!("{domain}!{local}@{literal}"), "bang path at the address", Meaning::Suspect),
        to(format!("{server}!{foreign}"), "bang path through the server", Meaning::Relay),
        to(format!("\"{foreign}\""), "quoted address", Meaning::Suspect),
        to(format!("\"{foreign}\"@{server}"), "quoted @", Meaning::Suspect),
        to(format!("\"{foreign}\"@{literal}"), "quoted @ at the address", Meaning::Suspect),
        to(format!("{foreign}@{server}"), "two @", Meaning::Suspect),
        to(format!("{foreign}@{literal}"), "two @ at the address", Meaning::Suspect),
    ];
    for (name, recipient, meaning) in &written {
        add(name, us, &stranger, recipient, *meaning);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_trick_is_tried_once() {
        let names = Names {
            client: "client.example".into(),
            server: "mail.info.net".into(),
            literal: "[192.0.2.25]".into(),
            local: "someone".into(),
            domain: "example.com".into(),
        };
        let all = attempts(&names);
        for recipient in [
            "someone@example.com",
            "someone%example.com@mail.info.net",
            "example.com!someone@mail.info.net",
            "\"someone@example.com\"@mail.info.net",
            "@mail.info.net:someone@example.com",
            "someone@[192.0.2.1]",
        ] {
            assert!(all.iter().any(|attempt| attempt.recipient == recipient), "{recipient}");
        }
        for attempt in &all {
            let same = all.iter().filter(|other| {
                (&other.helo, &other.sender, &other.recipient) == (&attempt.helo, &attempt.sender, &attempt.recipient)
            });
            assert_eq!(same.count(), 1, "{attempt:?}");
        }
    }
}
