//! A real slapd answers `ldap:` tables: every kind of search, what entries name, logins, TLS, mistakes. `TABLE_ROUNDS` says how many generated tables there are.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use test_support::Builder;
use test_support::clients::{Security, Smtp};

use crate::tables::{Dice, Place, enough, rounds, run, text};

use super::{Server, compare_each, side_by_side};

/// People of the directory.
const PEOPLE: usize = 40;

const SCHEMA: &str = "\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
attributetype ( 1.3.6.1.4.1.99999.1.1 NAME 'maildrop' EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.99999.1.2 NAME 'mailacceptinggeneralid' SUP maildrop )
attributetype ( 1.3.6.1.4.1.99999.1.3 NAME 'memberaddr' SUP maildrop )
attributetype ( 1.3.6.1.4.1.99999.1.4 NAME 'memberdn' SUP distinguishedName )
attributetype ( 1.3.6.1.4.1.99999.1.5 NAME 'memberurl' SUP labeledURI )
attributetype ( 1.3.6.1.4.1.99999.1.6 NAME 'handover' SUP maildrop )
objectclass ( 1.3.6.1.4.1.99999.2.1 NAME 'mailThing' SUP top AUXILIARY MAY ( maildrop $ mailacceptinggeneralid $ memberaddr $ memberdn $ memberurl $ handover ) )
modulepath /usr/lib/ldap
moduleload back_mdb
sizelimit 30
";

/// An authority, a certificate from it, and a strange authority. OpenLDAP's library takes `localhost` for the machine's own name.
const CERTIFICATES: &str = "\
ec='ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
openssl req -x509 -newkey $ec -keyout ca.key -out ca.pem -subj /CN=authority -days 2
openssl req -x509 -newkey $ec -keyout other.key -out other.pem -subj /CN=other -days 2
openssl req -newkey $ec -keyout key.pem -out request.pem -subj /CN=localhost
echo subjectAltName=DNS:localhost,DNS:$(uname -n) >names
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile names
";

/// A directory of its own.
struct Directory {
    place: Place,
    server: Option<Server>,
    port: u16,
    secure_port: u16,
}

impl Directory {
    fn start() -> Result<Self, String> {
        let place = Place::new()?;
        let root = place.root().display().to_string();
        let made = run(Command::new("sh").args(["-ec", CERTIFICATES]).current_dir(place.root()), "")?;
        if !made.status.success() {
            return Err(text(&made.stderr));
        }
        fs::create_dir(place.root().join("db")).map_err(|error| error.to_string())?;
        place.write(
            "slapd.conf",
            &format!(
                "{SCHEMA}pidfile {root}/pid\nTLSCertificateFile {root}/cert.pem\nTLSCertificateKeyFile {root}/key.pem\n\
                 database mdb\nsuffix dc=x\nrootdn cn=admin,dc=x\nrootpw secret\ndirectory {root}/db\nmaxsize 10000000\n\
                 access to dn.subtree=ou=hidden,dc=x by dn=cn=john0,ou=people,dc=x read by anonymous auth by * none\n\
                 access to attrs=userPassword by anonymous auth\naccess to * by * read\n"
            ),
        )?;
        place.write("data.ldif", &entries())?;
        let conf = format!("{root}/slapd.conf");
        let added =
            run(Command::new("/usr/sbin/slapadd").args(["-q", "-f", &conf, "-l", &format!("{root}/data.ldif")]), "")?;
        if !added.status.success() {
            return Err(text(&added.stderr));
        }
        let free = || test_support::free_port(Ipv4Addr::LOCALHOST).map_err(|error| error.to_string());
        let (port, secure_port) = (free()?, free()?);
        let mut directory = Self { place, server: None, port, secure_port };
        directory.serve()?;
        Ok(directory)
    }

    fn serve(&mut self) -> Result<(), String> {
        let root = self.place.root().display().to_string();
        let places = format!(
            "ldap://127.0.0.1:{}/ ldaps://127.0.0.1:{}/ ldapi://{}/",
            self.port,
            self.secure_port,
            format!("{root}/socket").replace('/', "%2F")
        );
        let conf = format!("{root}/slapd.conf");
        let mut server = Server::start(Command::new("/usr/sbin/slapd").args(["-f", &conf, "-h", &places, "-d", "0"]))?;
        server.wait_for_port(self.secure_port)?;
        self.server = Some(server);
        Ok(())
    }

    /// A table from the lines of its file, which may say `@PORT@`, `@SECURE@`, `@ROOT@` and `@SOCKET@`.
    fn table(&self, lines: &str) -> Result<(String, String), String> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("table{}.cf", NUMBER.fetch_add(1, Ordering::Relaxed));
        let root = self.place.root().display().to_string();
        let mut filled = lines
            .replace("@PORT@", &self.port.to_string())
            .replace("@SECURE@", &self.secure_port.to_string())
            .replace("@SOCKET@", &format!("{root}/socket").replace('/', "%2F"))
            .replace("@ROOT@", &root);
        if !filled.contains("server_host") {
            let _ = writeln!(filled, "server_host = 127.0.0.1:{}", self.port);
        }
        if !filled.contains("search_base") {
            filled.push_str("search_base = dc=x\n");
        }
        self.place.write(&name, &filled)?;
        Ok((format!("ldap:{root}/{name}"), filled))
    }
}

/// The directory: people, lists that name people, lists and searches, and entries whose names need quoting.
fn entries() -> String {
    let mut out = String::from("dn: dc=x\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: x\n\n");
    for unit in ["people", "lists", "hidden", "a.example", "b.example"] {
        let _ = writeln!(out, "dn: ou={unit},dc=x\nobjectClass: organizationalUnit\nou: {unit}\n");
    }
    let mut entry = |unit: &str, name: &str, lines: &[String]| {
        let _ =
            writeln!(out, "dn: cn={name},ou={unit},dc=x\nobjectClass: inetOrgPerson\nobjectClass: mailThing\nsn: s");
        out.push_str(&(lines.join("\n") + "\n\n"));
    };
    let mut dice = Dice::new(0, "ldap");
    for number in 0..PEOPLE {
        let domain = dice.of(&["a.example", "b.example", "mail.c.example"]);
        let mut lines =
            vec![format!("mail: john{number}@{domain}"), format!("mailacceptinggeneralid: john{number}@{domain}")];
        (0..dice.below(4))
            .for_each(|drop| lines.push(format!("maildrop: drop{drop}@{}", dice.of(&["p.example", "q.example"]))));
        if dice.chance(20) {
            lines.push("maildrop: plain".to_owned());
        }
        if number == 0 {
            lines.push("userPassword: word".to_owned());
        }
        entry("people", &format!("john{number}"), &lines);
    }
    let line = |text: &str| text.to_owned();
    entry("people", "o'neil (x)*", &[line("mail: o'neil(x)*@a.example"), line("maildrop: quoted@p.example")]);
    entry(
        "people",
        "wild",
        &[line("mail: a*b@a.example"), line("mail: back\\slash@a.example"), line("maildrop: wild@p.example")],
    );
    entry("people", "accent", &[line("mail:: w6lAYS5leGFtcGxl"), line("maildrop:: w6nDqUBwLmV4YW1wbGU=")]);
    entry("a.example", "info\\2Cplus", &[line("maildrop: comma@p.example")]);
    entry("a.example", "info", &[line("maildrop: info@p.example")]);
    entry("hidden", "secret", &[line("mail: secret@a.example"), line("maildrop: secret@p.example")]);
    let member = |name: &str, unit: &str| format!("memberdn: cn={name},ou={unit},dc=x");
    let both = [line("mail: staff@a.example"), line("maildrop: staff@p.example"), line("memberaddr: extra@q.example")];
    entry(
        "lists",
        "staff",
        &[both.to_vec(), vec![member("john1", "people"), member("john2", "people"), member("nobody", "people")]]
            .concat(),
    );
    entry(
        "lists",
        "all",
        &[
            line("mail: all@a.example"),
            member("staff", "lists"),
            member("john3", "people"),
            line("memberaddr: a@q.example"),
        ],
    );
    entry("lists", "circle", &[line("mail: circle@a.example"), member("circle", "lists")]);
    entry(
        "lists",
        "handed",
        &[
            line("mail: handed@a.example"),
            line("handover: there@q.example"),
            member("john1", "people"),
            line("memberaddr: b@q.example"),
        ],
    );
    entry("lists", "wrong", &[line("mail: wrong@a.example"), line("memberurl: ldap:///ou=people,dc=x???(((")]);
    for (name, url) in [
        ("found", "ldap:///ou=people,dc=x??sub?(maildrop=drop0@p.example)"),
        ("some", "ldap:///ou=people,dc=x?mail?one?(cn=john1*)"),
        ("base", "ldap:///cn=john4,ou=people,dc=x"),
        ("nothing", "ldap:///ou=people,dc=x?sn?sub?(cn=*)"),
        ("quoted", "ldap:///ou=people,dc=x?maildrop?sub?(cn=o%27neil%20\\28x\\29\\2a)"),
    ] {
        entry("lists", name, &[format!("mail: {name}@a.example"), format!("memberurl: {url}")]);
    }
    out
}

fn keys(dice: &mut Dice, count: usize) -> Vec<String> {
    let fixed = [
        "o'neil(x)*@a.example",
        "a*b@a.example",
        "a*@a.example",
        "back\\slash@a.example",
        "secret@a.example",
        "info@a.example",
        "info,plus@a.example",
        "é@a.example",
        "É@a.example",
        "staff@a.example",
        "all@a.example",
        "*",
        "a b",
        "@a.example",
        "a.example",
        "(mail=*)",
        "john1",
        "nobody@a.example",
    ];
    let one = |dice: &mut Dice| match dice.below(3) {
        0 => dice.of(&fixed).to_owned(),
        1 => format!("JOHN{}@A.example", dice.below(PEOPLE as u64)),
        _ => {
            format!("john{}@{}", dice.below(PEOPLE as u64 + 5), dice.of(&["a.example", "b.example", "mail.c.example"]))
        }
    };
    (0..count).map(|_| one(dice)).collect()
}

pub fn gives_the_same_values() -> Result<(), String> {
    let mut directory = Directory::start()?;
    let asked = searches(&directory)? + groups(&directory)? + logins(&directory)? + main_cf(&directory)?;
    directory.server = None;
    let (table, shown) = directory.table("query_filter = (mail=%s)\ntimeout = 2\n")?;
    match compare_each(&directory.place, &table, [&"john1@a.example".to_owned()], &shown)? {
        (_, 1) => enough(asked),
        _ => Err("a server that is not there fails no lookup".to_owned()),
    }
}

/// The daemons of a whole system ask the directory; `check` looks at its table.
pub fn expands_lists() -> Result<(), String> {
    let mut directory = Directory::start()?;
    let port = directory.port;
    let client = format!(
        "server_host = ldap://127.0.0.1:{port}\nsearch_base = ou=lists,dc=x\nquery_filter = (mail=%s)\nresult_attribute = memberaddr\n\
         special_result_attribute = memberdn\ntimeout = 60\n"
    );
    let lines = "virtual_alias_domains = a.example\nvirtual_alias_maps = ldap:{root}/etc/lists.cf, inline:{extra@q.example=john}\n\
                 smtpd_recipient_restrictions = permit_mynetworks, reject\n";
    let system = Builder::new("home.example").main_cf(lines).file("lists.cf", &client).start()?;
    let check = || {
        let output = system.tool(&["check"], b"").map_err(|error| error.to_string())?;
        Ok::<String, String>(text(&output.stdout) + &text(&output.stderr))
    };
    let said = check()?;
    if said.contains("lists.cf:") || said.contains("ldap:") {
        return Err(format!("check of a good table:\n{said}"));
    }
    system.run(&["sendmail", "-f", "x@home.example", "staff@a.example"], "Subject: to the staff\n\nhello\n")?;
    system.wait_for_messages("john", 1).map_err(|error| format!("{error}\n{}", system.logs()))?;
    directory.server = None;
    let wrong = |error: std::io::Error| error.to_string();
    let mut smtp = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).map_err(wrong)?;
    smtp.command("MAIL FROM:<x@elsewhere.example>", 2).map_err(wrong)?;
    let said = smtp.command("RCPT TO:<staff@a.example>", 4).map_err(wrong)?;
    if !said.starts_with("451 4.3.0") {
        return Err(format!("without the server: {said}"));
    }
    fs::write(system.etc().join("lists.cf"), client + "result_atribute = mail\nscope = all\n").map_err(wrong)?;
    let said = check()?;
    let wanted = [
        "lists.cf:7: warning: unknown parameter `result_atribute'",
        "lists.cf:8: warning: scope: write sub, one or base",
    ];
    let missing = wanted.iter().find(|wanted| !said.contains(**wanted));
    missing.map_or(Ok(()), |missing| Err(format!("check does not say {missing}\n{said}")))?;
    fs::write(system.etc().join("lists.cf"), format!("server_host = 127.0.0.1:{port}\n")).map_err(wrong)?;
    let said = check()?;
    let down = format!("lists.cf: inet:127.0.0.1:{port}: Connection refused");
    if said.contains(&down) { Ok(()) } else { Err(format!("check does not say {down}\n{said}")) }
}

/// Generated tables, each asked for many keys at once.
fn searches(directory: &Directory) -> Result<usize, String> {
    let numbers: Vec<u64> = (0..rounds() * 3).collect();
    side_by_side(&numbers, |number| {
        let mut dice = Dice::new(*number, "searches");
        let (table, shown) = directory.table(&generated(&mut dice))?;
        let keys = keys(&mut dice, 60);
        // A lookup that fails ends postmap: each key then counts by itself.
        let their = directory.place.theirs(&["-q", "-", &table], &(keys.join("\n") + "\n"))?;
        match text(&their.stderr).contains("fatal:") {
            true => Ok(compare_each(&directory.place, &table, keys.iter().take(6), &shown)?.0),
            false => directory.place.compare(&table, &keys, &shown),
        }
    })
}

fn generated(dice: &mut Dice) -> String {
    let filters = [
        "(mail=%s)",
        "mail=%s",
        "(mailacceptinggeneralid=%s)",
        "(& (mail=%s) (maildrop=*) )",
        "(|(mail=%u@%d)(cn=%u))",
        "(&(cn=%u)(!(mail=*@b.example)))",
        "(mail=%u@%3.%2.%1)",
        "(mail=%u@%2.%1)",
        "(cn=%u*)",
        "(mail=*%s)",
        "(&(objectClass=inetOrgPerson)(cn=%U))",
        "(mail:caseIgnoreIA5Match:=%s)",
        "(ou:dn:=%u)",
        "(cn>=%s)",
        "(cn~=%u)",
        "(mail=a\\2ab@%d)",
        "(|(mail=%s)(mail=%s*))",
        "(&(mail=%s)(maildrop=p*l*n))",
    ];
    let formats = ["%s", "%s", "%s", "<%s>", "%u", "%d", "smtp:[%d]", "%S=%s", "%U/%D/%1", "%%"];
    let mut lines = String::new();
    if !dice.chance(10) {
        let _ = writeln!(lines, "query_filter = {}", dice.of(&filters));
    }
    let bases = ["dc=x", "ou=people,dc=x", "ou=%d,dc=x", "cn=%u,ou=%D,dc=x", "cn=%u,ou=people,dc=x", "ou=people, dc=x"];
    let _ = writeln!(lines, "search_base = {}", dice.of(&bases));
    let _ = writeln!(lines, "{} = {}", dice.of(&["result_format", "result_filter"]), dice.of(&formats));
    for (chance, name, values) in [
        (50, "result_attribute", &["maildrop, mail", "mail", "MailDrop", "maildrop;x-y", "cn sn", ""][..]),
        (30, "scope", &["one", "base", "sub", "SUB"]),
        (25, "domain", &["a.example", "b.example, mail.c.example", "!a.example, static:x", "inline:{b.example=1}"]),
        (20, "bind", &["no", "none", "simple"]),
        (10, "dereference", &["1", "3"]),
        (10, "version", &["3"]),
    ] {
        if dice.chance(chance) {
            let _ = writeln!(lines, "{name} = {}", dice.of(values));
        }
    }
    lines
}

/// Entries that name others.
fn groups(directory: &Directory) -> Result<usize, String> {
    let names = ["staff", "all", "found", "some", "base", "nothing", "quoted", "handed", "circle", "wrong", "john5"];
    let keys: Vec<String> = names.iter().map(|name| format!("{name}@a.example")).collect();
    let failures = AtomicUsize::new(0);
    let tables = [
        "result_attribute = maildrop\nspecial_result_attribute = memberdn, memberurl\n",
        "result_attribute = memberaddr\nspecial_result_attribute = memberdn memberurl\nleaf_result_attribute = mail\nterminal_result_attribute = handover\n",
        "result_attribute =\nspecial_result_attribute = memberurl\nleaf_result_attribute = maildrop mail\nresult_format = %u\n",
        "result_attribute = maildrop\nspecial_result_attribute = memberdn, memberurl\nexpansion_limit = 3\n",
        "result_attribute = mail\nspecial_result_attribute = memberdn, memberurl\nsize_limit = 1\n",
        "result_attribute = mail\nspecial_result_attribute = memberdn, memberurl\nrecursion_limit = 2\n",
        "result_attribute = mail\nspecial_result_attribute = memberdn\nrecursion_limit = 1\n",
    ];
    let asked = side_by_side(&tables, |lines| {
        let (table, shown) = directory.table(&format!("query_filter = (mail=%s)\n{lines}"))?;
        let (asked, failed) = compare_each(&directory.place, &table, &keys, &shown)?;
        failures.fetch_add(failed, Ordering::Relaxed);
        Ok(asked)
    })?;
    if failures.into_inner() == 0 { Err("no limit was reached".to_owned()) } else { Ok(asked) }
}

/// Logins, TLS, sockets, several servers, and what cannot work.
fn logins(directory: &Directory) -> Result<usize, String> {
    let keys = ["secret@a.example", "john5@a.example", "john5@b.example", "john5@mail.c.example"].map(str::to_owned);
    let root = "bind_dn = cn=admin,dc=x\nbind_pw = secret\n";
    let good = [
        "bind_dn = cn=john0,ou=people,dc=x\nbind_pw = word\n".to_owned(),
        root.to_owned(),
        format!("{root}server_host = ldapi://@SOCKET@\n"),
        format!("{root}server_host = ldaps://127.0.0.1:@SECURE@\n"),
        format!("{root}server_host = ldap://127.0.0.1:@PORT@\nstart_tls = yes\n"),
        format!(
            "{root}server_host = ldaps://localhost:@SECURE@\ntls_require_cert = yes\ntls_ca_cert_file = @ROOT@/ca.pem\n"
        ),
        format!(
            "{root}server_host = ldap://localhost:@PORT@\nstart_tls = yes\ntls_require_cert = yes\ntls_ca_cert_file = @ROOT@/ca.pem\n"
        ),
        format!("{root}server_host = ldap://127.0.0.1:1, 127.0.0.1:@PORT@\n"),
        "server_host = 127.0.0.1\nserver_port = @PORT@\n".to_owned(),
    ];
    let bad = [
        "bind_dn = cn=admin,dc=x\nbind_pw = wrong\n",
        "bind_dn = cn=admin,dc=x\n",
        "server_host = ldaps://localhost:@SECURE@\ntls_require_cert = yes\ntls_ca_cert_file = @ROOT@/other.pem\n",
        "server_host = ldap://localhost:@PORT@\nstart_tls = yes\ntls_require_cert = yes\ntls_ca_cert_file = @ROOT@/other.pem\n",
        "search_base = ou=nowhere,dc=x\n",
        "search_base = nonsense\n",
        "query_filter = (mail=%s\n",
        "query_filter = (cn=*)(mail=%s)\n",
        // slapd gives at most thirty entries.
        "query_filter = (&(cn=*)(!(cn=%s)))\n",
    ];
    let cases = good.iter().map(|lines| (lines.as_str(), false)).chain(bad.map(|lines| (lines, true)));
    side_by_side(&cases.collect::<Vec<_>>(), |(lines, fails)| {
        let filter = if lines.contains("query_filter") { "" } else { "query_filter = (mail=%s)\n" };
        let (table, shown) = directory.table(&format!("{filter}{lines}"))?;
        let keys = if *fails { &keys[..1] } else { &keys[..] };
        let (asked, failed) = compare_each(&directory.place, &table, keys, &shown)?;
        if (failed > 0) == *fails { Ok(asked) } else { Err(format!("{failed} of {asked} lookups fail:\n{shown}")) }
    })
}

/// The older form, with parameters in main.cf.
fn main_cf(directory: &Directory) -> Result<usize, String> {
    let path = directory.place.root().join("main.cf");
    let before = fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let port = directory.port;
    let lines = format!(
        "people_server_host = ldap://127.0.0.1:{port}\npeople_search_base = ou=people,dc=x\npeople_query_filter = (mail=%s)\n\
         people_result_attribute = cn\nvirtual_alias_maps = ldap:people\n"
    );
    directory.place.write("main.cf", &(before.clone() + &lines))?;
    let asked = directory.place.compare("ldap:people", &keys(&mut Dice::new(0, "main.cf"), 30), &lines)?;
    directory.place.write("main.cf", &before)?;
    Ok(asked)
}
