//! `postsuper`: delete, expire, hold, release and requeue messages.

use std::ffi::OsString;
use std::io::BufRead as _;

use mail_ipc::control::{QueueName, Request, Selection};
use mail_types::QueueId;

use crate::arguments::{Given, Grammar};
use crate::exit::{Failure, NO_PERMISSION, Outcome};
use crate::queue::{Done, Queue};
use crate::system::System;
use crate::terminal::complain;

const GRAMMAR: Grammar = Grammar::letters("c:d:e:f:h:H:psSr:v");
const USAGE: &str = "usage: postsuper [-c config_dir] [-d queue_id (delete)] [-e queue_id (expire)] \
                     [-f queue_id (expire and/or un-hold)] [-h queue_id (hold)] [-H queue_id (un-hold)] \
                     [-r queue_id (requeue)] [queue...]";
/// Up to so many ids each gets a line of its own; each is then a request of its own.
const NAMED_MAX: usize = 500;

#[derive(Clone, Copy)]
struct Action {
    /// What happened to one message.
    one: &'static str,
    /// What the count is of.
    all: &'static str,
    request: fn(Selection) -> Request,
}

fn action(option: char) -> Option<Action> {
    Some(match option {
        'd' => Action { one: "removed", all: "Deleted", request: |what| Request::Delete { what } },
        'h' => Action { one: "placed on hold", all: "Placed on hold", request: |what| Request::Hold { what } },
        'H' => {
            Action { one: "released from hold", all: "Released from hold", request: |what| Request::Release { what } }
        }
        'e' => Action { one: "expired", all: "Force-expired", request: |what| Request::Expire { what, held: false } },
        'f' => Action { one: "expired", all: "Force-expired", request: |what| Request::Expire { what, held: true } },
        'r' => Action { one: "requeued", all: "Requeued", request: |what| Request::Requeue { what } },
        _ => return None,
    })
}

/// Runs the command.
///
/// # Errors
/// Wrong options, the system is down (69), the caller is not the superuser.
pub fn run(arguments: &[OsString]) -> Outcome {
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::usage(format!("{error}; {USAGE}")))?;
    let queues =
        parsed.operands.iter().map(|operand| queue_named(&operand.to_string_lossy())).collect::<Result<_, _>>()?;
    let queues: Vec<QueueName> = queues;
    // Structure checks (-p -s -S) have nothing to do here: queue-manager checks its log at every start.
    let wanted: Vec<(&Given, Action)> =
        parsed.options.iter().filter_map(|given| action(given.option).map(|action| (given, action))).collect();
    if wanted.is_empty() {
        return Ok(0);
    }
    let mut queue = Queue::open(&System::state(parsed.last('c'))?, "Cannot change the mail queue")?;
    // One count per kind of action, in the order in which the kinds were first given.
    let mut totals: Vec<(Action, u64)> = Vec::new();
    for (given, action) in wanted {
        let count = act(&mut queue, &given.text(), action, &queues)?;
        match totals.iter_mut().find(|(known, _)| known.all == action.all) {
            Some((_, total)) => *total += count,
            None => totals.push((action, count)),
        }
    }
    for (action, count) in totals {
        complain(&format!("postsuper: {}: {count} message{}", action.all, if count == 1 { "" } else { "s" }));
    }
    Ok(0)
}

fn queue_named(name: &str) -> Result<QueueName, Failure> {
    match name {
        "incoming" => Ok(QueueName::Incoming),
        "active" => Ok(QueueName::Active),
        "deferred" => Ok(QueueName::Deferred),
        "hold" => Ok(QueueName::Hold),
        "corrupt" => Ok(QueueName::Corrupt),
        _ => Err(Failure::usage(format!("no such queue: {name}"))),
    }
}

/// Does one action for one argument: an id, `ALL`, or `-` for ids from standard input.
fn act(queue: &mut Queue, argument: &str, action: Action, queues: &[QueueName]) -> Result<u64, Failure> {
    let ids = match argument {
        "ALL" if queues.is_empty() => {
            return queue.change(Selection::All, action.request).map(|done| done.count).map_err(explained);
        }
        "ALL" => {
            let ids = queue.ids_in(queues).map_err(explained)?;
            return queue.change(Selection::Ids(ids), action.request).map(|done| done.count).map_err(explained);
        }
        "-" => read_ids()?,
        text => read_id(text).into_iter().collect(),
    };
    let ids = within(queue, ids, queues)?;
    if ids.len() > NAMED_MAX {
        return queue.change(Selection::Ids(ids), action.request).map(|done| done.count).map_err(explained);
    }
    let mut count = 0;
    for id in ids {
        let Done { count: changed, .. } = queue.done(&(action.request)(Selection::Ids(vec![id]))).map_err(explained)?;
        if changed > 0 {
            complain(&format!("postsuper: {id}: {}", action.one));
        }
        count += changed;
    }
    Ok(count)
}

/// Only the ids that are in one of the named queues, where queues are named.
fn within(queue: &mut Queue, ids: Vec<QueueId>, queues: &[QueueName]) -> Result<Vec<QueueId>, Failure> {
    if queues.is_empty() {
        return Ok(ids);
    }
    let there = queue.ids_in(queues).map_err(explained)?;
    Ok(ids.into_iter().filter(|id| there.contains(id)).collect())
}

fn read_ids() -> Result<Vec<QueueId>, Failure> {
    let mut ids = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::usage(format!("standard input: {error}")))?;
        ids.extend(read_id(line.trim()));
    }
    Ok(ids)
}

/// An id; none for one that cannot be in the queue, with a warning if it is no id of Postfix either.
fn read_id(text: &str) -> Option<QueueId> {
    let id = text.parse().ok();
    if id.is_none() && (text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric())) {
        let shown: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        complain(&format!("postsuper: warning: invalid mail queue id: {shown}"));
    }
    id
}

fn explained(failure: Failure) -> Failure {
    match failure.code {
        NO_PERMISSION => Failure::new(1, "use of this command is reserved for the superuser"),
        _ => failure,
    }
}
