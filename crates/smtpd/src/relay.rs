//! The open-relay test at start and reload (DESIGN promise 4).

use mail_policy::relay::open_relay;
use mail_types::{Domain, SourceLine};

use crate::facts::{Fetched, View};
use crate::ports::Shared;

/// Asks every listener that others than this machine can reach whether it would relay for a stranger.
///
/// # Errors
/// Which listener would, for which attempt, and which line lets it through.
pub fn refuse_open_relay(shared: &Shared) -> Result<(), String> {
    let tables = shared.tables.snapshot();
    for listener in shared.config.listeners().iter().filter(|listener| !listener.is_loopback_only()) {
        let Some(port) = shared.ports.get(&listener.service.name) else { continue };
        if *port.main.postrider_allow_open_relay {
            continue;
        }
        let fetched = Fetched::default();
        let view = View { config: &shared.config, main: &port.main, tables: &tables, fetched: &fetched };
        let Ok(own) = Domain::new(&port.main.myhostname) else { continue };
        if let Some(open) = open_relay(&port.plan, &own, &view).into_iter().next() {
            let source = open.reason.as_ref().map_or(listener.service.source.clone(), |reason| reason.source.clone());
            let rule = open.reason.map_or_else(|| "no rule refuses it".to_owned(), |reason| reason.rule);
            return Err(refusal(&source, &port.name, &rule, &open.attempt));
        }
    }
    Ok(())
}

fn refusal(source: &SourceLine, port: &str, rule: &str, attempt: &mail_policy::relay::Attempt) -> String {
    let (client, sender, recipient) = (attempt.client, &attempt.sender, &attempt.recipient);
    format!(
        "{source}: `{port}' would be an open relay ({}): {client} may send from <{sender}> to <{recipient}>: {rule}; \
         correct it, or write `postrider_allow_open_relay = yes'",
        attempt.form
    )
}
