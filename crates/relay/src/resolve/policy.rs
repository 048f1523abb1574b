//! To which addresses mail from strangers' zones may lead, and which of them are our own.
//!
//! Invariant: whether an address is ours is judged before whether it is forbidden, because mail
//! that leads back to us is a loop to be told (RFC 5321 §5.1) and not an attack. Not pure: where
//! we listen on every address, the machine is asked whether an address is one of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use merpati_flow::admit::Network;

/// What was configured about addresses.
#[derive(Debug)]
pub(super) struct Policy {
    /// The port to which mail is delivered.
    pub(super) port: u16,
    /// Networks that MX may lead to although [`is_forbidden`] says no.
    pub(super) allowed: Vec<Network>,
    /// The sockets on which we listen.
    pub(super) own: Vec<SocketAddr>,
}

impl Policy {
    /// Whether mail may be sent to this address.
    pub(super) fn permits(&self, address: IpAddr) -> bool {
        !is_forbidden(address) || self.allowed.iter().any(|network| network.contains(address))
    }

    /// Whether a connection to this address and our destination port would reach ourselves.
    pub(super) fn is_ours(&self, address: IpAddr) -> bool {
        let address = reached(address);
        self.own.iter().filter(|own| own.port() == self.port).any(|own| {
            let own = own.ip().to_canonical();
            own == address || (covers(own, address) && is_of_this_machine(address))
        })
    }
}

/// Whether a listener on the unspecified address `own` takes connections to `address`. A listener
/// on `::` takes IPv4 too, unless the machine says otherwise; then nobody connects either.
fn covers(own: IpAddr, address: IpAddr) -> bool {
    own.is_unspecified() && (own.is_ipv6() || address.is_ipv4())
}

/// The address that a connection to `address` reaches: IPv4-mapped means IPv4, and the
/// unspecified address means loopback (Linux connects it to itself).
fn reached(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        v4 @ IpAddr::V4(_) => v4,
        v6 @ IpAddr::V6(_) => v6,
    }
}

/// Asks the routing table: only for an address of its own does a machine choose that address as
/// the source. Nothing is sent. (That a socket can be bound to the address would prove less:
/// `ip_nonlocal_bind`, which every fail-over setup sets, allows it for all of them.) Not kept,
/// because addresses come and go, and asking takes microseconds.
fn is_of_this_machine(address: IpAddr) -> bool {
    if address.is_loopback() {
        return true;
    }
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, PROBED_PORT))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == address)
}

/// Whether the address belongs to a machine, a site or nobody, and so never to a stranger's MX.
pub(crate) fn is_forbidden(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_forbidden_v4(v4),
        IpAddr::V6(v6) => is_forbidden_v6(v6),
    }
}

/// Whether a router translates it on its way to the Internet (RFC 1918, RFC 6598, RFC 4193).
pub(crate) fn is_translated(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(address) => address.segments()[0] & 0xfe00 == 0xfc00,
    }
}

/// The registry of special-purpose addresses (RFC 6890), and all that is not unicast.
#[expect(clippy::match_same_arms, reason = "each line is a registry entry of its own")]
fn is_forbidden_v4(address: Ipv4Addr) -> bool {
    match address.octets() {
        // This network; private; loopback; multicast, reserved and broadcast.
        [0 | 10 | 127 | 224..=255, ..] => true,
        // Shared with the provider's NAT (RFC 6598); link local, where clouds keep their
        // metadata; benchmarks (RFC 2544).
        [100, 64..=127, ..] | [169, 254, ..] | [198, 18 | 19, ..] => true,
        // Private (RFC 1918).
        [172, 16..=31, ..] | [192, 168, ..] => true,
        // Protocols, documentation (RFC 5737), the former 6to4 anycast (RFC 7526).
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        _ => false,
    }
}

/// Only `2000::/3` is global unicast (RFC 4291 §2.4); parts of it are special or carry IPv4.
fn is_forbidden_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to the IPv4 address inside.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            is_forbidden_v4(embedded(high, low))
        }
        // Teredo and protocols (RFC 2928); documentation (RFC 3849, RFC 9637).
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => true,
        [first, ..] => !(0x2000..=0x3fff).contains(&first),
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

/// Any port but 0 serves to ask for a route.
const PROBED_PORT: u16 = 25;

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allowed: &[&str], own: &[&str]) -> Policy {
        Policy {
            port: 25,
            allowed: allowed.iter().map(|text| text.parse().unwrap()).collect(),
            own: own.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn strangers_never_lead_us_to_loopback_private_or_reserved_addresses() {
        let policy = policy(&[], &[]);
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:c0a8:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!policy.permits(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_permitted() {
        let policy = policy(&[], &[]);
        for text in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "223.255.255.255",
            "::ffff:9.9.9.9",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2001:4860:4860::8888",
            "2001:200::1",
            "2a00:1450::1",
            "3ffe::1",
        ] {
            assert!(policy.permits(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn an_allowed_network_lifts_the_ban_and_nothing_besides() {
        let policy = policy(&["127.0.0.0/8", "fd00::/8"], &[]);
        for (text, permitted) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("fd12::1", true),
            ("10.0.0.1", false),
            ("::1", false),
            ("64:ff9b::7f00:1", false),
        ] {
            assert_eq!(policy.permits(text.parse().unwrap()), permitted, "{text}");
        }
    }

    #[test]
    fn our_own_sockets_are_known_by_address_and_port() {
        for (own, address, ours) in [
            ("192.0.2.1:25", "192.0.2.1", true),
            ("192.0.2.1:25", "::ffff:192.0.2.1", true),
            ("192.0.2.1:25", "192.0.2.2", false),
            ("192.0.2.1:587", "192.0.2.1", false),
            ("127.0.0.1:25", "127.0.0.1", true),
            ("127.0.0.1:25", "0.0.0.0", true),
            ("127.0.0.1:25", "127.0.0.2", false),
            ("0.0.0.0:25", "127.0.0.2", true),
            ("0.0.0.0:25", "0.0.0.0", true),
            ("0.0.0.0:25", "192.0.2.1", false),
            ("0.0.0.0:25", "224.0.0.1", false),
            ("0.0.0.0:25", "::1", false),
            ("0.0.0.0:2525", "127.0.0.1", false),
            ("[::]:25", "127.0.0.1", true),
            ("[::]:25", "::1", true),
            ("[::]:25", "2001:db8::1", false),
        ] {
            let policy = policy(&[], &[own]);
            assert_eq!(policy.is_ours(address.parse().unwrap()), ours, "{address} at {own}");
        }
    }
}
