//! What options speak of: sizes, networks, names, and the few words that they choose from.
//!
//! Invariant: a value that exists is one that may be used. Pure.

use std::{fmt, net::IpAddr, path::PathBuf};

/// A number of octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// The name of a listener or a credential as rules and logs show it: 1 to 64 of `a-z 0-9 - _`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The name; `None` where it has other characters or another length.
    pub fn parse(text: &str) -> Option<Self> {
        let is_good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(is_good);
        fits.then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The addresses with a common prefix (RFC 4632), such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

impl Network {
    /// Reads `address/bits`, or an address alone; bits behind the prefix must be 0.
    pub fn parse(text: &str) -> Result<Self, String> {
        let network = Self::loosely(text)?;
        if network.masked(network.address) != bits(network.address) {
            return Err("there are bits behind the prefix".to_owned());
        }
        Ok(network)
    }

    /// Whether an address belongs to it; an IPv4 address in IPv6 clothes counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && self.masked(address) == bits(self.address)
    }

    /// Whether it holds so many public addresses that it can be nobody's own: of IPv4 more than any
    /// network was ever given, of IPv6 more than a provider has.
    pub fn is_everybody(&self) -> bool {
        match self.address {
            IpAddr::V4(_) => self.prefix_bits < 8,
            // fc00::/7 is for networks of one's own (RFC 4193), fe80::/10 for a single link.
            IpAddr::V6(address) => {
                self.prefix_bits < 7 || self.prefix_bits < 16 && address.octets()[0] < 0xfc
            }
        }
    }

    /// What was probably meant by a network with bits behind its prefix.
    pub(super) fn correction(text: &str) -> Option<String> {
        let network = Self::loosely(text).ok()?;
        let masked = network.masked(network.address);
        let address = match network.address {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(masked >> 96).ok()?.into()),
            IpAddr::V6(_) => IpAddr::V6(masked.into()),
        };
        Some(format!("did you mean \"{address}/{}\"?", network.prefix_bits))
    }

    fn loosely(text: &str) -> Result<Self, String> {
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr =
            address.parse().map_err(|_| format!("`{address}` is not an IP address"))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            None => width,
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|bits| *bits <= width)
                .ok_or_else(|| format!("the prefix has 0 to {width} bits, not `{digits}`"))?,
        };
        Ok(Self { address, prefix_bits })
    }

    fn masked(&self, address: IpAddr) -> u128 {
        bits(address) & u128::MAX.checked_shl(128 - self.prefix_bits).unwrap_or(0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

/// An address as bits from the left.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What a relay with the rules of `[relay]` would let in is captured, the rest refused.
    Rehearsal,
    /// Mail for our domains, and from our networks and credentials to everywhere, is delivered.
    Relay,
    /// All of it is captured, and nothing leaves.
    Sandbox,
    /// Mail from its authors, who must authenticate, is delivered.
    Submission,
}

impl Kind {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 4] = [Self::Relay, Self::Submission, Self::Sandbox, Self::Rehearsal];

    /// The word of the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rehearsal => "rehearsal",
            Self::Relay => "relay",
            Self::Sandbox => "sandbox",
            Self::Submission => "submission",
        }
    }

    /// Whether mail that comes in there goes out again.
    pub const fn is_delivered(self) -> bool {
        match self {
            Self::Rehearsal | Self::Sandbox => false,
            Self::Relay | Self::Submission => true,
        }
    }
}

/// What From must be like in mail that is only passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromCheck {
    /// Anything.
    Off,
    /// There is one at most.
    One,
    /// There is one at most, and it names its authors plainly.
    Readable,
}

impl FromCheck {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::One, Self::Readable];

    /// The word of the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::One => "one",
            Self::Readable => "readable",
        }
    }
}

/// Which recipients a route covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// All of them.
    Any,
    /// Those in our own domains.
    Local,
}

/// Whether a connection to a next hop is to be protected by STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTls {
    /// Not at all.
    Never,
    /// Where it is offered (RFC 7435).
    Opportunistic,
    /// Or no mail.
    Required,
}

impl RouteTls {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Never, Self::Opportunistic, Self::Required];

    /// The word of the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Opportunistic => "opportunistic",
            Self::Required => "required",
        }
    }
}

/// How a listener speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsUse {
    /// From the first octet (RFC 8314 §3).
    Implicit,
    /// Never.
    None,
    /// After STARTTLS (RFC 3207).
    StartTls,
}

/// Where a listener offers AUTH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthUse {
    /// Everywhere: passwords may travel in the clear.
    AllowClear,
    /// Nowhere.
    Off,
    /// Under TLS only (RFC 4954 §4).
    TlsOnly,
}

/// What becomes of a client that does not wait where it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipelining {
    /// It is sent away, unless it has authenticated.
    Enforced,
    /// Nothing.
    Tolerated,
}

impl Pipelining {
    /// The word of the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Tolerated => "tolerated",
        }
    }
}

/// What becomes of a captured message once it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterCapture {
    /// It is forgotten at once: for measuring acceptance.
    Discard,
    /// It is kept up to the limits of the sandbox.
    Keep,
}

/// What ends a local part before its extension: one printable ASCII character that is neither a
/// letter nor a digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Separator(pub char);

/// How much memory the process may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryMax {
    /// A share of what the machine has.
    Auto,
    /// Any.
    Off,
    /// This much.
    Upto(Bytes),
}

/// The URL of a collector of traces, without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector(String);

impl Collector {
    /// Reads a URL of the scheme `http` with a host and a path.
    pub fn parse(text: &str) -> Option<Self> {
        let uri: hyper::Uri = text.parse().ok()?;
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        let is_one = uri.scheme_str() == Some("http") && has_host && uri.path() != "/";
        is_one.then(|| Self(text.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where the mail log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTo {
    /// Appended to this file.
    File(PathBuf),
    /// To the journal of systemd.
    Journal,
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_what_shares_its_prefix() {
        for (network, address, want) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("2001:db8::/33", "2001:db8:8000::1", false),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), want, "{network} {address}");
        }
    }

    #[test]
    fn nobody_owns_half_of_the_internet() {
        for (network, want) in [
            ("0.0.0.0/0", true),
            ("128.0.0.0/1", true),
            ("10.0.0.0/8", false),
            ("::/0", true),
            ("2000::/3", true),
            ("2001:db8::/32", false),
            ("fc00::/7", false),
            ("f800::/5", true),
            ("fe80::/10", false),
        ] {
            assert_eq!(Network::parse(network).unwrap().is_everybody(), want, "{network}");
        }
    }

    #[test]
    fn what_is_not_a_network_says_why() {
        for (text, why) in [
            ("10.0.0.1/8", "there are bits behind the prefix"),
            ("10.0.0.0/33", "the prefix has 0 to 32 bits, not `33`"),
            ("localhost", "`localhost` is not an IP address"),
        ] {
            assert_eq!(Network::parse(text), Err(why.to_owned()), "{text}");
        }
        let help = Network::correction("10.0.0.1/8");
        assert_eq!(help.as_deref(), Some("did you mean \"10.0.0.0/8\"?"));
    }
}
