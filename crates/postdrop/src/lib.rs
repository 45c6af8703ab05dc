//! The setgid writer of the maildrop directory.
