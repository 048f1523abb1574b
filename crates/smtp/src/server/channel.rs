//! What TLS below a session tells about its other end.
//!
//! Invariant: known only from a handshake that is complete. Pure.

use merpati_mail::TlsFacts;

/// A TLS session as an SMTP session sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// What was negotiated.
    pub facts: TlsFacts,
    /// The value of `tls-exporter` (RFC 9266), which is the same at both ends of this session and
    /// at no other; `None` where TLS cannot give it, or where nobody would want it.
    pub binding: Option<[u8; Self::BINDING_OCTETS]>,
    /// The mail addresses and DNS names in the certificate of the client, which was found good;
    /// `None` where it showed none.
    pub names: Option<Vec<String>>,
}

impl Channel {
    /// Octets of a channel binding (RFC 9266 §2).
    pub const BINDING_OCTETS: usize = 32;

    /// Whether an exchange can be bound to it.
    pub(super) const fn is_bindable(&self) -> bool {
        self.binding.is_some()
    }
}

impl From<TlsFacts> for Channel {
    /// A session to which nothing can be bound, with a client without certificate.
    fn from(facts: TlsFacts) -> Self {
        Self { facts, binding: None, names: None }
    }
}
