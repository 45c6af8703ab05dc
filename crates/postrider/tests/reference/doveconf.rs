//! `doveconf` of Dovecot and ours over the same files, octet by octet beside the heading, and exit codes: made by hand, and made by chance. `DOVECONF_ROUNDS` says how many of
//! the latter (8).

use std::fs;
use std::process::{Command, Output};

use test_support::harness;

use crate::chance::Chance;

const BY_HAND: [&str; 4] = [
    "protocols = imap pop3 lmtp\nlisten = 127.0.0.1\nmail_location = maildir:~/Maildir\nssl = required\nssl_cert = </etc/ssl/cert.pem\n\
     ssl_key = </etc/ssl/key.pem\nauth_mechanisms = $auth_mechanisms login # both\nmail_plugins = $mail_plugins quota\nlogin_greeting = \"Hello # there\"\n\
     log_timestamp = \"%Y-%m-%d %H:%M:%S \"\nimap_idle_notify_interval = 120 secs\npassdb {\n  driver = passwd-file\n  args = scheme=CRYPT /etc/dovecot/users\n}\n\
     userdb {\n  driver = static\n  args = uid=vmail gid=vmail home=/var/vmail/%d/%n\n}\nnamespace inbox {\n  inbox = yes\n  separator = /\n  mailbox Drafts {\n    \
     special_use = \\Drafts\n    auto = subscribe\n  }\n  mailbox \"Sent Messages\" {\n    special_use = \\Sent\n  }\n}\nservice imap-login {\n  inet_listener imap {\n    \
     port = 0\n  }\n  process_min_avail = 3\n}\nservice lmtp {\n  unix_listener /var/spool/postfix/private/dovecot-lmtp {\n    mode = 0600\n    user = postfix\n  }\n}\n\
     protocol imap {\n  mail_max_userip_connections = 20\n  mail_plugins = $mail_plugins imap_quota\n}\nprotocol !imap {\n  mail_max_userip_connections = 7\n}\n\
     plugin {\n  quota = maildir:User quota\n  zlib_save = gz\n}\nremote 10.0.0.0/8 {\n  disable_plaintext_auth = yes\n}\nlocal 192.168.1.1 {\n  protocol imap {\n    \
     login_greeting = local\n  }\n}\nlocal_name mail.example.org {\n  ssl_cert = </etc/ssl/other.pem\n}\n",
    "ssl = yes\nmail_debug = Y\ndefault_vsz_limit = 1024M\nimap_idle_notify_interval = 7200 s\nimap_hibernate_timeout = 90s\nmail_max_userip_connections = 10\n\
     login_greeting = a \"quoted\" thing\nauth_default_realm = 'sq'\nmail_home = \" x\"\nauth_cache_size = 2000k\nimap_max_line_length = 65536\nnamespace {\n  \
     hidden = no\n  list = yes\n  separator = .\n  prefix = a/\n  location = maildir:~/x\n}\nnamespace zz {\n  inbox = no\n  type = private\n}\npassdb {\n  driver = pam\n  \
     result_failure = continue\n  deny = no\n}\npassdb {\n  driver = shadow\n}\nservice imap {\n  process_limit = 1024\n  executable = imap postlogin\n}\n\
     service imap-login {\n  inet_listener imaps {\n    port = 993\n    ssl = yes\n  }\n  inet_listener new {\n    port = 4\n    ssl = no\n  }\n}\n\
     plugin {\n  b = 2\n  a = 1\n}\nplugin {\n  sieve = file:~/sieve;active=~/.dovecot.sieve\n}\n",
    "login_greeting = global\nmail_max_userip_connections = 1\nlocal 10.1.0.0/16 {\n  login_greeting = local16\n}\nlocal 10.0.0.0/8 {\n  login_greeting = local8\n  \
     local_name a.example {\n    login_greeting = a\n  }\n}\nremote 192.0.2.0/24 {\n  mail_max_userip_connections = 24\n  protocol imap {\n    \
     mail_max_userip_connections = 25\n  }\n}\nremote localhost {\n  mail_max_userip_connections = 7\n}\n\
     local_name \"c.example *.d.example\" {\n  ssl_cert = </etc/ssl/c.pem\n}\nlocal_name \"c.example *.d.example\" {\n  login_greeting = cd\n}\n",
    "",
];

/// What is asked about each file.
const ASKED: [&[&str]; 21] = [
    &["-n"],
    &["-a"],
    &["-h", "mail_location"],
    &["ssl", "mail_plugins"],
    &["-n", "service"],
    &["-f", "protocol=imap", "mail_max_userip_connections"],
    &["-f", "protocol=pop3", "mail_max_userip_connections"],
    &["-a", "service/imap-login"],
    &["-f", "local=10.1.2.3", "login_greeting", "first_valid_uid"],
    &["-f", "local=10.9.9.9", "-f", "lname=A.example", "-n"],
    &["-f", "service=imap", "-f", "remote=192.0.2.9", "mail_max_userip_connections", "login_greeting"],
    &["-f", "protocol=pop3", "-f", "remote=192.0.2.1/24", "-n"],
    &["-f", "lname=x.d.example", "-f", "remote=127.0.0.1", "-n"],
    &[
        "-f",
        "lname=x.y.d.example",
        "-f",
        "local=10.1.1.1",
        "-f",
        "remote=10.1.0.1",
        "-f",
        "protocol=imap",
        "login_greeting",
    ],
    &["-f", "nothing=1", "login_greeting"],
    &["-N"],
    &["-s", "-n", "-h"],
    &["-h", "passdb"],
    &["-m", "imap-login"],
    &["-n", "-m", "auth"],
    &["-n", "-m", "nothing"],
];

pub fn shows_what_dovecot_shows() -> Result<(), String> {
    let rounds = std::env::var("DOVECONF_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let by_chance = (1..=rounds).map(|round: u64| Chance(round.wrapping_mul(0x9e37_79b9_7f4a_7c15)).file());
    let files: Vec<String> = BY_HAND.iter().map(|text| (*text).to_owned()).chain(by_chance).collect();
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = directory.path().join("dovecot.conf");
    let theirs = harness::program("doveconf").ok_or("doveconf is gone")?;
    for text in files {
        fs::write(&path, &text).map_err(|error| error.to_string())?;
        // With `-n` and a filter, Dovecot's forgets what stands in named blocks outside of it.
        let has_blocks = ["namespace", "service", "plugin"].iter().any(|kind| text.contains(kind));
        for options in ASKED.iter().filter(|asked| !has_blocks || !asked.contains(&"-f") || !asked.contains(&"-n")) {
            let file = path.display().to_string();
            let run = |command: &mut Command| -> Result<Output, String> {
                command.args(["-c", &file]).args(*options).output().map_err(|error| error.to_string())
            };
            let theirs = run(&mut Command::new(&theirs))?;
            let ours = run(Command::new(env!("CARGO_BIN_EXE_postrider")).arg("doveconf"))?;
            let (left, right) = ((theirs.status.code(), shown(&theirs)), (ours.status.code(), shown(&ours)));
            if left != right {
                return Err(format!(
                    "{options:?}\n{text}\n--- Dovecot {:?}\n{}\n--- ours {:?}\n{}",
                    left.0, left.1, right.0, right.1
                ));
            }
        }
    }
    Ok(())
}

/// Standard output without the heading, which is about the program.
fn shown(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    // Debian's greeting names Debian.
    let text = text.replace("Dovecot (Debian) ready.", "Dovecot ready.");
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

impl Chance {
    fn file(&mut self) -> String {
        const STATEMENTS: [&str; 20] = [
            "ssl = no",
            "auth_verbose = y",
            "auth_verbose=no",
            "imap_idle_notify_interval = 90 mins",
            "auth_failure_delay = 1 mins",
            "auth_cache_ttl = 1 h",
            "default_vsz_limit = 100 M",
            "auth_cache_size = 10240 B",
            "first_valid_uid = 1000",
            "mail_location = maildir:~/Maildir:INDEX=/var/index/%u",
            "login_greeting = \"with # hash\"",
            "protocols = imap",
            "mail_uid = vmail # comment",
            "mail_plugins = $mail_plugins acl",
            "service pop3 {\n  vsz_limit = 1G\n}",
            "service auth {\n  unix_listener auth-client {\n    mode = 0666\n    group = $default_internal_group\n  }\n}",
            "passdb {\n  driver = static\n  args = password=x\n  skip = authenticated\n}",
            "userdb {\n  driver = prefetch\n}",
            "plugin {\n  acl = vfile\n}",
            "namespace inbox {\n  inbox = yes\n  mailbox Junk {\n    auto = create\n  }\n}",
        ];
        // Filters come last: Dovecot warns about global settings behind them.
        const FILTERS: [[&str; 4]; 4] = [
            ["local 10.0.0.0/8", "local 10.1.0.0/16", "local 10.1.2.3", ""],
            ["local_name a.example", "local_name *.d.example", "", ""],
            ["remote 192.0.2.0/24", "remote 192.0.2.9", "remote 10.1.0.0/16", ""],
            ["protocol imap", "protocol !imap", "protocol lmtp", ""],
        ];
        const INSIDE: [&str; 6] = [
            "mail_max_userip_connections = 3",
            "mail_max_userip_connections = 4",
            "mail_plugins = $mail_plugins sieve",
            "login_greeting = inside",
            "login_greeting = deeper",
            "ssl = yes",
        ];
        let statements: Vec<&str> = (0..10).map(|_| self.of(&STATEMENTS)).collect();
        let mut text = format!("{}\n", statements.join("\n"));
        for _ in 0..3 {
            let around: Vec<&str> = FILTERS.iter().map(|kind| self.of(kind)).filter(|kind| !kind.is_empty()).collect();
            if !around.is_empty() {
                let open: String = around.iter().map(|kind| format!("{kind} {{\n")).collect();
                text.push_str(&format!("{open}{}\n{}", self.of(&INSIDE), "}\n".repeat(around.len())));
            }
        }
        text
    }
}
