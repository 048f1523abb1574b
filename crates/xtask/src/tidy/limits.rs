//! Decides whether each pure crate repeats the limits of clippy and bans clocks, threads and IO.
//!
//! Clippy reads only the nearest `clippy.toml` and merges nothing: a pure crate that forgets a
//! shared limit loses it without a word. Pure.

use toml::{Table, Value};

use super::PURE;
use crate::finding::Finding;
use crate::tree::{Tree, line_of};

/// Findings for each pure crate in the tree whose `clippy.toml` lacks a limit or a ban.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let shared = tree.text("clippy.toml").map(toml::from_str::<Table>);
    let Some(Ok(shared)) = shared else {
        // A tree without Rust has no limits to share.
        let wanted = tree.has("crates").then(|| {
            Finding::new("clippy.toml", 1, "no readable clippy.toml", "write the shared limits")
        });
        return wanted.into_iter().collect();
    };
    let mut findings = Vec::new();
    for name in PURE.iter().filter(|name| tree.has(&format!("crates/{name}"))) {
        let path = format!("crates/{name}/clippy.toml");
        let text = tree.text(&path).unwrap_or_default();
        let own = toml::from_str::<Table>(text).unwrap_or_default();
        findings.extend(unequal(&path, text, &own, &shared));
        findings.extend(unbanned(&path, &own));
    }
    findings
}

fn unequal(path: &str, text: &str, own: &Table, shared: &Table) -> Vec<Finding> {
    let lacking =
        shared.iter().filter(|(key, value)| own.get(*key) != Some(value)).map(|(key, value)| {
            let wrong = format!("`{key}` is not `{value}` as in the root clippy.toml");
            Finding::new(path, line_of(text, key), wrong, "repeat it here exactly")
        });
    let only_here = own
        .keys()
        .filter(|key| !shared.contains_key(*key) && !BANS.iter().any(|(list, _)| list == key))
        .map(|key| {
            let wrong = format!("`{key}` is not in the root clippy.toml");
            Finding::new(path, line_of(text, key), wrong, "put it there too, or remove it")
        });
    lacking.chain(only_here).collect()
}

fn unbanned(path: &str, own: &Table) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (list, wanted) in BANS {
        let banned: Vec<&str> = own
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.get("path").and_then(Value::as_str))
            .collect();
        for want in wanted.iter().filter(|want| !banned.contains(want)) {
            let wrong = format!("`{want}` is not banned in `{list}`");
            findings.push(Finding::new(path, 1, wrong, "ban it, with the reason"));
        }
    }
    findings
}

/// What no pure crate may name, by list of `clippy.toml`.
const BANS: [(&str, &[&str]); 2] = [
    (
        "disallowed-methods",
        &[
            "std::time::Instant::now",
            "std::time::SystemTime::now",
            "std::thread::sleep",
            "std::thread::spawn",
            "std::env::var",
        ],
    ),
    (
        "disallowed-types",
        &[
            "std::collections::HashMap",
            "std::collections::HashSet",
            "std::fs::File",
            "std::net::TcpStream",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn with_bans(limits: &str) -> String {
        BANS.iter().fold(limits.to_owned(), |text, (list, paths)| {
            let entries: Vec<_> = paths
                .iter()
                .map(|path| format!("{{ path = \"{path}\", reason = \"r\" }}"))
                .collect();
            format!("{text}\n{list} = [{}]\n", entries.join(", "))
        })
    }

    #[track_caller]
    fn check_limits(own: Option<&str>, want: usize) {
        let mut files =
            vec![("clippy.toml", "a = 70\nb = true\n"), ("crates/mail/src/lib.rs", "x")];
        files.extend(own.map(|text| ("crates/mail/clippy.toml", text)));
        let findings = check(&Tree::made_up(&files));
        assert_eq!(findings.len(), want, "{findings:?}");
    }

    #[test]
    fn a_pure_crate_repeats_the_shared_limits_and_bans_the_world() {
        check_limits(Some(&with_bans("a = 70\nb = true")), 0);
        check_limits(Some(&with_bans("a = 71\nb = true")), 1);
        check_limits(Some(&with_bans("b = true")), 1);
        check_limits(Some(&with_bans("a = 70\nb = true\nc = 1")), 1);
        check_limits(Some("a = 70\nb = true"), 9);
        check_limits(None, 11);
    }

    #[test]
    fn without_shared_limits_there_is_a_finding() {
        assert_eq!(check(&Tree::made_up(&[("crates/mail/src/lib.rs", "x")])).len(), 1);
    }
}
