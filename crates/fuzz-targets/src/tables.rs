//! Lookup tables from their source texts, aliases, access results.

use std::sync::Arc;

use mail_tables::access::Action;
use mail_tables::aliases::{file_members, members};
use mail_tables::{Answer, Scope, Table, TableKind, TableRef, parse_entries};

use crate::Target;

pub const HASH: Target = Target {
    name: "table_hash",
    run: |input| source(input, false),
    tokens: &[
        "user@info.net",
        "@info.net",
        "OK",
        "REJECT text",
        "192.168.0.0/24",
        "\n  ",
        "\n",
        "\t",
        "#",
        "\"",
        "é",
        "I",
    ],
    cost: 1,
};

pub const ALIASES: Target = Target {
    name: "table_aliases",
    run: |input| {
        source(input, true);
        aliases(input);
    },
    tokens: &[
        "root: john\n",
        "\"quoted name\": ",
        ":include:/list",
        "|\"/bin/x a\"",
        "/file",
        "\\john",
        ",",
        "(",
        ")",
        "<a@b>",
        "\n  ",
        "\"",
        "#",
    ],
    cost: 1,
};

pub const CIDR: Target = Target {
    name: "table_cidr",
    run: |input| rules(input, TableKind::Cidr, &["10.0.0.1", "::1", "192.168.3.4", "mail.info.net"]),
    tokens: &[
        "10.0.0.0/8 OK\n",
        "2001:db8::/32 REJECT\n",
        "!",
        "if 10.0.0.0/8\n",
        "endif\n",
        "[::1]/128",
        "/33",
        "\n  ",
        "#",
        "if !",
    ],
    cost: 1,
};

pub const REGEXP: Target = Target {
    name: "table_regexp",
    run: |input| rules(input, TableKind::Regexp, &["user@info.net", "", "a\nb", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]),
    tokens: &[
        "/^a(.*)@b$/i c$1\n",
        "!/x/ OK\n",
        "if /a/\n",
        "endif\n",
        "$1",
        "${2}",
        "$(3)",
        "$$",
        "(",
        ")",
        "[[:alpha:]]",
        "{2,9}",
        "*",
        "+",
        "\\<",
        "|",
        "/",
        "\\",
        "\n  ",
        "#",
    ],
    cost: 20,
};

pub const ACCESS: Target = Target {
    name: "access_action",
    run: |input| drop(Action::parse(&String::from_utf8_lossy(input))),
    tokens: &[
        "OK",
        "REJECT",
        "550 5.7.1 text",
        "DEFER_IF_PERMIT",
        "DUNNO",
        "HOLD",
        "DISCARD",
        "PREPEND X: y",
        "{",
        "}",
        ",",
        "450",
        " ",
    ],
    cost: 1,
};

/// Entries have a key, a value and a line that is there; a table answers each of its keys.
fn source(input: &[u8], aliases: bool) {
    let text = String::from_utf8_lossy(input);
    let count = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
    let (entries, reports) = parse_entries(&Arc::from("t"), &text, aliases);
    reports.iter().for_each(|report| drop(report.to_string()));
    for entry in &entries {
        assert!(!entry.key.is_empty() && !entry.value.is_empty() && (1..=count).contains(&entry.line), "{entry:?}");
    }
    let reference = TableRef { kind: TableKind::Hash, name: "t".to_owned(), proxy: false };
    let (table, _) = Table::parse(&reference, &text, aliases);
    for entry in entries.iter().take(50) {
        let answer = table.get(&reference, &entry.key, Scope::Full, &());
        assert!(answer.found().is_some(), "{:?} is not found: {answer:?}", entry.key);
    }
}

/// A list has at most one member more than octets.
fn aliases(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    assert!(members(&text).len() <= text.len() + 1);
    let _ = file_members(&text);
}

fn rules(input: &[u8], kind: TableKind, keys: &[&str]) {
    let text = String::from_utf8_lossy(input);
    let count = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
    let reference = TableRef { kind, name: "t".to_owned(), proxy: false };
    let (table, reports) = Table::parse(&reference, &text, false);
    reports.iter().for_each(|report| drop(report.to_string()));
    for key in keys {
        match table.get(&reference, key, Scope::Full, &()) {
            Answer::Found(found) => assert!((1..=count).contains(&found.source.line), "{found:?}"),
            Answer::NotFound => {}
            other => panic!("a table in memory always knows: {other:?}"),
        }
        assert_eq!(table.get(&reference, key, Scope::Partial, &()), Answer::NotFound);
    }
}
