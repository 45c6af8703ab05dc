//! IMAP as `mailbox-service` sees a protocol.

use std::sync::Arc;
use std::time::Duration;

use mail_config::Config;
use mail_imap::{
    AuthFailure, Login, LoginAnswer as Answer, LoginEvent, LoginQuestion as Question, LoginSettings, Mechanism,
};
use mail_ipc::auth::Failure;
use mail_ipc::hello::Role;
use mail_types::Octets;
use mailbox_service::wire::{HandOver, Refusal};
use mailbox_service::{Connection, Facts, Home, LoginAnswer, LoginQuestion, Protocol, Resume};

use crate::session;
use crate::settings::Settings;

/// How long a client may be silent before it has logged in; as Dovecot.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(180);

/// IMAP under a configuration.
#[derive(Debug, Clone)]
pub struct Imap {
    settings: Arc<Settings>,
}

impl Protocol for Imap {
    const NAME: &'static str = "imap";
    const FRONT: Role = Role::ImapFront;
    const SERVED: mail_config::dovecot::Protocol = mail_config::dovecot::Protocol::Imap;
    const ANNOUNCEMENTS: bool = true;
    type Login = Login;

    fn new(config: &Config) -> Self {
        Self { settings: Arc::new(Settings::of(config)) }
    }

    fn login(&self, facts: &Facts) -> Login {
        let mechanism = |m: &mailbox_service::Mechanism| Mechanism { name: m.name.clone(), plaintext: m.plaintext };
        Login::new(LoginSettings {
            greeting: self.settings.greeting.clone(),
            tls: facts.tls,
            starttls: facts.starttls,
            cleartext: self.settings.cleartext || facts.local_peer,
            tls_required: self.settings.tls_required,
            mechanisms: facts.mechanisms.iter().map(mechanism).collect(),
            timeout: LOGIN_TIMEOUT,
        })
    }

    fn question(question: Question) -> LoginQuestion {
        let octets = |octets: Octets| octets.as_bytes().to_vec();
        match question {
            Question::Begin { mechanism, initial } => LoginQuestion::Begin { mechanism, initial: initial.map(octets) },
            Question::Continue(response) => LoginQuestion::Continue(octets(response)),
            Question::Cancel => LoginQuestion::Cancel,
        }
    }

    fn answer(answer: LoginAnswer) -> Answer {
        match answer {
            LoginAnswer::Challenge(challenge) => Answer::Challenge(Octets::new(challenge)),
            LoginAnswer::Authenticated => Answer::Success,
            LoginAnswer::Failed(failure) => Answer::Failure(match failure {
                Failure::Credentials => AuthFailure::Credentials,
                Failure::Protocol => AuthFailure::Malformed,
                Failure::Mechanism => AuthFailure::Refused("[CANNOT] Unsupported authentication mechanism.".to_owned()),
                Failure::Temporary => AuthFailure::Temporary,
            }),
        }
    }

    fn shutdown() -> LoginEvent {
        LoginEvent::Shutdown
    }

    fn resume(machine: &Login) -> Resume {
        let Some(hand_over) = machine.hand_over() else { return Resume::default() };
        Resume { tag: Some(hand_over.tag), enabled: Vec::new(), unread: hand_over.unread.as_bytes().to_vec() }
    }

    fn tried_cleartext(machine: &Login) -> bool {
        machine.tried_cleartext()
    }

    fn refusal(&self, refusal: &Refusal, resume: &Resume) -> Vec<u8> {
        let text = match refusal {
            Refusal::TooMany { limit } => {
                format!(
                    "[UNAVAILABLE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections={limit})"
                )
            }
            Refusal::Temporary => {
                "[UNAVAILABLE] Internal login failure. Refer to server log for more information.".to_owned()
            }
            Refusal::Forbidden => {
                "[AUTHORIZATIONFAILED] Mail access is not permitted. Refer to server log for more information."
                    .to_owned()
            }
            Refusal::ShuttingDown => "[UNAVAILABLE] Server shutting down.".to_owned(),
        };
        refused(resume.tag.as_deref(), &text)
    }

    fn unusable(&self, connection: &HandOver) -> Vec<u8> {
        refused(
            connection.tag.as_deref(),
            "[SERVERBUG] Mailbox cannot be opened. Refer to server log for more information.",
        )
    }

    fn serve(&self, home: Arc<Home>, connection: Connection) -> impl Future<Output = String> + Send + use<> {
        session::serve(Arc::clone(&self.settings), home, connection)
    }
}

/// NO to the login, and BYE because the connection closes (I29).
fn refused(tag: Option<&str>, text: &str) -> Vec<u8> {
    format!("{} NO {text}\r\n* BYE Disconnected.\r\n", tag.unwrap_or("*")).into_bytes()
}
