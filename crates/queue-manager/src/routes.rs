//! The routes of a configuration: `mail-route` over tables in this process.

use std::sync::Arc;

use mail_config::{Config, Main};
use mail_ipc::delivery::{Destination, Rule, TransportKind};
use mail_route::{Kind, Question, Routed, Stop, World, reason, transport};
use mail_tables::TableSet;
use mail_types::{Address, EnhancedStatus, Sender};

use crate::asked::Asked;
use crate::core::Router;
use crate::destination::Target;

/// Routes by a configuration and its tables.
pub struct Routes {
    config: Arc<Config>,
    tables: Arc<TableSet>,
    asked: Arc<Asked>,
    /// main.cf as probes see it; none where it says nothing else about them.
    probes: Option<Box<Main>>,
}

impl Routes {
    /// Routes by these; `asked` has the answers of tables that must be waited for.
    #[must_use]
    pub fn new(config: Arc<Config>, tables: Arc<TableSet>, asked: Arc<Asked>) -> Self {
        let probes = for_probes(&config.main).map(Box::new);
        Self { config, tables, asked, probes }
    }

    fn find(&self, main: &Main, sender: &Sender, address: &Address) -> Result<Routed, Stop> {
        let tables = self.tables.snapshot();
        let facts: &Asked = &self.asked;
        let world = World { config: &self.config, main, tables: &tables, facts };
        transport(&world, sender, address, &mut Vec::new())
    }

    fn target(&self, main: &Main, sender: &Sender, address: &Address) -> Target {
        match self.find(main, sender, address) {
            Ok(routed) => target(routed),
            Err(Stop::Missing(Question::Table(query))) => {
                self.asked.ask(query);
                Target::Asked
            }
            // A table that cannot say defers: never "unknown".
            Err(_) => Target::Retry(EnhancedStatus::of(4, 3, 0), "address resolver failure".to_owned()),
        }
    }
}

impl Router for Routes {
    fn route(&self, sender: &Sender, address: &Address) -> Target {
        self.target(&self.config.main, sender, address)
    }

    fn probe_route(&self, sender: &Sender, address: &Address) -> Target {
        self.target(self.probes.as_deref().unwrap_or(&self.config.main), sender, address)
    }

    fn rule(&self, sender: &Sender, address: &Address) -> Option<Rule> {
        let routed = self.find(&self.config.main, sender, address).ok()?;
        Some(Rule { name: routed.rule.to_owned(), source: routed.source })
    }
}

/// main.cf with the routes of probes in the place of those of mail; none where they are the same.
fn for_probes(main: &Main) -> Option<Main> {
    macro_rules! written {
        ($($field:ident)+) => { false $(|| main.$field.is_written())+ };
    }
    let other = written!(
        address_verify_transport_maps address_verify_local_transport address_verify_virtual_transport
        address_verify_relay_transport address_verify_default_transport address_verify_relayhost
        address_verify_sender_dependent_relayhost_maps address_verify_sender_dependent_default_transport_maps
    );
    if !other {
        return None;
    }
    let mut probes = main.clone();
    probes.transport_maps = main.address_verify_transport_maps.clone();
    probes.local_transport = main.address_verify_local_transport.clone();
    probes.virtual_transport = main.address_verify_virtual_transport.clone();
    probes.relay_transport = main.address_verify_relay_transport.clone();
    probes.default_transport = main.address_verify_default_transport.clone();
    probes.relayhost = main.address_verify_relayhost.clone();
    probes.sender_dependent_relayhost_maps = main.address_verify_sender_dependent_relayhost_maps.clone();
    probes.sender_dependent_default_transport_maps =
        main.address_verify_sender_dependent_default_transport_maps.clone();
    Some(probes)
}

fn target(routed: Routed) -> Target {
    let kind = match routed.kind {
        Kind::Local => TransportKind::Local,
        Kind::Virtual => TransportKind::Virtual,
        Kind::Mailbox => TransportKind::Mailbox,
        Kind::Smtp => TransportKind::Smtp,
        Kind::Lmtp => TransportKind::Lmtp,
        Kind::Discard => return Target::Discard(routed.nexthop),
        Kind::Error(text) => {
            let (status, text) = reason(&text, EnhancedStatus::of(5, 0, 0));
            return Target::Error(status, text);
        }
        Kind::Retry(text) => {
            let (status, text) = reason(&text, EnhancedStatus::of(4, 0, 0));
            return Target::Retry(status, text);
        }
    };
    Target::Worker(Destination { transport: routed.transport, kind, nexthop: routed.nexthop })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_may_begin_with_its_status() {
        let otherwise = EnhancedStatus::of(5, 0, 0);
        let of = |text| reason(text, otherwise);
        assert_eq!(of("5.1.1 no such user"), (EnhancedStatus::of(5, 1, 1), "no such user".to_owned()));
        assert_eq!(of("4.1.1 no"), (EnhancedStatus::of(5, 1, 1), "no".to_owned()), "an error is permanent");
        assert_eq!(of("mail here is not wanted"), (otherwise, "mail here is not wanted".to_owned()));
    }
}
