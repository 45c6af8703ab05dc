//! `--why-not`: the smallest changes that lead to another outcome, each found by really evaluating the changed case or configuration.
//!
//! From what decided, changes are proposed ([`propose`]); each is made, the case is explained again, and where the outcome still is another one,
//! what decides then proposes further ones. So the search goes from the nearest outwards, by how far changes reach, up to three together.

mod propose;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use admission::facts::{Fetched, View};
use mail_policy::Plan;
use mail_policy::relay::open_relay;
use mail_types::Domain;
use serde::Serialize;

use super::changes::{Change, Changed, apply};
use super::explanation::{Explanation, Outcome};
use super::setting::{Outside, Setting};
use super::text::place_words;

/// Changes tried at most.
const TRIES_MAX: usize = 200;
/// Changes made together at most.
const TOGETHER_MAX: usize = 3;
/// Ways shown at most.
const WAYS_MAX: usize = 6;

/// What would lead to another outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WhyNot {
    /// The outcome that was asked for.
    pub wanted: String,
    /// The ways, the nearest first; none where none was found.
    pub ways: Vec<Way>,
    /// How many changes were tried.
    pub tried: usize,
    /// What was found and is not proposed, and why.
    pub notes: Vec<String>,
}

/// Changes that together lead there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Way {
    /// The changes.
    pub changes: Vec<Change>,
    /// What happens then.
    pub then: String,
    /// The reply then.
    pub reply: Vec<String>,
    /// The outcome then.
    pub outcome: Outcome,
}

/// Looks for ways to `wanted`; without one, to the opposite of what happens.
pub async fn search(setting: &Setting, outside: &Outside, found: &Explanation, wanted: Option<Outcome>) -> WhyNot {
    let opposite = if found.outcome.is_taken() { Outcome::Reject } else { Outcome::Accept };
    let wanted = wanted.unwrap_or(opposite);
    let mut search = Search {
        setting,
        outside,
        wanted,
        was_open: opens_relay(setting, found.case.service.as_deref()),
        open: BinaryHeap::new(),
        seen: BTreeSet::new(),
        order: 0,
        found: WhyNot { wanted: wanted.word().to_owned(), ways: Vec::new(), tried: 0, notes: Vec::new() },
    };
    if found.outcome == wanted {
        search.found.notes.push(format!("{} is what happens", wanted.word()));
        return search.found;
    }
    search.propose(setting, found, &[]);
    search.run(found).await;
    search.found
}

struct Search<'a> {
    setting: &'a Setting,
    outside: &'a Outside,
    wanted: Outcome,
    was_open: bool,
    /// Cost, order of arrival, changes.
    open: BinaryHeap<Reverse<(u32, usize, Node)>>,
    seen: BTreeSet<Vec<String>>,
    order: usize,
    found: WhyNot,
}

/// Changes to try; compared by nothing.
struct Node(Vec<Change>);

impl PartialEq for Node {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Node {}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Node {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Search<'_> {
    async fn run(&mut self, base: &Explanation) {
        while let Some(Reverse((_, _, Node(changes)))) = self.open.pop() {
            if self.found.ways.len() >= WAYS_MAX || self.found.tried >= TRIES_MAX {
                return;
            }
            // One change that suffices is better than two that do.
            if self.found.ways.iter().any(|way| way.changes.len() < changes.len()) {
                continue;
            }
            let Ok(Changed { case, setting }) = apply(self.setting, &base.case, &changes) else { continue };
            self.found.tried += 1;
            let then = match supposed(&setting, self.outside, &changes) {
                Some(outside) => super::explain(&setting, &outside, &case).await,
                None => super::explain(&setting, self.outside, &case).await,
            };
            let Ok(then) = then else { continue };
            if then.outcome == self.wanted {
                self.keep(changes, &setting, &then);
            } else if changes.len() < TOGETHER_MAX && then.steps != base.steps {
                self.propose(&setting, &then, &changes);
            }
        }
    }

    fn propose(&mut self, setting: &Setting, found: &Explanation, made: &[Change]) {
        for change in propose::changes(setting, found, self.wanted) {
            let mut all = made.to_vec();
            all.push(change);
            let mut key: Vec<String> = all.iter().map(|change| change.text.clone()).collect();
            key.sort();
            if self.seen.insert(key) {
                // Two changes are further away than one of the same reach.
                let cost = all.iter().map(|change| change.cost).sum::<u32>() + 2 * (all.len() as u32 - 1);
                self.order += 1;
                self.open.push(Reverse((cost, self.order, Node(all))));
            }
        }
    }

    /// Keeps a way, unless it opens the relay.
    fn keep(&mut self, changes: Vec<Change>, setting: &Setting, then: &Explanation) {
        if !self.was_open && opens_relay(setting, then.case.service.as_deref()) {
            let words: Vec<&str> = changes.iter().map(|change| change.text.as_str()).collect();
            let note = format!("not shown, since it would make the server an open relay: {}", words.join(", and "));
            self.found.notes.push(note);
            return;
        }
        let reply = then.reply.last().cloned().unwrap_or_default();
        let places: Vec<String> =
            then.places().iter().map(|(to, place)| format!("{} -> {}", to.address, place_words(place))).collect();
        let words = if places.is_empty() { reply } else { format!("{reply}; {}", places.join("; ")) };
        self.found.ways.push(Way { changes, then: words, reply: then.reply.clone(), outcome: then.outcome });
    }
}

/// The outside with users that there are not, where changes suppose some.
fn supposed(setting: &Setting, outside: &Outside, changes: &[Change]) -> Option<Outside> {
    let names: Vec<&str> = changes.iter().filter_map(|change| change.edit.user()).collect();
    (!names.is_empty()).then(|| outside.supposing(&setting.config, &names))
}

/// Whether the listener would relay for strangers, as the daemons ask at their start.
fn opens_relay(setting: &Setting, service: Option<&str>) -> bool {
    let Ok(listener) = setting.listener(service) else { return false };
    let Ok(own) = Domain::new(&listener.main.myhostname) else { return false };
    let fetched = Fetched::default();
    let view = View { config: &setting.config, main: &listener.main, tables: &setting.tables, fetched: &fetched };
    !open_relay(&Plan::new(std::sync::Arc::clone(&listener.main)), &own, &view).is_empty()
}
