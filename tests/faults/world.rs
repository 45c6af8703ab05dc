//! One system of ours among many bad servers, shared by the tests of this target: each row has domains, servers and messages of its own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use test_support::clients::{Security, Smtp};
use test_support::dns::Dns;
use test_support::remote::{Network, Remote, Setup};
use test_support::{Builder, Patience, System, wait_for};

/// Every step of a conversation may take so many seconds: long enough that a good server on a busy machine is never late.
pub const PATIENCE: u64 = 8;

/// The transports beside those of every system: mandatory TLS, and logins that depend on the sender.
const MASTER_CF: &str = "must unix - - n - - smtp\n  -o smtp_tls_security_level=encrypt\n\
    bysender unix - - n - - smtp\n  -o smtp_sender_dependent_authentication=yes";
/// Which domains use them, and LMTP.
const TRANSPORT: &str = ".must.example must:\n.lmtp.example lmtp:\n.bysender.example bysender:\n";
/// Logins by next hop, host name and sender.
pub const PASSWORDS: &str = "plain.login.example user:pass-by-hop\nmx.host.login.example user:pass-by-host\n\
    mary@ours.example mary:pass-by-sender\n.login.example nobody:nothing\nlogin.login.example user:pass:with:colons\n\
    cram.login.example user:pass-by-cram\nwrong.login.example user:pass-that-is-wrong\nclear.login.example user:pass-in-clear\n\
    strange.login.example user:pass-for-strangers\n";

/// The system and what surrounds it.
pub struct World {
    pub system: System,
    pub dns: Dns,
    pub network: Network,
    /// A listener of our own smtpd on the network's port: what a zone that names us as its mail server leads to.
    pub ours: SocketAddr,
    /// A certificate that main.cf trusts, for any host below `trusted.policy.example`.
    pub trusted: mail_net::tls::SelfSigned,
}

static WORLD: OnceLock<Mutex<Option<Arc<World>>>> = OnceLock::new();

/// The world; the first test that asks starts it.
pub fn world() -> Result<Arc<World>, String> {
    let mut slot = WORLD.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(world) = &*slot {
        return Ok(Arc::clone(world));
    }
    let world = Arc::new(World::start()?);
    *slot = Some(Arc::clone(&world));
    Ok(world)
}

/// Stops the system.
pub fn end() {
    if let Some(slot) = WORLD.get() {
        slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// How an attempt ended for one recipient, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    pub relay: String,
    pub dsn: String,
    pub status: String,
    pub text: String,
}

impl Fate {
    fn read(line: &str) -> Option<Self> {
        let field = |name: &str| Some(line.split_once(name)?.1.split([',', ' ']).next()?.to_owned());
        let text = line.split_once("status=")?.1.split_once('(')?.1;
        Some(Self {
            relay: field("relay=")?,
            dsn: field("dsn=")?,
            status: field("status=")?,
            text: text.strip_suffix(')').unwrap_or(text).to_owned(),
        })
    }

    /// Whether status, DSN code and words are as they should be.
    pub fn expect(&self, status: &str, dsn: &str, words: &str) -> Result<(), String> {
        if self.status == status && self.dsn.starts_with(dsn) && self.text.contains(words) {
            return Ok(());
        }
        Err(format!("expected {status}, {dsn}, {words:?}; found {self:?}"))
    }
}

impl World {
    fn start() -> Result<Self, String> {
        let network = Network::new().map_err(|error| error.to_string())?;
        let dns = Dns::start().map_err(|error| error.to_string())?;
        let ours = network.address();
        let timeouts: String =
            ["connect", "helo", "starttls", "mail", "rcpt", "data_init", "data_xfer", "data_done", "rset", "quit"]
                .iter()
                .map(|step| format!("smtp_{step}_timeout = {PATIENCE}s\n"))
                .chain(
                    ["lhlo", "mail", "rcpt", "data_init", "data_xfer", "data_done"]
                        .iter()
                        .map(|step| format!("lmtp_{step}_timeout = {PATIENCE}s\n")),
                )
                .collect();
        let main_cf = format!(
            "{timeouts}postrider_dns_servers = {dns}\nsmtp_tcp_port = {port}\nlmtp_tcp_port = {port}\nsmtp_tls_security_level = may\n\
             smtp_skip_quit_response = no\ntransport_maps = texthash:{{root}}/etc/transport\nsmtpd_client_connection_count_limit = 0\n\
             message_size_limit = 20480000\nsmtp_tls_policy_maps = texthash:{{root}}/etc/policy\nsmtp_tls_CAfile = {{root}}/etc/ca.pem\n\
             smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = hash:{{root}}/etc/passwords\n\
             smtp_sasl_tls_security_options = noanonymous",
            dns = dns.address(),
            port = network.port(),
        );
        let trusted = mail_net::tls::self_signed("mx.trusted.policy.example").map_err(|error| error.to_string())?;
        let system = Builder::new("ours.example")
            .main_cf(&main_cf)
            .master_cf(&format!("{MASTER_CF}\n{ours} inet n - n - - smtpd"))
            .file("transport", TRANSPORT)
            .file("passwords", PASSWORDS)
            .file("ca.pem", &trusted.certificate)
            .file("policy", &policies(&trusted.certificate)?)
            .start()?;
        Ok(Self { system, dns, network, ours, trusted })
    }

    /// A server, and the MX record that makes it the domain's only one.
    pub fn server(&self, domain: &str, setup: impl FnOnce(Setup) -> Setup) -> Result<Remote, String> {
        self.server_with(domain, |plain| Ok(setup(plain)))
    }

    /// The same, where the making of the server may fail.
    pub fn server_with(
        &self,
        domain: &str,
        setup: impl FnOnce(Setup) -> Result<Setup, String>,
    ) -> Result<Remote, String> {
        let host = format!("mx.{domain}");
        let remote = self.host(&host, setup)?;
        self.dns.mx(domain, 10, &host)?;
        Ok(remote)
    }

    /// A server with an address record and nothing more.
    pub fn host(&self, host: &str, setup: impl FnOnce(Setup) -> Result<Setup, String>) -> Result<Remote, String> {
        let remote = setup(Setup::new(host))?.start(self.network.address()).map_err(|error| error.to_string())?;
        self.dns.address_of(host, remote.address().ip());
        Ok(remote)
    }

    /// Sends a small message from mary; gives its queue id.
    pub fn send(&self, to: &[&str]) -> Result<String, String> {
        self.send_with("", &to.iter().map(|&to| (to, "")).collect::<Vec<_>>(), "Subject: faults\r\n\r\nhello")
    }

    /// Sends a message from mary with parameters of MAIL and RCPT; gives its queue id.
    pub fn send_with(&self, mail: &str, to: &[(&str, &str)], message: &str) -> Result<String, String> {
        let sent = || {
            let mut smtp = Smtp::connect(self.system.ports.at(self.system.ports.smtp), Security::Clear)?;
            smtp.command(format!("MAIL FROM:<mary@ours.example> {mail}").trim_end(), 2)?;
            for (to, parameters) in to {
                smtp.command(format!("RCPT TO:<{to}> {parameters}").trim_end(), 2)?;
            }
            smtp.command("DATA", 3)?;
            smtp.lines.send(message.as_bytes())?;
            smtp.lines.send(b"\r\n")?;
            smtp.command(".", 2)
        };
        let reply = sent().map_err(|error: std::io::Error| error.to_string())?;
        let id = reply.rsplit_once("queued as ").ok_or_else(|| format!("no queue id: {reply}"))?.1;
        Ok(id.trim().to_owned())
    }

    /// The lines of the log about a recipient of a message, so far.
    fn fates(&self, id: &str, to: &str) -> Vec<Fate> {
        // The log escapes what is not ASCII.
        let shown = to.replace(|c: char| !c.is_ascii(), "?");
        let (id, to) = (format!(" {id}: "), format!("to=<{shown}>"));
        let log = self.system.log("remote-delivery") + &self.system.log("queue-manager");
        log.lines().filter(|line| line.contains(&id) && line.contains(&to)).filter_map(Fate::read).collect()
    }

    /// How the `nth` attempt (from 1) ended.
    pub fn fate(&self, id: &str, to: &str, nth: usize) -> Result<Fate, String> {
        let found = wait_for(&format!("attempt {nth} for {to} ({id})"), Patience::default(), || {
            self.fates(id, to).get(nth - 1).cloned()
        });
        found.map_err(|error| format!("{error}\n{}", self.system.logs()))
    }

    /// Has a deferred message tried again.
    pub fn retry(&self, id: &str) -> Result<(), String> {
        // The deliverer's line in the log comes before queue-manager's record; until that one a message is active, and cannot be hurried.
        self.system
            .wait_for_queue(&format!("{id} among what is deferred"), |queue| queue.contains(&format!("{id} ")))?;
        self.system.run(&["postqueue", "-i", id], "").map(drop)
    }

    /// What `mailq` shows.
    pub fn queue(&self) -> Result<String, String> {
        self.system.run(&["mailq"], "")
    }

    /// Waits until the queue holds the message no more.
    pub fn gone(&self, id: &str) -> Result<(), String> {
        self.system.wait_for_queue(&format!("the end of {id}"), |queue| !queue.contains(id)).map(drop)
    }

    /// Whether the queue holds the message.
    pub fn is_queued(&self, id: &str) -> Result<bool, String> {
        Ok(self.queue()?.contains(id))
    }

    /// The notifications that mary got about a recipient.
    pub fn notices(&self, to: &str) -> Vec<String> {
        let about = format!("Final-Recipient: rfc822; {to}");
        self.system.messages("mary").into_iter().filter(|message| message.contains(&about)).collect()
    }

    /// The one bounce about a recipient, once the message is gone; it must hold these words.
    pub fn bounce(&self, id: &str, to: &str, words: &[&str]) -> Result<String, String> {
        self.gone(id)?;
        let found =
            wait_for(&format!("a bounce about {to}"), Patience::default(), || self.notices(to).into_iter().next());
        let bounce = found.map_err(|error| format!("{error}\n{}", self.system.logs()))?;
        let all = ["Action: failed", "Content-Type: multipart/report; report-type=delivery-status"];
        // The text for people is folded; words are compared without regard to that.
        let flat = bounce.split_whitespace().collect::<Vec<_>>().join(" ");
        for wanted in all.iter().chain(words) {
            if !flat.contains(wanted) {
                return Err(format!("{wanted:?} is missing in the bounce:\n{bounce}"));
            }
        }
        match self.notices(to).len() {
            1 => Ok(bounce),
            count => Err(format!("{count} bounces about {to}")),
        }
    }
}

/// The policy table: a domain for each level, and parents with their dots.
fn policies(certificate: &str) -> Result<String, String> {
    let der = mail_net::tls::der(certificate).map_err(|error| error.to_string())?;
    let print = mail_net::tls::Digest::Sha256.of(&der).iter().map(|octet| format!("{octet:02X}")).collect::<Vec<_>>();
    Ok(format!(
        "trusted.policy.example secure\nother-name.policy.example secure match=mx.elsewhere.example\n\
         verify.policy.example verify match=mx.trusted.policy.example\nuntrusted.policy.example verify\n\
         print.policy.example fingerprint match={}\nother-print.policy.example fingerprint match={}\n\
         dane.policy.example dane-only\nodd.policy.example encrypt exclude=aNULL\nnone.policy.example none\n\
         .below.policy.example encrypt\n",
        print.join(":"),
        vec!["00"; 32].join(":"),
    ))
}

/// A failed comparison as an error.
pub fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
