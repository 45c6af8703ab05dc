//! Generated addresses and tables through a real Postfix and through the functions that our daemons call: the same envelopes, classes, transports,
//! next hops, refusals and headers.
//!
//! `POSTRIDER_ADDRESS_ROUNDS` is how many configurations are tried (4 without it), `POSTRIDER_ADDRESS_SEED` where the generator begins. What we do
//! otherwise on purpose is named where it is left out, and in `docs/differences.md`.

mod generate;
mod ours;
mod postfix;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use test_support::remote::{Setup, Taken};
use test_support::{Builder, Patience, wait_for};

use crate::postfix::{Postfix, free_port};
use generate::{Message, Random, World};

/// Addresses asked for per configuration.
const RESOLVED: usize = 600;
/// Messages sent per configuration.
const MESSAGES: usize = 30;
/// Recipients tried per configuration.
const TRIED: usize = 150;
/// So many differences are shown.
const SHOWN: usize = 25;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

pub fn are_handled_alike() -> Result<(), String> {
    let mut random = Random::new(number("POSTRIDER_ADDRESS_SEED", 20_261_122));
    for round in 0..number("POSTRIDER_ADDRESS_ROUNDS", 4) {
        let world = World::generate(&mut random, round);
        compare(&world, &mut random).map_err(|error| format!("round {round}: {error}\n{}", world.shown()))?;
    }
    Ok(())
}

fn compare(world: &World, random: &mut Random) -> Result<(), String> {
    let ports = [free_port()?, free_port()?, free_port()?];
    let services = format!(
        "{} inet n - n - - smtpd -o local_header_rewrite_clients=\n\
         {} inet n - n - - smtpd -o smtpd_reject_unlisted_recipient=yes -o smtpd_client_restrictions=",
        ports[1], ports[2]
    );
    let postfix = Postfix::start_with_files(ports[0], &world.main_cf(), &services, &world.files)?;
    let ours = ours::Ours::load(&postfix.etc())?;
    let mut differences = Vec::new();
    resolving(world, random, &postfix, &ours, &mut differences)?;
    existing(world, random, ports[2], &ours, &mut differences)?;
    for (port, is_ours) in [(ports[0], true), (ports[1], false)] {
        cleaning(world, random, port, is_ours, &postfix, &ours, &mut differences)?;
    }
    match differences.len() {
        0 => Ok(()),
        count => {
            differences.truncate(SHOWN);
            Err(format!("{count} differences:\n{}\n{}", differences.join("\n"), last_lines(&postfix.log())))
        }
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("warning") || line.contains("fatal")).collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

fn differ(differences: &mut Vec<String>, what: &str, input: &str, theirs: &str, ours: &str) {
    if theirs != ours {
        differences.push(format!("{what} {input}\n  Postfix: {theirs}\n  we:      {ours}"));
    }
}

/// trivial-rewrite(8): class, transport, next hop, and the address after routing.
fn resolving(
    world: &World,
    random: &mut Random,
    postfix: &Postfix,
    ours: &ours::Ours,
    differences: &mut Vec<String>,
) -> Result<(), String> {
    let mut socket = postfix::Rewrite::connect(postfix)?;
    for _ in 0..RESOLVED {
        let (sender, address) = (world.sender(random), world.complete_address(random));
        let theirs = socket.resolve(&sender, &address)?;
        differ(
            differences,
            "resolve",
            &format!("{address} from <{sender}>"),
            &theirs,
            &ours.resolve(&sender, &address),
        );
    }
    Ok(())
}

/// What RCPT is answered.
fn existing(
    world: &World,
    random: &mut Random,
    port: SocketAddr,
    ours: &ours::Ours,
    differences: &mut Vec<String>,
) -> Result<(), String> {
    let mut client = postfix::Client::connect(port)?;
    client.command("MAIL FROM:<>")?;
    for _ in 0..TRIED {
        let address = world.address(random);
        // S12: postmaster is taken in every domain of ours. Postfix's smtpd, unlike its cleanup, finds the quoted local part `"a@b"` as the address a@b.
        let quoted_at =
            address.strip_prefix('"').and_then(|rest| rest.split('"').next()).is_some_and(|local| local.contains('@'));
        if quoted_at || address.starts_with("postmaster") {
            continue;
        }
        let theirs = postfix::refusal(&client.command(&format!("RCPT TO:<{address}>"))?);
        differ(differences, "RCPT", &address, &theirs, &ours.refusal(&address));
    }
    Ok(())
}

/// cleanup(8): envelope and header as they are queued.
fn cleaning(
    world: &World,
    random: &mut Random,
    port: SocketAddr,
    is_ours: bool,
    postfix: &Postfix,
    ours: &ours::Ours,
    differences: &mut Vec<String>,
) -> Result<(), String> {
    let mut client = postfix::Client::connect(port)?;
    for _ in 0..MESSAGES {
        let message = world.message(random);
        let theirs = client.send(&message)?.map(|id| postfix::queued(postfix, &id)).transpose()?;
        let own = ours.queued(&message, is_ours);
        let input = format!("(ours: {is_ours}) {message:?}");
        match (&theirs, &own) {
            (None, None) => {}
            (Some(theirs), Some(own)) => {
                differ(differences, "sender", &input, &theirs.sender, &own.sender);
                differ(differences, "recipients", &input, &theirs.recipients(), &own.recipients());
                for (number, (one, other)) in theirs.header.iter().zip(&own.header).enumerate() {
                    let field = message.fields.get(number).map_or("", String::as_str);
                    differ(differences, "header", &format!("(ours: {is_ours}) {field}"), one, other);
                }
            }
            (theirs, own) => differences.push(format!("{input}\n  Postfix: {theirs:?}\n  we:      {own:?}")),
        }
    }
    Ok(())
}

/// Both whole systems, with generic maps, and a server that writes down what reaches it.
pub fn leave_as_they_would_leave_postfix() -> Result<(), String> {
    let mut random = Random::new(number("POSTRIDER_ADDRESS_SEED", 4_000));
    let world = World::leaving(&mut random);
    let messages: Vec<Message> = (0..40).map(|_| world.plain_message(&mut random)).collect();
    let (theirs, own) = (through_postfix(&world, &messages)?, through_us(&world, &messages)?);
    if theirs == own {
        return Ok(());
    }
    let missing: Vec<_> = theirs.difference(&own).take(SHOWN).cloned().collect();
    let more: Vec<_> = own.difference(&theirs).take(SHOWN).cloned().collect();
    Err(format!("Postfix alone:\n{}\nwe alone:\n{}\n{}", missing.join("\n"), more.join("\n"), world.shown()))
}

/// main.cf with one next hop for all.
fn leading_to(world: &World, sink: SocketAddr) -> String {
    let hop = format!("[{}]:{}", sink.ip(), sink.port());
    format!("{}\nrelayhost = {hop}\nlocal_transport = smtp:{hop}\n", world.main_cf())
}

fn through_postfix(world: &World, messages: &[Message]) -> Result<BTreeSet<String>, String> {
    let sink = Setup::new("sink.example").start(free_port()?).map_err(|error| error.to_string())?;
    let main_cf = leading_to(world, sink.address());
    let postfix = Postfix::start_with_files(free_port()?, &main_cf, "", &world.files)?;
    let sent = send_all(postfix.address, messages)?;
    shown(&sent, || sink.taken(), || postfix.log()).map_err(|error| format!("{error}\n{}", postfix.log()))
}

fn through_us(world: &World, messages: &[Message]) -> Result<BTreeSet<String>, String> {
    let sink = Setup::new("sink.example").start(free_port()?).map_err(|error| error.to_string())?;
    let main_cf = leading_to(world, sink.address());
    let mut builder = Builder::new("info.net").main_cf(&main_cf.replace("{etc}", "{root}/etc"));
    for (name, text) in &world.files {
        builder = builder.file(name, text);
    }
    let system = builder.start()?;
    let sent = send_all(system.ports.at(system.ports.smtp), messages)?;
    shown(&sent, || sink.taken(), || system.log("queue-manager")).map_err(|error| format!("{error}\n{}", system.logs()))
}

/// Sends the messages; the queue ids of those that were taken. One whose maps run in a circle is not.
fn send_all(address: SocketAddr, messages: &[Message]) -> Result<Vec<String>, String> {
    let mut client = postfix::Client::connect(address)?;
    let mut taken = Vec::new();
    for message in messages {
        taken.extend(client.send(message)?);
    }
    if taken.len() * 2 < messages.len() {
        return Err(format!("only {} of {} messages were taken", taken.len(), messages.len()));
    }
    Ok(taken)
}

/// What reached the sink, message by message: envelope, and the fields with addresses. Each carries its number in its Subject, and has reached the
/// sink for all its recipients when it is removed from the queue.
fn shown(
    sent: &[String],
    taken: impl Fn() -> Vec<Taken>,
    log: impl Fn() -> String,
) -> Result<BTreeSet<String>, String> {
    let mut waiting: Vec<&String> = sent.iter().collect();
    wait_for("the end of every message", Patience::default(), || {
        let log = log();
        waiting.retain(|id| !log.contains(&format!(" {id}: removed")));
        waiting.is_empty().then_some(())
    })?;
    let all: BTreeSet<String> = taken().iter().flat_map(lines).collect();
    let subjects = all.iter().filter(|line| line.contains(" subject:")).count();
    if subjects < sent.len() {
        return Err(format!("{subjects} of {} messages reached the sink", sent.len()));
    }
    Ok(all)
}

/// A line for each recipient and for each field: grouping of recipients into transactions may differ.
fn lines(taken: &Taken) -> Vec<String> {
    let content = String::from_utf8_lossy(&taken.raw).into_owned();
    let fields = postfix::unfolded(&content);
    let subject = fields.iter().find_map(|field| field.strip_prefix("subject:")).unwrap_or_default().to_owned();
    let path = |argument: &str| argument.split_once('>').map_or(argument, |(path, _)| path).to_owned();
    let mut lines = vec![format!("{subject} from {}", path(&taken.from))];
    lines.extend(taken.to.iter().map(|to| format!("{subject} to {}", path(to))));
    let dropped = ["received:", "date:", "message-id:"];
    let kept = fields.iter().filter(|field| !dropped.iter().any(|name| field.starts_with(name)));
    lines.extend(kept.map(|field| format!("{subject} {field}")));
    lines
}
