//! AUTH within a session: what the client sends goes to authd, what comes back decides (RFC 4954).

use std::sync::Arc;

use mail_smtp::server::Answer;

use super::{Session, reply};
use crate::clients::Rate;
use crate::sasl::{Exchange, Origin, Step};

impl Session {
    pub(super) async fn auth_start(&mut self, mechanism: String, initial: Option<Vec<u8>>) -> Answer {
        let main = Arc::clone(&self.port.main);
        if self.is_over(*main.smtpd_client_auth_rate_limit, Rate::Logins) {
            let text = format!("Error: too many AUTH commands from {}", self.client.ip());
            return Answer::Refuse(reply(450, (4, 7, 1), text));
        }
        let origin = Origin {
            peer: self.client.ip(),
            local: self.local.ip(),
            tls: self.greeting.tls.is_some(),
            session: format!("{}:{}", self.client, self.port.name),
        };
        let (exchange, step) = self.door.sasl.begin(mechanism, initial, &origin).await;
        self.auth_step(exchange, step)
    }

    pub(super) async fn auth_response(&mut self, response: Vec<u8>) -> Answer {
        let Some(exchange) = self.exchange.take() else {
            return Answer::Refuse(reply(503, (5, 5, 1), "Error: no authentication in progress"));
        };
        let step = self.door.sasl.respond(&exchange, response).await;
        self.auth_step(exchange, step)
    }

    fn auth_step(&mut self, exchange: Exchange, step: Step) -> Answer {
        match &step {
            Step::Challenge(_) => self.exchange = Some(exchange),
            Step::Good(user) => {
                self.greeting.user = Some(user.clone());
                self.greeting.method = Some(exchange.mechanism);
            }
            Step::Bad { reason, user, .. } => self.log.login_failed(&exchange.mechanism, reason, user.as_deref()),
        }
        step.into_answer()
    }
}
