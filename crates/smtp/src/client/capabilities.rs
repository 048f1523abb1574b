//! What a peer offers in its reply to EHLO or LHLO (RFC 5321 §4.1.1.1).
//!
//! Invariant: what cannot be understood is not offered; nothing here is an error. Pure.

use std::collections::BTreeSet;

use merpati_mail::Reply;

/// What a peer offers. The default is what HELO brings: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    extensions: BTreeSet<Extension>,
    mechanisms: BTreeSet<Mechanism>,
    /// The largest message in octets (RFC 1870 §3); `None` where the peer names no limit.
    pub size_octets_max: Option<u64>,
    /// The shortest time in seconds that the peer takes for delivery or return (RFC 2852 §3); 0
    /// where it names none.
    pub deliver_by_min: u64,
    /// Most transactions on a connection (`MAILMAX`, RFC 9422); `None` where it is not said.
    pub transactions_max: Option<u32>,
    /// Most recipients in a transaction (`RCPTMAX`, RFC 9422); `None` where it is not said.
    pub recipients_max: Option<u32>,
    /// Most domains among the recipients of a transaction (`RCPTDOMAINMAX`, RFC 9422); `None`
    /// where it is not said.
    pub recipient_domains_max: Option<u32>,
}

/// An extension that makes a difference to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extension {
    /// CHUNKING (RFC 3030).
    Chunking,
    /// DELIVERBY (RFC 2852).
    DeliverBy,
    /// DSN (RFC 3461).
    Dsn,
    /// 8BITMIME (RFC 6152).
    EightBitMime,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    EnhancedStatusCodes,
    /// MT-PRIORITY (RFC 6710).
    MtPriority,
    /// PIPELINING (RFC 2920).
    Pipelining,
    /// REQUIRETLS (RFC 8689).
    RequireTls,
    /// SIZE (RFC 1870).
    Size,
    /// SMTPUTF8 (RFC 6531).
    Smtputf8,
    /// STARTTLS (RFC 3207).
    StartTls,
}

/// A way to authenticate that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mechanism {
    /// LOGIN, never standardised, widely offered.
    Login,
    /// PLAIN (RFC 4616).
    Plain,
    /// SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding.
    ScramSha256,
}

impl Capabilities {
    /// Reads the text of a positive reply to EHLO or LHLO. Its first line is the peer's name.
    pub(super) fn parse(reply: &Reply) -> Self {
        let mut all = Self::default();
        for line in reply.text.split('\n').skip(1) {
            let mut words = line.split_ascii_whitespace();
            if let Some(keyword) = words.next() {
                all.note(&keyword.to_ascii_uppercase(), words);
            }
        }
        all
    }

    /// Whether the peer offers this extension.
    pub fn offers(&self, extension: Extension) -> bool {
        self.extensions.contains(&extension)
    }

    /// Whether the peer offers this way to authenticate.
    pub fn offers_auth(&self, mechanism: Mechanism) -> bool {
        self.mechanisms.contains(&mechanism)
    }

    /// Takes back STARTTLS, which the peer offered but refuses.
    pub(super) fn forget_starttls(&mut self) {
        self.extensions.remove(&Extension::StartTls);
    }

    fn note<'a>(&mut self, keyword: &str, mut words: impl Iterator<Item = &'a str>) {
        let extension = match keyword {
            "8BITMIME" => Extension::EightBitMime,
            "AUTH" => return words.for_each(|name| self.note_mechanism(name)),
            "CHUNKING" => Extension::Chunking,
            "DELIVERBY" => {
                self.deliver_by_min = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
                Extension::DeliverBy
            }
            "DSN" => Extension::Dsn,
            "ENHANCEDSTATUSCODES" => Extension::EnhancedStatusCodes,
            "LIMITS" => return words.for_each(|limit| self.note_limit(limit)),
            "MT-PRIORITY" => Extension::MtPriority,
            "PIPELINING" => Extension::Pipelining,
            "REQUIRETLS" => Extension::RequireTls,
            "SIZE" => {
                // RFC 1870 §3: no number and 0 both mean that no limit is named.
                self.size_octets_max =
                    words.next().and_then(|n| n.parse().ok()).filter(|&n: &u64| n > 0);
                Extension::Size
            }
            "SMTPUTF8" => Extension::Smtputf8,
            "STARTTLS" => Extension::StartTls,
            other => {
                // The form `AUTH=LOGIN PLAIN` is older than RFC 2554 and still about.
                if let Some(first) = other.strip_prefix("AUTH=") {
                    self.note_mechanism(first);
                    words.for_each(|name| self.note_mechanism(name));
                }
                return;
            }
        };
        self.extensions.insert(extension);
    }

    fn note_mechanism(&mut self, name: &str) {
        if name.eq_ignore_ascii_case("PLAIN") {
            self.mechanisms.insert(Mechanism::Plain);
        } else if name.eq_ignore_ascii_case("LOGIN") {
            self.mechanisms.insert(Mechanism::Login);
        } else if name.eq_ignore_ascii_case("SCRAM-SHA-256") {
            self.mechanisms.insert(Mechanism::ScramSha256);
        }
    }

    /// RFC 9422 §3: a limit is a number of one to six digits, not beginning with 0; what is not is
    /// ignored.
    fn note_limit(&mut self, limit: &str) {
        let Some((name, value)) = limit.split_once('=') else { return };
        let is_number = (1..=6).contains(&value.len())
            && !value.starts_with('0')
            && value.bytes().all(|octet| octet.is_ascii_digit());
        let value = if is_number { value.parse().ok() } else { None };
        match name.to_ascii_uppercase().as_str() {
            "MAILMAX" => self.transactions_max = value,
            "RCPTDOMAINMAX" => self.recipient_domains_max = value,
            "RCPTMAX" => self.recipients_max = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(lines: &str) -> Capabilities {
        Capabilities::parse(&Reply::bare(250, format!("mx.example\n{lines}")))
    }

    #[test]
    fn keywords_are_read_in_any_case_and_junk_is_not_offered() {
        let all = offered("pipelining\nSize\n8bitMIME\nX-JUNK a b\n\n=\nauth=login\nAUTH plain x");
        assert!(all.offers(Extension::Pipelining) && all.offers(Extension::EightBitMime));
        assert!(all.offers(Extension::Size) && all.size_octets_max.is_none());
        assert!(all.offers_auth(Mechanism::Login) && all.offers_auth(Mechanism::Plain));
        assert!(!all.offers(Extension::Dsn) && !all.offers_auth(Mechanism::ScramSha256));
        assert!(offered("AUTH Scram-Sha-256").offers_auth(Mechanism::ScramSha256));
        assert!(!offered("AUTH SCRAM-SHA-256-PLUS").offers_auth(Mechanism::ScramSha256));
        for (line, want) in [
            ("SIZE 1000", Some(1_000)),
            ("SIZE 0", None),
            ("SIZE x", None),
            ("SIZE -5", None),
            ("SIZE 99999999999999999999", None),
        ] {
            assert_eq!(offered(line).size_octets_max, want, "{line}");
        }
    }

    #[test]
    fn the_shortest_time_of_delivery_is_a_number_or_none() {
        for (line, want) in [
            ("DELIVERBY", (true, 0)),
            ("DeliverBy 240", (true, 240)),
            ("DELIVERBY x", (true, 0)),
            ("DELIVERBY -1", (true, 0)),
            ("DELIVERBYE 5", (false, 0)),
        ] {
            let all = offered(line);
            assert_eq!((all.offers(Extension::DeliverBy), all.deliver_by_min), want, "{line}");
        }
        let all = offered("MT-Priority STANAG4406\nRequireTLS");
        assert!(all.offers(Extension::MtPriority) && all.offers(Extension::RequireTls));
    }

    #[test]
    fn limits_are_respected_and_junk_values_ignored() {
        let all = offered("LIMITS RCPTMAX=10 mailmax=5 RCPTDOMAINMAX=1 OTHER=7");
        assert_eq!(
            (all.recipients_max, all.transactions_max, all.recipient_domains_max),
            (Some(10), Some(5), Some(1))
        );
        for junk in ["RCPTMAX", "RCPTMAX=", "RCPTMAX=0", "RCPTMAX=1234567", "RCPTMAX=+5"] {
            assert_eq!(offered(&format!("LIMITS {junk}")).recipients_max, None, "{junk}");
        }
    }

    #[test]
    fn the_name_of_the_peer_is_not_an_extension() {
        let reply = Reply::bare(250, "PIPELINING\nDSN");
        let all = Capabilities::parse(&reply);
        assert!(!all.offers(Extension::Pipelining) && all.offers(Extension::Dsn));
    }
}
