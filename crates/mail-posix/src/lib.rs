//! The only crate with unsafe: users, becoming a user, fork, locks, descriptors over sockets.
