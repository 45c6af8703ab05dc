//! Lookup tables from their source texts, aliases, access results.

use std::sync::Arc;

use mail_policy::Answer as PolicyAnswer;
use mail_tables::access::Action;
use mail_tables::aliases::{file_members, members};
use mail_tables::{Answer, Scope, Table, TableKind, TableRef, parse_entries};
use table_clients::{
    RemoteAnswer, decode_ldap, decode_memcache, decode_mysql, decode_mysql_row, decode_netstring, decode_pgsql,
    decode_pgsql_row, decode_socketmap, decode_tcp_reply, decode_tcp_text, encode_ldap_filter,
};

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

pub const FILES: Target = Target {
    name: "table_files",
    run: files,
    tokens: &[
        "\0\0\0\0",
        "\x01\0\0\0",
        "\x10\0\0\0",
        "\x0d",
        "\x05",
        "\x07",
        "\0\x02\0\0",
        "\0\x10\0\0",
        "key",
        "value\0",
    ],
    cost: 1,
};

pub const REPLIES: Target = Target {
    name: "table_replies",
    run: replies,
    tokens: &[
        "5:hello,",
        "200 ",
        "500 x",
        "%20",
        "VALUE k 0 5\r\n",
        "END\r\n",
        "\r\n",
        "D\0\0\0\x0f\0\x01",
        "\0\0\0\x01",
        "\x01\0\0\0",
        "\u{fb}",
        "0\x0c\x02\x01\x01a\x07\x0a\x01\0\x04\0\x04\0",
        "0\x05\x02\x01\x02d\0",
        "\x04\x01a",
        "1\x03\x04\x01a",
        "0\x10",
    ],
    cost: 1,
};

pub const POLICY: Target = Target {
    name: "policy_answer",
    run: policy,
    tokens: &[
        "action=",
        "DUNNO",
        "REJECT no",
        "DEFER_IF_PERMIT x",
        "550 5.7.1 y",
        "\n",
        "\r\n",
        "\n\n",
        "=",
        "PREPEND X: y",
    ],
    cost: 1,
};

/// Packets make no difference, and an action is one line.
fn policy(input: &[u8]) {
    let whole = PolicyAnswer::default().push(input);
    let mut answer = PolicyAnswer::default();
    let cut = input.iter().find_map(|octet| match answer.push(&[*octet]) {
        Ok(None) => None,
        other => Some(other),
    });
    assert_eq!(cut.unwrap_or(Ok(None)), whole);
    if let Ok(Some(action)) = whole {
        assert!(!action.contains('\n'));
        let _ = Action::parse(&action);
    }
}

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

/// Whatever a reader takes for entries was in the file: no more octets come out than went in.
fn files(input: &[u8]) {
    for read in [mail_tables::read_cdb, mail_tables::read_lmdb, mail_tables::read_berkeley] {
        if let Ok(pairs) = read(input) {
            let octets: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
            assert!(octets <= input.len(), "{octets} octets from {}", input.len());
        }
    }
}

/// A decoder takes no more octets than came, and the same reply is read the same however it is cut.
fn replies(input: &[u8]) {
    let used = [
        decode_netstring(input, 1000).ok().flatten().map(|(_, used)| used),
        decode_ldap(input).ok().flatten(),
        decode_memcache(input, 1000).ok().flatten().map(|(_, used)| used),
        decode_pgsql(input).ok().flatten().map(|(_, used)| used),
        decode_mysql(input).ok().flatten().map(|(_, used)| used),
    ];
    assert!(used.iter().flatten().all(|used| *used <= input.len()));
    if let Ok(Some((reply, _))) = decode_netstring(input, 1000) {
        let said = decode_socketmap(&reply);
        assert!(!matches!(&said, RemoteAnswer::Found(text) if text.is_empty()), "a value is never empty");
        assert!(said != RemoteAnswer::NotFound || reply.starts_with(b"NOTFOUND"), "only a clear no is one");
    }
    let _ = encode_ldap_filter(&String::from_utf8_lossy(input));
    let _ = (decode_tcp_reply(input), decode_tcp_text(input), decode_pgsql_row(input), decode_mysql_row(input, 3));
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
            // An expression that cannot be used breaks the whole table, and is reported with its line.
            Answer::Temporary(why) => {
                assert!(reports.iter().any(|report| why.contains(&report.message)), "{why}");
                continue;
            }
            other @ Answer::Missing(_) => panic!("a table in memory asks nobody: {other:?}"),
        }
        assert_eq!(table.get(&reference, key, Scope::Partial, &()), Answer::NotFound);
    }
}
