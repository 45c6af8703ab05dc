//! The decision record, and the log lines made from it.
