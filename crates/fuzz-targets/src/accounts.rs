//! SASL responses, passwd-files, variables.

use ::accounts::passwd_file::PasswdFile;
use ::accounts::sasl::{Exchange, Progress};
use ::accounts::schemes::Stored;
use ::accounts::variables::{Template, Values};

use crate::Target;

pub const SASL: Target =
    Target { name: "sasl", run: sasl, tokens: &["\0", "user", "\0user\0secret", "ä", "\u{ff}", "%u"], cost: 1 };

pub const PASSWD_FILE: Target = Target {
    name: "passwd_file",
    run: passwd_file,
    tokens: &[
        "john:{PLAIN}secret:1000:1000::/home/john::\n",
        "{SHA256}",
        "{SSHA512.HEX}",
        "{BLF-CRYPT}",
        "$6$x$y",
        "$y$j9T$",
        "password[13]",
        ":",
        "::",
        "userdb_mail=maildir:~/m",
        "allow_nets=10.0.0.0/8",
        "nologin=y",
        "#",
        "\n",
        "{",
        "}",
    ],
    cost: 1,
};

pub const VARIABLES: Target = Target {
    name: "variables",
    run: variables,
    tokens: &[
        "%u",
        "%n",
        "%d",
        "%{user}",
        "%{user | username}",
        "%1n",
        "%-2.3u",
        "%Ln",
        "%{home}",
        "%%",
        "%H",
        "%{domain|upper}",
        "/",
        "%",
        "{",
        "}",
    ],
    cost: 1,
};

/// Credentials are within their limits and hold no NUL; an exchange ends.
fn sasl(input: &[u8]) {
    for mechanism in ["PLAIN", "LOGIN"] {
        let mut exchange = Exchange::new(mechanism).expect("built");
        let mut progress = exchange.begin(None);
        let parts: Vec<&[u8]> = input.splitn(2, |&octet| octet == b'\n').collect();
        for response in parts.iter().cycle().take(4) {
            match progress {
                Progress::Challenge(_) => progress = exchange.respond(response),
                Progress::Credentials(ref credentials) => {
                    assert!(!credentials.user.is_empty() && !credentials.user.contains('\0'));
                    assert!(!credentials.password.as_bytes().contains(&0));
                    break;
                }
                Progress::Invalid(_) => break,
            }
        }
        assert!(!matches!(progress, Progress::Challenge(_)), "{mechanism} does not end");
        assert!(matches!(exchange.respond(b"x"), Progress::Invalid(_)));
    }
}

fn passwd_file(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let file = PasswdFile::parse(&text);
    assert!(file.len() <= text.lines().count());
    for line in text.lines() {
        let name = line.split(':').next().unwrap_or_default();
        if let Some(password) = file.get(name).and_then(|entry| entry.password.as_deref()) {
            drop(Stored::parse(password, "CRYPT"));
        }
    }
}

/// What a template makes is something that it could be, unless a value has a `/`.
fn variables(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(template) = Template::parse(&text) else { return };
    let values =
        Values { user: "john@info.net", service: "imap", home: Some("home"), session: "s", ..Values::default() };
    let Ok(expanded) = template.expand(&values) else { return };
    let plain = !expanded.split('/').any(|name| name == "." || name == "..");
    // It takes the template's variables times the text's octets.
    assert!(!plain || text.len() > 500 || template.could_be(&expanded), "{expanded:?}");
}
