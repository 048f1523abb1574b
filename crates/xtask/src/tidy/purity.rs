//! Decides which crates a pure crate may not have below it (design.md §2, never (1)).
//!
//! Tests of a pure crate may use them. Pure.

use serde_json::Value;

use super::{PURE, declared};
use crate::finding::Finding;
use crate::tree::{Tree, line_of};

/// Findings for every IO crate in a manifest of a pure crate.
pub fn check(tree: &Tree, metadata: &Value) -> Vec<Finding> {
    declared(metadata)
        .iter()
        .filter(|d| !d.is_dev && PURE.contains(&d.from.as_str()) && is_io(&d.to))
        .filter(|d| !COMPUTES_ONLY.contains(&(d.from.as_str(), d.to.as_str())))
        .map(|d| {
            let path = format!("crates/{}/Cargo.toml", d.from);
            let line = tree.text(&path).map_or(1, |text| line_of(text, &d.to));
            let wrong = format!("the pure crate {} depends on {}", d.from, d.to);
            Finding::new(&path, line, wrong, "make it an argument, and do the IO in crate relay")
        })
        .collect()
}

fn is_io(name: &str) -> bool {
    IO.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Pairs of a pure crate and one that is on the lists below, of which it uses only what computes.
/// What it must not use is banned in its `clippy.toml`; the reason is in an ADR.
const COMPUTES_ONLY: [(&str, &str); 1] = [
    // ADR 0014: HMAC, SHA-256 and PBKDF2 of SCRAM, and never the random generator.
    ("smtp", "aws-lc-rs"),
];

/// Crates that act, tell the time, draw or log.
const IO: [&str; 38] = [
    "annotate-snippets",
    "arc-swap",
    "async-std",
    "chrono",
    "clap",
    "crossbeam",
    "dirs",
    "fastrand",
    "fs-err",
    "getrandom",
    "jiff",
    "libc",
    "log",
    "mail-auth",
    "memmap2",
    "mio",
    "nix",
    "openssl",
    "parking_lot",
    "polling",
    "postgres",
    "prometheus-client",
    "quinn",
    "rayon",
    "rcgen",
    "redb",
    "reqwest",
    "ring",
    "rusqlite",
    "serde",
    "serde_json",
    "signal-hook",
    "smol",
    "socket2",
    "tempfile",
    "time",
    "toml",
    "uuid",
];

/// Beginnings of the names of whole families of such crates.
const FAMILIES: [&str; 18] = [
    "async-",
    "aws-lc",
    "axum",
    "fjall",
    "futures",
    "hickory",
    "http",
    "hyper",
    "native-tls",
    "rand",
    "rocksdb",
    "rustix",
    "rustls",
    "sqlx",
    "tokio",
    "tower",
    "tracing",
    "webpki",
];

#[cfg(test)]
mod tests {
    use super::super::tests::metadata;
    use super::*;

    #[test]
    fn a_pure_crate_has_no_io_crate_outside_of_its_tests() {
        for (from, to, kind, clean) in [
            ("merpati-mail", "memchr", None, true),
            ("merpati-mail", "tokio", None, false),
            ("merpati-smtp", "tokio-rustls", None, false),
            ("merpati-smtp", "aws-lc-rs", None, true),
            ("merpati-smtp", "aws-lc-sys", None, false),
            ("merpati-flow", "aws-lc-rs", None, false),
            ("merpati-sim", "rand_chacha", None, false),
            ("merpati-flow", "rusqlite", Some("build"), false),
            ("merpati-flow", "serde", None, false),
            ("merpati-flow", "tempfile", Some("dev"), true),
            ("merpati-relay", "tokio", None, true),
        ] {
            let findings = check(&Tree::default(), &metadata(&[(from, to, kind)]));
            assert_eq!(findings.is_empty(), clean, "{from} -> {to}: {findings:?}");
        }
    }
}
