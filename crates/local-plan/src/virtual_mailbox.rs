//! Mailboxes of `virtual_mailbox_maps`, as virtual(8) finds them.

use mail_route::{Stop, World};
use mail_tables::TableRef;
use mail_tables::address::{Delimiters, Search, map_keys, search};
use mail_types::{Address, Octets};

use crate::job::Owner;
use crate::route::{Place, mbox};

/// What virtual(8) says about a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Virtual {
    /// Its mailbox.
    Place(Box<Place>),
    /// It is in no map.
    Unknown,
    /// The configuration cannot be used; the text is for the log.
    Wrong(String),
}

/// The mailbox of a recipient.
///
/// # Errors
/// [`Stop`] if a table cannot say or another process must be asked first.
pub fn find(world: &World<'_>, address: &Address) -> Result<Virtual, Stop> {
    let main = world.main;
    let Some(path) = value(world, &main.virtual_mailbox_maps, address)? else { return Ok(Virtual::Unknown) };
    let Some(base) = main.virtual_mailbox_base.as_ref() else {
        return Ok(Virtual::Wrong("virtual_mailbox_base is empty".to_owned()));
    };
    if path.split('/').any(|part| part == "..") {
        return Ok(Virtual::Wrong(format!("mailbox {path} leaves virtual_mailbox_base")));
    }
    let number = |tables, name| -> Result<Result<u32, Virtual>, Stop> {
        let text = value(world, tables, address)?;
        let number = text.as_deref().and_then(|text| text.trim().parse::<u32>().ok());
        Ok(number.ok_or_else(|| Virtual::Wrong(format!("no number for {address} in {name}"))))
    };
    let uid = match number(&main.virtual_uid_maps, "virtual_uid_maps")? {
        Ok(uid) if u64::from(uid) >= *main.virtual_minimum_uid => uid,
        Ok(uid) => return Ok(Virtual::Wrong(format!("uid {uid} is below virtual_minimum_uid"))),
        Err(wrong) => return Ok(wrong),
    };
    let gid = match number(&main.virtual_gid_maps, "virtual_gid_maps")? {
        Ok(gid) => gid,
        Err(wrong) => return Ok(wrong),
    };
    let full = Octets::new(format!("{}/{path}", base.display()));
    let size_limit = *main.virtual_mailbox_limit;
    let target = match full.as_bytes().strip_suffix(b"/") {
        Some(directory) => crate::job::Target::Maildir { path: Octets::new(directory), size_limit },
        None => mbox(full.clone(), size_limit, &main.virtual_mailbox_lock, main, uid),
    };
    let owner = Owner::Virtual { uid, gid };
    Ok(Virtual::Place(Box::new(Place { owner, target, forward_files: Vec::new(), login: address.to_string() })))
}

fn value(world: &World<'_>, tables: &[TableRef], address: &Address) -> Result<Option<String>, Stop> {
    let keys = map_keys(address, Delimiters::of(world.main), false);
    match search(tables, &keys, world.tables, world.facts.remote()) {
        Search::Found { found, .. } => Ok(Some(found.value)),
        Search::NotFound => Ok(None),
        Search::Temporary(why) => Err(Stop::Temporary(why)),
        Search::Missing(query) => Err(Stop::Missing(mail_route::Question::Table(query))),
    }
}
