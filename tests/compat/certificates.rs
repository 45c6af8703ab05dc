//! Certificates on both sides of SMTP: what the log, the Received field, restrictions and policy services make of them, beside a real Postfix.
//!
//! swaks comes with no certificate, with one that an authority vouches for, and with one of its own making, to listeners that ask, need or
//! want none. What is accepted goes on to a server with TLS, by transports that trust it more or less.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use test_support::remote::{Remote, Setup};
use test_support::{Builder, Patience, wait_for};

use crate::postfix::{Postfix, free_port};

/// The clients by the certificate that they show.
const CLIENTS: [&str; 3] = ["none", "vouched", "own"];

/// Certificates and their keys, made by openssl.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn make() -> Result<Self, String> {
        let made = Self(tempfile::tempdir().map_err(|error| error.to_string())?);
        made.openssl(
            &format!(
                "req -x509 -days 9 {} -keyout ca.key -out ca.pem -subj",
                "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
            ),
            "/O=Test/CN=Test\\+CA one",
        )?;
        made.openssl(
            "req -x509 -days 9 -newkey rsa:2048 -nodes -keyout own.key -out own.pem -subj",
            "/CN=own.example.net",
        )?;
        for (name, subject, key) in [
            ("server", "/CN=mail.info.net", "rsa:2048"),
            ("vouched", "/C=DE/O=Client/CN=client.example.net", "rsa:2048"),
        ] {
            made.openssl(&format!("req -newkey {key} -nodes -keyout {name}.key -out {name}.csr -subj"), subject)?;
            let names = format!("subjectAltName=DNS:{}", subject.rsplit('=').next().unwrap_or_default());
            fs::write(made.path("extensions"), names).map_err(|error| error.to_string())?;
            made.openssl(
                &format!(
                    "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -out {name}.pem -extfile"
                ),
                "extensions",
            )?;
        }
        Ok(made)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> Result<String, String> {
        fs::read_to_string(self.path(name)).map_err(|error| format!("{name}: {error}"))
    }

    fn openssl(&self, arguments: &str, last: &str) -> Result<String, String> {
        let mut command = Command::new("openssl");
        let done = command.current_dir(self.0.path()).args(arguments.split(' ')).arg(last).output();
        let done = done.map_err(|error| format!("openssl: {error}"))?;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
        }
        Err(format!("openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr)))
    }

    fn fingerprint(&self, name: &str) -> Result<String, String> {
        let said = self.openssl("x509 -noout -fingerprint -sha256 -in", &format!("{name}.pem"))?;
        Ok(said.trim().rsplit('=').next().unwrap_or_default().to_owned())
    }
}

/// A policy service that has no opinion and remembers what it is told of certificates.
struct Policy {
    address: SocketAddr,
    told: Arc<Mutex<Vec<String>>>,
}

impl Policy {
    fn start() -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let told = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&told);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let told = Arc::clone(&remembered);
                std::thread::spawn(move || {
                    let Ok(mut answers) = stream.try_clone() else { return };
                    let mut request = Vec::new();
                    for line in BufReader::new(stream).lines().map_while(Result::ok) {
                        if !line.is_empty() {
                            request.push(line);
                            continue;
                        }
                        let about = |line: &String| line.starts_with("ccert_") || line.starts_with("encryption_");
                        let said = request.drain(..).filter(about).collect::<Vec<_>>().join(" ");
                        told.lock().unwrap_or_else(PoisonError::into_inner).push(said);
                        if answers.write_all(b"action=DUNNO\n\n").is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Ok(Self { address, told })
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

/// A port of each listener, by its name.
type Listeners = Vec<(&'static str, SocketAddr)>;

fn listeners() -> Result<Listeners, String> {
    ["off", "ask", "all", "check", "need", "wrapped"].into_iter().map(|name| Ok((name, free_port()?))).collect()
}

/// The lines of master.cf: the listeners, and transports that trust more or less. `{etc}` is where the certificates are.
fn services(listeners: &Listeners, hop: &SocketAddr, made: &Certificates) -> Result<String, String> {
    let (own, vouched) = (made.fingerprint("own")?, made.fingerprint("vouched")?);
    let mut lines = String::new();
    for (name, address) in listeners {
        let options = match *name {
            "off" => "-o smtpd_relay_restrictions=permit_tls_clientcerts,reject_unauth_destination".to_owned(),
            "ask" => format!(
                "-o smtpd_tls_ask_ccert=yes -o relay_clientcerts=inline:{{{own}=x}} \
                 -o smtpd_relay_restrictions=permit_tls_clientcerts,reject_unauth_destination"
            ),
            "all" => "-o smtpd_tls_ask_ccert=yes \
                      -o smtpd_relay_restrictions=permit_tls_all_clientcerts,reject_unauth_destination"
                .to_owned(),
            "check" => format!(
                "-o smtpd_tls_ask_ccert=yes -o smtpd_tls_CAfile= -o {{ smtpd_relay_restrictions = \
                 check_ccert_access inline:{{{{{own} = REJECT no thanks}}, {{{vouched} = OK}}}}, reject_unauth_destination }}"
            ),
            "need" => "-o smtpd_tls_security_level=encrypt -o smtpd_tls_req_ccert=yes \
                       -o smtpd_relay_restrictions=permit_tls_all_clientcerts,reject"
                .to_owned(),
            _ => "-o smtpd_tls_wrappermode=yes -o smtpd_tls_req_ccert=yes \
                  -o smtpd_relay_restrictions=permit_tls_all_clientcerts,reject"
                .to_owned(),
        };
        lines.push_str(&format!("{address} inet n - n - - smtpd\n  {options}\n"));
    }
    let server = made.fingerprint("server")?;
    for (name, options) in [
        ("stranger", "-o smtp_tls_CAfile=".to_owned()),
        ("known", String::new()),
        ("named", "-o { smtp_tls_policy_maps = static:{verify match=mail.info.net} }".to_owned()),
        ("printed", format!("-o {{ smtp_tls_policy_maps = static:{{fingerprint match={server}}} }}")),
        ("silent", "-o smtp_tls_loglevel=0".to_owned()),
    ] {
        lines.push_str(&format!("{name} unix - - n - - smtp\n  -o syslog_name=postfix/{name} {options}\n"));
    }
    Ok(format!("{lines}other unix - - n - - smtp -o smtp_tcp_port={}\n", hop.port()))
}

fn main_cf(hop: &SocketAddr, policy: &SocketAddr) -> String {
    let transports = ["stranger", "known", "named", "printed", "silent"]
        .map(|name| format!("{{{name}.example = {name}:[127.0.0.1]:{}}}", hop.port()));
    format!(
        "compatibility_level = 3.6\nmyhostname = mail.info.net\nmydestination =\nmynetworks = 192.0.2.1\nlocal_recipient_maps =\n\
         smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {{etc}}/server.pem\nsmtpd_tls_key_file = {{etc}}/server.key\n\
         smtpd_tls_CAfile = {{etc}}/ca.pem\nsmtpd_tls_loglevel = 1\nsmtpd_tls_received_header = yes\nsmtp_connection_cache_on_demand = no\n\
         smtpd_recipient_restrictions = check_policy_service inet:{policy}\nsmtp_tls_security_level = may\nsmtp_tls_loglevel = 1\n\
         smtp_tls_CAfile = {{etc}}/ca.pem\nrelayhost = [127.0.0.1]:{}\ntransport_maps = inline:{{{}}}\n",
        hop.port(),
        transports.join(", ")
    )
}

/// What one listener made of one client.
struct Told {
    /// What the client heard.
    replies: Vec<String>,
    /// What the policy service was told.
    policy: Vec<String>,
    /// The lines about TLS and certificates.
    lines: Vec<String>,
    /// The trace of what was accepted.
    trace: Vec<String>,
}

impl Told {
    fn parts(&self) -> [&[String]; 4] {
        [&self.replies, &self.policy, &self.lines, &self.trace]
    }
}

/// A server of either kind.
struct Side<'a> {
    listeners: &'a Listeners,
    policy: &'a Policy,
    next: &'a Remote,
    /// Its logs, one after the other.
    logs: &'a dyn Fn() -> Vec<String>,
}

pub fn are_judged_alike() -> Result<(), String> {
    let made = Certificates::make()?;
    let start_next = || {
        let setup = Setup::new("mail.info.net").starttls(&made.read("server.pem")?, &made.read("server.key")?)?;
        setup.start(free_port()?).map_err(|error| error.to_string())
    };
    let files = ["ca.pem", "server.pem", "server.key"];
    let theirs = {
        let (next, policy, listeners) = (start_next()?, Policy::start()?, listeners()?);
        let files = files.into_iter().map(|name| Ok((name.to_owned(), made.read(name)?)));
        let files: Vec<_> = files.collect::<Result<_, String>>()?;
        let (main_cf, services) =
            (main_cf(&next.address(), &policy.address), services(&listeners, &next.address(), &made)?);
        let postfix = Postfix::start_with_files(free_port()?, &main_cf, &services, &files)?;
        let logs = || vec![postfix.log()];
        Side { listeners: &listeners, policy: &policy, next: &next, logs: &logs }.told(&made)?
    };
    let (next, policy, listeners) = (start_next()?, Policy::start()?, listeners()?);
    let (main_cf, services) =
        (main_cf(&next.address(), &policy.address), services(&listeners, &next.address(), &made)?);
    let mut builder = Builder::new("info.net").main_cf(&main_cf.replace("{etc}", "{root}/etc")).master_cf(&services);
    for name in files {
        builder = builder.file(name, &made.read(name)?);
    }
    let system = builder.start()?;
    let logs = || vec![system.log("smtpd"), system.log("remote-delivery")];
    let ours = Side { listeners: &listeners, policy: &policy, next: &next, logs: &logs }.told(&made)?;
    let mut wrong = Vec::new();
    for ((what, theirs), (_, ours)) in theirs.iter().zip(&ours) {
        for (theirs, ours) in theirs.parts().into_iter().zip(ours.parts()).filter(|(theirs, ours)| theirs != ours) {
            wrong.push(format!("{what}:\nPostfix {theirs:#?}\nours {ours:#?}"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

impl Side<'_> {
    fn told(&self, made: &Certificates) -> Result<Vec<(String, Told)>, String> {
        let mut all = Vec::new();
        for (name, address) in self.listeners {
            for client in CLIENTS {
                let what = format!("{client} at {name}");
                all.push((
                    what.clone(),
                    self.one(*address, name, client, "x@elsewhere.example", made)
                        .map_err(|error| format!("{what}: {error}"))?,
                ));
            }
        }
        let open = self.listeners.iter().find(|(name, _)| *name == "off").map(|(_, address)| *address);
        let open = open.ok_or("no listener")?;
        for hop in ["stranger", "known", "named", "printed", "silent"] {
            // The domain is relayed to, by a transport of its own.
            let to = format!("x@{hop}.example");
            let listener = self.listeners.iter().find(|(name, _)| *name == "all").map_or(open, |(_, address)| *address);
            all.push((hop.to_owned(), self.one(listener, "all", "vouched", &to, made)?));
        }
        Ok(all)
    }

    fn one(
        &self,
        address: SocketAddr,
        name: &str,
        client: &str,
        to: &str,
        made: &Certificates,
    ) -> Result<Told, String> {
        let before: Vec<usize> = (self.logs)().iter().map(|log| log.lines().count()).collect();
        let taken = self.next.taken().len();
        let later = || -> Vec<String> {
            let logs = (self.logs)();
            let new = logs.iter().zip(&before).flat_map(|(log, before)| log.lines().skip(*before).map(str::to_owned));
            new.collect()
        };
        let replies = self.swaks(address, name, client, to, made)?;
        if replies.iter().any(|reply| reply.contains("queued as")) {
            // Whoever sent it on has logged all of it with its end.
            let to = format!("to=<{to}>");
            let sent = || later().iter().any(|line| line.contains(&to) && line.contains(" status=sent "));
            wait_for("the next server", Patience::default(), || {
                (self.next.taken().len() > taken && sent()).then_some(())
            })
            .map_err(|error| format!("{error}\n{}", later().join("\n")))?;
        }
        let about = |line: &&String| {
            ["TLS connection established", "abort: TLS", "certificate", "is requested, but"]
                .iter()
                .any(|words| line.contains(words))
        };
        // The line of the end comes last, and every connection has one.
        wait_for("the end of the session", Patience::default(), || {
            let logs = (self.logs)().concat();
            let ended = later().iter().any(|line| line.contains("]: disconnect from"));
            (ended && logs.matches("]: connect from").count() == logs.matches("]: disconnect from").count())
                .then_some(())
        })
        .map_err(|error| format!("{error}: {replies:?}\n{}", later().join("\n")))?;
        let lines = later();
        let mut lines: Vec<String> = lines.iter().filter(about).map(|line| plain(line, self.next)).collect();
        lines.sort();
        let trace = match self.next.taken().get(taken) {
            Some(message) => trace(&message.raw),
            None => Vec::new(),
        };
        Ok(Told { replies, policy: self.policy.told(), lines, trace })
    }

    fn swaks(
        &self,
        address: SocketAddr,
        name: &str,
        client: &str,
        to: &str,
        made: &Certificates,
    ) -> Result<Vec<String>, String> {
        let mut command = Command::new("swaks");
        command.args([
            "--server",
            &address.ip().to_string(),
            "--port",
            &address.port().to_string(),
            "--helo",
            "h.example",
            "--timeout",
            "120",
        ]);
        command.args(["--from", "a@x.example", "--to", to, if name == "wrapped" { "--tlsc" } else { "--tls" }]);
        let path = |ending: &str| made.path(&format!("{client}.{ending}"));
        if client != "none" {
            command.arg("--tls-cert").arg(path("pem")).arg("--tls-key").arg(path("key"));
        }
        let done = command.output().map_err(|error| format!("swaks: {error}"))?;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let replies = said.lines().filter_map(|line| line.strip_prefix('<').and_then(|line| line.get(3..)));
        // What EHLO offers is another test's business, and the words of the greeting.
        let replies = replies.filter(|reply| {
            !reply.starts_with("250-") && !reply.starts_with("220 ") && !reply.starts_with("250 CHUNKING")
        });
        let replies = replies.map(|reply| match reply.split_once("queued as") {
            Some((head, _)) => format!("{head}queued as"),
            None => reply.to_owned(),
        });
        // The last keyword of EHLO is one or the other's.
        Ok(replies.filter(|reply| !reply.starts_with("250 ") || reply.starts_with("250 2")).collect())
    }
}

/// A line without time and process, ports, and what each library chooses for itself.
fn plain(line: &str, next: &Remote) -> String {
    let text = line.split_once("]: ").map_or(line, |(_, text)| text);
    without_digests(text).replace(&format!(":{}", next.address().port()), ":PORT")
}

fn without_digests(text: &str) -> String {
    ["SHA384", "SHA512"]
        .iter()
        .fold(text.to_owned(), |text, name| text.replace(&format!("digest {name}"), "digest SHA256"))
}

/// The lines of the first Received field but those that are of this message alone.
fn trace(message: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(message).replace("\r\n", "\n");
    let Some(at) = text.find("Received:") else { return Vec::new() };
    let lines = text[at..].lines().enumerate().take_while(|(at, line)| *at == 0 || line.starts_with('\t'));
    let shown = lines.map(|(_, line)| without_digests(line.split(" id ").next().unwrap_or(line)));
    shown.filter(|line| !line.starts_with("\tfor ")).collect()
}
