//! A simulated internet: relays, peers, submitters and DNS in one thread with a seed.
//!
//! The relays are the real machines (`smtp`, `flow`, `spool::Memory`); only the shell around them
//! is another one: bytes travel through [`World`]'s links, time is a number, and crashes, cuts and
//! lying disks come from the seed. [`ledger`] checks at every step what must always hold.
//!
//! Invariant: the same seed gives the same run, octet for octet. Pure.

mod conn;
pub mod ledger;
mod mails;
mod mark;
mod mutant;
mod node;
mod outbound;
mod peer;
mod plan;
mod world;

pub use mark::Mark;
pub use mutant::Mutant;
pub use world::{Run, World};
