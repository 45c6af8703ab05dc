//! main.cf, master.cf, dovecot.conf.

use std::sync::Arc;

use mail_config::dovecot::{self, Location, Node, RawDovecot};
use mail_config::main_cf::{self, Main, RawMain};
use mail_config::{Dovecot, Machine, Report, expand, lines, master_cf, words};
use mail_types::SourceLine;

use crate::Target;

pub const MAIN_CF: Target = Target {
    name: "main_cf",
    run: main_cf,
    tokens: &[
        "myhostname = ",
        "mydestination = ",
        "mynetworks = 10.0.0.0/8, [::1]\n",
        "smtpd_recipient_restrictions = ",
        "reject_unauth_destination",
        "check_client_access hash:/a",
        "$mydomain",
        "${a?b}",
        "${a:{b}}",
        "${{a} == {b} ? {c} : {d}}",
        "$(a)",
        "$$",
        "{",
        "}",
        "inline:{ a=b }",
        "static:x",
        "cidr:{{10.0.0.0/8 OK}}",
        "300s",
        "1d",
        "yes",
        "...\n",
        "# comment\n",
        "\n  ",
        "= ",
        "a = $b\nb = $a\n",
        ",",
        "smtpd_restriction_classes = x\nx = reject\n",
    ],
    cost: 40,
};

pub const MASTER_CF: Target = Target {
    name: "master_cf",
    run: master_cf,
    tokens: &[
        "smtp inet n - y - - smtpd\n",
        "submission",
        "unix",
        "inet",
        "pass",
        "fifo",
        "  -o a=b\n",
        "  -o { a = b c }\n",
        "-",
        "n",
        "y",
        "0",
        "1?",
        "127.0.0.1:25",
        "[::1]:25",
        "smtpd -v",
        "{",
        "}",
        "\n  ",
        "#",
    ],
    cost: 1,
};

pub const DOVECOT_CONF: Target = Target {
    name: "dovecot_conf",
    run: dovecot_conf,
    tokens: &[
        "protocols = imap pop3\n",
        "service imap-login {\n",
        "inet_listener imaps {\n",
        "port = 993\n",
        "}\n",
        "{",
        "}",
        "passdb {\n",
        "driver = passwd-file\n",
        "args = /etc/users\n",
        "$protocols",
        "$SET:a",
        "$ENV:A",
        "\"",
        "\\\"",
        "'",
        "\\\n",
        "# x\n",
        " #",
        "mail_location = maildir:~/Maildir:INDEX=/x\n",
        "dovecot_config_version = 2.4.0\n",
        "mail_driver = maildir\nmail_path = ~/Maildir\n",
        "userdb static {\n fields {\n  home = /h/%{user | lower}\n }\n}\n",
        "protocol imap {\n mail_plugins = $mail_plugins quota\n}\n",
        "plugin {\n quota_rule2 = x\n}\n",
        "mailbox Sent {\n special_use = \\Sent\n auto = subscribe\n}\n",
        "prefix = a/\nseparator = /\n",
        "listen = 127.0.0.1, ::1\n",
        "!include x\n",
        "ssl_key = </etc/key\n",
        "namespace inbox { inbox = yes }\n",
        "remote 10.0.0.0/8 {\n",
        "=",
    ],
    cost: 20,
};

fn said(reports: &[Report]) {
    reports.iter().for_each(|report| drop((report.to_string(), report.line())));
}

/// Entries have names, mistakes have places that exist, and expansion ends within its limit.
fn main_cf(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (file, mut reports) = (Arc::from("main.cf"), Vec::new());
    let entries = main_cf::parse(&file, &text, &mut reports);
    said(&reports);
    let count = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
    for entry in entries.values() {
        assert!(!entry.name.is_empty() && (1..=count).contains(&entry.source.line), "{entry:?}");
        let _ = words::split_words(&entry.value);
        assert!(expand::mentioned(&entry.value).len() <= entry.value.len());
    }
    assert!(lines::logical_lines(&text).len() <= text.lines().count());
    let raw = RawMain { file, directory: "/etc/postfix".to_owned(), entries, machine: Machine::named("mail.info.net") };
    for entry in raw.entries.values() {
        let expanded = raw.expand(&entry.value).unwrap_or_default();
        assert!(expanded.len() <= (1 << 20) + text.len(), "{} octets", expanded.len());
    }
    let (main, reports) = Main::of(&Arc::new(raw));
    said(&reports);
    drop(main.tables());
}

fn master_cf(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut reports = Vec::new();
    let master = master_cf::parse(&Arc::from("master.cf"), &text, &mut reports);
    said(&reports);
    let pairs: std::collections::BTreeSet<_> =
        master.services.iter().map(|service| (service.name.clone(), format!("{:?}", service.kind))).collect();
    assert_eq!(pairs.len(), master.services.len(), "a service is there twice");
    for transport in master.transports() {
        assert!(master.transport(transport.name()).is_some());
    }
}

fn dovecot_conf(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut reports = Vec::new();
    let nodes = dovecot::parse_text(&Arc::from("dovecot.conf"), &text, &mut reports);
    said(&reports);
    nodes.iter().for_each(|node| nodes_below(node, 0));
    let _ = Location::parse(&text, &SourceLine::built_in());
    typed(nodes);
}

/// There is always an INBOX, a password and a user database; no listener has no address; a generation gives the same again.
fn typed(nodes: Vec<Node>) {
    let (dovecot, reports) = Dovecot::of(nodes);
    said(&reports);
    assert!(dovecot.namespaces.iter().any(|namespace| namespace.inbox), "no namespace has INBOX");
    assert!(!dovecot.passdbs.is_empty() && !dovecot.userdbs.is_empty());
    assert!(dovecot.logins.iter().all(|login| !login.addresses.is_empty()));
    let json = serde_json::to_vec(dovecot.raw()).unwrap_or_default();
    let Ok(again) = serde_json::from_slice::<RawDovecot>(&json) else { panic!("a generation cannot be read back") };
    assert_eq!(Dovecot::of(again.nodes).0.settings, dovecot.settings);
}

/// Blocks have kinds, settings have keys, and the tree is not deep.
fn nodes_below(node: &Node, depth: usize) {
    assert!(depth <= 17, "blocks are nested too deep");
    match node {
        Node::Setting { key, .. } => assert!(!key.is_empty() && !key.contains(char::is_whitespace), "{key:?}"),
        Node::Block(block) => {
            assert!(!block.kind.is_empty());
            block.nodes.iter().for_each(|node| nodes_below(node, depth + 1));
        }
    }
}
