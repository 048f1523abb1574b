//! The nouns of mail: what every other crate of Merpati talks about.
//!
//! Invariant: nothing here decides, and nothing here touches a socket, a clock, a file or a random
//! generator. The crate is pure; the only libraries below it are `base64`, `memchr`, and `idna`
//! with the tables of Unicode (`icu_normalizer`, `icu_properties`) on which it stands itself.
//!
//! In the order of the flow: who ([`address`]), what ([`envelope`], [`header`]) and with which
//! wishes ([`request`]), what we answer ([`reply`], [`stage`]), what we ask the world
//! ([`question`]), where it goes ([`route`]), how protected ([`tls_policy`]) and in which form
//! ([`transfer`]), what came of it ([`outcome`]), how reports name it ([`xtext`]), and what is
//! written down ([`event`]).
//! Beside them, how names and passwords are compared ([`precis`]).

pub mod address;
mod draw;
pub mod envelope;
pub mod event;
pub mod header;
mod id;
mod id_map;
pub mod outcome;
pub mod precis;
pub mod question;
pub mod reply;
pub mod request;
pub mod route;
pub mod stage;
mod time;
pub mod tls_policy;
pub mod transfer;
pub mod xtext;

pub use address::{AddressError, Domain, ForwardPath, Mailbox, ReversePath};
pub use draw::Draw;
pub use envelope::{BodyType, Envelope, Origin, Peer, Protocol, Recipient, TlsFacts};
pub use event::{Durability, Event, Record};
pub use header::Overlay;
pub use id::{DeliveryId, IdError, Lsn, NodeId, QueueId};
pub use id_map::IdMap;
pub use outcome::{Attempt, Cause, Class, Outcome, Scope};
pub use question::{Answer, Question};
pub use reply::{EnhancedCode, Reply};
pub use request::{ByMode, DeliverBy, Priority, Requests, TlsRequest};
pub use route::{EgressPath, Hold, NextHop, Route};
pub use stage::{Stage, Verdict};
pub use time::{Civil, Time};
pub use tls_policy::{TlsDemand, TlsPolicy, TlsSource};
pub use transfer::{NotConvertible, seven_bit};
