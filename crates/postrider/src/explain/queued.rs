//! What is queued once a message is taken, and the way of each of its addresses.

use std::collections::HashSet;

use mail_types::{Address, Sender};

use super::explanation::{Copied, Destination, Explanation, Header, Rewritten};
use super::intake::{Accepted, Copy};
use super::journey::{Journey, queued};
use super::log;
use super::setting::{Outside, Setting};

/// A message that was taken.
pub struct Taken {
    /// The sender as it is queued.
    pub sender: Sender,
    /// The same for the explanation.
    pub rewritten: Rewritten,
    /// The recipients, in the order of the client, without those that were refused.
    pub recipients: Vec<Accepted>,
    /// Copies.
    pub copies: Vec<Copy>,
    /// `REDIRECT` of an access table: it gets the mail in the place of all recipients.
    pub redirect: Option<Copy>,
    /// The header for the explanation, where the case has one.
    pub header: Option<Header>,
    /// The header as it is stored.
    pub stored: Vec<u8>,
}

/// Follows a message that was taken to all its places.
pub async fn follow(setting: &Setting, outside: &Outside, taken: Taken, found: &mut Explanation) {
    let mut journey = Journey::new(setting, outside);
    journey.header = taken.stored;
    let mut queue = Queue { journey, seen: HashSet::new(), originals: *setting.config.main.enable_original_recipient };
    found.sender = Some(taken.rewritten);
    found.header = taken.header;
    let mut accepted = taken.recipients.into_iter();
    for recipient in found.recipients.iter_mut().filter(|one| one.outcome.is_taken()) {
        let Some(one) = accepted.next() else { break };
        if taken.redirect.is_none() {
            recipient.destinations = queue.all(&one.to, &one.text, &taken.sender).await;
        }
        recipient.rewritten = Some(one.rewritten);
    }
    for copy in taken.redirect.into_iter().chain(taken.copies) {
        let destinations = queue.all(&copy.to, &copy.text, &taken.sender).await;
        found.copies.push(Copied { rule: copy.rule.to_owned(), rewritten: copy.rewritten, destinations });
    }
    found.notes.extend(queue.journey.notes);
    let lines = log::deliveries(found, &setting.config.main.syslog_name);
    found.log.extend(lines);
}

/// The queue has each address once.
struct Queue<'a> {
    journey: Journey<'a>,
    seen: HashSet<(String, Option<String>)>,
    originals: bool,
}

impl Queue<'_> {
    async fn all(&mut self, addresses: &[Address], original: &str, sender: &Sender) -> Vec<Destination> {
        let mut found = Vec::new();
        for address in addresses {
            let original = Some(original).filter(|text| self.originals && **text != address.to_string());
            if self.seen.insert((address.to_string().to_lowercase(), original.map(str::to_lowercase))) {
                found.push(self.journey.follow(&queued(address, original), sender).await);
            }
        }
        found
    }
}
