//! AUTH towards a relay host (RFC 4954): CRAM-MD5, PLAIN and LOGIN.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use mail_types::{Reply, Severity};

use super::{Cause, Client, Credentials, Mechanism, Opening, Phase, is_positive};

/// Which reply AUTH waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuthStep {
    /// The final one.
    Last,
    /// CRAM-MD5: the challenge.
    Challenge,
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
        let allowed = if self.features.tls { &credentials.in_tls } else { &credentials.in_clear };
        let offered = |mechanism: &&Mechanism| self.features.auth.iter().any(|name| name == mechanism.name());
        // Without a login the relay host would refuse the mail for ever: better to wait than to go on as a stranger.
        let Some(&mechanism) = allowed.iter().find(offered) else {
            let offered = self.features.auth.join(" ");
            return self.fail(Severity::Temporary, Cause::AuthNotOffered(offered));
        };
        let step = match mechanism {
            Mechanism::Plain => {
                let response = STANDARD.encode(format!("\0{}\0{}", credentials.user, credentials.password));
                self.send(&format!("AUTH PLAIN {response}"));
                AuthStep::Last
            }
            Mechanism::Login => {
                self.send("AUTH LOGIN");
                AuthStep::User
            }
            Mechanism::CramMd5 => {
                self.send("AUTH CRAM-MD5");
                AuthStep::Challenge
            }
        };
        self.enter(Phase::Opening(Opening::Auth(step)));
    }

    pub(super) fn auth_replied(&mut self, step: AuthStep, reply: Reply) {
        let Some(credentials) = self.settings.credentials.clone() else { return self.ready() };
        if step == AuthStep::Last && is_positive(&reply) {
            self.authenticated = true;
            return self.ready();
        }
        let (answer, next) = match step {
            AuthStep::User => (Some(STANDARD.encode(&credentials.user)), AuthStep::Password),
            AuthStep::Password => (Some(STANDARD.encode(&credentials.password)), AuthStep::Last),
            AuthStep::Challenge => (cram_md5(&credentials, &reply.text), AuthStep::Last),
            AuthStep::Last => (None, AuthStep::Last),
        };
        match answer.filter(|_| reply.code.get() == 334) {
            Some(answer) => {
                self.send(&answer);
                self.enter(Phase::Opening(Opening::Auth(next)));
            }
            None => {
                let hard = reply.severity() == Severity::Permanent && !credentials.soft_bounce;
                let severity = if hard { Severity::Permanent } else { Severity::Temporary };
                self.fail(severity, Cause::AuthRefused(reply));
            }
        }
    }
}

/// The response to a challenge: the user name, and the challenge keyed with the password (RFC 2195 section 2). None if the challenge is no base64.
fn cram_md5(credentials: &Credentials, challenge: &str) -> Option<String> {
    let challenge = STANDARD.decode(challenge.trim()).ok()?;
    let mut keyed = Hmac::<md5::Md5>::new_from_slice(credentials.password.as_bytes()).ok()?;
    keyed.update(&challenge);
    let digest: String = keyed.finalize().into_bytes().iter().map(|octet| format!("{octet:02x}")).collect();
    Some(STANDARD.encode(format!("{} {digest}", credentials.user)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_of_the_standard_comes_out() {
        // The example of RFC 2195 section 2.
        let credentials = Credentials {
            user: "tim".to_owned(),
            password: "tanstaaftanstaaf".to_owned(),
            in_clear: Vec::new(),
            in_tls: Vec::new(),
            soft_bounce: true,
        };
        let challenge = "PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+";
        assert_eq!(
            cram_md5(&credentials, challenge).as_deref(),
            Some("dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw")
        );
        assert_eq!(cram_md5(&credentials, "what?"), None);
    }
}
