//! Which options there are about the listener for the web, and about the policies that it serves.
//!
//! Each stands here with its meaning, unit and default. Pure.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use merpati_mail::Domain;

use super::{
    section::{Default, section},
    setting::{Setting, Wrong, choose, quoted},
    values::Name,
};

section! {
    /// The listener for the web: policies of MTA-STS (`[[mta_sts]]`), and whether the relay lives
    /// and takes mail (`/healthz`, `/readyz`). It is for strangers, and nothing of the HTTP API is
    /// there. Without an address in one of its two lists there is none.
    Once "https" Https {
        /// The addresses on which it speaks TLS, such as `0.0.0.0:443` and `[::]:443`; port 0 takes
        /// a free one.
        listen: Vec<SocketAddr> = Default::Value("");
        /// The addresses on which it speaks without TLS: port 80, or one that a proxy of yours asks
        /// which speaks TLS itself.
        http_listen: Vec<SocketAddr> = Default::Value("");
        /// The PEM file with the certificate and those that lead to its root, for clients that name
        /// no host in a `[[certificate]]`. `off`: one that the relay signed itself, as for mail.
        tls_certificate: Option<PathBuf> = Default::Value("off");
        /// The PEM file with the private key of the certificate.
        tls_key: Option<PathBuf> = Default::Value("off");
        /// Open connections in all; one more is closed. When three quarters of them are taken, an
        /// address gets no more than a tenth of `connections_per_address_max`.
        connections_max: NonZeroU32 = Default::Value("1000");
        /// Open connections from one address, or one IPv6 /64; one more is closed. Where a proxy
        /// asks, all of them are from its address.
        connections_per_address_max: NonZeroU32 = Default::Value("100");
        /// How long a TLS handshake may take, and the head of a request, which has 8 KiB at most.
        /// A connection is open for a minute at most.
        request_wait: Duration = Default::Value("10 s");
    }
}

section! {
    /// A policy of MTA-STS (RFC 8461) for some of your domains, as often as needed: it tells who
    /// delivers to them that he is to insist on TLS and on certificates with the names of your
    /// hosts. `https` serves it; `merpati domain records` shows what is to be published.
    Named "mta_sts" StsEntry {
        /// Its name; each policy has its own.
        name: Name = Default::Required;
        /// The domains whose mail the policy is about. Each is asked for at the host
        /// `mta-sts.DOMAIN`, for which there must be a certificate.
        domains: Vec<Domain> = Default::Required;
        /// What others do where the policy is not kept: `testing` delivers all the same, and
        /// reports it to who asks for reports (TLSRPT, RFC 8460); `enforce` does not deliver;
        /// `none` is how a policy is withdrawn.
        mode: StsMode = Default::Value("testing");
        /// The hosts that take mail for the domains: names as they are in MX, and `*.example.org`
        /// for those with one label more. An empty list: `server.hostname`.
        mx: Vec<MxPattern> = Default::Value("");
        /// How long others remember the policy, 31557600 s (a year) at most. Whoever withdraws it
        /// sets `mode` to `none` and waits so long.
        max_age: Duration = Default::Value("7 d");
    }
}

/// What others do where a policy is not kept (RFC 8461 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StsMode {
    /// They do not deliver.
    Enforce,
    /// There is no policy any more.
    None,
    /// They deliver, and may report it.
    Testing,
}

impl StsMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Testing, Self::Enforce, Self::None];

    /// The word of the configuration, and of the policy (RFC 8461 §3.2).
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::None => "none",
            Self::Testing => "testing",
        }
    }
}

impl Setting for StsMode {
    const FORM: &'static str = "\"testing\", \"enforce\" or \"none\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        choose(text, &Self::ALL.map(|mode| (mode.word(), mode)))
    }

    fn show(&self) -> String {
        quoted(self.word())
    }
}

/// Hosts that take mail: one name, or all with one label more than a name (RFC 8461 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxPattern {
    name: Domain,
    is_wild: bool,
}

impl MxPattern {
    /// This host alone; `None` for an address.
    pub fn of(host: &Domain) -> Option<Self> {
        matches!(host, Domain::Name(_)).then(|| Self { name: host.clone(), is_wild: false })
    }
}

impl std::fmt::Display for MxPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.is_wild { "*." } else { "" }, self.name)
    }
}

impl Setting for MxPattern {
    const FORM: &'static str = "a host such as \"mx.example.org\" or \"*.example.org\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let name = text.strip_prefix("*.");
        let parsed = Domain::parse(name.unwrap_or(text)).ok();
        let host = parsed.as_ref().and_then(Self::of);
        host.map(|host| Self { is_wild: name.is_some(), ..host }).ok_or_else(|| {
            Wrong::new(format!("`{text}` is not a host")).help(format!("write {}", Self::FORM))
        })
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_a_star_before_one() {
        for text in ["mx.ours.example", "*.ours.example"] {
            assert_eq!(MxPattern::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "*", "*.", "mx.*.example", "**.ours.example", "[192.0.2.1]"] {
            assert!(MxPattern::parse(text).is_err(), "{text}");
        }
    }
}
