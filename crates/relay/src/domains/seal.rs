//! Private keys under a key of the operator's: AES-256-GCM-SIV (RFC 8452), which forgives a nonce
//! that is drawn twice.
//!
//! Not pure: draws a nonce.

use std::fmt;

use anyhow::{Context as _, bail};
use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};

/// The key of the operator.
#[derive(Clone)]
pub struct SealingKey([u8; KEY_OCTETS]);

impl fmt::Debug for SealingKey {
    /// Shows nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKey").finish_non_exhaustive()
    }
}

impl SealingKey {
    /// Reads 64 hexadecimal digits, with blanks around them: `openssl rand -hex 32` writes them.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        let wanted = "a key is 64 hexadecimal digits: `openssl rand -hex 32` writes one";
        let mut key = [0; KEY_OCTETS];
        let is_hex = text.bytes().all(|digit| digit.is_ascii_hexdigit());
        if text.len() != 2 * KEY_OCTETS || !is_hex {
            bail!(wanted);
        }
        for (octet, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = str::from_utf8(digits).context(wanted)?;
            *octet = u8::from_str_radix(digits, 16).context(wanted)?;
        }
        Ok(Self(key))
    }

    /// Seals octets for a place, which is proven with them: nobody can move them to another.
    pub(super) fn seal(&self, octets: &[u8], place: &str) -> anyhow::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).context("there is no randomness")?;
        let mut sealed = octets.to_vec();
        let aad = Aad::from(place.as_bytes());
        let nonce_of = Nonce::assume_unique_for_key(nonce);
        self.key()?.seal_in_place_append_tag(nonce_of, aad, &mut sealed).context("cannot seal")?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// What [`Self::seal`] sealed for this place.
    pub(super) fn open(&self, sealed: &[u8], place: &str) -> anyhow::Result<Vec<u8>> {
        let wrong = "the key is sealed with another key of yours, or for another place";
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).context(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).context(wrong)?;
        let mut octets = sealed.to_vec();
        let aad = Aad::from(place.as_bytes());
        let opened = self.key()?.open_in_place(nonce, aad, &mut octets).context(wrong)?;
        Ok(opened.to_vec())
    }

    fn key(&self) -> anyhow::Result<LessSafeKey> {
        let key = UnboundKey::new(&AES_256_GCM_SIV, &self.0).context("the key cannot be used")?;
        Ok(LessSafeKey::new(key))
    }
}

const KEY_OCTETS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_with_its_key_and_at_its_place() {
        let key = |text: &str| SealingKey::parse(&text.repeat(32)).unwrap();
        let sealed = key("ab").seal(b"secret", "here").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(key("ab").open(&sealed, "here").unwrap(), b"secret");
        assert!(key("ab").open(&sealed, "there").is_err());
        assert!(key("cd").open(&sealed, "here").is_err());
        let mut changed = sealed;
        changed[20] ^= 1;
        assert!(key("ab").open(&changed, "here").is_err());
        assert!(key("ab").open(b"short", "here").is_err());
    }

    #[test]
    fn a_key_is_64_digits() {
        for text in ["", "ab", &"x".repeat(64), &"ab".repeat(33), &"+a".repeat(32)] {
            assert!(SealingKey::parse(text).is_err(), "{text}");
        }
        assert!(SealingKey::parse(&format!(" {}\n", "Ab".repeat(32))).is_ok());
    }
}
