//! Attack classes path traversal in mailbox names, sequence-set, SEARCH and LIST blow-ups, partial overflow, endless APPEND: after login.

use test_support::{Builder, System};

use super::dialogue::check;
use super::session::Session;

pub fn names_stay_inside_the_maildir() -> Result<(), String> {
    let system = Builder::new("info.net").start()?;
    // What would be found if a name led out of john's Maildir.
    let mut mary = Session::login(&system, "mary", "mary")?;
    mary.ok("CREATE private")?;
    mary.ok("SELECT INBOX")?;
    let before = tree(&system)?;
    let mut john = Session::login(&system, "john", "names")?;
    john.ok("SELECT INBOX")?;
    john.ok("UNSELECT")?;
    for name in HOSTILE_NAMES {
        for command in ["SELECT", "EXAMINE", "DELETE", "STATUS", "CREATE", "SUBSCRIBE", "RENAME INBOX", "APPEND"] {
            let argument = [&b" {"[..], name.len().to_string().as_bytes(), b"+}\r\n", name].concat();
            let end: &[u8] = match command {
                "STATUS" => b" (MESSAGES)",
                "APPEND" => b" {1+}\r\nx",
                _ => b"",
            };
            let reply = john.refused(&[command.as_bytes(), &argument, end].concat())?;
            check(!reply.contains(&system.root().display().to_string()), || format!("a path is told: {reply}"))?;
        }
        let listed = john.text(&[b"LIST \"\" {", name.len().to_string().as_bytes(), b"+}\r\n", name].concat())?;
        check(!listed.contains("private") && !listed.contains("passwd"), || format!("LIST shows {listed}"))?;
    }
    // References and patterns that are paths show nothing beyond john's own mailboxes either.
    for command in
        ["LIST \"../../\" *", "LIST \"/\" \"home/%\"", "LIST ~mary/ *", "LIST \"\" \"../%\"", "LSUB \"../\" *"]
    {
        let listed = john.text(command.as_bytes())?;
        check(!listed.contains("private"), || format!("{command}: {listed}"))?;
    }
    let after = tree(&system)?;
    let strange: Vec<&String> = after.iter().filter(|path| !before.contains(path) && !is_johns_own(path)).collect();
    check(strange.is_empty(), || format!("names made {strange:?}"))
}

/// Paths, other users' boxes, and every trick with modified UTF-7.
const HOSTILE_NAMES: &[&[u8]] = &[
    b"..",
    b"../mary",
    b"../../mary/Maildir/.private",
    b"a/../../mary",
    b"/etc/passwd",
    b"/",
    b"//",
    b"~",
    b"~mary",
    b"~/../mary",
    b"a//b",
    b"/a",
    b".",
    b"./a",
    b"a/./b",
    b"a\rb",
    b"a\nb",
    b"a\x7fb",
    b"a\x1b[2Jb",
    b"&AC4ALg-",
    b"&AC8-etc",
    b"&AGE-",
    b"&AAA-",
    b"&AAo-",
    b"&2AA-",
    b"&2D0-",
    b"&",
    b"&AOQ",
    b"&AOR-",
    b"&AOQ-&AOQ-",
    b"a&b",
    b"\xff\xfe",
    b"..DOVECOT-TRASHED",
    b"cur/../..",
];

fn is_johns_own(path: &str) -> bool {
    path.starts_with("home/john/Maildir/") || path == "home/john/Maildir"
}

/// Every path of the system below its directory, logs and queue apart.
fn tree(system: &System) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut open = vec![system.root().join("home"), system.root().join("etc")];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))? {
            let path = entry.map_err(|error| error.to_string())?.path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path.clone());
            }
            let shown = path.strip_prefix(system.root()).unwrap_or(&path);
            found.push(shown.display().to_string());
        }
    }
    Ok(found)
}

pub fn commands_cost_linear_time() -> Result<(), String> {
    let system = Builder::new("info.net").start()?;
    let mut john = Session::login_to_work(&system, "john", "blow-ups")?;
    for number in 0..20 {
        let header = format!("Subject: {number}\r\n{}", "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(5000));
        let message = format!("{header}\r\nbody\r\n");
        john.ok(&format!("APPEND INBOX {{{}+}}\r\n{message}", message.len()))?;
    }
    john.ok("SELECT INBOX")?;
    sets(&mut john)?;
    searches(&mut john)?;
    lists(&mut john)?;
    fetches(&mut john)?;
    appends(&mut john)?;
    literals(&mut john)?;
    john.ok("NOOP")?;
    Ok(())
}

/// Sets as long as a command may be, the largest numbers, ranges in either order.
fn sets(john: &mut Session) -> Result<(), String> {
    let all = format!("1:4294967295{}", ",4294967295:1,*:1,1:*".repeat(2500));
    check(john.ok(&format!("UID FETCH {all} UID"))?.matches(" FETCH ").count() == 20, || "a long set".to_owned())?;
    let many: Vec<String> = (1..9000).map(|n| (n * 2).to_string()).collect();
    john.ok(&format!("UID STORE {} +FLAGS.SILENT (\\Answered)", many.join(",")))?;
    john.ok(&format!("UID SEARCH {}", ["UID 1:*"; 5000].join(" ")))?;
    for bad in ["0", "0:0", "1:", ":1", "1::2", "4294967296", "99999999999999999999", "1,,2", "-1", "1:*:2"] {
        john.refused(format!("FETCH {bad} UID").as_bytes())?;
    }
    john.refused(b"FETCH 21 UID")?;
    Ok(())
}

fn searches(john: &mut Session) -> Result<(), String> {
    john.ok(&format!("SEARCH {}", ["NOT SUBJECT x"; 1000].join(" ")))?;
    john.ok(&format!("SEARCH {}", ["OR BODY y TEXT body"; 500].join(" ")))?;
    john.ok(&format!("SEARCH {}", ["SENTSINCE 1-Jan-2000"; 2500].join(" ")))?;
    let reply = john.refused(format!("SEARCH {}", ["NOT SUBJECT x"; 1001].join(" ")).as_bytes())?;
    check(reply.contains("[LIMIT]"), || format!("many texts: {reply}"))?;
    john.ok(&format!("SEARCH HEADER X-Filler {}b", "a".repeat(60_000)))?;
    for deep in [
        "NOT ".repeat(10_000) + "ALL",
        "OR ALL ".repeat(8000) + "ALL",
        "(".repeat(30_000),
        "(".repeat(9000) + "ALL" + &")".repeat(9000),
    ] {
        john.refused(format!("SEARCH {deep}").as_bytes())?;
    }
    Ok(())
}

fn lists(john: &mut Session) -> Result<(), String> {
    for number in 0..200 {
        john.ok(&format!("CREATE {}{number}", "a".repeat(100)))?;
    }
    for pattern in
        ["%a".repeat(20_000), "*a".repeat(50) + "b", "%*".repeat(30_000), "*".repeat(60_000), "a*".repeat(99) + "z"]
    {
        john.ok(&format!("LIST \"\" \"{pattern}\""))?;
    }
    Ok(())
}

/// Parts and portions that are not there are empty; items without number cost no more than their octets.
fn fetches(john: &mut Session) -> Result<(), String> {
    for item in [
        "BODY.PEEK[]<18446744073709551615.4294967295>",
        "BODY.PEEK[]<4294967295.4294967295>",
        "BODY.PEEK[1]<99999.1>",
        "BODY.PEEK[TEXT]<6.1>",
        "BODY.PEEK[2.3.4.5]",
    ] {
        let said = john.ok(&format!("FETCH 1 {item}"))?;
        check(said.contains("\"\"") || said.contains("NIL"), || format!("{item}: {said}"))?;
    }
    let said = john.ok("FETCH 1 BODY.PEEK[TEXT]<4.4294967295>")?;
    check(said.contains("{2}\r\n\r\n)"), || format!("a portion beyond the end: {said}"))?;
    for bad in [
        "BODY.PEEK[]<1.0>",
        "BODY.PEEK[]<-1.5>",
        "BODY.PEEK[]<18446744073709551616.1>",
        "BODY.PEEK[]<1.4294967296>",
        "BODY.PEEK[0]",
        "BODY.PEEK[4294967296]",
    ] {
        john.refused(format!("FETCH 1 {bad}").as_bytes())?;
    }
    john.refused(format!("FETCH 1 BODY.PEEK[{}1]", "1.".repeat(20_000)).as_bytes())?;
    let names: Vec<String> = (0..9000).map(|n| format!("F{n}")).collect();
    john.ok(&format!("FETCH 1:* BODY.PEEK[HEADER.FIELDS ({})]", names.join(" ")))?;
    john.ok(&format!("FETCH 1:* BODY.PEEK[HEADER.FIELDS.NOT (X-Filler {})]", names.join(" ")))?;
    john.ok(&format!("FETCH 1 ({})", ["ENVELOPE"; 5000].join(" ")))?;
    john.ok(&format!("FETCH 1 ({})", ["BODY.PEEK[]"; 100].join(" ")))?;
    Ok(())
}

/// Nobody is invited to send what will not be kept.
fn appends(john: &mut Session) -> Result<(), String> {
    for size in ["107374182400", "18446744073709551615"] {
        let reply = john.refused(format!("APPEND INBOX {{{size}}}").as_bytes())?;
        check(reply.contains("[TOOBIG]"), || format!("APPEND of {size}: {reply}"))?;
    }
    let reply = john.refused(b"APPEND INBOX {99999999999999999999}")?;
    check(reply.contains(" BAD ") || reply.contains("[TOOBIG]"), || format!("APPEND beyond 64 bits: {reply}"))?;
    john.refused(b"APPEND INBOX {5+}\r\na\0b\0c")?;
    john.refused(b"APPEND INBOX {0}")?;
    john.refused(b"APPEND nowhere {100}")?;
    Ok(())
}

/// A command is no longer than `imap_max_line_length`, literals included.
fn literals(john: &mut Session) -> Result<(), String> {
    john.refused(b"SELECT {100000}")?;
    john.refused(b"SEARCH TEXT {4294967295}")?;
    john.refused(&[b"SEARCH TEXT {70000+}\r\n", &b"x".repeat(70_000)[..]].concat())?;
    john.refused(
        &[&b"SEARCH SUBJECT {40000+}\r\n"[..], &b"x".repeat(40_000), b" SUBJECT {40000+}\r\n", &b"y".repeat(40_000)]
            .concat(),
    )?;
    john.refused(&[b"NOOP ", &b"x".repeat(1_000_000)[..]].concat())?;
    john.refused(b"SELECT {5+}\r\nIN\0OX")?;
    john.refused(b"SELECT \"IN\0OX\"")?;
    Ok(())
}
