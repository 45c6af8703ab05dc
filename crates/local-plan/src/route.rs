//! Where a recipient's mail goes on this machine: pure functions over the configuration and the user that was found.

use std::time::Duration;

use mail_config::Main;
use mail_ipc::lookup::{MailUser, PasswdUser};
use mail_store::Location;
use mail_tables::address::Delimiters;
use mail_types::{Address, Octets, UnixTime};

use crate::job::{Owner, Program, Target};

/// A mailbox, and as whom it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As whom.
    pub owner: Owner,
    /// The mailbox.
    pub target: Target,
    /// Files of `forward_path` that would send the mail elsewhere.
    pub forward_files: Vec<Octets>,
    /// The login name of the mailbox's owner, for imapd.
    pub login: String,
}

/// The local part in lower case, with and without its extension: what local(8) looks up as a user.
#[must_use]
pub fn user_names(address: &Address, main: &Main) -> Vec<String> {
    let whole = address.local().to_lowercase();
    match Delimiters::of(main).split(&whole) {
        (user, Some(_)) => vec![whole.clone(), user.to_owned()],
        (_, None) => vec![whole],
    }
}

/// The mailbox of a user of the machine: `home_mailbox`, else `mail_spool_directory`. A slash at the end makes it a Maildir.
#[must_use]
pub fn local_place(user: &PasswdUser, rights: &PasswdUser, main: &Main) -> Place {
    let below = |directory: &[u8], name: &str| Octets::new([directory, b"/", name.as_bytes()].concat());
    let home = user.home.as_bytes();
    let (path, spool) = if main.home_mailbox.is_empty() {
        let spool = main.mail_spool_directory.as_str();
        let slash = if spool.ends_with('/') { "/" } else { "" };
        (Octets::new(format!("{}/{}{slash}", spool.trim_end_matches('/'), user.name)), slash.is_empty())
    } else {
        (below(home, &main.home_mailbox), false)
    };
    let size_limit = *main.mailbox_size_limit;
    let target = match path.as_bytes().strip_suffix(b"/") {
        Some(directory) => Target::Maildir { path: Octets::new(directory), size_limit },
        None => mbox(path, size_limit, &main.mailbox_delivery_lock, main, rights.uid),
    };
    Place {
        owner: Owner::User { uid: rights.uid, gid: rights.gid, spool },
        target,
        forward_files: Vec::new(),
        login: user.name.clone(),
    }
}

/// A program in the place of a user's mailbox.
#[must_use]
pub fn program_place(program: Program, owner: Owner, user: &PasswdUser) -> Place {
    Place { owner, target: Target::Command(program), forward_files: Vec::new(), login: user.name.clone() }
}

/// A user of the machine as the owner of a delivery.
#[must_use]
pub fn owner(rights: &PasswdUser) -> Owner {
    Owner::User { uid: rights.uid, gid: rights.gid, spool: false }
}

/// An mbox as a target.
#[must_use]
pub fn mbox(path: Octets, size_limit: u64, locks: &[String], main: &Main, uid: u32) -> Target {
    let attempts = u32::try_from(*main.deliver_lock_attempts).unwrap_or(u32::MAX);
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Target::Mbox {
        path,
        size_limit,
        locks: locks.to_vec(),
        patience: millis(main.deliver_lock_delay.saturating_mul(attempts)),
        stale: millis(*main.stale_lock_time),
        owner: main.strict_mailbox_ownership.then_some(uid),
    }
}

/// A file that an alias or a user names. A slash at the end makes it a Maildir.
#[must_use]
pub fn file_place(path: &str, owner: Owner, main: &Main) -> Place {
    let size_limit = *main.mailbox_size_limit;
    let target = match path.strip_suffix('/') {
        Some(directory) => Target::Maildir { path: directory.into(), size_limit },
        // Such a file may belong to anybody.
        None => mbox(path.into(), size_limit, &main.mailbox_delivery_lock, main, 0).of_any_owner(),
    };
    Place { owner, target, forward_files: Vec::new(), login: String::new() }
}

/// The inbox of a user of Dovecot's userdb.
///
/// # Errors
/// A sentence about what of the user's entry cannot be used.
pub fn mail_place(user: &MailUser, have_rights: bool) -> Result<Place, String> {
    let owner = match (user.uid, user.gid) {
        (Some(uid), Some(gid)) => Owner::MailUser { uid, gid },
        _ if !have_rights => Owner::Caller,
        _ => return Err(format!("user {} has no uid and gid", user.user)),
    };
    let home = user.home.as_ref().and_then(Octets::as_str).unwrap_or("/");
    let mail = user.mail.as_deref().ok_or_else(|| format!("user {} has no mail location", user.user))?;
    let location = Location::parse(mail, std::path::Path::new(home)).map_err(|error| error.to_string())?;
    let inbox = std::os::unix::ffi::OsStrExt::as_bytes(location.inbox_path().as_os_str());
    let target = Target::Maildir { path: Octets::new(inbox), size_limit: 0 };
    Ok(Place { owner, target, forward_files: Vec::new(), login: user.user.clone() })
}

/// The `From ` line of an mbox: sender, two blanks, local time as ctime(3) writes it.
#[must_use]
pub fn from_line(sender: &mail_types::Sender, now: UnixTime, zone: &jiff::tz::TimeZone) -> String {
    let seconds = i64::try_from(now.seconds()).unwrap_or(0);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default().to_zoned(zone.clone());
    let sender = sender.address().map_or_else(|| "MAILER-DAEMON".to_owned(), ToString::to_string);
    // A blank or a line end in a quoted local part would end the sender or the line.
    let sender: String = sender.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c }).collect();
    format!("From {sender}  {}", time.strftime("%a %b %e %H:%M:%S %Y"))
}

/// `relay=` for a transport that names our own LMTP listener, as Postfix's lmtp client writes it. A next hop that is only the domain
/// stands for the listener that `local_transport` or `virtual_transport` names.
#[must_use]
pub fn lmtp_relay(nexthop: &str, main: &Main) -> String {
    let transports = [main.local_transport.as_str(), main.virtual_transport.as_str()];
    let listener = transports.iter().filter_map(|transport| transport.split_once(':')).map(|(_, place)| place);
    let listener = || listener.clone().find(|place| place.starts_with("unix:") || place.starts_with("inet:"));
    let is_place = nexthop.starts_with("unix:") || nexthop.starts_with("inet:");
    let place = if is_place { nexthop } else { listener().unwrap_or(nexthop) };
    match place.strip_prefix("unix:") {
        Some(path) => format!("{}[{path}]", *main.myhostname),
        None => place.strip_prefix("inet:").unwrap_or(place).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_types::Sender;

    #[test]
    fn a_from_line_cannot_be_broken_by_its_sender() {
        let zone = jiff::tz::TimeZone::UTC;
        let sender = Sender::Address("\"a b\"@x.org".parse().expect("good"));
        assert_eq!(from_line(&sender, UnixTime(1_000), &zone), "From \"a_b\"@x.org  Thu Jan  1 00:00:01 1970");
        assert_eq!(from_line(&Sender::Null, UnixTime(0), &zone), "From MAILER-DAEMON  Thu Jan  1 00:00:00 1970");
    }

    #[test]
    fn a_mail_user_needs_a_location_that_is_built() {
        let user = |mail: Option<&str>, uid| MailUser {
            user: "john@info.net".into(),
            uid,
            gid: uid,
            home: Some("/home/john".into()),
            mail: mail.map(str::to_owned),
        };
        let place = mail_place(&user(Some("maildir:~/Maildir"), Some(1000)), true).expect("good");
        assert_eq!(place.target, Target::Maildir { path: "/home/john/Maildir".into(), size_limit: 0 });
        assert_eq!(place.owner, Owner::MailUser { uid: 1000, gid: 1000 });
        for (mail, uid, rights) in
            [(None, Some(1), true), (Some("mdbox:~/m"), Some(1), true), (Some("maildir:~/M"), None, true)]
        {
            mail_place(&user(mail, uid), rights).expect_err("refused");
        }
        assert_eq!(mail_place(&user(Some("maildir:~/M"), None), false).expect("good").owner, Owner::Caller);
    }
}
