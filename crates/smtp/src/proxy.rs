//! Whom a proxy speaks for: the header of the PROXY protocol, versions 1 and 2 (`HAProxy`'s
//! `proxy-protocol.txt`), which comes before everything else, also before TLS.
//!
//! Invariants: no octet behind the header is taken; a header that is not wholly right gives no
//! address; at most [`HEADER_OCTETS_MAX`] are held. Who may send one is decided by others, and
//! facts about the client's own TLS are not believed: we did not see that handshake. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Reads one header.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    held: Vec<u8>,
}

/// How far reading came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// How many octets belong to the header.
    pub octets: usize,
    /// Whom the proxy speaks for; `None` until the header is whole.
    pub client: Option<Client>,
}

/// Whom a proxy speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The client at this address.
    At(SocketAddr),
    /// Itself (`LOCAL`), or somebody of whom it cannot tell us more (`UNKNOWN`, `AF_UNSPEC`): the
    /// address of the connection counts.
    Itself,
}

/// Why a header is not taken; the connection must be closed without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The checksum of version 2 is another.
    Checksum,
    /// An address, a port or a length that is not as it must be.
    Malformed,
    /// It begins with something else.
    NoHeader,
    /// It is longer than any header that we know.
    TooLong,
    /// The client came neither over TCP and IPv4 nor over TCP and IPv6: no address could be given
    /// to it that is not somebody else's.
    Unroutable,
}

impl Fault {
    /// What is wrong, for logs.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Checksum => "the checksum of the PROXY header is wrong",
            Self::Malformed => "the PROXY header is malformed",
            Self::NoHeader => "there is no PROXY header",
            Self::TooLong => "the PROXY header is too long",
            Self::Unroutable => "the PROXY header names a client that is not on TCP",
        }
    }
}

impl Reader {
    /// Takes octets that belong to the header, and no more of them.
    pub fn take(&mut self, octets: &[u8]) -> Result<Taken, Fault> {
        let mut at = 0;
        loop {
            let rest = octets.get(at..).unwrap_or_default();
            let piece = match self.held.first() {
                None => rest.get(..1).unwrap_or_default(),
                Some(b'P') => self.line_piece(rest)?,
                Some(_) => self.binary_piece(rest)?,
            };
            if piece.is_empty() {
                return Ok(Taken { octets: at, client: None });
            }
            self.held.extend_from_slice(piece);
            at += piece.len();
            if let Some(client) = self.read()? {
                return Ok(Taken { octets: at, client: Some(client) });
            }
        }
    }

    /// The octets up to the end of the line of version 1.
    fn line_piece<'a>(&self, rest: &'a [u8]) -> Result<&'a [u8], Fault> {
        let room = LINE_OCTETS_MAX.saturating_sub(self.held.len());
        if room == 0 {
            return Err(Fault::TooLong);
        }
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |feed| feed + 1);
        Ok(rest.get(..end.min(room)).unwrap_or_default())
    }

    /// The octets up to the end of version 2, or of its fixed part.
    fn binary_piece<'a>(&self, rest: &'a [u8]) -> Result<&'a [u8], Fault> {
        let whole = match self.binary_octets() {
            Some(octets) if octets > HEADER_OCTETS_MAX => return Err(Fault::TooLong),
            Some(octets) => octets,
            None => FIXED_OCTETS,
        };
        let room = whole.saturating_sub(self.held.len());
        Ok(rest.get(..room).unwrap_or(rest))
    }

    /// How long a header of version 2 is in all; `None` until that is known.
    fn binary_octets(&self) -> Option<usize> {
        let (_, length) = self.held.get(..FIXED_OCTETS)?.split_last_chunk::<2>()?;
        Some(FIXED_OCTETS + usize::from(u16::from_be_bytes(*length)))
    }

    fn read(&self) -> Result<Option<Client>, Fault> {
        let held = self.held.as_slice();
        if held.first() == Some(&b'P') {
            let common = held.len().min(LINE_START.len());
            if held.get(..common) != LINE_START.get(..common) {
                return Err(Fault::NoHeader);
            }
            return match held.strip_suffix(b"\n") {
                Some(line) => line_client(line).map(Some),
                None => Ok(None),
            };
        }
        let common = held.len().min(SIGNATURE.len());
        if held.get(..common) != SIGNATURE.get(..common) {
            return Err(Fault::NoHeader);
        }
        match self.binary_octets() {
            Some(octets) if octets == held.len() => binary_client(held).map(Some),
            Some(_) | None => Ok(None),
        }
    }
}

/// The client of a line of version 1, `line` without its LF.
fn line_client(line: &[u8]) -> Result<Client, Fault> {
    let line = line.strip_suffix(b"\r").ok_or(Fault::Malformed)?;
    let words = line.strip_prefix(LINE_START).ok_or(Fault::NoHeader)?;
    // What stands behind UNKNOWN must be ignored, whatever it is.
    if words == b"UNKNOWN" || words.starts_with(b"UNKNOWN ") {
        return Ok(Client::Itself);
    }
    let text = str::from_utf8(words).map_err(|_| Fault::Malformed)?;
    let mut words = text.split(' ');
    let [Some(family), Some(source), Some(destination), Some(from), Some(to), None] =
        std::array::from_fn(|_| words.next())
    else {
        return Err(Fault::Malformed);
    };
    let address = match family {
        "TCP4" => both::<Ipv4Addr>(source, destination).map(IpAddr::V4),
        "TCP6" => both::<Ipv6Addr>(source, destination).map(IpAddr::V6),
        _ => None,
    };
    match (address, port(from), port(to)) {
        (Some(address), Some(port), Some(_)) => Ok(Client::At(SocketAddr::new(address, port))),
        _ => Err(Fault::Malformed),
    }
}

/// The first of two addresses, where both can be read.
fn both<A: std::str::FromStr>(source: &str, destination: &str) -> Option<A> {
    let _: A = destination.parse().ok()?;
    source.parse().ok()
}

fn port(digits: &str) -> Option<u16> {
    let is_number = digits.bytes().all(|octet| octet.is_ascii_digit());
    let is_plain = digits == "0" || !digits.starts_with('0');
    (is_number && is_plain).then(|| digits.parse().ok())?
}

/// The client of a whole header of version 2.
fn binary_client(header: &[u8]) -> Result<Client, Fault> {
    let (fixed, rest) = header.split_at_checked(FIXED_OCTETS).ok_or(Fault::Malformed)?;
    let [.., command, transport, _, _] = fixed else { return Err(Fault::Malformed) };
    match command {
        // The proxy's own connection, to see whether we are well; what follows is skipped.
        0x20 => return Ok(Client::Itself),
        0x21 => {}
        _ => return Err(Fault::Malformed),
    }
    let (client, behind) = match transport {
        // The facts of an unknown family are skipped, but for the count.
        0x00 => return Ok(Client::Itself),
        0x11 => address::<4, 12>(rest).map(|(source, port, behind)| {
            (SocketAddr::new(IpAddr::V4(Ipv4Addr::from(source)), port), behind)
        })?,
        0x21 => address::<16, 36>(rest).map(|(source, port, behind)| {
            (SocketAddr::new(IpAddr::V6(Ipv6Addr::from(source)), port), behind)
        })?,
        0x12 | 0x22 | 0x31 | 0x32 => return Err(Fault::Unroutable),
        _ => return Err(Fault::Malformed),
    };
    additions(header, behind)?;
    Ok(Client::At(client))
}

/// Source address, source port, and what stands behind the block of addresses of `LEN` octets.
fn address<const ADDRESS: usize, const LEN: usize>(
    rest: &[u8],
) -> Result<([u8; ADDRESS], u16, &[u8]), Fault> {
    let (block, behind) = rest.split_first_chunk::<LEN>().ok_or(Fault::Malformed)?;
    let source = block.first_chunk::<ADDRESS>().ok_or(Fault::Malformed)?;
    // Two addresses, then the source port and the destination port.
    let ports = block.get(2 * ADDRESS..).and_then(<[u8]>::first_chunk::<2>);
    Ok((*source, u16::from_be_bytes(*ports.ok_or(Fault::Malformed)?), behind))
}

/// Checks that what stands behind the addresses is a list of type, length and value.
fn additions(header: &[u8], mut behind: &[u8]) -> Result<(), Fault> {
    while let Some((kind, rest)) = behind.split_first() {
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(Fault::Malformed)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (value, rest) = rest.split_at_checked(length).ok_or(Fault::Malformed)?;
        if *kind == CHECKSUM {
            let told = value.first_chunk::<4>().filter(|_| length == 4).ok_or(Fault::Malformed)?;
            let at = header.len() - rest.len() - 4;
            if u32::from_be_bytes(*told) != checksum(header, at) {
                return Err(Fault::Checksum);
            }
        }
        behind = rest;
    }
    Ok(())
}

/// CRC-32C of the header with four zeros at `at`. A header is short and comes once: bit by bit.
fn checksum(header: &[u8], at: usize) -> u32 {
    let mut sum = u32::MAX;
    for (place, octet) in header.iter().enumerate() {
        let octet = if (at..at + 4).contains(&place) { 0 } else { *octet };
        sum ^= u32::from(octet);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (CASTAGNOLI & (sum & 1).wrapping_neg());
        }
    }
    !sum
}

/// The longest header in octets. The addresses have 36; the rest are additions, of which a client
/// certificate is the longest.
pub const HEADER_OCTETS_MAX: usize = 8_192;
/// The longest line of version 1 with its CRLF, as its specification counts.
const LINE_OCTETS_MAX: usize = 107;
const LINE_START: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family and length of version 2.
const FIXED_OCTETS: usize = 16;
/// `PP2_TYPE_CRC32C`.
const CHECKSUM: u8 = 0x03;
/// The polynomial of CRC-32C, its bits turned round.
const CASTAGNOLI: u32 = 0x82f6_3b78;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_says_what_is_wrong() {
        for (fault, word) in [
            (Fault::Checksum, "checksum"),
            (Fault::Malformed, "malformed"),
            (Fault::NoHeader, "no PROXY"),
            (Fault::TooLong, "too long"),
            (Fault::Unroutable, "not on TCP"),
        ] {
            assert!(fault.text().contains(word), "{fault:?}: {}", fault.text());
        }
    }

    /// What comes of a header that arrives in such pieces, and how many octets it took.
    fn read_by(wire: &[u8], step: usize) -> (Result<Option<Client>, Fault>, usize) {
        let (mut reader, mut at) = (Reader::default(), 0);
        for piece in wire.chunks(step.min(wire.len())) {
            let taken = match reader.take(piece) {
                Ok(taken) => taken,
                Err(fault) => return (Err(fault), at),
            };
            at += taken.octets;
            if taken.client.is_some() {
                return (Ok(taken.client), at);
            }
            assert_eq!(taken.octets, piece.len(), "all of it belongs to the header");
        }
        (Ok(None), at)
    }

    /// Whether, and as what, a header is taken that is followed by `EHLO x`; the same however it
    /// is cut.
    #[track_caller]
    fn check(header: &[u8], want: Result<&str, Fault>) {
        let mut wire = header.to_vec();
        wire.extend(b"EHLO x\r\n");
        let want = want.map(|text| match text {
            "itself" => Client::Itself,
            address => Client::At(address.parse().unwrap()),
        });
        for step in [1, 2, 7, 16, usize::MAX] {
            let (read, at) = read_by(&wire, step);
            let shown = header.escape_ascii();
            assert_eq!(read, want.map(Some), "{shown} by {step}");
            if want.is_ok() {
                assert_eq!(at, header.len(), "{shown} by {step}");
            }
        }
    }

    fn binary(command: u8, transport: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, transport]);
        header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        header.extend(rest);
        header
    }

    fn v4(behind: &[u8]) -> Vec<u8> {
        let mut rest = vec![192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0, 25];
        rest.extend(behind);
        binary(0x21, 0x11, &rest)
    }

    #[test]
    fn a_line_names_the_client_or_is_refused() {
        for (line, want) in [
            ("TCP4 192.0.2.7 198.51.100.1 12345 25\r\n", Ok("192.0.2.7:12345")),
            ("TCP6 2001:db8::7 2001:db8::1 1 25\r\n", Ok("[2001:db8::7]:1")),
            ("TCP4 192.0.2.7 198.51.100.1 0 25\r\n", Ok("192.0.2.7:0")),
            ("UNKNOWN\r\n", Ok("itself")),
            ("UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", Ok("itself")),
            ("UNKNOWNS\r\n", Err(Fault::Malformed)),
            ("TCP4 192.0.2.7 198.51.100.1 12345 25\n", Err(Fault::Malformed)),
            ("TCP4 192.0.2.7  198.51.100.1 12345 25\r\n", Err(Fault::Malformed)),
            ("TCP4 192.0.2.7 198.51.100.1 12345 25 \r\n", Err(Fault::Malformed)),
            ("TCP4 192.0.2.7 198.51.100.1 12345\r\n", Err(Fault::Malformed)),
            ("TCP4 192.0.2.7 198.51.100.1 012345 25\r\n", Err(Fault::Malformed)),
            ("TCP4 192.0.2.7 198.51.100.1 +1 25\r\n", Err(Fault::Malformed)),
            ("TCP4 192.0.2.7 198.51.100.1 65536 25\r\n", Err(Fault::Malformed)),
            ("TCP4 192.0.2.07 198.51.100.1 1 25\r\n", Err(Fault::Malformed)),
            ("TCP4 192.0.2.256 198.51.100.1 1 25\r\n", Err(Fault::Malformed)),
            ("TCP4 2001:db8::7 2001:db8::1 1 25\r\n", Err(Fault::Malformed)),
            ("TCP6 192.0.2.7 198.51.100.1 1 25\r\n", Err(Fault::Malformed)),
            ("TCP4 192.0.2.7 example.org 1 25\r\n", Err(Fault::Malformed)),
            ("UDP4 192.0.2.7 198.51.100.1 1 25\r\n", Err(Fault::Malformed)),
            ("tcp4 192.0.2.7 198.51.100.1 1 25\r\n", Err(Fault::Malformed)),
            ("\r\n", Err(Fault::Malformed)),
        ] {
            check(format!("PROXY {line}").as_bytes(), want);
        }
        check(b"PROXY\r\n", Err(Fault::NoHeader));
        check(b"proxy UNKNOWN\r\n", Err(Fault::NoHeader));
        check(b"EHLO client.example\r\n", Err(Fault::NoHeader));
        check(b"\x16\x03\x01\x02\x00", Err(Fault::NoHeader));
    }

    #[test]
    fn a_line_has_at_most_107_octets() {
        let line = |fill: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(fill)).into_bytes();
        assert_eq!(line(91).len(), LINE_OCTETS_MAX);
        check(&line(91), Ok("itself"));
        check(&line(92), Err(Fault::TooLong));
    }

    #[test]
    fn a_binary_header_names_the_client_or_is_refused() {
        let mut v6 = [0; 36];
        (v6[0], v6[15], v6[33]) = (0x20, 7, 25);
        let unix = [b'/'; 216];
        for (header, want) in [
            (v4(b""), Ok("192.0.2.7:12345")),
            (binary(0x21, 0x21, &v6), Ok("[2000::7]:25")),
            (binary(0x20, 0x00, b""), Ok("itself")),
            (binary(0x20, 0x11, &[9; 12]), Ok("itself")),
            (binary(0x20, 0x31, &unix), Ok("itself")),
            (binary(0x21, 0x00, b"whatever"), Ok("itself")),
            (binary(0x21, 0x31, &unix), Err(Fault::Unroutable)),
            (binary(0x21, 0x12, &[9; 12]), Err(Fault::Unroutable)),
            (binary(0x21, 0x10, &[9; 12]), Err(Fault::Malformed)),
            (binary(0x21, 0x41, &[9; 12]), Err(Fault::Malformed)),
            (binary(0x22, 0x11, &[9; 12]), Err(Fault::Malformed)),
            (binary(0x11, 0x11, &[9; 12]), Err(Fault::Malformed)),
            (binary(0x21, 0x11, &[9; 11]), Err(Fault::Malformed)),
            (binary(0x21, 0x21, &[9; 12]), Err(Fault::Malformed)),
            (binary(0x21, 0x11, &[]), Err(Fault::Malformed)),
            (binary(0x20, 0x00, &vec![0; 65_535]), Err(Fault::TooLong)),
            (binary(0x20, 0x00, &[0; HEADER_OCTETS_MAX - 15]), Err(Fault::TooLong)),
            (binary(0x20, 0x00, &[0; HEADER_OCTETS_MAX - 16]), Ok("itself")),
        ] {
            check(&header, want);
        }
        check(b"\r\n\r\n\0\r\nQUIT\r\n", Err(Fault::NoHeader));
    }

    #[test]
    fn additions_are_skipped_but_must_be_well_formed() {
        // TLS facts of the proxy, a NOOP, and a unique id.
        let tls = b"\x20\0\x0f\x07\0\0\0\0\x21\0\x07TLSv1.3\x04\0\0\x05\0\x02id";
        check(&v4(tls), Ok("192.0.2.7:12345"));
        for bad in [&b"\x04"[..], b"\x04\0", b"\x04\0\x01", b"\x04\xff\xffx", b"\x03\0\x03abc"] {
            check(&v4(bad), Err(Fault::Malformed));
        }
    }

    #[test]
    fn a_checksum_is_verified_where_it_is_there() {
        // RFC 3720 §B.4: 32 octets of zeros.
        assert_eq!(checksum(&[0; 32], 0), 0x8a91_36aa);
        let mut header = v4(b"\x05\0\x01x\x03\0\x04....");
        let at = header.len() - 4;
        check(&header, Err(Fault::Checksum));
        let sum = checksum(&header, at).to_be_bytes();
        header[at..].copy_from_slice(&sum);
        check(&header, Ok("192.0.2.7:12345"));
    }

    #[test]
    fn a_checksum_covers_what_stands_behind_it_too() {
        let mut header = v4(b"\x03\0\x04\0\0\0\0\x05\0\x08eight oc");
        let at = header.len() - 4 - 11;
        // Four zeros are there already: nothing is to be passed over.
        let sum = checksum(&header, header.len()).to_be_bytes();
        header[at..at + 4].copy_from_slice(&sum);
        check(&header, Ok("192.0.2.7:12345"));
        *header.last_mut().unwrap() ^= 1;
        check(&header, Err(Fault::Checksum));
    }
}
