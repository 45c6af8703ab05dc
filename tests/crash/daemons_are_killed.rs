//! SIGKILL for each daemon in turn and for all at once, again and again, while 20 sessions send numbered messages.
//!
//! `POSTRIDER_CRASH_ROUNDS` says how often; 50 in CI. `POSTRIDER_CRASH_PATIENCE` (seconds) is how soon service is to be back on a machine that
//! does much else. What may come twice: a message at the other server, if remote-delivery died between
//! that server's `250` and the moment at which its outcome was on disk here (RFC 1047: the protocol cannot tell). Nothing else.

use std::time::{Duration, Instant};

use test_support::System;

use crate::load::{Load, all_arrive, no_second_copy};
use crate::sink::Sink;
use crate::system::{DAEMONS, builder, is_back, kill, rounds};

/// Messages acknowledged in each round.
const MESSAGES: usize = 30;
/// An answer of the other server that is older than this was recorded before the kill.
const UNRECORDED: Duration = Duration::from_secs(5);
/// An answer that is younger than this may have been written for a client that was dead.
const UNHEARD: Duration = Duration::from_secs(3);

pub fn nothing_acknowledged_is_lost() -> Result<(), String> {
    let sink = Sink::start().map_err(|error| error.to_string())?;
    let system = builder(&sink).start()?;
    let load = Load::start(&system);
    let (mut kills, mut times) = (Vec::new(), Vec::new());
    // Before the first kill everybody has something to do.
    load.reach(load.allow_more(MESSAGES))?;
    for round in 0..rounds("POSTRIDER_CRASH_ROUNDS", 50) {
        let turn = round % (DAEMONS.len() + 1);
        let daemon = DAEMONS.get(turn).copied().unwrap_or("all");
        let took = one_round(&system, &load, &sink, daemon, round, &mut kills)
            .map_err(|error| format!("round {round}, {daemon}: {error}"))?;
        times.push((took, daemon));
    }
    is_soon_back(&mut times)?;
    let acknowledged = load.end();
    let stored = all_arrive(&system, Some(&sink), &acknowledged)?;
    no_second_copy(&stored)?;
    second_copies_are_explained(&sink, &kills)
}

fn one_round(
    system: &System,
    load: &Load,
    sink: &Sink,
    daemon: &str,
    round: usize,
    kills: &mut Vec<Instant>,
) -> Result<Duration, String> {
    let goal = load.allow_more(MESSAGES);
    // Each round dies at another moment of its load.
    let moment = goal - MESSAGES + round * 7 % MESSAGES;
    load.reach(moment)?;
    let killed = Instant::now();
    if daemon == "all" {
        DAEMONS.iter().try_for_each(|daemon| kill(system, daemon))?;
    } else {
        kill(system, daemon)?;
    }
    if matches!(daemon, "all" | "remote-delivery") {
        kills.push(killed);
    }
    is_back(system, daemon, load, sink, killed)
}

/// R6: five seconds from the kill. A machine that stops for a moment may make one life of ten longer; a daemon that is slow is slow each time.
fn is_soon_back(times: &mut [(Duration, &str)]) -> Result<(), String> {
    let limit = Duration::from_secs(rounds("POSTRIDER_CRASH_PATIENCE", 5) as u64);
    times.sort_unstable();
    let late = times.iter().filter(|(took, _)| *took > limit).count();
    if late * 10 <= times.len() {
        return Ok(());
    }
    Err(format!("{late} of {} times service was not back within {limit:?}: {times:?}", times.len()))
}

/// Each further copy at the other server follows a death of remote-delivery with the answer to the one before still on its way.
fn second_copies_are_explained(sink: &Sink, kills: &[Instant]) -> Result<(), String> {
    let copies = sink.copies();
    for (at, copy) in copies.iter().enumerate() {
        let Some(before) = copies[..at].iter().rev().find(|earlier| earlier.number == copy.number) else { continue };
        // The server may have read a dot, and answer it, after its client died.
        let explained = kills.iter().any(|killed| {
            *killed < copy.answered
                && killed.saturating_duration_since(before.answered) < UNRECORDED
                && before.answered.saturating_duration_since(*killed) < UNHEARD
        });
        if !explained {
            return Err(format!("message {} came twice, and remote-delivery did not die in between", copy.number));
        }
    }
    Ok(())
}
