//! AUTH: the login is supposed to succeed, as whom authd would then name it.

use accounts::names::Identity;
use mail_config::Config;
use mail_config::dovecot::{Connection, Dovecot};
use mail_smtp::server::Answer;

use super::super::explanation::Fact;
use super::desk::Desk;
use super::reply;

/// dovecot.conf as logins of smtpd see it, `protocol smtp` included. Nothing about logins may stand in a filter by address.
pub(super) fn dovecot(config: &Config) -> Dovecot {
    config.dovecot.seen(&Connection::of("smtp"))
}

impl Desk<'_> {
    /// The name after the rules of dovecot.conf: of `login*master` the login. One that the rules refuse cannot log in.
    pub(super) fn log_in(&mut self) -> Answer {
        let Some(name) = self.case.auth.as_deref() else { return Answer::Authenticated };
        let (plan, _) = accounts::dovecot::plan(&dovecot(&self.setting.config));
        let identity = plan.names.identify(("", name), "smtp", !plan.masters.is_empty());
        let said = match &identity {
            Ok(Identity { user, login: Some(login) }) => Some(format!("{login}, by the master user {user}")),
            Ok(Identity { user, login: None }) => (user != name).then(|| user.clone()),
            Err(refused) => Some(refused.why.clone()),
        };
        let fact = |answer| Fact { question: format!("login {name}"), answer, from: "dovecot.conf".to_owned() };
        self.facts.extend(said.map(fact));
        match identity {
            Ok(Identity { user, login }) => {
                self.user = Some(login.unwrap_or(user));
                Answer::Authenticated
            }
            Err(_) => Answer::Refuse(reply(535, (5, 7, 8), "Error: authentication failed: authentication failure")),
        }
    }
}
