//! Decides whether something was left half done: marks, ignored tests, tests that sleep.
//!
//! The marks are spelt in pieces here, so that this file does not find itself. Pure.

use super::is_test;
use crate::finding::Finding;
use crate::tree::{Tree, numbered};

/// Findings for every line of Rust that holds a mark.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let everywhere = everywhere();
    let in_tests = in_tests();
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".rs") {
        let tests: &[Mark] = if is_test(path) { &in_tests } else { &[] };
        for mark in everywhere.iter().chain(tests).filter(|mark| text.contains(&mark.text)) {
            let lines = numbered(text).filter(|(_, line)| line.contains(&mark.text));
            findings.extend(lines.map(|(line, _)| {
                Finding::new(path, line, format!("`{}`", mark.text), mark.remedy)
            }));
        }
    }
    findings
}

struct Mark {
    text: String,
    remedy: &'static str,
}

impl Mark {
    fn new(pieces: [&str; 2], remedy: &'static str) -> Self {
        Self { text: pieces.concat(), remedy }
    }
}

fn everywhere() -> [Mark; 7] {
    let unfinished = "do it now, or leave it out and say so in the issue";
    [
        Mark::new(["todo", "!("], unfinished),
        Mark::new(["unimplemented", "!("], unfinished),
        Mark::new(["FIX", "ME"], unfinished),
        Mark::new(["TO", "DO"], unfinished),
        Mark::new(["X", "XX"], unfinished),
        Mark::new(["#[ign", "ore"], "mend the test, or remove it"),
        Mark::new(["#[should_panic", "]"], "name the panic that is expected"),
    ]
}

fn in_tests() -> [Mark; 2] {
    let slow = "wait for the event itself, or pass the time as an argument";
    [Mark::new(["thread::sl", "eep"], slow), Mark::new(["time::sl", "eep("], slow)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_marks(path: &str, pieces: [&str; 2], want: usize) {
        let text = format!("fn a() {{}}\n{}\n", pieces.concat());
        let findings = check(&Tree::made_up(&[(path, &text)]));
        assert_eq!(findings.len(), want, "{path}: {text}");
        assert!(findings.iter().all(|finding| finding.line == 2));
    }

    #[test]
    fn nothing_is_left_half_done() {
        check_marks("src/a.rs", ["    todo", "!()"], 1);
        check_marks("src/a.rs", ["// TO", "DO: later"], 1);
        check_marks("src/a.rs", ["#[ign", "ore = \"slow\"]"], 1);
        check_marks("src/a.rs", ["#[should_panic", "(expected = \"x\")]"], 0);
        check_marks("notes.md", ["TO", "DO"], 0);
    }

    #[test]
    fn tests_do_not_sleep_but_loops_may() {
        check_marks("crates/relay/tests/a.rs", ["tokio::time::sl", "eep(d).await"], 1);
        check_marks("crates/relay/tests/a.rs", ["std::thread::sl", "eep(d)"], 1);
        check_marks("crates/relay/src/a.rs", ["std::thread::sl", "eep(d)"], 0);
    }
}
