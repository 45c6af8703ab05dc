//! IMAP4rev1: grammar and session machines.
