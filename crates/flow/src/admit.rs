//! Who may hand what over, to whom: the answers to the questions of a server session.
//!
//! Invariant: relay control is closed by default. Nothing goes to a domain that is not ours unless
//! a network or a credential was named in the configuration. Pure.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use merpati_mail::{Domain, ForwardPath, Reply, Stage, Verdict, header};

/// What a listener admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What becomes of what it admits.
    pub kind: ListenerKind,
    /// The domains that are ours, matched exactly; sub-domains are not meant.
    pub local_domains: BTreeSet<Domain>,
    /// The networks that may send anywhere.
    pub networks: Vec<Network>,
    /// Octets of the largest message.
    pub size_bytes_max: u64,
    /// Received fields beyond which a message is taken to go round (RFC 5321 §6.3: at least 100).
    pub hops_max: usize,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// Mail for our domains, and from our networks and credentials to everywhere.
    Relay,
    /// Everything is captured, nothing goes out.
    Sandbox,
}

/// What is known about a session when a question of it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The address of the other end.
    pub peer: IpAddr,
    /// The credential that authenticated; `None` where nothing did.
    pub credential: Option<&'a str>,
    /// Whether the spool can take more.
    pub room: Room,
}

/// Whether the spool can take more mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Not now: a watermark is reached.
    Full,
    /// It is poisoned: it will take nothing until the relay has been started again.
    Poisoned,
    /// Yes.
    Roomy,
}

/// The answer to a question of a session.
pub fn decide(policy: &Policy, facts: &Facts<'_>, stage: &Stage) -> Verdict {
    match stage {
        Stage::Connect => Verdict::accept("connect"),
        Stage::Hello { name: _ } => Verdict::accept("hello"),
        Stage::Mail { size_bytes, .. } => mail(policy, facts, *size_bytes),
        Stage::Recipient { path, accepted_before: _ } => recipient(policy, facts, path),
    }
}

/// The answer to the question at the end of data, from the header of the message.
///
/// `message` may be cut off behind its header.
pub fn content(policy: &Policy, message: &[u8]) -> Verdict {
    match policy.kind {
        ListenerKind::Sandbox => Verdict::accept("sandbox"),
        ListenerKind::Relay if header::count(message, "Received") > policy.hops_max => {
            Verdict::refuse(
                "too-many-hops",
                Reply::new(554, (5, 4, 6), "this message is going round: too many Received fields"),
            )
        }
        ListenerKind::Relay => Verdict::accept("content"),
    }
}

fn mail(policy: &Policy, facts: &Facts<'_>, size_bytes: Option<u64>) -> Verdict {
    match facts.room {
        Room::Poisoned => {
            return Verdict::refuse("storage-trouble", storage_trouble());
        }
        Room::Full => {
            return Verdict::refuse(
                "spool-full",
                Reply::new(452, (4, 3, 1), "not enough storage now, try again later"),
            );
        }
        Room::Roomy => {}
    }
    if size_bytes.is_some_and(|size| size > policy.size_bytes_max) {
        return Verdict::refuse(
            "message-size",
            Reply::with_text(
                552,
                (5, 3, 4),
                format!("messages of at most {} octets are taken here", policy.size_bytes_max),
            ),
        );
    }
    Verdict::accept("sender")
}

fn recipient(policy: &Policy, facts: &Facts<'_>, path: &ForwardPath) -> Verdict {
    match (policy.kind, path) {
        (ListenerKind::Sandbox, _) => Verdict::accept("sandbox"),
        // RFC 5321 §4.5.1: <Postmaster> without a domain is always taken.
        (ListenerKind::Relay, ForwardPath::Postmaster) => Verdict::accept("postmaster"),
        (ListenerKind::Relay, ForwardPath::Mailbox(mailbox)) => {
            if policy.local_domains.contains(mailbox.domain()) {
                Verdict::accept("local-domain")
            } else if facts.credential.is_some() {
                Verdict::accept("authenticated")
            } else if policy.networks.iter().any(|network| network.contains(facts.peer)) {
                Verdict::accept("relay-network")
            } else {
                Verdict::refuse(
                    "relay-denied",
                    Reply::new(550, (5, 7, 1), "relaying to this domain is not allowed"),
                )
            }
        }
    }
}

/// What is said when the spool has failed (RFC 3463: other or undefined mail system status).
pub const fn storage_trouble() -> Reply {
    Reply::new(451, (4, 3, 0), "storage trouble, try again later")
}

/// A network in CIDR notation, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the address lies in the network; an IPv4-mapped address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                (own.to_bits() ^ other.to_bits()) & mask == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                (own.to_bits() ^ other.to_bits()) & mask == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) if digits.bytes().all(|o| o.is_ascii_digit()) => {
                digits.parse().map_err(|_| NetworkError::Prefix)?
            }
            Some(_) => return Err(NetworkError::Prefix),
        };
        if prefix > longest {
            return Err(NetworkError::Prefix);
        }
        let network = Self { address, prefix };
        if network.first() == address { Ok(network) } else { Err(NetworkError::HostBits) }
    }
}

impl Network {
    fn first(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(own) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(own.to_bits() & mask))
            }
            IpAddr::V6(own) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(own.to_bits() & mask))
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Why a text is not a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// What stands before the slash is not an IP address.
    Address,
    /// The address has bits behind the prefix: a typing error, or a host was meant.
    HostBits,
    /// What stands behind the slash is not a number up to 32 or 128.
    Prefix,
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "a network begins with an IP address",
            Self::HostBits => "the address has bits set behind its prefix",
            Self::Prefix => "a prefix is a number up to 32 (IPv4) or 128 (IPv6)",
        })
    }
}

impl std::error::Error for NetworkError {}

#[cfg(test)]
mod tests {
    use merpati_mail::stage::Decision;

    use super::*;

    fn policy(kind: ListenerKind) -> Policy {
        Policy {
            kind,
            local_domains: [Domain::parse("ours.example").unwrap()].into(),
            networks: vec!["192.0.2.0/24".parse().unwrap()],
            size_bytes_max: 1_000,
            hops_max: 100,
        }
    }

    #[test]
    fn relay_control_is_closed_by_default() {
        for (kind, peer, credential, rcpt, rule) in [
            (ListenerKind::Relay, "198.51.100.7", None, "<u@ours.example>", "local-domain"),
            (ListenerKind::Relay, "198.51.100.7", None, "<u@OURS.example>", "local-domain"),
            (ListenerKind::Relay, "198.51.100.7", None, "<u@sub.ours.example>", "relay-denied"),
            (ListenerKind::Relay, "198.51.100.7", None, "<u@evilours.example>", "relay-denied"),
            (ListenerKind::Relay, "198.51.100.7", None, "<u@other.example>", "relay-denied"),
            (ListenerKind::Relay, "198.51.100.7", None, "<u@[192.0.2.1]>", "relay-denied"),
            (ListenerKind::Relay, "198.51.100.7", None, "<postmaster>", "postmaster"),
            (ListenerKind::Relay, "192.0.2.255", None, "<u@other.example>", "relay-network"),
            (ListenerKind::Relay, "::ffff:192.0.2.9", None, "<u@other.example>", "relay-network"),
            (ListenerKind::Relay, "198.51.100.7", Some("p"), "<u@other.example>", "authenticated"),
            (ListenerKind::Sandbox, "198.51.100.7", None, "<u@other.example>", "sandbox"),
        ] {
            let facts = Facts { peer: peer.parse().unwrap(), credential, room: Room::Roomy };
            let utf8 = merpati_mail::address::Utf8Rule::AsciiOnly;
            let (path, _) = ForwardPath::parse_prefix(rcpt, utf8).unwrap();
            let stage = Stage::Recipient { path, accepted_before: 0 };
            let verdict = decide(&policy(kind), &facts, &stage);
            assert_eq!(verdict.rule, rule, "{peer} {rcpt}");
            let refused = matches!(verdict.decision, Decision::Refuse(_));
            assert_eq!(refused, rule == "relay-denied", "{peer} {rcpt}");
        }
    }

    #[test]
    fn mail_is_refused_while_there_is_no_room() {
        for (room, size_bytes, rule) in [
            (Room::Roomy, None, "sender"),
            (Room::Roomy, Some(1_000), "sender"),
            (Room::Roomy, Some(1_001), "message-size"),
            (Room::Full, Some(1), "spool-full"),
            (Room::Poisoned, None, "storage-trouble"),
        ] {
            let facts = Facts { peer: Ipv4Addr::LOCALHOST.into(), credential: None, room };
            let verdict = mail(&policy(ListenerKind::Relay), &facts, size_bytes);
            assert_eq!(verdict.rule, rule);
        }
    }

    #[test]
    fn a_message_that_goes_round_is_refused_by_a_relay() {
        let message = |n: usize| "Received: from a by b\r\n".repeat(n) + "\r\nhello\r\n";
        let relay = policy(ListenerKind::Relay);
        assert_eq!(content(&relay, message(100).as_bytes()).rule, "content");
        assert_eq!(content(&relay, message(101).as_bytes()).rule, "too-many-hops");
        let sandbox = policy(ListenerKind::Sandbox);
        assert_eq!(content(&sandbox, message(101).as_bytes()).rule, "sandbox");
    }

    #[test]
    fn networks_are_read_and_matched() {
        for (text, inside, outside) in [
            ("0.0.0.0/0", "203.0.113.1", "::1"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::"),
            ("::/0", "2001:db8::", "192.0.2.1"),
        ] {
            let network: Network = text.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{inside} in {text}");
            assert!(!network.contains(outside.parse().unwrap()), "{outside} in {text}");
        }
        for (text, why) in [
            ("ours", NetworkError::Address),
            ("10.0.0.0/33", NetworkError::Prefix),
            ("10.0.0.0/+8", NetworkError::Prefix),
            ("10.0.0.0/", NetworkError::Prefix),
            ("10.0.0.1/8", NetworkError::HostBits),
        ] {
            assert_eq!(text.parse::<Network>(), Err(why), "{text}");
        }
    }
}
