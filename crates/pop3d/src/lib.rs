//! POP3 service.
