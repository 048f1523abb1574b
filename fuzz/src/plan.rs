//! What the first line of the octets decides: options, answers and cuts.
//!
//! Invariant: a plan never ends; where its octets do, everything goes well. Pure.

use merpati_mail::Draw;

/// The octets of the first line, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Plan<'a> {
    octets: &'a [u8],
}

impl<'a> Plan<'a> {
    /// The plan and what stands behind it.
    pub(crate) fn split(octets: &'a [u8]) -> (Self, &'a [u8]) {
        let end = octets.iter().position(|&octet| octet == b'\n').unwrap_or(octets.len());
        let (plan, rest) = octets.split_at(end);
        (Self { octets: plan }, rest.get(1..).unwrap_or_default())
    }

    /// The next octet; 0 behind the end. The digits 0 to 9 are the numbers 0 to 9.
    pub(crate) fn next(&mut self) -> u8 {
        let Some((&octet, rest)) = self.octets.split_first() else { return 0 };
        self.octets = rest;
        octet.wrapping_sub(b'0')
    }

    /// The next octet, below `end`.
    pub(crate) fn below(&mut self, end: u8) -> u8 {
        self.next() % end
    }
}

/// Chance that depends on nothing but the octets.
pub(crate) fn draw_from(octets: &[u8]) -> Draw {
    // FNV-1a.
    let hash = octets.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    });
    Draw::new(hash)
}

/// Cuts octets into pieces of 1 to `max` octets.
pub(crate) fn pieces(mut octets: &[u8], max: u64, draw: &mut Draw) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    while !octets.is_empty() {
        let at = usize::try_from(1 + draw.below(max)).unwrap_or(1).min(octets.len());
        let (piece, rest) = octets.split_at(at);
        pieces.push(piece.to_vec());
        octets = rest;
    }
    pieces
}
