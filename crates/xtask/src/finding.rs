//! Says what a rule of the house reports: a place, what is wrong there, what to do.
//!
//! Pure.

use std::fmt;

/// One breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, relative to the root of the repository, with `/` between its parts.
    pub path: String,
    /// The line, counted from 1; 1 also where the file as a whole is meant.
    pub line: usize,
    /// What is wrong, without a full stop.
    pub wrong: String,
    /// What to do about it, without a full stop.
    pub remedy: String,
}

impl Finding {
    /// A finding at `path`, line `line` (from 1).
    pub fn new(
        path: &str,
        line: usize,
        wrong: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { path: path.to_owned(), line, wrong: wrong.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, wrong, remedy } = self;
        write!(f, "{path}:{line}: {wrong}; {remedy}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_file_line_wrong_remedy() {
        let finding = Finding::new("a/b.rs", 7, "the line is long", "break it");
        assert_eq!(finding.to_string(), "a/b.rs:7: the line is long; break it");
    }
}
