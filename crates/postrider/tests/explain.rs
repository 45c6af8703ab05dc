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
    assert_eq!(found["version"], 2);
    assert_eq!((found["outcome"].as_str(), found["at"].as_str()), (Some("accept"), Some("end of data")));
    assert_eq!(found["decided_by"]["lookup"]["value"], "OK");
    let list = &found["recipients"][0]["destinations"][0]["place"];
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
    let rewritten = &found["recipients"][0]["rewritten"];
    assert_eq!(rewritten["to"], serde_json::json!(["infonetaccount@example.com"]));
    let lookups = rewritten["lookups"].as_array().expect("lookups");
    let lookup = lookups.iter().find(|lookup| !lookup["value"].is_null()).expect("found");
    assert_eq!(
        (lookup["key"].as_str(), lookup["value"].as_str()),
        (Some("@example.net"), Some("infonetaccount@example.com"))
    );
    assert!(lookup["source"].as_str().expect("a line").ends_with("/virtual:1"));
}

/// The lookups of a table, each as its key with its value, or `-`, and where that stands.
fn lookups(of: &Value, table: &str) -> Vec<String> {
    let all = of["lookups"].as_array().expect("lookups").iter();
    let of_table = all.filter(|lookup| lookup["table"].as_str().is_some_and(|name| name.ends_with(table)));
    let short = |lookup: &Value| {
        let source = lookup["source"].as_str().expect("a source").rsplit('/').next().unwrap_or_default().to_owned();
        format!("{} {} {source}", lookup["key"].as_str().expect("a key"), lookup["value"].as_str().unwrap_or("-"))
    };
    of_table.map(short).collect()
}

#[test]
fn what_is_not_found_is_shown_with_the_line_that_names_its_table() {
    let place = Place::with(
        "transport_maps = hash:DIR/transport\nrelay_domains = hash:DIR/relayed\ncanonical_maps = cidr:DIR/canonical\n",
    );
    place.write("transport", "other.org smtp:[192.0.2.1]\n");
    place.write("relayed", "other.org x\n");
    place.write("canonical", "");
    let found = place.json(&["--client", "203.0.113.5", "--to", "any.body@example.net"]);
    let rules = found["steps"][3]["rules"].as_array().expect("rules");
    let access = lookups(&rules[0], "/access");
    assert_eq!(access, ["unknown", "203.0.113.5", "203.0.113", "203.0", "203"].map(|key| format!("{key} - main.cf:8")));
    let mynetworks = rules.iter().find(|rule| rule["rule"] == "permit_mynetworks").expect("the default list");
    assert_eq!(lookups(mynetworks, "mynetworks"), ["203.0.113.5 - main.cf:5"]);
    let recipient = &found["recipients"][0];
    let virtuals = lookups(&recipient["rewritten"], "/virtual");
    let wanted = [
        "any.body@example.net - main.cf:10",
        "@example.net infonetaccount@example.com virtual:1",
        "infonetaccount@example.com - main.cf:10",
        "@example.com - main.cf:10",
    ];
    assert_eq!(virtuals, wanted);
    // A table of addresses alone is asked for whole keys.
    let canonical = lookups(&recipient["rewritten"], "/canonical");
    assert_eq!(canonical, ["any.body@example.net - main.cf:22"]);
    let destination = &recipient["destinations"][0];
    let wanted = ["infonetaccount@example.com", "example.com", ".com", "*"].map(|key| format!("{key} - main.cf:20"));
    assert_eq!(lookups(destination, "/transport"), wanted);
    assert_eq!(lookups(destination, "/relayed"), ["example.com - main.cf:21", "com - main.cf:21"]);
    let text = place.explain(&["--client", "203.0.113.5", "--to", "any.body@example.net"]);
    assert!(text.contains("no entry for unknown, 203.0.113.5, 203.0.113, 203.0, 203 "), "{text}");
}

#[test]
fn each_recipient_has_its_own_chain() {
    let place = Place::with("always_bcc = collect\nrecipient_bcc_maps = inline:{{a@box.org = keeper@box.org}}\n");
    place.write("boxes", "a@box.org box.org/a/\nkeeper@box.org box.org/keeper\n");
    let found = place.json(&[
        "--client",
        "203.0.113.5",
        "--to",
        "a@box.org",
        "--to",
        "eve@info.net",
        "--to",
        "<x@example.net>",
    ]);
    assert_eq!((found["outcome"].as_str(), found["at"].as_str()), (Some("accept"), Some("end of data")));
    let recipients = found["recipients"].as_array().expect("recipients");
    let outcomes: Vec<_> = recipients.iter().map(|one| (one["given"].as_str(), one["outcome"].as_str())).collect();
    let wanted = [("a@box.org", "accept"), ("eve@info.net", "reject"), ("x@example.net", "accept")];
    assert_eq!(outcomes, wanted.map(|(given, outcome)| (Some(given), Some(outcome))));
    assert!(recipients[1]["reply"][0].as_str().expect("a reply").starts_with("550 5.1.1 <eve@info.net>"));
    assert_eq!(recipients[1]["decided_by"]["rule"], "smtpd_reject_unlisted_recipient");
    assert_eq!(recipients[0]["destinations"][0]["place"]["path"], "/srv/mail/box.org/a");
    assert_eq!(recipients[2]["destinations"][0]["address"], "infonetaccount@example.com");
    let copies: Vec<_> = found["copies"]
        .as_array()
        .expect("copies")
        .iter()
        .map(|copy| (copy["rule"].as_str(), copy["destinations"][0]["address"].as_str()))
        .collect();
    let wanted = [("recipient_bcc_maps", "keeper@box.org"), ("always_bcc", "collect@info.net")];
    assert_eq!(copies, wanted.map(|(rule, to)| (Some(rule), Some(to))));
    let log = found["log"].to_string();
    assert!(log.contains("QUEUEID: reject: RCPT from unknown[203.0.113.5]: 550 5.1.1 <eve@info.net>"), "{log}");
    let none = place.json(&["--client", "203.0.113.5", "--to", "eve@info.net", "--to", "x@elsewhere.org"]);
    assert_eq!((none["outcome"].as_str(), none["at"].as_str()), (Some("reject"), Some("RCPT")));
    assert!(none["steps"].as_array().expect("steps").iter().all(|step| step["command"] != "DATA"));
}

#[test]
fn the_header_is_shown_as_it_is_stored_and_as_the_next_server_sees_it() {
    let place = Place::with(
        "canonical_maps = inline:{{jd@info.net = John.Doe@info.net}}\nmasquerade_domains = info.net\n\
         smtp_generic_maps = inline:{{John.Doe@info.net = jd@far.example}}\nlocal_header_rewrite_clients = permit_mynetworks\n",
    );
    let sends = ["--to", "x@elsewhere.org", "--header", "From: J D <jd>", "--header", "To: a@www.info.net"];
    let found = place.json(&[&["--client", "192.168.1.7"][..], &sends].concat());
    let header = &found["header"];
    assert_eq!(header["origin"], "ours");
    let stored: Vec<_> =
        header["stored"].as_array().expect("fields").iter().map(|field| field.as_str().unwrap_or_default()).collect();
    assert_eq!(stored[..2], ["From: J D <John.Doe@info.net>", "To: a@info.net"]);
    assert!(
        stored.iter().any(|field| field.starts_with("Date: ")) && stored.iter().any(|field| field.contains("QUEUEID")),
        "{stored:?}"
    );
    assert_eq!(lookups(&header["addresses"][1], "masquerade_domains"), ["a@www.info.net a@info.net main.cf:21"]);
    let place_shown = &found["recipients"][0]["destinations"][0]["place"];
    assert_eq!(place_shown["shown_header"], serde_json::json!(["From: J D <jd@far.example>"]));
    let found = place.json(
        &[&["--client", "203.0.113.5", "--auth", "x"][..], &["--to", "a@box.org", "--header", "From: jd"]].concat(),
    );
    assert_eq!((&found["header"], &found["outcome"]), (&Value::Null, &Value::from("reject")), "no AUTH here");
    let found = place.json(&["--client", "203.0.113.5", "--to", "a@box.org", "--header", "From: jd"]);
    assert_eq!(
        (found["header"]["origin"].as_str(), &found["header"]["stored"]),
        (Some("untouched"), &serde_json::json!(["From: jd"]))
    );
}

#[test]
fn mail_of_this_machine_is_explained_from_sendmail_on() {
    let place = Place::with(
        "authorized_submit_users = !nobody, static:anyone\nnon_smtpd = x\nsender_canonical_maps = inline:{{root=boss@info.net}}\n",
    );
    let local = |arguments: &[&str]| -> Value {
        let output = place.call(&[&["explain", "--json", "--no-dns", "--local"], arguments].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let found = local(&["--user", "root", "--to", "sales", "--header", "Subject: x"]);
    assert_eq!(
        (found["outcome"].as_str(), found["listener"]["service"].as_str()),
        (Some("accept"), Some("pickup")),
        "{found}"
    );
    assert_eq!(found["sender"]["to"], serde_json::json!(["boss@info.net"]));
    assert_eq!(found["recipients"][0]["destinations"][0]["place"]["kind"], "list");
    assert_eq!(lookups(&found["recipients"][0]["rewritten"], "append_at_myorigin"), ["sales sales@info.net main.cf:3"]);
    let stored = found["header"]["stored"].to_string();
    assert!(stored.contains("From: boss@info.net"), "{stored}");
    assert!(found["log"].to_string().contains("postfix/pickup: QUEUEID: uid=0 from=<root>"), "{found}");
    place.write("main.cf", &format!("{MAIN_CF}authorized_submit_users = !nobody, static:anyone\n"));
    for (user, outcome) in [("nobody", "reject"), ("daemon", "accept")] {
        let found = local(&["--user", user, "--to", "sales"]);
        assert_eq!(found["outcome"], outcome, "{user}: the first entry that fits decides");
    }
    place.write("main.cf", &format!("{MAIN_CF}authorized_submit_users = john\n"));
    let found = local(&["--user", "nobody", "--to", "sales", "--why-not"]);
    assert_eq!(
        (found["outcome"].as_str(), found["decided_by"]["rule"].as_str()),
        (Some("reject"), Some("authorized_submit_users"))
    );
    assert!(found["reply"][0].as_str().expect("a reply").contains("is not allowed to submit mail"), "{found}");
    assert_eq!(found["why_not"]["ways"][0]["changes"][0]["text"], "add nobody to authorized_submit_users");
}

#[test]
fn commands_outside_a_transaction_are_judged_as_the_server_judges_them() {
    let place = Place::with(
        "relay_domains = partner.org\nsmtpd_etrn_restrictions = check_etrn_access inline:{{blocked.org = REJECT}}\n",
    );
    let asks = |command: &[&str]| -> Value {
        let ask = [
            &["explain", "--json", "--no-dns", "--client", "203.0.113.5", "--helo", "pc.example.org", "--command"],
            command,
        ]
        .concat();
        let output = place.call(&ask);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    for (command, at, reply) in [
        (&["VRFY", "sales@info.net"][..], "VRFY", "252 2.0.0 sales@info.net"),
        (&["vrfy eve@info.net"], "VRFY", "550 5.1.1 <eve@info.net>: Recipient address rejected"),
        (&["VRFY", "x@elsewhere.org"], "VRFY", "554 5.7.1 <x@elsewhere.org>: Relay access denied"),
        (&["ETRN", "partner.org"], "ETRN", "250 Queuing started"),
        (&["ETRN", "elsewhere.org"], "ETRN", "459 <elsewhere.org>: service unavailable"),
        (&["ETRN blocked.org"], "ETRN", "554 5.7.1 <blocked.org>: Etrn command rejected"),
    ] {
        let found = asks(command);
        assert_eq!(found["at"], at, "{found}");
        assert!(found["reply"][0].as_str().expect("a reply").starts_with(reply), "{command:?}: {}", found["reply"]);
    }
    assert!(asks(&["VRFY", "eve@info.net"])["log"].to_string().contains("reject: VRFY from"));
}

#[test]
fn an_address_that_nobody_verified_has_more_than_one_outcome() {
    let place = Place::with("smtpd_sender_restrictions = reject_unverified_sender\n");
    let found = place.json(&["--client", "203.0.113.5", "--to", "sales@info.net"]);
    assert_eq!(found["outcome"], "accept");
    let others = found["alternatives"].as_array().expect("alternatives");
    let replies: Vec<_> = others
        .iter()
        .map(|other| (other["outcome"].as_str(), other["reply"][0].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(replies.len(), 2);
    assert!(
        replies[0].1.starts_with("450 4.1.7 <anna@example.org>: Sender address rejected: undeliverable address"),
        "{replies:?}"
    );
    assert!(replies[1].1.contains("unverified address: Address verification in progress"), "{replies:?}");
    assert!(found["notes"].to_string().contains("nobody knows it yet, a probe will find it out"), "{found}");
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
fn a_login_has_the_name_that_dovecot_conf_makes_of_it() {
    let place = Place::with(
        "smtpd_sender_login_maps = inline:{john@info.net=john}\nsmtpd_sender_restrictions = reject_sender_login_mismatch\n",
    );
    place.write(
        "dovecot.conf",
        "protocols = imap\nauth_mechanisms = login\nprotocol smtp {\n  auth_mechanisms = plain\n  auth_master_user_separator = *\n}\n\
         passdb {\n  driver = passwd-file\n  args = /etc/dovecot/masters\n  master = yes\n}\npassdb {\n  driver = pam\n}\n",
    );
    let submission = |user: &str| {
        let case = ["--client", "203.0.113.5", "--from", "john@info.net", "--to", "x@elsewhere.org"];
        place.json(&[&case[..], &["--service", "submission", "--tls", "--auth", user]].concat())
    };
    for user in ["john", "John", "john*admin"] {
        let found = submission(user);
        assert_eq!(found["outcome"], "accept", "{user}: {found}");
    }
    assert!(submission("john*admin").to_string().contains("john, by the master user admin"));
    assert_eq!(submission("mary*admin")["at"], "RCPT");
    for (user, why) in [("*admin", "empty login username"), ("john*", "Empty username"), ("jo hn", "disallowed")] {
        let found = submission(user);
        assert_eq!(
            (found["outcome"].as_str(), found["at"].as_str()),
            (Some("reject"), Some("AUTH")),
            "{user}: {found}"
        );
        assert!(found.to_string().contains(why), "{user}: {found}");
    }
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
        (&["explain", "--local", "--user", "root", "--to", "a", "--tls"], "without client, login, TLS and port"),
        (
            &["explain", "--client", "192.0.2.1", "--helo", "a", "--command", "HELP"],
            "neither VRFY ADDRESS nor ETRN DOMAIN",
        ),
        (
            &["explain", "--client", "192.0.2.1", "--helo", "a", "--from", "", "--to", "b", "--header", "x"],
            "write NAME: VALUE",
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
