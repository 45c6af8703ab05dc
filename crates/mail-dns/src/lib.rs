//! DNS behind one trait, and the order in which mail servers are tried.
//!
//! [`Lookup`] is what remote-delivery and smtpd ask; [`Resolver`] answers from the name servers (hickory-resolver), [`Zone`] from memory, for
//! tests. [`route`] turns MX records into the list of hosts to try: a pure function.
//!
//! Temporary and permanent failure are apart in [`DnsError`]: only an authoritative "does not exist" is permanent (S21).
//! Not here: DNSSEC and TLSA, connections to mail servers.

mod lookup;
mod resolver;
pub mod route;
mod zone;

pub use lookup::{Answer, DnsError, Lookup, Mx, is_host_name};
pub use resolver::Resolver;
pub use zone::Zone;
