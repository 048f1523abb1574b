//! Which options there are about certificates that the relay orders by itself.
//!
//! Each stands here with its meaning, unit and default. Pure.

use std::{path::PathBuf, time::Duration};

use merpati_mail::Mailbox;

use super::{
    Config,
    options::CertificateEntry,
    section::{Default, section},
    setting::{Setting, Wrong, choose, quoted},
};
use crate::{acme, certificates::Pair};

section! {
    /// Where the certificates come from that have `names` (`[[certificate]]`): a CA that speaks
    /// ACME (RFC 8555). The relay orders them at start, and renews them when the CA says so
    /// (RFC 9773), else after two thirds of their life. `docs/web.md` says more.
    Once "acme" Acme {
        /// The URL of the CA's directory, such as
        /// `https://acme-v02.api.letsencrypt.org/directory`. `off`: nothing is ordered.
        directory: Option<String> = Default::Value("off");
        /// Whether you agree to the terms of the CA, which its directory names. Nothing is ordered
        /// before you do.
        terms_agreed: bool = Default::Value("false");
        /// Whom the CA may write to. Many take no note of it.
        contact: Vec<Mailbox> = Default::Value("");
        /// A PEM file with the CAs whose certificate the directory itself may have. `off`: those
        /// that this machine trusts.
        ca_file: Option<PathBuf> = Default::Value("off");
        /// How the CA is shown that the names are yours: `http-01` answers at port 80
        /// (`https.http_listen`), `tls-alpn-01` at port 443 (`https.listen`), `dns-01` in the DNS,
        /// by `dns_hook`.
        challenge: ChallengeUse = Default::Value("http-01");
        /// The program that publishes and withdraws TXT records for `dns-01`, and its first
        /// arguments. Behind them come `add` or `remove`, the name of the record, and its text; it
        /// ends with 0 once all servers of the zone have it. No shell looks at them.
        dns_hook: Vec<String> = Default::Value("");
        /// How long the program may take.
        dns_hook_wait: Duration = Default::Value("5 min");
        /// The key id that the CA gave you for an account there (external account binding). `off`:
        /// it needs none.
        eab_key_id: Option<String> = Default::Value("off");
        /// The file with the key to this id, in base64url as the CA tells it.
        eab_key_file: Option<PathBuf> = Default::Value("off");
    }
}

/// How a CA is shown that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeUse {
    /// By a TXT record (RFC 8555 §8.4).
    Dns01,
    /// By a text over HTTP (RFC 8555 §8.3).
    Http01,
    /// By a certificate in a TLS handshake (RFC 8737).
    TlsAlpn01,
}

impl ChallengeUse {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Http01, Self::TlsAlpn01, Self::Dns01];

    /// The word of the configuration, and of the CA.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Dns01 => "dns-01",
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

impl Setting for ChallengeUse {
    const FORM: &'static str = "\"http-01\", \"tls-alpn-01\" or \"dns-01\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        choose(text, &Self::ALL.map(|challenge| (challenge.word(), challenge)))
    }

    fn show(&self) -> String {
        quoted(self.word())
    }
}

impl CertificateEntry {
    /// Whether the relay orders it.
    pub const fn is_ordered(&self) -> bool {
        self.chain.is_none()
    }
}

impl Config {
    /// The files of a certificate.
    pub fn files_of(&self, entry: &CertificateEntry) -> Pair {
        match (&entry.chain, &entry.key) {
            (Some(chain), Some(key)) => Pair { chain: chain.clone(), key: key.clone() },
            _ => acme::files::pair(&self.server.data_dir, entry.name.as_str()),
        }
    }

    /// The certificate that the relay orders for its own name; `None` where it orders none.
    pub fn ordered_for_host(&self) -> Option<&CertificateEntry> {
        let hostname = &self.server.hostname;
        let mut ordered = self.certificates.iter().filter(|entry| entry.is_ordered());
        ordered.find(|entry| entry.names.contains(hostname))
    }
}
