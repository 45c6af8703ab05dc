//! A known mix of traffic, and what of it each reader must count.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use test_support::clients::{Imap, Lines, Pop3, Security, Smtp};
use test_support::dns::Dns;
use test_support::{Builder, Patience, System, wait_for};

use crate::readers::Totals;

/// A client that we trust.
pub const FRIEND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const MESSAGE: &str = "From: mary@info.net\r\nSubject: hello\r\n\r\nhello";

/// What really happened.
#[derive(Debug, Default)]
pub struct Truth {
    /// What pflogsumm counts.
    pub totals: Totals,
    /// One address per line that `postfix[mode=normal]` counts: refusals of strangers, floods of errors, impatience.
    pub refused: Vec<IpAddr>,
    /// `mode=rbl`: those whom a DNS list holds.
    pub listed: Vec<IpAddr>,
    /// `mode=errors`: floods of errors alone.
    pub errors: Vec<IpAddr>,
    /// `mode=auth`: failed logins at SMTP.
    pub logins: Vec<IpAddr>,
    /// `mode=ddos`: connections that came to nothing, and those whose logins all failed.
    pub nothing: Vec<IpAddr>,
    /// `dovecot`: failed logins at IMAP and POP3.
    pub mailbox_logins: Vec<IpAddr>,
    /// `dovecot[mode=aggressive]`, beside these: connections without a login.
    pub mailbox_nothing: Vec<IpAddr>,
}

impl Truth {
    /// Waits until the log has the end of every session of a stranger: what comes behind an answer, or behind no answer at all, is logged later.
    pub fn is_logged(&self, system: &System) -> Result<(), String> {
        let smtp = [&self.refused, &self.listed, &self.errors, &self.logins, &self.nothing].map(|all| (all, "smtpd"));
        let mailboxes = [&self.mailbox_logins, &self.mailbox_nothing].map(|all| (all, "mailboxes"));
        for (addresses, at) in smtp.into_iter().chain(mailboxes) {
            for address in addresses {
                let ended = || match at {
                    "smtpd" => system
                        .log("smtpd")
                        .lines()
                        .any(|line| line.contains(": disconnect from ") && line.contains(&format!("[{address}]"))),
                    _ => (system.log("imapd") + &system.log("pop3d")).contains(&format!("rip={address},")),
                };
                wait_for(&format!("the end of {address}"), Patience::default(), || ended().then_some(()))
                    .map_err(|error| format!("{error}\n{}", system.logs()))?;
            }
        }
        Ok(())
    }
}

/// The system that the traffic goes to. The rest of the world is `remote` and `dns`.
pub fn builder(remote: SocketAddr, closed: SocketAddr, dns: &Dns) -> Builder {
    for number in 0..=u8::MAX {
        dns.address_of(&format!("1.{number}.68.127.bl.example"), Ipv4Addr::new(127, 0, 0, 2).into());
    }
    let main = format!(
        "mynetworks = 127.0.0.0/29\n\
         smtpd_helo_required = yes\n\
         smtpd_helo_restrictions = permit_mynetworks, reject_non_fqdn_helo_hostname\n\
         smtpd_client_restrictions = check_client_access cidr:{{root}}/etc/clients, reject_rbl_client bl.example\n\
         smtpd_sender_restrictions = check_sender_access inline:{{{{hold@info.net = HOLD}}}}, \
             warn_if_reject check_sender_access inline:{{{{warned@info.net = REJECT}}}}, \
             permit_mynetworks, permit_sasl_authenticated, reject_unknown_sender_domain\n\
         smtpd_recipient_restrictions = check_recipient_access inline:{{{{mary+later@info.net = 450 4.7.1 come back later}}}}\n\
         smtpd_hard_error_limit = 4\n\
         smtpd_error_sleep_time = 0\n\
         virtual_alias_maps = inline:{{{{sales@info.net = john, mary}}}}\n\
         transport_maps = hash:{{root}}/etc/transport\n\
         recipient_delimiter = +\n\
         smtp_tls_security_level = none\n\
         postrider_dns_servers = {name_server}\n",
        name_server = dns.address(),
    );
    let transport = format!(
        "remote.example smtp:[{}]:{}\ndown.example smtp:[{}]:{}\nvoid.example discard:\nnever.example error:5.1.2 nobody there\n",
        remote.ip(),
        remote.port(),
        closed.ip(),
        closed.port(),
    );
    Builder::new("info.net")
        .main_cf(&main)
        .file("clients", "127.67.0.0/16 REJECT\n")
        .file("transport", &transport)
        .dovecot("auth_mechanisms = plain login\nauth_failure_delay = 0 secs")
}

/// A server of the test's own, for the world outside: refuses `refused@`, puts `later@` off, takes the rest. It lives as long as the test.
pub fn remote() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

fn serve(stream: TcpStream) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    writer.write_all(b"220 remote.example\r\n")?;
    let mut in_data = false;
    while let Some(line) = lines.next().transpose()? {
        let verb = line.get(..4).unwrap_or(&line).to_ascii_uppercase();
        let reply = match (in_data, verb.as_str()) {
            (true, _) if line == "." => {
                in_data = false;
                "250 2.0.0 taken"
            }
            (true, _) => continue,
            (false, "RCPT") if line.contains("<refused") => "550 5.1.1 nobody of that name",
            (false, "RCPT") if line.contains("<later") => "450 4.2.0 come back later",
            (false, "DATA") => {
                in_data = true;
                "354 go on"
            }
            (false, "QUIT") => return writer.write_all(b"221 2.0.0 bye\r\n"),
            (false, _) => "250 2.0.0 fine",
        };
        writer.write_all(format!("{reply}\r\n").as_bytes())?;
    }
    Ok(())
}

/// One round of the mix. The addresses of strangers are 127.66.ROUND.N, so that each event has its own.
pub struct Round<'a> {
    system: &'a System,
    truth: &'a mut Truth,
    number: u8,
    strangers: u8,
}

impl<'a> Round<'a> {
    pub fn new(system: &'a System, truth: &'a mut Truth, number: u8) -> Self {
        Self { system, truth, number, strangers: 0 }
    }

    /// Everything, once.
    pub fn run(mut self) -> io::Result<()> {
        self.friends().map_err(|error| io::Error::other(format!("friends: {error}")))?;
        self.submissions().map_err(|error| io::Error::other(format!("submissions: {error}")))?;
        self.refusals().map_err(|error| io::Error::other(format!("refusals: {error}")))?;
        self.nonsense().map_err(|error| io::Error::other(format!("nonsense: {error}")))?;
        self.failed_logins().map_err(|error| io::Error::other(format!("failed logins: {error}")))?;
        self.mailboxes().map_err(|error| io::Error::other(format!("mailboxes: {error}")))
    }

    fn stranger(&mut self) -> Ipv4Addr {
        self.strangers += 1;
        Ipv4Addr::new(127, 66, self.number, self.strangers)
    }

    fn lines(&self, from: Ipv4Addr, port: u16, security: Security) -> io::Result<Lines> {
        Lines::connect_from(from, self.system.ports.at(port), security)
    }

    fn smtp(&self, from: Ipv4Addr) -> io::Result<Smtp> {
        Smtp::over(self.lines(from, self.system.ports.smtp, Security::Clear)?)
    }

    /// Mail that is taken, and what becomes of it.
    fn friends(&mut self) -> io::Result<()> {
        let mut smtp = self.smtp(FRIEND)?;
        // Sender, recipients, then how many are delivered, bounced, deferred; a bounce is delivered to its sender too.
        let mail: [(&str, &[&str], [u32; 3]); 9] = [
            ("mary@info.net", &["john@info.net"], [1, 0, 0]),
            ("mary@info.net", &["john@info.net", "mary@info.net"], [2, 0, 0]),
            ("mary@info.net", &["sales@info.net"], [2, 0, 0]),
            ("mary@info.net", &["friend@remote.example"], [1, 0, 0]),
            ("mary@info.net", &["friend@remote.example", "refused@remote.example"], [2, 1, 0]),
            ("mary@info.net", &["later@remote.example"], [0, 0, 1]),
            ("mary@info.net", &["x@void.example"], [1, 0, 0]),
            ("warned@info.net", &["john@info.net"], [1, 0, 0]),
            ("hold@info.net", &["john@info.net"], [0, 0, 0]),
        ];
        for (from, to, [delivered, bounced, deferred]) in mail {
            smtp.send(from, to, MESSAGE)?;
            let totals = &mut self.truth.totals;
            totals.received += 1;
            totals.delivered += delivered;
            totals.bounced += bounced;
            totals.deferred += deferred;
            totals.deferrals += deferred;
            totals.warned += u32::from(from.starts_with("warned"));
            totals.held += u32::from(from.starts_with("hold"));
        }
        if self.number == 0 {
            // Once: after that the destination counts as dead, and nothing more is tried.
            smtp.send("mary@info.net", &["x@down.example"], MESSAGE)?;
            self.truth.totals.received += 1;
            self.truth.totals.deferred += 1;
            self.truth.totals.deferrals += 1;
        }
        smtp.command("QUIT", 2).map(drop)
    }

    /// Mail from users with a login, and from this machine.
    fn submissions(&mut self) -> io::Result<()> {
        let mut smtp = Smtp::over(self.lines(FRIEND, self.system.ports.submission, Security::Clear)?)?;
        smtp.start_tls()?;
        smtp.login("mary", "secret")?;
        smtp.send("mary@info.net", &["john@info.net"], MESSAGE)?;
        smtp.command("QUIT", 2)?;
        let sent = self.system.run(&["sendmail", "-f", "mary@info.net", "john@info.net"], "Subject: local\n\nhello\n");
        sent.map_err(io::Error::other)?;
        // smtpd would refuse what the transport map calls an error; what comes from this machine bounces.
        let sent = self.system.run(&["sendmail", "-f", "mary@info.net", "x@never.example"], "Subject: lost\n\nhello\n");
        sent.map_err(io::Error::other)?;
        self.truth.totals.received += 3;
        self.truth.totals.delivered += 3;
        self.truth.totals.bounced += 1;
        Ok(())
    }

    /// A stranger whose recipient or sender is refused.
    fn refused(&mut self, from: Ipv4Addr, helo: &str, sender: &str, recipient: &str, counts: bool) -> io::Result<()> {
        let mut lines = self.lines(from, self.system.ports.smtp, Security::Clear)?;
        lines.hear()?;
        for line in
            [&format!("HELO {helo}"), &format!("MAIL FROM:<{sender}>"), &format!("RCPT TO:<{recipient}>"), "QUIT"]
        {
            lines.say(line)?;
            lines.hear()?;
        }
        self.truth.totals.rejected += 1;
        if counts {
            self.truth.refused.push(from.into());
        }
        Ok(())
    }

    fn refusals(&mut self) -> io::Result<()> {
        let blocked = Ipv4Addr::new(127, 67, self.number, 1);
        self.refused(blocked, "a.example", "", "john@info.net", true)?;
        let listed = Ipv4Addr::new(127, 68, self.number, 1);
        self.refused(listed, "a.example", "", "john@info.net", true)?;
        self.truth.listed.push(listed.into());
        let [relay, unknown, helo, domain, later] = std::array::from_fn(|_| self.stranger());
        self.refused(relay, "a.example", "", "x@elsewhere.example", true)?;
        self.refused(unknown, "a.example", "", "nobody@info.net", true)?;
        self.refused(helo, "a", "", "john@info.net", true)?;
        self.refused(domain, "a.example", "x@nowhere.example", "john@info.net", true)?;
        // The administrator's own word for now is nobody's crime.
        self.refused(later, "a.example", "", "mary+later@info.net", false)
    }

    /// Clients that do not speak SMTP as it is spoken.
    fn nonsense(&mut self) -> io::Result<()> {
        let [flood, hasty, silent, gone, blind] = std::array::from_fn(|_| self.stranger());
        let mut lines = self.lines(flood, self.system.ports.smtp, Security::Clear)?;
        // After the greeting: who speaks before it is noticed for that too.
        lines.hear()?;
        while lines.say("NONSENSE").and_then(|()| lines.hear()).is_ok() {}
        self.truth.refused.push(flood.into());
        self.truth.errors.push(flood.into());
        let mut lines = self.lines(hasty, self.system.ports.smtp, Security::Clear)?;
        lines.hear()?;
        lines.send(b"HELO a.example\r\nNOOP\r\n")?;
        for _ in 0..2 {
            lines.hear()?;
        }
        lines.say("QUIT")?;
        lines.hear()?;
        self.truth.refused.push(hasty.into());
        drop(self.lines(silent, self.system.ports.smtp, Security::Clear)?);
        drop(self.smtp(gone)?);
        // Who speaks in clear where TLS is expected.
        let mut lines = self.lines(blind, self.system.ports.submissions, Security::Clear)?;
        lines.say("EHLO a.example")?;
        while lines.hear().is_ok() {}
        self.truth.nothing.extend([silent, gone, blind].map(IpAddr::from));
        Ok(())
    }

    fn failed_logins(&mut self) -> io::Result<()> {
        let [plain, login] = std::array::from_fn(|_| self.stranger());
        let mut smtp = Smtp::over(self.lines(plain, self.system.ports.submission, Security::Clear)?)?;
        smtp.start_tls()?;
        smtp.login("john", "wrong").map_or(Ok(()), |()| Err(io::Error::other("a wrong password is good")))?;
        smtp.command("QUIT", 2)?;
        let mut smtp = Smtp::over(self.lines(login, self.system.ports.submissions, Security::Tls)?)?;
        smtp.command("AUTH LOGIN", 3)?;
        smtp.command("bm9ib2R5", 3)?;
        smtp.command("d3Jvbmc=", 5)?;
        smtp.command("QUIT", 2)?;
        self.truth.logins.extend([plain, login].map(IpAddr::from));
        self.truth.nothing.extend([plain, login].map(IpAddr::from));
        Ok(())
    }

    fn mailboxes(&mut self) -> io::Result<()> {
        let ports = self.system.ports;
        let mut imap = Imap::over(self.lines(FRIEND, ports.imaps, Security::Tls)?)?;
        imap.login("john", "secret")?;
        imap.command("LOGOUT")?;
        let mut pop3 = Pop3::over(self.lines(FRIEND, ports.pop3s, Security::Tls)?)?;
        pop3.login("mary", "secret")?;
        pop3.command("QUIT")?;
        let [wrong, unknown, clear, idle, blind] = std::array::from_fn(|_| self.stranger());
        let mut imap = Imap::over(self.lines(wrong, ports.imaps, Security::Tls)?)?;
        let bad = imap.login("john", "wrong").is_err();
        imap.command("LOGOUT")?;
        let mut pop3 = Pop3::over(self.lines(unknown, ports.pop3s, Security::Tls)?)?;
        let bad = bad && pop3.login("nobody", "wrong").is_err();
        pop3.command("QUIT")?;
        let mut imap = Imap::over(self.lines(clear, ports.imap, Security::Clear)?)?;
        let bad = bad && imap.login("john", "secret").is_err();
        imap.command("LOGOUT")?;
        if !bad {
            return Err(io::Error::other("a login is good that must fail"));
        }
        self.truth.mailbox_logins.extend([wrong, unknown, clear].map(IpAddr::from));
        let mut imap = Imap::over(self.lines(idle, ports.imaps, Security::Tls)?)?;
        imap.command("LOGOUT")?;
        let mut lines = self.lines(blind, ports.imaps, Security::Clear)?;
        lines.say("a LOGIN john secret")?;
        while lines.hear().is_ok() {}
        self.truth.mailbox_nothing.extend([idle, blind].map(IpAddr::from));
        Ok(())
    }
}
