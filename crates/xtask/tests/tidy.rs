//! The rules of the house, held against the house itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fmt::Write;

use merpati_xtask::{house, reference};

#[test]
fn the_house_is_tidy() {
    let findings = house::findings(&house::root(), &reference::pages()).unwrap();
    let told = findings.iter().fold(String::new(), |mut told, finding| {
        writeln!(told, "{finding}").unwrap();
        told
    });
    assert!(findings.is_empty(), "{} findings\n{told}", findings.len());
}
