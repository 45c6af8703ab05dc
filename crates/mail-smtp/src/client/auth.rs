//! AUTH PLAIN and LOGIN towards a relay host (RFC 4954).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_types::{Reply, Severity};

use super::{Cause, Client, Opening, Phase, is_positive};

/// Which reply AUTH waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuthStep {
    /// The final one.
    Last,
    /// LOGIN: the question for the user name.
    User,
    /// LOGIN: the question for the password.
    Password,
}

impl Client {
    pub(super) fn log_in(&mut self) {
        let Some(credentials) = self.settings.credentials.clone().filter(|_| !self.authenticated) else {
            return self.ready();
        };
        let offered = |name: &str| self.features.auth.iter().any(|mechanism| mechanism == name);
        let (plain, login) = (offered("PLAIN"), offered("LOGIN"));
        if (credentials.tls_only && !self.features.tls) || !(plain || login) {
            let offered = self.features.auth.join(" ");
            return self.fail(Severity::Temporary, Cause::AuthNotOffered(offered));
        }
        let step = if plain {
            let response = STANDARD.encode(format!("\0{}\0{}", credentials.user, credentials.password));
            self.send(&format!("AUTH PLAIN {response}"));
            AuthStep::Last
        } else {
            self.send("AUTH LOGIN");
            AuthStep::User
        };
        self.enter(Phase::Opening(Opening::Auth(step)));
    }

    pub(super) fn auth_replied(&mut self, step: AuthStep, reply: Reply) {
        let credentials = self.settings.credentials.clone();
        match (step, reply.code.get(), credentials) {
            (AuthStep::User, 334, Some(credentials)) => {
                self.send(&STANDARD.encode(credentials.user));
                self.enter(Phase::Opening(Opening::Auth(AuthStep::Password)));
            }
            (AuthStep::Password, 334, Some(credentials)) => {
                self.send(&STANDARD.encode(credentials.password));
                self.enter(Phase::Opening(Opening::Auth(AuthStep::Last)));
            }
            (AuthStep::Last, ..) if is_positive(&reply) => {
                self.authenticated = true;
                self.ready();
            }
            // `smtp_sasl_auth_soft_bounce`: a refused login is our mistake or theirs, never the message's.
            _ => self.fail(Severity::Temporary, Cause::AuthRefused(reply)),
        }
    }
}
