//! Restriction lists, access tables and limits: pure functions over facts.
