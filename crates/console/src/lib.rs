//! The operator's verbs, and the HTTP API over them.
//!
//! Invariant: nothing else reaches into the relay. The command line speaks to [`router`] over a
//! Unix socket, programs and the later web console over TCP; what they see is what [`Admin`]
//! offers, and the JSON types are of this crate alone. No socket is opened here: the relay serves
//! the router.
//!
//! In the order of a request: who may ask ([`Guard`]), what is selected ([`query`], [`selection`]),
//! what the relay can do ([`admin`], with the nouns of [`queue`], [`spool`], [`explain`],
//! [`trace`], [`health`] and [`sessions`]), what a person should do about it ([`advice`]), and how
//! a refusal reads ([`problem`]).

pub mod admin;
pub mod advice;
pub mod explain;
pub mod explain_tls;
mod exposition;
mod guard;
pub mod health;
mod json;
pub mod near;
pub mod problem;
pub mod quantity;
pub mod query;
pub mod queue;
mod routes;
pub mod selection;
pub mod sessions;
pub mod spool;
pub mod trace;

pub use admin::{Admin, AdminError, Captured, Listing, NotReady, Page, Status, Summary};
pub use guard::Guard;
pub use query::Query;
pub use routes::{TIMEOUT_MAX, router};
pub use selection::Selection;
