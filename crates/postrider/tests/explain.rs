//! `postrider explain` and `postrider test` as people and programs call them, on configurations in a temporary directory.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// The user's page, rows 3, 7, 8 and 9; the users are in a table, so that the machine's own do not matter.
const MAIN_CF: &str = "\
mydomain = info.net
myhostname = server.info.net
myorigin = $mydomain
mydestination = $myhostname, localhost.$mydomain, localhost, $mydomain
mynetworks = 192.168.01.0/24, 127.0.0.0/8
home_mailbox = Maildir/
smtpd_peername_lookup = no
smtpd_client_restrictions = hash:DIR/access
virtual_alias_domains = example.net
virtual_alias_maps = hash:DIR/virtual
alias_maps = hash:DIR/aliases
local_recipient_maps = $alias_maps
virtual_mailbox_domains = box.org
virtual_mailbox_maps = hash:DIR/boxes
virtual_mailbox_base = /srv/mail
virtual_uid_maps = static:5000
virtual_gid_maps = static:5000
virtual_transport = virtual
queue_directory = DIR/spool
";
const MASTER_CF: &str = "\
smtp inet n - n - - smtpd
submission inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
smtp unix - - n - - smtp
local unix - n n - - local
virtual unix - n n - - virtual
error unix - - n - - error
discard unix - - n - - discard
";

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self::with("")
    }

    fn with(more: &str) -> Self {
        let place = Self(tempfile::tempdir().expect("a directory"));
        place.write("main.cf", &format!("{MAIN_CF}{more}"));
        place.write("master.cf", MASTER_CF);
        place.write("dovecot.conf", "protocols = imap\n");
        place.write("access", "192.168.2.0/24 OK\n192.168.2.10 REJECT\n");
        place.write("virtual", "@example.net infonetaccount@example.com\n");
        place.write("boxes", "a@box.org box.org/a/\n");
        place.write("aliases", "postmaster: collect\nsales: charles, a@box.org, \"|/usr/bin/sort -u\"\ncharles: charles@gmail.com\ncollect: /var/mail/all\n");
        place
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text.replace("DIR", &self.shown())).expect("written");
    }

    fn shown(&self) -> String {
        self.0.path().display().to_string()
    }

    fn call(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
        command.args(arguments).args(["-c", &self.shown(), "--dovecot"]).arg(self.0.path().join("dovecot.conf"));
        command.output().expect("it runs")
    }

    /// Explains a case that must have an answer.
    fn explain(&self, arguments: &[&str]) -> String {
        let all =
            [&["explain", "--no-dns", "--helo", "pc.example.org", "--from", "anna@example.org"], arguments].concat();
        let output = self.call(&all);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.explain(&[&["--json"], arguments].concat())).expect("JSON")
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| {
            let entry = entry.expect("an entry");
            (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap_or_default())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_refused_client_is_named_with_its_line_first() {
    let place = Place::new();
    let text = place.explain(&["--client", "192.168.2.10", "--to", "sales@info.net"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "REJECTED at RCPT: 554 5.7.1 <unknown[192.168.2.10]>: Client host rejected: Access denied");
    assert!(lines[1].starts_with("  192.168.2.10 = REJECT ") && lines[1].ends_with("/access:2"), "{}", lines[1]);
    assert!(lines[2].contains("in smtpd_client_restrictions") && lines[2].ends_with("/main.cf:8"), "{}", lines[2]);
    assert!(text.contains("NOQUEUE: reject: RCPT from unknown[192.168.2.10]: 554 5.7.1"), "{text}");
}

#[test]
fn every_member_of_a_list_has_its_place() {
    let found = Place::new().json(&["--client", "192.168.2.7", "--to", "sales@info.net"]);
    assert_eq!(found["version"], 1);
    assert_eq!((found["outcome"].as_str(), found["at"].as_str()), (Some("accept"), Some("end of data")));
    assert_eq!(found["decided_by"]["lookup"]["value"], "OK");
    let list = &found["destinations"][0]["place"];
    assert_eq!(list["kind"], "list");
    assert!(list["source"].as_str().expect("a line").ends_with("/aliases:2"));
    let members = list["members"].as_array().expect("members");
    let kinds: Vec<_> = members.iter().map(|m| (m["address"].as_str(), m["place"]["kind"].as_str())).collect();
    let wanted = [("charles@gmail.com", "remote"), ("a@box.org", "maildir"), ("sales@info.net", "command")];
    assert_eq!(kinds, wanted.map(|(address, kind)| (Some(address), Some(kind))));
    assert_eq!(members[0]["via"], serde_json::json!(["sales@info.net", "charles@info.net"]));
    assert_eq!(members[1]["place"]["path"], "/srv/mail/box.org/a");
    assert_eq!(members[2]["place"]["command"], "/usr/bin/sort -u");
}

#[test]
fn a_virtual_alias_is_shown_with_its_entry() {
    let found = Place::new().json(&["--client", "203.0.113.5", "--to", "any.body@example.net"]);
    assert_eq!(found["recipient"]["to"], serde_json::json!(["infonetaccount@example.com"]));
    let lookup = &found["recipient"]["lookups"][0];
    assert_eq!(
        (lookup["key"].as_str(), lookup["value"].as_str()),
        (Some("@example.net"), Some("infonetaccount@example.com"))
    );
    assert!(lookup["source"].as_str().expect("a line").ends_with("/virtual:1"));
}

#[test]
fn the_submission_port_answers_as_its_line_of_master_cf_says() {
    let place = Place::new();
    let submission = |more: &[&str]| {
        place.json(&[&["--client", "203.0.113.5", "--to", "x@elsewhere.org", "--service", "submission"], more].concat())
    };
    let clear = submission(&[]);
    assert_eq!(
        (clear["at"].as_str(), clear["reply"][0].as_str()),
        (Some("MAIL"), Some("530 5.7.0 Must issue a STARTTLS command first"))
    );
    assert_eq!(clear["decided_by"]["rule"], "smtpd_tls_security_level");
    let stranger = submission(&["--tls"]);
    assert!(stranger["decided_by"]["source"].as_str().expect("a line").ends_with("/master.cf:5"), "{stranger}");
    assert_eq!(submission(&["--tls", "--auth", "john"])["outcome"], "accept");
}

#[test]
fn a_table_that_cannot_be_read_defers() {
    let place = Place::new();
    std::fs::remove_file(place.0.path().join("access")).expect("removed");
    let found = place.json(&["--client", "192.168.2.7", "--to", "sales@info.net"]);
    assert_eq!(found["outcome"], "defer");
    assert!(found["reply"][0].as_str().expect("a reply").starts_with("451 4.3"), "{found}");
}

#[test]
fn what_would_turn_the_outcome_really_turns_it() {
    let place = Place::new();
    let before = files(place.0.path());
    for (arguments, wanted, some) in [
        (&["--client", "192.168.2.10", "--to", "sales@info.net"][..], "accept", "remove `192.168.2.10 REJECT'"),
        (&["--client", "203.0.113.5", "--to", "x@elsewhere.org"], "accept", "add 203.0.113.5/32 to mynetworks"),
        (
            &["--client", "203.0.113.5", "--to", "x@elsewhere.org"],
            "accept",
            "the client sends by submission with TLS and logs in",
        ),
        (&["--client", "203.0.113.5", "--to", "eve@info.net"], "accept", "add `eve: postmaster'"),
        (&["--client", "203.0.113.5", "--to", "eve@box.org"], "accept", "add `eve@box.org box.org/eve/'"),
        (&["--client", "192.168.2.7", "--to", "sales@info.net"], "reject", "add `192.168.2.7 REJECT'"),
        (&["--client", "192.168.2.7", "--to", "sales@info.net"], "defer", "192.168.2.7 DEFER"),
        (&["--client", "192.168.2.7", "--to", "sales@info.net"], "hold", "192.168.2.7 HOLD"),
    ] {
        let found = place.json(&[arguments, &["--why-not", wanted]].concat());
        let ways = found["why_not"]["ways"].as_array().expect("ways");
        let texts: Vec<String> = ways.iter().map(|way| way["changes"].to_string()).collect();
        assert!(texts.iter().any(|text| text.contains(some)), "{arguments:?} {wanted}: {texts:#?}");
        assert!(ways.iter().all(|way| way["outcome"] == wanted), "{found}");
        for way in ways {
            really(&place, arguments, wanted, way);
        }
    }
    assert_eq!(files(place.0.path()), before, "nothing on disk may change");
}

/// Makes a change to a table or list in a copy of the files, and asks again.
fn really(place: &Place, arguments: &[&str], wanted: &str, way: &Value) {
    let [change] = way["changes"].as_array().expect("changes").as_slice() else { return };
    let text = change["text"].as_str().expect("text");
    let quoted = |text: &str| text.split('`').nth(1).and_then(|rest| rest.split('\'').next()).map(str::to_owned);
    let copy = Place::new();
    let edit = |name: &str, edit: &dyn Fn(&str) -> String| {
        let path = copy.0.path().join(name);
        let old = std::fs::read_to_string(&path).expect("read");
        std::fs::write(path, edit(&old)).expect("written");
    };
    let file = change["source"].as_str().and_then(|source| Path::new(source).file_name()?.to_str()).unwrap_or_default();
    let file = file.split(':').next().unwrap_or_default();
    match text.split(' ').next() {
        Some("add") if quoted(text).is_some() => edit(file, &|old| format!("{}\n{old}", quoted(text).expect("quoted"))),
        Some("remove") if quoted(text).is_some() => edit(file, &|old| old.replace(&quoted(text).expect("quoted"), "#")),
        Some("change") => {
            let new = text.split('`').nth(2).and_then(|rest| rest.split('\'').next()).expect("a new line");
            edit(file, &|old| old.replace(&quoted(text).expect("quoted"), new));
        }
        Some("put") => {
            let list = text.rsplit(' ').next().expect("a list");
            let rule = quoted(text).expect("quoted");
            let old = if list == "smtpd_client_restrictions" {
                format!("hash:{}/access", copy.shown())
            } else {
                String::new()
            };
            edit("main.cf", &|main| format!("{main}{list} = {rule} {old}\n"));
        }
        _ => return,
    }
    // The copy's tables lie elsewhere.
    let found = copy.json(arguments);
    assert_eq!(found["outcome"], wanted, "{text}: {found}");
    let _ = place;
}

#[test]
fn changes_are_combined_where_one_does_not_suffice_and_no_relay_is_opened() {
    let place = Place::new();
    let found = place.json(&["--client", "192.168.2.10", "--to", "eve@info.net", "--why-not"]);
    let ways = found["why_not"]["ways"].as_array().expect("ways");
    assert!(
        !ways.is_empty() && ways.iter().all(|way| way["changes"].as_array().expect("changes").len() == 2),
        "{found}"
    );
    let relay = place.explain(&["--client", "203.0.113.5", "--to", "x@elsewhere.org", "--why-not"]);
    assert!(!relay.contains("remove reject_unauth_destination from"), "{relay}");
}

#[test]
fn it_says_so_where_nothing_is_found() {
    let place = Place::new();
    let text = place.explain(&["--client", "192.168.2.7", "--to", "a@@b", "--why-not"]);
    assert!(text.starts_with("REJECTED at RCPT: 501 5.1.3"), "{text}");
    assert!(
        text.contains("why not accept: none of ") && text.contains(" changes that were tried leads there"),
        "{text}"
    );
}

#[test]
fn hostile_arguments_and_tables_move_no_terminal() {
    let place = Place::new();
    place.write("access", "203.0.113.5 REJECT a\u{1b}]0;owned\u{7}b\n");
    for arguments in [
        &["--client", "203.0.113.5", "--to", "x\u{1b}[31m@info.net"][..],
        &["--client", "203.0.113.6", "--to", "x\u{9b}31m@info.net", "--name", "a\u{1b}[2Jb"],
    ] {
        for json in [&[][..], &["--json"]] {
            let text = place.explain(&[arguments, json, &["--why-not"]].concat());
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        }
    }
    for (option, value) in [("--to", "a@b.org\r\nDATA"), ("--from", "a\0"), ("--helo", "a\nb")] {
        let mut arguments =
            vec!["explain", "--client", "192.0.2.1", "--helo", "x.org", "--from", "a@b.org", "--to", "c@d.org"];
        arguments.extend([option, value].iter().filter(|text| !text.contains('\0')));
        if value.contains('\0') {
            continue;
        }
        let output = place.call(&arguments);
        assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("holds an end of line") && stderr(&output).lines().count() == 1,
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn a_wrong_command_line_says_what_is_wrong() {
    let place = Place::new();
    for (arguments, wanted) in [
        (&["explain"][..], "--client is missing"),
        (&["explain", "--client", "x"], "client: `x' is no address"),
        (
            &["explain", "--client", "192.0.2.1", "--helo", "a", "--from", "", "--to", "b", "--why-not=maybe"],
            "--why-not maybe",
        ),
        (
            &["explain", "--client", "192.0.2.1", "--helo", "a", "--from", "", "--to", "b", "--service", "nntp"],
            "no listener `nntp'",
        ),
        (&["test"], "no file of cases"),
    ] {
        let output = place.call(arguments);
        assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
        assert!(stderr(&output).contains(wanted), "{}", stderr(&output));
    }
}

#[test]
fn cases_are_judged_one_by_one() {
    let place = Place::new();
    place.write(
        "cases",
        "helo pc.example.org\nfrom anna@example.org\n\ncase sales\n  client 192.168.2.7\n  to sales@info.net\n  expect accept\n  \
         expect recipients a@box.org, charles@gmail.com, sales@info.net\n  expect mailbox /srv/mail/box.org/a\n  expect command sort -u\n  \
         expect nexthop gmail.com\n  expect transport smtp\n\ncase relay\n  client 203.0.113.5\n  to x@elsewhere.org\n  expect reject\n  expect at RCPT\n  \
         expect reply 554 5.7.1\n  expect says Relay access denied\n  expect rule reject_unauth_destination\n\ncase refused\n  client 192.168.2.10\n  \
         to sales@info.net\n  expect accept\n  expect source access:2\n",
    );
    let file = place.0.path().join("cases").display().to_string();
    let output = place.call(&["test", &file]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}{}", stderr(&output));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["ok    sales", "ok    relay", "FAIL  refused"], "{text}");
    assert!(
        lines[3].ends_with("cases:26  expected accept") && lines[4].contains("reject at RCPT: 554 5.7.1"),
        "{text}"
    );
    assert_eq!(lines[5], "3 cases: 2 as expected, 1 not");
    let output = place.call(&["test", "--json", &file]);
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((found["passed"].as_u64(), found["failed"].as_u64()), (Some(2), Some(1)));
    assert_eq!(found["cases"][2]["failures"][0]["expected"], "accept");
    place.write("cases", "case a\n  expect accept\n  clent 1.2.3.4\n");
    let output = place.call(&["test", &file]);
    assert_eq!(output.status.code(), Some(65));
    assert!(
        stderr(&output).contains("cases:3: `clent' is none of")
            && stderr(&output).contains("cases:1: case a: `client' is missing"),
        "{}",
        stderr(&output)
    );
}
