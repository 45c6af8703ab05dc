//! Recipients that are lists: aliases and forward files become members; what has no address is carried out here.

use decision::{Event, Lookup, Record, Stage};
use mail_ipc::delivery::{Fate, LeaseRecipient};
use mail_types::{EnhancedStatus, Octets};

use crate::attempt::{End, Tools, Work, end, program, trace};
use crate::expand::{self, List, Rest, Rights, What};
use crate::forward::Listed;
use crate::headers::Scan;
use crate::job::Owner;
use crate::job::Report;
use crate::route::{self, Place};
use crate::template::Person;

/// Octets that the members of one list may take on their way to queue-manager.
const MEMBERS_MAX: usize = 200 * 1024;

impl Tools {
    /// A recipient has a list that was not expanded yet. `user` is whose forward file it is, where it is one.
    pub(crate) async fn listed(
        &self,
        work: &Work,
        recipient: &LeaseRecipient,
        list: &List,
        user: Option<Person<'_>>,
        scan: &Scan,
    ) -> End {
        if let Some(only) = list.only_rest() {
            return self.rest(work, recipient, only, list, user, scan).await;
        }
        if list.members.is_empty() && list.rest.is_empty() {
            return End::bounced(3, 5, format!("alias {} expands to nothing", recipient.address.local()));
        }
        let sender = &work.lease.sender;
        let members =
            self.decide(work, |world, lookups| expand::members(world, recipient, list, sender, lookups)).await;
        let members = match members {
            Ok((members, _)) => members,
            Err(text) => return End::deferred(3, 0, text),
        };
        let octets = |member: &mail_ipc::delivery::Member| {
            let addresses = std::iter::once(&member.address).chain(&member.owner).chain(&member.chain);
            60 + addresses.map(|address| address.to_string().len() + 16).sum::<usize>()
        };
        if members.iter().map(octets).sum::<usize>() > MEMBERS_MAX {
            let name = recipient.address.local();
            return End::deferred(3, 5, format!("alias {name} expands to too many members: {}", members.len()));
        }
        let text = format!("expanded to {} recipients", members.len());
        End { fate: Fate::Expanded { members }, status: EnhancedStatus::of(2, 0, 0), text, login: None }
    }

    /// A recipient stands for one member without address of a list that was expanded.
    pub(crate) async fn part(
        &self,
        work: &Work,
        recipient: &LeaseRecipient,
        list: &List,
        user: Option<Person<'_>>,
        scan: &Scan,
    ) -> End {
        let number = recipient.part.and_then(|part| usize::try_from(part).ok());
        match number.and_then(|number| list.rest.get(number)) {
            Some(rest) => self.rest(work, recipient, rest, list, user, scan).await,
            // Somebody has taken it out meanwhile.
            None => End::bounced(3, 5, format!("{} names this command or file no more", list.source.file)),
        }
    }

    /// A user's forward file says where the mail goes.
    pub(crate) async fn forwarded(
        &self,
        work: &Work,
        recipient: &LeaseRecipient,
        user: Person<'_>,
        (path, listed): (&Octets, &[Listed]),
        scan: &Scan,
    ) -> End {
        let path = path.printable();
        let list = self
            .decide(work, |world, lookups| expand::forward(world, &recipient.address, &path, listed, lookups))
            .await;
        let list = match list {
            Ok((list, lookups)) => {
                self.log_list(
                    work,
                    &format!("<{}> is forwarded by {path}", recipient.address),
                    "forward_path",
                    &list,
                    &lookups,
                );
                list
            }
            Err(text) => return End::deferred(3, 0, text),
        };
        if recipient.part.is_some() {
            return self.part(work, recipient, &list, Some(user), scan).await;
        }
        self.listed(work, recipient, &list, Some(user), scan).await
    }

    pub(crate) fn log_alias(&self, work: &Work, recipient: &LeaseRecipient, alias: &List, lookups: &[Lookup]) {
        let text = format!("<{}> is an alias of {} at {}", recipient.address, alias.table, alias.source);
        self.log_list(work, &text, "alias_maps", alias, lookups);
    }

    pub(crate) fn log_list(&self, work: &Work, text: &str, rule: &str, list: &List, lookups: &[Lookup]) {
        let event = Event::Text(text);
        let record = Record {
            lookups,
            source: Some(&list.source),
            rule: Some(rule),
            ..Record::new(&work.ident, Stage::Delivery, event)
        };
        self.log.record(&record.about(work.lease.id));
    }

    /// Carries out what has no address.
    async fn rest(
        &self,
        work: &Work,
        recipient: &LeaseRecipient,
        rest: &Rest,
        list: &List,
        user: Option<Person<'_>>,
        scan: &Scan,
    ) -> End {
        let verb = if work.lease.purpose.is_verification() { "delivers" } else { "delivered" };
        let file = |path: &str| format!("{verb} to file: {path}");
        match &rest.what {
            What::Wrong(text) => End::bounced(1, 3, format!("bad address in {}: {text}", list.source)),
            What::Unreadable(path, why) => End::deferred(3, 5, format!("cannot read :include:{path}: {why}")),
            What::Command(_, false) => End::bounced(7, 1, "mail to command is restricted"),
            What::File(_, false) => End::bounced(7, 1, "mail to file is restricted"),
            What::File(path, true) if path == "/dev/null" => {
                end(Report::Delivered { text: String::new() }, None, |_| file(path))
            }
            What::File(path, true) => {
                let owner = match self.owner(work, rest.rights, user).await {
                    Ok(owner) => owner,
                    Err(end) => return end,
                };
                let place = route::file_place(path, owner, &work.config.main);
                let report = self.carry_out(work, recipient, &place, trace(work, recipient, "file"), scan).await;
                end(report, None, |_| file(path))
            }
            What::Command(command, true) => {
                let place = match self.program_place(work, recipient, command, rest.rights, user).await {
                    Ok(place) => place,
                    Err(end) => return end,
                };
                let report = self.carry_out(work, recipient, &place, trace(work, recipient, "command"), scan).await;
                end(report, None, |text| text)
            }
        }
    }

    async fn program_place(
        &self,
        work: &Work,
        recipient: &LeaseRecipient,
        command: &str,
        rights: Rights,
        user: Option<Person<'_>>,
    ) -> Result<Place, End> {
        let owner = self.owner(work, rights, user).await?;
        let names = route::user_names(&recipient.address, &work.config.main);
        let name = names.last().map_or("", String::as_str);
        let extension = recipient.address.local().get(name.len() + 1..);
        let alias = Person { address: &recipient.address, name, extension, user: None };
        let program = program(work, recipient, user.unwrap_or(alias), command)?;
        Ok(Place {
            target: crate::job::Target::Command(program),
            owner,
            forward_files: Vec::new(),
            login: String::new(),
        })
    }

    async fn owner(&self, work: &Work, rights: Rights, user: Option<Person<'_>>) -> Result<Owner, End> {
        match (rights, user) {
            (Rights::OwnerOfFile(uid), _) if uid != 0 => Ok(Owner::Uid { uid }),
            (Rights::User, Some(person)) => self.rights_of(work, person).await.map(|rights| route::owner(&rights)),
            _ => self.default_privileges(work).await.map(|rights| route::owner(&rights)),
        }
    }
}
