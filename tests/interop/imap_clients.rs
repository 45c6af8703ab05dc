//! IMAP clients: curl, mbsync (isync), fetchmail, mutt.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use test_support::clients::{Imap, Security};
use test_support::{Builder, System};

const SUBJECTS: [&str; 3] = ["one", "two", "three"];

/// A system, and three messages in john's inbox.
fn system() -> Result<System, String> {
    let system = Builder::new("interop.example").start()?;
    let mut john = session(&system)?;
    for subject in SUBJECTS {
        let message = format!("From: mary@interop.example\r\nSubject: {subject}\r\n\r\nThis is {subject}.\r\n");
        ask(&mut john, &format!("APPEND INBOX {{{}+}}\r\n{message}", message.len()))?;
    }
    Ok(system)
}

fn session(system: &System) -> Result<Imap, String> {
    let session = Imap::connect(system.ports.at(system.ports.imaps), Security::Tls).and_then(|mut imap| {
        imap.login("john", "secret")?;
        Ok(imap)
    });
    session.map_err(|error| format!("{error}\n{}", system.logs()))
}

fn ask(session: &mut Imap, command: &str) -> Result<Vec<String>, String> {
    session.command(command).map_err(|error| format!("{command}: {error}"))
}

/// A home directory for the client.
fn home(system: &System) -> Result<PathBuf, String> {
    let home = system.root().join("client");
    fs::create_dir_all(&home).map_err(|error| error.to_string())?;
    Ok(home)
}

/// Writes a client's file, readable by nobody else: fetchmail insists.
fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o600)))
        .map_err(|error| error.to_string())
}

fn run(system: &System, program: &str, arguments: &[&str]) -> Result<Output, String> {
    let mut command = Command::new(program);
    command.args(arguments).env("HOME", home(system)?).env("TERM", "xterm").stdin(Stdio::null());
    command.output().map_err(|error| format!("{program}: {error}"))
}

/// What a client that must succeed printed.
fn said(system: &System, program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = run(system, program, arguments)?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{program}: {}: {text}\n{}", output.status, system.logs()))
    }
}

fn holds(text: &str, wanted: &[&str]) -> Result<(), String> {
    match wanted.iter().find(|wanted| !text.contains(**wanted)) {
        Some(missing) => Err(format!("{missing:?} is missing in: {text}")),
        None => Ok(()),
    }
}

pub fn curl() -> Result<(), String> {
    let system = system()?;
    let address = system.ports.at(system.ports.imaps);
    let url = |rest: &str| format!("imaps://{address}/{rest}");
    let curl = |arguments: &[&str]| said(&system, "curl", &[&["-sSk", "--user", "john:secret"], arguments].concat());
    let message = home(&system)?.join("message");
    write(&message, "Subject: from curl\r\n\r\nhello curl\r\n")?;
    curl(&["--url", &url("INBOX"), "-T", &message.display().to_string()])?;
    holds(&curl(&["--url", &url("")])?, &["* LIST (\\HasNoChildren) \".\" INBOX"])?;
    holds(&curl(&["--url", &url("INBOX?SUBJECT%20curl")])?, &["* SEARCH 4"])?;
    holds(&curl(&["--url", &url("INBOX;UID=4")])?, &["Subject: from curl\r\n", "hello curl"])?;
    holds(&curl(&["--url", &url("INBOX;UID=1;SECTION=TEXT")])?, &["This is one."])?;
    holds(&curl(&["--url", &url("INBOX"), "-X", "STORE 1 +FLAGS \\Deleted"])?, &["FLAGS (\\Deleted"])?;
    holds(&curl(&["--url", &url("INBOX"), "-X", "EXPUNGE"])?, &["* 1 EXPUNGE"])
}

pub fn mbsync() -> Result<(), String> {
    let system = system()?;
    let home = home(&system)?;
    let (ports, local) = (system.ports, home.join("mail"));
    fs::create_dir(&local).map_err(|error| error.to_string())?;
    let rc = home.join("mbsyncrc");
    write(
        &rc,
        &format!(
            "IMAPAccount a\nHost {}\nPort {}\nUser john\nPass secret\nSSLType None\nAuthMechs LOGIN\n\nIMAPStore far\nAccount a\n\n\
             MaildirStore near\nPath {local}/\nInbox {local}/INBOX\nSubFolders Verbatim\n\n\
             Channel c\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n",
            ports.address,
            ports.imap,
            local = local.display(),
        ),
    )?;
    let rc = rc.display().to_string();
    said(&system, "mbsync", &["-c", &rc, "-a"])?;
    let inbox = local.join("INBOX");
    let first = files(&inbox)?;
    if first.len() != 3 {
        return Err(format!("mbsync fetched {first:?}"));
    }
    // Here one message is read and one removed, and one is written.
    change(&inbox, &first[0], "S")?;
    change(&inbox, &first[1], "T")?;
    write(&inbox.join("new/1700000000.local"), "Subject: local\n\nWritten here.\n")?;
    said(&system, "mbsync", &["-c", &rc, "-a"])?;
    let mut john = session(&system)?;
    ask(&mut john, "EXAMINE INBOX")?;
    let fetched = ask(&mut john, "FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")?.concat();
    holds(&fetched, &["\\Seen", "Subject: local"])?;
    if fetched.contains("Subject: two") && fetched.contains("Subject: one") && fetched.contains("Subject: three") {
        return Err(format!("nothing was removed: {fetched}"));
    }
    Ok(())
}

/// The messages of a Maildir, as names below it, sorted.
fn files(maildir: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for part in ["cur", "new"] {
        for entry in fs::read_dir(maildir.join(part)).map_err(|error| error.to_string())?.flatten() {
            found.push(Path::new(part).join(entry.file_name()));
        }
    }
    found.sort();
    Ok(found)
}

/// Gives a message flags, as a local client would.
fn change(maildir: &Path, name: &Path, flags: &str) -> Result<(), String> {
    let base = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let base = base.split_once(":2,").map_or(base.as_str(), |(base, _)| base);
    let target = maildir.join("cur").join(format!("{base}:2,{flags}"));
    fs::rename(maildir.join(name), target).map_err(|error| error.to_string())
}

pub fn fetchmail() -> Result<(), String> {
    let system = system()?;
    let home = home(&system)?;
    let (ports, taken) = (system.ports, home.join("taken"));
    let rc = home.join("fetchmailrc");
    write(
        &rc,
        &format!(
            "poll {} port {} protocol imap\n  username john password secret\n  sslproto TLS1.2+ no sslcertck\n  mda \"cat >> {}\"\n",
            ports.address,
            ports.imap,
            taken.display(),
        ),
    )?;
    said(&system, "fetchmail", &["-f", &rc.display().to_string(), "--nodetach", "--nosyslog"])?;
    let taken = fs::read_to_string(taken).map_err(|error| error.to_string())?;
    holds(&taken, &["Subject: one", "Subject: two", "This is three."])?;
    system.wait_for_line("imapd", &["TLS, session=<"])?;
    let mut john = session(&system)?;
    // It removes what it has taken.
    holds(&ask(&mut john, "STATUS INBOX (MESSAGES)")?.concat(), &["MESSAGES 0"])
}

pub fn mutt() -> Result<(), String> {
    let system = system()?;
    let home = home(&system)?;
    let (ports, copy) = (system.ports, home.join("copy"));
    let rc = home.join("muttrc");
    let inbox = format!("imap://{}:{}/INBOX", ports.address, ports.imap);
    write(
        &rc,
        &format!(
            "set imap_user=john imap_pass=secret ssl_starttls=no ssl_force_tls=no\nset spoolfile={inbox}\nset folder={} confirmappend=no confirmcreate=no\n\
             push '<jump>2<enter><copy-message>{}<enter><exit>'\n",
            home.display(),
            copy.display()
        ),
    )?;
    let command = format!("mutt -F {}", rc.display());
    said(&system, "script", &["-qec", &command, "/dev/null"])?;
    let copied =
        fs::read_to_string(&copy).map_err(|error| format!("{}: {error}\n{}", copy.display(), system.logs()))?;
    holds(&copied, &["Subject: two", "This is two."])
}
