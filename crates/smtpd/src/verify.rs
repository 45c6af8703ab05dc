//! Address verification: the question of `reject_unverified_sender` and `reject_unverified_recipient`.

use std::time::Duration;

use mail_config::Main;
use mail_ipc::intake::Verified;
use mail_policy::VerifiedFact;
use mail_types::{Address, Reply};

use crate::facts::Fetched;
use crate::intake::{Door, RouteView};
use crate::ports::Shared;

/// The least time that queue-manager has for what it knows already.
const AT_ONCE: Duration = Duration::from_secs(1);

impl Door {
    /// Whether mail for an address would be delivered: what is known of it, else what a probe finds out within
    /// `address_verify_poll_count` less one times `address_verify_poll_delay`.
    ///
    /// The address is rewritten and its virtual aliases are followed as for mail; one that became several is good, as Postfix has it.
    pub async fn verified(&self, shared: &Shared, main: &Main, address: &Address) -> VerifiedFact {
        match self.ask_about(shared, main, address).await {
            Ok(Verified::Deliverable) => VerifiedFact::Deliverable,
            Ok(Verified::Undeliverable { text }) => VerifiedFact::Undeliverable(text),
            Ok(Verified::Deferred { text }) => VerifiedFact::Deferred(text),
            Ok(Verified::Unknown) => VerifiedFact::Deferred("Address verification in progress".to_owned()),
            Err(text) => VerifiedFact::Unavailable(text),
        }
    }

    async fn ask_about(&self, shared: &Shared, main: &Main, address: &Address) -> Result<Verified, String> {
        let tables = shared.tables.snapshot();
        let mut fetched = Fetched::default();
        let mut view = RouteView { shared, main, tables: &tables, fetched: &mut fetched, ident: &shared.cleanup };
        let ask = |world: &mail_route::World<'_>| mail_route::rewrite_recipient(world, address, &mut Vec::new());
        let text = |reply: Reply| reply.to_string();
        let recipients = self.route(&mut view, &address.to_string(), ask).await.map_err(text)?;
        match <[Address; 1]>::try_from(recipients) {
            Ok([recipient]) => self.queue.verify(address.clone(), recipient, patience(main)).await,
            Err(_) => Ok(Verified::Deliverable),
        }
    }
}

fn patience(main: &Main) -> Duration {
    let polls = u32::try_from(*main.address_verify_poll_count).unwrap_or(u32::MAX);
    main.address_verify_poll_delay.saturating_mul(polls.saturating_sub(1)).max(AT_ONCE)
}
