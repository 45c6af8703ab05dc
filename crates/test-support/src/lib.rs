//! Whole systems in a temporary directory, fake remote servers, small clients; for tests and the demo.
