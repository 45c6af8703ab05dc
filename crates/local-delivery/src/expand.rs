//! What a local recipient stands for: the members of its alias, as new recipients of the same message, and what is no recipient.
//!
//! Members that are addresses are reported to queue-manager and fare each on their own. Commands, files and mistakes have no address, so
//! they stay with the recipient itself: it becomes a member of its own alias, and takes care of them when its turn comes.

use std::collections::HashSet;
use std::io::{self, Read as _};

use decision::Lookup;
use mail_ipc::delivery::{LeaseRecipient, Member};
use mail_route::{Class, Expansion, Stop, World};
use mail_types::{Address, Sender, SourceLine};

/// An `:include:` in an `:include:` in ...
const DEPTH_MAX: usize = 10;
/// Aliases of aliases expanded at once.
const CHAIN_MAX: usize = 50;
/// The largest `:include:` file in octets.
const INCLUDE_MAX: u64 = 4 * 1024 * 1024;

/// A member of an alias that is no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// `|command`; whether the place where it is written may name commands.
    Command(String, bool),
    /// `/file`; whether the place where it is written may name files.
    File(String, bool),
    /// What is no address.
    Wrong(String),
    /// An `:include:` file that cannot be read, and why.
    Unreadable(String, String),
}

/// An alias, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The members that are addresses.
    pub members: Vec<Address>,
    /// The others.
    pub rest: Vec<Rest>,
    /// The envelope sender of the members' mail, where the list has an owner.
    pub owner: Option<Address>,
    /// The table.
    pub table: String,
    /// The line.
    pub source: SourceLine,
}

/// The alias of a recipient, whatever led to it; none if it has none.
///
/// # Errors
/// [`Stop`] if a table cannot say or another process must be asked first.
pub fn alias(world: &World<'_>, recipient: &Address, lookups: &mut Vec<Lookup>) -> Result<Option<Alias>, Stop> {
    let Some(expansion) = mail_route::alias(world, recipient, &[], lookups)? else { return Ok(None) };
    let Expansion { members, owner, table, source } = expansion;
    let mut alias = Alias { members: Vec::new(), rest: Vec::new(), owner, table, source };
    alias.take(world, members, "alias", 0, lookups)?;
    Ok(Some(alias))
}

impl Alias {
    fn take(
        &mut self,
        world: &World<'_>,
        members: Vec<mail_route::Member>,
        place: &str,
        depth: usize,
        lookups: &mut Vec<Lookup>,
    ) -> Result<(), Stop> {
        let allowed = |list: &[String]| list.iter().any(|word| word == place);
        for member in members {
            match member {
                mail_route::Member::Address(address) => {
                    if !self.members.contains(&address) {
                        self.members.push(address);
                    }
                }
                mail_route::Member::Command(command) => {
                    self.rest.push(Rest::Command(command, allowed(&world.main.allow_mail_to_commands)));
                }
                mail_route::Member::File(path) => {
                    self.rest.push(Rest::File(path, allowed(&world.main.allow_mail_to_files)))
                }
                mail_route::Member::Wrong(text) => self.rest.push(Rest::Wrong(text)),
                mail_route::Member::Include(path) if depth >= DEPTH_MAX => {
                    self.rest.push(Rest::Unreadable(path, "too many :include: files in one another".to_owned()));
                }
                mail_route::Member::Include(path) => match read(&path) {
                    Ok(text) => {
                        let members = mail_route::include(world, &text, lookups)?;
                        self.take(world, members, "include", depth + 1, lookups)?;
                    }
                    Err(error) => self.rest.push(Rest::Unreadable(path, error.to_string())),
                },
            }
        }
        Ok(())
    }

    /// Whether the recipient has something of its own alias to do: what has no address.
    fn keeps(&self, recipient: &Address) -> bool {
        !self.rest.is_empty() && !self.members.contains(recipient)
    }
}

/// All that a recipient's alias leads to on this machine, each address once, as local(8)'s duplicate filter has it.
struct Flat<'a> {
    world: &'a World<'a>,
    members: Vec<Member>,
    aliases: HashSet<Address>,
    leaves: HashSet<Address>,
}

/// The members that take the recipient's place, aliases of this machine among them expanded too; none if it has no alias.
///
/// # Errors
/// [`Stop`] if a table cannot say or another process must be asked first.
pub fn members(
    world: &World<'_>,
    recipient: &LeaseRecipient,
    sender: &Sender,
    lookups: &mut Vec<Lookup>,
) -> Result<Vec<Member>, Stop> {
    let mut flat = Flat { world, members: Vec::new(), aliases: HashSet::new(), leaves: HashSet::new() };
    flat.visit(&recipient.address, &recipient.chain, None, lookups)?;
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
            self.leaf(address, chain, owner);
            return Ok(());
        }
        let class = mail_route::class(self.world, address.domain(), lookups)?.class;
        let alias = if class == Class::Local { alias(self.world, address, lookups)? } else { None };
        let Some(alias) = alias else {
            self.leaf(address, chain, owner);
            return Ok(());
        };
        if !self.aliases.insert(address.clone()) {
            return Ok(());
        }
        let chain = [chain, std::slice::from_ref(address)].concat();
        let owner = alias.owner.as_ref().or(owner);
        for member in &alias.members {
            self.visit(member, &chain, owner, lookups)?;
        }
        if alias.keeps(address) {
            self.leaf(address, &chain, owner);
        }
        Ok(())
    }

    fn leaf(&mut self, address: &Address, chain: &[Address], owner: Option<&Address>) {
        if self.leaves.insert(address.clone()) {
            self.members.push(Member { address: address.clone(), owner: owner.cloned(), chain: chain.to_vec() });
        }
    }
}

/// Reads an `:include:` file: a regular file that everybody who may deliver may read.
fn read(path: &str) -> io::Result<String> {
    if !path.starts_with('/') {
        return Err(io::Error::other("not an absolute path"));
    }
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    file.take(INCLUDE_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > INCLUDE_MAX {
        return Err(io::Error::other("file is too large"));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
