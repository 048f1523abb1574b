//! What survives a crash: the journal, on disk or in memory.
//!
//! Invariant: this crate is the only durable encoding of events, and it understands of an event
//! only [`Event::keeping`](merpati_mail::Event::keeping). The bytes are in `docs/format.md`.
//!
//! In the order of the flow: the seam ([`Spool`], [`Group`]), the journal on disk ([`Disk`]) and
//! in memory ([`Memory`]), what other threads use ([`Handle`], [`LargeBody`]), what a restart finds
//! ([`Recovery`]), how events are written ([`codec`]), and the files below it all ([`io`],
//! [`fault`]).

mod ahead;
pub mod codec;
mod codec_mail;
mod disk;
mod draft;
mod error;
pub mod fault;
mod format;
mod handle;
mod index;
pub mod io;
mod large;
mod memory;
mod open;
mod recover;
mod scan;
mod slots;
mod spool;
mod upkeep;
mod wire;

pub use disk::{Disk, Options};
pub use error::SpoolError;
pub use format::FORMAT_VERSION;
pub use handle::Handle;
pub use large::{BodyFile, LARGE_BODY_BYTES, LargeBody};
pub use memory::{Memory, MemoryOptions};
pub use recover::{Damage, Recovery};
pub use spool::{Body, Entry, Group, Level, Pressure, Spool, Stored, StoredBody};
pub use wire::CodecError;
