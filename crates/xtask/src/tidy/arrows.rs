//! Decides which of our crates may depend on which (design.md §2).
//!
//! Invariant: a new arrow is a new row here and an ADR in the same commit. Pure.

use serde_json::Value;

use super::{Declared, declared, ours};
use crate::finding::Finding;
use crate::tree::{Tree, line_of};

/// Findings for every arrow between crates of ours that the table does not allow.
pub fn check(tree: &Tree, metadata: &Value) -> Vec<Finding> {
    declared(metadata)
        .iter()
        .filter_map(|arrow| {
            let to = ours(&arrow.to)?;
            let wrong = breach(arrow, to)?;
            let path = format!("crates/{}/Cargo.toml", arrow.from);
            let line = tree.text(&path).map_or(1, |text| line_of(text, &arrow.to));
            Some(Finding::new(&path, line, wrong, REMEDY))
        })
        .collect()
}

fn breach(arrow: &Declared, to: &str) -> Option<String> {
    let from = arrow.from.as_str();
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == from) else {
        return Some(format!("crate {from} has no row in the table of arrows"));
    };
    let may = if arrow.is_dev {
        from == "relay" || allowed.contains(&to) || !["relay", "sim"].contains(&to)
    } else {
        allowed.contains(&to)
    };
    (!may).then(|| format!("the arrow {from} -> {to} is not allowed"))
}

/// From each crate to those that it may depend on. Tests may import more, but never `relay` and
/// `sim`; the tests of `relay` may import anything of ours.
const ARROWS: [(&str, &[&str]); 9] = [
    ("mail", &[]),
    ("smtp", &["mail"]),
    ("flow", &["mail"]),
    ("auth", &["mail"]),
    ("spool", &["mail"]),
    ("console", &["mail"]),
    ("sim", &["mail", "smtp", "flow", "spool"]),
    ("relay", &["mail", "smtp", "flow", "auth", "spool", "console"]),
    // Only for the generated reference.
    ("xtask", &["mail", "console", "relay"]),
];

const REMEDY: &str = "move the code to where it belongs, or argue the arrow in an ADR and add it \
                      to crates/xtask/src/tidy/arrows.rs";

#[cfg(test)]
mod tests {
    use super::super::tests::metadata;
    use super::*;

    #[track_caller]
    fn check_arrow(from: &str, to: &str, kind: Option<&str>, allowed: bool) {
        let row = [(from, to, kind)];
        let findings = check(&Tree::default(), &metadata(&row));
        assert_eq!(findings.is_empty(), allowed, "{row:?}: {findings:?}");
    }

    #[test]
    fn flow_never_imports_smtp_or_spool() {
        check_arrow("merpati-flow", "merpati-mail", None, true);
        check_arrow("merpati-flow", "merpati-smtp", None, false);
        check_arrow("merpati-flow", "merpati-spool", None, false);
        check_arrow("merpati-flow", "merpati-spool", Some("build"), false);
    }

    #[test]
    fn nothing_but_xtask_imports_relay() {
        check_arrow("merpati-xtask", "merpati-relay", None, true);
        check_arrow("merpati-sim", "merpati-relay", None, false);
        check_arrow("merpati-console", "merpati-relay", Some("dev"), false);
    }

    #[test]
    fn only_the_tests_of_relay_import_the_simulator() {
        check_arrow("merpati-relay", "merpati-sim", Some("dev"), true);
        check_arrow("merpati-relay", "merpati-sim", None, false);
        check_arrow("merpati-flow", "merpati-sim", Some("dev"), false);
        check_arrow("merpati-flow", "merpati-spool", Some("dev"), true);
    }

    #[test]
    fn a_crate_without_a_row_may_import_nothing_of_ours() {
        check_arrow("merpati-filter", "merpati-mail", None, false);
        check_arrow("merpati-filter", "memchr", None, true);
    }

    #[test]
    fn the_finding_points_at_the_line_of_the_manifest() {
        let tree = Tree::made_up(&[(
            "crates/flow/Cargo.toml",
            "[dependencies]\nmerpati-mail.workspace = true\nmerpati-spool.workspace = true\n",
        )]);
        let findings = check(&tree, &metadata(&[("merpati-flow", "merpati-spool", None)]));
        assert_eq!(findings.first().map(|f| f.line), Some(3));
    }
}
