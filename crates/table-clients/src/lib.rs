//! Clients of the servers that answer lookup tables: socketmap_table(5), tcp_table(5), memcache_table(5), sqlite_table(5),
//! pgsql_table(5), mysql_table(5), ldap_table(5).
//!
//! [`Clients`] asks a table for a key and gives what `mail-tables` calls a [`RemoteAnswer`]: a value, "not found", or a temporary failure, which are
//! never mixed up. It keeps connections open between questions and limits the time of each question and the size of each answer.
//!
//! authd uses it for all daemons, since here are the passwords and the connections; `postmap` and `explain` use it for themselves.
//! Not here: who may ask what, how long an answer is believed, and any table that is read from a file into memory.

mod clients;
mod connection;
mod ldap;
mod memcache;
mod mysql;
mod netstring;
mod pgsql;
mod pool;
mod scram;
mod settings;
mod socketmap;
mod sql;
mod sqlite;
mod tcp;
mod template;
mod tls;

pub use clients::Clients;
pub use ldap::{decode as decode_ldap, encode_filter as encode_ldap_filter};
pub use mail_tables::RemoteAnswer;
pub use memcache::value as decode_memcache;
pub use mysql::{packet as decode_mysql, row as decode_mysql_row};
pub use netstring::decode as decode_netstring;
pub use pgsql::{message as decode_pgsql, row as decode_pgsql_row};
pub use socketmap::answer as decode_socketmap;
pub use tcp::{decoded as decode_tcp_text, reply as decode_tcp_reply};
