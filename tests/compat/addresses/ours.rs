//! The same through our functions, as smtpd and queue-manager call them.

use std::collections::BTreeSet;
use std::path::Path;

use mail_config::{Config, Machine};
use mail_intake::Rewrites;
use mail_route::{Class, Existence, Kind, Origin, Role, World};
use mail_tables::{Disk, TableSet};
use mail_types::{Address, Sender};

use super::generate::Message;
use super::postfix::{Queued, unfolded};

/// Our configuration and tables, from the files of the Postfix beside us.
pub struct Ours {
    config: Config,
    tables: TableSet,
}

fn plain(address: &Address) -> String {
    format!("{}@{}", address.local(), address.domain())
}

impl Ours {
    pub fn load(etc: &Path) -> Result<Self, String> {
        let machine = Machine::named("mail.info.net");
        let config = Config::load_on(etc, Some(&etc.join("dovecot.conf")), machine).map_err(|e| e.to_string())?.config;
        let (tables, reports) = TableSet::open(&config, Box::new(Disk));
        match reports.iter().find(|report| report.level == mail_config::Level::Error) {
            Some(report) => Err(report.line()),
            None => Ok(Self { config, tables }),
        }
    }

    fn with<T>(&self, run: impl FnOnce(&World<'_>) -> T) -> T {
        let tables = self.tables.snapshot();
        run(&World { config: &self.config, main: &self.config.main, tables: &tables, facts: &() })
    }

    fn sender(text: &str) -> Sender {
        text.parse().map_or(Sender::Null, Sender::Address)
    }

    /// `class transport nexthop address`.
    pub fn resolve(&self, sender: &str, address: &str) -> String {
        let Ok(address) = address.parse::<Address>() else { return "bad address".to_owned() };
        self.with(|world| {
            let resolved = mail_route::resolve(world, &address, &mut Vec::new());
            let routed = mail_route::transport(world, &Self::sender(sender), &address, &mut Vec::new());
            let (Ok(resolved), Ok(routed)) = (resolved, routed) else { return "temporary".to_owned() };
            if routed.nexthop == "5.1.3 bad address syntax" {
                return "bad address".to_owned();
            }
            let class = match resolved.class.class {
                Class::Local => "local",
                Class::VirtualAlias => "alias",
                Class::VirtualMailbox => "virtual",
                Class::Relay => "relay",
                Class::Default => "default",
            };
            let here = matches!(routed.kind, Kind::Local | Kind::Virtual | Kind::Mailbox);
            let nexthop = if here { "-" } else { &routed.nexthop };
            format!("{class} {} {nexthop} {}", routed.transport, plain(&routed.address))
        })
    }

    /// Why a recipient is refused.
    pub fn refusal(&self, text: &str) -> String {
        let address = mail_route::complete_text(text, &self.config.main).ok();
        let sendable = |address: &Address| self.with(|world| mail_route::is_sendable(world, address)).unwrap_or(true);
        let Some(address) = address.filter(sendable) else { return "bad address".to_owned() };
        let found = self.with(|world| {
            let resolved = mail_route::resolve(world, &address, &mut Vec::new())?;
            mail_route::recipient(world, &resolved, Some(&Sender::Null), &mut Vec::new())
        });
        match found {
            Ok(Existence::Listed) => "taken".to_owned(),
            Ok(Existence::Unknown { table, code }) => {
                let named = *self.config.main.show_user_unknown_table_name;
                format!("{code} 5.1.1 User unknown{}", if named { format!(" in {table}") } else { String::new() })
            }
            Ok(Existence::Undeliverable { text, permanent }) => {
                let (code, otherwise) = if permanent { (550, "5.1.1") } else { (450, "4.1.1") };
                match text.split_once(' ') {
                    Some((status, words)) if status.starts_with(['4', '5']) => format!("{code} {status} {words}"),
                    _ => format!("{code} {otherwise} {text}"),
                }
            }
            Err(stop) => format!("{stop:?}"),
        }
    }

    /// The message as smtpd would queue it; nothing where it would answer 4xx.
    pub fn queued(&self, message: &Message, is_ours: bool) -> Option<Queued> {
        self.with(|world| self.taken(world, message, is_ours))
    }

    fn taken(&self, world: &World<'_>, message: &Message, is_ours: bool) -> Option<Queued> {
        let main = world.main;
        let none = &mut Vec::new();
        let sendable = |address: &Address| mail_route::is_sendable(world, address).unwrap_or(true);
        let complete = |text: &str| mail_route::complete_text(text, main).ok().filter(sendable);
        let sender = if message.from.is_empty() { Sender::Null } else { Sender::Address(complete(&message.from)?) };
        let sender = mail_route::rewrite_sender(world, &sender, none).ok()?;
        let mut to = BTreeSet::new();
        let mut copies = mail_route::sender_copies(world, &sender, none).ok()?;
        for text in &message.recipients {
            let address = complete(text)?;
            to.extend(mail_route::rewrite_recipient(world, &address, none).ok()?.iter().map(plain));
            copies.extend(mail_route::recipient_copies(world, &address, none).ok()?);
        }
        to.extend(copies.iter().flat_map(|copy| &copy.to).map(plain));
        let origin = match main.remote_header_rewrite_domain.as_str() {
            _ if is_ours => Some(Origin::Ours),
            "" => None,
            domain => Some(Origin::Others(domain)),
        };
        let content = format!("{}\r\n\r\n", message.fields.join("\r\n"));
        let mut rewrites = Rewrites::default();
        for (role, text) in mail_intake::addresses(content.as_bytes()) {
            let whose = if role == mail_intake::Role::Sender { Role::Sender } else { Role::Recipient };
            let Some(origin) = origin else { break };
            if let Some(next) = mail_route::rewrite_header(world, origin, whose, &text, none).ok()? {
                rewrites.insert((role, text), next);
            }
        }
        let (header, _) = mail_intake::rewrite(content.as_bytes(), &rewrites);
        let dropped = ["bcc:", "return-path:"];
        let mut header = unfolded(&String::from_utf8_lossy(&header));
        header.retain(|field| !dropped.iter().any(|name| field.starts_with(name)));
        let sender = sender.address().map_or_else(String::new, plain);
        Some(Queued { sender, to, header })
    }
}
