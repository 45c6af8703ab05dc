//! Messages in memory: those that something is under way with, and the next ones.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use decision::{Event as Line, Record, Stage};
use mail_types::{Envelope, QueueId, UnixTime};
use queue_store::LoadError;

use super::{Core, operators};

/// A message in memory, because something is under way with it.
pub(super) struct Active {
    pub envelope: Arc<Envelope>,
    pub since: UnixTime,
    pub leased: u32,
    /// The configuration that its routes were found with.
    pub routed: u64,
    pub report_due: bool,
    pub warn_due: bool,
    /// The report was handed to the store and is not answered.
    pub reporting: bool,
    pub content: Option<Arc<Vec<u8>>>,
    /// Operators' changes that wait for the outcomes.
    pub pending: Vec<operators::Kind>,
}

/// So many messages are held ready before anybody asks for them; others are read again when their turn comes, and cost no memory until then.
pub(super) const AHEAD: usize = 2_000;
/// One that nobody has asked for in so long is among the others: its destination is dead or busy.
const UNASKED: Duration = Duration::from_secs(2);
/// How often such messages are looked for.
pub(super) const TIDY: Duration = Duration::from_secs(1);
/// So many of them at once leave enough freed memory behind to be worth giving back.
const MANY: usize = 500;

impl Active {
    /// Whether it holds what is nowhere else.
    fn is_needed(&self) -> bool {
        let Self { leased, report_due, warn_due, reporting, pending, .. } = self;
        *leased > 0 || *report_due || *warn_due || *reporting || !pending.is_empty()
    }
}

impl Core {
    /// Takes a message into memory.
    pub(super) fn activate(&mut self, id: QueueId, envelope: Arc<Envelope>, routed: u64) {
        let nrcpt = match self.store.message(id) {
            Ok(Some(message)) => message.open,
            _ => u32::try_from(envelope.recipients.len()).unwrap_or(u32::MAX),
        };
        if envelope.purpose.is_verification() {
            self.asking.insert(id);
        }
        let from = envelope.sender.to_string();
        let line = Line::Active { from: &from, size: envelope.size, nrcpt };
        self.log.record(&Record::new(&self.settings.idents.qmgr, Stage::Queue, line).about(id));
        let active = Active {
            envelope,
            since: (self.now)(),
            leased: 0,
            routed,
            report_due: false,
            warn_due: false,
            reporting: false,
            content: None,
            pending: Vec::new(),
        };
        self.messages.insert(id, active);
    }

    /// The envelope of a message, from memory or from the log.
    pub(super) fn envelope(&mut self, id: QueueId) -> Result<Arc<Envelope>, LoadError> {
        if let Some(active) = self.messages.get(&id) {
            return Ok(active.envelope.clone());
        }
        let loaded = self.store.load(id)?;
        self.activate(id, loaded.envelope.clone(), 0);
        Ok(loaded.envelope)
    }

    /// Puts a message out of memory.
    pub(super) fn forget(&mut self, id: QueueId) {
        if let Some(content) = self.messages.remove(&id).and_then(|active| active.content) {
            self.cached = self.cached.saturating_sub(content.len());
        }
    }

    /// Puts messages out of memory that nobody asks for; now and then.
    pub(super) fn forget_unasked(&mut self, now: UnixTime) {
        if now.since(self.tidied) < TIDY {
            return;
        }
        self.tidied = now;
        // Whoever is told that an end is on disk says so in the log, of a message in memory.
        let ending: HashSet<QueueId> = self.recording.iter().map(|(id, _)| *id).collect();
        let unasked = self.messages.iter().filter(|(id, active)| {
            let is_plain = active.envelope.purpose.is_plain();
            now.since(active.since) >= UNASKED && is_plain && !active.is_needed() && !ending.contains(id)
        });
        let unasked: Vec<QueueId> = unasked.map(|(id, _)| *id).collect();
        unasked.iter().for_each(|id| self.forget(*id));
        if self.messages.capacity() > 4 * self.messages.len() {
            self.messages.shrink_to(2 * self.messages.len());
        }
        if unasked.len() >= MANY {
            mail_posix::memory::give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use mail_daemon::Log;
    use mail_types::{Address, Body, Client, DsnOptions, Purpose, Sender};
    use queue_store::{Options, Store};

    use super::*;
    use crate::core::Router;
    use crate::destination::Target;
    use crate::settings::Settings;

    struct Nowhere;

    impl Router for Nowhere {
        fn route(&self, _: &Sender, _: &Address) -> Target {
            Target::Asked
        }
    }

    fn envelope() -> Arc<Envelope> {
        Arc::new(Envelope {
            sender: Sender::Null,
            recipients: Vec::new(),
            arrival: UnixTime(0),
            size: 0,
            body: Body::SevenBit,
            smtputf8: false,
            dsn: DsnOptions::default(),
            message_id: None,
            client: Client::default(),
            purpose: Purpose::Deliver,
        })
    }

    #[test]
    fn a_message_that_nobody_asks_for_leaves_memory_and_one_that_is_leased_or_ending_does_not() {
        let dir = tempfile::tempdir().expect("directory");
        let (store, recovery) = Store::open(dir.path(), Options::default()).expect("open");
        let (store, router) = (Arc::new(store), Arc::new(Nowhere));
        let (mut core, _events) = Core::new(store, &recovery, Settings::default(), router, Log::nowhere());
        let ids: Vec<QueueId> =
            (1..5).map(|serial| QueueId::new(1_790_000_000, 0, serial).expect("in range")).collect();
        ids.iter().for_each(|id| core.activate(*id, envelope(), 1));
        core.messages.get_mut(&ids[1]).expect("active").leased = 1;
        core.messages.get_mut(&ids[2]).expect("active").report_due = true;
        core.recording.insert((ids[3], 0));
        let now = (core.now)();
        core.forget_unasked(now);
        assert_eq!(core.messages.len(), 4, "not yet");
        core.forget_unasked(now.after(2 * UNASKED));
        let kept = |id: &QueueId| core.messages.contains_key(id);
        assert_eq!(ids.iter().map(kept).collect::<Vec<_>>(), [false, true, true, true]);
    }
}
