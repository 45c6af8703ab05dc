//! Who may log in, and where a user's mail lies: password schemes, user databases, SASL mechanisms.
//!
//! Owned here: [`schemes`] (`{SCHEME}` passwords), [`passwd_file`], [`variables`] (`%u` and friends), [`names`] (what becomes of a login name),
//! [`sasl`] (PLAIN and LOGIN), [`plan`] (passdbs and userdbs) and how [`dovecot`].conf names them, and the evaluation of a plan: [`login`] for a
//! password, master users' too, [`lookup`] for a user. The rules and their defaults are Dovecot 2.3.19's.
//!
//! A plan asks its facts from [`plan::Sources`]: files, PAM, the system's users. Whoever implements that trait (authd, `postrider explain`,
//! a test) does the input and output; nothing here opens a file, knows the time, or listens.
//!
//! Deliberately not here: caches, delays after failures, sockets (authd), SQL and LDAP.

pub mod dovecot;
#[cfg(test)]
mod fake;
pub mod login;
pub mod lookup;
pub mod names;
pub mod networks;
pub mod passwd_file;
mod patterns;
pub mod plan;
pub mod sasl;
pub mod schemes;
pub mod variables;
