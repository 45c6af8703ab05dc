//! Cases of every kind through `postrider explain --json` and through the real daemons: the same replies, octet for octet, and the same places.
//!
//! `EXPLAIN_CASES` (90) says how many of the combinations are tried; which ones follows from their number alone. Each costs about a tenth of a second.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::Value;
use test_support::clients::{Lines, Security, Smtp};
use test_support::dns::Dns;
use test_support::{Builder, Patience, Remote, System, free_port, wait_for};

const MAIN_CF: &str = "\
mynetworks = 127.0.0.2
mydestination = $myhostname, localhost.$mydomain, localhost, $mydomain, local.example
recipient_delimiter = +
local_recipient_maps = hash:{root}/etc/people, $alias_maps
sender_bcc_maps = inline:{{john@c.example = collect@local.example}}
smtp_generic_maps = inline:{{old@c.example = shown@far.example}}
smtpd_etrn_restrictions = check_etrn_access inline:{{gone.example = REJECT}}
local_header_rewrite_clients = permit_mynetworks
smtpd_helo_required = yes
smtpd_client_restrictions = check_client_access hash:{root}/etc/clients, check_client_access cidr:{root}/etc/nets
smtpd_helo_restrictions = permit_mynetworks, reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname, check_helo_access hash:{root}/etc/helos
smtpd_sender_restrictions = reject_non_fqdn_sender, check_sender_access hash:{root}/etc/senders, reject_unknown_sender_domain
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
smtpd_recipient_restrictions = reject_non_fqdn_recipient, check_recipient_access hash:{root}/etc/recipients, strict
smtpd_restriction_classes = strict
strict = check_recipient_access hash:{root}/etc/strict, permit
virtual_alias_domains = alias.example
virtual_alias_maps = hash:{root}/etc/virtual
virtual_mailbox_domains = box.example
virtual_mailbox_maps = hash:{root}/etc/boxes
virtual_mailbox_base = {root}/home
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{uid}
virtual_minimum_uid = 1
relay_domains = relay.example, gone.example, void.example
relay_recipient_maps = hash:{root}/etc/relayed
transport_maps = hash:{root}/etc/transport
canonical_maps = hash:{root}/etc/canonical
relocated_maps = inline:{{moved@c.example = moved@far.example}}
recipient_bcc_maps = inline:{{a@box.example = mary@c.example}}
";

const CLIENTS: [Ipv4Addr; 5] = [
    Ipv4Addr::new(127, 0, 0, 2),
    Ipv4Addr::new(127, 9, 0, 1),
    Ipv4Addr::new(127, 9, 0, 66),
    Ipv4Addr::new(127, 9, 0, 67),
    Ipv4Addr::new(127, 9, 3, 1),
];
const HELOS: [&str; 5] = ["client.example", "nofqdn", "-bad-.example", "blocked.example", "[127.0.0.1]"];
const SENDERS: [&str; 9] = [
    "anna@known.example",
    "",
    "john@c.example",
    "spam@known.example",
    "waiting@known.example",
    "eve@nowhere.example",
    "anna",
    "a@@b",
    "old@c.example",
];
const RECIPIENTS: [&str; 25] = [
    "moved@c.example",
    "john@c.example",
    "John+work@C.example",
    "nobody@c.example",
    "sales@local.example",
    "collect@local.example",
    "nested@local.example",
    "missing@local.example",
    "x@alias.example",
    "two@alias.example",
    "none@alias.example",
    "a@box.example",
    "b+c@box.example",
    "zz@box.example",
    "ok@relay.example",
    "no@relay.example",
    "x@gone.example",
    "x@void.example",
    "far@known.example",
    "old@c.example",
    "later@c.example",
    "refused@c.example",
    "postmaster",
    "far%known.example@c.example",
    "\"far@known.example\"@c.example",
];

/// What stands in the header of every message of a case.
const HEADER: [&str; 3] = ["From: Old One <old>", "To: john, Far <far@known.example>", "Message-Id: <MARK@c.example>"];

/// A case, and what was asked of `explain` for it.
struct Case {
    number: usize,
    options: Vec<String>,
    client: Ipv4Addr,
    helo: &'static str,
    from: &'static str,
    to: Vec<&'static str>,
    login: Option<&'static str>,
    /// VRFY or ETRN in the place of a message.
    command: Option<&'static str>,
}

impl Case {
    fn mark(&self) -> String {
        format!("token-{}-{}", std::process::id(), self.number)
    }
}

pub fn in_reply_and_place() -> Result<(), String> {
    let dns = Dns::start().map_err(|error| error.to_string())?;
    dns.mx("known.example", 10, "mx.known.example")?;
    dns.address_of("mx.known.example", Ipv4Addr::new(127, 0, 0, 9).into());
    let (uid, _) = test_support::system::user_and_group();
    let port = free_port(Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
    let elsewhere = test_support::remote::Setup::new("mx.known.example").start((Ipv4Addr::LOCALHOST, port).into());
    let elsewhere = elsewhere.map_err(|error| error.to_string())?;
    let main = MAIN_CF.replace("{uid}", &uid.to_string());
    let transport = format!(
        "local.example local:\nrelay.example smtp:[127.0.0.1]:{port}\ngone.example error:5.1.6 moved away\nvoid.example discard:\nknown.example smtp:[127.0.0.1]:{port}\n"
    );
    let system = Builder::new("c.example")
        .main_cf(&format!("{main}postrider_dns_servers = {}\n", dns.address()))
        .file("clients", "127.9.0.66 REJECT go away\n127.9.0.67 450 4.7.1 come again\n")
        .file("nets", "127.9.3.0/24 OK\n")
        .file("helos", "blocked.example REJECT\n")
        .file("senders", "spam@known.example 550 5.7.1 no spam\nwaiting@known.example DEFER_IF_PERMIT later perhaps\n")
        .file("recipients", "refused@c.example REJECT nobody likes them\nlater@c.example DEFER\n")
        .file("strict", "john@c.example DUNNO\n")
        .file("people", "john x\nmary x\n")
        .file("virtual", "x@alias.example john@c.example\ntwo@alias.example mary@c.example, ok@relay.example, collect@local.example\n")
        .file("boxes", "a@box.example boxes/a/\nb@box.example boxes/b\n")
        .file("relayed", "ok@relay.example x\n")
        .file("transport", &transport)
        .file("canonical", "old@c.example john@c.example\n")
        .file(
            "aliases",
            "postmaster: john\nsales: john@c.example, mary@c.example, ok@relay.example\nnested: sales, collect\ncollect: {root}/home/collected\n",
        )
        .start()?;
    std::fs::create_dir(system.root().join("home/boxes")).map_err(|error| error.to_string())?;
    system.give_to_user(&system.root().join("home/boxes")).map_err(|error| error.to_string())?;
    let logs = |error: String| format!("{error}\n{}", system.logs());
    let taken =
        cases(&system).iter().map(|case| compare(&system, case)).collect::<Result<Vec<_>, _>>().map_err(logs)?;
    let messages = taken.iter().filter(|taken| taken.id.is_some()).count();
    if messages < 15 {
        return Err(format!("only {messages} messages were taken"));
    }
    taken.iter().try_for_each(|taken| logged(&system, taken)).map_err(logs)?;
    let taken: Vec<_> = taken.into_iter().filter(|taken| taken.id.is_some()).collect();
    submitted(&system, uid).map_err(logs)?;
    taken.iter().try_for_each(|taken| arrived(&system, &elsewhere, taken)).map_err(logs)
}

/// Each value at least once, then others as their number has it; at last those who log in.
fn cases(system: &System) -> Vec<Case> {
    let count = std::env::var("EXPLAIN_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(90);
    let mut state = 20_261_122_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or(0) % below
    };
    let mut all = Vec::new();
    for number in 0..count {
        // Most cases are those of an ordinary client, or few would get far enough to be delivered.
        let often = |at: usize| if at.is_multiple_of(2) { 0 } else { at };
        let client = CLIENTS[if number < CLIENTS.len() { number } else { often(next(CLIENTS.len())) }];
        let helo = HELOS[if number < HELOS.len() { 0 } else { [0, 0, 0, 1, 2, 3, 4][next(7)] }];
        let from = SENDERS[if number < 24 { number % 2 } else { often(next(SENDERS.len())) }];
        let to = RECIPIENTS[number % RECIPIENTS.len()];
        // Some name several recipients at once.
        let mut to = vec![to];
        if number >= 40 && next(3) == 0 {
            to.extend((0..=next(2)).map(|_| RECIPIENTS[next(RECIPIENTS.len())]));
        }
        all.push(case(number, system.ports.smtp, client, helo, from, to, None));
    }
    for (at, command) in COMMANDS.into_iter().enumerate() {
        let number = count + 100 + at;
        all.push(Case {
            command: Some(command),
            ..case(number, system.ports.smtp, CLIENTS[at % 2], HELOS[0], "", Vec::new(), None)
        });
    }
    for (at, (login, from, to)) in [
        (Some("john"), "john@c.example", "far@known.example"),
        (Some("mary"), "john@c.example", "sales@local.example"),
        (None, "john@c.example", "john@c.example"),
    ]
    .into_iter()
    .enumerate()
    {
        all.push(case(
            count + at,
            system.ports.submission,
            Ipv4Addr::new(127, 9, 0, 1),
            "client.example",
            from,
            vec![to],
            login,
        ));
    }
    for case in &mut all {
        match case.command {
            Some(command) => case.options.extend(["--command".to_owned(), command.to_owned()]),
            None => {
                let fields = HEADER.map(|field| field.replace("MARK", &case.mark()));
                case.options.extend(["--from".to_owned(), case.from.to_owned()]);
                case.options.extend(case.to.iter().flat_map(|to| ["--to".to_owned(), (*to).to_owned()]));
                case.options.extend(fields.into_iter().flat_map(|field| ["--header".to_owned(), field]));
            }
        }
    }
    all
}

fn case(
    number: usize,
    port: u16,
    client: Ipv4Addr,
    helo: &'static str,
    from: &'static str,
    to: Vec<&'static str>,
    login: Option<&'static str>,
) -> Case {
    let mut options: Vec<String> = ["explain", "--json", "--client"].map(str::to_owned).to_vec();
    options.push(client.to_string());
    let values = [("--helo", helo), ("--port", &port.to_string())];
    options.extend(values.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_owned()]));
    if let Some(login) = login {
        options.extend(["--tls".to_owned(), "--auth".to_owned(), login.to_owned()]);
    }
    Case { number, options, client, helo, from, to, login, command: None }
}

/// What was asked in the place of sending.
const COMMANDS: [&str; 9] = [
    "VRFY john@c.example",
    "VRFY nobody@c.example",
    "VRFY far@known.example",
    "VRFY x@alias.example",
    "VRFY a@@b",
    "ETRN relay.example",
    "ETRN elsewhere.example",
    "ETRN gone.example",
    "ETRN -bad-",
];

/// What the daemons did about a case; for a message that was taken where explain says that it goes.
struct Taken {
    what: String,
    id: Option<String>,
    token: String,
    /// The header as explain says that it is stored.
    header: Vec<String>,
    places: Vec<(String, Value)>,
    /// What it says that the log will show, without times.
    log: Vec<String>,
}

/// Runs a case through both; the replies must be the same.
fn compare(system: &System, case: &Case) -> Result<Taken, String> {
    let options: Vec<&str> = case.options.iter().map(String::as_str).collect();
    let what = options.join(" ");
    let explained: Value = serde_json::from_str(&system.run(&options, "")?).map_err(|error| error.to_string())?;
    let steps = explained["steps"].as_array().ok_or("no steps")?;
    let said: Vec<String> = steps.iter().map(|step| joined(&step["reply"])).collect();
    let token = case.mark();
    let heard = converse(system, case, &token).map_err(|error| format!("{what}: {error}"))?;
    let id = heard.last().and_then(|last| last.rsplit_once("queued as ")).map(|(_, id)| id.to_owned());
    let heard: Vec<String> = match &id {
        Some(id) => heard.iter().map(|reply| reply.replace(id.as_str(), "QUEUEID")).collect(),
        None => heard,
    };
    if said != heard {
        return Err(format!("{what}:\n  explain: {said:#?}\n  smtpd: {heard:#?}"));
    }
    let mut places = Vec::new();
    let of = |list: &Value| -> Vec<Value> {
        let all = list.as_array().into_iter().flatten();
        all.flat_map(|one| one["destinations"].as_array().cloned().unwrap_or_default()).collect()
    };
    let destinations = [of(&explained["recipients"]), of(&explained["copies"])].concat();
    destinations.iter().for_each(|one| leaves(one, &mut places));
    // A message whose recipients were all refused late had an id that nobody knows.
    let known = id.clone().unwrap_or_else(|| "QUEUEID".to_owned());
    let log = joined(&explained["log"]).lines().map(|line| timeless(&line.replace("QUEUEID", &known))).collect();
    let header = joined(&explained["header"]["stored"]).lines().map(str::to_owned).collect();
    Ok(Taken { what, id, token, header, places, log })
}

/// Waits for every line that explain promised.
fn logged(system: &System, taken: &Taken) -> Result<(), String> {
    let missing = || -> Option<String> {
        let shown: BTreeSet<String> = system.logs().lines().map(timeless).collect();
        taken.log.iter().find(|line| !line.contains("QUEUEID") && !shown.contains(*line)).cloned()
    };
    let done = wait_for("the lines of the log", Patience::default(), || missing().is_none().then_some(()));
    done.map_err(|_| format!("{}: the log does not show\n  {}", taken.what, missing().unwrap_or_default()))
}

/// Mail of this machine: what sendmail hands in goes where explain says.
fn submitted(system: &System, uid: u32) -> Result<(), String> {
    let user = mail_posix::users::by_uid(uid).map_err(|error| error.to_string())?.ok_or("a user without name")?.name;
    let options = [
        "explain",
        "--json",
        "--local",
        "--user",
        &user,
        "--from",
        "old",
        "--to",
        "x@alias.example",
        "--to",
        "sales@local.example",
    ];
    let explained: Value = serde_json::from_str(&system.run(&options, "")?).map_err(|error| error.to_string())?;
    let token = format!("token-{}-local", std::process::id());
    system.run(
        &["sendmail", "-f", "old", "x@alias.example", "sales@local.example"],
        &format!("Subject: {token}\n\n{token}\n"),
    )?;
    let log = joined(&explained["log"]);
    let pickup = log.lines().find(|line| line.contains("/pickup:")).ok_or("no line of pickup")?.to_owned();
    let pickup = pickup.rsplit("QUEUEID").next().unwrap_or_default();
    let id = wait_for("the line of pickup", Patience::default(), || {
        let logs = system.logs();
        let line = logs.lines().find(|line| line.contains("/pickup[") && line.ends_with(pickup))?;
        Some(line.rsplit_once(pickup)?.0.rsplit(' ').next()?.to_owned())
    })?;
    let mut places = Vec::new();
    let all = ["recipients", "copies"].iter().flat_map(|list| explained[list].as_array().into_iter().flatten());
    let all = all.flat_map(|one| one["destinations"].as_array().cloned().unwrap_or_default());
    all.for_each(|one| leaves(&one, &mut places));
    let wanted: BTreeSet<(String, &str)> =
        places.iter().map(|(address, place)| (address.to_lowercase(), status(place))).collect();
    let seen = || fates(system, &id);
    let done = wait_for("the fates", Patience::default(), || (seen() == wanted).then_some(()));
    done.map_err(|_| format!("sendmail:\n  explain: {wanted:?}\n  daemons: {:?}", seen()))?;
    let taken = Taken {
        what: options.join(" "),
        id: Some(id.clone()),
        token,
        header: Vec::new(),
        places: Vec::new(),
        log: log.lines().map(|line| timeless(&line.replace("QUEUEID", &id))).collect(),
    };
    logged(system, &taken)
}

/// A log line without time, host, process id and delays.
fn timeless(line: &str) -> String {
    let line = line.split_once(" postfix/").map_or(line, |(_, rest)| rest);
    let line = line.strip_prefix("postfix/").unwrap_or(line);
    let (before, rest) = line.split_once(": ").unwrap_or(("", line));
    let ident = before.split('[').next().unwrap_or_default();
    match (rest.split_once(", delay="), rest.split_once(", dsn=")) {
        (Some((start, _)), Some((_, end))) => format!("{ident}: {start}, dsn={end}"),
        _ => format!("{ident}: {rest}"),
    }
}

fn joined(reply: &Value) -> String {
    let lines = reply.as_array().map(|lines| lines.iter().filter_map(Value::as_str).collect::<Vec<_>>());
    lines.unwrap_or_default().join("\n")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn leaves(destination: &Value, found: &mut Vec<(String, Value)>) {
    let place = &destination["place"];
    match place["members"].as_array() {
        Some(members) => members.iter().for_each(|member| leaves(member, found)),
        None => found.push((destination["address"].as_str().unwrap_or_default().to_owned(), place.clone())),
    }
}

/// The same words to the real smtpd; it ends where explain ends, at the first refusal.
fn converse(system: &System, case: &Case, token: &str) -> std::io::Result<Vec<String>> {
    let port = if case.options.contains(&system.ports.submission.to_string()) {
        system.ports.submission
    } else {
        system.ports.smtp
    };
    let lines = Lines::connect_from(case.client, system.ports.at(port), Security::Clear)?;
    let mut smtp = Smtp { lines };
    let mut heard = vec![smtp.reply()?.1];
    let ehlo = format!("EHLO {}", case.helo);
    let mut commands = vec![ehlo.clone()];
    if case.login.is_some() {
        commands.extend(["STARTTLS".to_owned(), ehlo, "AUTH".to_owned()]);
    }
    if let Some(command) = case.command {
        commands.push(command.to_owned());
    } else {
        commands.push(format!("MAIL FROM:<{}>", case.from));
        commands.extend(case.to.iter().map(|to| format!("RCPT TO:<{to}>")));
        let fields: String = HEADER.iter().map(|field| format!("{}\r\n", field.replace("MARK", token))).collect();
        commands.extend(["DATA".to_owned(), format!("{fields}\r\n{token}\r\n.")]);
    }
    let mut taken = case.to.is_empty();
    for command in commands {
        let is_refused = |reply: &String| reply.starts_with(['4', '5']);
        let refused = heard.last().is_some_and(is_refused);
        // Whose recipient is refused goes on with the next one, if there is one or one was taken before.
        let goes_on = command.starts_with("RCPT") || (command == "DATA" && taken);
        let was_rcpt = heard.len() > if case.login.is_some() { 6 } else { 3 } && !case.to.is_empty();
        if refused && !(was_rcpt && goes_on) {
            break;
        }
        match (command.as_str(), case.login) {
            ("AUTH", Some(user)) => {
                smtp.login(user, "secret")?;
                heard.push("235 2.7.0 Authentication successful".to_owned());
            }
            _ => {
                smtp.lines.say(&command)?;
                heard.push(smtp.reply()?.1);
            }
        }
        taken |= command.starts_with("RCPT") && heard.last().is_some_and(|reply| reply.starts_with('2'));
        if command == "STARTTLS" {
            smtp.lines.start_tls()?;
        }
    }
    Ok(heard)
}

/// Waits until each recipient has the fate that explain named, and looks into the files.
fn arrived(system: &System, elsewhere: &Remote, taken: &Taken) -> Result<(), String> {
    let wanted: BTreeSet<(String, &str)> =
        taken.places.iter().map(|(address, place)| (address.to_lowercase(), status(place))).collect();
    let seen = || fates(system, taken.id.as_deref().unwrap_or_default());
    let done = wait_for("the fates", Patience::default(), || (seen() == wanted).then_some(()));
    done.map_err(|_| format!("{}:\n  explain: {wanted:?}\n  daemons: {:?}", taken.what, seen()))?;
    for (address, place) in &taken.places {
        if place["kind"] == "remote" {
            let here = format!("127.0.0.1[127.0.0.1]:{}", elsewhere.address().port());
            let host = &place["hosts"][0];
            let said = format!("{}[{}]:{}", text(&host["name"]), text(&host["address"]), host["port"]);
            let has = |one: &test_support::remote::Taken| {
                one.to.iter().any(|to| to.contains(address.as_str()))
                    && String::from_utf8_lossy(&one.raw).contains(&taken.token)
            };
            if said != here || !elsewhere.taken().iter().any(has) {
                return Err(format!("{}: {address} did not reach {said}", taken.what));
            }
            let changed = joined(&place["shown_header"]);
            let raw = elsewhere.taken().into_iter().find(has).map(|one| String::from_utf8_lossy(&one.raw).into_owned());
            if let Some(missing) = changed.lines().find(|field| !raw.as_ref().is_some_and(|raw| raw.contains(*field))) {
                return Err(format!("{}: {address} was not shown `{missing}' but\n{raw:?}", taken.what));
            }
        }
        let Some(path) = place["path"].as_str() else { continue };
        let of_case = |field: &String| !field.starts_with("Date: ") && !field.starts_with("Message-Id: <2");
        let holds = |path: &Path| {
            let text = std::fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
            text.contains(&taken.token)
                && taken.header.iter().filter(|field| of_case(field)).all(|field| text.contains(field.as_str()))
        };
        let found = match place["kind"].as_str() {
            Some("maildir") => std::fs::read_dir(Path::new(path).join("new"))
                .is_ok_and(|entries| entries.flatten().any(|entry| holds(&entry.path()))),
            _ => holds(Path::new(path)),
        };
        if !found {
            return Err(format!("{}: {path} does not hold it", taken.what));
        }
    }
    Ok(())
}

fn status(place: &Value) -> &'static str {
    match place["kind"].as_str() {
        Some("maildir" | "mbox" | "command" | "discard" | "remote") => "sent",
        Some("bounce") => "bounced",
        _ => "deferred",
    }
}

/// What the daemons logged about the recipients of a message.
fn fates(system: &System, id: &str) -> BTreeSet<(String, &'static str)> {
    let (marked, logs) = (format!(" {id}: to=<"), system.logs());
    let lines = logs.lines().filter_map(|line| line.split_once(marked.as_str())).map(|(_, rest)| rest);
    lines
        .filter_map(|rest| {
            let (to, rest) = rest.split_once('>')?;
            let status =
                ["sent", "bounced", "deferred"].into_iter().find(|word| rest.contains(&format!("status={word} ")))?;
            Some((to.to_lowercase(), status))
        })
        .collect()
}
