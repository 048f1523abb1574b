//! The chores of the house that Cargo cannot do: tidy, and the generated reference.
//!
//! Invariant: a rule of [`tidy`] reads a [`tree::Tree`] in memory and returns findings; only
//! [`tree`] and [`house`] touch the disk or run a program. Not pure, and part of no release.

/// One thing that is wrong, and what to do about it.
pub mod finding;
/// The repository as a whole: where it is, what Cargo says of it, what tidy says of it.
pub mod house;
/// The pages of `docs/reference` that programs write.
pub mod reference;
/// The rules, one module each.
pub mod tidy;
/// The files of the repository, read once.
pub mod tree;
