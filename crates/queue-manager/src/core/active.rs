//! Messages in memory: those that something is under way with, and the next ones.

use std::sync::Arc;

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
}
