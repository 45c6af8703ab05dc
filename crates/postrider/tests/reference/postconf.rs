//! `postconf` of Postfix and ours over the same files: made by hand, and made by chance from the pieces of both languages. `POSTCONF_ROUNDS` says how many
//! of the latter (12).
//!
//! Compared octet by octet; of the files made by hand standard error too, line by line in any order (Postfix's order is that of a hash table).

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use test_support::harness;

use crate::chance::Chance;

const MAIN_CF: &str = "# comment\ncompatibility_level = 3.6\nmyhostname = mail.example.org\nmydomain=example.org\n\
    mydestination = $myhostname,   localhost.$mydomain,\n\tlocalhost\n  # inside comment\n    , other.example\n\
    mynetworks = 127.0.0.0/8\t[::1]/128\nfoo = bar\nmine = $foo\nsmtpd_restriction_classes = greylist, other_class\n\
    greylist = check_policy_service inet:127.0.0.1:10023\nother_class = permit\nsmtpd_banner = $mine ESMTP ${foo?{x}:{y}}\n\
    slow_destination_rate_delay = 5s\nnosuch_destination_rate_delay = 5s\nunknown_thing = 1\n\
    virtual_alias_maps = hash:/etc/postfix/virtual, ldap:myldap, inline:{ a=b, {c = d e} }\nmyldap_server_host = localhost\n\
    notldap_server_host = x\nrelayhost =\nsmtpd_recipient_restrictions = permit_mynetworks, permit_sasl_authenticated, \
    reject_unauth_destination, reject_unknown_sender_domain, check_policy_service { inet:host:port, timeout=10s, default_action=DUNNO } permit\n\
    smtp_helo_name = ${{$compatibility_level} >=level {3.6} ? {$myhostname} : {old}} ${none:{absent}} ${none?present}\n";

const MASTER_CF: &str = "smtp      inet  n       -       y       -       -       smtpd\n  -o smtpd_client_restrictions=$mua_client_restrictions -v\n\
    submission inet n - y - - smtpd\n  -o syslog_name=postfix/submission\n  -o { smtpd_relay_restrictions = permit_sasl_authenticated, reject }\n  \
    -o mua_client_restrictions=permit_sasl_authenticated,reject -o foo2=bar\nslow      unix  -       -       y       -       2       smtp\n  \
    -o syslog_name=$service_name\nmaildrop  unix  -       n       n       -       -       pipe\n  flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient} { a b }\n\
    127.0.0.1:10025 inet n - n - - smtpd\nvery-long-service-name-here unix - - n 60? 1 proxymap\n# a comment\npickup    unix  n       -       y       60      1       pickup\n\
    \t-o content_filter=\n# inner\n\t-o receive_override_options=no_header_body_checks\n";

/// What is asked about each pair of files.
const SHOWN: [&[&str]; 12] = [
    &["-n"],
    &["-nf"],
    &["-nx"],
    &["-nH"],
    &["-nh"],
    &["-M"],
    &["-Mf"],
    &["-Mx"],
    &["-P"],
    &["-Px"],
    &["-F"],
    &["-C", "user,service"],
];

/// What is asked about the files made by hand beside that.
const ASKED: [&[&str]; 20] = [
    &["-Mx", "slow"],
    &["-C", "service"],
    &["-Fh", "smtp/inet"],
    &["-FH", "smtp/inet/command"],
    &["-Ff", "maildrop"],
    &["-M", "smtp/unix"],
    &["-M", "*/inet"],
    &["-P", "*/inet/syslog_name", "nosuch"],
    &["myhostname", "nosuch"],
    &["-d", "nosuch", "relayhost"],
    &["-hx", "myorigin", "mydomain"],
    &["-hH", "myhostname"],
    &["-nd"],
    &["-o", "foo=zzz", "-x", "foo", "smtpd_banner", "mine"],
    &["-n", "myhostname", "relay_domains"],
    &["-C", "nothing", "x"],
    &["-Mh"],
    &["-M", "-P"],
    &["-l"],
    &["-xf", "smtpd_recipient_restrictions", "smtpd_expansion_filter"],
];

/// Edits, and what the files look like after each.
const EDITS: [&[&str]; 19] = [
    &["-e", "mydomain = x  y", "new_one=1"],
    &["relayhost=[mail]:25"],
    &["-#", "mydestination"],
    &["-X", "mydestination", "foo"],
    &["-M", "-e", "smtp/inet=smtp inet n - n - - smtpd -o a=b -o { x = y z }"],
    &["-M", "new/unix=new unix - - n - - smtp"],
    &["-M#", "smtp/inet"],
    &["-MX", "smtp/inet", "pickup/unix"],
    &["-MX", "nosuch/unix"],
    &["-MX", "smtp"],
    &["-F", "smtp/inet/chroot=n"],
    &["-F", "*/unix/chroot=n"],
    &["-Fe", "smtp/inet/command=smtpd -v"],
    &["-F", "smtp/inet/process_limit=x"],
    &["-F", "nosuch/inet/chroot=n"],
    &["-P", "smtp/inet/foo=bar"],
    &["-P", "submission/inet/syslog_name=a b"],
    &["-PX", "submission/inet/foo2"],
    &["-P", "*/inet/zz=1"],
];

/// Defaults that `docs/differences.md` makes safer, or that are about the machine or the program.
const OTHER_DEFAULTS: [&str; 7] = [
    "config_directory",
    "mynetworks",
    "mynetworks_style",
    "process_id",
    "process_name",
    "relay_domains",
    "smtpd_relay_restrictions",
];

pub fn shows_what_postfix_shows() -> Result<(), String> {
    let both = Both::new()?;
    both.write(MAIN_CF, MASTER_CF)?;
    for options in SHOWN.iter().chain(&ASKED) {
        both.compare(options, true)?;
    }
    let rounds: u64 = std::env::var("POSTCONF_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    for round in 1..=rounds {
        let (main, master) = Chance(round.wrapping_mul(0x9e37_79b9_7f4a_7c15)).files();
        both.write(&main, &master)?;
        for options in &SHOWN {
            both.compare(options, false)
                .map_err(|error| format!("round {round}: {error}\n--- main.cf\n{main}\n--- master.cf\n{master}"))?;
        }
    }
    Ok(())
}

pub fn defaults_are_those_of_postfix() -> Result<(), String> {
    let both = Both::new()?;
    both.write("", MASTER_CF)?;
    let lines = |output: Output| -> Vec<String> {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let other = |line: &&str| {
            let name = line.split(" =").next().unwrap_or_default();
            !OTHER_DEFAULTS.contains(&name) && name != "smtpd_tls_auth_only" && !name.starts_with("postrider_")
        };
        text.lines().filter(other).map(str::to_owned).collect()
    };
    let (theirs, ours) = (lines(both.theirs(&["-d"])?), lines(both.ours(&["-d"])?));
    match theirs.iter().zip(&ours).find(|(theirs, ours)| theirs != ours) {
        Some((theirs, ours)) => Err(format!("{theirs}\n{ours}")),
        None if theirs.len() != ours.len() => Err(format!("{} and {} parameters", theirs.len(), ours.len())),
        None => Ok(()),
    }
}

pub fn edits_as_postfix_edits() -> Result<(), String> {
    let both = Both::new()?;
    // Postfix moves a comment that follows an entry in front of it; ours stays where it is.
    let master = MASTER_CF.replace("# a comment\n", "");
    for options in EDITS {
        let mut after = Vec::new();
        for run in [Both::theirs, Both::ours] {
            both.write(MAIN_CF, &master)?;
            let output = run(&both, options)?;
            after.push((output.status.success(), both.read("main.cf")?, both.read("master.cf")?));
        }
        if after[0] != after[1] {
            return Err(format!(
                "{options:?}\n{}\n{}\n--- ours\n{}\n{}",
                after[0].1, after[0].2, after[1].1, after[1].2
            ));
        }
    }
    Ok(())
}

/// A directory with both programs.
struct Both {
    directory: tempfile::TempDir,
    postconf: std::path::PathBuf,
    postrider: std::path::PathBuf,
}

impl Both {
    fn new() -> Result<Self, String> {
        Ok(Self {
            directory: tempfile::tempdir().map_err(|error| error.to_string())?,
            postconf: harness::program("postconf").ok_or("postconf is gone")?,
            postrider: env!("CARGO_BIN_EXE_postrider").into(),
        })
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, main: &str, master: &str) -> Result<(), String> {
        let written = fs::write(self.path("main.cf"), main).and_then(|()| fs::write(self.path("master.cf"), master));
        written.map_err(|error| error.to_string())
    }

    fn read(&self, name: &str) -> Result<String, String> {
        fs::read_to_string(self.path(name)).map_err(|error| error.to_string())
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Result<Output, String> {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.output().map_err(|error| format!("{}: {error}", program.display()))
    }

    fn theirs(&self, options: &[&str]) -> Result<Output, String> {
        let directory = self.directory.path().display().to_string();
        self.run(&self.postconf, &[&["-c", &directory], options].concat())
    }

    fn ours(&self, options: &[&str]) -> Result<Output, String> {
        let directory = self.directory.path().display().to_string();
        self.run(&self.postrider, &[&["postconf", "-c", &directory], options].concat())
    }

    fn compare(&self, options: &[&str], with_warnings: bool) -> Result<(), String> {
        let (theirs, ours) = (self.theirs(options)?, self.ours(options)?);
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let said = |octets: &[u8]| {
            // What ends the command is said in other words.
            let text = text(octets).replace("/usr/sbin/postconf:", "postconf:");
            let lines = text.lines().filter(|line| !line.contains("fatal:"));
            let mut lines: Vec<String> = lines.map(str::to_owned).collect();
            lines.sort();
            lines.dedup();
            lines
        };
        if theirs.status.success() != ours.status.success() {
            return Err(format!("{options:?}: {}{}", text(&theirs.stderr), text(&ours.stderr)));
        }
        if theirs.stdout != ours.stdout {
            return Err(format!("{options:?}:\n{}--- ours\n{}", text(&theirs.stdout), text(&ours.stdout)));
        }
        if with_warnings && theirs.status.success() && said(&theirs.stderr) != said(&ours.stderr) {
            return Err(format!("{options:?}: {:#?}\n--- ours\n{:#?}", said(&theirs.stderr), said(&ours.stderr)));
        }
        Ok(())
    }
}

/// The parameters that the files made by chance may set; those of two letters are names for `$name`.
const NAMES: [&str; 15] = [
    "smtp_helo_name",
    "mydestination",
    "bb",
    "relayhost",
    "smtpd_banner",
    "aa",
    "virtual_alias_maps",
    "smtpd_client_restrictions",
    "s1_destination_rate_delay",
    "dd",
    "s2_destination_recipient_limit",
    "s3_time_limit",
    "cc",
    "smtp_tls_CAfile",
    "smtpd_restriction_classes",
];

impl Chance {
    fn files(&mut self) -> (String, String) {
        let main: String = NAMES.iter().map(|name| self.parameter(name)).collect();
        let master: String = (0..6).map(|at| self.service(at)).collect();
        (format!("myhostname = a.b.example\n{main}"), master)
    }

    fn parameter(&mut self, name: &str) -> String {
        if self.below(4) == 0 {
            return String::new();
        }
        // Names that name each other in a circle end both programs.
        let is_named = name.len() == 2;
        let words: Vec<_> = (0..self.below(6)).map(|_| if is_named { self.plain() } else { self.value() }).collect();
        let gap = self.of(&["= ", "=", " = ", " =  ", "\t=\t"]);
        let comment = self.of(&["", "", "# note\n", "\n", "  # inner\n"]);
        let between = self.of(&[" ", ",", ", ", "\n ", "\n# x\n\t", ",\n   "]);
        format!("{name}{gap}{}\n{comment}", words.join(between))
    }

    fn plain(&mut self) -> &'static str {
        self.of(&[
            "plain",
            "{ a, b }",
            "$myhostname",
            "a-rather-long-word-that-makes-lines-fold",
            "${{5} < {10} ? {less} : {more}}",
        ])
    }

    fn value(&mut self) -> &'static str {
        self.of(&[
            "plain",
            "$aa",
            "${bb}",
            "$(cc)",
            "${dd?yes}",
            "${dd:no}",
            "${aa?{ yes }:{ no }}",
            "${bb?{x}}",
            "${{$aa} == {plain} ? {same} : {other}}",
            "${{5} < {10} ? {less} : {more}}",
            "${{$compatibility_level} <level {3.6} ? {old} : {new}}",
            "$$",
            "$myhostname",
            "{ a, b }",
            "inline:{ x=y, { z = t u } }",
            "hash:/etc/x",
            "ldap:people",
            "a-rather-long-word-that-makes-lines-fold",
            "$nothing",
        ])
    }

    fn service(&mut self, at: usize) -> String {
        let kind = self.of(&["inet", "unix", "pass", "fifo"]);
        let flags = format!("{} {} {}", self.of(&["-", "y", "n"]), self.of(&["-", "y"]), self.of(&["-", "n"]));
        let wakeup = self.of(&["-", "60", "30?"]);
        let command = self.of(&["smtp", "smtpd", "pipe", "spawn", "local", "discard", "error", "qmgr"]);
        let mut line = format!("s{at} {kind} {flags} {wakeup} {} {command}", self.of(&["-", "0", "17"]));
        for _ in 0..self.below(5) {
            line.push_str(self.of(&[" ", "\n  ", "\n# note\n\t"]));
            line.push_str(self.of(&[
                "-o aa=1",
                "-o smtpd_banner=$aa",
                "-o { relayhost = [x y] }",
                "-oee=$bb",
                "-v",
                "-o smtpd_client_restrictions=$mua,reject",
                "-o mua=permit",
            ]));
        }
        if matches!(command, "pipe" | "spawn") {
            line.push_str(
                self.of(&[" user=x argv=/bin/cat ${recipient}", " flags=R user=x argv=/bin/sh -c { echo $aa }"]),
            );
        }
        line.push('\n');
        line
    }
}
