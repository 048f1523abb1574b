//! Who is connected just now, and what is said: what `sessions` and `tap` show.
//!
//! Pure.

use std::{net::SocketAddr, time::Duration};

use merpati_mail::{QueueId, Time};

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A client, to us.
    In,
    /// We, to a host.
    Out,
}

impl Direction {
    /// The word by which the API knows it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// A session that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// Its number, never used twice by one process.
    pub number: u64,
    /// Who opened it.
    pub direction: Direction,
    /// The listener of a client, the route to a host.
    pub name: String,
    /// The other end; `None` where that is no address, or is not known yet.
    pub peer: Option<SocketAddr>,
    /// What a client calls itself, the name of a host; empty where that is not known.
    pub host: String,
    /// Which credential a client has shown; `None` where it has shown none.
    pub credential: Option<String>,
    /// The message that is handed over; `None` where none is, or it has no name yet.
    pub message: Option<QueueId>,
    /// How long it has been open.
    pub lasted: Duration,
    /// What it does, in words.
    pub doing: String,
    /// For how long.
    pub doing_for: Duration,
    /// Messages that were handed over in it.
    pub messages: u64,
}

/// A line that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapLine {
    /// When.
    pub at: Time,
    /// The number of the session.
    pub session: u64,
    /// Who opened it.
    pub direction: Direction,
    /// The listener of a client, the route to a host.
    pub name: String,
    /// The other end; `None` where that is no address.
    pub peer: Option<SocketAddr>,
    /// What a client calls itself, the name of a host.
    pub host: String,
    /// Whether the client of the session said it, or the server.
    pub from_client: bool,
    /// What, without its end; secrets are hidden, content is left out.
    pub line: String,
}
