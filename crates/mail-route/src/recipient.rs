//! Whether a recipient exists, as smtpd asks before it answers RCPT.

use decision::Lookup;
use mail_config::main_cf::lists::{TableKind, TableRef};
use mail_tables::RemoteAnswer;
use mail_tables::address::Delimiters;
use mail_types::{Address, Sender};

use crate::class::{Class, Resolved};
use crate::transport::{Kind, choose};
use crate::world::{Question, Stop, World};

/// Whether somebody is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existence {
    /// A table lists the recipient, or its class has no table.
    Listed,
    /// No table does. The text names the table for the reply (`User unknown in local recipient table`).
    Unknown {
        /// What stands after `User unknown in`, with `show_user_unknown_table_name`.
        table: &'static str,
        /// The reply code of main.cf.
        code: u64,
    },
    /// Its mail would be returned or wait at once: `error` or `retry` in a transport table, or `relocated_maps`.
    Undeliverable {
        /// The reason, which may begin with an enhanced status.
        text: String,
        /// Whether that is for ever.
        permanent: bool,
    },
}

/// Whether a recipient exists: its virtual aliases, its canonical maps, then the recipient map of its class, and where its
/// transport is our own LMTP listener, Dovecot's userdb. The sender may have a transport of its own, which returns mail; without one, what depends
/// on it is left out.
///
/// # Errors
/// [`Stop`] if a table or userdb cannot say or must be asked first; never "unknown" by accident.
pub fn recipient(
    world: &World<'_>,
    resolved: &Resolved,
    sender: Option<&Sender>,
    lookups: &mut Vec<Lookup>,
) -> Result<Existence, Stop> {
    let main = world.main;
    let address = &resolved.address;
    let class = resolved.class.class;
    if main.receive_override_options.iter().any(|word| word == "no_unknown_recipient_checks") {
        return Ok(Existence::Listed);
    }
    for maps in [&main.recipient_canonical_maps, &main.canonical_maps, &main.virtual_alias_maps] {
        if world.ask(address, maps, lookups)?.is_some() {
            return Ok(Existence::Listed);
        }
    }
    // S12: postmaster of our own domains is always there.
    let ours = !matches!(class, Class::Default | Class::Relay);
    if ours && address.local().eq_ignore_ascii_case("postmaster") {
        return Ok(Existence::Listed);
    }
    let (maps, table, code) = match class {
        Class::VirtualAlias => {
            // Who has moved is told so, whatever the class.
            let routed = choose(world, sender, address, lookups)?;
            if let ("relocated_maps", Kind::Error(text)) = (routed.rule, routed.kind) {
                return Ok(Existence::Undeliverable { text, permanent: true });
            }
            let code = *main.unknown_virtual_alias_reject_code;
            return Ok(Existence::Unknown { table: "virtual alias table", code });
        }
        Class::Local => {
            (&main.local_recipient_maps, "local recipient table", *main.unknown_local_recipient_reject_code)
        }
        Class::VirtualMailbox => {
            (&main.virtual_mailbox_maps, "virtual mailbox table", *main.unknown_virtual_mailbox_reject_code)
        }
        Class::Relay | Class::Default => {
            (&main.relay_recipient_maps, "relay recipient table", *main.unknown_relay_recipient_reject_code)
        }
    };
    let routed = choose(world, sender, address, lookups)?;
    match (routed.transport.as_str(), routed.kind) {
        ("error", Kind::Error(text)) => return Ok(Existence::Undeliverable { text, permanent: true }),
        ("retry", Kind::Retry(text)) => return Ok(Existence::Undeliverable { text, permanent: false }),
        _ if class == Class::Default || is_of_system(world, class, address) => return Ok(Existence::Listed),
        (_, Kind::Mailbox) => {
            let others: Vec<TableRef> =
                maps.iter().filter(|table| table.kind != TableKind::UnixPasswd).cloned().collect();
            let listed = maps.is_written() && world.ask(address, &others, lookups)?.is_some();
            return match listed || has_mailbox(world, address, lookups)? {
                true => Ok(Existence::Listed),
                false => Ok(Existence::Unknown { table, code }),
            };
        }
        _ => {}
    }
    match maps.is_empty() || world.ask(address, maps, lookups)?.is_some() {
        true => Ok(Existence::Listed),
        false => Ok(Existence::Unknown { table, code }),
    }
}

/// Whether the mail system itself takes an address: MAILER-DAEMON and `double_bounce_sender` of this machine.
fn is_of_system(world: &World<'_>, class: Class, address: &Address) -> bool {
    let names = ["MAILER-DAEMON", world.main.double_bounce_sender.as_str()];
    class == Class::Local && names.iter().any(|name| address.local().eq_ignore_ascii_case(name))
}

/// Whether Dovecot's userdb knows the recipient, as its LMTP server would ask: without what follows its own
/// `recipient_delimiter`.
fn has_mailbox(world: &World<'_>, address: &Address, lookups: &mut Vec<Lookup>) -> Result<bool, Stop> {
    let characters = world.config.dovecot.lmtp.recipient_delimiter.as_str();
    let (user, _) = Delimiters::only(characters).split(address.local());
    let user = format!("{user}@{}", address.domain());
    let Some(answer) = world.facts.mailbox(&user) else {
        return Err(Stop::Missing(Question::Mailbox { user }));
    };
    let value = matches!(answer, RemoteAnswer::Found(_)).then(|| user.clone());
    lookups.push(Lookup { table: "dovecot userdb".to_owned(), key: user, value, source: None });
    match answer {
        RemoteAnswer::Found(_) => Ok(true),
        RemoteAnswer::NotFound => Ok(false),
        RemoteAnswer::Temporary(why) => Err(Stop::Temporary(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::resolve;
    use crate::testing::{Made, address, files};

    const MAIN: &str = "myhostname = server.info.net\nmyorigin = info.net\nmydestination = info.net\nrecipient_delimiter = +\n\
                        alias_maps = hash:/aliases\nvirtual_alias_domains = example.net\nvirtual_alias_maps = hash:/virtual\n\
                        virtual_mailbox_domains = box.org\nvirtual_mailbox_maps = hash:/boxes\nrelay_domains = partner.com\n";

    fn made(more: &str) -> Made {
        let dovecot = "protocols = lmtp\nservice lmtp {\n unix_listener /q/private/dovecot-lmtp {\n }\n}\n";
        let config = files(&[("main.cf", &format!("{MAIN}{more}")), ("dovecot.conf", dovecot)]);
        let tables = [
            ("/aliases", "sales: john\n"),
            ("/virtual", "info@example.net x@y.org\n"),
            ("/boxes", "a@box.org a/\n@all.org x\n"),
        ];
        Made::new(config, &tables)
    }

    fn exists(made: &Made, text: &str) -> Result<Existence, Stop> {
        let resolved = resolve(&made.world(), &address(text), &mut Vec::new())?;
        recipient(&made.world(), &resolved, None, &mut Vec::new())
    }

    fn passwd(name: &str) -> Question {
        let table = TableRef { kind: TableKind::UnixPasswd, name: "passwd.byname".into(), proxy: false };
        Question::Table(mail_tables::Query { table, key: name.into() })
    }

    #[test]
    fn each_class_has_its_recipient_table() {
        let made = made("")
            .knows(passwd("john"), RemoteAnswer::Found("john:x".into()))
            .knows(passwd("eve"), RemoteAnswer::NotFound)
            .knows(passwd("sales"), RemoteAnswer::NotFound)
            .knows(passwd("john+x"), RemoteAnswer::NotFound);
        let unknown = |table| Ok(Existence::Unknown { table, code: 550 });
        assert_eq!(exists(&made, "john@info.net"), Ok(Existence::Listed));
        assert_eq!(exists(&made, "john+x@info.net"), Ok(Existence::Listed));
        assert_eq!(exists(&made, "sales@info.net"), Ok(Existence::Listed));
        assert_eq!(exists(&made, "eve@info.net"), unknown("local recipient table"));
        assert_eq!(exists(&made, "PostMaster@info.net"), Ok(Existence::Listed));
        assert_eq!(exists(&made, "mike@info.net"), Err(Stop::Missing(passwd("mike"))));
        assert_eq!(exists(&made, "info@example.net"), Ok(Existence::Listed));
        assert_eq!(exists(&made, "x@example.net"), unknown("virtual alias table"));
        assert_eq!(exists(&made, "a@box.org"), Ok(Existence::Listed));
        assert_eq!(exists(&made, "b@box.org"), unknown("virtual mailbox table"));
        assert_eq!(exists(&made, "any@partner.com"), Ok(Existence::Listed));
        assert_eq!(exists(&made, "any@gmail.com"), Ok(Existence::Listed));
    }

    #[test]
    fn behind_our_own_lmtp_listener_the_userdb_decides() {
        let more = "queue_directory = /q\nlocal_transport = lmtp:unix:private/dovecot-lmtp\n";
        let user = |user: &str| Question::Mailbox { user: user.into() };
        let made = made(more)
            .knows(user("john@info.net"), RemoteAnswer::Found(String::new()))
            .knows(user("eve@info.net"), RemoteAnswer::NotFound)
            .knows(user("down@info.net"), RemoteAnswer::Temporary("authd is away".into()));
        assert_eq!(exists(&made, "john+x@info.net"), Ok(Existence::Listed));
        assert_eq!(exists(&made, "eve@info.net"), Ok(Existence::Unknown { table: "local recipient table", code: 550 }));
        assert_eq!(exists(&made, "mike@info.net"), Err(Stop::Missing(user("mike@info.net"))));
        assert_eq!(exists(&made, "down@info.net"), Err(Stop::Temporary("authd is away".into())));
    }

    #[test]
    fn what_would_be_returned_at_once_is_told_at_once() {
        let more = "transport_maps = inline:{{gone.org=error:5.1.2 gone}, {later.org=retry:4.4.1 later}}\n\
                    relocated_maps = inline:{{john=john@new.org}, {old@example.net=new@example.net}}\n";
        let made = made(more);
        let undeliverable = |text: &str, permanent| Ok(Existence::Undeliverable { text: text.to_owned(), permanent });
        assert_eq!(exists(&made, "a@gone.org"), undeliverable("5.1.2 gone", true));
        assert_eq!(exists(&made, "a@later.org"), undeliverable("4.4.1 later", false));
        assert_eq!(exists(&made, "john@info.net"), undeliverable("5.1.6 User has moved to john@new.org", true));
        assert_eq!(exists(&made, "old@example.net"), undeliverable("5.1.6 User has moved to new@example.net", true));
        assert_eq!(exists(&made, "MAILER-DAEMON@info.net"), Ok(Existence::Listed));
        assert_eq!(exists(&made, "double-bounce@info.net"), Ok(Existence::Listed));
    }

    #[test]
    fn a_sender_whose_transport_returns_mail_is_told_so_at_once() {
        let own =
            "inline:{{eve@x.org = error:5.7.8 not you}, {bob@x.org = retry:4.7.8 later}, {<> = error:no bounces}}";
        let made = made(&format!("sender_dependent_default_transport_maps = {own}\n"));
        let told = |sender: Sender| {
            let resolved = resolve(&made.world(), &address("a@gmail.com"), &mut Vec::new()).expect("resolved");
            recipient(&made.world(), &resolved, Some(&sender), &mut Vec::new()).expect("decided")
        };
        let undeliverable = |text: &str, permanent| Existence::Undeliverable { text: text.to_owned(), permanent };
        assert_eq!(told(Sender::Address(address("eve@x.org"))), undeliverable("5.7.8 not you", true));
        assert_eq!(told(Sender::Address(address("bob@x.org"))), undeliverable("4.7.8 later", false));
        assert_eq!(told(Sender::Null), undeliverable("no bounces", true));
        assert_eq!(told(Sender::Address(address("ann@x.org"))), Existence::Listed);
    }

    #[test]
    fn a_listener_may_leave_the_check_out() {
        let off = made("receive_override_options = no_unknown_recipient_checks\n");
        assert_eq!(exists(&off, "x@example.net"), Ok(Existence::Listed));
    }

    #[test]
    fn without_a_recipient_table_everybody_is_there() {
        assert_eq!(exists(&made("local_recipient_maps =\n"), "any@info.net"), Ok(Existence::Listed));
    }
}
