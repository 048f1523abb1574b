//! Where a delivery goes, and why it waits.
//!
//! Invariant: routing fails closed; what no rule covers has no route and waits. Pure.

use std::{fmt, net::SocketAddr, sync::Arc};

use crate::{Domain, Reply, Time};

/// What the rules say about a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The name of the rule that decided.
    pub rule: Arc<str>,
    /// Where the delivery goes.
    pub next_hop: NextHop,
}

/// Where a delivery goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextHop {
    /// To these hosts, the first one first.
    Hosts(Vec<HostPort>),
    /// To this LMTP server (RFC 2033).
    Lmtp(Endpoint),
    /// To the hosts that DNS names for the recipient's domain (RFC 5321 §5.1).
    Mx,
    /// Nowhere: it fails with this reason.
    Refuse(Refusal),
}

/// Why a route refuses, as the DSN will say it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The sentence for the originator.
    pub text: String,
}

impl Refusal {
    /// The refusal as a reply of ours.
    pub fn reply(&self) -> Reply {
        Reply::with_text(550, (5, 7, 1), self.text.clone())
    }
}

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Name or address.
    pub host: Domain,
    /// Port, 1 to 65,535.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// On a port of a host.
    Tcp(HostPort),
    /// On a Unix socket with this path, on this machine.
    Unix(String),
}

impl Endpoint {
    /// The host; `localhost` for a socket on this machine.
    pub fn host(&self) -> Domain {
        match self {
            Self::Tcp(host) => host.host.clone(),
            Self::Unix(_) => Domain::localhost(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => host.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// What a connection led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// This address and port.
    Ip(SocketAddr),
    /// The Unix socket with this path.
    Unix(String),
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl From<SocketAddr> for Remote {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

/// The pair that has a reputation, limits and a history: from which of our addresses to which host,
/// and how private.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressPath {
    /// The name of our egress source.
    pub source: String,
    /// The host as the route or the MX record names it; `localhost` for a Unix socket.
    pub host: Domain,
    /// What was connected to.
    pub address: Remote,
}

/// Why something waits although it could go: the name of the limit, its value, where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The name of the limit, such as `operator` or `connections-per-host`.
    pub limit: String,
    /// Its value in words, such as `20` or `held by postmaster`.
    pub value: String,
    /// Where it was set, such as `configuration` or `control socket`.
    pub source: String,
    /// When it ends by itself; `None` until somebody ends it.
    pub until: Option<Time>,
}
