//! HELO, EHLO and LHLO (RFC 5321 section 4.1.1.1, RFC 2033 section 4.1).

use mail_types::{Reply, ReplyCode};

use super::{Dialect, Pending, Question, Server, Tls, output};

pub(super) fn helo(server: &mut Server, name: &str) {
    begin(server, name, false);
}

pub(super) fn ehlo(server: &mut Server, name: &str) {
    begin(server, name, true);
}

fn begin(server: &mut Server, name: &str, extended: bool) {
    if name.is_empty() {
        let text = format!("Syntax: {} hostname", server.tally.current_verb());
        return server.finish(&Reply::plain(ReplyCode::of(501), text));
    }
    let name = output::printable(name, 255);
    server.ask(Question::Helo { name, extended }, Pending::Helo { extended });
}

impl Server {
    pub(super) fn greeted(&mut self, extended: bool) {
        // S03: a new greeting ends the transaction; the question said so to the outside.
        self.transaction = None;
        self.session.helo = Some(extended);
        let mut text = self.settings.hostname.clone();
        if extended {
            for keyword in self.keywords() {
                text.push('\n');
                text.push_str(&keyword);
            }
        }
        self.finish(&Reply::plain(ReplyCode::of(250), text));
    }

    /// The keywords of the EHLO reply, in Postfix's order, less those that the configuration takes out.
    fn keywords(&self) -> Vec<String> {
        let settings = &self.settings;
        let mut all = vec!["PIPELINING".to_owned()];
        all.push(if settings.size_limit == 0 { "SIZE".to_owned() } else { format!("SIZE {}", settings.size_limit) });
        if !settings.disable_vrfy && settings.dialect == Dialect::Smtp {
            all.push("VRFY".to_owned());
        }
        if settings.etrn && settings.dialect == Dialect::Smtp {
            all.push("ETRN".to_owned());
        }
        if settings.tls != Tls::Off && settings.tls_ready && !self.session.tls {
            all.push("STARTTLS".to_owned());
        }
        if let Some(auth) = settings.auth.as_ref().filter(|auth| self.session.tls || !auth.tls_only) {
            let names = auth.mechanisms.join(" ");
            all.push(format!("AUTH {names}"));
            if auth.broken_clients {
                all.push(format!("AUTH={names}"));
            }
        }
        if settings.xclient {
            all.push(format!("XCLIENT {}", super::xclient::ATTRIBUTES.join(" ")));
        }
        all.extend(["ENHANCEDSTATUSCODES", "8BITMIME", "DSN"].map(str::to_owned));
        if settings.smtputf8 {
            all.push("SMTPUTF8".to_owned());
        }
        all.retain(|line| !self.discards(line));
        all
    }

    /// Whether `smtpd_discard_ehlo_keywords` names a keyword; such an extension is not accepted either.
    pub(super) fn discards(&self, line: &str) -> bool {
        let keyword = line.split([' ', '=']).next().unwrap_or(line);
        self.settings.discard_ehlo_keywords.iter().any(|word| word == keyword)
    }
}
