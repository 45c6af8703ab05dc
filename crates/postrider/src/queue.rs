//! What the queue commands ask of queue-manager, over `control.sock`.

use std::fs::File;
use std::path::Path;

use mail_ipc::control::{Listed, QueueName, Request, Response, Selection};
use mail_ipc::sockets::CONTROL;
use mail_types::QueueId;

use crate::conversation::{Conversation, TalkError};
use crate::exit::{Failure, NO_PERMISSION, SOFTWARE, TEMPORARY, UNAVAILABLE};

/// Messages in one page of a listing.
const PAGE: u32 = 200;
/// The most ids in one request, so that a frame stays far below its limit.
const IDS: usize = 2000;

/// queue-manager, connected.
#[derive(Debug)]
pub struct Queue {
    conversation: Conversation,
}

/// How many messages a request has changed, and which ids it did not find.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// Messages changed.
    pub count: u64,
    /// Ids that are not in the queue.
    pub unknown: Vec<QueueId>,
}

impl Queue {
    /// Connects. `purpose` completes the sentence `... - mail system is down`, as postqueue says it.
    ///
    /// # Errors
    /// Exit code 69 when queue-manager is down.
    pub fn open(state: &Path, purpose: &str) -> Result<Self, Failure> {
        match Conversation::open(state, CONTROL) {
            Ok(conversation) => Ok(Self { conversation }),
            Err(TalkError::Down(_)) => Err(Failure::new(UNAVAILABLE, format!("{purpose} - mail system is down"))),
            Err(error) => Err(Failure::new(UNAVAILABLE, format!("{purpose}: queue-manager: {error}"))),
        }
    }

    /// Every message, page by page; stops when `each` fails.
    ///
    /// # Errors
    /// What queue-manager or `each` says.
    pub fn list(&mut self, mut each: impl FnMut(&Listed) -> Result<(), Failure>) -> Result<(), Failure> {
        self.ask_for_page(None)?;
        loop {
            let (response, _) = self.conversation.answer().map_err(broken)?;
            let Response::Page { messages, more } = response else { return Err(unexpected(&response)) };
            let last = messages.last().filter(|_| more).map(|message| message.id);
            // queue-manager reads the next page while this one is printed.
            if last.is_some() {
                self.ask_for_page(last)?;
            }
            messages.iter().try_for_each(&mut each)?;
            if last.is_none() {
                return Ok(());
            }
        }
    }

    fn ask_for_page(&mut self, after: Option<QueueId>) -> Result<(), Failure> {
        self.conversation.say(&Request::List { after, limit: PAGE }).map_err(broken)
    }

    /// One message with its content; none if it is not in the queue.
    ///
    /// # Errors
    /// What queue-manager says.
    pub fn show(&mut self, id: QueueId) -> Result<Option<(Listed, File, u64)>, Failure> {
        let (response, descriptors) = self.conversation.ask(&Request::Show { id }).map_err(broken)?;
        match response {
            Response::Message { message, length } => {
                let content = descriptors.into_iter().next();
                let content = content.ok_or_else(|| Failure::new(SOFTWARE, "queue-manager sent no content"))?;
                Ok(Some((*message, File::from(content), length)))
            }
            Response::Done { .. } => Ok(None),
            other => Err(unexpected(&other)),
        }
    }

    /// A change of messages; long lists of ids go in several requests.
    ///
    /// # Errors
    /// What queue-manager says; earlier parts of a long list are then done.
    pub fn change(&mut self, what: Selection, request: impl Fn(Selection) -> Request) -> Result<Done, Failure> {
        let parts = match what {
            Selection::All => vec![Selection::All],
            Selection::Ids(ids) => ids.chunks(IDS).map(|part| Selection::Ids(part.to_vec())).collect(),
        };
        let mut total = Done::default();
        for part in parts {
            let done = self.done(&request(part))?;
            total.count += done.count;
            total.unknown.extend(done.unknown);
        }
        Ok(total)
    }

    /// A request that is answered with a count.
    ///
    /// # Errors
    /// What queue-manager says.
    pub fn done(&mut self, request: &Request) -> Result<Done, Failure> {
        match self.ask(request)? {
            Response::Done { count, unknown } => Ok(Done { count, unknown }),
            other => Err(unexpected(&other)),
        }
    }

    /// The ids of all messages in one of these queues.
    ///
    /// # Errors
    /// What queue-manager says.
    pub fn ids_in(&mut self, queues: &[QueueName]) -> Result<Vec<QueueId>, Failure> {
        let mut ids = Vec::new();
        self.list(|message| {
            if queues.contains(&message.queue) {
                ids.push(message.id);
            }
            Ok(())
        })?;
        Ok(ids)
    }

    fn ask(&mut self, request: &Request) -> Result<Response, Failure> {
        self.conversation.ask(request).map(|(response, _)| response).map_err(broken)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn broken(error: TalkError) -> Failure {
    Failure::new(TEMPORARY, format!("queue-manager: {error}"))
}

fn unexpected(response: &Response) -> Failure {
    match response {
        Response::Forbidden => Failure::new(NO_PERMISSION, "you are not allowed to do this"),
        Response::Failed { text } => Failure::new(TEMPORARY, text.clone()),
        Response::NotUnderstood => Failure::new(UNAVAILABLE, "queue-manager is of another version"),
        _ => Failure::new(SOFTWARE, "queue-manager gave an answer to another question"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::tests::daemon;

    fn queue(answers: &[&str]) -> (Queue, std::thread::JoinHandle<Vec<String>>) {
        let (conversation, thread) = daemon(answers.iter().map(|&answer| answer.to_owned()).collect());
        (Queue { conversation }, thread)
    }

    const LISTED: &str = r#"{"id":"4jXXG63dXnz1SRl2","queue":"hold","arrival":1,"size":2,"sender":"","recipients":[]}"#;

    #[test]
    fn a_long_queue_is_listed_page_by_page() {
        let first = format!(r#"{{"Page":{{"messages":[{LISTED}],"more":true}}}}"#);
        let second = format!(r#"{{"Page":{{"messages":[{}],"more":false}}}}"#, LISTED.replace("Rl2", "Rl3"));
        let (mut queue, thread) = queue(&[&first, &second]);
        let ids = queue.ids_in(&[QueueName::Hold]).expect("lists");
        assert_eq!(ids.iter().map(ToString::to_string).collect::<Vec<_>>(), ["4jXXG63dXnz1SRl2", "4jXXG63dXnz1SRl3"]);
        drop(queue);
        assert!(thread.join().expect("served")[1].contains(r#""after":"4jXXG63dXnz1SRl2""#));
    }

    #[test]
    fn a_long_list_of_ids_goes_in_several_requests() {
        let done = r#"{"Done":{"count":7,"unknown":[]}}"#;
        let (mut queue, thread) = queue(&[done, done]);
        let ids = (0..=IDS).map(|n| QueueId::new(1, 2, u32::try_from(n).expect("small")).expect("in range")).collect();
        let total = queue.change(Selection::Ids(ids), |what| Request::Delete { what }).expect("done");
        assert_eq!(total.count, 14);
        drop(queue);
        assert_eq!(thread.join().expect("served").len(), 2);
    }

    #[test]
    fn a_refusal_has_its_exit_code() {
        let (mut queue, _thread) = queue(&[r#""Forbidden""#, r#"{"Failed":{"text":"disk full"}}"#]);
        assert_eq!(queue.done(&Request::Status).expect_err("forbidden").code, NO_PERMISSION);
        assert_eq!(queue.done(&Request::Status).expect_err("failed"), Failure::new(TEMPORARY, "disk full"));
    }
}
