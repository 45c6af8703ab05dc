//! SEARCH: cheap tests first, a message is opened only where they leave it open.

use mail_imap::grammar::date::Day;
use mail_imap::grammar::search::{DateTest, SearchKey};
use mail_imap::grammar::sequence::Ranges;
use mail_imap::{Answer, Refusal, ResponseCode};
use mail_message::mime::{Needle, SearchText, sent_date};
use mail_store::{Flags as StoreFlags, KeywordSet, Mailbox, Message};

use super::message::{Reading, Unreadable};
use super::{Jobs, parallel};
use crate::local_time::local;

/// So much of a part is searched.
const SEARCHED_MAX: usize = 64 * 1024 * 1024;

/// So many texts are looked for at once: each goes through all of every message.
const TEXTS_MAX: usize = 1000;

/// A search key ready for one mailbox: texts decoded, keywords found.
enum Test {
    Const(bool),
    And(Vec<Test>),
    Or(Box<Test>, Box<Test>),
    Not(Box<Test>),
    Uids(Ranges),
    Flag(StoreFlags),
    Keyword(KeywordSet),
    Internal(DateTest, Day),
    Sent(DateTest, Day),
    Larger(u64),
    Smaller(u64),
    Header(String, Needle),
    Body(Needle),
    Text(Needle),
}

impl Jobs {
    pub(super) fn search(
        &mut self,
        view: &[u32],
        charset: Option<&str>,
        key: &SearchKey<Ranges>,
    ) -> Result<Answer, Refusal> {
        // An empty text stands for any: it only asks whether the charset is known.
        if Needle::new(b"", charset).is_none() {
            return Err(Refusal::new(ResponseCode::BadCharset, "Unknown charset"));
        }
        let mailbox = self.mailbox()?;
        let test = compile(key, charset, &**mailbox);
        if texts(&test) > TEXTS_MAX {
            return Err(Refusal::new(ResponseCode::Limit, "Too many texts to search for."));
        }
        let snapshot: &dyn Mailbox = &**mailbox;
        let judge = |uid: &u32| {
            let message = *snapshot.messages().get(snapshot.position(*uid)?)?;
            Some(Candidate::new(snapshot, message).passes(&test))
        };
        let judged = if cost(&test) == 0 { view.iter().map(judge).collect() } else { parallel::map(view, judge) };
        let mut found = Vec::new();
        let mut failed = None;
        for (&uid, passed) in view.iter().zip(judged) {
            match passed {
                Some(Ok(true)) => found.push(uid),
                Some(Ok(false) | Err(Unreadable::Gone)) | None => {}
                Some(Err(Unreadable::Error(error))) => failed = Some((uid, error)),
            }
        }
        if let Some((uid, error)) = failed {
            return Err(self.refusal(&error, &format!("message {uid}")));
        }
        Ok(Answer::Found(found))
    }
}

fn compile(key: &SearchKey<Ranges>, charset: Option<&str>, mailbox: &dyn Mailbox) -> Test {
    let inner = |key: &SearchKey<Ranges>| Box::new(compile(key, charset, mailbox));
    let text = |text: &[u8], make: fn(Needle) -> Test| Needle::new(text, charset).map_or(Test::Const(false), make);
    match key {
        SearchKey::All => Test::Const(true),
        SearchKey::And(keys) => {
            let mut tests: Vec<Test> = keys.iter().map(|key| compile(key, charset, mailbox)).collect();
            tests.sort_by_key(cost);
            Test::And(tests)
        }
        SearchKey::Or(a, b) => {
            let (a, b) = (inner(a), inner(b));
            if cost(&a) <= cost(&b) { Test::Or(a, b) } else { Test::Or(b, a) }
        }
        SearchKey::Not(key) => Test::Not(inner(key)),
        SearchKey::Uids(set) => Test::Uids(set.clone()),
        // The machine resolves these two; what it cannot resolve matches nothing.
        SearchKey::Messages(_) | SearchKey::Recent => Test::Const(false),
        SearchKey::Flag(flag) => Test::Flag(StoreFlags::from_bits(flag.0)),
        SearchKey::Keyword(name) => {
            let place = mailbox.keywords().iter().position(|keyword| keyword.eq_ignore_ascii_case(name));
            place.map_or(Test::Const(false), |place| Test::Keyword(1 << place))
        }
        SearchKey::Internal(test, day) => Test::Internal(*test, *day),
        SearchKey::Sent(test, day) => Test::Sent(*test, *day),
        SearchKey::Larger(size) => Test::Larger(u64::from(*size)),
        SearchKey::Smaller(size) => Test::Smaller(u64::from(*size)),
        SearchKey::Header(name, value) => {
            Needle::new(value, charset).map_or(Test::Const(false), |needle| Test::Header(name.clone(), needle))
        }
        SearchKey::Body(value) => text(value, Test::Body),
        SearchKey::Text(value) => text(value, Test::Text),
    }
}

/// How much a test reads: nothing, the file's facts, its header, all of it.
fn cost(test: &Test) -> u8 {
    match test {
        Test::Const(_) | Test::Uids(_) | Test::Flag(_) | Test::Keyword(_) => 0,
        Test::Internal(..) | Test::Larger(_) | Test::Smaller(_) => 1,
        Test::Sent(..) | Test::Header(..) => 2,
        Test::Body(_) | Test::Text(_) => 3,
        Test::And(tests) => tests.iter().map(cost).max().unwrap_or(0),
        Test::Or(a, b) => cost(a).max(cost(b)),
        Test::Not(test) => cost(test),
    }
}

/// How many texts are looked for.
fn texts(test: &Test) -> usize {
    match test {
        Test::Header(..) | Test::Body(_) | Test::Text(_) => 1,
        Test::And(tests) => tests.iter().map(texts).sum(),
        Test::Or(a, b) => texts(a) + texts(b),
        Test::Not(test) => texts(test),
        _ => 0,
    }
}

/// A message that is tested.
struct Candidate<'m> {
    mailbox: &'m dyn Mailbox,
    message: Message,
    reading: Reading<'m>,
    text: SearchText,
    /// The day of the Date field, once looked for.
    sent: Option<Option<i64>>,
}

impl<'m> Candidate<'m> {
    fn new(mailbox: &'m dyn Mailbox, message: Message) -> Self {
        Self { mailbox, message, reading: Reading::new(mailbox, message.uid), text: SearchText::default(), sent: None }
    }

    fn passes(&mut self, test: &Test) -> Result<bool, Unreadable> {
        let uid = self.message.uid;
        Ok(match test {
            Test::Const(value) => *value,
            Test::And(tests) => {
                for test in tests {
                    if !self.passes(test)? {
                        return Ok(false);
                    }
                }
                true
            }
            Test::Or(a, b) => self.passes(a)? || self.passes(b)?,
            Test::Not(test) => !self.passes(test)?,
            Test::Uids(set) => set.contains(uid),
            Test::Flag(flag) => self.message.flags.contains(*flag),
            Test::Keyword(bit) => self.message.keywords & bit != 0,
            Test::Internal(test, day) => test.passes(local(self.mailbox.facts(uid)?.internal_date).day(), *day),
            Test::Larger(size) => self.mailbox.facts(uid)?.size > *size,
            Test::Smaller(size) => self.mailbox.facts(uid)?.size < *size,
            Test::Sent(test, day) => self.sent()?.is_some_and(|sent| test.passes(Day(sent), *day)),
            Test::Header(name, needle) => self.text.field_contains(self.reading.header()?, name, needle),
            Test::Body(needle) => self.body_contains(needle)?,
            Test::Text(needle) => {
                let header = self.reading.header()?;
                self.text.header_contains(header, needle) || self.body_contains(needle)?
            }
        })
    }

    fn sent(&mut self) -> Result<Option<i64>, Unreadable> {
        if let Some(sent) = self.sent {
            return Ok(sent);
        }
        let sent = sent_date(self.reading.header()?);
        self.sent = Some(sent);
        Ok(sent)
    }

    fn body_contains(&mut self, needle: &Needle) -> Result<bool, Unreadable> {
        if let Some((message, part)) = self.reading.held()? {
            return Ok(self.text.body_contains(message, part, needle));
        }
        // Of a large message one piece at a time is in memory.
        let part = self.reading.structure()?.clone();
        for piece in part.searchable() {
            let end = piece.range.end.min(piece.range.start.saturating_add(SEARCHED_MAX));
            let octets = self.reading.octets(piece.range.start..end)?;
            if piece.contains(&octets, needle) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
