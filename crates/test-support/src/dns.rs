//! A real name server on loopback, over UDP and TCP, with a zone that a test can change while it runs.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, PTR, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::free_port;

/// What the server does with questions about a name.
#[derive(Debug, Clone)]
enum Behaviour {
    Records(Vec<RData>),
    Fails(ResponseCode),
    Silent,
}

/// What the server knows, and how it lies.
#[derive(Debug, Default)]
struct Names {
    behaviours: HashMap<String, Behaviour>,
    /// Names whose answers do not fit into UDP.
    large: HashSet<String>,
}

type Zone = Arc<Mutex<Names>>;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Udp,
    Tcp,
}

/// A name server. It ends when it is dropped.
pub struct Dns {
    address: SocketAddr,
    zone: Zone,
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn name(text: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(text).map_err(|error| format!("{text}: {error}"))?;
    name.set_fqdn(true);
    Ok(name)
}

impl Dns {
    /// Starts a server with an empty zone: no name exists.
    ///
    /// # Errors
    /// No port is free.
    pub fn start() -> io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, free_port(Ipv4Addr::LOCALHOST)?).into())
    }

    /// Starts a server on an address.
    ///
    /// # Errors
    /// The address is taken.
    pub fn start_at(address: SocketAddr) -> io::Result<Self> {
        let udp = UdpSocket::bind(address)?;
        let address = udp.local_addr()?;
        let tcp = TcpListener::bind(address)?;
        udp.set_read_timeout(Some(Duration::from_millis(50)))?;
        tcp.set_nonblocking(true)?;
        let (zone, ending): (Zone, _) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let threads = vec![
            spawn(&zone, &ending, move |zone| serve_udp(&udp, zone)),
            spawn(&zone, &ending, move |zone| serve_tcp(&tcp, zone)),
        ];
        Ok(Self { address, zone, ending, threads })
    }

    /// Where it listens, as `postrider_dns_servers` takes it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn add(&self, at: &str, record: RData) {
        let mut zone = self.zone.lock().unwrap_or_else(PoisonError::into_inner);
        match zone.behaviours.entry(key(at)).or_insert_with(|| Behaviour::Records(Vec::new())) {
            Behaviour::Records(records) => records.push(record),
            other => *other = Behaviour::Records(vec![record]),
        }
    }

    fn set(&self, at: &str, behaviour: Behaviour) {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner).behaviours.insert(key(at), behaviour);
    }

    /// Adds an MX record; the exchange `.` is the null MX.
    ///
    /// # Errors
    /// A name that DNS cannot hold.
    pub fn mx(&self, domain: &str, preference: u16, exchange: &str) -> Result<(), String> {
        self.add(domain, RData::MX(MX::new(preference, name(exchange)?)));
        Ok(())
    }

    /// Adds an MX record whose exchange has one label of any octets below `domain`: a name that no host can have. It gets an address too.
    ///
    /// # Errors
    /// More octets than a label holds.
    pub fn mx_of_octets(&self, domain: &str, label: &[u8], address: IpAddr) -> Result<(), String> {
        let parent = name(domain)?;
        let exchange = Name::from_labels([label]).and_then(|host| host.append_name(&parent));
        let exchange = exchange.map_err(|error| format!("{label:?}: {error}"))?;
        self.add(domain, RData::MX(MX::new(10, exchange.clone())));
        self.address_of(&exchange.to_ascii(), address);
        Ok(())
    }

    /// Adds an address.
    pub fn address_of(&self, host: &str, address: IpAddr) {
        self.add(
            host,
            match address {
                IpAddr::V4(v4) => RData::A(A(v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
            },
        );
    }

    /// Adds an alias.
    ///
    /// # Errors
    /// A name that DNS cannot hold.
    pub fn cname(&self, alias: &str, canonical: &str) -> Result<(), String> {
        self.add(alias, RData::CNAME(CNAME(name(canonical)?)));
        Ok(())
    }

    /// Adds a name server of a domain.
    ///
    /// # Errors
    /// A name that DNS cannot hold.
    pub fn name_server_of(&self, domain: &str, host: &str) -> Result<(), String> {
        self.add(domain, RData::NS(NS(name(host)?)));
        Ok(())
    }

    /// Adds a text.
    pub fn text_of(&self, at: &str, text: &str) {
        self.add(at, RData::TXT(TXT::new(vec![text.to_owned()])));
    }

    /// Adds the name of an address.
    ///
    /// # Errors
    /// A name that DNS cannot hold.
    pub fn name_of(&self, address: IpAddr, host: &str) -> Result<(), String> {
        self.add(&Name::from(address).to_ascii(), RData::PTR(PTR(name(host)?)));
        Ok(())
    }

    /// The name exists, without any record.
    pub fn exists(&self, at: &str) {
        self.set(at, Behaviour::Records(Vec::new()));
    }

    /// Questions about the name are answered SERVFAIL.
    pub fn fails(&self, at: &str) {
        self.set(at, Behaviour::Fails(ResponseCode::ServFail));
    }

    /// Questions about the name are answered REFUSED.
    pub fn refuses(&self, at: &str) {
        self.set(at, Behaviour::Fails(ResponseCode::Refused));
    }

    /// Questions about the name are not answered.
    pub fn is_silent_about(&self, at: &str) {
        self.set(at, Behaviour::Silent);
    }

    /// Answers about the name are too large for UDP: they come truncated, and whole over TCP.
    pub fn is_large(&self, at: &str) {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner).large.insert(key(at));
    }

    /// The name does not exist any more.
    pub fn forget(&self, at: &str) {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner).behaviours.remove(&key(at));
    }
}

/// The first argument with which a test program becomes a name server instead.
pub const SERVE: &str = "--serve-names";

/// Serves names on an address, told by lines of standard input: `mx DOMAIN PREFERENCE HOST`, `a HOST ADDRESS`, `ns DOMAIN HOST`,
/// `txt NAME TEXT`, `cname ALIAS HOST`, `ptr ADDRESS HOST`,
/// `fail NAME`, `silent NAME`, `forget NAME`. Each is answered `ok` once it is in force. Ends with the input.
///
/// # Errors
/// The address is taken, or a line is wrong.
pub fn serve_lines(address: &str) -> Result<(), String> {
    let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
    let dns = Dns::start_at(address).map_err(|error| error.to_string())?;
    for line in io::stdin().lines() {
        let line = line.map_err(|error| error.to_string())?;
        dns.tell(&line)?;
        let mut out = io::stdout();
        out.write_all(b"ok\n").and_then(|()| out.flush()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

impl Dns {
    fn tell(&self, line: &str) -> Result<(), String> {
        let wrong = || format!("not understood: {line}");
        let ip = |text: &str| text.parse::<IpAddr>().map_err(|_| wrong());
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["mx", domain, preference, host] => self.mx(domain, preference.parse().map_err(|_| wrong())?, host),
            ["a", host, address] => ip(address).map(|address| self.address_of(host, address)),
            ["ns", domain, host] => self.name_server_of(domain, host),
            ["txt", at, ..] => {
                let text = line.splitn(3, ' ').nth(2).unwrap_or_default();
                self.text_of(at, text);
                Ok(())
            }
            ["cname", alias, host] => self.cname(alias, host),
            ["ptr", address, host] => ip(address).and_then(|address| self.name_of(address, host)),
            ["fail", name] => {
                self.fails(name);
                Ok(())
            }
            ["silent", name] => {
                self.is_silent_about(name);
                Ok(())
            }
            ["forget", name] => {
                self.forget(name);
                Ok(())
            }
            _ => Err(wrong()),
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn spawn(zone: &Zone, ending: &Arc<AtomicBool>, serve: impl Fn(&Zone) + Send + 'static) -> JoinHandle<()> {
    let (zone, ending) = (Arc::clone(zone), Arc::clone(ending));
    std::thread::spawn(move || {
        while !ending.load(Ordering::Relaxed) {
            serve(&zone);
        }
    })
}

fn serve_udp(socket: &UdpSocket, zone: &Zone) {
    let mut buffer = [0; 4096];
    // A time-out only gives the chance to end.
    let Ok((count, peer)) = socket.recv_from(&mut buffer) else { return };
    if let Some(answer) = answer(&buffer[..count], zone, Over::Udp) {
        let _ = socket.send_to(&answer, peer);
    }
}

fn serve_tcp(listener: &TcpListener, zone: &Zone) {
    match listener.accept() {
        // Who keeps a connection open holds up nobody. The thread ends with its client.
        Ok((stream, _)) => {
            let zone = Arc::clone(zone);
            drop(std::thread::spawn(move || drop(talk(stream, &zone))));
        }
        Err(_) => std::thread::sleep(Duration::from_millis(20)),
    }
}

fn talk(mut stream: TcpStream, zone: &Zone) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question)?;
        let Some(answer) = answer(&question, zone, Over::Tcp) else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_be_bytes())?;
        stream.write_all(&answer)?;
    }
}

/// The answer to a question; none where the zone says silence.
fn answer(question: &[u8], zone: &Zone, over: Over) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let mut response = Message::response(question.metadata.id, question.metadata.op_code);
    response.metadata.recursion_desired = question.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.authoritative = true;
    response.add_query(query.clone());
    let zone = zone.lock().unwrap_or_else(PoisonError::into_inner);
    let mut asked = query.name().clone();
    if over == Over::Udp && zone.large.contains(&key(&asked.to_ascii())) {
        response.metadata.truncation = true;
        return response.to_vec().ok();
    }
    // A chain of aliases is followed as a resolver would, with an end to loops.
    for _ in 0..8 {
        match zone.behaviours.get(&key(&asked.to_ascii())) {
            None => response.metadata.response_code = ResponseCode::NXDomain,
            Some(Behaviour::Silent) => return None,
            Some(Behaviour::Fails(code)) => response.metadata.response_code = *code,
            Some(Behaviour::Records(records)) => {
                let wanted = |record: &&RData| record.record_type() == query.query_type();
                for record in records.iter().filter(wanted) {
                    response.add_answer(Record::from_rdata(asked.clone(), 1, record.clone()));
                }
                let alias = records.iter().find(|record| record.record_type() == RecordType::CNAME);
                if let (true, Some(RData::CNAME(canonical))) = (response.answers.iter().all(|a| a.name != asked), alias)
                {
                    let canonical = canonical.0.clone();
                    response.add_answer(Record::from_rdata(asked, 1, RData::CNAME(CNAME(canonical.clone()))));
                    asked = canonical;
                    continue;
                }
            }
        }
        break;
    }
    if response.answers.is_empty() && response.metadata.response_code != ResponseCode::ServFail {
        // Without a SOA record a negative answer may not be believed.
        let root = Name::root();
        let soa = SOA::new(root.clone(), root.clone(), 1, 3600, 600, 86400, 1);
        response.add_authority(Record::from_rdata(root, 1, RData::SOA(soa)));
    }
    response.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_dns::{DnsError, Lookup as _, Resolver};

    #[tokio::test]
    async fn our_resolver_understands_the_server() {
        let dns = Dns::start().expect("a port");
        dns.mx("info.net", 10, "mail.info.net").expect("a name");
        dns.address_of("mail.info.net", [127, 0, 0, 9].into());
        dns.cname("www.info.net", "info.net").expect("a name");
        dns.fails("broken.example");
        dns.mx("null.example", 0, ".").expect("a name");
        dns.name_of([192, 0, 2, 9].into(), "mail.info.net").expect("a name");
        let resolver = Resolver::with_servers(&[dns.address()]).expect("a resolver");
        assert_eq!(resolver.mx("info.net").await.expect("there")[0].exchange, "mail.info.net");
        assert_eq!(resolver.mx("www.info.net").await.expect("behind an alias")[0].preference, 10);
        assert_eq!(resolver.addresses("mail.info.net").await, Ok(vec![[127, 0, 0, 9].into()]));
        assert_eq!(resolver.mx("null.example").await.expect("there")[0].exchange, "");
        assert_eq!(resolver.names([192, 0, 2, 9].into()).await, Ok(vec!["mail.info.net".to_owned()]));
        assert_eq!(resolver.mx("nowhere.example").await, Err(DnsError::NoDomain));
        assert_eq!(resolver.mx("mail.info.net").await, Err(DnsError::NoData));
        assert!(matches!(resolver.mx("broken.example").await, Err(DnsError::Temporary(_))));
    }
}
