//! The end of a journey on this machine: aliases, users, forward files, mailboxes, with the functions of `local-plan` that local-delivery uses.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use decision::Lookup;
use local_plan::elsewhere::{self, Nobody};
use local_plan::expand::{self, List, Rest, Rights, What};
use local_plan::forward;
use local_plan::job::{Owner, Report, Target};
use local_plan::route::{self, Place as Written};
use local_plan::template::{self, Person};
use local_plan::virtual_mailbox::{self, Virtual};
use mail_ipc::delivery::LeaseRecipient;
use mail_ipc::lookup::PasswdUser;
use mail_route::{Kind, Routed, World};
use mail_tables::address::{Delimiters, Key, Search, search};
use mail_types::{Octets, Sender};

use super::explanation::Place;
use super::journey::Journey;
use super::users::{Found, SUPPOSED};

/// One recipient at local-delivery.
pub struct Local<'j, 'a, 'r> {
    /// The journey.
    pub journey: &'j mut Journey<'a>,
    /// The recipient.
    pub recipient: &'r LeaseRecipient,
    /// The envelope sender of its mail.
    pub sender: &'r Sender,
}

fn bounce(subject: u16, detail: u16, text: impl Into<String>) -> Place {
    Place::Bounce { status: format!("5.{subject}.{detail}"), text: text.into() }
}

fn defer(subject: u16, detail: u16, text: impl Into<String>) -> Place {
    Place::Defer { status: format!("4.{subject}.{detail}"), text: text.into() }
}

impl Local<'_, '_, '_> {
    /// `local`: its alias, else its user.
    pub async fn place(mut self) -> Place {
        let address = self.recipient.address.clone();
        let alias = self.journey.decide(|world, lookups| expand::alias(world, &address, lookups)).await;
        let alias = match alias {
            Ok(alias) => alias,
            Err(why) => return defer(3, 0, format!("table lookup problem: {why}")),
        };
        let seen = self.recipient.chain.iter().filter(|one| **one == self.recipient.address).count();
        match alias {
            Some(alias) if seen == 0 => self.listed(&alias, None).await,
            Some(alias) if seen == 1 && self.recipient.part.is_some() => self.part(&alias, None),
            alias => self.user(seen > usize::from(alias.is_some())).await,
        }
    }

    /// `virtual`: `virtual_mailbox_maps`.
    pub async fn virtual_mailbox(self) -> Place {
        let address = &self.recipient.address;
        let found = self.journey.decide(|world, _| virtual_mailbox::find(world, address)).await;
        match found {
            Ok(Virtual::Place(place)) => shown(&place, "virtual_mailbox_maps", None),
            Ok(Virtual::Unknown) => bounce(1, 1, format!("unknown user: \"{address}\"")),
            Ok(Virtual::Wrong(text)) => defer(3, 5, format!("mail system configuration error: {text}")),
            Err(why) => defer(3, 0, format!("table lookup problem: {why}")),
        }
    }

    /// Our own LMTP listener: Dovecot's userdb.
    pub fn mailbox(self) -> Place {
        let address = &self.recipient.address;
        let characters = self.journey.setting.config.dovecot.settings.recipient_delimiter.as_str();
        let (user, _) = Delimiters::only(characters).split(address.local());
        let name = format!("{user}@{}", address.domain());
        let users = &self.journey.outside.users;
        match users.mail(&name) {
            Found::User(user) => match route::mail_place(&user, rustix::process::geteuid().is_root()) {
                Ok(place) => {
                    let from = format!("userdb ({})", users.who(admission::facts::Database::Mail));
                    shown(&place, &from, Some(format!("250 2.0.0 <{address}> Saved")))
                }
                Err(text) => defer(3, 5, format!("451 4.3.5 <{address}> {text}")),
            },
            Found::Nobody => bounce(1, 1, format!("550 5.1.1 <{address}> User doesn't exist: {address}")),
            Found::Later(text) => defer(3, 0, format!("451 4.3.0 <{address}> {text}")),
        }
    }

    async fn user(&mut self, forwarded: bool) -> Place {
        let main = &self.journey.setting.config.main;
        let names = route::user_names(&self.recipient.address, main);
        for candidate in &names {
            match self.journey.outside.users.passwd(candidate) {
                Found::User(user) => {
                    let extension = self.recipient.address.local().get(candidate.len() + 1..);
                    let address = &self.recipient.address;
                    let person = Person { address, name: &user.name, extension, user: Some(&user) };
                    return self.delivered(person, forwarded).await;
                }
                Found::Nobody => {}
                Found::Later(text) => return defer(3, 0, format!("user lookup error: {text}")),
            }
        }
        let name = names.last().map_or("", String::as_str);
        let extension = self.recipient.address.local().get(name.len() + 1..);
        self.nobody(Person { address: &self.recipient.address, name, extension, user: None }).await
    }

    /// A name that is neither an alias nor a user.
    async fn nobody(&mut self, person: Person<'_>) -> Place {
        let unknown = || bounce(1, 1, format!("unknown user: \"{}\"", person.name));
        if self.recipient.part.is_some() {
            return unknown();
        }
        match self.handed_on(person).await {
            Ok(Some(place)) => return place,
            Ok(None) => {}
            Err(why) => return defer(3, 0, format!("table lookup problem: {why}")),
        }
        let chain = &self.recipient.chain;
        match self.journey.decide(|world, lookups| elsewhere::nobody(world, person, chain, lookups)).await {
            Ok(Nobody::Handed(routed)) => self.elsewhere(&routed).await,
            Ok(Nobody::Instead(list)) => self.listed(&list, None).await,
            Ok(Nobody::Required) => Place::Discard { text: "discarded".to_owned() },
            Ok(Nobody::Unknown) => unknown(),
            Ok(Nobody::Wrong(text)) => defer(3, 5, format!("mail system configuration error: {text}")),
            Err(why) => defer(3, 0, format!("table lookup problem: {why}")),
        }
    }

    /// The place of a user's mail where another transport takes it in place of the mailbox.
    async fn handed_on(&mut self, person: Person<'_>) -> Result<Option<Place>, String> {
        let (name, address) = (person.name.to_lowercase(), &self.recipient.address);
        let in_place = |world: &World<'_>, lookups: &mut Vec<Lookup>| {
            elsewhere::in_place_of_mailbox(world, &name, address, lookups)
        };
        match self.journey.decide(in_place).await? {
            Some(routed) => Ok(Some(self.elsewhere(&routed).await)),
            None => Ok(None),
        }
    }

    async fn elsewhere(&mut self, routed: &Routed) -> Place {
        if routed.kind == Kind::Local {
            let text = format!("mail system configuration error: {} leads back to local delivery", routed.rule);
            return defer(3, 5, text);
        }
        self.note(format!("{} ({}) hands it to {}:{}", routed.rule, routed.source, routed.transport, routed.nexthop));
        self.journey.place(routed, self.recipient, self.sender).await
    }

    async fn delivered(&mut self, person: Person<'_>, forwarded: bool) -> Place {
        let main = &self.journey.setting.config.main;
        let rights = match self.rights_of(person.user) {
            Ok(rights) => rights,
            Err(place) => return place,
        };
        let Some(user) = person.user else { return bounce(1, 1, "unknown user") };
        if !forwarded || self.recipient.part.is_some() {
            let files = match template::forward_files(person, main) {
                Ok(files) => files,
                Err(text) => return defer(3, 5, format!("mail system configuration error: {text}")),
            };
            if let Some(place) = self.forward_file(&files, person, &rights).await {
                return place;
            }
            if self.recipient.part.is_some() {
                return bounce(3, 5, "the forward file that named this command or file is gone");
            }
        }
        match self.handed_on(person).await {
            Ok(Some(place)) => return place,
            Ok(None) => {}
            Err(why) => return defer(3, 0, format!("table lookup problem: {why}")),
        }
        if *main.require_home_directory && user.home.as_bytes().is_empty() {
            return defer(2, 0, format!("cannot access home directory of user {}", user.name));
        }
        match self.mailbox_program(person).await {
            Ok(Some((command, from))) => Place::Command { command, owner: owner(route::owner(&rights)), from },
            Ok(None) => {
                let from = if main.home_mailbox.is_empty() { "mail_spool_directory" } else { "home_mailbox" };
                let source = if main.home_mailbox.is_empty() {
                    &main.mail_spool_directory.source
                } else {
                    &main.home_mailbox.source
                };
                shown(&route::local_place(user, &rights, main), &format!("{from}, {source}"), None)
            }
            Err(place) => place,
        }
    }

    /// What the forward file of a user says; none where there is none, or where the caller may not look.
    async fn forward_file(&mut self, files: &[Octets], person: Person<'_>, rights: &PasswdUser) -> Option<Place> {
        for file in files {
            let path = Path::new(std::ffi::OsStr::from_bytes(file.as_bytes()));
            match std::fs::symlink_metadata(path) {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    let text = format!("{}: no permission to see whether it is there; taken as absent", path.display());
                    self.note(text);
                    return None;
                }
                Err(_) => {}
                Ok(_) if std::fs::File::open(path).is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied) => {
                    let text = format!("{} says where this mail goes, and only its owner may read it", path.display());
                    return Some(Place::Unknown { text });
                }
                Ok(_) => break,
            }
        }
        let wishes = forward::look(files, rights.uid);
        if let Some(warning) = wishes.warning {
            self.note(warning);
        }
        match wishes.report? {
            Report::Forward { path, listed } => {
                let path = path.printable();
                let address = &self.recipient.address;
                let forwarded = |world: &World<'_>, lookups: &mut Vec<Lookup>| {
                    expand::forward(world, address, &path, &listed, lookups)
                };
                Some(match self.journey.decide(forwarded).await {
                    Ok(list) if self.recipient.part.is_some() => self.part(&list, Some(person)),
                    Ok(list) => self.listed(&list, Some(person)).await,
                    Err(why) => defer(3, 0, format!("table lookup problem: {why}")),
                })
            }
            Report::Deferred { status, text } => Some(Place::Defer { status: status.to_string(), text }),
            Report::Bounced { status, text } => Some(Place::Bounce { status: status.to_string(), text }),
            Report::Delivered { .. } => None,
        }
    }

    fn note(&mut self, text: String) {
        if !self.journey.notes.contains(&text) {
            self.journey.notes.push(text);
        }
    }

    fn rights_of(&self, user: Option<&PasswdUser>) -> Result<PasswdUser, Place> {
        match user {
            Some(user) if user.uid != 0 => Ok(user.clone()),
            _ => self.default_privileges(),
        }
    }

    fn default_privileges(&self) -> Result<PasswdUser, Place> {
        let name = self.journey.setting.config.main.default_privs.as_str();
        match self.journey.outside.users.passwd(name) {
            Found::User(user) => Ok(user),
            Found::Nobody => Err(defer(3, 5, format!("unknown user in default_privs: {name}"))),
            Found::Later(text) => Err(defer(3, 0, format!("user lookup error: {text}"))),
        }
    }

    /// The program in the place of the mailbox, and which parameter names it.
    async fn mailbox_program(&mut self, person: Person<'_>) -> Result<Option<(String, String)>, Place> {
        let main = &self.journey.setting.config.main;
        let key = [Key::full(person.name)];
        let find = |world: &World<'_>, _: &mut Vec<Lookup>| match search(
            &main.mailbox_command_maps,
            &key,
            world.tables,
            world.facts.remote(),
        ) {
            Search::Found { found, .. } => Ok(Some((found.value, found.source.to_string()))),
            Search::NotFound => Ok(None),
            Search::Temporary(why) => Err(mail_route::Stop::Temporary(why)),
            Search::Missing(query) => Err(mail_route::Stop::Missing(mail_route::Question::Table(query))),
        };
        let own = self.journey.decide(find).await;
        let own = own.map_err(|why| defer(3, 0, format!("table lookup problem: {why}")))?;
        let (command, source) = own.unwrap_or_else(|| {
            (main.mailbox_command.value.clone(), format!("mailbox_command, {}", main.mailbox_command.source))
        });
        let command = command.trim();
        Ok((!command.is_empty()).then(|| (command.to_owned(), source)))
    }

    async fn listed(&mut self, list: &List, user: Option<Person<'_>>) -> Place {
        if let Some(only) = list.only_rest() {
            return self.rest(only, list, user);
        }
        if list.members.is_empty() && list.rest.is_empty() {
            return bounce(3, 5, format!("alias {} expands to nothing", self.recipient.address.local()));
        }
        let (recipient, sender) = (self.recipient, self.sender);
        let members =
            self.journey.decide(|world, lookups| expand::members(world, recipient, list, sender, lookups)).await;
        match members {
            Ok(members) => Place::List {
                table: list.table.clone(),
                source: place_of(list),
                members: self.journey.members(members, recipient, sender).await,
            },
            Err(why) => defer(3, 0, format!("table lookup problem: {why}")),
        }
    }

    fn part(&self, list: &List, user: Option<Person<'_>>) -> Place {
        let number = self.recipient.part.and_then(|part| usize::try_from(part).ok());
        match number.and_then(|number| list.rest.get(number)) {
            Some(rest) => self.rest(rest, list, user),
            None => bounce(3, 5, format!("{} names this command or file no more", list.source.file)),
        }
    }

    /// What of a list has no address.
    fn rest(&self, rest: &Rest, list: &List, user: Option<Person<'_>>) -> Place {
        let main = &self.journey.setting.config.main;
        let from = place_of(list);
        let rights = || match rest.rights {
            Rights::OwnerOfFile(uid) if uid != 0 => Ok(Owner::Uid { uid }),
            Rights::User => self.rights_of(user.and_then(|person| person.user)).map(|rights| route::owner(&rights)),
            Rights::OwnerOfFile(_) => self.default_privileges().map(|rights| route::owner(&rights)),
        };
        match &rest.what {
            What::Wrong(text) => bounce(1, 3, format!("bad address in {}: {text}", list.source)),
            What::Unreadable(path, why) => defer(3, 5, format!("cannot read :include:{path}: {why}")),
            What::Command(_, false) => bounce(7, 1, "mail to command is restricted"),
            What::File(_, false) => bounce(7, 1, "mail to file is restricted"),
            What::File(path, true) if path == "/dev/null" => {
                Place::Discard { text: "delivered to file: /dev/null".into() }
            }
            What::File(path, true) => match rights() {
                Ok(owner) => {
                    let said = format!("delivered to file: {path}");
                    shown(&route::file_place(path, owner, main), &from, Some(said))
                }
                Err(place) => place,
            },
            What::Command(command, true) => match rights() {
                Ok(who) => Place::Command { command: command.clone(), owner: owner(who), from },
                Err(place) => place,
            },
        }
    }
}

/// Where a list stands: the line, or the file where it is a file of its own.
fn place_of(list: &List) -> String {
    if list.source.line == 0 { list.source.file.to_string() } else { list.source.to_string() }
}

fn owner(owner: Owner) -> String {
    match owner {
        Owner::Caller => "whoever local-delivery runs as".to_owned(),
        Owner::User { uid: SUPPOSED, .. } | Owner::MailUser { uid: SUPPOSED, .. } => "its own uid".to_owned(),
        Owner::Uid { uid } => format!("uid {uid}"),
        Owner::User { uid, gid, .. } | Owner::Virtual { uid, gid } | Owner::MailUser { uid, gid } => {
            format!("uid {uid} gid {gid}")
        }
    }
}

/// A mailbox; `said` is what the log says, where it is not the usual.
fn shown(place: &Written, from: &str, said: Option<String>) -> Place {
    let (owner, from) = (owner(place.owner), from.to_owned());
    let usual = |text: &str| said.clone().unwrap_or_else(|| text.to_owned());
    match &place.target {
        Target::Maildir { path, .. } => {
            Place::Maildir { path: path.printable(), owner, from, said: usual("delivered to maildir") }
        }
        Target::Mbox { path, .. } => {
            Place::Mbox { path: path.printable(), owner, from, said: usual("delivered to mailbox") }
        }
        Target::Command(program) => Place::Command { command: program.command.clone(), owner, from },
        Target::Nothing | Target::Elsewhere => Place::Unknown { text: "nothing is delivered".to_owned() },
    }
}
