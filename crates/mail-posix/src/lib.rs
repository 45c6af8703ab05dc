//! What the operating system offers and safe libraries leave out: the only crate with `unsafe`.
//!
//! Owned here: the passwd and group databases ([`users`]), becoming another user ([`mod@become_user`]),
//! whose files a thread makes ([`file_identity`]), processes without exec ([`fork`]),
//! programs of others ([`command`]),
//! signals as a descriptor ([`signals`]), descriptors over sockets ([`fdpass`]), Unix sockets in deep directories ([`sockets`]),
//! locks ([`locks`]), sealed memory ([`memfd`]), what the allocator keeps ([`memory`]), durability and space of files ([`files`]), the sandbox ([`sandbox`], of [`landlock`] and [`seccomp`]), libpam ([`pam`]), libsqlite3 ([`sqlite`]),
//! facts about the machine ([`host`]), and the points at which tests stop a process ([`points`]).
//!
//! Everything blocks and nothing here knows mail, configuration or an event loop. Who calls decides what an error means.
//! `unsafe` stands in small functions, each with its `SAFETY` line; everything that rustix can do goes through rustix.

#![allow(unsafe_code)] // Reason: this crate is the one home of calls that no safe library offers.

pub mod become_user;
pub mod command;
pub mod fdpass;
pub mod file_identity;
pub mod files;
pub mod fork;
pub mod host;
pub mod landlock;
pub mod locks;
pub mod memfd;
pub mod memory;
pub mod pam;
pub mod points;
pub mod sandbox;
pub mod seccomp;
pub mod signals;
pub mod sockets;
pub mod sqlite;
pub mod users;

pub use become_user::{BecomeError, Confinement, Identity, become_user};
pub use fork::{Child, Ended, fork_child};
pub use users::User;
