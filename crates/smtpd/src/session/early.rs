//! What a session does outside transactions: XCLIENT, ETRN, the filter of command lines, and the settings of its machine.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use admission::judging::Command;
use mail_ipc::control::Request;
use mail_policy::{ClientName, Stage};
use mail_smtp::server::{Answer, Settings, XclientCommand};
use mail_tables::{Answer as Found, Scope, TableRef};
use mail_types::{Reply, ReplyCode};

use super::{Session, reply};

impl Session {
    /// The settings of the listener, as they are for this client.
    pub async fn settings(&mut self) -> Arc<Settings> {
        let port = &self.port;
        let asked = self.door.sources.settings_for(&port.settings, &port.main, &self.tables, self.named());
        let (own, unanswered) = Box::pin(asked).await;
        unanswered.iter().for_each(|unanswered| self.log.unanswered(unanswered));
        own.map_or_else(|| Arc::clone(&port.settings), Arc::new)
    }

    /// `smtpd_command_filter`: the line that is carried out in place of one.
    pub(super) async fn filter(&mut self, line: String) -> Answer {
        let port = Arc::clone(&self.port);
        let main = &port.main;
        match self.look_up(&main.smtpd_command_filter, &line).await {
            Found::Found(found) => {
                let rule = ("smtpd_command_filter", &main.smtpd_command_filter.source);
                let peer = self.log.peer();
                self.log
                    .text(&format!("{peer}: replacing client command \"{line}\" with \"{}\"", found.value), Some(rule));
                Answer::Line(found.value)
            }
            Found::NotFound | Found::Missing(_) => Answer::Line(line),
            Found::Temporary(why) => {
                self.log.warning(&why, Some(("smtpd_command_filter", &main.smtpd_command_filter.source)));
                Answer::Refuse(reply(451, (4, 3, 0), "Error: temporary lookup failure"))
            }
        }
    }

    /// Asks tables in order. Those in memory answer at once; only for others is room kept while they are waited for.
    pub(super) async fn look_up(&mut self, maps: &[TableRef], key: &str) -> Found {
        match self.tables.search(maps, key, Scope::Full, &()) {
            Found::Missing(_) => Box::pin(self.door.sources.look_up(&self.tables, maps, key)).await,
            said => said,
        }
    }

    /// ETRN: whether the client may ask for it, and whether the domain is one of `fast_flush_domains`.
    pub(super) async fn etrn(&mut self, domain: &str) -> Answer {
        if let Err(refusal) = self.judge_command(Command { etrn: Some(domain), ..Command::at(Stage::Etrn) }).await {
            return Answer::Refuse(refusal);
        }
        match self.door.sources.may_flush(&self.port.main, &self.tables, domain).await {
            Ok(true) => {}
            Ok(false) => return Answer::Refuse(plain(459, &format!("<{domain}>: service unavailable"))),
            Err(unanswered) => {
                self.log.unanswered(&unanswered);
                return Answer::Refuse(plain(458, "Unable to queue messages"));
            }
        }
        let request = Request::FlushSite { site: domain.to_owned() };
        match self.door.operators.call(&request, &[]).await {
            Ok(_) => Answer::Done(plain(250, "Queuing started")),
            Err(_) => Answer::Refuse(plain(458, "Unable to queue messages")),
        }
    }

    /// XCLIENT: from now on the session is that of another client.
    pub(super) async fn xclient(&mut self, command: XclientCommand) -> Answer {
        // Whoever spoke for somebody else has the rights of that one now.
        let may = self.door.sources.may_xclient(&self.port.main, &self.tables, self.named()).await;
        if !may.inspect_err(|unanswered| self.log.unanswered(unanswered)).unwrap_or(false) {
            return Answer::Done(reply(550, (5, 7, 0), "Error: insufficient authorization"));
        }
        let (client, local) = match (
            other_end(&command, self.client, ["ADDR", "PORT"]),
            other_end(&command, self.local, ["DESTADDR", "DESTPORT"]),
        ) {
            (Ok(client), Ok(local)) => (client, local),
            (Err(name), _) | (_, Err(name)) => {
                return Answer::Done(reply(501, (5, 5, 4), format!("Bad {name} syntax")));
            }
        };
        self.reset().await;
        self.greeting.helo = command.known("HELO").map(str::to_owned);
        self.greeting.extended = command.known("PROTO").is_none_or(|proto| proto.eq_ignore_ascii_case("ESMTP"));
        self.greeting.user = command.known("LOGIN").map(str::to_owned);
        self.greeting.method = self.greeting.user.as_ref().map(|_| "XCLIENT".to_owned());
        self.set_name(&command);
        (self.client, self.local) = (client, local);
        (self.log.address, self.log.client_port) = (client.ip(), client.port());
        self.fetched = crate::facts::Fetched::default();
        self.find_limits().await;
        self.judge_client().await
    }

    /// NAME is the verified name, REVERSE_NAME the other one. A new NAME without REVERSE_NAME is both.
    fn set_name(&mut self, command: &XclientCommand) {
        let temporary = |name: &str| command.get(name).is_some_and(|value| value.eq_ignore_ascii_case("[TEMPUNAVAIL]"));
        let known = |name: &str| command.known(name).map(str::to_owned);
        if command.get("NAME").is_some() {
            let verified = known("NAME");
            self.name = ClientName {
                reverse: verified.clone(),
                verified,
                temporary: temporary("NAME"),
                reverse_temporary: temporary("NAME"),
            };
        }
        if command.get("REVERSE_NAME").is_some() {
            self.name.reverse = known("REVERSE_NAME");
            self.name.reverse_temporary = temporary("REVERSE_NAME");
        }
        self.log.name = self.name.shown().to_owned();
    }
}

/// An end of the connection with the address and port that attributes of these names give it; an attribute that is none is the error.
fn other_end(
    command: &XclientCommand,
    known: SocketAddr,
    [host, port]: [&'static str; 2],
) -> Result<SocketAddr, &'static str> {
    let ip = command.known(host).map_or(Some(known.ip()), address).ok_or(host)?;
    let number = command.known(port).map_or(Some(known.port()), |text| text.parse().ok()).ok_or(port)?;
    Ok(SocketAddr::new(ip, number))
}

/// `192.0.2.1` or `IPV6:2001:db8::1`.
fn address(text: &str) -> Option<IpAddr> {
    let tagged = text.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPV6:"));
    if tagged { text[5..].parse().ok() } else { text.parse().ok() }
}

fn plain(code: u16, text: &str) -> Reply {
    Reply::plain(ReplyCode::of(code), text)
}
