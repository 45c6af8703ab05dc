//! Messages that only ask: what would become of their recipients is an end for each of them, at the first attempt.
//!
//! `sendmail -bv` ([`Purpose::Verify`]) gets one report when every recipient has its end; `sendmail -v` ([`Purpose::Trace`]) one about the
//! first attempts of mail that is delivered.

use std::time::Duration;

use mail_ipc::delivery;
use mail_types::{Purpose, QueueId, UnixTime};
use queue_store::addresses::{Deliverability, Standing};
use queue_store::{Fate, Op, Outcome, RecipientState, Remote};

use super::Core;
use super::outcomes::{Change, no_outcome};

/// How often those that ask are told that their destination is left alone.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

impl Core {
    /// What is done with a message.
    pub(super) fn purpose(&self, id: QueueId) -> Purpose {
        self.store.message(id).ok().flatten().map(|message| message.purpose).unwrap_or_default()
    }

    /// What an outcome answers to a message that asks; none where the recipient goes on under another name or transport.
    pub(super) fn verified(
        &self,
        outcome: &delivery::Outcome,
        state: &RecipientState,
        purpose: Purpose,
        now: UnixTime,
        change: &mut Change,
    ) -> Option<Op> {
        let result = match &outcome.fate {
            delivery::Fate::Delivered | delivery::Fate::Relayed { .. } => Fate::Deliverable,
            // A probe asks whether the address is good, not whether every member of a list is.
            delivery::Fate::Expanded { members } if purpose == Purpose::Probe && members.len() != 1 => {
                Fate::Deliverable
            }
            delivery::Fate::Bounced | delivery::Fate::Deferred { .. } => Fate::Undeliverable,
            delivery::Fate::Expanded { .. } | delivery::Fate::Redirected { .. } => return None,
        };
        change.report = purpose == Purpose::Verify && self.is_from_somebody(outcome.id);
        if purpose == Purpose::Probe {
            change.found_out = Some(found_out(outcome, state, now));
        }
        let text = match outcome.relay.as_str() {
            "none" | "" => outcome.text.clone(),
            relay => format!("delivery via {relay}: {}", outcome.text),
        };
        let mta = Remote { name: outcome.remote.clone(), diagnostic: outcome.diagnostic.clone() };
        Some(Op::Outcome(Outcome {
            id: outcome.id,
            at: now,
            recipients: vec![(outcome.recipient, state.recipient.address.clone())],
            attempt: outcome.attempt,
            result,
            status: Some(outcome.status),
            text,
            mta: (mta != Remote::default()).then_some(mta),
            report: change.report,
            via: None,
        }))
    }

    /// Whether the sender is still to hear of the first attempt.
    pub(super) fn is_to_be_traced(&self, purpose: Purpose, id: QueueId, state: &RecipientState) -> bool {
        purpose == Purpose::Trace && !state.traced && self.is_from_somebody(id)
    }

    fn is_from_somebody(&self, id: QueueId) -> bool {
        matches!(self.store.message(id), Ok(Some(message)) if message.sender.address().is_some())
    }

    /// Whether the one report that the sender has asked for waits for recipients that were not attempted yet.
    pub(super) fn awaits_first_attempts(&self, id: QueueId, open: &[(u32, RecipientState)]) -> bool {
        let now = (self.now)();
        match self.purpose(id) {
            Purpose::Deliver => false,
            Purpose::Verify | Purpose::Probe => open.iter().any(|(_, state)| state.report.is_none()),
            Purpose::Trace => open.iter().any(|(_, state)| {
                // One that another transport takes over is due at once.
                let deferred = state.attempts > 0 && state.next > now;
                state.report.is_none() && !state.traced && !deferred
            }),
        }
    }

    /// Nobody who only asks waits until a dead destination is tried again: that it is dead is the answer.
    pub(super) fn answer_what_asks_about_the_dead(&mut self, now: UnixTime) {
        if self.asking.is_empty() || now.since(self.looked) < PERIOD {
            return;
        }
        self.looked = now;
        let suspended = self.scheduler.suspended();
        if suspended.is_empty() {
            return;
        }
        for id in self.asking.clone() {
            let waiting = self.store.recipients(id, 0, usize::MAX).unwrap_or_default();
            if waiting.is_empty() {
                self.asking.remove(&id);
            }
            let mut told = Vec::new();
            for (number, state) in waiting {
                let busy = self.leased.contains_key(&(id, number)) || self.recording.contains(&(id, number));
                if let Some((status, why)) = suspended.get(&state.hop).filter(|_| state.report.is_none() && !busy) {
                    self.scheduler.withdraw(&state.hop, id, number);
                    let text = format!("delivery temporarily suspended: {why}");
                    told.push((delivery::Outcome { status: *status, text, ..no_outcome(id, number, &state) }, state));
                }
            }
            if !told.is_empty() {
                self.suspended(id, told);
            }
        }
    }

    fn suspended(&mut self, id: QueueId, told: Vec<(delivery::Outcome, RecipientState)>) {
        // In memory, so that the report finds its envelope.
        let Ok(envelope) = self.envelope(id) else { return };
        for (outcome, state) in &told {
            self.log_here(&self.settings.idents.error, outcome, state, "undeliverable", &envelope);
        }
        self.outcomes(None, told.into_iter().map(|(outcome, _)| outcome).collect());
    }
}

/// What the end of a probe says about the address that it was sent for.
fn found_out(outcome: &delivery::Outcome, state: &RecipientState, at: UnixTime) -> (String, Standing) {
    let is = match outcome.fate {
        delivery::Fate::Bounced => Deliverability::Undeliverable,
        delivery::Fate::Deferred { .. } => Deliverability::Deferred,
        _ => Deliverability::Deliverable,
    };
    let address = state.recipient.original.clone().unwrap_or_else(|| state.recipient.address.to_string());
    (address, Standing { is, at, text: outcome.text.clone() })
}
