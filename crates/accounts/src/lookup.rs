//! Where a user's mail lies and who owns it: the userdbs of a plan, and what the rest of dovecot.conf adds.

use crate::login::{Granted, exists, expand_all, find};
use crate::plan::{About, After, Lead, Note, Plan, Sources, UserDriver, Userdb, harmless_in_path};
use crate::variables::{Template, Values};

/// A user with a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailUser {
    /// The name after all rules.
    pub user: String,
    /// Who owns the mail; none if nothing names a uid.
    pub uid: Option<u32>,
    /// The group; none if nothing names a gid.
    pub gid: Option<u32>,
    /// The home directory.
    pub home: Option<String>,
    /// The mail location with all variables and `~` expanded; none if nothing names one.
    pub mail: Option<String>,
}

/// What the userdbs say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The user.
    User(MailUser),
    /// There is no such user.
    Unknown,
    /// Nobody knows just now, or the user cannot have a mailbox; the text says why.
    Unavailable(String),
}

/// Looks up a user who has just logged in.
#[must_use]
pub fn after_login(
    plan: &Plan,
    sources: &dyn Sources,
    granted: &Granted,
    context: &Values<'_>,
    notes: &mut Vec<Note>,
) -> Found {
    let values = Values { user: &granted.user, master_user: granted.master.as_deref(), ..*context };
    Search { plan, sources, values, prefetched: Some(&granted.prefetched), notes }.run()
}

/// Looks up a user by name, as LMTP does for a recipient: nobody has logged in.
#[must_use]
pub fn by_name(plan: &Plan, sources: &dyn Sources, name: &str, service: &str, notes: &mut Vec<Note>) -> Found {
    let about = About { driver: "userdb", user: name, ..About::default() };
    match plan.names.apply(name, service) {
        // A name that may not log in has no mailbox either.
        Err(error) => {
            notes.push(about.info(error));
            Found::Unknown
        }
        Ok(user) => {
            let values = Values { user: &user, service, ..Values::default() };
            Search { plan, sources, values, prefetched: None, notes }.run()
        }
    }
}

type Fields = Vec<(String, String)>;

enum Answer {
    Fields(Fields),
    Unknown,
    Internal(String),
}

struct Search<'a> {
    plan: &'a Plan,
    sources: &'a dyn Sources,
    values: Values<'a>,
    /// What the passdb gave, after a login.
    prefetched: Option<&'a Fields>,
    notes: &'a mut Vec<Note>,
}

impl Search<'_> {
    fn run(mut self) -> Found {
        if !self.values.are_harmless_in_path() {
            return Found::Unavailable("user name cannot be part of a path".into());
        }
        let mut fields = Fields::new();
        let (mut success, mut internal) = (false, None);
        for userdb in &self.plan.userdbs {
            if userdb.flow.skip.passes_over(success) {
                continue;
            }
            let rule = match self.ask(userdb) {
                Answer::Fields(found) => {
                    fields.extend(found);
                    userdb.flow.success
                }
                Answer::Unknown => userdb.flow.failure,
                Answer::Internal(text) => {
                    internal = Some(text);
                    userdb.flow.internal_failure
                }
            };
            match rule.leads(success) {
                Lead::End(false) if rule == After::ReturnFail => return Found::Unknown,
                Lead::End(decided) => {
                    success = decided;
                    break;
                }
                Lead::On(decided) => success = decided,
            }
        }
        match (success, internal) {
            (true, _) => self.complete(&fields),
            (false, Some(text)) => Found::Unavailable(text),
            (false, None) if self.plan.userdbs.is_empty() => Found::Unavailable("no userdb is configured".into()),
            (false, None) => Found::Unknown,
        }
    }

    fn ask(&mut self, userdb: &Userdb) -> Answer {
        let driver = match userdb.driver {
            UserDriver::PasswdFile(_) => "passwd-file",
            UserDriver::Static { .. } => "static",
            UserDriver::Passwd => "passwd",
            UserDriver::Prefetch => "prefetch",
            UserDriver::Unusable(_) => "userdb",
        };
        let Values { user, remote, session, .. } = self.values;
        let about = About { driver, user, remote, session, ..About::default() };
        match self.fields_of(userdb) {
            Ok(Some(fields)) => Answer::Fields(fields),
            Ok(None) if matches!(userdb.driver, UserDriver::Prefetch) => Answer::Unknown,
            Ok(None) => {
                self.notes.push(about.info("unknown user"));
                Answer::Unknown
            }
            Err(text) => {
                self.notes.push(about.error(&text));
                Answer::Internal(text)
            }
        }
    }

    fn fields_of(&self, userdb: &Userdb) -> Result<Option<Fields>, String> {
        let own = match &userdb.driver {
            UserDriver::PasswdFile(arguments) => {
                find(arguments, self.sources, &self.values)?.1.map(|entry| file_fields(&entry))
            }
            UserDriver::Static { fields, allow_all_users } => {
                let known = *allow_all_users
                    || self.prefetched.is_some()
                    || exists(self.plan, self.sources, self.values.user)?
                        .ok_or("passdb doesn't support lookups, can't verify user's existence")?;
                if known { Some(expand_all(fields, &self.values)?) } else { None }
            }
            UserDriver::Passwd => self.sources.system_user(self.values.user)?.map(|user| {
                let fields = [("uid", user.uid.to_string()), ("gid", user.gid.to_string()), ("home", user.home)];
                fields.map(|(key, value)| (key.to_owned(), value)).to_vec()
            }),
            UserDriver::Unusable(text) => return Err(text.clone()),
            UserDriver::Prefetch => self.prefetched.filter(|fields| !fields.is_empty()).cloned(),
        };
        let Some(own) = own else { return Ok(None) };
        let mut all = expand_all(&userdb.default_fields, &self.values)?;
        all.extend(own);
        all.extend(expand_all(&userdb.override_fields, &self.values)?);
        Ok(Some(all))
    }

    /// Adds what dovecot.conf says for everybody, and turns names into numbers.
    fn complete(self, fields: &Fields) -> Found {
        match self.complete_or(fields) {
            Ok(user) => Found::User(user),
            Err(text) => {
                let Values { user, remote, session, .. } = self.values;
                let about = About { driver: "userdb", user, remote, session, ..About::default() };
                self.notes.push(about.error(&text));
                Found::Unavailable(text)
            }
        }
    }

    fn complete_or(&self, fields: &Fields) -> Result<MailUser, String> {
        let mail = &self.plan.mail;
        let last = |name: &str| {
            let found = fields.iter().rev().find(|(key, value)| key == name && !value.is_empty());
            found.map(|(_, value)| value.clone())
        };
        let user = last("user").unwrap_or_else(|| self.values.user.to_owned());
        if !harmless_in_path(&user) {
            return Err("user name cannot be part of a path".into());
        }
        let values = Values { user: &user, ..self.values };
        let expand = |template: &Option<Template>, values: &Values<'_>| {
            template.as_ref().map(|template| template.expand(values)).transpose().map_err(|error| error.to_string())
        };
        let home = match last("home") {
            Some(home) => Some(home),
            None => expand(&mail.home, &values)?,
        };
        let values = Values { home: home.as_deref(), ..values };
        let location = match last("mail") {
            Some(location) => expand(&Some(template(&location, self.plan.is_24)?), &values)?,
            None => expand(&mail.location, &values)?.filter(|location| !location.is_empty()),
        };
        let location = location.map(|location| with_home(&location, home.as_deref())).transpose()?;
        let uid = self.uid(last("uid").or_else(|| mail.uid.clone()))?;
        let gid = self.gid(last("gid").or_else(|| mail.gid.clone()))?;
        self.permitted(uid, gid)?;
        Ok(MailUser { uid, gid, home, mail: location, user })
    }

    fn uid(&self, text: Option<String>) -> Result<Option<u32>, String> {
        let Some(text) = text else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => {
                let user = self.sources.system_user(&text)?;
                user.map(|user| Some(user.uid)).ok_or_else(|| format!("Invalid UID value {text}: no such user"))
            }
        }
    }

    fn gid(&self, text: Option<String>) -> Result<Option<u32>, String> {
        let Some(text) = text else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => {
                let group = self.sources.group(&text)?;
                group.map(Some).ok_or_else(|| format!("Invalid GID value {text}: no such group"))
            }
        }
    }

    fn permitted(&self, uid: Option<u32>, gid: Option<u32>) -> Result<(), String> {
        let mail = &self.plan.mail;
        let within = |id: u32, first: u32, last: u32| id >= first && (last == 0 || id <= last);
        if let Some(uid) = uid.filter(|uid| *uid == 0 || !within(*uid, mail.first_valid_uid, mail.last_valid_uid)) {
            return Err(format!(
                "Mail access for users with UID {uid} not permitted (see first_valid_uid in config file)"
            ));
        }
        if let Some(gid) = gid.filter(|gid| !within(*gid, mail.first_valid_gid, mail.last_valid_gid)) {
            return Err(format!(
                "Mail access for users with GID {gid} not permitted (see first_valid_gid in config file)"
            ));
        }
        Ok(())
    }
}

fn template(text: &str, is_24: bool) -> Result<Template, String> {
    let parsed = if is_24 { Template::parse_new(text) } else { Template::parse(text) };
    parsed.map_err(|error| error.to_string())
}

/// The fields that a userdb takes from a passwd-file: ids, home, and `userdb_...` without its prefix.
fn file_fields(entry: &crate::passwd_file::Entry) -> Fields {
    let named = [("uid", &entry.uid), ("gid", &entry.gid), ("home", &entry.home)];
    let own = named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
    let extra = entry.extra.iter();
    let extra = extra.filter_map(|(key, value)| Some((key.strip_prefix("userdb_")?.to_owned(), value.clone())));
    own.chain(extra).collect()
}

/// `maildir:~/Maildir:INDEX=~/index` with the home directory in the place of each `~`.
fn with_home(location: &str, home: Option<&str>) -> Result<String, String> {
    let part = |text: &str| -> Result<String, String> {
        let (before, path) = match text.split_once('=') {
            Some((key, path)) if key.chars().all(|c| c.is_ascii_alphabetic()) => (format!("{key}="), path),
            _ => (String::new(), text),
        };
        match path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')) {
            None => Ok(text.to_owned()),
            Some(rest) => {
                let home = home.ok_or("Home directory not set for user. Can't expand ~/ in mail location")?;
                Ok(format!("{before}{}{rest}", home.trim_end_matches('/')))
            }
        }
    };
    Ok(location.split(':').map(part).collect::<Result<Vec<_>, _>>()?.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, file_userdb, passdb_file, template, userdb};
    use crate::plan::{Flow, PassDriver, Passdb};

    fn john(home: &str, mail: &str) -> Found {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Found::User(MailUser {
            user: "john".into(),
            uid: Some(5000),
            gid: Some(5001),
            home: text(home),
            mail: text(mail),
        })
    }

    fn look(plan: &Plan, sources: &Fake, name: &str) -> Found {
        by_name(plan, sources, name, "lmtp", &mut Vec::new())
    }

    fn located(mut plan: Plan, location: &str) -> Plan {
        plan.mail.location = Some(template(location));
        plan
    }

    #[test]
    fn a_passwd_file_gives_ids_home_and_mail() {
        let plan = Plan { userdbs: vec![file_userdb("/p")], ..Plan::default() };
        let plan = located(plan, "maildir:~/Maildir:INDEX=~/index:CONTROL=/var/c/%n");
        let sources = Fake::with_file(
            "/p",
            "john:x:5000:5001::/srv/john::\nmary:x:5000:5001::/srv/mary::userdb_mail=mbox:%h/mail\n",
        );
        assert_eq!(
            look(&plan, &sources, "John"),
            john("/srv/john", "maildir:/srv/john/Maildir:INDEX=/srv/john/index:CONTROL=/var/c/john")
        );
        let Found::User(mary) = look(&plan, &sources, "mary") else { panic!("mary is there") };
        assert_eq!(mary.mail.as_deref(), Some("mbox:/srv/mary/mail"));
        assert_eq!(look(&plan, &sources, "nobody"), Found::Unknown);
    }

    #[test]
    fn only_valid_ids_own_mail_the_first_and_the_last_included() {
        let sources = Fake::with_file("/p", "john:x:5000:5001::/h::\nroot:x:0:5001::/h::\n");
        let look = |uids: (u32, u32), gids: (u32, u32), name: &str| {
            let mut plan = Plan { userdbs: vec![file_userdb("/p")], ..Plan::default() };
            (plan.mail.first_valid_uid, plan.mail.last_valid_uid) = uids;
            (plan.mail.first_valid_gid, plan.mail.last_valid_gid) = gids;
            look(&plan, &sources, name)
        };
        for (uids, gids) in [((5000, 5000), (5001, 5001)), ((1, 0), (1, 0)), ((500, 6000), (1, 5002))] {
            assert_eq!(look(uids, gids, "john"), john("/h", ""), "{uids:?} {gids:?}");
        }
        for (uids, gids) in [((5001, 0), (1, 0)), ((1, 4999), (1, 0)), ((1, 0), (5002, 0)), ((1, 0), (1, 5000))] {
            assert!(matches!(look(uids, gids, "john"), Found::Unavailable(_)), "{uids:?} {gids:?}");
        }
        assert!(matches!(look((0, 0), (0, 0), "root"), Found::Unavailable(_)), "root never owns mail");
    }

    #[test]
    fn a_passdb_is_found_wherever_it_stands() {
        let pam = || Passdb { driver: PassDriver::Pam(template("dovecot")), ..passdb_file("/p") };
        let shadow = || Passdb { driver: PassDriver::Shadow, ..passdb_file("/p") };
        let of = |passdbs| Plan { passdbs, ..Plan::default() };
        let uses = |plan: &Plan| (plan.uses_shadow(), plan.uses_pam());
        assert_eq!(uses(&of(vec![passdb_file("/p"), pam()])), (false, true));
        assert_eq!(uses(&of(vec![shadow(), passdb_file("/p")])), (true, false));
        assert_eq!(uses(&of(vec![passdb_file("/p")])), (false, false));
    }

    #[test]
    fn names_of_users_and_groups_become_numbers() {
        let plan = Plan { userdbs: vec![file_userdb("/p")], ..Plan::default() };
        let sources = Fake::with_file("/p", "john:x:vmail:mailers::/h::\nmary:x:nosuch:1::/h::\n");
        assert_eq!(look(&plan, &sources, "john"), john("/h", ""));
        assert!(matches!(look(&plan, &sources, "mary"), Found::Unavailable(_)));
    }

    #[test]
    fn an_unreadable_file_is_never_an_unknown_user() {
        let plan = Plan { userdbs: vec![file_userdb("/absent")], ..Plan::default() };
        assert!(matches!(look(&plan, &Fake::default(), "john"), Found::Unavailable(_)));
    }

    #[test]
    fn static_users_exist_where_a_passdb_knows_them() {
        let fields = ["uid=vmail", "gid=5001", "home=/srv/%d/%n"];
        let static_db =
            |all| userdb(UserDriver::Static { fields: fields.map(crate::fake::field).to_vec(), allow_all_users: all });
        let sources = Fake::with_file("/p", "john@info.net:{PLAIN}x\n");
        let plan = Plan { passdbs: vec![passdb_file("/p")], userdbs: vec![static_db(false)], ..Plan::default() };
        let Found::User(user) = look(&plan, &sources, "john@info.net") else { panic!("john is there") };
        assert_eq!((user.uid, user.home.as_deref()), (Some(5000), Some("/srv/info.net/john")));
        assert_eq!(look(&plan, &sources, "mary@info.net"), Found::Unknown);
        let all = Plan { userdbs: vec![static_db(true)], ..plan.clone() };
        assert!(matches!(look(&all, &sources, "mary@info.net"), Found::User(_)));
        let mut pam = passdb_file("/p");
        pam.driver = PassDriver::Pam(template("dovecot"));
        let blind = Plan { passdbs: vec![pam], ..plan };
        assert!(matches!(look(&blind, &sources, "john@info.net"), Found::Unavailable(_)));
    }

    #[test]
    fn system_users_have_their_own_home() {
        let plan = located(Plan { userdbs: vec![userdb(UserDriver::Passwd)], ..Plan::default() }, "maildir:~/Maildir");
        let Found::User(user) = look(&plan, &Fake::default(), "vmail") else { panic!("vmail is there") };
        assert_eq!((user.uid, user.mail.as_deref()), (Some(5000), Some("maildir:/var/vmail/Maildir")));
        assert_eq!(look(&plan, &Fake::default(), "nobody"), Found::Unknown);
        assert!(matches!(look(&plan, &Fake::default(), "broken"), Found::Unavailable(_)));
    }

    #[test]
    fn prefetched_fields_serve_a_login_and_no_lookup() {
        let plan = Plan { userdbs: vec![userdb(UserDriver::Prefetch), file_userdb("/p")], ..Plan::default() };
        let sources = Fake::with_file("/p", "mary:x:5000:5001::/h::\n");
        let prefetched = [("uid", "5000"), ("gid", "5001"), ("home", "/srv/john")];
        let granted = Granted {
            user: "john".into(),
            master: None,
            prefetched: prefetched.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
        };
        let found = after_login(&plan, &sources, &granted, &Values::default(), &mut Vec::new());
        assert_eq!(found, john("/srv/john", ""));
        assert_eq!(look(&plan, &sources, "john"), Found::Unknown);
    }

    #[test]
    fn a_user_without_a_home_has_no_tilde() {
        let plan = located(Plan { userdbs: vec![file_userdb("/p")], ..Plan::default() }, "maildir:~/Maildir");
        let sources = Fake::with_file("/p", "john:x:5000:5001\n");
        assert!(matches!(look(&plan, &sources, "john"), Found::Unavailable(_)));
    }

    #[test]
    fn system_accounts_may_not_own_mail() {
        let plan = Plan { userdbs: vec![file_userdb("/p")], ..Plan::default() };
        let sources = Fake::with_file("/p", "root:x:0:5001::/root::\nbin:x:2:5001::/b::\nwheel:x:5000:0::/b::\n");
        for name in ["root", "bin", "wheel"] {
            assert!(matches!(look(&plan, &sources, name), Found::Unavailable(_)), "{name}");
        }
    }

    #[test]
    fn mail_uid_and_mail_home_stand_in() {
        let mut plan = Plan { userdbs: vec![file_userdb("/p")], ..Plan::default() };
        plan.mail.uid = Some("vmail".into());
        plan.mail.gid = Some("mailers".into());
        plan.mail.home = Some(template("/srv/%n"));
        let sources = Fake::with_file("/p", "john:x\n");
        assert_eq!(look(&plan, &sources, "john"), john("/srv/john", ""));
    }

    #[test]
    fn a_later_userdb_is_asked_when_an_earlier_one_does_not_know() {
        let mut first = file_userdb("/absent");
        let plan = Plan { userdbs: vec![first.clone(), file_userdb("/p")], ..Plan::default() };
        let sources = Fake::with_file("/p", "john:x:5000:5001::/h::\n");
        assert_eq!(look(&plan, &sources, "john"), john("/h", ""));
        // An error remembers itself: "nobody knows" wins over "unknown".
        assert!(matches!(look(&plan, &sources, "mary"), Found::Unavailable(_)));
        first.flow = Flow { internal_failure: After::ReturnFail, ..Flow::default() };
        let plan = Plan { userdbs: vec![first, file_userdb("/p")], ..Plan::default() };
        assert_eq!(look(&plan, &sources, "john"), Found::Unknown);
    }

    #[test]
    fn a_name_never_leads_out_of_its_directory() {
        let mut plan = Plan { userdbs: vec![file_userdb("/p")], ..Plan::default() };
        plan.names.allowed = String::new();
        plan.mail.home = Some(template("/srv/%d/%n"));
        let sources = Fake::with_file("/p", "../../etc:x:5000:5001\na@..:x:5000:5001\n");
        for name in ["../../etc", "a@..", "..", "a/b@c"] {
            assert!(!matches!(look(&plan, &sources, name), Found::User(_)), "{name}");
        }
    }
}
