//! How what was found about the host reads as JSON.
//!
//! Pure.

use serde::Serialize;

use crate::health::{Examined, Finding};

/// All that was found.
#[derive(Serialize)]
pub(crate) struct Health {
    at: String,
    /// The worst of all.
    grade: &'static str,
    findings: Vec<Found>,
}

impl Health {
    pub(crate) fn of(examined: &Examined) -> Self {
        Self {
            at: examined.at.rfc3339(),
            grade: examined.grade().as_str(),
            findings: examined.findings.iter().map(Found::of).collect(),
        }
    }
}

#[derive(Serialize)]
struct Found {
    check: &'static str,
    about: String,
    grade: &'static str,
    words: String,
    fix: Option<String>,
}

impl Found {
    fn of(finding: &Finding) -> Self {
        let Finding { check, about, grade, words, fix } = finding.clone();
        Self { check, about, grade: grade.as_str(), words, fix }
    }
}
