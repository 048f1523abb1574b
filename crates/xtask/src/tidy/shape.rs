//! Decides whether a Rust file is short enough to be read: 800 lines without its tests, and
//! 100 columns.
//!
//! Pure.

use super::is_test;
use crate::finding::Finding;
use crate::tree::{Tree, numbered};

/// Findings for every Rust file that is too long, and for the first line in it that is.
pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.ending(".rs")
        .flat_map(|(path, text)| [long(path, text), wide(path, text)])
        .flatten()
        .collect()
}

fn long(path: &str, text: &str) -> Option<Finding> {
    let lines = if is_test(path) { 0 } else { lines_without_tests(text) };
    (lines > LINES_MAX).then(|| {
        let wrong = format!("{lines} lines without its tests, above {LINES_MAX}");
        Finding::new(path, LINES_MAX + 1, wrong, "split it where the decision splits")
    })
}

fn wide(path: &str, text: &str) -> Option<Finding> {
    let (line, columns) = numbered(text)
        // An address cannot be broken.
        .filter(|(_, line)| !line.contains("http"))
        .map(|(at, line)| (at, line.chars().count()))
        .find(|(_, columns)| *columns > COLUMNS_MAX)?;
    let wrong = format!("{columns} columns, above {COLUMNS_MAX}");
    Some(Finding::new(path, line, wrong, "break the line"))
}

/// Lines before the module of tests at the end of the file, if it has one.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| match pair {
        [cfg, module] => *cfg == "#[cfg(test)]" && module.starts_with("mod tests"),
        _ => false,
    });
    tests.unwrap_or(lines.len())
}

const LINES_MAX: usize = 800;
const COLUMNS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_shape(text: &str, want: &[usize]) {
        let tree = Tree::made_up(&[("src/a.rs", text), ("a.md", text)]);
        let lines: Vec<_> = check(&tree).into_iter().map(|finding| finding.line).collect();
        assert_eq!(lines, want);
    }

    #[test]
    fn a_file_has_at_most_800_lines_before_its_tests() {
        check_shape(&"x\n".repeat(800), &[]);
        check_shape(&"x\n".repeat(801), &[801]);
        let tail = "#[cfg(test)]\nmod tests {\n".to_owned() + &"x\n".repeat(500);
        check_shape(&("x\n".repeat(800) + &tail), &[]);
        check_shape(&("x\n".repeat(801) + &tail), &[801]);
    }

    #[test]
    fn a_file_of_tests_alone_may_be_longer() {
        let text = "x\n".repeat(801);
        let tree = Tree::made_up(&[("crates/smtp/tests/server.rs", &text)]);
        assert_eq!(check(&tree), vec![]);
    }

    #[test]
    fn a_line_has_at_most_100_characters_unless_it_holds_an_address() {
        check_shape(&"é".repeat(100), &[]);
        check_shape(&format!("x\n{}", "é".repeat(101)), &[2]);
        check_shape(&format!("// https://example.org/{}", "x".repeat(100)), &[]);
    }
}
