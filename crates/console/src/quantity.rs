//! What a quantity means that a person wrote: `5 min`, `25 MiB`.
//!
//! Invariant: what [`duration`] and [`bytes()`] write, they read back unchanged. Pure.

use std::{fmt, time::Duration};

/// Reads a duration: numbers with units, added up, such as `30 s`, `5min`, `1 h 30 min`.
///
/// Units: `ms`, `s`, `min` (or `m`), `h`, `d`. A number without a unit is refused, except `0`.
pub fn duration(text: &str) -> Result<Duration, QuantityError> {
    let millis = sum(text, &DURATIONS)?;
    Ok(Duration::from_millis(millis))
}

/// Reads a number of octets: numbers with units, added up, such as `25 MiB`, `64 kB`, `512 B`.
///
/// `KiB`, `MiB`, `GiB`, `TiB` (also `K`, `M`, `G`, `T` and in lower case) are powers of 1,024;
/// `kB`, `MB`, `GB`, `TB` are powers of 1,000. A number without a unit counts octets.
pub fn bytes(text: &str) -> Result<u64, QuantityError> {
    match text.trim().parse() {
        Ok(plain) => Ok(plain),
        Err(_) => sum(text, &SIZES),
    }
}

/// Writes a duration so that [`duration`] reads it back; parts below a millisecond are left out.
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(millis, &[("d", DAY), ("h", HOUR), ("min", MINUTE), ("s", SECOND), ("ms", 1)])
}

/// Writes a number of octets so that [`bytes()`] reads it back: in the largest unit that fits.
pub fn show_bytes(bytes: u64) -> String {
    show(bytes, &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)])
}

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuantityError {
    /// It is above 2^64.
    Huge,
    /// A number stands without a unit.
    NoUnit,
    /// It does not begin with a number.
    NotANumber,
    /// A unit that is not known, with the known ones.
    Unit(String, &'static str),
}

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Huge => f.write_str("the number is too large"),
            Self::NoUnit => f.write_str("a unit is missing, as in `30 s` or `5 min`"),
            Self::NotANumber => f.write_str("a whole number with a unit is wanted"),
            Self::Unit(unit, known) => write!(f, "`{unit}` is not a unit; known are {known}"),
        }
    }
}

impl std::error::Error for QuantityError {}

struct Units {
    known: &'static str,
    units: &'static [(&'static str, u64)],
}

fn sum(text: &str, units: &Units) -> Result<u64, QuantityError> {
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(0);
    }
    let mut total = 0u64;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, tail) = rest.split_at(end);
        if digits.is_empty() {
            return Err(QuantityError::NotANumber);
        }
        let number: u64 = digits.parse().map_err(|_| QuantityError::Huge)?;
        let tail = tail.trim_start();
        let end = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        if unit.is_empty() {
            return Err(QuantityError::NoUnit);
        }
        let (_, factor) = units
            .units
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| QuantityError::Unit(unit.to_owned(), units.known))?;
        let part = number.checked_mul(*factor).ok_or(QuantityError::Huge)?;
        total = total.checked_add(part).ok_or(QuantityError::Huge)?;
        rest = tail.trim_start();
        if rest.is_empty() {
            return Ok(total);
        }
    }
}

fn show(amount: u64, units: &[(&str, u64)]) -> String {
    units
        .iter()
        .find(|(_, factor)| amount >= *factor && amount.is_multiple_of(*factor))
        .map_or_else(|| "0".to_owned(), |(unit, factor)| format!("{} {unit}", amount / factor))
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const DURATIONS: Units = Units {
    known: "ms, s, min, h, d",
    units: &[("ms", 1), ("s", SECOND), ("min", MINUTE), ("m", MINUTE), ("h", HOUR), ("d", DAY)],
};

const SIZES: Units = Units {
    known: "B, KiB, MiB, GiB, TiB, kB, MB, GB, TB",
    units: &[
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("T", 1 << 40),
        ("k", 1 << 10),
        ("m", 1 << 20),
        ("g", 1 << 30),
        ("t", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, seconds, shown) in [
            ("30 s", 30, "30 s"),
            ("5min", 300, "5 min"),
            ("1 h 30 min", 5_400, "90 min"),
            ("5 d", 432_000, "5 d"),
            ("0", 0, "0"),
        ] {
            let read = duration(text).unwrap();
            assert_eq!(read, Duration::from_secs(seconds), "{text}");
            assert_eq!(show_duration(read), shown);
            assert_eq!(duration(shown), Ok(read));
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, octets, shown) in [
            ("25 MiB", 25 << 20, "25 MiB"),
            ("1000", 1_000, "1000 B"),
            ("2kB", 2_000, "2000 B"),
            ("10k", 10_240, "10 KiB"),
            ("0", 0, "0"),
        ] {
            let read = bytes(text).unwrap();
            assert_eq!(read, octets, "{text}");
            assert_eq!(show_bytes(read), shown);
            assert_eq!(bytes(shown), Ok(read));
        }
    }

    #[test]
    fn what_is_not_a_quantity_says_why() {
        for (text, want) in [
            ("", QuantityError::NotANumber),
            ("soon", QuantityError::NotANumber),
            ("-5 s", QuantityError::NotANumber),
            ("30", QuantityError::NoUnit),
            ("1 h 30", QuantityError::NoUnit),
            ("99999999999999999999 s", QuantityError::Huge),
            ("18446744073709551615 d", QuantityError::Huge),
            ("3 weeks", QuantityError::Unit("weeks".to_owned(), DURATIONS.known)),
        ] {
            assert_eq!(duration(text), Err(want), "{text}");
        }
    }
}
