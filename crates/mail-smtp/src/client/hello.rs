//! Greeting, EHLO, HELO, LHLO and STARTTLS.

use mail_types::{Reply, Severity};

use super::transaction::verdict;
use super::{Cause, Client, Features, Opening, Phase, Stage, Starttls, is_positive};
use crate::server::Dialect;

impl Client {
    pub(super) fn opening(&mut self, step: Opening, reply: Reply) {
        match step {
            Opening::Greeting => self.greeting(reply),
            Opening::Ehlo => self.ehlo_replied(reply),
            Opening::Helo => self.helo_replied(reply),
            Opening::Starttls => self.starttls_replied(reply),
            Opening::Auth(step) => self.auth_replied(step, reply),
        }
    }

    fn greeting(&mut self, reply: Reply) {
        match reply.severity() {
            Severity::Success if is_positive(&reply) => self.send_ehlo(),
            Severity::Permanent if !self.settings.skip_5xx_greeting => {
                self.fail(Severity::Permanent, Cause::Reply { reply, stage: Stage::Greeting });
            }
            _ => self.fail(Severity::Temporary, Cause::Reply { reply, stage: Stage::Greeting }),
        }
    }

    pub(super) fn send_ehlo(&mut self) {
        let verb = if self.settings.dialect == Dialect::Lmtp { "LHLO" } else { "EHLO" };
        let line = format!("{verb} {}", self.settings.helo_name);
        self.send(&line);
        self.enter(Phase::Opening(Opening::Ehlo));
    }

    fn ehlo_replied(&mut self, reply: Reply) {
        let tls = self.features.tls;
        match reply.severity() {
            Severity::Success if is_positive(&reply) => {
                self.features = Features::read(&reply.text, tls, &self.settings.discard_ehlo_keywords);
                self.after_ehlo();
            }
            Severity::Permanent if self.settings.dialect == Dialect::Smtp => {
                let line = format!("HELO {}", self.settings.helo_name);
                self.send(&line);
                self.enter(Phase::Opening(Opening::Helo));
            }
            _ => self.refused(&reply, Stage::Ehlo),
        }
    }

    fn helo_replied(&mut self, reply: Reply) {
        if !is_positive(&reply) {
            return self.refused(&reply, Stage::Helo);
        }
        let name = reply.text.split(' ').next().unwrap_or_default().to_owned();
        self.features = Features { name, tls: self.features.tls, ..Features::default() };
        self.after_ehlo();
    }

    fn refused(&mut self, reply: &Reply, stage: Stage) {
        let cause = verdict(reply, stage);
        self.fail(cause.severity(), cause);
    }

    fn after_ehlo(&mut self) {
        let own = self.settings.own_name.as_ref().filter(|own| own.eq_ignore_ascii_case(&self.features.name));
        if let Some(own) = own.cloned() {
            return self.fail(Severity::Temporary, Cause::OwnName(own));
        }
        if self.features.tls || self.settings.starttls == Starttls::Off {
            return self.log_in();
        }
        if self.features.starttls {
            self.send("STARTTLS");
            return self.enter(Phase::Opening(Opening::Starttls));
        }
        match self.settings.starttls {
            Starttls::Required => self.fail(Severity::Temporary, Cause::TlsNotOffered),
            _ => self.log_in(),
        }
    }

    fn starttls_replied(&mut self, reply: Reply) {
        if is_positive(&reply) {
            // What came behind the reply in clear is never believed.
            self.input.clear();
            return self.enter(Phase::BeforeTls);
        }
        match self.settings.starttls {
            Starttls::Required => self.fail(Severity::Temporary, Cause::TlsRefused(reply)),
            _ => self.log_in(),
        }
    }
}
