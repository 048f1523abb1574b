//! What survives a crash: the journal, on disk or in memory.
//!
//! Invariant: this crate is the only durable encoding of events, and it understands of an event
//! only [`Event::keeping`](merpati_mail::Event::keeping). The bytes are in `docs/format.md`.
//!
//! In the order of the flow: the seam ([`Spool`], [`Group`]), the journal on disk ([`Disk`]) and
//! in memory ([`Memory`]), what other threads use ([`Handle`], [`LargeBody`]), what a restart finds
//! ([`Unread`], [`Recovery`]), what is done without a relay ([`Inspection`], [`Intake`],
//! [`SpoolCopy`]), how events are written ([`codec`]), and the files below it all ([`io`],
//! [`fault`]).

mod ahead;
mod backup;
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
mod read_only;
mod recover;
mod replay;
mod scan;
mod slots;
mod spool;
mod upkeep;
mod verify;
mod wire;

pub use backup::{Content, Intake, SpoolCopy, Taken, make_durable};
pub use disk::{Disk, Options};
pub use error::SpoolError;
pub use format::{FORMAT_VERSION, FORMAT_VERSION_OLDEST};
pub use handle::Handle;
pub use large::{BodyFile, LARGE_BODY_BYTES, LargeBody};
pub use memory::{Memory, MemoryOptions};
pub use open::Unread;
pub use recover::{Damage, Recovery};
pub use spool::{Body, Entry, Group, Level, Pressure, Spool, Stored, StoredBody, Told};
pub use verify::{Contents, Inspection, Stats, Torn};
pub use wire::CodecError;
