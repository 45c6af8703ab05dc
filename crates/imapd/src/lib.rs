//! IMAP service.
