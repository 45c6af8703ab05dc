//! Logins and user lookups.
