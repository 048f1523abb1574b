//! Joins the rules with the real repository: reads it, asks Cargo, writes generated pages.
//!
//! The only module besides [`crate::tree`] that touches the disk or runs a program.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::finding::Finding;
use crate::reference::Page;
use crate::tidy;
use crate::tree::Tree;

/// The root of the repository that this crate was built in.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Everything that is untidy below `root`, in the order of the files.
pub fn findings(root: &Path, pages: &[Page]) -> Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    let metadata = metadata(root)?;
    Ok(tidy::check(&tree, &metadata, pages))
}

/// Writes `pages` below `root` where they differ from what is there, and names those written.
pub fn write(root: &Path, pages: &[Page]) -> Result<Vec<&'static str>> {
    let mut written = Vec::new();
    for page in pages {
        let path = root.join(page.path);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == page.text) {
            continue;
        }
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(&path, &page.text).with_context(|| page.path)?;
        written.push(page.path);
    }
    Ok(written)
}

/// What `cargo metadata` says of our own packages; off line first, since it needs no registry.
fn metadata(root: &Path) -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut complaint = String::new();
    for more in [&["--offline"][..], &[]] {
        let output = Command::new(&cargo)
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .args(more)
            .current_dir(root)
            .output()
            .context("cargo metadata")?;
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).context("cargo metadata");
        }
        complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    }
    bail!("cargo metadata: {complaint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(root().join("rust-toolchain.toml").is_file());
    }

    #[test]
    fn a_page_is_written_once_and_then_left_alone() {
        let root = std::env::temp_dir().join(format!("merpati-xtask-{}", std::process::id()));
        let pages = [Page { path: "docs/reference/a.md", text: "# A\n".to_owned() }];
        let first = write(&root, &pages).unwrap();
        let second = write(&root, &pages).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!((first, second), (vec!["docs/reference/a.md"], vec![]));
    }
}
