//! Who sent a message: what the world's mailboxes decide by.
//!
//! A façade over the library `mail-auth`, of which no type is seen outside, behind questions to the
//! DNS that somebody else asks ([`dns`]). A check is made with what is known, and again when more
//! is known, until nothing is missing. Beside it stands what domains demand of TLS ([`sts`]).

// Zones of test suites serve the tests here and those of `tests/vectors`.
#[cfg(test)]
extern crate self as merpati_auth;

mod arc;
mod authors;
mod body;
mod check;
mod dkim;
pub mod dmarc;
pub mod dns;
pub mod iprev;
mod key;
mod message;
mod names;
pub mod results;
mod seal;
mod sign;
pub mod spf;
pub mod sts;
mod tags;
pub mod tlsrpt;

pub use arc::{ArcFinding, ArcResult, SETS_MAX};
pub use authors::authors;
pub use body::{BodyHash, BodyHasher, BodyHashes, Canonical};
pub use check::{Facts, Findings, check};
pub use dkim::{DkimFinding, DkimResult, SIGNATURES_MAX};
pub use key::check_key_record;
pub use message::Message;
pub use seal::{Sealing, sealed_names};
pub use sign::{KeyError, KeyKind, PrivateKey, Signer};
