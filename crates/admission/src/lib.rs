//! What smtpd knows when it judges a command, without its sockets.
//!
//! [`facts`] puts configuration, tables and what was fetched for a transaction before `mail-policy` and `mail-route`, and fetches what they
//! miss; [`judging`] does both until a command is decided; [`settings`] is the protocol machine as one listener's main.cf has it, [`clients`] what
//! lists and tables say of one client; [`origin`] says whose mail it is. With the machine of `mail-smtp` that is all a session needs to answer, so
//! `smtpd` and `postrider explain` give the same answers.
//!
//! It owns neither connections nor limits per client, keeps nothing between transactions, and decides nothing itself: who may do what is
//! `mail-policy`'s business, and where mail goes is `mail-route`'s. Users are looked up by whoever implements [`facts::Users`].

pub mod clients;
pub mod facts;
mod hosts;
pub mod judging;
mod lists;
pub mod origin;
pub mod settings;
