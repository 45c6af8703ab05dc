//! Where a value was written.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A line of a file: what every decision names as its source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceLine {
    /// The file as the administrator named it.
    pub file: Arc<str>,
    /// The line, counted from 1; 0 if the value is a built-in default.
    pub line: u32,
}

impl SourceLine {
    /// A line of a file.
    #[must_use]
    pub fn new(file: impl Into<Arc<str>>, line: u32) -> Self {
        Self { file: file.into(), line }
    }

    /// The source of a value that no file states.
    #[must_use]
    pub fn built_in() -> Self {
        Self { file: Arc::from("default"), line: 0 }
    }

    /// Whether no file states the value.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        self.line == 0
    }
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_built_in() { f.write_str(&self.file) } else { write!(f, "{}:{}", self.file, self.line) }
    }
}
