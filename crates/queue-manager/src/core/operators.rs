//! What operators ask: lists, flush, hold, release, requeue, delete.

use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mail_ipc::control::{Listed, ListedRecipient, QueueName, Request, Response, Selection};
use mail_ipc::delivery::{self, Fate};
use mail_types::{EnhancedStatus, QueueId};
use queue_store::{Answers, Body, Change, Class, MessageState, Op, RecipientState};
use tokio::sync::oneshot;

use super::outcomes::no_outcome;
use super::{Core, Event};

/// Messages of one page of a list.
const PAGE: usize = 200;
/// Recipients shown of one message.
const RECIPIENTS: usize = 200;
/// Estimated octets after which a page ends; a frame takes 256 KiB.
const PAGE_OCTETS: usize = 128 * 1024;
/// Messages of one step of a flush, so that mail goes on meanwhile.
const FLUSH_STEP: usize = 200;

type Reply = oneshot::Sender<(Response, Option<File>)>;

/// A change of a whole message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Put on hold.
    Hold,
    /// Release from hold.
    Release,
    /// Begin again.
    Requeue,
    /// Remove.
    Delete,
    /// Return to the sender; what is on hold too, if `held`.
    Expire {
        /// Whether a message on hold is meant.
        held: bool,
    },
}

/// An operator's request that is answered when its last part is done.
pub struct Waiting {
    left: AtomicUsize,
    reply: Mutex<Option<Reply>>,
    count: u64,
    unknown: Vec<QueueId>,
    failed: Mutex<Option<String>>,
}

impl Waiting {
    pub(super) fn done(&self, failure: Option<String>) {
        if failure.is_some() {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(reply) = self.reply.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
            let response = match failed {
                Some(text) => Response::Failed { text },
                None => Response::Done { count: self.count, unknown: self.unknown.clone() },
            };
            // The operator may have gone.
            let _ = reply.send((response, None));
        }
    }
}

/// A change that the store answered.
pub struct Changed {
    kind: Kind,
    id: QueueId,
    answers: Answers,
    waiting: Option<Arc<Waiting>>,
}

/// A flush that goes on.
pub struct Flush {
    after: Option<QueueId>,
    site: Option<String>,
    count: u64,
    reply: Reply,
}

impl Core {
    pub(super) fn control(&mut self, request: Request, privileged: bool, reply: Reply) {
        let free = matches!(
            request,
            Request::List { .. } | Request::Flush { .. } | Request::FlushSite { .. } | Request::Status
        );
        if !free && !privileged {
            let _ = reply.send((Response::Forbidden, None));
            return;
        }
        match request {
            Request::List { after, limit } => answer(reply, self.list(after, limit)),
            Request::Show { id } => self.show(id, reply),
            Request::Flush { what } => self.flush(what, reply),
            Request::FlushSite { site } => {
                self.flush_page(Flush { after: None, site: Some(site.to_ascii_lowercase()), count: 0, reply });
            }
            Request::Hold { what } => self.change(Kind::Hold, what, reply),
            Request::Release { what } => self.change(Kind::Release, what, reply),
            Request::Requeue { what } => self.change(Kind::Requeue, what, reply),
            Request::Delete { what } => self.change(Kind::Delete, what, reply),
            Request::Expire { what, held } => self.change(Kind::Expire { held }, what, reply),
            Request::Verified { address } => {
                let response = self.known_of(&address);
                answer(reply, Ok(response));
            }
            Request::Status => {
                let response = self.status();
                answer(reply, Ok(response));
            }
        }
    }

    fn status(&self) -> Response {
        let counts = self.store.counts();
        let active = self.messages.values().filter(|active| active.leased > 0).count() as u64;
        let mut workers: Vec<String> = self.workers.values().map(|worker| worker.instance.clone()).collect();
        workers.sort_unstable();
        Response::Status {
            incoming: counts.messages.saturating_sub(counts.hold + counts.deferred + active),
            active,
            deferred: counts.deferred,
            hold: counts.hold,
            workers,
        }
    }

    fn list(&self, after: Option<QueueId>, limit: u32) -> Result<Response, queue_store::IndexError> {
        let limit = (limit as usize).clamp(1, PAGE);
        let found = self.store.messages(after, limit + 1)?;
        let ids: Vec<_> = found.iter().take(limit).map(|(id, _)| *id).collect();
        let mut messages = Vec::new();
        let mut octets = 0;
        for ((id, state), recipients) in found.iter().zip(self.store.recipients_of(&ids, RECIPIENTS)?) {
            let listed = self.listed(*id, state, recipients);
            octets += 200 + listed.recipients.iter().map(weight).sum::<usize>();
            if octets > PAGE_OCTETS && !messages.is_empty() {
                break;
            }
            messages.push(listed);
        }
        let more = messages.len() < found.len();
        Ok(Response::Page { messages, more })
    }

    fn listed(&self, id: QueueId, state: &MessageState, recipients: Vec<RecipientState>) -> Listed {
        let leased = self.messages.get(&id).is_some_and(|active| active.leased > 0);
        let queue = match state {
            MessageState { corrupt: true, .. } => QueueName::Corrupt,
            MessageState { hold: true, .. } => QueueName::Hold,
            _ if leased => QueueName::Active,
            MessageState { deferred: true, .. } => QueueName::Deferred,
            _ => QueueName::Incoming,
        };
        let shown = u32::try_from(recipients.len()).unwrap_or(u32::MAX);
        Listed {
            id,
            queue,
            arrival: state.arrival,
            size: state.size,
            sender: state.sender.clone(),
            recipients: recipients.into_iter().map(listed_recipient).collect(),
            more_recipients: state.open.saturating_sub(shown),
        }
    }

    fn show(&mut self, id: QueueId, reply: Reply) {
        let shown = self.store.message(id).ok().flatten().and_then(|state| {
            let recipients = self.store.recipients_of(&[id], RECIPIENTS).ok()?.pop()?;
            Some(self.listed(id, &state, recipients))
        });
        let Some(message) = shown else {
            return answer(reply, Ok(Response::Done { count: 0, unknown: vec![id] }));
        };
        let body = self.store.body(id).map_err(|error| error.to_string());
        let opened = body.and_then(|body| match body {
            Body::File(file, length) => Ok((file, length)),
            Body::Octets(octets) => {
                let length = octets.len() as u64;
                mail_posix::memfd::sealed(&octets).map(|file| (file, length)).map_err(|error| error.to_string())
            }
        });
        match opened {
            Ok((mut file, length)) => {
                // Readers begin at the beginning.
                let _ = std::io::Seek::rewind(&mut file).and_then(|()| file.flush());
                let _ = reply.send((Response::Message { message: Box::new(message), length }, Some(file)));
            }
            Err(text) => {
                let _ = reply.send((Response::Failed { text }, None));
            }
        }
    }

    fn flush(&mut self, what: Selection, reply: Reply) {
        self.scheduler.revive((self.now)());
        match what {
            Selection::All => self.flush_page(Flush { after: None, site: None, count: 0, reply }),
            Selection::Ids(ids) => {
                let mut count = 0;
                let mut unknown = Vec::new();
                for id in ids {
                    match self.store.message(id) {
                        Ok(Some(state)) => count += u64::from(!state.hold && self.flush_message(id, None)),
                        _ => unknown.push(id),
                    }
                }
                answer(reply, Ok(Response::Done { count, unknown }));
            }
        }
    }

    /// One step of a flush; the next is an event, so that mail goes on between them.
    pub(super) fn flush_page(&mut self, mut flush: Flush) {
        let page = match self.store.messages(flush.after, FLUSH_STEP) {
            Ok(page) => page,
            Err(error) => return answer(flush.reply, Err(error)),
        };
        for (id, state) in &page {
            if !state.hold && !state.corrupt && self.flush_message(*id, flush.site.as_deref()) {
                flush.count += 1;
            }
        }
        match page.last() {
            Some((id, _)) if page.len() == FLUSH_STEP => {
                flush.after = Some(*id);
                // The core outlives its own channel.
                let _ = self.to_self.send(Event::FlushFrom(flush));
            }
            _ => answer(flush.reply, Ok(Response::Done { count: flush.count, unknown: Vec::new() })),
        }
    }

    /// Makes the recipients of a message that wait due now; whether there were any.
    fn flush_message(&mut self, id: QueueId, site: Option<&str>) -> bool {
        let now = (self.now)();
        let mut any = false;
        for (number, state) in self.store.recipients(id, 0, usize::MAX).unwrap_or_default() {
            let wanted = site.is_none_or(|site| is_for_site(&state, site));
            if state.report.is_some() || !wanted || self.leased.contains_key(&(id, number)) {
                continue;
            }
            if site.is_some() {
                self.scheduler.revive_hop(&state.hop, now);
            }
            if state.next > now && matches!(self.store.reschedule(id, number, None, Some(now)), Ok(true)) {
                let class = if state.attempts > 0 { Class::Deferred } else { Class::Incoming };
                self.scheduler.due(&state.hop, class, now, now);
                any = true;
            }
        }
        any
    }

    fn change(&mut self, kind: Kind, what: Selection, reply: Reply) {
        let mut ids = Vec::new();
        let mut unknown = Vec::new();
        match what {
            Selection::All => {
                let mut after = None;
                while let Ok(page) = self.store.messages(after, 1000) {
                    let Some((last, _)) = page.last() else { break };
                    after = Some(*last);
                    // postsuper -H ALL and -h ALL touch what they change.
                    ids.extend(page.iter().filter(|(_, state)| kind.changes(state)).map(|(id, _)| *id));
                }
            }
            Selection::Ids(asked) => {
                for id in asked {
                    match self.store.message(id) {
                        Ok(Some(state)) if kind.changes(&state) => ids.push(id),
                        Ok(Some(_)) => {}
                        _ => unknown.push(id),
                    }
                }
            }
        }
        let waiting = Arc::new(Waiting {
            left: AtomicUsize::new(ids.len() + 1),
            reply: Mutex::new(Some(reply)),
            count: ids.len() as u64,
            unknown,
            failed: Mutex::new(None),
        });
        for id in ids {
            self.change_or_wait(kind, id, &waiting);
        }
        waiting.done(None);
    }

    fn change_or_wait(&mut self, kind: Kind, id: QueueId, waiting: &Arc<Waiting>) {
        match self.messages.get_mut(&id) {
            // What is leased first gets its outcome; then the change is made.
            Some(active) if active.leased > 0 || active.reporting => {
                active.pending.push(kind);
                waiting.done(None);
            }
            _ => self.change_now(kind, id, Some(waiting.clone())),
        }
    }

    pub(super) fn change_now(&mut self, kind: Kind, id: QueueId, waiting: Option<Arc<Waiting>>) {
        for (number, state) in self.store.recipients(id, 0, usize::MAX).unwrap_or_default() {
            self.scheduler.withdraw(&state.hop, id, number);
        }
        let change = Change { id, at: (self.now)() };
        let op = match kind {
            Kind::Hold => Op::Hold(change),
            Kind::Release => Op::Release(change),
            Kind::Requeue => Op::Requeue(change),
            Kind::Delete => Op::Delete(change),
            Kind::Expire { .. } => return self.expire(id, waiting),
        };
        let events = self.to_self.clone();
        self.store.submit(vec![op], move |answers| {
            let _ = events.send(Event::Changed(Changed { kind, id, answers, waiting }));
        });
    }

    /// Ends what is open of a message as its last lifetime would: it goes back to the sender with the reason why it waited.
    fn expire(&mut self, id: QueueId, waiting: Option<Arc<Waiting>>) {
        let ends = |(number, state): (u32, RecipientState)| {
            let (status, text) = match &state.last {
                Some(last) => (last.status, last.text.clone()),
                None => (None, "message is administratively expired".to_owned()),
            };
            let status = status.unwrap_or(EnhancedStatus::of(4, 7, 0));
            delivery::Outcome { fate: Fate::Bounced, status, text, ..no_outcome(id, number, &state) }
        };
        let open = self.store.recipients(id, 0, usize::MAX).unwrap_or_default();
        let open = open
            .into_iter()
            .filter(|(number, state)| state.report.is_none() && !self.recording.contains(&(id, *number)));
        let outcomes: Vec<_> = open.map(ends).collect();
        if outcomes.is_empty() {
            waiting.inspect(|waiting| waiting.done(None));
            return;
        }
        let sender = self.store.message(id).ok().flatten().map(|message| message.sender.to_string());
        let from = sender.unwrap_or_default();
        let line = decision::Event::Expired { from: &from, status: "force-expired" };
        let record = decision::Record::new(&self.settings.idents.qmgr, decision::Stage::Queue, line).about(id);
        self.log.record(&decision::Record { rule: Some("operator"), ..record });
        if let Some(before) = waiting.and_then(|waiting| self.expiring.insert(id, waiting)) {
            before.done(None);
        }
        // In memory, so that the report finds its envelope.
        let _ = self.envelope(id);
        self.outcomes(None, outcomes);
    }

    pub(super) fn changed(&mut self, changed: Changed) {
        let Changed { kind, id, answers, waiting } = changed;
        let failure = answers.err().map(|refusal| refusal.to_string());
        if failure.is_none() {
            let what = match kind {
                Kind::Hold => "placed on hold",
                Kind::Release => "released from hold",
                Kind::Requeue => "requeued",
                Kind::Delete => "removed",
                Kind::Expire { .. } => "expired",
            };
            let line = decision::Event::Text(what);
            let ident = &self.settings.idents.qmgr;
            let record = decision::Record::new(ident, decision::Stage::Queue, line).about(id);
            self.log.record(&decision::Record { rule: Some("operator"), ..record });
            self.forget(id);
        }
        let now = (self.now)();
        for (_, state) in self.store.recipients(id, 0, usize::MAX).unwrap_or_default() {
            let class = if state.attempts > 0 { Class::Deferred } else { Class::Incoming };
            self.scheduler.due(&state.hop, class, state.next, now);
        }
        if let Some(waiting) = waiting {
            waiting.done(failure);
        }
    }
}

impl Kind {
    /// Whether there is anything to change.
    fn changes(self, state: &MessageState) -> bool {
        match self {
            Self::Hold => !state.hold,
            Self::Release => state.hold,
            Self::Expire { held } => held || !state.hold,
            Self::Requeue | Self::Delete => true,
        }
    }
}

fn is_for_site(state: &RecipientState, site: &str) -> bool {
    let site = site.trim_start_matches('[').trim_end_matches(']');
    let domain = state.recipient.address.domain().key();
    let hop = state.hop.as_str().rsplit(' ').next().unwrap_or_default();
    let hop = hop.split("]:").next().unwrap_or(hop);
    domain.trim_matches(['[', ']']) == site || hop.trim_matches(['[', ']']) == site
}

fn listed_recipient(state: RecipientState) -> ListedRecipient {
    let (reason, status) = match state.last {
        Some(last) => (Some(last.text), last.status),
        None => (None, None),
    };
    ListedRecipient { address: state.recipient.address, reason, status, next: Some(state.next) }
}

fn weight(recipient: &ListedRecipient) -> usize {
    150 + recipient.reason.as_ref().map_or(0, String::len)
}

fn answer(reply: Reply, response: Result<Response, queue_store::IndexError>) {
    let response = response.unwrap_or_else(|error| Response::Failed { text: error.to_string() });
    // The operator may have gone.
    let _ = reply.send((response, None));
}
