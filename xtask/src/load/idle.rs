//! Rows of connections that do nothing: what each of them holds.

use test_support::clients::{Imap, Security, Smtp};

use super::ours::Ours;
use super::postfix::Postfix;
use super::report::{Metric, Unit, metric};
use super::sessions;
use super::{Round, Row, Scale, Server, Side, count};

/// Connections of one user, as phones and laptops make them.
const EACH: usize = 10;
/// A process each: the reference greets no more SMTP clients than this as it is delivered.
const PROCESS_LIMIT: usize = 90;

pub fn rows() -> Vec<Row> {
    const SMTP: [Metric; 1] = [metric("KiB per connection", Unit::Kib, 20.0, 80.0)];
    const IMAP: [Metric; 1] = [metric("KiB per connection", Unit::Kib, 10.0, 46.0)];
    vec![
        Row { name: "idle SMTP connection", metrics: &SMTP, round: smtp },
        Row { name: "IMAP connection in IDLE, 10 per user", metrics: &IMAP, round: imap },
    ]
}

fn smtp(scale: &Scale, side: Side) -> Round {
    let lines = "smtpd_client_connection_count_limit = 0\n";
    let (server, connections): (Box<dyn Server>, usize) = match side {
        Side::Ours => (Box::new(Ours::smtp(lines, None)?), scale.idle),
        Side::Reference => match Postfix::start(lines)? {
            Some(postfix) => (Box::new(postfix), scale.idle.min(PROCESS_LIMIT)),
            None => return Ok(None),
        },
    };
    let open = || Smtp::connect(server.address(), Security::Clear).map_err(|error| error.to_string());
    // The first connection starts what all share.
    let _first = open()?;
    let before = server.memory();
    let held = (0..connections).map(|_| open()).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(vec![(server.memory() - before) / count(held.len())]))
}

fn imap(scale: &Scale, side: Side) -> Round {
    let users: Vec<String> = (0..=scale.idle / EACH).map(|n| format!("user{n}")).collect();
    let Some(server) = sessions::start(side, &users, false)? else { return Ok(None) };
    let open = |user: &str| -> std::io::Result<Imap> {
        let mut imap = Imap::connect(server.address(), Security::Clear)?;
        imap.login(user, "secret")?;
        imap.command("SELECT INBOX")?;
        imap.lines.say("i IDLE")?;
        imap.lines.hear()?;
        Ok(imap)
    };
    let (first, others) = users.split_first().ok_or("no users")?;
    let _first = open(first).map_err(|error| error.to_string())?;
    let before = server.memory();
    // A quarter is enough of the reference, which has a process for each.
    let others = if side == Side::Reference { &others[..others.len().div_ceil(4)] } else { others };
    let each = others.iter().flat_map(|user| std::iter::repeat_n(user, EACH));
    let held = each.map(|user| open(user)).collect::<std::io::Result<Vec<_>>>().map_err(|error| error.to_string())?;
    Ok(Some(vec![(server.memory() - before) / count(held.len())]))
}
