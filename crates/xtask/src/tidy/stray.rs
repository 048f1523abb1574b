//! Decides whether a file is there by accident: left by an editor or a merge, or empty.
//!
//! Pure.

use crate::finding::Finding;
use crate::tree::Tree;

/// A finding for each such file.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let left = tree
        .paths()
        .filter(|path| LEFT.iter().any(|end| path.ends_with(end)))
        .map(|path| Finding::new(path, 1, "left by an editor, a merge or a desktop", "remove it"));
    let empty = tree
        .texts()
        .filter(|(_, text)| text.trim().is_empty())
        .map(|(path, _)| Finding::new(path, 1, "the file is empty", "fill it or remove it"));
    left.chain(empty).collect()
}

const LEFT: [&str; 9] =
    [".orig", ".rej", ".bak", ".swp", ".tmp", "~", ".DS_Store", "Thumbs.db", ".profraw"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_there_by_accident() {
        for (path, text, want) in [
            ("src/a.rs", "x", 0),
            ("src/a.rs.orig", "x", 1),
            ("src/a.rs~", "x", 1),
            ("docs/.DS_Store", "x", 1),
            ("src/a.rs", "\n\n", 1),
        ] {
            assert_eq!(check(&Tree::made_up(&[(path, text)])).len(), want, "{path}");
        }
    }
}
