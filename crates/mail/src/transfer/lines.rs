//! How long lines are, and how encoded text gets shorter ones (RFC 5322 §2.1.1, RFC 2045 §6.7,
//! §6.8).
//!
//! Invariant: what a decoder makes of the text stays the same. Pure.

use memchr::memchr_iter;

use super::{NotConvertible, content::Encoding, encode};
use crate::header::MAX_LINE_OCTETS;

/// The longest line of a content that comes in pieces, however it is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LongestLine {
    /// Octets of the line that has not ended yet, its CR among them.
    open: u64,
    longest: u64,
    ends_in_cr: bool,
}

impl LongestLine {
    /// Takes in the next octets.
    pub fn push(&mut self, octets: &[u8]) {
        let mut start = 0;
        for feed in memchr_iter(b'\n', octets) {
            let line = octets.get(start..feed).unwrap_or_default();
            let has_cr = line.last().map_or(self.ends_in_cr, |last| *last == b'\r');
            let length = self.open + line.len() as u64 - u64::from(has_cr);
            self.longest = self.longest.max(length);
            (self.open, self.ends_in_cr) = (0, false);
            start = feed + 1;
        }
        let rest = octets.get(start..).unwrap_or_default();
        self.open += rest.len() as u64;
        self.ends_in_cr = rest.last().map_or(self.ends_in_cr, |last| *last == b'\r');
    }

    /// Octets of the longest line so far, without its CRLF.
    pub fn octets(&self) -> u64 {
        self.longest.max(self.open - u64::from(self.ends_in_cr))
    }
}

/// Whether one of these lines is longer than [`MAX_LINE_OCTETS`].
pub(super) fn has_long_line(text: &[u8]) -> bool {
    let mut longest = LongestLine::default();
    if text.len() > MAX_LINE_OCTETS {
        longest.push(text);
    }
    longest.octets() > MAX_LINE_OCTETS as u64
}

/// Appends a body that is in base64 or quoted-printable with other line breaks, none of which a
/// decoder sees.
pub(super) fn broken_anew(
    body: &[u8],
    encoding: Encoding,
    out: &mut Vec<u8>,
) -> Result<(), NotConvertible> {
    match encoding {
        Encoding::Base64 => base64(body, out),
        Encoding::QuotedPrintable => quoted_printable(body, out),
        Encoding::EightBit | Encoding::Other | Encoding::SevenBit => Err(NotConvertible::Encoding),
    }
}

/// Some decoders stop at the first padding or at an octet that is not of the alphabet, others pass
/// over it: such a body cannot be broken anew.
fn base64(body: &[u8], out: &mut Vec<u8>) -> Result<(), NotConvertible> {
    let digits: Vec<u8> = body.iter().copied().filter(|o| !o.is_ascii_whitespace()).collect();
    let text = digits.strip_suffix(b"=").unwrap_or(&digits);
    let text = text.strip_suffix(b"=").unwrap_or(text);
    let is_digit = |o: &u8| o.is_ascii_alphanumeric() || matches!(o, b'+' | b'/');
    if !text.iter().all(is_digit) {
        return Err(NotConvertible::Encoding);
    }
    for (number, line) in digits.chunks(encode::COLUMNS_MAX).enumerate() {
        if number > 0 {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(line);
    }
    if body.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    Ok(())
}

/// Long lines get soft line breaks (RFC 2045 §6.7 (5)), never within an escaped octet.
fn quoted_printable(body: &[u8], out: &mut Vec<u8>) -> Result<(), NotConvertible> {
    for line in body.split_inclusive(|octet| *octet == b'\n') {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        if text.len() <= MAX_LINE_OCTETS {
            out.extend_from_slice(line);
            continue;
        }
        // A decoder drops blanks at the end of a line, but not before a soft line break.
        if matches!(text.last(), Some(b' ' | b'\t')) {
            return Err(NotConvertible::Encoding);
        }
        let (mut rest, mut columns) = (text, 0);
        while columns + rest.len() > encode::COLUMNS_MAX {
            // Room for the `=` of the break; an escaped octet before it stays whole.
            let room = encode::COLUMNS_MAX - 1 - columns;
            let cut = match rest.get(room - 2..room) {
                Some([b'=', _]) => room - 2,
                Some([_, b'=']) => room - 1,
                Some(_) | None => room,
            };
            let Some((piece, behind)) = rest.split_at_checked(cut) else { break };
            out.extend_from_slice(piece);
            out.extend_from_slice(b"=\r\n");
            (rest, columns) = (behind, 0);
            // So that no line begins like a delimiter.
            if let Some(behind) = behind.strip_prefix(b"-") {
                out.extend_from_slice(b"=2D");
                (rest, columns) = (behind, b"=2D".len());
            }
        }
        out.extend_from_slice(rest);
        out.extend_from_slice(line.get(text.len()..).unwrap_or_default());
    }
    Ok(())
}
