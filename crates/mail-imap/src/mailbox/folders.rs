//! CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, LIST, LSUB, NAMESPACE, STATUS (RFC 3501 sections 6.3.3 to 6.3.10, RFC 2342).

use super::question::{MailboxStatus, Namespaces, Question};
use super::{Mailbox, Pending};
use crate::grammar::command::{Mailbox as MailboxArgument, StatusItem};
use crate::mailbox_name::{MailboxName, encode};
use crate::response::{write_astring, write_string};

impl Mailbox {
    pub(super) fn change_folder(
        &mut self,
        tag: String,
        mailbox: MailboxArgument,
        question: fn(MailboxName) -> Question,
        text: &'static str,
    ) {
        match mailbox {
            Ok(mailbox) => self.ask(question(mailbox), Pending::Done { tag, text: text.to_owned() }),
            Err(error) => self.finish(tag, &format!("NO {error}"), true),
        }
    }

    /// A mailbox that is deleted is not selected any more, as in Dovecot.
    pub(super) fn delete(&mut self, tag: String, mailbox: MailboxArgument) {
        let selected = self.view.as_ref().map(|view| &view.name).filter(|name| !name.is_inbox());
        if selected.is_some_and(|selected| mailbox.as_ref() == Ok(selected)) {
            self.view = None;
        }
        self.change_folder(tag, mailbox, Question::Delete, "OK Delete completed.");
    }

    pub(super) fn rename(&mut self, tag: String, from: MailboxArgument, to: MailboxArgument) {
        match (from, to) {
            (Ok(from), Ok(to)) => {
                self.ask(Question::Rename(from, to), Pending::Done { tag, text: "OK Rename completed.".to_owned() })
            }
            (Err(error), _) | (_, Err(error)) => self.finish(tag, &format!("NO {error}"), true),
        }
    }

    pub(super) fn listed(&mut self, tag: String, lines: &[u8], subscribed: bool) {
        for chunk in lines.chunks(64 * 1024) {
            self.output.data(chunk.to_vec());
        }
        self.finish(tag, if subscribed { "OK Lsub completed." } else { "OK List completed." }, true);
    }

    pub(super) fn namespaces(&mut self, tag: String, namespaces: &Namespaces) {
        let mut line = b"* NAMESPACE".to_vec();
        for class in [&namespaces.personal, &namespaces.other, &namespaces.shared] {
            line.push(b' ');
            write_namespaces(class, &mut line);
        }
        line.extend_from_slice(b"\r\n");
        self.output.data(line);
        self.finish(tag, "OK Namespace completed.", true);
    }

    pub(super) fn status(&mut self, tag: String, mailbox: MailboxArgument, items: Vec<StatusItem>) {
        match mailbox {
            Ok(mailbox) => self.ask(Question::Status(mailbox.clone()), Pending::Status { tag, mailbox, items }),
            Err(error) => self.finish(tag, &format!("NO {error}"), true),
        }
    }

    pub(super) fn counted(&mut self, tag: String, mailbox: &MailboxName, items: &[StatusItem], status: MailboxStatus) {
        let mut line = b"* STATUS ".to_vec();
        write_astring(mailbox.encoded().as_bytes(), &mut line);
        let counts = items.iter().map(|item| status.count(*item)).collect::<Vec<_>>().join(" ");
        line.extend_from_slice(format!(" ({counts})\r\n").as_bytes());
        self.output.data(line);
        let selected = self.view.as_ref().is_some_and(|view| view.name == *mailbox);
        self.finish(
            tag,
            if selected { "OK [CLIENTBUG] Status on selected mailbox completed." } else { "OK Status completed." },
            true,
        );
    }
}

impl MailboxStatus {
    fn count(&self, item: StatusItem) -> String {
        let (name, count) = match item {
            StatusItem::Messages => ("MESSAGES", self.messages),
            StatusItem::Recent => ("RECENT", self.recent),
            StatusItem::UidNext => ("UIDNEXT", self.uid_next),
            StatusItem::UidValidity => ("UIDVALIDITY", self.uid_validity),
            StatusItem::Unseen => ("UNSEEN", self.unseen),
        };
        format!("{name} {count}")
    }
}

fn write_namespaces(namespaces: &[(String, char)], line: &mut Vec<u8>) {
    if namespaces.is_empty() {
        line.extend_from_slice(b"NIL");
        return;
    }
    line.push(b'(');
    for (prefix, separator) in namespaces {
        line.push(b'(');
        write_string(encode(prefix).as_bytes(), line);
        line.push(b' ');
        write_string(separator.to_string().as_bytes(), line);
        line.push(b')');
    }
    line.push(b')');
}
