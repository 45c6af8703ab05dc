//! RCPT (RFC 5321 section 4.1.1.3) with NOTIFY and ORCPT.

use mail_types::Reply;

use super::mail::must_declare_smtputf8;
use super::{Note, Pending, Question, RcptCommand, Server, output, reply};
use crate::grammar::params::{notify, orcpt};
use crate::grammar::{Param, PathError, params, path_argument};

pub(super) fn rcpt(server: &mut Server, arguments: &str) {
    if server.transaction.is_none() {
        return server.finish(&reply(503, (5, 5, 1), "Error: need MAIL command"));
    }
    match read(server, arguments) {
        Ok(_) if server.is_full() => server.too_many_recipients(),
        Ok(command) => server.ask(Question::Rcpt(command), Pending::Rcpt),
        Err(refusal) => server.refuse(refusal),
    }
}

fn read(server: &mut Server, arguments: &str) -> Result<RcptCommand, Reply> {
    let bad_address = || reply(501, (5, 1, 3), "Bad recipient address syntax");
    let (path, rest) = match path_argument("TO", arguments, server.settings.strict_envelopes) {
        Ok(found) => found,
        Err(PathError::Syntax) => return Err(reply(501, (5, 5, 4), "Syntax: RCPT TO:<address>")),
        Err(PathError::Address(text)) => {
            server.note(Note::BadAddress { command: "RCPT", text: output::printable(&text, 200) });
            return Err(bad_address());
        }
    };
    let to = path.mailbox().cloned().ok_or_else(bad_address)?;
    let smtputf8 = server.transaction.as_ref().is_some_and(|transaction| transaction.smtputf8);
    if to.needs_smtputf8() && !smtputf8 {
        return Err(must_declare_smtputf8());
    }
    let command = RcptCommand { to, notify: None, orcpt: None };
    let dsn = !server.discards("DSN");
    params(rest)
        .map_err(|text| unsupported(&text))?
        .iter()
        .try_fold(command, |command, param| if dsn { add(command, param) } else { Err(unsupported(param.text)) })
}

fn add(mut command: RcptCommand, param: &Param<'_>) -> Result<RcptCommand, Reply> {
    let bad = |name: &str| reply(501, (5, 5, 4), format!("Error: Bad {name} parameter syntax"));
    match param.keyword.to_ascii_uppercase().as_str() {
        "NOTIFY" => {
            let read = param.value.and_then(notify).filter(|_| command.notify.is_none());
            command.notify = Some(read.ok_or_else(|| bad("NOTIFY"))?);
        }
        "ORCPT" => {
            let read = param.value.and_then(orcpt).filter(|_| command.orcpt.is_none());
            command.orcpt = Some(read.ok_or_else(|| bad("ORCPT"))?);
        }
        _ => return Err(unsupported(param.text)),
    }
    Ok(command)
}

fn unsupported(text: &str) -> Reply {
    reply(555, (5, 5, 4), format!("Unsupported option: {}", output::printable(text, 200)))
}

impl Server {
    fn is_full(&self) -> bool {
        let limit = self.settings.recipient_limit;
        limit > 0 && self.transaction.as_ref().is_some_and(|transaction| transaction.recipients >= limit)
    }

    /// S10: 452, and those accepted stay. Up to the overshoot limit that is no error of the client.
    fn too_many_recipients(&mut self) {
        let overshoot = self.transaction.as_mut().map_or(0, |transaction| {
            transaction.overshoot += 1;
            transaction.overshoot
        });
        if overshoot <= self.settings.overshoot_limit {
            self.tally.forgive_next();
        }
        self.finish(&reply(452, (4, 5, 3), "Error: too many recipients"));
    }

    pub(super) fn rcpt_accepted(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.recipients += 1;
        }
        self.finish(&reply(250, (2, 1, 5), "Ok"));
    }
}
