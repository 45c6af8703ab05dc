//! What is queued once a message is taken: the sender and recipients after rewriting, automatic copies, and the way of each.

use std::collections::HashSet;

use admission::facts::Fetched;
use decision::Lookup;
use mail_types::{Address, Sender};

use super::explanation::{Explanation, Rewritten};
use super::journey::{Journey, queued};
use super::log;
use super::session::Taken;
use super::setting::{Outside, Route, Setting};

/// Follows a message that was taken to all its places.
pub async fn follow(
    setting: &Setting,
    outside: &Outside,
    listener: &mail_config::Listener,
    taken: Taken,
    found: &mut Explanation,
) {
    let mut fetched = Fetched::default();
    let route = Route { setting, main: &listener.main, outside };
    let sender = rewritten_sender(&route, &mut fetched, &taken.sender, found).await;
    let asked = route
        .decide(&mut fetched, |world, lookups| mail_route::rewrite_recipient(world, &taken.recipient, lookups))
        .await;
    let lookups = asked.map(|(_, lookups)| lookups).unwrap_or_default();
    found.recipient = Some(Rewritten {
        from: taken.recipient.to_string(),
        to: taken.queued.iter().map(ToString::to_string).collect(),
        lookups,
        error: None,
    });
    let copies = route
        .decide(&mut fetched, |world, lookups| {
            let mut copies = mail_route::recipient_copies(world, &taken.recipient, lookups)?;
            copies.extend(mail_route::sender_copies(world, &sender, lookups)?);
            Ok(copies)
        })
        .await;
    if let Err(why) = &copies {
        found.notes.push(format!("automatic copies cannot be made now, so the client would hear 451: {why}"));
    }
    // A message that is redirected goes nowhere else.
    let (copies, lookups) = copies.ok().filter(|_| taken.redirect.is_none()).unwrap_or_default();
    let mut all: Vec<(Address, String)> = match &taken.redirect {
        Some(to) => vec![(to.clone(), to.to_string())],
        None => taken.queued.iter().map(|address| (address.clone(), found.case.to.clone())).collect(),
    };
    for address in &taken.bcc {
        let asked =
            route.decide(&mut fetched, |world, lookups| mail_route::rewrite_recipient(world, address, lookups)).await;
        let to = asked.map(|(to, _)| to).unwrap_or_default();
        all.extend(to.into_iter().map(|one| (one, address.to_string())));
    }
    for copy in copies {
        let to = copy.to.iter().map(ToString::to_string).collect();
        found.copies.push(Rewritten { from: copy.text.clone(), to, lookups: lookups.clone(), error: None });
        all.extend(copy.to.into_iter().map(|address| (address, copy.text.clone())));
    }
    let originals = *setting.config.main.enable_original_recipient;
    let mut journey = Journey::new(setting, outside);
    let mut seen = HashSet::new();
    for (address, original) in all {
        // Each address gets one copy, as the queue has it once.
        let original = Some(original.as_str()).filter(|text| originals && **text != address.to_string());
        if seen.insert((address.to_string().to_lowercase(), original.map(str::to_lowercase))) {
            found.destinations.push(journey.follow(&queued(&address, original), &sender).await);
        }
    }
    found.notes.extend(journey.notes);
    let lines = log::deliveries(found, &setting.config.main.syslog_name);
    found.log.extend(lines);
}

async fn rewritten_sender(
    route: &Route<'_>,
    fetched: &mut Fetched,
    sender: &Sender,
    found: &mut Explanation,
) -> Sender {
    let asked = route.decide(fetched, |world, lookups| mail_route::rewrite_sender(world, sender, lookups)).await;
    let written =
        |to: Vec<String>, lookups: Vec<Lookup>, error| Some(Rewritten { from: sender.to_string(), to, lookups, error });
    match asked {
        Ok((queued, lookups)) => {
            found.sender = written(vec![queued.to_string()], lookups, None);
            queued
        }
        Err(error) => {
            found.sender = written(Vec::new(), Vec::new(), Some(error));
            sender.clone()
        }
    }
}
