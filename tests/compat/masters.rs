//! Master users: the same odd logins to a real Dovecot and to us, let in to the same mailbox or refused by both.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use test_support::clients::{Imap, Pop3, Security, Smtp};
use test_support::system::Builder;
use test_support::{Patience, System, free_port, wait_for};

use crate::dovecot::Dovecot;

/// Ordinary users; each has its own password, and homes tell them apart.
const USERS: &str = "john:{PLAIN}own:65534:65534::{root}/home/john::\n\
    mary:{PLAIN}mine:65534:65534::{root}/home/mary::\n\
    admin:{PLAIN}private:65534:65534::{root}/home/admin::\n\
    bare::65534:65534::{root}/home/john::\n\
    off:{PLAIN}x:65534:65534::{root}/home/john::nologin\n\
    far:{PLAIN}x:65534:65534::{root}/home/john::allow_nets=192.0.2.1\n\
    alias:{PLAIN}x:65534:65534::{root}/home/john::user=mary\n";

/// Master users, one of them with an ordinary user's name.
const MASTERS: &str = "admin:{PLAIN}master\n\
    far:{PLAIN}far::::::allow_nets=192.0.2.1\n\
    near:{PLAIN}near::::::allow_nets=127.0.0.0/8\n\
    off:{PLAIN}off::::::nologin\n\
    john:{PLAIN}boss\n\
    other:{PLAIN}o::::::user=somebody\n";

/// For both. No login waits for the failures of others.
const BOTH: &str = "auth_verbose = yes\nauth_failure_delay = 0\nlogin_trusted_networks = 127.0.0.0/8\nauth_mechanisms = plain login\nmail_max_userip_connections = 100\n\
    login_log_format_elements = user=<%u> auth=<%{auth_user}> rip=%r\n\
    service anvil {\n unix_listener anvil-auth-penalty {\n  mode = 0\n }\n}\n";

/// How each machine is told about its master users, and how many of the logins it lets in at least.
const SETUPS: [(&str, usize); 3] = [
    (
        "auth_master_user_separator = *\npassdb {\n driver = passwd-file\n args = {root}/etc/masters\n master = yes\n}\n",
        20,
    ),
    (
        "auth_master_user_separator = *\nauth_username_format = %Lu\n\
         passdb {\n driver = passwd-file\n args = {root}/etc/masters\n master = yes\n pass = yes\n username_filter = !near\n}\n\
         passdb {\n driver = static\n args = password=all\n master = yes\n result_success = return\n}\n",
        14,
    ),
    // No separator: PLAIN's other name alone makes a master user.
    (
        "passdb {\n driver = passwd-file\n args = {root}/etc/masters-%{login_user}\n master = yes\n mechanisms = plain\n}\n",
        4,
    ),
];

/// Name and password, as LOGIN and USER take them.
const NAMES: [(&str, &str); 38] = [
    ("john", "own"),
    ("john", "boss"),
    ("admin", "private"),
    ("admin", "master"),
    ("john*admin", "master"),
    ("John*Admin", "master"),
    ("john@x*admin@y", "master"),
    ("mary*admin", "master"),
    ("john*admin", "wrong"),
    ("john*admin", "own"),
    ("john*admin", "private"),
    ("john*nobody", "master"),
    ("john*mary", "mine"),
    ("mary*john", "boss"),
    ("mary*john", "own"),
    ("nobody*admin", "master"),
    ("*admin", "master"),
    ("john*", "own"),
    ("john*", "master"),
    ("*", "x"),
    ("**", "x"),
    ("john*admin*admin", "master"),
    ("john**admin", "master"),
    ("admin*admin", "private"),
    ("admin*admin", "master"),
    ("Admin*admin", "master"),
    ("Admin*admin", "private"),
    ("jo!hn*admin", "master"),
    ("john*ad!min", "master"),
    ("john*far", "far"),
    ("john*near", "near"),
    ("john*off", "off"),
    ("john*other", "o"),
    ("bare*admin", "master"),
    ("off*admin", "master"),
    ("far*admin", "master"),
    ("alias*admin", "master"),
    ("john*admin", "all"),
];

/// What PLAIN says: whom to be, whose password, and the password.
const PLAIN: [(&str, &str, &str); 15] = [
    ("", "john", "own"),
    ("john", "john", "own"),
    ("John", "john", "own"),
    ("john", "admin", "master"),
    ("mary", "Admin", "master"),
    ("john", "admin", "wrong"),
    ("mary", "john", "own"),
    ("mary", "john", "boss"),
    ("", "john*admin", "master"),
    ("mary", "john*admin", "master"),
    ("admin", "john*admin", "master"),
    ("john*admin", "admin", "master"),
    ("jo!hn", "admin", "master"),
    ("nobody", "admin", "master"),
    ("john", "nobody", "master"),
];

/// So many dialogues at once.
const AT_ONCE: usize = 16;

/// Where a server listens.
#[derive(Clone, Copy)]
struct Server {
    imap: SocketAddr,
    pop3: SocketAddr,
}

pub fn log_in_as_with_dovecot() -> Result<(), String> {
    let mut differences = Vec::new();
    for (at, (setup, least)) in SETUPS.into_iter().enumerate() {
        let (system, dovecot, servers) = both(setup)?;
        let mut let_in = 0;
        for (what, [theirs, ours]) in compare(&servers)? {
            let_in += usize::from(ours != "refused");
            if theirs != ours {
                differences.push(format!("setup {at}: {what:?}\n  Dovecot: {theirs}\n  ours:    {ours}"));
            }
        }
        if let_in < least {
            differences.push(format!("setup {at}: only {let_in} logins were let in"));
        }
        if at == 0 {
            lines_are_the_same(&system)?;
            submission_knows_both(&system)?;
        }
        drop(dovecot);
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}

/// Every dialogue with both, several at once: Dovecot takes its time over failures.
fn compare(servers: &[Server; 2]) -> Result<Vec<(Dialogue, [String; 2])>, String> {
    // Dovecot shows a mailbox as empty to whoever asks while it is indexed for the first time.
    for (user, password) in [("john", "own"), ("mary", "mine"), ("admin", "private")] {
        for server in servers {
            Dialogue::ImapLogin(user, password).outcome(*server)?;
        }
    }
    let all: Vec<Dialogue> = dialogues().collect();
    let share = |first: usize| {
        let own = all.iter().skip(first).step_by(AT_ONCE);
        let both = |what: &Dialogue| Ok((*what, [what.outcome(servers[0])?, what.outcome(servers[1])?]));
        own.map(both).collect::<Result<Vec<_>, String>>()
    };
    std::thread::scope(|scope| {
        let share = &share;
        let workers: Vec<_> = (0..AT_ONCE).map(|first| scope.spawn(move || share(first))).collect();
        let shares = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err("it panicked".to_owned())));
        Ok(shares.collect::<Result<Vec<_>, String>>()?.concat())
    })
}

/// A Dovecot and our system with the same mailboxes and databases; in each mailbox another number of messages.
fn both(setup: &str) -> Result<(System, Dovecot, [Server; 2]), String> {
    let text = format!("{BOTH}{setup}");
    let system = Builder::new("info.net")
        .user("admin", "private")
        .file("users", USERS)
        .file("masters", MASTERS)
        .file("masters-john", MASTERS)
        .file("masters-mary", "admin:{PLAIN}only-mary\n")
        .dovecot(&text)
        .start()?;
    for (user, count) in [("john", 1), ("mary", 2), ("admin", 3)] {
        fill(&system, &system.maildir(user), count).map_err(|error| error.to_string())?;
    }
    let port = free_port(Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
    let more = format!(
        "protocols = imap pop3 lmtp\nservice pop3-login {{\n inet_listener pop3 {{\n  port = {port}\n }}\n inet_listener pop3s {{\n  port = 0\n }}\n}}\n"
    );
    let dovecot =
        Dovecot::beside_with(&system, &(more + &text.replace("{root}", &system.root().display().to_string())))?;
    let ours = Server { imap: system.ports.at(system.ports.imap), pop3: system.ports.at(system.ports.pop3) };
    let theirs = Server { imap: dovecot.address, pop3: (Ipv4Addr::LOCALHOST, port).into() };
    Ok((system, dovecot, [theirs, ours]))
}

fn fill(system: &System, maildir: &Path, count: usize) -> io::Result<()> {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(maildir.join(part))?;
    }
    for number in 0..count {
        fs::write(maildir.join(format!("cur/170000000{number}.M1.x:2,S")), "Subject: x\n\nx\n")?;
    }
    system.give_to_user(maildir)
}

/// One login.
#[derive(Debug, Clone, Copy)]
enum Dialogue {
    ImapLogin(&'static str, &'static str),
    ImapPlain(&'static str, &'static str, &'static str),
    Pop3(&'static str, &'static str),
}

fn dialogues() -> impl Iterator<Item = Dialogue> {
    let imap = NAMES.into_iter().map(|(user, password)| Dialogue::ImapLogin(user, password));
    // The names mean the same there.
    let pop3 = NAMES.into_iter().skip(4).step_by(3).map(|(user, password)| Dialogue::Pop3(user, password));
    imap.chain(PLAIN.into_iter().map(|(other, user, password)| Dialogue::ImapPlain(other, user, password))).chain(pop3)
}

impl Dialogue {
    /// `refused`, or how many messages the mailbox has.
    fn outcome(&self, server: Server) -> Result<String, String> {
        let said = match self {
            Self::ImapLogin(user, password) => imap(server, |session| session.login(user, password)),
            Self::ImapPlain(other, user, password) => {
                imap(server, |session| session.authenticate(other, user, password))
            }
            Self::Pop3(user, password) => pop3(server, user, password),
        };
        match said {
            // Dovecot closes the connection of a master user whose other user has no mailbox, if the session process says so first.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok("refused".to_owned()),
            said => said.map_err(|error| format!("{self:?}: {error}")),
        }
    }
}

fn imap(server: Server, login: impl Fn(&mut Imap) -> io::Result<()>) -> io::Result<String> {
    let mut session = Imap::connect(server.imap, Security::Clear)?;
    match login(&mut session) {
        Err(error) if error.to_string().contains(": NO ") => return Ok("refused".to_owned()),
        other => other?,
    };
    let said = session.command("STATUS INBOX (MESSAGES)")?;
    session.command("LOGOUT")?;
    session.lines.rest(1000);
    let count =
        said.iter().find_map(|line| line.split_once("(MESSAGES ")).map(|(_, count)| count.trim_end_matches(')'));
    Ok(format!("{} messages", count.unwrap_or("no")))
}

fn pop3(server: Server, user: &str, password: &str) -> io::Result<String> {
    let mut session = Pop3::connect(server.pop3, Security::Clear)?;
    match session.login(user, password) {
        Err(error) if error.to_string().contains("-ERR") => return Ok("refused".to_owned()),
        other => other?,
    };
    let said = session.command("STAT")?;
    session.command("QUIT")?;
    session.lines.rest(1000);
    Ok(format!("{} messages", said.split(' ').nth(usize::from(said.starts_with('+'))).unwrap_or("no")))
}

/// Who was let in, by whom, and which master user was not: in both logs.
fn lines_are_the_same(system: &System) -> Result<(), String> {
    let theirs = fs::read_to_string(system.root().join("dovecot/log")).map_err(|error| error.to_string())?;
    let lines = [
        "imap-login: Login: user=<john>, auth=<admin>, rip=127.0.0.1",
        "pop3-login: Login: user=<mary>, auth=<john>, rip=127.0.0.1",
        "imap-login: Login: user=<john>, auth=<john>, rip=127.0.0.1",
        "user=<admin>, auth=<admin>, rip=127.0.0.1",
        "Master user logging in as john",
        "passwd-file(admin,127.0.0.1,master,<",
        "Master user login attempted to use empty login username",
        "Empty username",
        "Username character disallowed by auth_username_chars: 0x2a (username: admin*admin)",
    ];
    for line in lines {
        let told = theirs.lines().any(|one| one.replace(": Info: ", ": ").contains(line));
        let ours = wait_for(line, Patience::default(), || system.logs().contains(line).then_some(()));
        if !told || ours.is_err() {
            return Err(format!("{line:?}: Dovecot's log has it: {told}; ours: {}", ours.is_ok()));
        }
    }
    Ok(())
}

/// Submission knows a master user as whom they logged in as, and refuses a wrong one.
fn submission_knows_both(system: &System) -> Result<(), String> {
    let connect = || Smtp::connect(system.ports.at(system.ports.submissions), Security::Tls);
    let send = || {
        let mut session = connect()?;
        session.command("EHLO client.info.net", 2)?;
        session.login("john*admin", "master")?;
        session.send("john@info.net", &["mary@info.net"], "Subject: by a master user\r\n\r\nx\r\n")
    };
    send().map_err(|error| format!("submission: {error}"))?;
    system.wait_for_line("smtpd", &["sasl_username=john", "sasl_method=PLAIN"])?;
    let wrong = || {
        let mut session = connect()?;
        session.command("EHLO client.info.net", 2)?;
        session.login("john*admin", "own")
    };
    match wrong() {
        Err(error) if error.to_string().contains("535") => Ok(()),
        other => Err(format!("a wrong password of a master user: {other:?}")),
    }
}
