//! What both ends of SCRAM-SHA-256 compute (RFC 5802 §3).
//!
//! Pure.

use aws_lc_rs::hmac;

/// HMAC-SHA-256.
pub(crate) fn signed(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}

/// One text XOR the other, as long as the shorter.
pub(crate) fn mixed(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(one, other)| one ^ other).collect()
}

/// RFC 5802 §7 `printable`: what a nonce is made of.
pub(crate) const fn is_printable(octet: u8) -> bool {
    octet.is_ascii_graphic() && octet != b','
}
