//! The log lines of deliveries. What only another server could say has none here.

use std::time::Duration;

use decision::{Delivery, Event, Ident};
use mail_types::EnhancedStatus;

use super::explanation::{Destination, Explanation, Place};
use super::session::QUEUE_ID;

/// One line for each address whose end is known; times are nought.
pub fn deliveries(found: &Explanation, syslog_name: &str) -> Vec<String> {
    let line = |(one, place): (&Destination, &Place)| {
        let (status, dsn, text) = fate(place)?;
        let relay = if one.relay.is_empty() { "none" } else { one.relay.as_str() };
        let event = Event::Delivery(Delivery {
            to: &one.address,
            orig_to: Some(one.original.as_str()).filter(|original| *original != one.address),
            relay,
            delay: Duration::ZERO,
            delays: [Duration::ZERO; 4],
            dsn,
            status,
            text: &text,
        });
        Some(format!("{}: {QUEUE_ID}: {event}", Ident::postfix(syslog_name, one.program).as_str()))
    };
    found.places().into_iter().filter_map(line).collect()
}

/// `status=`, `dsn=` and the reason.
fn fate(place: &Place) -> Option<(&'static str, EnhancedStatus, String)> {
    let delivered = EnhancedStatus::of(2, 0, 0);
    Some(match place {
        Place::Maildir { said, .. } | Place::Mbox { said, .. } => ("sent", delivered, said.clone()),
        Place::Command { command, .. } => ("sent", delivered, format!("delivered to command: {command}")),
        Place::Discard { text } => ("sent", delivered, text.clone()),
        Place::Bounce { status, text } => ("bounced", status.parse().ok()?, text.clone()),
        Place::Defer { status, text } => ("deferred", status.parse().ok()?, text.clone()),
        Place::List { .. } | Place::Remote { .. } | Place::Unknown { .. } => return None,
    })
}
