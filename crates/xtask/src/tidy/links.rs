//! Decides whether links between our pages lead somewhere, and whether the decision records are
//! numbered without a gap.
//!
//! Pure.

use crate::finding::Finding;
use crate::tree::{Tree, numbered};

/// Findings for dead relative links, for decision records that are named but not there, and for
/// numbers that are missing or taken twice.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".md") {
        findings.extend(dead_links(tree, path, text));
    }
    for (path, text) in tree.texts() {
        findings.extend(dead_records(tree, path, text));
    }
    findings.extend(numbers(tree));
    findings
}

fn dead_links(tree: &Tree, path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut fenced = false;
    for (line, content) in numbered(text) {
        if content.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let dead = targets(content).filter(|target| !leads_somewhere(tree, path, target));
            findings.extend(dead.map(|target| {
                let wrong = format!("the link to `{target}` leads nowhere");
                Finding::new(path, line, wrong, "mend the link or write the page")
            }));
        }
    }
    findings
}

/// The targets of the inline links `[text](target)` of a line.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
}

fn leads_somewhere(tree: &Tree, from: &str, target: &str) -> bool {
    let target = target.split(['#', ' ']).next().unwrap_or_default();
    if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    joined(from, target).is_some_and(|path| tree.has(&path))
}

/// `target` as seen from the file `from`; `None` if it leaves the repository.
fn joined(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => from.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev().collect(),
    };
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop()?;
        } else {
            parts.push(part);
        }
    }
    Some(parts.join("/"))
}

fn dead_records(tree: &Tree, path: &str, text: &str) -> Vec<Finding> {
    if !text.contains("adr/") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (line, content) in numbered(text) {
        for named in content.split("adr/").skip(1).filter_map(record_name) {
            if !tree.has(&format!("{RECORDS}{named}")) {
                let wrong = format!("`{RECORDS}{named}` is not there");
                findings.push(Finding::new(path, line, wrong, "name the record as it is"));
            }
        }
    }
    findings
}

/// `0001-some-words.md`, if `text` begins so.
fn record_name(text: &str) -> Option<&str> {
    let end = text.find(".md")? + ".md".len();
    let name = text.get(..end)?;
    number(name)?;
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.').then_some(name)
}

/// The number that a record's name begins with.
fn number(name: &str) -> Option<usize> {
    let (digits, rest) = name.split_at_checked(4)?;
    digits.parse().ok().filter(|_| rest.starts_with('-'))
}

fn numbers(tree: &Tree) -> Vec<Finding> {
    let names = tree.paths().filter_map(|path| Some((path, path.strip_prefix(RECORDS)?)));
    let mut next = 1;
    let mut findings = Vec::new();
    for (path, name) in names.filter(|(_, name)| !name.contains('/') && *name != "README.md") {
        let found = number(name);
        if found == Some(next) {
            next += 1;
        } else {
            let wrong = format!("the record is not number {next:04}");
            findings.push(Finding::new(path, 1, wrong, "number the records without gap or twin"));
            next = found.map_or(next, |n| n + 1);
        }
    }
    findings
}

const RECORDS: &str = "docs/adr/";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_link(from: &str, target: &str, alive: bool) {
        let text = format!("# Page\nsee [it]({target}) there\n");
        let tree = Tree::made_up(&[
            ("docs/a.md", "x"),
            ("README.md", "x"),
            ("src/b.rs", "x"),
            (from, &text),
        ]);
        let findings = check(&tree);
        assert_eq!(findings.is_empty(), alive, "{from}: {target}: {findings:?}");
    }

    #[test]
    fn a_relative_link_leads_to_a_file_or_a_directory() {
        check_link("docs/x.md", "a.md", true);
        check_link("docs/x.md", "./a.md#part", true);
        check_link("docs/x.md", "../src", true);
        check_link("docs/x.md", "/src/b.rs", true);
        check_link("docs/x.md", "#part", true);
        check_link("docs/x.md", "https://example.org/a", true);
        check_link("docs/x.md", "b.md", false);
        check_link("x.md", "a.md", false);
        check_link("x.md", "../README.md", false);
    }

    #[test]
    fn fenced_text_holds_no_links() {
        let tree = Tree::made_up(&[("a.md", "```\n[x](gone)\n```\n")]);
        assert_eq!(check(&tree), vec![]);
    }

    #[test]
    fn a_decision_record_that_is_named_is_there() {
        let there = format!("{RECORDS}0001-one.md");
        let code = |name: &str| ["//! See docs/ad", "r/", name, " for why.\n"].concat();
        for (name, want) in [("0001-one.md", 0), ("0002-two.md", 1), ("NNNN-title.md", 0)] {
            let text = code(name);
            let tree = Tree::made_up(&[(&there, "x"), ("src/a.rs", &text)]);
            assert_eq!(check(&tree).len(), want, "{name}");
        }
    }

    #[test]
    fn the_records_are_numbered_without_gap_or_twin() {
        for (names, want) in [
            (["0001-a.md", "0002-b.md"], 0),
            (["0001-a.md", "0003-b.md"], 1),
            (["0001-a.md", "0001-b.md"], 1),
            (["0001-a.md", "b.md"], 1),
        ] {
            let paths = names.map(|name| format!("{RECORDS}{name}"));
            let files: Vec<_> = paths.iter().map(|path| (path.as_str(), "x")).collect();
            assert_eq!(check(&Tree::made_up(&files)).len(), want, "{names:?}");
        }
    }
}
