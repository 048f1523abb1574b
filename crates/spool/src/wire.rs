//! How numbers, texts and lists lie on disk: little-endian, with explicit lengths.
//!
//! Invariant: reading never panics and never allocates more than the input is long. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why octets are not what they should be. The text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecError(pub String);

impl CodecError {
    pub(crate) fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

impl std::fmt::Display for CodecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CodecError {}

/// What is being read, from the front.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// Octets left.
    pub(crate) const fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next octet, which stays; `None` at the end.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) =
            self.rest.split_at_checked(len).ok_or_else(|| CodecError::new("ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, rest) =
            self.rest.split_first_chunk::<N>().ok_or_else(|| CodecError::new("ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CodecError> {
        self.array::<1>().map(|[octet]| octet)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, CodecError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn octets(&mut self) -> Result<&'a [u8], CodecError> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, CodecError> {
        str::from_utf8(self.octets()?).map_err(|_| CodecError::new("a text is not UTF-8"))
    }

    pub(crate) fn string(&mut self) -> Result<String, CodecError> {
        self.text().map(str::to_owned)
    }

    /// 0: `None`; 1: what `read` reads.
    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Option<T>, CodecError> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(CodecError::new("an option is neither there nor not")),
        }
    }

    /// A count and so many items, each of at least `octets_min` octets.
    pub(crate) fn list<T>(
        &mut self,
        octets_min: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let count = self.u32()? as usize;
        // Invariant: a count that the input cannot hold allocates nothing.
        if count.checked_mul(octets_min).is_none_or(|least| least > self.left()) {
            return Err(CodecError::new("a list is longer than what is left"));
        }
        let mut items = Vec::with_capacity(count.min(LIST_ITEMS_FIRST));
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    pub(crate) fn ipv4(&mut self) -> Result<IpAddr, CodecError> {
        self.array::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
    }

    pub(crate) fn ipv6(&mut self) -> Result<Ipv6Addr, CodecError> {
        self.array::<16>().map(Ipv6Addr::from)
    }

    pub(crate) fn end(&self) -> Result<(), CodecError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(CodecError(format!("{} octets too many", self.rest.len())))
        }
    }
}

pub(crate) fn put_u16(out: &mut Vec<u8>, number: u16) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// A length in 4 octets. What is longer cannot be written whole, but its frame cannot be either:
/// it is refused as too large before it is written.
pub(crate) fn put_len(out: &mut Vec<u8>, len: usize) {
    put_u32(out, u32::try_from(len).unwrap_or(u32::MAX));
}

pub(crate) fn put_octets(out: &mut Vec<u8>, octets: &[u8]) {
    put_len(out, octets.len());
    out.extend_from_slice(octets);
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_octets(out, text.as_bytes());
}

pub(crate) fn put_option<T>(
    out: &mut Vec<u8>,
    value: Option<&T>,
    put: impl FnOnce(&mut Vec<u8>, &T),
) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put(out, value);
        }
    }
}

pub(crate) fn put_list<T>(out: &mut Vec<u8>, items: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    put_len(out, items.len());
    for item in items {
        put(out, item);
    }
}

/// A list grows beyond this many items only as they are read: an item in memory is larger than on
/// disk.
const LIST_ITEMS_FIRST: usize = 64;
