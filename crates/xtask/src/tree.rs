//! Decides which files belong to the repository, and reads each of them once.
//!
//! Invariant: paths are relative to the root and use `/`; what `.gitignore` names is not here.
//! Reads the disk and asks `git`; everything behind it is pure.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// The files of the repository, by path.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, File>,
}

/// One file of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
enum File {
    /// UTF-8 without NUL octets.
    Text(String),
    /// Everything else: corpora, pictures, keys.
    Binary,
}

impl Tree {
    /// Reads what `git` tracks below `root`, and what it would track after `git add --all`.
    ///
    /// Without `git` or outside of a work tree, the directory is walked instead.
    pub fn read(root: &Path) -> Result<Self> {
        let paths = match tracked(root) {
            Some(paths) => paths,
            None => walked(root)?,
        };
        let mut tree = Self::default();
        for path in paths {
            // Deleted but still in the index, or a link to nowhere: not a file of today's tree.
            let full = root.join(&path);
            if full.is_file() {
                let octets = std::fs::read(&full).with_context(|| path.clone())?;
                tree.files.insert(path, File::of(octets));
            }
        }
        Ok(tree)
    }

    /// A tree from pairs of path and text: for the tests of the rules.
    pub fn made_up(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), File::Text((*text).to_owned())))
            .collect();
        Self { files }
    }

    /// All paths, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// All text files as pairs of path and text, in the order of their paths.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, file)| Some((path.as_str(), file.text()?)))
    }

    /// The text files whose path ends in `suffix`.
    pub fn ending<'a>(&'a self, suffix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.texts().filter(move |(path, _)| path.ends_with(suffix))
    }

    /// The text of the file at `path`; `None` if it is not there or is binary.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.text()
    }

    /// Whether `path` is a file of the tree, or a directory that holds one.
    pub fn has(&self, path: &str) -> bool {
        let inside = format!("{}/", path.trim_end_matches('/'));
        path.is_empty()
            || self.files.contains_key(path)
            || self.files.keys().any(|p| p.starts_with(&inside))
    }
}

impl File {
    fn of(octets: Vec<u8>) -> Self {
        match String::from_utf8(octets) {
            Ok(text) if !text.contains('\0') => Self::Text(text),
            Ok(_) | Err(_) => Self::Binary,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary => None,
        }
    }
}

/// The line of `text` (from 1) in which `needle` first stands; 1 if it stands nowhere.
pub fn line_of(text: &str, needle: &str) -> usize {
    text.lines().position(|line| line.contains(needle)).map_or(1, |at| at + 1)
}

/// Pairs of line number (from 1) and line.
pub fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line))
}

/// Whether `word` stands in `text` with no letter, digit or underscore on either side.
pub fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|t| t.chars().next());
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

fn tracked(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .ok()?;
    let listed = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

fn walked(root: &Path) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if UNTRACKED.iter().any(|skip| name == *skip) {
                continue;
            }
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                open.push(path);
            } else if let Ok(inside) = path.strip_prefix(root) {
                paths.push(inside.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    Ok(paths)
}

/// Directories that a walk without `git` leaves out; `.gitignore` names them too.
const UNTRACKED: [&str; 6] = [".git", "target", "var", "artifacts", "node_modules", "__pycache__"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_there_if_a_file_is_in_it() {
        let tree = Tree::made_up(&[("docs/a/b.md", "x")]);
        for (path, want) in
            [("docs/a/b.md", true), ("docs/a", true), ("docs/", true), ("doc", false)]
        {
            assert_eq!(tree.has(path), want, "{path}");
        }
    }

    #[test]
    fn a_word_is_bounded_on_both_sides() {
        for (text, want) in [
            ("Event::Held =>", true),
            ("Event::HeldBack", false),
            ("UpHeld", false),
            ("Held", true),
            ("Held_", false),
        ] {
            assert_eq!(has_word(text, "Held"), want, "{text}");
        }
    }

    #[test]
    fn octets_with_nul_or_without_utf8_are_not_text() {
        assert_eq!(File::of(b"a\0b".to_vec()), File::Binary);
        assert_eq!(File::of(vec![0xff, 0xfe]), File::Binary);
        assert_eq!(File::of(b"ab".to_vec()), File::Text("ab".to_owned()));
    }

    #[test]
    fn this_file_is_found_with_git_and_without() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let walk = walked(root).unwrap();
        assert!(walk.iter().any(|path| path == "src/tree.rs"));
        let tree = Tree::read(root).unwrap();
        assert!(tree.has("src/tree.rs"));
    }
}
