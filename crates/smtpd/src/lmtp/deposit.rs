//! The hand-over to local-delivery, and what each recipient hears.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use mail_ipc::Frame;
use mail_ipc::delivery::{Content, Destination, Fate, Lease, LeaseRecipient, Outcome, TransportKind};
use mail_ipc::deposit::{Request, Response};
use mail_ipc::sockets;
use mail_net::ipc::{self, Conversation};
use mail_types::{Body, Client, DsnOptions, EnhancedStatus, Purpose, Reply, ReplyCode};

use crate::content::Complete;
use crate::intake::{Door, now};
use crate::queue::Stored;
use crate::transaction::Transaction;

/// So many recipients go into one frame.
const PAGE: usize = 100;
/// How long a mailbox may take; clients wait ten minutes (RFC 5321 section 4.5.3.2.6).
const PATIENCE: Duration = Duration::from_secs(570);

/// Has a message stored for each recipient; the replies in their order. What local-delivery does not tell of is "not now".
pub async fn store(
    door: &Door,
    transaction: &Transaction,
    content: &Complete,
    message_id: Option<String>,
    client: Client,
) -> Vec<Reply> {
    let recipients = recipients(transaction);
    let Some(lease) = lease(transaction, content, message_id, client) else { return Vec::new() };
    let mut replies = Vec::new();
    for page in recipients.chunks(PAGE) {
        let lease = Lease { recipients: page.to_vec(), ..lease.clone() };
        let outcomes = match tokio::time::timeout(PATIENCE, ask(door, lease, content)).await {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(error)) => {
                door.log.warning(&door.shared().lmtp.ident, &format!("lmtp: local-delivery: {error}"));
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        replies.extend(page.iter().map(|recipient| {
            let outcome = outcomes.iter().find(|outcome| outcome.recipient == recipient.number);
            outcome.map_or_else(|| unknown(recipient), |outcome| heard(recipient, outcome))
        }));
    }
    replies
}

fn recipients(transaction: &Transaction) -> Vec<LeaseRecipient> {
    let addresses = transaction.recipients.iter().flat_map(|accepted| accepted.to.iter().map(move |to| (accepted, to)));
    let made = addresses.zip(0..).map(|((accepted, address), number)| LeaseRecipient {
        number,
        address: address.clone(),
        original: None,
        orcpt: accepted.orcpt.clone(),
        notify: None,
        chain: Vec::new(),
        part: None,
        rule: None,
    });
    made.collect()
}

/// The message as a worker takes it, without recipients.
fn lease(transaction: &Transaction, content: &Complete, message_id: Option<String>, client: Client) -> Option<Lease> {
    Some(Lease {
        lease: 0,
        id: transaction.id?,
        attempt: 1,
        unreported: false,
        destination: Destination { transport: "lmtp".into(), kind: TransportKind::Mailbox, nexthop: "lmtp".into() },
        sender: transaction.sender.clone(),
        arrival: transaction.arrival,
        active: now(),
        size: content.length,
        body: Body::default(),
        smtputf8: transaction.mail.smtputf8,
        dsn: DsnOptions::default(),
        message_id,
        client,
        purpose: Purpose::Deliver,
        recipients: Vec::new(),
        content: match &content.stored {
            Stored::Memory(octets) => Content::Follows(octets.len() as u64),
            Stored::File => Content::Descriptor { length: content.length },
        },
    })
}

/// One question to local-delivery, on a conversation of its own, so that a slow mailbox holds up nobody else.
async fn ask(door: &Door, lease: Lease, content: &Complete) -> io::Result<Vec<Outcome>> {
    let Conversation { mut reader, writer, .. } = ipc::connect(&door.state, sockets::DEPOSIT, &door.hello).await?;
    let descriptors: Vec<BorrowedFd<'_>> = content.file.iter().map(|file| file.as_fd()).collect();
    let octets: &[&[u8]] = match &content.stored {
        Stored::Memory(octets) => &[octets.as_slice()],
        Stored::File => &[],
    };
    let request = Request::Deposit { lease: Box::new(lease) };
    writer.send(&Frame::new(1, request), &descriptors, octets).await?;
    let received = reader.frame().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    match received.read::<Response>().map_err(io::Error::other)?.body {
        Response::Done { outcomes } => Ok(outcomes),
        Response::NotUnderstood => Err(io::Error::other("speaks another version")),
    }
}

fn unknown(recipient: &LeaseRecipient) -> Reply {
    let text = format!("<{}> Temporary internal error", recipient.address);
    Reply::new(ReplyCode::of(451), EnhancedStatus::of(4, 3, 0), text)
}

/// The reply for an outcome (RFC 2033 section 4.2).
fn heard(recipient: &LeaseRecipient, outcome: &Outcome) -> Reply {
    let full = [EnhancedStatus::of(4, 2, 2), EnhancedStatus::of(5, 2, 2)].contains(&outcome.status);
    let code = match outcome.fate {
        Fate::Delivered => 250,
        Fate::Bounced if full => 552,
        Fate::Bounced => 550,
        _ if full => 452,
        _ => 451,
    };
    let said = without_code(&outcome.text);
    let address = format!("<{}>", recipient.address);
    let text = if said.starts_with(&address) { said.to_owned() } else { format!("{address} {said}") };
    Reply::new(ReplyCode::of(code), outcome.status, text)
}

/// A text without the reply code and status that local-delivery writes for the log of the queue.
fn without_code(text: &str) -> &str {
    let mut words = text.splitn(3, ' ');
    let code = words.next().is_some_and(|word| word.len() == 3 && word.bytes().all(|b| b.is_ascii_digit()));
    let status = words.next().is_some_and(|word| word.parse::<EnhancedStatus>().is_ok());
    if code && status { words.next().unwrap_or_default() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(fate: Fate, status: (u8, u16, u16), text: &str) -> Outcome {
        Outcome {
            lease: 0,
            id: mail_types::QueueId::new(1, 1, 1).expect("in range"),
            attempt: 1,
            recipient: 0,
            fate,
            status: EnhancedStatus::of(status.0, status.1, status.2),
            text: text.to_owned(),
            relay: String::new(),
            diagnostic: None,
            remote: None,
        }
    }

    // L01, L02
    #[test]
    fn each_outcome_has_its_reply() {
        let address = "a@b.example".parse().expect("an address");
        let recipient = LeaseRecipient {
            number: 0,
            address,
            original: None,
            orcpt: None,
            notify: None,
            chain: Vec::new(),
            part: None,
            rule: None,
        };
        for (outcome, expected) in [
            (outcome(Fate::Delivered, (2, 0, 0), "250 2.0.0 <a@b.example> Saved"), "250 2.0.0 <a@b.example> Saved"),
            (
                outcome(Fate::Deferred { dead: false }, (4, 3, 0), "no such luck"),
                "451 4.3.0 <a@b.example> no such luck",
            ),
            (outcome(Fate::Deferred { dead: false }, (4, 2, 2), "full"), "452 4.2.2 <a@b.example> full"),
            (outcome(Fate::Bounced, (5, 2, 2), "full"), "552 5.2.2 <a@b.example> full"),
            (outcome(Fate::Bounced, (5, 1, 1), "550 5.1.1 <a@b.example> gone"), "550 5.1.1 <a@b.example> gone"),
        ] {
            assert_eq!(heard(&recipient, &outcome).to_string(), expected);
        }
        assert_eq!(unknown(&recipient).code.get(), 451);
    }
}
