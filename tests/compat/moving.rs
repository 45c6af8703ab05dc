//! The queue goes from Postfix to us and back: `postrider adopt` and `postrider leave` on one directory of files, judged by Postfix's own
//! `postqueue`, `postcat` and `postsuper`, and by the server that gets the mail.
//!
//! `POSTRIDER_MOVING_MESSAGES` says how many plain messages there are beside the odd ones; 1,000 in CI.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use test_support::clients::{Security, Smtp};
use test_support::harness::program;
use test_support::remote::{Setup, Taken};
use test_support::{Builder, Patience, Remote, System, wait_for};

/// Long enough for a thousand messages on a machine that does other things too.
const LONG: Patience = Patience(Duration::from_secs(120));
/// What Postfix needs in master.cf beside what both have.
const SERVICES: &str = "cleanup unix n - n - 0 cleanup
pickup unix n - n 60 1 pickup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
flush unix n - n 1000? 0 flush
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd";

/// A mail system's files, on which Postfix and we take turns.
struct Place {
    system: System,
    hop: SocketAddr,
}

/// What a listing says of a message, whoever lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    sender: String,
    recipients: BTreeMap<String, String>,
    arrival: i64,
    hold: bool,
}

pub fn there_and_back() -> Result<(), String> {
    let place = Place::new()?;
    story(&place).map_err(|error| format!("{error}\n{}\n{}", place.system.logs(), place.postfix_log()))
}

fn story(place: &Place) -> Result<(), String> {
    let plain = plain_messages();
    place.postfix("start")?;
    send_all(place, plain)?;
    let before = place.settled(plain + ODD)?;
    place.postfix("stop")?;
    place.ended()?;
    place.drop_one()?;
    let files = checksums(&place.system.etc());

    let account = place.adopt()?;
    same("the files of the configuration", &files, &checksums(&place.system.etc()))?;
    let before_contents = before.contents;
    let mut system_runs = place.start_ours()?;
    let ours = listed(&system_runs.system.run(&["postqueue", "-j"], "")?)?;
    let waiting: BTreeSet<Listed> =
        ours.into_values().filter(|one| !one.recipients.contains_key("dropped@far.example")).collect();
    same("our listing", &before.listed, &waiting)?;
    for (old, content) in &before_contents {
        let new = account.get(old).ok_or_else(|| format!("{old} was not adopted"))?;
        let shown = system_runs.system.run(&["postcat", "-bh", "-q", new], "")?;
        same(&format!("the content of {old}"), content, &shown.replace("\r\n", "\n"))?;
    }
    system_runs.stop()?;

    let handed = place.leave()?;
    let back = place.listing()?;
    let without_dropped =
        back.into_values().filter(|one| !one.recipients.contains_key("dropped@far.example")).collect();
    same("Postfix's listing afterwards", &before.listed, &without_dropped)?;
    let fixed = place.program("postsuper", &["-s"])?;
    same("what postsuper -s has to mend", &String::new(), &text(&fixed.stderr))?;
    for (old, content) in &before_contents {
        let new = &handed[&account[old]];
        let id = new.rsplit('/').next().unwrap_or(new);
        let shown = text(&place.program("postcat", &["-bh", "-q", id])?.stdout);
        same(&format!("the content of {old} afterwards"), content, &shown)?;
    }
    deliver_half_each(place, plain)
}

/// We deliver one half, Postfix the other; every recipient gets one copy, and those that were done get none.
fn deliver_half_each(place: &Place, plain: usize) -> Result<(), String> {
    place.adopt()?;
    let server = Setup::new("far.example").start(place.hop).map_err(|error| error.to_string())?;
    let mut runs = place.start_ours()?;
    let ids: Vec<String> = listed(&runs.system.run(&["postqueue", "-j"], "")?)?.into_keys().collect();
    for id in ids.iter().step_by(2) {
        runs.system.run(&["postsuper", "-h", id], "")?;
    }
    let held = listed(&runs.system.run(&["postqueue", "-j"], "")?)?.into_values().filter(|one| one.hold).count();
    runs.system.run(&["postqueue", "-f"], "")?;
    wait_for("our half of the mail", LONG, || {
        let left = listed(&runs.system.run(&["postqueue", "-j"], "").ok()?).ok()?;
        (left.len() == held).then_some(())
    })?;
    let ours = server.taken().len();
    runs.stop()?;
    place.leave()?;
    let back = place.listing()?;
    if back.len() != held || !back.values().all(|one| one.hold) {
        return Err(format!("{held} messages were held, and Postfix has {back:?}"));
    }
    place.program("postsuper", &["-H", "ALL"])?;
    place.postfix("start")?;
    let emptied = wait_for("Postfix's half of the mail", LONG, || {
        // Until the queue manager has seen everything that was released.
        place.program("postqueue", &["-f"]).ok()?;
        place.listing().ok()?.is_empty().then_some(())
    });
    place.postfix("stop")?;
    emptied?;
    judge(&server, plain, ours)
}

fn judge(server: &Remote, plain: usize, ours: usize) -> Result<(), String> {
    let taken = server.taken();
    if ours == 0 || ours == taken.len() {
        return Err(format!("{ours} of {} messages came from us: neither side delivered nothing", taken.len()));
    }
    let mut got: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in &taken {
        let subject = subject(one);
        got.entry(subject).or_default().extend(one.to.iter().map(|to| address(to)));
    }
    let mut expected: BTreeMap<String, Vec<String>> =
        (0..plain).map(|n| (format!("plain {n}"), vec![format!("to{n}@far.example")])).collect();
    for (name, to) in ODD_ONES {
        expected.insert((*name).to_owned(), to.iter().map(|to| (*to).to_owned()).collect());
    }
    got.values_mut().for_each(|to| to.sort());
    expected.values_mut().for_each(|to| to.sort());
    same("who got what", &expected, &got)?;
    for one in taken.iter().filter(|one| subject(one) == "dsn") {
        let all = format!("{} {}", one.from, one.to.join(" "));
        for words in ["RET=HDRS", "ENVID=id+2B7", "NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Original@far.example"] {
            if !all.to_ascii_uppercase().contains(&words.to_ascii_uppercase()) {
                return Err(format!("{words} is missing: {all}"));
            }
        }
    }
    let large = taken.iter().find(|one| subject(one) == "large").map_or(0, |one| one.raw.len());
    if large < LARGE { Err(format!("the large message has {large} octets")) } else { Ok(()) }
}

/// The odd messages by subject, with those that still wait.
const ODD_ONES: &[(&str, &[&str])] = &[
    ("dsn", &["dsn@far.example"]),
    ("partly", &["waits@far.example"]),
    ("eight", &["eight@far.example"]),
    ("utf8", &["jürgen@far.example"]),
    ("null", &["null@far.example"]),
    ("large", &["large@far.example"]),
    ("held", &["held@far.example"]),
    ("dropped", &["dropped@far.example"]),
];
/// Those of them that go through SMTP.
const ODD: usize = ODD_ONES.len() - 1;
const LARGE: usize = 1_500_000;

fn plain_messages() -> usize {
    std::env::var("POSTRIDER_MOVING_MESSAGES").ok().and_then(|count| count.parse().ok()).unwrap_or(1000)
}

fn send_all(place: &Place, plain: usize) -> Result<(), String> {
    let address = place.system.ports.at(place.system.ports.smtp);
    wait_for("Postfix's greeting", Patience::default(), || test_support::clients::greets(address).then_some(()))?;
    let failed = |error: std::io::Error| error.to_string();
    let mut smtp = Smtp::connect(address, Security::Clear).map_err(failed)?;
    let mut send = |mail: &str, to: &[&str], subject: &str, body: &str| -> Result<(), String> {
        let mut say = |command: String, class| smtp.command(&command, class).map(drop);
        say(format!("MAIL FROM:{mail}"), 2).map_err(failed)?;
        for to in to {
            say(format!("RCPT TO:{to}"), 2).map_err(failed)?;
        }
        say("DATA".to_owned(), 3).map_err(failed)?;
        say(format!("From: a@near.example\r\nSubject: {subject}\r\n\r\n{body}\r\n."), 2).map_err(failed)
    };
    for number in 0..plain {
        let lines = format!("line {number}\r\n..dots {number}\r\n").repeat(number % 7 + 1);
        send("<from@near.example>", &[&format!("<to{number}@far.example>")], &format!("plain {number}"), &lines)?;
    }
    send(
        "<from@near.example> RET=HDRS ENVID=id+2B7",
        &["<dsn@far.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Original@far.example"],
        "dsn",
        "x",
    )?;
    send("<from@near.example>", &["<waits@far.example>", "<gone@done.example>"], "partly", "x")?;
    send("<from@near.example> BODY=8BITMIME", &["<eight@far.example>"], "eight", "Grüße")?;
    send("<from@near.example> SMTPUTF8 BODY=8BITMIME", &["<jürgen@far.example>"], "utf8", "x")?;
    send("<>", &["<null@far.example>"], "null", "x")?;
    send("<from@near.example>", &["<large@far.example>"], "large", &"0123456789abcdef\r\n".repeat(LARGE / 18 + 1))?;
    send("<from@near.example>", &["<held@far.example>"], "held", "x")
}

/// What Postfix had when it stopped.
struct Before {
    listed: BTreeSet<Listed>,
    /// Some contents by queue id, as postcat shows them.
    contents: BTreeMap<String, String>,
}

impl Place {
    fn new() -> Result<Self, String> {
        let port = test_support::free_port(Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
        let hop = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let main_cf = format!(
            "relayhost = [127.0.0.1]:{port}\ndata_directory = {{root}}/data\nmaillog_file = {{root}}/log/maillog\nmaillog_file_prefixes = {{root}}\n\
             transport_maps = inline:{{ done.example=discard: }}\nminimal_backoff_time = 3000s\nmaximal_backoff_time = 4000s\n\
             queue_run_delay = 3000s\nlocal_recipient_maps =\nsmtpd_client_connection_rate_limit = 0"
        );
        let system = Builder::new("near.example").main_cf(&main_cf).master_cf(SERVICES).prepare()?;
        let place = Self { system, hop };
        place.lay_out().map_err(|error| error.to_string())?;
        Ok(place)
    }

    /// Directories of both: Postfix's own belong to root and to Postfix, ours to whom the system runs as.
    fn lay_out(&self) -> std::io::Result<()> {
        let root = self.system.root();
        for name in ["data", "queue/postrider", "queue/postrider/segments", "queue/postrider/maildrop"] {
            fs::create_dir(root.join(name))?;
        }
        self.system.give_to_user(&root.join("queue/postrider"))?;
        let owner = mail_posix::users::by_name("postfix")?.map(|user| (user.uid, user.gid));
        for name in ["data", "queue/private"] {
            std::os::unix::fs::chown(root.join(name), owner.map(|owner| owner.0), owner.map(|owner| owner.1))?;
        }
        for name in ["queue", "log"] {
            std::os::unix::fs::chown(root.join(name), Some(if name == "queue" { 0 } else { 65534 }), None)?;
        }
        Ok(())
    }

    fn program(&self, name: &str, arguments: &[&str]) -> Result<Output, String> {
        let mut command = Command::new(program(name).ok_or_else(|| format!("no {name}"))?);
        command.arg("-c").arg(self.system.etc()).args(arguments).stdin(Stdio::null());
        command.output().map_err(|error| format!("{name}: {error}"))
    }

    fn postfix(&self, what: &str) -> Result<(), String> {
        let output = self.program("postfix", &[what])?;
        if output.status.success() { Ok(()) } else { Err(format!("postfix {what}: {}", text(&output.stderr))) }
    }

    fn postfix_log(&self) -> String {
        let log = fs::read_to_string(self.system.root().join("log/maillog")).unwrap_or_default();
        log.lines().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Waits until Postfix's master is gone.
    fn ended(&self) -> Result<(), String> {
        wait_for("the end of Postfix", Patience::default(), || {
            let status = self.program("postfix", &["status"]).ok()?;
            (!status.status.success()).then_some(())
        })
    }

    /// Postfix's listing, by queue id.
    fn listing(&self) -> Result<BTreeMap<String, Listed>, String> {
        listed(&text(&self.program("postqueue", &["-j"])?.stdout))
    }

    /// Waits until every message was attempted, puts one on hold, and takes the listing.
    fn settled(&self, count: usize) -> Result<Before, String> {
        let waits = |one: &Listed| one.recipients.values().all(|reason| !reason.is_empty());
        let found = wait_for("every message to be deferred", LONG, || {
            let found = self.listing().ok()?;
            (found.len() == count && found.values().all(waits)).then_some(found)
        })?;
        let held = found.iter().find(|(_, one)| one.recipients.contains_key("held@far.example"));
        let held = held.map(|(id, _)| id.clone()).ok_or("the message to be held is missing")?;
        self.program("postsuper", &["-h", &held])?;
        let mut contents = BTreeMap::new();
        let odd = |one: &Listed| !one.recipients.keys().all(|to| to.starts_with("to"));
        for (id, one) in &found {
            if odd(one) || contents.len() < 10 {
                contents.insert(id.clone(), text(&self.program("postcat", &["-bh", "-q", id])?.stdout));
            }
        }
        Ok(Before { listed: self.listing()?.into_values().collect(), contents })
    }

    /// A submission that nobody has picked up.
    fn drop_one(&self) -> Result<(), String> {
        let mut command = Command::new(program("sendmail").ok_or("no sendmail")?);
        command.arg("-C").arg(self.system.etc()).args(["-f", "from@near.example", "dropped@far.example"]);
        let output = test_support::feed(command, b"Subject: dropped\n\nhello\n").map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(format!("sendmail: {}", text(&output.stderr))) }
    }

    fn ours(&self, arguments: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(self.system.root().join("bin/postrider"));
        command.args(arguments).arg("-c").arg(self.system.etc()).args(["--json", "--yes"]);
        let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        let said = text(&output.stdout);
        if !output.status.success() {
            return Err(format!("{arguments:?}: {}: {said}{}", output.status, text(&output.stderr)));
        }
        serde_json::from_str(&said).map_err(|error| format!("{error}: {said}"))
    }

    /// Takes the queue over; gives new ids by old ones.
    fn adopt(&self) -> Result<BTreeMap<String, String>, String> {
        let elsewhere = self.system.root().join("elsewhere");
        fs::create_dir_all(elsewhere.join("etc")).map_err(|error| error.to_string())?;
        let report = self.ours(&["adopt", "--root", &elsewhere.display().to_string()])?;
        ids(&report["account"]["adopted"])
    }

    /// Hands the queue back; gives Postfix's files by our ids.
    fn leave(&self) -> Result<BTreeMap<String, String>, String> {
        ids(&self.ours(&["leave"])?["account"]["handed"])
    }

    fn start_ours(&self) -> Result<Running<'_>, String> {
        let runs = Running::start(&self.system)?;
        Ok(runs)
    }
}

/// Our daemons, started over the same files.
struct Running<'a> {
    system: &'a System,
    up: std::process::Child,
}

impl<'a> Running<'a> {
    fn start(system: &'a System) -> Result<Self, String> {
        let mut command = system.command("postrider");
        command.arg("up").arg("-c").arg(system.etc()).arg("--log-dir").arg(system.root().join("log"));
        let up = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let up = up.map_err(|error| error.to_string())?;
        let runs = Self { system, up };
        let address = system.ports.at(system.ports.smtp);
        wait_for("our greeting", Patience::default(), || {
            // The listing is queue-manager's, which may come after the port.
            let listed = system.run(&["postqueue", "-j"], "").is_ok();
            (listed && test_support::clients::greets(address)).then_some(())
        })?;
        Ok(runs)
    }

    fn stop(&mut self) -> Result<(), String> {
        test_support::system::signal(self.up.id(), rustix::process::Signal::TERM);
        let up = &mut self.up;
        wait_for("the end of our daemons", Patience::default(), || up.try_wait().ok().flatten()).map(drop)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.up.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.stop();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.program("postfix", &["abort"]);
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// A listing as `postqueue -j` prints it, by queue id.
fn listed(output: &str) -> Result<BTreeMap<String, Listed>, String> {
    let mut found = BTreeMap::new();
    for line in output.lines() {
        let value: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        let word = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let recipients = value["recipients"].as_array().cloned().unwrap_or_default();
        let recipients = recipients.iter().map(|to| (word(to, "address"), word(to, "delay_reason"))).collect();
        let one = Listed {
            sender: word(&value, "sender"),
            recipients,
            arrival: value["arrival_time"].as_i64().unwrap_or_default(),
            hold: value["queue_name"] == "hold",
        };
        found.insert(word(&value, "queue_id"), one);
    }
    Ok(found)
}

fn ids(pairs: &Value) -> Result<BTreeMap<String, String>, String> {
    let pairs = pairs.as_array().ok_or_else(|| format!("no account: {pairs}"))?;
    let word = |pair: &Value, name: &str| pair[name].as_str().unwrap_or_default().to_owned();
    Ok(pairs.iter().map(|pair| (word(pair, "old"), word(pair, "new"))).collect())
}

fn subject(one: &Taken) -> String {
    let text = text(&one.raw);
    text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or_default().to_owned()
}

/// The address of a RCPT argument.
fn address(argument: &str) -> String {
    argument.split(['<', '>']).nth(1).unwrap_or(argument).to_owned()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, found: &T) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let short = |value: &T| format!("{value:?}").chars().take(4000).collect::<String>();
    Err(format!("{what}:\nexpected {}\nfound    {}", short(expected), short(found)))
}

/// The octets of every file that is no compiled table.
fn checksums(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_file()).filter_map(|path| fs::read(&path).ok().map(|octets| (path, octets))).collect()
}
