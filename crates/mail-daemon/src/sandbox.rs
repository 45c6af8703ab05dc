//! What each process keeps of the machine when it has given up its rights: one table, and the rules that it means on this machine.
//!
//! The table says it by names of places ([`Place`]); [`Facts`] know where they are. It is pure, so that a test and the threat model can read it.
//! Who enters the sandbox and when is the business of [`crate::run`] and of the crates that fork: session processes, deliverers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mail_config::Config;
use mail_ipc::hello::Role;
use mail_ipc::sockets::{self, Socket};
use mail_posix::landlock::{Connections, Rules};
use mail_posix::sandbox::Sandbox;
use mail_posix::seccomp::Calls;

/// A place in the file system, by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A directory of the state.
    State(&'static str),
    /// The directories of the daemon's own log and of `maillog_file`: a file that was rotated is made anew.
    Logs,
    /// The directories of the tables that the configuration names: a table that is replaced is another file.
    Tables,
    /// The directories of what describes the servers of tables, and of the SQLite databases and certificates that it names.
    TableClients,
    /// /etc, for the users of the machine, the name servers and the tables there. Its secrets have modes of their own.
    Etc,
    /// The libraries and caches of the name service switch.
    NameService,
    /// Where a link /etc/resolv.conf leads.
    NameServers,
    /// The certificates of authorities: where systems keep them, and what main.cf names.
    Authorities,
    /// The local time.
    LocalTime,
    /// /proc, for the number of this boot.
    Proc,
    /// Every file, as far as the user's permissions reach.
    Everything,
}

/// The TCP connections of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tcp {
    /// To anybody.
    Anybody,
    /// To name servers and to the policy services that restrictions name.
    Services,
    /// To nobody.
    Nobody,
}

/// What one kind of process keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Whose process without rights it is.
    pub role: Role,
    /// What it may read.
    pub read: &'static [Place],
    /// What it may read and change.
    pub write: &'static [Place],
    /// The sockets of ours that it connects to. Who may connect, each socket's owner checks by the peer's uid.
    pub sockets: &'static [Socket],
    /// The TCP connections it makes. Listeners are opened for it.
    pub tcp: Tcp,
    /// Its system calls.
    pub calls: &'static [Calls],
}

const GENERATIONS: Place = Place::State("generation");

/// The whole policy, a row for each process that serves.
pub const TABLE: &[Row] = &[
    Row {
        role: Role::Smtpd,
        read: &[
            GENERATIONS,
            Place::Tables,
            Place::Etc,
            Place::NameService,
            Place::NameServers,
            Place::Authorities,
            Place::LocalTime,
        ],
        write: &[Place::Logs, Place::State("maildrop")],
        sockets: &[sockets::QUEUE, sockets::AUTH, sockets::LOOKUP, sockets::CONTROL],
        tcp: Tcp::Services,
        calls: &[Calls::Basic, Calls::Files, Calls::UnixSockets, Calls::InternetSockets, Calls::Netlink],
    },
    Row {
        role: Role::QueueManager,
        read: &[GENERATIONS, Place::Tables, Place::Etc, Place::NameService, Place::LocalTime, Place::Proc],
        write: &[
            Place::Logs,
            Place::State("segments"),
            Place::State("content"),
            Place::State("corrupt"),
            Place::State("sled"),
            Place::State("ledger"),
        ],
        sockets: &[sockets::LOOKUP],
        tcp: Tcp::Nobody,
        calls: &[Calls::Basic, Calls::Files, Calls::UnixSockets],
    },
    Row {
        role: Role::LocalDelivery,
        // An :include: file may lie anywhere that its owner lets others read it.
        read: &[Place::Everything],
        write: &[Place::Logs],
        sockets: &[sockets::DELIVERY, sockets::LOOKUP, sockets::MAILBOX],
        tcp: Tcp::Nobody,
        calls: &[Calls::Basic, Calls::Files, Calls::UnixSockets],
    },
    Row {
        role: Role::RemoteDelivery,
        read: &[
            GENERATIONS,
            Place::Tables,
            Place::Etc,
            Place::NameService,
            Place::NameServers,
            Place::Authorities,
            Place::LocalTime,
        ],
        write: &[Place::Logs],
        sockets: &[sockets::DELIVERY, sockets::LOOKUP],
        tcp: Tcp::Anybody,
        calls: &[Calls::Basic, Calls::Files, Calls::UnixSockets, Calls::InternetSockets, Calls::Netlink],
    },
    Row {
        role: Role::Pop3Front,
        read: &[GENERATIONS, Place::LocalTime],
        write: &[Place::Logs],
        sockets: &[sockets::AUTH],
        tcp: Tcp::Nobody,
        calls: &[Calls::Basic, Calls::Files, Calls::UnixSockets],
    },
    Row {
        role: Role::ImapFront,
        read: &[GENERATIONS, Place::LocalTime],
        write: &[Place::Logs],
        sockets: &[sockets::AUTH],
        tcp: Tcp::Nobody,
        calls: &[Calls::Basic, Calls::Files, Calls::UnixSockets],
    },
    Row {
        role: Role::Authd,
        // The name service switch runs foreign code: SSSD, LDAP. A passwd-file elsewhere is opened by the monitor.
        read: &[
            GENERATIONS,
            Place::TableClients,
            Place::Etc,
            Place::NameService,
            Place::NameServers,
            Place::Authorities,
            Place::LocalTime,
        ],
        write: &[Place::Logs],
        sockets: &[],
        tcp: Tcp::Anybody,
        calls: &[Calls::Basic, Calls::Files, Calls::UnixSockets, Calls::InternetSockets, Calls::Netlink],
    },
];

/// Where the places of the table are on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The state directory.
    pub state: PathBuf,
    /// The files of the log.
    pub logs: Vec<PathBuf>,
    /// The files of tables.
    pub tables: Vec<PathBuf>,
    /// What describes the servers of tables, and the files that it names.
    pub clients: Vec<PathBuf>,
    /// The directories of certificates of authorities that the configuration names, and those of such files.
    pub authorities: Vec<PathBuf>,
    /// Where a link /etc/resolv.conf leads.
    pub resolver: Option<PathBuf>,
    /// The ports of name servers.
    pub dns_ports: Vec<u16>,
    /// The ports of policy services.
    pub policy_ports: Vec<u16>,
}

impl Facts {
    /// The facts that a configuration has, with the files that the daemon's log goes to.
    #[must_use]
    pub fn of(config: &Config, state: &Path, logs: Vec<PathBuf>) -> Self {
        let tables = config.tables().into_iter().filter_map(|(table, _)| table.file());
        let port = |server: &String| server.parse::<SocketAddr>().ok().map(|address| address.port());
        let named = config.main.postrider_dns_servers.iter().filter_map(port);
        Self {
            state: state.to_owned(),
            logs,
            tables: tables.filter(|path| path.is_absolute()).collect(),
            clients: clients(config),
            authorities: authorities(config, state),
            resolver: std::fs::canonicalize("/etc/resolv.conf").ok(),
            dns_ports: named.chain([53]).collect(),
            policy_ports: config.policy_ports(),
        }
    }
}

/// The sandbox of the process that serves in a role; none for what is no such process.
#[must_use]
pub fn of_role(role: Role, facts: &Facts) -> Option<Sandbox> {
    let row = TABLE.iter().find(|row| row.role == role)?;
    let paths = |places: &[Place]| places.iter().flat_map(|place| place.paths(facts)).collect();
    let connect = match row.tcp {
        Tcp::Anybody => Connections::Any,
        Tcp::Services => Connections::Ports([facts.dns_ports.as_slice(), &facts.policy_ports].concat()),
        Tcp::Nobody => Connections::Ports(Vec::new()),
    };
    let rules = Rules { read: paths(row.read), write: paths(row.write), append: Vec::new(), connect };
    Some(Sandbox { rules, calls: row.calls })
}

impl Place {
    fn paths(self, facts: &Facts) -> Vec<PathBuf> {
        let fixed = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        match self {
            Self::State(name) => vec![facts.state.join(name)],
            Self::Logs => facts.logs.iter().map(|path| directory(path, &facts.state)).collect(),
            Self::Tables => facts.tables.iter().map(|path| directory(path, &facts.state)).collect(),
            Self::TableClients => facts.clients.iter().map(|path| directory(path, &facts.state)).collect(),
            Self::Etc => fixed(&["/etc"]),
            Self::NameService => fixed(&["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/var/lib/sss", "/var/lib/misc"]),
            Self::NameServers => facts.resolver.iter().map(|path| directory(path, &facts.state)).collect(),
            Self::Authorities => {
                let known = ["/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/lib/ssl"];
                known.iter().map(PathBuf::from).chain(facts.authorities.clone()).collect()
            }
            Self::LocalTime => fixed(&["/etc/localtime", "/usr/share/zoneinfo"]),
            Self::Proc => fixed(&["/proc"]),
            Self::Everything => fixed(&["/"]),
        }
    }
}

/// The files that describe the servers of tables, and what they name: the databases of SQLite, the certificates of authorities.
fn clients(config: &Config) -> Vec<PathBuf> {
    let named = config.tables().into_iter().map(|(table, _)| table).chain(config.secret_tables());
    let files: Vec<PathBuf> = named.filter_map(|table| table.client_file()).collect();
    let named = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let values = text.lines().filter_map(|line| line.split_once('='));
        let paths = values.filter(|(name, _)| ["dbpath", "tls_CAfile", "tls_ca_cert_file"].contains(&name.trim()));
        paths.map(|(_, path)| PathBuf::from(path.trim())).collect::<Vec<_>>()
    };
    let others: Vec<PathBuf> = files.iter().flat_map(named).collect();
    files.into_iter().chain(others).filter(|path| path.is_absolute()).collect()
}

/// The directories of authorities that main.cf, or a line of master.cf, names, and those of such files.
fn authorities(config: &Config, state: &Path) -> Vec<PathBuf> {
    let listeners = config.listeners().iter().map(|listener| Arc::clone(&listener.main));
    let transports = config.master.transports().map(|transport| Arc::new(config.for_service(transport.service)));
    let mains = listeners.chain(transports).chain([Arc::clone(&config.main)]);
    let mut found: Vec<PathBuf> = mains
        .flat_map(|main| {
            let files = [&main.smtpd_tls_CAfile, &main.smtp_tls_CAfile, &main.lmtp_tls_CAfile];
            let directories = [&main.smtpd_tls_CApath, &main.smtp_tls_CApath, &main.lmtp_tls_CApath];
            let files = files.into_iter().filter_map(|file| file.value.as_ref().map(|file| directory(file, state)));
            let all: Vec<PathBuf> =
                files.chain(directories.into_iter().filter_map(|path| path.value.clone())).collect();
            all
        })
        .filter(|path| path.is_absolute())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The directory of a file, so that it may be replaced; the file alone where that directory holds more than such files: the root, a home, our state,
/// or what lies above our state.
fn directory(path: &Path, state: &Path) -> PathBuf {
    let parent = path.parent().unwrap_or(path);
    let home = parent.parent() == Some(Path::new("/home")) || parent == Path::new("/root");
    let wide = ["/", "/dev", "/home", "/var", "/var/mail", "/var/spool", "/var/spool/mail"]
        .iter()
        .any(|wide| parent == Path::new(wide));
    if wide || home || state.starts_with(parent) { path.to_owned() } else { parent.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            state: "/var/spool/postrider".into(),
            logs: vec!["/var/spool/postrider/log/smtpd.log".into(), "/var/log/mail.log".into()],
            tables: vec!["/etc/aliases".into(), "/srv/tables/virtual".into(), "/home/john/list".into()],
            clients: vec!["/srv/clients/virtual.cf".into()],
            authorities: vec!["/srv/authorities".into()],
            resolver: Some("/run/systemd/resolve/stub-resolv.conf".into()),
            dns_ports: vec![53],
            policy_ports: vec![10023],
        }
    }

    fn strings(paths: &[PathBuf]) -> Vec<&str> {
        paths.iter().filter_map(|path| path.to_str()).collect()
    }

    #[test]
    fn every_role_that_serves_has_one_row() {
        use Role::{Authd, ImapFront, LocalDelivery, Pop3Front, QueueManager, RemoteDelivery, Smtpd};
        for role in [Smtpd, QueueManager, LocalDelivery, RemoteDelivery, Pop3Front, ImapFront, Authd] {
            assert_eq!(TABLE.iter().filter(|row| row.role == role).count(), 1, "{role:?}");
        }
        assert_eq!(of_role(Role::Command, &facts()), None);
    }

    // R9
    #[test]
    fn only_queue_manager_touches_the_queue_and_nobody_the_keys() {
        let state = Path::new("/var/spool/postrider");
        for row in TABLE.iter().filter(|row| row.role != Role::LocalDelivery) {
            let Sandbox { rules, .. } = of_role(row.role, &facts()).expect("a row");
            let may = |name: &str, paths: &[PathBuf]| paths.iter().any(|path| state.join(name).starts_with(path));
            for queue in ["segments", "content", "corrupt", "sled", "ledger"] {
                assert_eq!(may(queue, &rules.write), row.role == Role::QueueManager, "{:?} {queue}", row.role);
                assert!(!may(queue, &rules.read), "{:?} {queue}", row.role);
            }
            assert!(!may("tls", &rules.read) && !may("tls", &rules.write), "{:?}", row.role);
        }
    }

    // R9
    #[test]
    fn nobody_reads_homes_or_mailboxes() {
        for row in TABLE.iter().filter(|row| row.role != Role::LocalDelivery) {
            let Sandbox { rules, .. } = of_role(row.role, &facts()).expect("a row");
            for mailbox in ["/home/john/Maildir", "/var/mail/john", "/var/vmail/info.net/john", "/root"] {
                let may = rules.read.iter().chain(&rules.write).any(|path| Path::new(mailbox).starts_with(path));
                assert!(!may, "{:?} {mailbox}", row.role);
            }
        }
    }

    #[test]
    fn smtpd_alone_reaches_policy_services() {
        for row in TABLE {
            let Sandbox { rules, .. } = of_role(row.role, &facts()).expect("a row");
            let reaches = matches!(&rules.connect, Connections::Ports(ports) if ports.contains(&10023));
            assert_eq!(reaches, row.role == Role::Smtpd, "{:?}", row.role);
        }
    }

    #[test]
    fn a_front_before_login_reads_its_configuration_alone() {
        let Sandbox { rules, .. } = of_role(Role::ImapFront, &facts()).expect("a row");
        assert_eq!(strings(&rules.read), ["/var/spool/postrider/generation", "/etc/localtime", "/usr/share/zoneinfo"]);
        assert_eq!(strings(&rules.write), ["/var/spool/postrider/log", "/var/log"]);
        assert_eq!(rules.connect, Connections::Ports(Vec::new()));
    }

    #[test]
    fn a_table_in_a_wide_directory_is_granted_alone() {
        let Sandbox { rules, .. } = of_role(Role::Smtpd, &facts()).expect("a row");
        let read = strings(&rules.read);
        assert!(read.contains(&"/srv/tables") && read.contains(&"/home/john/list") && read.contains(&"/etc"));
        assert!(!read.contains(&"/home/john"));
        assert_eq!(
            directory(Path::new("/var/spool/postrider/x"), Path::new("/var/spool/postrider")),
            Path::new("/var/spool/postrider/x")
        );
    }
}
