//! POP3 as `mailbox-service` sees a protocol.

use std::sync::Arc;

use mail_config::Config;
use mail_ipc::auth::Failure as AuthFailure;
use mail_ipc::hello::Role;
use mail_pop3::login::{Answer, Event, Failure, LoginMachine, Mechanism, Options, Question};
use mail_pop3::reply::{self, Code};
use mailbox_service::wire::{HandOver, Refusal};
use mailbox_service::{Connection, Facts, Home, LoginAnswer, LoginQuestion, Protocol, Resume};

use crate::session;
use crate::settings::Settings;

/// POP3 under a configuration.
#[derive(Debug, Clone)]
pub struct Pop3 {
    settings: Arc<Settings>,
}

impl Protocol for Pop3 {
    const NAME: &'static str = "pop3";
    const FRONT: Role = Role::Pop3Front;
    const SERVED: mail_config::dovecot::Protocol = mail_config::dovecot::Protocol::Pop3;
    const ANNOUNCEMENTS: bool = false;
    type Login = LoginMachine;

    fn new(config: &Config) -> Self {
        Self { settings: Arc::new(Settings::of(config.dovecot.protocol(Self::SERVED))) }
    }

    fn login(&self, facts: &Facts) -> LoginMachine {
        let mechanism = |mechanism: &mailbox_service::Mechanism| Mechanism {
            name: mechanism.name.clone(),
            plaintext: mechanism.plaintext,
        };
        LoginMachine::new(Options {
            greeting: self.settings.greeting.clone(),
            mechanisms: facts.mechanisms.iter().map(mechanism).collect(),
            starttls: facts.starttls,
            tls: facts.tls,
            local: facts.local_peer,
            cleartext: self.settings.cleartext,
            tls_required: self.settings.tls_required,
        })
    }

    fn question(question: Question) -> LoginQuestion {
        match question {
            Question::Begin { mechanism, initial } => LoginQuestion::Begin { mechanism, initial },
            Question::Continue(response) => LoginQuestion::Continue(response),
            Question::Cancel => LoginQuestion::Cancel,
        }
    }

    fn answer(answer: LoginAnswer) -> Answer {
        match answer {
            LoginAnswer::Challenge(challenge) => Answer::Challenge(challenge),
            LoginAnswer::Authenticated => Answer::Authenticated,
            LoginAnswer::Failed(failure) => Answer::Failed(match failure {
                AuthFailure::Credentials => Failure::Credentials,
                AuthFailure::Protocol => Failure::Protocol,
                AuthFailure::Mechanism => Failure::Mechanism,
                AuthFailure::Temporary => Failure::Temporary,
            }),
        }
    }

    fn shutdown() -> Event {
        Event::Shutdown
    }

    fn resume(machine: &LoginMachine) -> Resume {
        Resume { unread: machine.unread().to_vec(), ..Resume::default() }
    }

    fn tried_cleartext(machine: &LoginMachine) -> bool {
        machine.tried_cleartext()
    }

    fn refusal(&self, refusal: &Refusal, _resume: &Resume) -> Vec<u8> {
        match refusal {
            Refusal::TooMany { limit } => {
                let text = "Maximum number of connections from user+IP exceeded";
                reply::err_code(Code::InUse, &format!("{text} (mail_max_userip_connections={limit})"))
            }
            Refusal::Temporary => reply::err_code(Code::SysTemp, "Internal login failure. Refer to server log."),
            Refusal::Forbidden => reply::err_code(Code::SysPerm, "Mail access is not permitted. Refer to server log."),
            Refusal::ShuttingDown => reply::err_code(Code::SysTemp, "Server shutting down."),
        }
    }

    fn unusable(&self, _connection: &HandOver) -> Vec<u8> {
        reply::err_code(Code::SysPerm, "Mailbox cannot be opened. Refer to server log.")
    }

    fn serve(&self, home: Arc<Home>, connection: Connection) -> impl Future<Output = String> + Send + use<> {
        session::serve(Arc::clone(&self.settings), home, connection)
    }
}
