//! Mailboxes: Maildir++ with Dovecot's uidlist and keywords, and mbox.
