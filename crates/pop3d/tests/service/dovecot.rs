//! The same session on the same Maildir, under a real Dovecot and under us: equal replies, UIDLs and flags.
//!
//! Dovecot's `pop3` runs on pipes, without listener or login. Without Dovecot this test says that it is skipped; with `CI=true` it fails.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::daemon::{Client, NOBODY, Service, give, is_root};

const DOVECOT: &str = "/usr/lib/dovecot/pop3";

/// Messages by file name, with LF and CRLF, dots, a NUL, a bare CR, no header's end, no line's end.
const MESSAGES: [(&str, &str); 6] = [
    ("1600000001.M1P1.host:2,", "From: a@b\nSubject: one\n\nhello\n.dot line\n..two\nlast"),
    ("1600000002.M2P1.host:2,", "From: a@b\r\nSubject: two\r\n\r\nhello\r\n"),
    ("1600000003.M3P1.host,S=29:2,S", "From: a@b\nSubject: 3\n\nhe\nyo\n\n"),
    ("1600000004.M4P1.host:2,F", "Only: header\n"),
    ("1600000005.M5P1.host:2,", "Subject: nul\n\na\0b\rc\n.\n.\nend\n"),
    ("1600000006.M6P1.host,S=20,W=22:2,", "Subject: long\n\nabc\n\n"),
];

/// UIDs with gaps, one UIDL of its own, one that stands for the file's name.
const UIDLIST: &str = "3 V1795359119 N30 Gd088060b8f01036b3345000083ecc375\n1 :1600000001.M1P1.host\n\
    3 Pold.uidl :1600000002.M2P1.host\n7 P :1600000003.M3P1.host,S=29\n8 :1600000004.M4P1.host\n\
    20 :1600000005.M5P1.host\n29 W22 :1600000006.M6P1.host,S=20,W=22\n";

const COMMANDS: [&str; 60] = [
    "CAPA",
    "STAT",
    "stat x",
    "LIST",
    "LIST ",
    "LIST 1",
    "LIST 7",
    "LIST 0",
    "LIST x",
    "LIST 1 2",
    "LIST 01",
    "LIST -1",
    "LIST 1x",
    "LIST 99999999999999999999",
    "LIST 4294967295",
    "UIDL",
    "UIDL 2",
    "UIDL 9",
    "UIDL x",
    "UIDL 1 2",
    "TOP",
    "TOP 1",
    "TOP 1 0",
    "TOP  1  1",
    "TOP 1 2",
    "TOP 1 99",
    "TOP 1 x",
    "TOP 1 5 x",
    "TOP 9 1",
    "TOP 4 1",
    "TOP 5 2",
    "TOP 1 99999999999999999999",
    "RETR 1",
    "RETR 2",
    "RETR  4",
    "RETR 5",
    "RETR",
    "RETR x",
    "RETR 1 x",
    "RETR 9",
    "NOOP",
    "NOOP x",
    "LAST",
    "FOO",
    "STLS",
    "DELE 2",
    "DELE 2",
    "DELE 9",
    "DELE",
    "RETR 2",
    "UIDL 2",
    "TOP 2 0",
    "LIST",
    "STAT",
    "UIDL",
    "RSET",
    "STAT",
    "DELE 1",
    "DELE 6",
    "QUIT",
];

fn fill(maildir: &Path) {
    for part in ["", "cur", "new", "tmp"] {
        let path = maildir.join(part);
        fs::create_dir_all(&path).expect("made");
        give(&path);
    }
    give(maildir.parent().expect("a home"));
    let files = MESSAGES.map(|(name, content)| (format!("cur/{name}"), content));
    for (name, content) in files.into_iter().chain([("dovecot-uidlist".to_owned(), UIDLIST)]) {
        let path = maildir.join(name);
        fs::write(&path, content).expect("written");
        give(&path);
    }
}

/// The flags of a Maildir's files.
fn names(maildir: &Path) -> Vec<String> {
    let entries = fs::read_dir(maildir.join("cur")).expect("there");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What Dovecot says after `+OK Logged in.`, and the files after it.
fn under_dovecot(settings: &str) -> (String, Vec<String>) {
    let home = tempfile::tempdir().expect("a directory");
    let root = home.path().display();
    for name in ["run", "state"] {
        fs::create_dir(home.path().join(name)).expect("made");
        give(&home.path().join(name));
    }
    fill(&home.path().join("Maildir"));
    let (user, group) = (name_of("-un"), name_of("-gn"));
    let config = format!(
        "log_path = {root}/log\nssl = no\nbase_dir = {root}/run\nstate_dir = {root}/state\nfirst_valid_uid = 1\n\
         default_internal_user = {user}\ndefault_login_user = {user}\ndefault_internal_group = {group}\n\
         mail_location = maildir:{root}/Maildir\n{settings}"
    );
    fs::write(home.path().join("dovecot.conf"), config).expect("written");
    let mut command = Command::new(DOVECOT);
    command.arg("-c").arg(home.path().join("dovecot.conf")).current_dir("/");
    command.env_clear().env("USER", "tester").env("HOME", home.path());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("dovecot");
    let script = COMMANDS.map(|command| format!("{command}\r\n")).concat();
    child.stdin.take().expect("piped").write_all(script.as_bytes()).expect("open");
    let mut said = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut said).expect("an end");
    let _ = child.wait();
    let said = latin1(&said);
    // Without a login there is no reply to one.
    let said = said.strip_prefix("+OK Logged in.\r\n").unwrap_or(&said).to_owned();
    (said, names(&home.path().join("Maildir")))
}

/// The name of the user (`-un`) or group (`-gn`) that Dovecot runs as.
fn name_of(option: &str) -> String {
    let mut command = Command::new("id");
    command.arg(option);
    if is_root() {
        command.arg("nobody");
    }
    let output = command.output().expect("id exists");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn under_us(settings: &str) -> (String, Vec<String>) {
    let service = Service::start_with(settings);
    fill(&service.maildir("john"));
    let (mut client, reply) = Client::login(&service, "john");
    assert_eq!(reply, "+OK Logged in.");
    client.send(&COMMANDS.map(|command| format!("{command}\r\n")).concat());
    let mut said = Vec::new();
    client.0.read_to_end(&mut said).expect("an end");
    (latin1(&said), names(&service.maildir("john")))
}

/// Octets as text, each as one letter.
fn latin1(octets: &[u8]) -> String {
    octets.iter().map(|octet| char::from(*octet)).collect()
}

#[test]
fn the_same_session_under_dovecot_and_under_us() {
    // P04c, P05c, P06c
    if !Path::new(DOVECOT).exists() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "dovecot is not installed");
        eprintln!("SKIPPED: dovecot is not installed");
        return;
    }
    for settings in [
        "",
        "pop3_uidl_format = %08Xv%08Xu\n",
        "pop3_uidl_format = %v.%u\npop3_no_flag_updates = yes\n",
        "pop3_uidl_format = UID%u-%f\npop3_enable_last = yes\n",
        "pop3_client_workarounds = outlook-no-nuls oe-ns-eoh\n",
    ] {
        let ((theirs, their_files), (ours, our_files)) = (under_dovecot(settings), under_us(settings));
        for (number, (theirs, ours)) in theirs.lines().zip(ours.lines()).enumerate() {
            assert_eq!(ours, theirs, "line {number} with {settings:?}");
        }
        assert_eq!(ours.lines().count(), theirs.lines().count());
        assert_eq!(our_files, their_files, "{settings:?}");
    }
}
