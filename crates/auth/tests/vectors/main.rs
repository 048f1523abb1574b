//! Suites that others wrote, where the folder with them is.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm
)]

mod arc;
mod dkim;
mod dmarc;
mod spf;
mod zones;
