//! Decides whether the house is tidy: every rule once, its findings in the order of the files.
//!
//! Invariant: a rule knows nothing of the others and looks at nothing but its arguments. Pure.

/// Which crate may depend on which.
pub mod arrows;
/// The change log opens with what is not released yet.
pub mod changelog;
/// Dependencies are documented and used, and come from one place.
pub mod dependencies;
/// Every event is documented and handled by each sink.
pub mod events;
/// The limits of clippy stand beside each pure crate too.
pub mod limits;
/// Links and decision records lead somewhere.
pub mod links;
/// Nothing is left half done.
pub mod marks;
/// Nothing names the machine that it was made on.
pub mod places;
/// Pure crates have no IO crates below them.
pub mod purity;
/// Generated pages are what the code would write today.
pub mod reference;
/// Files and lines have an end.
pub mod shape;
/// No file is there by accident.
pub mod stray;

use serde_json::Value;

use crate::finding::Finding;
use crate::reference::Page;
use crate::tree::Tree;

/// All findings of all rules; `metadata` is what `cargo metadata --no-deps` printed.
pub fn check(tree: &Tree, metadata: &Value, pages: &[Page]) -> Vec<Finding> {
    let mut findings = [
        arrows::check(tree, metadata),
        changelog::check(tree),
        dependencies::check(tree),
        events::check(tree),
        limits::check(tree),
        links::check(tree),
        marks::check(tree),
        places::check(tree),
        purity::check(tree, metadata),
        reference::check(tree, pages),
        shape::check(tree),
        stray::check(tree),
    ]
    .concat();
    findings.sort();
    findings
}

/// The crates that decide and never act (design.md §2); a name is a directory of `crates/`.
const PURE: [&str; 4] = ["mail", "smtp", "flow", "sim"];

/// One dependency that a manifest of ours declares.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Declared {
    /// Short name of the crate of ours (`mail`).
    from: String,
    /// Name of the crate it depends on, as the registry spells it.
    to: String,
    /// Whether only tests, examples and benches see it.
    is_dev: bool,
}

/// The short name of a package of ours; `None` for somebody else's.
fn ours(package: &str) -> Option<&str> {
    package.strip_prefix("merpati-")
}

/// Whether the whole file is tests.
fn is_test(path: &str) -> bool {
    let inside = path.starts_with("tests/") || path.contains("/tests/");
    inside || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

/// All dependencies that our packages declare, from the output of `cargo metadata`.
fn declared(metadata: &Value) -> Vec<Declared> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let name = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
    let mut all = Vec::new();
    for package in list(metadata.get("packages")) {
        let Some(from) = name(&package) else { continue };
        let from = ours(&from).unwrap_or(&from).to_owned();
        for dependency in list(package.get("dependencies")) {
            let Some(to) = name(&dependency) else { continue };
            let is_dev = dependency.get("kind").and_then(Value::as_str) == Some("dev");
            all.push(Declared { from: from.clone(), to, is_dev });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What `cargo metadata` would print for these `(package, dependency, kind)`.
    pub(super) fn metadata(rows: &[(&str, &str, Option<&str>)]) -> Value {
        let packages: Vec<Value> = rows
            .iter()
            .map(|(from, to, kind)| {
                json!({ "name": from, "dependencies": [{ "name": to, "kind": kind }] })
            })
            .collect();
        json!({ "packages": packages })
    }

    #[test]
    fn a_made_up_tree_with_a_change_log_alone_is_tidy() {
        let tree = Tree::made_up(&[("CHANGELOG.md", "# Changes\n\n## Unreleased\n")]);
        assert_eq!(check(&tree, &metadata(&[]), &[]), vec![]);
    }

    #[test]
    fn findings_come_in_the_order_of_files_and_lines() {
        let tree = Tree::made_up(&[("b.md", "[x](gone.md)\n[y](gone.md)\n"), ("a.orig", "x")]);
        let places: Vec<_> = check(&tree, &metadata(&[]), &[])
            .into_iter()
            .map(|finding| (finding.path, finding.line))
            .collect();
        let want = [("CHANGELOG.md", 1), ("a.orig", 1), ("b.md", 1), ("b.md", 2)];
        assert_eq!(places, want.map(|(path, line)| (path.to_owned(), line)));
    }
}
