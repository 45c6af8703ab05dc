//! What a local recipient stands for: the members of its alias or forward file, as new recipients of the same message, and what is no recipient.
//!
//! Members that are addresses are reported to queue-manager and fare each on their own. Commands, files and mistakes have no address: each becomes
//! a recipient with the address of its list and its number in it ([`Member::part`]), so that each has its own record too.

use std::collections::HashSet;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use decision::Lookup;
use mail_ipc::delivery::{LeaseRecipient, Member};
use mail_route::{Class, Expansion, Stop, World};
use mail_tables::address::Delimiters;
use mail_tables::aliases;
use mail_types::{Address, Sender, SourceLine};
use rustix::fs::{Mode, OFlags};

use crate::forward::Listed;

/// An `:include:` in an `:include:` in ...
const DEPTH_MAX: usize = 10;
/// Aliases of aliases expanded at once.
const CHAIN_MAX: usize = 50;
/// The largest `:include:` file in octets.
const INCLUDE_MAX: u64 = 4 * 1024 * 1024;

/// A member of a list that is no address, and with whose rights it is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// What it is.
    pub what: What,
    /// As whom.
    pub rights: Rights,
}

/// A member of a list that is no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// `|command`; whether the place where it is written may name commands.
    Command(String, bool),
    /// `/file`; whether the place where it is written may name files.
    File(String, bool),
    /// What is no address.
    Wrong(String),
    /// An `:include:` file that cannot be read, and why.
    Unreadable(String, String),
}

/// Whose rights a command or file is given: local(8), "delivery rights".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Those of the owner of the alias or `:include:` file; of root: `default_privs`.
    OwnerOfFile(u32),
    /// Those of the user whose forward file it is.
    User,
}

/// A list, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// The members that are addresses.
    pub members: Vec<Address>,
    /// The others.
    pub rest: Vec<Rest>,
    /// The envelope sender of the members' mail, where the list has an owner.
    pub owner: Option<Address>,
    /// The table, or the kind of file.
    pub table: String,
    /// The line, or the file.
    pub source: SourceLine,
}

/// The alias of a recipient, whatever led to it; none if it has none.
///
/// # Errors
/// [`Stop`] if a table cannot say or another process must be asked first.
pub fn alias(world: &World<'_>, recipient: &Address, lookups: &mut Vec<Lookup>) -> Result<Option<List>, Stop> {
    let Some(expansion) = mail_route::alias(world, recipient, &[], lookups)? else { return Ok(None) };
    let Expansion { members, unmatched, owner, table, source } = expansion;
    let has_rest = members.iter().any(|member| !matches!(member, mail_route::Member::Address(_)));
    let uid = if has_rest { owner_of(&source)? } else { 0 };
    let mut list = List { members: Vec::new(), rest: Vec::new(), owner, table, source };
    list.take(world, members, Written { place: "alias", uid, depth: 0, unmatched: unmatched.as_deref() }, lookups)?;
    Ok(Some(list))
}

/// What a recipient's forward file lists. An extension that is in the name of the file is matched by it, so it is not passed on.
///
/// # Errors
/// [`Stop`] if a table cannot say or another process must be asked first.
pub fn forward(
    world: &World<'_>,
    recipient: &Address,
    path: &str,
    listed: &[Listed],
    lookups: &mut Vec<Lookup>,
) -> Result<List, Stop> {
    let (user, extension) = Delimiters::of(world.main).split(recipient.local());
    let unmatched = extension.filter(|extension| !path.ends_with(extension)).map(|_| &recipient.local()[user.len()..]);
    let source = SourceLine::new(Arc::from(path), 0);
    let mut list = List { members: Vec::new(), rest: Vec::new(), owner: None, table: "forward_path".into(), source };
    let place = |included: bool| if included { "include" } else { "forward" };
    for one in listed {
        let what = match one {
            Listed::Address(text) => {
                let member = aliases::Member::Address(text.clone());
                let members = mail_route::members(world, "forward", vec![member], unmatched, lookups)?;
                list.take(world, members, Written { place: "forward", uid: 0, depth: 0, unmatched: None }, lookups)?;
                continue;
            }
            Listed::Command { command, included } => {
                What::Command(command.clone(), allowed(&world.main.allow_mail_to_commands, place(*included)))
            }
            Listed::File { path, included } => {
                What::File(path.clone(), allowed(&world.main.allow_mail_to_files, place(*included)))
            }
            Listed::Unreadable { path, why } => What::Unreadable(path.clone(), why.clone()),
        };
        list.add(what, Rights::User);
    }
    Ok(list)
}

/// The owner of the file that states something; what stands in main.cf is root's.
fn owner_of(source: &SourceLine) -> Result<u32, Stop> {
    if !source.file.starts_with('/') {
        return Ok(0);
    }
    let metadata = std::fs::metadata(&*source.file);
    metadata.map(|metadata| metadata.uid()).map_err(|error| {
        let text = format!("the owner of {} is unknown: {error}", source.file);
        Stop::Temporary(text)
    })
}

fn allowed(list: &[String], place: &str) -> bool {
    list.iter().any(|word| word == place)
}

/// Where members are written.
#[derive(Clone, Copy)]
struct Written<'a> {
    place: &'static str,
    uid: u32,
    depth: usize,
    unmatched: Option<&'a str>,
}

impl List {
    fn take(
        &mut self,
        world: &World<'_>,
        members: Vec<mail_route::Member>,
        written: Written<'_>,
        lookups: &mut Vec<Lookup>,
    ) -> Result<(), Stop> {
        let rights = Rights::OwnerOfFile(written.uid);
        for member in members {
            let what = match member {
                mail_route::Member::Address(address) => {
                    if !self.members.contains(&address) {
                        self.members.push(address);
                    }
                    continue;
                }
                mail_route::Member::Command(command) => {
                    What::Command(command, allowed(&world.main.allow_mail_to_commands, written.place))
                }
                mail_route::Member::File(path) => {
                    What::File(path, allowed(&world.main.allow_mail_to_files, written.place))
                }
                mail_route::Member::Wrong(text) => What::Wrong(text),
                mail_route::Member::Include(path) if written.depth >= DEPTH_MAX => {
                    What::Unreadable(path, "too many :include: files in one another".to_owned())
                }
                mail_route::Member::Include(path) => match read(&path) {
                    Ok((text, owner)) => {
                        let members = mail_route::include(world, &text, written.unmatched, lookups)?;
                        let uid = if written.uid == 0 { owner } else { written.uid };
                        self.take(
                            world,
                            members,
                            Written { place: "include", uid, depth: written.depth + 1, ..written },
                            lookups,
                        )?;
                        continue;
                    }
                    Err(error) => What::Unreadable(path, error.to_string()),
                },
            };
            self.add(what, rights);
        }
        Ok(())
    }

    /// Each once, as local(8)'s duplicate filter has it.
    fn add(&mut self, what: What, rights: Rights) {
        let rest = Rest { what, rights };
        if !self.rest.contains(&rest) {
            self.rest.push(rest);
        }
    }

    /// A list whose members are addresses, or mistakes.
    pub(crate) fn of_addresses(members: Vec<mail_route::Member>, table: &str, source: SourceLine) -> Self {
        let mut list = Self { members: Vec::new(), rest: Vec::new(), owner: None, table: table.to_owned(), source };
        for member in members {
            use mail_route::Member::{Address, Command, File, Include, Wrong};
            match member {
                Address(address) => list.members.push(address),
                Wrong(text) | Include(text) | Command(text) | File(text) => list.add(What::Wrong(text), Rights::User),
            }
        }
        list
    }

    /// The one thing without address that it stands for, where there is nothing else.
    #[must_use]
    pub fn only_rest(&self) -> Option<&Rest> {
        match (&self.members[..], &self.rest[..]) {
            ([], [only]) => Some(only),
            _ => None,
        }
    }
}

/// All that a recipient's list leads to on this machine, each address once, as local(8)'s duplicate filter has it.
struct Flat<'a> {
    world: &'a World<'a>,
    members: Vec<Member>,
    aliases: HashSet<Address>,
    leaves: HashSet<(Address, Option<u32>)>,
}

/// The members that take the place of a recipient that has this list, aliases of this machine among them expanded too.
///
/// # Errors
/// [`Stop`] if a table cannot say or another process must be asked first.
pub fn members(
    world: &World<'_>,
    recipient: &LeaseRecipient,
    list: &List,
    sender: &Sender,
    lookups: &mut Vec<Lookup>,
) -> Result<Vec<Member>, Stop> {
    let mut flat = Flat { world, members: Vec::new(), aliases: HashSet::new(), leaves: HashSet::new() };
    flat.expand(&recipient.address, list, &recipient.chain, None, lookups)?;
    let mut members = flat.members;
    if *sender == Sender::Null {
        // Bounces keep their null sender: they must never cause another message.
        members.iter_mut().for_each(|member| member.owner = None);
    }
    Ok(members)
}

impl Flat<'_> {
    fn visit(
        &mut self,
        address: &Address,
        chain: &[Address],
        owner: Option<&Address>,
        lookups: &mut Vec<Lookup>,
    ) -> Result<(), Stop> {
        // A name in its own alias is a mailbox; an alias too deep is expanded when its turn comes.
        if chain.contains(address) || chain.len() > CHAIN_MAX {
            self.leaf(address, chain, owner, None);
            return Ok(());
        }
        let class = mail_route::class(self.world, address.domain(), lookups)?.class;
        let list = if class == Class::Local { alias(self.world, address, lookups)? } else { None };
        match list {
            Some(list) => self.expand(address, &list, chain, owner, lookups),
            None => {
                self.leaf(address, chain, owner, None);
                Ok(())
            }
        }
    }

    fn expand(
        &mut self,
        address: &Address,
        list: &List,
        chain: &[Address],
        owner: Option<&Address>,
        lookups: &mut Vec<Lookup>,
    ) -> Result<(), Stop> {
        if !self.aliases.insert(address.clone()) {
            return Ok(());
        }
        let chain = [chain, std::slice::from_ref(address)].concat();
        let owner = list.owner.as_ref().or(owner);
        for member in &list.members {
            self.visit(member, &chain, owner, lookups)?;
        }
        for number in (0..).take(list.rest.len()) {
            self.leaf(address, &chain, owner, Some(number));
        }
        Ok(())
    }

    fn leaf(&mut self, address: &Address, chain: &[Address], owner: Option<&Address>, part: Option<u32>) {
        if self.leaves.insert((address.clone(), part)) {
            let (address, owner) = (address.clone(), owner.cloned());
            self.members.push(Member { address, owner, chain: chain.to_vec(), part });
        }
    }
}

/// Reads an `:include:` file, a regular file that everybody who may deliver may read; its owner too.
fn read(path: &str) -> io::Result<(String, u32)> {
    if !path.starts_with('/') {
        return Err(io::Error::other("not an absolute path"));
    }
    // A FIFO would be waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(io::Error::other("world writable"));
    }
    let mut text = Vec::new();
    file.take(INCLUDE_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > INCLUDE_MAX {
        return Err(io::Error::other("file is too large"));
    }
    Ok((String::from_utf8_lossy(&text).into_owned(), metadata.uid()))
}
