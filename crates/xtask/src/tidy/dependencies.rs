//! Decides whether each dependency is documented, used, and comes from the one registry.
//!
//! Pure.

use std::collections::BTreeMap;

use toml::Table;

use super::ours;
use crate::finding::Finding;
use crate::tree::{Tree, numbered};

/// Findings for dependencies of the workspace that are undocumented, unused or foreign, and for
/// lines of the page that document nothing.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let Some(manifest) = tree.text(MANIFEST) else {
        return Vec::new();
    };
    let parsed = toml::from_str::<Table>(manifest).unwrap_or_default();
    let theirs: Vec<String> =
        dependencies(parsed.get("workspace")).filter(|name| ours(name).is_none()).collect();
    let mut findings = undocumented(tree, manifest, &theirs);
    findings.extend(unused(tree, manifest, &theirs));
    findings.extend(foreign(tree));
    findings
}

fn undocumented(tree: &Tree, manifest: &str, theirs: &[String]) -> Vec<Finding> {
    let documented: BTreeMap<&str, usize> = tree
        .text(PAGE)
        .into_iter()
        .flat_map(numbered)
        .filter_map(|(at, line)| Some((line.strip_prefix("| `")?.split_once('`')?.0, at)))
        .collect();
    let lacking =
        theirs.iter().filter(|name| !documented.contains_key(name.as_str())).map(|name| {
            let wrong = format!("`{name}` has no line in {PAGE}");
            Finding::new(MANIFEST, declared_at(manifest, name), wrong, "say there what it saves us")
        });
    let surplus = documented.iter().filter(|(name, _)| !theirs.iter().any(|t| t == *name)).map(
        |(name, at)| {
            let wrong = format!("`{name}` is no dependency of the workspace");
            Finding::new(PAGE, *at, wrong, "remove the line")
        },
    );
    lacking.chain(surplus).collect()
}

fn unused(tree: &Tree, manifest: &str, theirs: &[String]) -> Vec<Finding> {
    let mut used: Vec<String> = Vec::new();
    for (_, text) in tree.ending("/Cargo.toml") {
        let parsed = toml::from_str::<Table>(text).unwrap_or_default();
        let targets = parsed.get("target").and_then(toml::Value::as_table);
        let each = targets.into_iter().flatten().map(|(_, target)| target.clone());
        for owner in each.chain([toml::Value::Table(parsed.clone())]) {
            used.extend(dependencies(Some(&owner)));
        }
    }
    theirs
        .iter()
        .filter(|name| !used.contains(name))
        .map(|name| {
            let wrong = format!("no crate uses `{name}`");
            Finding::new(MANIFEST, declared_at(manifest, name), wrong, "remove the dependency")
        })
        .collect()
}

fn foreign(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending("Cargo.lock") {
        let sources =
            numbered(text).filter_map(|(at, line)| Some((at, line.strip_prefix("source = ")?)));
        for (at, source) in sources.filter(|(_, source)| *source != SOURCE) {
            let wrong = format!("a package comes from {source}");
            findings.push(Finding::new(path, at, wrong, "take it from crates.io"));
        }
    }
    findings
}

/// The names in all tables of dependencies of `owner`.
fn dependencies(owner: Option<&toml::Value>) -> impl Iterator<Item = String> {
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .into_iter()
        .filter_map(move |kind| owner?.get(kind)?.as_table())
        .flat_map(|table| table.keys().cloned())
}

fn declared_at(manifest: &str, name: &str) -> usize {
    let declaration = format!("{name} = ");
    numbered(manifest).find(|(_, line)| line.starts_with(&declaration)).map_or(1, |(at, _)| at)
}

const MANIFEST: &str = "Cargo.toml";
const PAGE: &str = "docs/dependencies.md";
const SOURCE: &str = "\"registry+https://github.com/rust-lang/crates.io-index\"";

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "[workspace.dependencies]\nmerpati-mail = { path = \"x\" }\nbytes = \"1\"\n\
                        tempfile = \"3\"\n";
    const LINES: &str = "| name |\n|---|\n| `bytes` | MIT |\n| `tempfile` | MIT |\n";
    const USES: &str = "[dependencies]\nbytes.workspace = true\n\n\
                        [target.'cfg(unix)'.dev-dependencies]\ntempfile.workspace = true\n";

    #[track_caller]
    fn check_tree(files: &[(&str, &str)], want: &[(&str, usize)]) {
        let places: Vec<_> =
            check(&Tree::made_up(files)).into_iter().map(|f| (f.path, f.line)).collect();
        let want: Vec<_> = want.iter().map(|(path, line)| ((*path).to_owned(), *line)).collect();
        assert_eq!(places, want);
    }

    #[test]
    fn a_dependency_is_documented_and_used() {
        let manifest = ("crates/spool/Cargo.toml", USES);
        check_tree(&[(MANIFEST, ROOT), (PAGE, LINES), manifest], &[]);
        check_tree(&[(MANIFEST, ROOT), manifest], &[(MANIFEST, 3), (MANIFEST, 4)]);
        check_tree(&[(MANIFEST, ROOT), (PAGE, LINES)], &[(MANIFEST, 3), (MANIFEST, 4)]);
        let more = format!("{LINES}| `memchr` | MIT |\n");
        check_tree(&[(MANIFEST, ROOT), (PAGE, &more), manifest], &[(PAGE, 5)]);
    }

    #[test]
    fn every_locked_package_comes_from_the_one_registry() {
        let lock = format!("source = {SOURCE}\nsource = \"git+https://example.org/x\"\n");
        check_tree(&[(MANIFEST, ""), ("Cargo.lock", &lock)], &[("Cargo.lock", 2)]);
    }
}
