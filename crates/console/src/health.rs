//! What is good and what is wrong with the host and its surroundings: what `doctor` and
//! `/v1/health` tell.
//!
//! Pure.

use std::sync::Arc;

use merpati_mail::Time;

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// When it was looked at.
    pub at: Time,
    /// What was found, in the order of the checks.
    pub findings: Arc<Vec<Finding>>,
}

impl Examined {
    /// The worst of all.
    pub fn grade(&self) -> Grade {
        self.findings.iter().map(|finding| finding.grade).max().unwrap_or(Grade::Good)
    }
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Good,
    /// It could not be found out: that says neither good nor bad.
    Unknown,
    /// Mail goes, and some of it may suffer.
    Warning,
    /// Mail is refused, lost in spam, or in danger.
    Bad,
}

impl Grade {
    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// What was found when something was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, as a word that stays the same from version to version: `port-25`.
    pub check: &'static str,
    /// Of what: an address, a name, a file.
    pub about: String,
    /// How it stands.
    pub grade: Grade,
    /// What was found, in words.
    pub words: String,
    /// What to do; `None` where nothing is to be done.
    pub fix: Option<String>,
}

impl Finding {
    /// One of this grade, without anything to do.
    pub fn new(
        check: &'static str,
        about: impl Into<String>,
        grade: Grade,
        words: impl Into<String>,
    ) -> Self {
        Self { check, about: about.into(), grade, words: words.into(), fix: None }
    }

    /// The same with what to do.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}
