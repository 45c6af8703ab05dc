//! DNS behind one trait: MX order, and a zone in memory for tests.
