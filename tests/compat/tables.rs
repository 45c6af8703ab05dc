//! Generated tables and keys, through `postmap -q -` of Postfix and of us: the same values, the same keys not found, the same exit codes.
//!
//! `TABLE_ROUNDS` says how many tables of each type are made; what is made depends on its number alone, so a difference can be looked at again.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Tables of each type, where the environment says nothing else.
const ROUNDS: u64 = 6;
/// Keys of each table.
const KEYS: usize = 120;

/// Numbers that look random and are the same each time.
pub struct Dice(u64);

impl Dice {
    pub fn new(round: u64, kind: &str) -> Self {
        let seed = kind.bytes().fold(round + 1, |seed, octet| seed.wrapping_mul(1_099_511_628_211) ^ u64::from(octet));
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % most
    }

    pub fn chance(&mut self, per_cent: u64) -> bool {
        self.below(100) < per_cent
    }

    pub fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        let at = self.below(all.len() as u64);
        all[usize::try_from(at).unwrap_or(0)]
    }
}

/// A directory with a main.cf for both.
pub struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let shown = directory.path().display().to_string();
        let main = format!(
            "compatibility_level = 3.6\nmyhostname = mail.example.org\nqueue_directory = {shown}/spool\ndata_directory = {shown}/data\n"
        );
        let place = Self { directory };
        place.write("main.cf", &main)?;
        place.write("master.cf", "")?;
        for name in ["dynamicmaps.cf", "dynamicmaps.cf.d"] {
            let _ = Command::new("cp").arg("-r").arg(Path::new("/etc/postfix").join(name)).arg(place.root()).status();
        }
        Ok(place)
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    pub fn write(&self, name: &str, text: &str) -> Result<(), String> {
        fs::write(self.root().join(name), text).map_err(|error| format!("{name}: {error}"))
    }

    pub fn theirs(&self, arguments: &[&str], input: &str) -> Result<Output, String> {
        let mut command = Command::new("/usr/sbin/postmap");
        run(command.arg("-c").arg(self.root()).args(arguments).current_dir(self.root()), input)
    }

    pub fn ours(&self, arguments: &[&str], input: &str) -> Result<Output, String> {
        let mut command = Command::new(program()?);
        run(command.args(["postmap", "-c"]).arg(self.root()).args(arguments).current_dir(self.root()), input)
    }

    /// Both are asked for the same keys of a table.
    pub fn compare(&self, table: &str, keys: &[String], shown: &str) -> Result<usize, String> {
        self.compare_two(table, table, keys, shown)
    }

    pub fn compare_two(&self, theirs: &str, ours: &str, keys: &[String], shown: &str) -> Result<usize, String> {
        let input = keys.join("\n") + "\n";
        let (their, our) = (self.theirs(&["-q", "-", theirs], &input)?, self.ours(&["-q", "-", ours], &input)?);
        let (their_text, our_text) = (text(&their.stdout), text(&our.stdout));
        if their_text == our_text && their.status.code() == our.status.code() {
            return Ok(keys.len());
        }
        let differs =
            their_text.lines().zip(our_text.lines().chain(std::iter::repeat("(nothing)"))).find(|(a, b)| a != b);
        let (said, say) = (text(&their.stderr), text(&our.stderr));
        Err(format!(
            "{theirs}: {} and {}, first difference {differs:?}, {} and {} lines\nPostfix: {said}\nours: {say}\ntable:\n{shown}",
            their.status,
            our.status,
            their_text.lines().count(),
            our_text.lines().count()
        ))
    }
}

/// Our program; it is built once.
fn program() -> Result<&'static Path, String> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| {
        let programs = test_support::binaries::paths()?;
        programs.get("postrider").cloned().ok_or_else(|| "postrider was not built".to_owned())
    });
    built.as_ref().map(PathBuf::as_path).map_err(Clone::clone)
}

pub fn run(command: &mut Command, input: &str) -> Result<Output, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut stdin = child.stdin.take().ok_or("no input")?;
    let input = input.to_owned();
    // One that ends early does not read it all.
    let fed = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    fed.join().map_err(|_| "the input could not be written")?;
    Ok(output)
}

pub fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

pub fn rounds() -> u64 {
    std::env::var("TABLE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

const WORDS: [&str; 16] = [
    "john",
    "Mary",
    "info",
    "abuse",
    "x",
    "a.b",
    "o'neil",
    "é",
    "10.1.2.3",
    "192.168",
    "2001:db8::1",
    "%d",
    "a\\b",
    "p=q",
    "#no",
    "l-o_ng+x",
];
const DOMAINS: [&str; 8] =
    ["example.org", "Example.COM", "sub.example.org", "org", "x..y", "info.net", ".org", "localhost"];

pub fn key(dice: &mut Dice) -> String {
    let (word, domain) = (dice.of(&WORDS).to_owned(), dice.of(&DOMAINS));
    match dice.below(6) {
        0 => word,
        1 => domain.to_owned(),
        2 => format!("@{domain}"),
        3 => format!("{word}+{}@{domain}", dice.of(&WORDS)),
        _ => format!("{word}@{domain}"),
    }
}

pub fn keys(dice: &mut Dice) -> Vec<String> {
    let change = |dice: &mut Dice, key: String| match dice.below(5) {
        0 => key.to_uppercase(),
        1 => format!("{key}x"),
        _ => key,
    };
    let one = |_| {
        let key = key(dice);
        change(dice, key)
    };
    (0..KEYS).map(one).collect()
}

fn value(dice: &mut Dice) -> String {
    let count = dice.below(4);
    let words: Vec<String> = (0..=count).map(|_| key(dice)).collect();
    words.join(dice.of(&[" ", ", ", "  "]))
}

/// A source of postmap, with what people write and with mistakes.
fn source(dice: &mut Dice) -> String {
    let mut out = String::new();
    for _ in 0..40 + dice.below(60) {
        let (key, value) = (key(dice), value(dice));
        let gap = dice.of(&[" ", "\t", "   ", " \t "]);
        let _ = match dice.below(24) {
            0 => writeln!(out, "# {key} {value}"),
            1 => writeln!(out),
            2 => writeln!(out, "{key}"),
            3 => writeln!(out, "{key}\n  {value}"),
            4 => writeln!(out, "\"{key} y\"{gap}{value}"),
            5 => writeln!(out, "{key}{gap}{value},\n\t# a comment\n\t{value}"),
            6 => writeln!(out, "{key}{gap}{value}   "),
            7 => writeln!(out, "   # {value}"),
            _ => writeln!(out, "{key}{gap}{value}"),
        };
    }
    out
}

pub fn with_keys_give_the_same_values() -> Result<(), String> {
    let place = Place::new()?;
    let mut asked = 0;
    for round in 0..rounds() {
        for kind in ["hash", "btree", "texthash", "cdb", "lmdb"] {
            let mut dice = Dice::new(round, kind);
            let (text, name) = (source(&mut dice), format!("{kind}{round}"));
            place.write(&name, &text)?;
            let table = format!("{kind}:{name}");
            if kind != "texthash" {
                place.theirs(&[&table], "")?;
            }
            let keys = keys(&mut dice);
            asked += place.compare(&table, &keys, &text)?;
            if matches!(kind, "cdb" | "lmdb") {
                // What we make of the same source, Postfix reads.
                let own = format!("own{name}");
                place.write(&own, &text)?;
                let own = format!("{kind}:{own}");
                place.ours(&[&own], "")?;
                asked += place.compare_two(&own, &table, &keys, &text)?;
            }
            if matches!(kind, "hash" | "btree") {
                // Without its source the Berkeley DB file serves.
                fs::remove_file(place.root().join(&name)).map_err(|error| error.to_string())?;
                asked += place.compare(&table, &keys, &text)?;
            }
        }
    }
    enough(asked)
}

fn network(dice: &mut Dice) -> String {
    match dice.below(8) {
        0 => format!("2001:db8:{:x}::/{}", dice.below(4), 48),
        1 => format!("2001:db8::{:x}", dice.below(8)),
        2 => format!("10.{}.0.0/16", dice.below(4)),
        3 => format!("10.{}.{}.0/24", dice.below(4), dice.below(4)),
        4 => format!("10.{}.{}.{}/{}", dice.below(4), dice.below(4), dice.below(4), dice.below(34)),
        5 => "0.0.0.0/0".to_owned(),
        6 => dice.of(&["10.0.0.0/8", "::/0", "10.1.0.0/15", "300.1.1.1", "10.1.1", "host", "10.0.0.0/x"]).to_owned(),
        _ => format!("10.{}.{}.{}", dice.below(4), dice.below(4), dice.below(4)),
    }
}

pub fn of_networks_give_the_same_values() -> Result<(), String> {
    let place = Place::new()?;
    let mut asked = 0;
    for round in 0..rounds() * 2 {
        let mut dice = Dice::new(round, "cidr");
        let mut text = String::new();
        let mut open = 0;
        for line in 0..30 {
            let (not, network) = (dice.of(&["", "", "", "!"]), network(&mut dice));
            let _ = match dice.below(12) {
                0 => {
                    open += 1;
                    writeln!(text, "if {not}{network}")
                }
                1 | 2 if open > 0 => {
                    open -= 1;
                    writeln!(text, "endif")
                }
                3 => writeln!(text, "# {network} x"),
                4 => writeln!(text, "{network}"),
                _ => writeln!(text, "{not}{network}\tline {line}"),
            };
        }
        text.push_str(&"endif\n".repeat(open));
        let name = format!("cidr{round}");
        place.write(&name, &text)?;
        let address = |dice: &mut Dice| match dice.below(5) {
            0 => format!("2001:db8:{:x}::{:x}", dice.below(4), dice.below(8)),
            1 => dice.of(&["host", "", "10.1", "::1", "::ffff:10.1.1.1", "10.1.1.1 "]).to_owned(),
            _ => format!("10.{}.{}.{}", dice.below(4), dice.below(4), dice.below(4)),
        };
        let keys: Vec<String> = (0..KEYS).map(|_| address(&mut dice)).collect();
        asked += place.compare(&format!("cidr:{name}"), &keys, &text)?;
    }
    enough(asked)
}

/// An expression that both languages have, with as many groups as it says.
fn expression(dice: &mut Dice, groups: &mut usize, depth: u32) -> String {
    let mut out = String::new();
    for _ in 0..=dice.below(3) {
        let atom = match dice.below(9) {
            0 => ".".to_owned(),
            1 => dice.of(&["[a-m]", "[^@]", "[[:digit:]]", "[.@-]", "[]x]", "[[:alpha:]_]"]).to_owned(),
            2 => dice.of(&["\\.", "\\+", "@", "\\/", "-", "\\$"]).to_owned(),
            3 if depth < 2 => {
                *groups += 1;
                format!("({})", expression(dice, groups, depth + 1))
            }
            4 if depth < 1 => format!("{}|{}", dice.of(&["john", "x"]), dice.of(&["info", "a"])),
            _ => dice.of(&["a", "x", "o", "john", "org", "m", "e", "1"]).to_owned(),
        };
        let repeated = atom.chars().count() == 1 || atom.ends_with([']', ')']);
        out.push_str(&atom);
        if repeated && atom != "|" {
            // What a group holds that was repeated without taking anything, the engines see differently.
            let times: &[&str] =
                if atom.ends_with(')') { &["", "", "?"] } else { &["", "", "", "*", "+", "?", "{1,2}", "{2}"] };
            out.push_str(dice.of(times));
        }
    }
    out
}

/// The same with what only an engine that goes back can carry out.
fn beyond_linear(dice: &mut Dice, kind: &str, inside: String, groups: usize) -> String {
    let reference = if groups > 0 { format!("\\{}", 1 + dice.below(groups as u64)) } else { String::new() };
    if kind == "regexp" {
        return match dice.below(2) {
            0 => format!("{inside}{reference}"),
            _ => format!("{inside}.*{reference}"),
        };
    }
    let before = dice.of(&[
        "",
        "(?!john)",
        "(?=.*org)",
        "(?<!x)",
        "(?<=@)",
        "(?!.*info)",
        "(?>[a-m]+)",
        "[a-m]++",
        "(?:jo|j)?+",
    ]);
    let after = dice.of(&["", "", "(?=@)", "(?!@)", "(?<!m)", "(?<=org|com)", ".*+", "(?!$)"]);
    format!("{before}{inside}{reference}{after}")
}

pub fn of_patterns_give_the_same_values() -> Result<(), String> {
    let place = Place::new()?;
    let mut asked = 0;
    for round in 0..rounds() * 2 {
        for kind in ["regexp", "pcre"] {
            let mut dice = Dice::new(round, kind);
            let mut text = String::new();
            let mut open = 0;
            for line in 0..20 {
                let mut groups = 0;
                let (begin, end) = (dice.of(&["", "^"]), dice.of(&["", "$"]));
                let inside = expression(&mut dice, &mut groups, 0);
                let inside = if dice.chance(40) { beyond_linear(&mut dice, kind, inside, groups) } else { inside };
                let pattern = format!("/{begin}{inside}{end}/{}", dice.of(&["", "", "i"]));
                let not = if dice.chance(10) { "!" } else { "" };
                let named = if not.is_empty() && groups > 0 { format!(" $1 ${{{groups}}}$$") } else { String::new() };
                let _ = match dice.below(14) {
                    0 => {
                        open += 1;
                        writeln!(text, "if {not}{pattern}")
                    }
                    1 | 2 if open > 0 => {
                        open -= 1;
                        writeln!(text, "endif")
                    }
                    3 => writeln!(text, "{pattern} out of range $9"),
                    4 => writeln!(text, "{pattern}"),
                    5 => writeln!(text, "# {pattern} x"),
                    _ => writeln!(text, "{not}{pattern}  line {line}{named}"),
                };
            }
            text.push_str(&"endif\n".repeat(open));
            let name = format!("{kind}{round}");
            place.write(&name, &text)?;
            let keys = keys(&mut dice);
            asked += place.compare(&format!("{kind}:{name}"), &keys, &text)?;
        }
    }
    enough(asked)
}

/// Groups, one in the other, that may share a key in several ways.
fn shares(dice: &mut Dice, groups: &mut usize, depth: u32) -> String {
    let mut out = String::new();
    for _ in 0..=dice.below(2) {
        let atom = match dice.below(5) {
            0 | 1 if depth < 3 && *groups < 7 => {
                *groups += 1;
                let first = shares(dice, groups, depth + 1);
                match dice.chance(70) {
                    true => format!("({first}|{})", shares(dice, groups, depth + 1)),
                    false => format!("({first})"),
                }
            }
            _ => dice.of(&["a", "b", "ab", "[ab]", "."]).to_owned(),
        };
        out.push_str(&atom);
        // Where a part of a group may take nothing, glibc has ways of its own.
        let times: &[&str] = match (depth, atom.ends_with(')')) {
            (0, true) => &["", "", "?"],
            (0, false) => &["", "", "?", "*", "+"],
            (_, true) => &[""],
            (_, false) => &["", "", "+"],
        };
        out.push_str(dice.of(times));
    }
    out
}

/// What $1 and its sisters are where an expression matches in several ways.
pub fn of_posix_patterns_share_a_match_alike() -> Result<(), String> {
    let place = Place::new()?;
    let mut asked = 0;
    for round in 0..rounds() {
        let mut dice = Dice::new(round, "shares");
        let (mut text, mut keys) = (String::new(), Vec::new());
        for line in 0..40 {
            let mut groups = 0;
            let inside = shares(&mut dice, &mut groups, 0);
            let named: String = (1..=groups).map(|group| format!("<${{{group}}}>")).collect();
            let _ = writeln!(text, "/{line}:{inside}/ line {line} {named}");
            for _ in 0..8 {
                let rest: String = (0..dice.below(9)).map(|_| dice.of(&["a", "b"])).collect();
                keys.push(format!("x{line}:{rest}"));
            }
        }
        let name = format!("shares{round}");
        place.write(&name, &text)?;
        asked += place.compare(&format!("regexp:{name}"), &keys, &text)?;
    }
    enough(asked)
}

pub fn in_main_cf_give_the_same_values() -> Result<(), String> {
    let place = Place::new()?;
    let mut asked = 0;
    for round in 0..rounds() {
        let mut dice = Dice::new(round, "inline");
        let word = |dice: &mut Dice| dice.of(&["a", "B", "c@x.org", "d", "é", "f"]).to_owned();
        let inline = |dice: &mut Dice| {
            let pairs: Vec<String> = (0..4)
                .map(|_| match dice.chance(30) {
                    true => format!("{{ {} = {} {} }}", word(dice), word(dice), word(dice)),
                    false => format!("{}={}", word(dice), word(dice)),
                })
                .collect();
            format!("inline:{{{}}}", pairs.join(dice.of(&[", ", " "])))
        };
        let parts = format!("{{{}}}", (0..3).map(|_| inline(&mut dice)).collect::<Vec<_>>().join(","));
        let tables = [
            inline(&mut dice),
            format!("unionmap:{parts}"),
            format!("pipemap:{parts}"),
            format!("unionmap:{{static:s,{}}}", inline(&mut dice)),
            format!("unionmap:{{{},fail:no}}", inline(&mut dice)),
            format!("pipemap:{{{},fail:no}}", inline(&mut dice)),
            "static:{ a value }".to_owned(),
            "static:one".to_owned(),
            "randmap:{only}".to_owned(),
            "fail:no".to_owned(),
            "environ:x".to_owned(),
            "cidr:{{10.0.0.0/8 x}, {!10.0.0.0/9 y z}}".to_owned(),
            "regexp:{{/^a/ x}, {/(.)@/ $1}}".to_owned(),
            "pcre:{{/^a/ x}, {/(?<n>.)@/ $1}}".to_owned(),
        ];
        let mut keys: Vec<String> = (0..20).map(|_| word(&mut dice)).collect();
        keys.extend(["A", "", "10.1.1.1", "10.200.0.1", "nothing", "PATH"].map(str::to_owned));
        for table in tables {
            asked += place.compare(&table, &keys, "")?;
        }
        let values = place.ours(&["-q", "-", "randmap:{one,two,three}"], &"k\n".repeat(200))?;
        let seen: std::collections::BTreeSet<_> = text(&values.stdout).lines().map(str::to_owned).collect();
        if seen != ["k\tone", "k\tthree", "k\ttwo"].map(str::to_owned).into() {
            return Err(format!("randmap gave {seen:?}"));
        }
    }
    for wrong in ["inline:{a}", "hash:nosuch", "texthash:nosuch", "cidr:nosuch", "cdb:nosuch", "lmdb:nosuch", "fail:x"]
    {
        asked += place.compare(wrong, &["a".to_owned()], "")?;
    }
    enough(asked)
}

pub fn in_sqlite_give_the_same_values() -> Result<(), String> {
    let place = Place::new()?;
    let mut dice = Dice::new(0, "sqlite");
    let mut statements = String::from("CREATE TABLE t (k TEXT, v TEXT);\n");
    for _ in 0..200 {
        let (key, value) = (key(&mut dice).to_lowercase(), if dice.chance(5) { String::new() } else { key(&mut dice) });
        let null = dice.chance(3);
        let value = if null { "NULL".to_owned() } else { format!("'{}'", value.replace('\'', "''")) };
        let _ = writeln!(statements, "INSERT INTO t VALUES ('{}', {value});", key.replace('\'', "''"));
    }
    let made = run(Command::new("sqlite3").arg(place.root().join("db")), &statements)?;
    if !made.status.success() {
        return Err(text(&made.stderr));
    }
    let mut asked = 0;
    for round in 0..rounds() * 3 {
        let mut dice = Dice::new(round, "sql");
        let queries = [
            "SELECT v FROM t WHERE k = '%s'",
            "SELECT v FROM t WHERE k = '%u@%d'",
            "SELECT v FROM t WHERE k LIKE '%u%%'",
            "SELECT v FROM t WHERE k LIKE '%%@%d'",
            "SELECT v, k FROM t WHERE k = '%S' OR k = '%2.%1'",
            "SELECT '%1-%2-%3'",
            "SELECT v FROM nosuch WHERE k = '%s'",
        ];
        let results = ["%s", "%s", "<%s>", "%u", "%d", "%u at %d", "%S=%s", "%U/%D/%1", "%%"];
        let mut file = format!("dbpath = {}/db\nquery = {}\n", place.root().display(), dice.of(&queries));
        let _ = writeln!(file, "result_format = {}", dice.of(&results));
        if dice.chance(25) {
            let _ = writeln!(
                file,
                "domain = {}",
                dice.of(&["example.org", "info.net, example.com", "inline:{org=1}", "!org, static:x"])
            );
        }
        if dice.chance(15) {
            let _ = writeln!(file, "expansion_limit = {}", dice.below(40));
        }
        let name = format!("{}/sql{round}.cf", place.root().display());
        fs::write(&name, &file).map_err(|error| error.to_string())?;
        // A lookup that fails ends postmap: each key then counts by itself.
        let keys = keys(&mut dice);
        let step = if file.contains("nosuch") || file.contains("expansion_limit") { 1 } else { KEYS };
        for keys in keys.chunks(step).take(8) {
            asked += place.compare(&format!("sqlite:{name}"), keys, &file)?;
        }
    }
    enough(asked)
}

/// So many lookups make the comparison worth its name.
pub fn enough(asked: usize) -> Result<(), String> {
    if asked < 100 { Err(format!("only {asked} keys were compared")) } else { Ok(()) }
}
