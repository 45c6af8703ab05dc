//! `smtp_generic_maps`: the message as the next server sees it (generic(5)). Logs, mailq and bounces keep the addresses that it has here.

use std::sync::Arc;

use mail_config::Main;
use mail_config::main_cf::lists::TableRef;
use mail_daemon::lookups::Lookups;
use mail_intake::Rewrites;
use mail_ipc::delivery::{Lease, TransportKind};
use mail_message::header::Header;
use mail_route::{Stop, World};
use mail_types::{Address, Sender};

use crate::generation::Generation;
use crate::job::{Job, Shown};

/// So much content is searched for the end of the header; of a longer one what follows is sent as it is.
const HEADER_MAX: usize = 1024 * 1024;

/// The maps of a transport.
#[must_use]
pub fn maps(main: &Main, kind: TransportKind) -> &[TableRef] {
    if kind == TransportKind::Lmtp { &main.lmtp_generic_maps } else { &main.smtp_generic_maps }
}

/// Rewrites a message for its transport, where that has such maps.
///
/// # Errors
/// Why the mail must wait.
pub async fn apply(lookups: &Lookups, generation: &Generation, main: &Arc<Main>, job: &mut Job) -> Result<(), String> {
    let maps = maps(main, job.lease.destination.kind);
    if maps.is_empty() || job.shown.is_some() {
        return Ok(());
    }
    let header = job.read_header(HEADER_MAX).map_err(|error| format!("the content cannot be read: {error}"))?;
    let shown = generation.decide(lookups, |view| {
        let world = World { config: &generation.config, main, tables: &view.tables, facts: &view.answers };
        shown(&world, maps, &job.lease, &header)
    });
    job.shown = Some(shown.await?);
    Ok(())
}

fn shown(world: &World<'_>, maps: &[TableRef], lease: &Lease, content: &[u8]) -> Result<Shown, Stop> {
    let generic = |address: &Address| mail_route::generic(world, maps, address, &mut Vec::new());
    let sender = match &lease.sender {
        Sender::Null => Sender::Null,
        Sender::Address(address) => Sender::Address(generic(address)?),
    };
    let recipients = lease.recipients.iter().map(|recipient| generic(&recipient.address)).collect::<Result<_, _>>()?;
    let mut rewrites = Rewrites::default();
    for (role, text) in mail_intake::addresses(content) {
        if let Some(next) = mail_route::generic_header(world, maps, &text, &mut Vec::new())? {
            rewrites.insert((role, text), next);
        }
    }
    // A header that has not ended here ends with a whole field.
    let scanned = Header::scan(content);
    let whole = if scanned.body() < content.len() || content.len() < HEADER_MAX {
        content
    } else {
        &content[..scanned.fields().last().map_or(0, |last| last.range().start)]
    };
    let (header, length) = mail_intake::rewrite(whole, &rewrites);
    Ok(Shown { sender, recipients, header, length: length as u64 })
}
