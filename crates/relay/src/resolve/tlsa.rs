//! What the DNS says of the certificate of a host (TLSA, RFC 6698).
//!
//! Invariant: trouble is never taken for a no. Not pure: asks name servers.

use super::{
    Resolver,
    lookup::{Found, Unknown},
};

/// A record that says which certificate a host shows (RFC 6698 §2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsaRecord {
    /// Whose certificate is meant: 3 that of the host, 2 one that it leads to.
    pub usage: u8,
    /// What of it: 0 all, 1 its public key.
    pub selector: u8,
    /// How it stands here: 0 as it is, 1 as SHA-256, 2 as SHA-512.
    pub matching: u8,
    /// That.
    pub data: Vec<u8>,
}

/// What is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsaAnswer {
    /// Nothing.
    None,
    /// These; never empty.
    Records(Vec<TlsaRecord>),
    /// It could not be found out.
    Unknown,
}

impl Resolver {
    /// The records at a name such as `_25._tcp.mx.example`. It takes as long as the name servers
    /// may; the caller has a deadline of his own.
    pub async fn tlsa(&self, name: &str) -> TlsaAnswer {
        match self.0.dns.tlsa(name).await {
            Ok(Found::NoName | Found::Nothing) => TlsaAnswer::None,
            Ok(Found::Records { data, .. }) => TlsaAnswer::Records(data),
            Err(Unknown { .. }) => TlsaAnswer::Unknown,
        }
    }
}
