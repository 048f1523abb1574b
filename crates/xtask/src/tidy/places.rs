//! Decides whether a file names the machine that it was made on: its directories, or the host
//! from which it fetches packages.
//!
//! The patterns are put together here, so that this file does not find itself. Pure.

use crate::finding::Finding;
use crate::tree::{Tree, numbered};

/// Findings for every line of every text file that names such a place.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let directories = DIRECTORIES.map(|name| format!("/{name}/"));
    let hosts = HOSTS.map(|parts| parts.join("."));
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        // Most files hold none: one look at the whole before a look at each line.
        for directory in directories.iter().filter(|d| text.contains(d.as_str())) {
            let lines = numbered(text).filter(|(_, line)| is_absolute(line, directory));
            findings.extend(lines.map(|(line, _)| {
                let wrong = format!("`{directory}` is a path of one machine");
                Finding::new(path, line, wrong, "use a relative path or an environment variable")
            }));
        }
        for host in hosts.iter().filter(|host| text.contains(host.as_str())) {
            let lines = numbered(text).filter(|(_, line)| line.contains(host.as_str()));
            findings.extend(lines.map(|(line, _)| {
                let wrong = format!("`{host}` is the host of a package registry");
                Finding::new(path, line, wrong, "name the package, not where it comes from")
            }));
        }
    }
    findings
}

/// Whether `directory` begins a path somewhere in `line`, and is not inside of a longer one.
fn is_absolute(line: &str, directory: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "._-~*}".contains(c);
    line.match_indices(directory)
        .any(|(at, _)| !line.get(..at).and_then(|l| l.chars().next_back()).is_some_and(inside))
}

const DIRECTORIES: [&str; 3] = ["work", "root", "home"];

const HOSTS: [&[&str]; 8] = [
    &["index", "crates", "io"],
    &["static", "crates", "io"],
    &["registry", "npmjs", "org"],
    &["registry", "yarnpkg", "com"],
    &["pypi", "org"],
    &["files", "pythonhosted", "org"],
    &["proxy", "golang", "org"],
    &["deb", "debian", "org"],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_places(line: &str, want: usize) {
        let findings = check(&Tree::made_up(&[("a.sh", line)]));
        assert_eq!(findings.len(), want, "{line}: {findings:?}");
    }

    #[test]
    fn no_file_names_a_directory_of_one_machine() {
        check_places(&["cd /wo", "rk/main"].concat(), 1);
        check_places(&["HOME=\"/ro", "ot/x\""].concat(), 1);
        check_places(&["file:///ho", "me/x"].concat(), 1);
        check_places(&["https://example.org/ho", "me/x"].concat(), 0);
        check_places(&["./wo", "rk/x and $HOME/x"].concat(), 0);
        check_places(&["the /wo", "rk directory"].concat(), 0);
    }

    #[test]
    fn no_file_names_the_host_of_a_registry() {
        check_places(&["https://py", "pi.org/simple"].concat(), 1);
        check_places("registry+https://github.com/rust-lang/crates.io-index", 0);
    }
}
