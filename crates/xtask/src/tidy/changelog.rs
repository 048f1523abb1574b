//! Decides whether `CHANGELOG.md` opens with a section for what is not released yet.
//!
//! Pure.

use crate::finding::Finding;
use crate::tree::{Tree, numbered};

/// A finding if the first section of the change log is another one.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let remedy = "put `## Unreleased` above all other sections";
    let Some(text) = tree.text(PATH) else {
        return vec![Finding::new(PATH, 1, "there is no change log", remedy)];
    };
    match numbered(text).find(|(_, line)| line.starts_with("## ")) {
        Some((_, line)) if line.contains("Unreleased") => Vec::new(),
        Some((at, _)) => vec![Finding::new(PATH, at, "the first section is a release", remedy)],
        None => vec![Finding::new(PATH, 1, "no section at all", remedy)],
    }
}

const PATH: &str = "CHANGELOG.md";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_change_log_opens_with_what_is_not_released() {
        for (text, want) in [
            ("# Changes\n\n## [Unreleased]\n\n## 0.1.0\n", None),
            ("# Changes\n\n## 0.1.0\n\n## Unreleased\n", Some(3)),
            ("# Changes\n", Some(1)),
        ] {
            let findings = check(&Tree::made_up(&[(PATH, text)]));
            assert_eq!(findings.first().map(|finding| finding.line), want, "{text}");
        }
        assert_eq!(check(&Tree::default()).len(), 1);
    }
}
