//! Users: asked of the running authd where it talks to the caller, else found by the same functions in the same files.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use accounts::lookup::{self, by_name};
use accounts::passwd_file::PasswdFile;
use accounts::plan::{PamAnswer, PamQuestion, Plan, Sources, SystemUser};
use admission::facts::{Database, Known};
use mail_config::Config;
use mail_config::dovecot::Connection;
use mail_ipc::lookup::{MailUser, PasswdUser, Request, Response};
use mail_ipc::sockets::LOOKUP;
use mail_tables::{Disk, Query, RemoteAnswer};
use mail_types::Octets;
use table_clients::Clients;

use super::explanation::Fact;
use crate::conversation::Conversation;

/// The uid of users that are only supposed to be there.
pub const SUPPOSED: u32 = u32::MAX - 1;

/// A user, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<U> {
    /// This one.
    User(U),
    /// There is none.
    Nobody,
    /// Nobody can say.
    Later(String),
}

/// Whoever knows users. Answers are remembered: a case that is evaluated again asks once.
pub struct Users {
    state: PathBuf,
    plan: Plan,
    inner: Mutex<Inner>,
    /// Asks servers for tables.
    clients: Arc<Clients>,
}

#[derive(Default)]
struct Inner {
    authd: Authd,
    remembered: HashMap<(Database, String), Response>,
    facts: Vec<Fact>,
}

#[derive(Default)]
enum Authd {
    #[default]
    Untried,
    Talking(Box<Conversation>),
    Away,
}

impl Users {
    /// The users of a configuration; nothing is asked yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let (plan, _) = accounts::dovecot::plan(&config.dovecot.seen(&Connection::of("lmtp")));
        let clients = Arc::new(Clients::new(Arc::clone(&config.main), Arc::new(Disk)));
        Self { state: config.state_dir(), plan, inner: Mutex::default(), clients }
    }

    /// The same with users that there are not: each has the uid and home that useradd would give somebody.
    #[must_use]
    pub fn supposing(config: &Config, names: &[&str]) -> Self {
        let users = Self::new(config);
        for name in names {
            let login = name.split('@').next().unwrap_or(name);
            let (home, uid) = (format!("/home/{login}"), SUPPOSED);
            let passwd = PasswdUser {
                name: login.to_owned(),
                uid,
                gid: uid,
                home: home.as_str().into(),
                shell: Octets::default(),
            };
            let mail = MailUser {
                user: (*name).to_owned(),
                uid: Some(uid),
                gid: Some(uid),
                home: Some(home.as_str().into()),
                mail: Some("maildir:~/Maildir".to_owned()),
            };
            let mut inner = users.lock();
            inner.remembered.insert((Database::Passwd, login.to_owned()), Response::Passwd { user: passwd });
            inner.remembered.insert((Database::Mail, (*name).to_owned()), Response::Mail { user: mail });
        }
        users
    }

    /// A user of the machine.
    #[must_use]
    pub fn passwd(&self, name: &str) -> Found<PasswdUser> {
        match self.ask(Database::Passwd, name) {
            Response::Passwd { user } => Found::User(user),
            other => missing(other),
        }
    }

    /// A user of Dovecot's userdb, as its LMTP server would look it up.
    #[must_use]
    pub fn mail(&self, name: &str) -> Found<MailUser> {
        match self.ask(Database::Mail, name) {
            Response::Mail { user } => Found::User(user),
            other => missing(other),
        }
    }

    /// What was asked since the last time, for the explanation.
    #[must_use]
    pub fn take_facts(&self) -> Vec<Fact> {
        std::mem::take(&mut self.lock().facts)
    }

    /// Who answers.
    #[must_use]
    pub fn who(&self, database: Database) -> &'static str {
        match (&self.lock().authd, database) {
            (Authd::Talking(_), _) => "authd",
            (_, Database::Passwd) => "passwd database",
            (_, Database::Mail) => "dovecot.conf",
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, database: Database, name: &str) -> Response {
        let key = (database, name.to_owned());
        let known = self.lock().remembered.get(&key).cloned();
        let answer = known.unwrap_or_else(|| {
            let answer = self.lock().authd.ask(&self.state, database, name);
            answer.unwrap_or_else(|| self.look(database, name))
        });
        let from = self.who(database);
        let mut inner = self.lock();
        inner.remembered.insert(key, answer.clone());
        let fact = fact(database, name, &answer, from);
        if !inner.facts.contains(&fact) {
            inner.facts.push(fact);
        }
        answer
    }

    /// The files themselves.
    fn look(&self, database: Database, name: &str) -> Response {
        match database {
            Database::Passwd => match mail_posix::users::by_name(name) {
                Ok(Some(user)) => Response::Passwd {
                    user: PasswdUser {
                        uid: user.uid,
                        gid: user.gid,
                        home: octets(&user.home),
                        shell: octets(&user.shell),
                        name: user.name,
                    },
                },
                Ok(None) => Response::NotFound,
                Err(error) => Response::Temporary { text: error.to_string() },
            },
            Database::Mail => match by_name(&self.plan, &Files, name, "lmtp", &mut Vec::new()) {
                lookup::Found::User(user) => Response::Mail {
                    user: MailUser {
                        user: user.user,
                        uid: user.uid,
                        gid: user.gid,
                        home: user.home.map(|home| home.as_str().into()),
                        mail: user.mail,
                    },
                },
                lookup::Found::Unknown => Response::NotFound,
                lookup::Found::Unavailable(text) => Response::Temporary { text },
            },
        }
    }
}

/// Users as the functions of smtpd ask for them.
#[derive(Clone)]
pub struct Existing(pub Arc<Users>, Arc<Clients>);

impl Existing {
    /// These users; tables that servers answer are asked directly, with the rights of the caller.
    #[must_use]
    pub fn new(users: Arc<Users>) -> Self {
        let clients = Arc::clone(&users.clients);
        Self(users, clients)
    }
}

impl admission::facts::Users for Existing {
    async fn exists(&self, database: Database, name: &str) -> Known {
        match self.0.ask(database, name) {
            Response::Passwd { .. } | Response::Mail { .. } => Known::Yes,
            Response::NotFound => Known::No,
            Response::Temporary { text } => Known::Later(text),
            _ => Known::Later("authd is of another version".to_owned()),
        }
    }

    async fn table(&self, query: &Query) -> RemoteAnswer {
        self.1.ask(&query.table, &query.key).await
    }
}

impl Authd {
    /// The answer of the running authd; none where it is away or does not talk to the caller.
    fn ask(&mut self, state: &Path, database: Database, name: &str) -> Option<Response> {
        if matches!(self, Self::Untried) {
            *self = Conversation::open(state, LOOKUP).map_or(Self::Away, |open| Self::Talking(Box::new(open)));
        }
        let Self::Talking(conversation) = self else { return None };
        let request = match database {
            Database::Passwd => Request::Passwd { name: name.to_owned() },
            Database::Mail => Request::Mail { user: name.to_owned(), service: "lmtp".to_owned() },
        };
        match conversation.ask::<Response>(&request) {
            Ok((answer, _)) => Some(answer),
            Err(_) => {
                *self = Self::Away;
                None
            }
        }
    }
}

fn missing<U>(answer: Response) -> Found<U> {
    match answer {
        Response::NotFound => Found::Nobody,
        Response::Temporary { text } => Found::Later(text),
        _ => Found::Later("authd speaks another version".to_owned()),
    }
}

fn fact(database: Database, name: &str, answer: &Response, from: &str) -> Fact {
    let what = match database {
        Database::Passwd => "user",
        Database::Mail => "mailbox user",
    };
    let answer = match answer {
        Response::Passwd { user } => format!("uid {}, home {}", user.uid, user.home.printable()),
        Response::Mail { user } => format!("mail {}", user.mail.as_deref().unwrap_or("nowhere")),
        Response::NotFound => "unknown".to_owned(),
        Response::Temporary { text } => format!("no answer: {text}"),
        _ => "no answer".to_owned(),
    };
    Fact { question: format!("{what} {name}"), answer, from: from.to_owned() }
}

fn octets(path: &Path) -> Octets {
    Octets::new(path.as_os_str().as_bytes())
}

/// The files of Dovecot's databases with the rights of the caller. Passwords are asked of nobody.
struct Files;

impl Sources for Files {
    fn passwd_file(&self, path: &str) -> Result<Arc<PasswdFile>, String> {
        let octets = std::fs::read(path).map_err(|error| format!("open({path}) failed: {error}"))?;
        Ok(Arc::new(PasswdFile::parse(&String::from_utf8_lossy(&octets))))
    }

    fn pam(&self, _: PamQuestion<'_>) -> PamAnswer {
        PamAnswer::Unavailable("explain asks for no password".to_owned())
    }

    fn shadow(&self, _: &str, _: Option<&Octets>) -> PamAnswer {
        PamAnswer::Unavailable("explain asks for no password".to_owned())
    }

    fn system_user(&self, name: &str) -> Result<Option<SystemUser>, String> {
        let user = mail_posix::users::by_name(name).map_err(|error| format!("getpwnam({name}) failed: {error}"))?;
        Ok(user.map(|user| SystemUser {
            name: user.name,
            uid: user.uid,
            gid: user.gid,
            home: user.home.to_string_lossy().into_owned(),
        }))
    }

    fn group(&self, name: &str) -> Result<Option<u32>, String> {
        let group = mail_posix::users::group_by_name(name);
        let group = group.map_err(|error| format!("getgrnam({name}) failed: {error}"))?;
        Ok(group.map(|group| group.gid))
    }
}
