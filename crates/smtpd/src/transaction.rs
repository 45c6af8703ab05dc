//! An open mail transaction, and the envelope that becomes of it.

use mail_policy::Actions;
use mail_smtp::server::MailCommand;
use mail_types::{Address, Body, Client, Envelope, Notify, Purpose, QueueId, Recipient, Sender, SourceLine, UnixTime};

use crate::content::Content;

/// A recipient that was accepted, as it was written and where its mail goes.
pub struct Accepted {
    /// What the client wrote.
    pub text: String,
    /// Those who get the mail, after canonical maps and virtual aliases.
    pub to: Vec<Address>,
    /// NOTIFY.
    pub notify: Option<Notify>,
    /// ORCPT.
    pub orcpt: Option<String>,
}

/// A transaction between MAIL and the end of data.
pub struct Transaction {
    /// MAIL as it came.
    pub mail: MailCommand,
    /// The sender, complete; canonical maps come at the end.
    pub sender: Sender,
    /// When MAIL came.
    pub arrival: UnixTime,
    /// What was accepted.
    pub recipients: Vec<Accepted>,
    /// Automatic copies, which are nobody's recipients.
    pub copies: Vec<Accepted>,
    /// The queue id, once there is a recipient.
    pub id: Option<QueueId>,
    /// What access tables want done with the message.
    pub actions: Actions,
    /// Octets of the content, once it is complete.
    pub octets: Option<u64>,
    /// The rule that let the last recipient in, and where it is written.
    pub permit: Option<(String, SourceLine)>,
    /// The content, once it comes.
    pub content: Option<Content>,
    /// Whether headers are completed for the client, once that is known.
    pub ours: Option<bool>,
    /// What is done with the message.
    pub purpose: Purpose,
}

impl Transaction {
    /// A transaction that begins.
    #[must_use]
    pub fn new(mail: MailCommand, sender: Sender, arrival: UnixTime) -> Self {
        Self {
            mail,
            sender,
            arrival,
            recipients: Vec::new(),
            copies: Vec::new(),
            id: None,
            actions: Actions::default(),
            octets: None,
            permit: None,
            content: None,
            ours: None,
            purpose: Purpose::Deliver,
        }
    }

    /// The only recipient, if there is exactly one, for the Received field (S15).
    #[must_use]
    pub fn only_recipient(&self) -> Option<&Address> {
        match self.recipients.as_slice() {
            [one] if one.to.len() == 1 => one.to.first(),
            _ => None,
        }
    }
}

/// Every address once, in the order of the client; `original` says what the client wrote where that is something else and `originals`
/// (`enable_original_recipient`) wants it kept.
#[must_use]
pub fn recipients<'a>(accepted: impl IntoIterator<Item = &'a Accepted>, originals: bool) -> Vec<Recipient> {
    let mut seen = std::collections::HashSet::new();
    let mut all = Vec::new();
    for one in accepted {
        for address in &one.to {
            let original = Some(&one.text).filter(|text| originals && **text != address.to_string()).cloned();
            let folded = |text: &str| text.to_lowercase();
            if seen.insert((folded(&address.to_string()), original.as_deref().map(folded))) {
                let (orcpt, notify) = (one.orcpt.clone(), one.notify);
                all.push(Recipient { address: address.clone(), original, orcpt, notify });
            }
        }
    }
    all
}

/// What is known of the content when it is complete.
pub struct Facts {
    /// Octets as stored.
    pub size: u64,
    /// Message-ID with its angle brackets.
    pub message_id: Option<String>,
    /// A header field holds UTF-8.
    pub utf8: bool,
    /// Any octet is outside ASCII.
    pub eight_bit: bool,
}

/// The envelope for the queue. BODY and SMTPUTF8 say what the message really needs, so that no next hop is refused it for nothing.
#[must_use]
pub fn envelope(transaction: &Transaction, sender: Sender, facts: Facts, client: Client, originals: bool) -> Envelope {
    let recipients = recipients(transaction.recipients.iter().chain(&transaction.copies), originals);
    let addresses = sender.address().into_iter().chain(recipients.iter().map(|recipient| &recipient.address));
    let utf8 = facts.utf8 || addresses.into_iter().any(Address::needs_smtputf8);
    Envelope {
        sender,
        arrival: transaction.arrival,
        size: facts.size,
        body: if facts.eight_bit { Body::EightBitMime } else { Body::SevenBit },
        smtputf8: transaction.mail.smtputf8 && utf8,
        dsn: transaction.mail.dsn.clone(),
        message_id: facts.message_id,
        client,
        recipients,
        purpose: transaction.purpose,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(text: &str, to: &[&str]) -> Accepted {
        let to = to.iter().map(|text| text.parse().expect("an address")).collect();
        Accepted { text: text.to_owned(), to, notify: None, orcpt: None }
    }

    #[test]
    fn each_address_gets_one_copy_and_knows_what_was_written() {
        let all = recipients(
            &[
                accepted("john@info.net", &["john@info.net"]),
                accepted("root", &["root@info.net", "a@b.org"]),
                accepted("John@info.net", &["John@info.net"]),
            ],
            true,
        );
        let flat: Vec<_> = all.iter().map(|r| (r.address.to_string(), r.original.as_deref())).collect();
        let expected = [
            ("john@info.net".to_owned(), None),
            ("root@info.net".to_owned(), Some("root")),
            ("a@b.org".to_owned(), Some("root")),
        ];
        assert_eq!(flat, expected);
    }
}
