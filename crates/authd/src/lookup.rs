//! `lookup.sock`: users of the machine and of Dovecot's userdb, and tables that servers answer.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use accounts::lookup::{Found, by_name};
use mail_config::dovecot::Connection;
use mail_ipc::hello::Role;
use mail_ipc::lookup::{MailUser, PasswdUser, Request, Response};
use mail_net::ipc;
use mail_posix::users::User;
use mail_types::Octets;
use tokio::net::UnixStream;

use crate::conversation::{Guests, Replies, describe};
use crate::front::Front;

/// Serves one client until it goes.
pub(crate) async fn serve(front: Arc<Front>, guests: Arc<Guests>, stream: UnixStream) {
    let Ok(mut conversation) = ipc::accept(stream, &front.hello).await else { return };
    if !guests.admits(&conversation) {
        front.say(decision::Stage::Daemon, None, &format!("auth: lookup.sock: {} is refused", describe(&conversation)));
        return;
    }
    let replies = Replies::start(conversation.writer.clone());
    let role = conversation.hello.role;
    while let Ok(Some(received)) = conversation.reader.frame().await {
        let id = received.raw.id();
        match received.read::<Request>() {
            Ok(frame) => {
                // Waiting here, not in the task, leaves further requests in the socket.
                let Ok(permit) = Arc::clone(&front.evaluations).acquire_owned().await else { return };
                let (front, replies) = (Arc::clone(&front), replies.clone());
                tokio::spawn(async move {
                    let response = answer(&front, role, frame.body).await;
                    drop(permit);
                    replies.send(id, response).await;
                });
            }
            Err(_) => replies.send(id, Response::NotUnderstood).await,
        }
    }
}

/// Answers one request. The databases may block, so they are asked on a thread of their own.
pub(crate) async fn answer(front: &Arc<Front>, role: Role, request: Request) -> Response {
    if let Request::Table { table, key } = &request {
        return from_table(front, role, table, key).await;
    }
    let front = Arc::clone(front);
    let asked = tokio::task::spawn_blocking(move || match request {
        Request::Passwd { name } => passwd(&front, &name),
        Request::Mail { user, service } => mail(&front, &user, &service),
        Request::Table { .. } => Response::NotUnderstood,
    });
    asked.await.unwrap_or_else(|_| Response::Temporary { text: "the lookup failed".into() })
}

/// Whoever asked may know no more than that it must wait; why stands in our log.
async fn from_table(front: &Front, role: Role, table: &str, key: &str) -> Response {
    let response = front.tables.ask(role, table, key).await;
    if let Response::Temporary { text } = &response {
        front.say_at(decision::Level::Warning, decision::Stage::Daemon, None, &format!("auth: table {text}"));
    }
    response
}

fn passwd(front: &Front, name: &str) -> Response {
    match front.sources.passwd(name) {
        Ok(Some(user)) => Response::Passwd { user: passwd_user(user) },
        Ok(None) => Response::NotFound,
        Err(text) => {
            front.say_at(decision::Level::Error, decision::Stage::Daemon, None, &format!("auth: {text}"));
            Response::Temporary { text }
        }
    }
}

fn passwd_user(user: User) -> PasswdUser {
    let octets = |path: &Path| Octets::new(path.as_os_str().as_bytes());
    PasswdUser { uid: user.uid, gid: user.gid, home: octets(&user.home), shell: octets(&user.shell), name: user.name }
}

fn mail(front: &Front, user: &str, service: &str) -> Response {
    let rules = front.rules(&Connection::of(service));
    let mut notes = Vec::new();
    let found = by_name(&rules.plan, &front.sources, user, service, &mut notes);
    front.note(&notes, rules.verbose, None);
    match owned(front, found) {
        Found::User(user) => Response::Mail {
            user: MailUser {
                user: user.user,
                uid: user.uid,
                gid: user.gid,
                home: user.home.map(|home| home.as_str().into()),
                mail: user.mail,
            },
        },
        Found::Unknown => Response::NotFound,
        Found::Unavailable(text) => Response::Temporary { text },
    }
}

/// With rights, mail must belong to somebody: a user without a uid has no mailbox. Without rights everything is the caller's.
pub(crate) fn owned(front: &Front, found: Found) -> Found {
    match found {
        Found::User(user) if front.privileged && user.uid.is_none() => {
            Found::Unavailable(format!("User {} is missing UID (see mail_uid setting)", user.user))
        }
        Found::User(user) if front.privileged && user.gid.is_none() => {
            Found::Unavailable(format!("User {} is missing GID (see mail_gid setting)", user.user))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::for_tests;

    const CONF: &str = "mail_location = maildir:~/Maildir\nuserdb {\n  driver = passwd-file\n  args = DIR/users\n}\n";

    async fn look(front: &Arc<Front>, user: &str) -> Response {
        answer(front, Role::Smtpd, Request::Mail { user: user.into(), service: "lmtp".into() }).await
    }

    #[tokio::test]
    async fn users_of_the_userdb_and_of_the_machine_are_found() {
        let (directory, front) = for_tests(CONF);
        std::fs::write(directory.path().join("users"), "john@info.net:x:5000:5001::/srv/john::\n").unwrap();
        let Response::Mail { user } = look(&front, "John@Info.net").await else { panic!("john is there") };
        assert_eq!((user.user.as_str(), user.uid, user.gid), ("john@info.net", Some(5000), Some(5001)));
        assert_eq!(user.mail.as_deref(), Some("maildir:/srv/john/Maildir"));
        assert_eq!(look(&front, "nobody@info.net").await, Response::NotFound);
        let root = answer(&front, Role::Smtpd, Request::Passwd { name: "root".into() }).await;
        assert!(matches!(root, Response::Passwd { user } if user.uid == 0 && user.home.as_str() == Some("/root")));
        let absent = answer(&front, Role::Smtpd, Request::Passwd { name: "no-such-user-anywhere".into() }).await;
        assert_eq!(absent, Response::NotFound);
    }

    #[tokio::test]
    async fn a_missing_file_is_temporary() {
        let (_directory, front) = for_tests(CONF);
        assert!(matches!(look(&front, "john").await, Response::Temporary { .. }));
    }
}
