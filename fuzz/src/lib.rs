//! Properties of the crates that must hold for any octets.
//!
//! Invariant: a target is a pure function of its octets; it returns where the properties hold and
//! panics where one does not. Where octets have a first line, it is the *plan*: letters and digits
//! that choose options and answers; the rest is what a stranger sends.

mod content;
mod dsn;
mod event_codec;
mod introduction;
mod journal;
mod mail;
pub mod mutate;
mod plan;
mod provenance;
mod samples;
mod smtp_client;
mod smtp_server;
mod sts;

pub use self::content::content;
pub use self::dsn::dsn;
pub use self::event_codec::event_codec;
pub use self::introduction::{proxy, xclient};
pub use self::journal::journal;
pub use self::mail::{address, header, reply, transfer};
pub use self::provenance::provenance;
pub use self::smtp_client::client_session;
pub use self::smtp_server::{server_session, stuffing};
pub use self::sts::sts;

/// A property with its name, which is also that of its directory in `corpus`.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Panics where the octets break the property.
    pub run: fn(&[u8]),
}

/// All targets, in alphabetical order.
pub const TARGETS: [Target; 15] = [
    Target { name: "address", run: address },
    Target { name: "client_session", run: client_session },
    Target { name: "content", run: content },
    Target { name: "dsn", run: dsn },
    Target { name: "event_codec", run: event_codec },
    Target { name: "header", run: header },
    Target { name: "journal", run: journal },
    Target { name: "provenance", run: provenance },
    Target { name: "proxy", run: proxy },
    Target { name: "reply", run: reply },
    Target { name: "server_session", run: server_session },
    Target { name: "sts", run: sts },
    Target { name: "stuffing", run: stuffing },
    Target { name: "transfer", run: transfer },
    Target { name: "xclient", run: xclient },
];
