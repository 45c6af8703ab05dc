//! `postqueue` and `mailq`: list the queue, attempt what waits.

pub mod json;
pub mod listing;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use jiff::tz::TimeZone;
use mail_ipc::control::{Request, Selection};
use mail_types::QueueId;

use self::listing::Listing;
use crate::arguments::Grammar;
use crate::exit::{Failure, NO_PERMISSION, Outcome, TEMPORARY};
use crate::queue::Queue;
use crate::system::System;
use crate::terminal::print;

const GRAMMAR: Grammar = Grammar::letters("c:fi:jps:v");
const USAGE: &str = "usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site";

/// How a listing looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As mailq shows it.
    Text,
    /// One JSON object per line.
    Json,
}

/// Runs `postqueue`.
///
/// # Errors
/// Wrong options (1), the system is down (69), the caller may not (77).
pub fn run(arguments: &[OsString]) -> Outcome {
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::usage(format!("{error}; {USAGE}")))?;
    let actions: Vec<_> = parsed.options.iter().filter(|given| !matches!(given.option, 'c' | 'v')).collect();
    let [action] = actions.as_slice() else { return Err(Failure::usage(USAGE)) };
    if !parsed.operands.is_empty() {
        return Err(Failure::usage(USAGE));
    }
    let state = System::state(parsed.last('c'))?;
    match action.option {
        'p' => list(&state, Form::Text),
        'j' => list(&state, Form::Json),
        'f' => flush(&state),
        'i' => match action.text().parse() {
            Ok(id) => flush_message(&state, id),
            // Postfix's short ids pass its syntax check and match nothing; so here.
            Err(_) if action.text().bytes().all(|b| b.is_ascii_alphanumeric()) => Ok(0),
            Err(_) => Err(Failure::usage(format!("invalid queue ID \"{}\"", action.text()))),
        },
        _ => flush_site(&state, action.argument.as_deref().unwrap_or(OsStr::new(""))),
    }
}

/// Lists the queue on standard output.
///
/// # Errors
/// The system is down (69) or the caller may not (77).
pub fn list(state: &Path, form: Form) -> Outcome {
    let mut queue = Queue::open(state, "Queue report unavailable")?;
    let mut listing = Listing::new(TimeZone::system());
    queue
        .list(|message| match form {
            Form::Text => print(&listing.message(message)),
            Form::Json => print(&json::message(message)),
        })
        .map_err(|failure| explained(failure, "view the mail queue"))?;
    if form == Form::Text {
        print(&listing.end())?;
    }
    Ok(0)
}

/// Attempts everything that waits (`-f`, `sendmail -q`).
///
/// # Errors
/// As [`list`].
pub fn flush(state: &Path) -> Outcome {
    flush_request(state, &Request::Flush { what: Selection::All })
}

/// Attempts one message (`-i`, `sendmail -qI`); an unknown id is no error, as with Postfix.
///
/// # Errors
/// As [`list`].
pub fn flush_message(state: &Path, id: QueueId) -> Outcome {
    flush_request(state, &Request::Flush { what: Selection::Ids(vec![id]) })
}

/// Attempts what goes to one site (`-s`, `sendmail -qR`).
///
/// # Errors
/// As [`list`], and a site that is no domain.
pub fn flush_site(state: &Path, site: &OsStr) -> Outcome {
    let site = site.to_string_lossy();
    if mail_types::Domain::new(&site).is_err() {
        return Err(Failure::new(TEMPORARY, format!("Cannot flush mail queue - invalid destination: \"{site}\"")));
    }
    flush_request(state, &Request::FlushSite { site: site.into_owned() })
}

fn flush_request(state: &Path, request: &Request) -> Outcome {
    let mut queue = Queue::open(state, "Cannot flush mail queue")?;
    queue.done(request).map_err(|failure| explained(failure, "flush the mail queue"))?;
    Ok(0)
}

fn explained(failure: Failure, what: &str) -> Failure {
    if failure.code != NO_PERMISSION {
        return failure;
    }
    let uid = rustix::process::getuid().as_raw();
    let name = mail_posix::users::by_uid(uid).ok().flatten().map_or_else(|| "unknown".to_owned(), |user| user.name);
    Failure::new(NO_PERMISSION, format!("User {name}({uid}) is not allowed to {what}"))
}
