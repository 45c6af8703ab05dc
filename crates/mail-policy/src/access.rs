//! Access tables: which keys are asked, and what their answers mean here (`access(5)`).

use std::net::IpAddr;

use decision::Lookup;
use mail_config::main_cf::lists::TableRef;
use mail_tables::access::{Action as Asked, Refusal, address_keys};
use mail_tables::address::{Delimiters, Key, access_keys, domain_keys};
use mail_tables::{Answer, Found, Scope};
use mail_types::{Address, EnhancedStatus, Reply, Sender};

use crate::evaluate::{Flow, Run};
use crate::facts::{Missing, Question};
use crate::plan::Stage;
use crate::replies::{Subject, fail, refusal};
use crate::restrictions::{Applied, is_built};
use crate::verdict::{Action, Effect};

/// What a yes of a table is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Yes {
    /// It ends the list.
    Counts,
    /// It is passed over.
    Ignored,
    /// It is a mistake of the configuration: whoever owns a domain could let itself in.
    Forbidden,
}

impl Yes {
    /// What a yes comes to.
    fn effect(self) -> Effect {
        match self {
            Self::Counts => Effect::Permit,
            Self::Ignored => Effect::Neutral,
            Self::Forbidden => fail("OK from such a table would let in whoever owns a domain; write DUNNO"),
        }
    }

    /// The same for a list of restrictions that a table named.
    pub fn of(self, flow: Flow) -> Result<Flow, Effect> {
        match (flow, self) {
            (Flow::Permit, Self::Ignored) => Ok(Flow::Neutral),
            (Flow::Permit, Self::Forbidden) => Err(self.effect()),
            (flow, _) => Ok(flow),
        }
    }
}

/// What one key, or a series of keys, gave.
pub(crate) enum Asking {
    /// The table knows the key.
    Found(Found),
    /// It knows none.
    NotFound,
    /// It cannot say now.
    Temporary(String),
}

/// Asks a table what its stage judges.
pub(crate) fn check(run: &mut Run<'_>, table: &TableRef, stage: Stage) -> Result<Applied, Missing> {
    let subject = Subject::of(stage, run.input);
    let main = &run.plan.main;
    let parents = parents(run);
    let mut yes = Yes::Counts;
    let keys = match stage {
        Stage::Client => {
            let name = run.input.name.shown().to_owned();
            return check_client(run, table, &name, &subject, Yes::Counts);
        }
        Stage::Helo => run.input.helo.map(|name| host_keys(name, parents)),
        Stage::Etrn => run.input.etrn.map(|name| host_keys(name, parents)),
        Stage::Sender => run.input.sender.map(|sender| match sender {
            Sender::Address(address) => access_keys(address, Delimiters::of(main), parents),
            Sender::Null => vec![Key::full(main.smtpd_null_access_lookup_key.as_str())],
        }),
        Stage::Recipient => run.input.recipient.map(|address| {
            // Where the sender wrote a route, the table knows nothing of where the mail goes in the end.
            yes = if crate::restrictions::is_routed(main, address.local()) { Yes::Ignored } else { Yes::Counts };
            access_keys(address, Delimiters::of(main), parents)
        }),
        // DATA and END-OF-MESSAGE have no key of their own.
        Stage::Data | Stage::EndOfData => {
            return Ok(fail(format!("a check must be named before `{table}' in this list")).into());
        }
    };
    match ask(run, table, &keys.unwrap_or_default())? {
        Asking::NotFound => Ok(Effect::Neutral.into()),
        answer => Ok(judge(run, answer, &subject, yes)),
    }
}

/// `check_sasl_access`: the key is the login.
pub(crate) fn check_sasl(run: &mut Run<'_>, table: &TableRef) -> Result<Applied, Missing> {
    let Some(user) = run.input.user else { return Ok(Effect::Neutral.into()) };
    let subject = Subject { name: user.to_owned(), class: "SASL login name" };
    let answer = ask(run, table, &[Key::full(user)])?;
    Ok(judge(run, answer, &subject, Yes::Counts))
}

/// `check_reverse_client_hostname_access`: the reverse name, verified or not. Whoever owns the address says what it is, so it opens no door.
pub(crate) fn check_reverse_client(run: &mut Run<'_>, table: &TableRef) -> Result<Applied, Missing> {
    let name = run.input.name.shown_reverse().to_owned();
    let subject = Subject { name: name.clone(), class: "Unverified Client host" };
    check_client(run, table, &name, &subject, Yes::Forbidden)
}

fn check_client(
    run: &mut Run<'_>,
    table: &TableRef,
    name: &str,
    subject: &Subject,
    yes: Yes,
) -> Result<Applied, Missing> {
    let address = run.input.client.to_canonical();
    let mut keys = host_keys(name, parents(run));
    keys.extend(address_keys(address));
    let answer = match ask(run, table, &keys)? {
        Asking::NotFound => return Ok(check_network(run, table, address, subject)),
        answer => answer,
    };
    Ok(judge(run, answer, subject, yes))
}

/// A network as key of a `hash:` table, which Postfix ignores, gives rights only where it is written for clients alone.
fn check_network(run: &mut Run<'_>, table: &TableRef, address: IpAddr, subject: &Subject) -> Applied {
    match run.facts.tables().table(table).and_then(|table| table.get_network(address)) {
        Some(found) => {
            run.lookups.push(record(&found));
            let yes = if run.stage == Stage::Client { Yes::Counts } else { Yes::Ignored };
            judge(run, Asking::Found(found), subject, yes)
        }
        None => Effect::Neutral.into(),
    }
}

/// Keys of a host and its parents; the parts of a number are no domains.
pub(crate) fn host_keys(name: &str, parents: bool) -> Vec<Key> {
    if name.parse::<IpAddr>().is_ok() { vec![Key::full(name)] } else { domain_keys(name, parents, Scope::Full) }
}

/// Whether a domain in an access table means its subdomains too.
pub(crate) fn parents(run: &Run<'_>) -> bool {
    run.plan.main.parent_domain_matches_subdomains.iter().any(|word| word == "smtpd_access_maps")
}

/// A lookup for the record. Values of access tables are no secrets.
pub(crate) fn record(found: &Found) -> Lookup {
    Lookup {
        table: found.table.clone(),
        key: found.key.clone(),
        value: Some(found.value.clone()),
        source: Some(found.source.clone()),
    }
}

/// Asks for keys in order and writes down each lookup.
pub(crate) fn ask(run: &mut Run<'_>, table: &TableRef, keys: &[Key]) -> Result<Asking, Missing> {
    for key in keys {
        match run.facts.tables().get(table, &key.text, key.scope, run.facts.remote()) {
            Answer::NotFound => {
                run.lookups.push(Lookup { table: table.to_string(), key: key.text.clone(), value: None, source: None })
            }
            Answer::Found(found) => {
                run.lookups.push(record(&found));
                return Ok(Asking::Found(found));
            }
            Answer::Temporary(why) => return Ok(Asking::Temporary(why)),
            Answer::Missing(query) => return Err(Missing(Question::Table(query))),
        }
    }
    Ok(Asking::NotFound)
}

/// What an answer comes to.
pub(crate) fn judge(run: &mut Run<'_>, answer: Asking, subject: &Subject, yes: Yes) -> Applied {
    match answer {
        Asking::NotFound => Effect::Neutral.into(),
        Asking::Temporary(why) => {
            let reply = refusal(451, (3, 5), subject.text("Server configuration error"));
            Effect::Fail { reply, why }.into()
        }
        Asking::Found(found) => match carry_out(run, &found.value, subject) {
            Carried::Yes => {
                run.grant(&found.value, subject, &found.table);
                yes.effect().into()
            }
            Carried::Effect(effect) => {
                if let Effect::Act(Action::Discard(_)) = effect {
                    run.grant(&found.value, subject, &found.table);
                }
                effect.into()
            }
            Carried::Rules(rules) => Applied::Rules { rules, source: found.source, yes, subject: subject.clone() },
        },
    }
}

impl Run<'_> {
    /// Remembers the word with which a table or service says yes, for the log.
    pub(crate) fn grant(&mut self, value: &str, subject: &Subject, from: &str) {
        let word = value.split([' ', '\t']).next().unwrap_or_default();
        self.granted = Some((word.to_owned(), subject.clone(), from.to_owned()));
    }
}

/// What an action comes to.
pub(crate) enum Carried {
    /// Yes, as far as the rule may say so.
    Yes,
    Effect(Effect),
    /// It names other restrictions.
    Rules(Vec<mail_config::main_cf::lists::Rule>),
}

/// Reads an action of access(5) and says what it comes to.
pub(crate) fn carry_out(run: &Run<'_>, value: &str, subject: &Subject) -> Carried {
    let main = &run.plan.main;
    let effect = match Asked::parse(value) {
        Asked::Ok => return Carried::Yes,
        Asked::Dunno => Effect::Neutral,
        Asked::Reject(what) => Effect::Refuse(refuse(subject, *main.access_map_reject_code, what, "Access denied")),
        Asked::Defer(what) => Effect::Refuse(refuse(subject, *main.access_map_defer_code, what, "Access denied")),
        Asked::DeferIfPermit(what) => {
            Effect::DeferIfPermit(refuse(subject, *main.access_map_defer_code, what, "Service unavailable"))
        }
        Asked::DeferIfReject(what) => {
            Effect::DeferIfReject(refuse(subject, *main.access_map_defer_code, what, "Service unavailable"))
        }
        Asked::Warn(text) => Effect::Log("warn", text),
        Asked::Info(text) => Effect::Log("info", text),
        // What changes where mail goes, and is not built, is never a yes.
        Asked::Filter(to) => fail(format!("FILTER {to}: content filters are not built")),
        Asked::Unbuilt(text) => fail(format!("`{text}' in a table is no action that is built")),
        Asked::Restrictions(rules) => {
            let unknown = rules.iter().find(|rule| !run.plan.classes.contains_key(&rule.name) && !is_built(rule));
            match unknown {
                Some(rule) => fail(format!("`{rule}' in a table is neither an action nor a restriction")),
                None => return Carried::Rules(rules),
            }
        }
        about_the_message => act(run, about_the_message, subject),
    };
    Carried::Effect(effect)
}

/// What is done with a message once there is one.
fn act(run: &Run<'_>, asked: Asked, subject: &Subject) -> Effect {
    if run.input.sender.is_none() {
        return Effect::Ignored("an action on a message has no effect before MAIL".to_owned());
    }
    let or = |text: String, default: &str| subject.remark(if text.is_empty() { default } else { &text });
    let action = match asked {
        Asked::Hold(_) if run.held => return Effect::Neutral,
        Asked::Hold(text) => Action::Hold(or(text, "triggers HOLD action")),
        Asked::Discard(text) => Action::Discard(or(text, "triggers DISCARD action")),
        Asked::Redirect(to) => return copied(&to, "REDIRECT", subject, Action::Redirect),
        Asked::Bcc(to) => return copied(&to, "BCC", subject, Action::Bcc),
        Asked::Prepend(_) if run.command == Stage::EndOfData => {
            return Effect::Ignored("PREPEND comes too late after the content".to_owned());
        }
        Asked::Prepend(field) if is_field(&field) => Action::Prepend(field),
        Asked::Prepend(field) => return Effect::Ignored(format!("PREPEND needs `NAME: VALUE', not `{field}'")),
        _ => return Effect::Neutral,
    };
    Effect::Act(action)
}

fn copied(to: &str, word: &str, subject: &Subject, action: fn(Address, String) -> Action) -> Effect {
    if !to.contains('@') {
        return Effect::Ignored(format!("{word} needs USER@DOMAIN, not `{to}'"));
    }
    match to.parse() {
        Ok(address) => Effect::Act(action(address, subject.remark(&format!("triggers {word} {to}")))),
        Err(_) => fail(format!("{word} {to}: no address")),
    }
}

/// Whether a text is a header field: a name of printable characters, and a colon.
fn is_field(text: &str) -> bool {
    text.split_once(':').is_some_and(|(name, _)| {
        let name = name.trim_end_matches([' ', '\t']);
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic())
    })
}

/// A refusal whose table may give code, status and text.
fn refuse(subject: &Subject, code: u64, what: Refusal, default: &str) -> Reply {
    let code = what.code.map_or(code, |code| u64::from(code.get()));
    let mut reply = subject.refuse(code, (7, 1), if what.text.is_empty() { default } else { &what.text });
    if let Some(status) = what.status {
        reply.status = Some(status_of(subject, status, &reply));
    }
    reply
}

/// A status from outside as the reply may bear it.
pub(crate) fn status_of(subject: &Subject, status: EnhancedStatus, reply: &Reply) -> EnhancedStatus {
    subject.fitting(status).with_severity(reply.severity())
}
