//! What SCRAM-SHA-256 says (RFC 5802, RFC 7677), and whether the server knows the password too.
//!
//! Invariants: the password never leaves this module, and what leaves in its place is of use to
//! nobody without the work of [`ITERATIONS_MIN`] rounds for each guess; a server is believed only
//! when it has shown the signature that belongs to this very exchange.
//!
//! Pure: the nonce is an argument. There is no channel binding, which `n,,` says openly.
//!
//! RFC 5802 §2.2 has name and password prepared with `SASLprep`; here they go in as the UTF-8 that
//! they are. For printable ASCII both are the same. Whoever has other characters in a password
//! gives it in the form in which the server stored it.

use std::{fmt, num::NonZeroU32};

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::scram::{is_printable, mixed, signed};

/// Fewest rounds that a server may ask for (RFC 7677 §4): with fewer, one who plays the server
/// could guess the password cheaply.
pub const ITERATIONS_MIN: u32 = 4_096;
/// Most rounds that a server may ask for: a fifth of a second of work, spent on its word alone.
pub const ITERATIONS_MAX: u32 = 1_000_000;
/// Longest salt, in octets. Common are 16.
pub const SALT_OCTETS_MAX: usize = 256;

/// The client's part of what makes an exchange unlike all others (RFC 5802 §5.1, attribute `r`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// From 24 random octets, drawn for one connection and never used again.
    pub fn from_random(octets: [u8; 24]) -> Self {
        Self(STANDARD.encode(octets))
    }

    /// From text that was drawn elsewhere; `None` unless it is 1 to 128 printable characters of
    /// ASCII without comma (RFC 5802 §7 `printable`).
    pub fn parse(text: &str) -> Option<Self> {
        ((1..=128).contains(&text.len()) && text.bytes().all(is_printable))
            .then(|| Self(text.to_owned()))
    }
}

/// An exchange whose first message is made.
#[derive(Debug)]
pub(super) struct Exchange {
    nonce: Nonce,
    /// `n=…,r=…`, which both signatures cover.
    first_bare: String,
}

/// What the server has to show to be believed.
#[derive(Debug)]
pub(super) struct Expected {
    signature: hmac::Tag,
}

/// What is wrong with a message of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breach {
    /// The rounds are not a number from [`ITERATIONS_MIN`] to [`ITERATIONS_MAX`].
    Iterations,
    /// It is not the message that the grammar wants here, or not in Base64.
    Malformed,
    /// Its nonce is not ours with more behind it.
    Nonce,
    /// It names an error in place of a signature.
    Refused,
    /// The signature is not the one that knowledge of the password leads to.
    Signature,
}

impl Exchange {
    pub(super) fn new(user: &str, nonce: &Nonce) -> Self {
        // RFC 5802 §5.1: comma and equals sign are the only characters that are written otherwise.
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Self { first_bare: format!("n={user},r={}", nonce.0), nonce: nonce.clone() }
    }

    /// The first message of the client, not yet in Base64.
    pub(super) fn first(&self) -> String {
        format!("{GS2_HEADER}{}", self.first_bare)
    }

    /// The last message of the client for this challenge, which is in Base64, and what the server
    /// must answer. Derives the key, which takes as long as the server wished.
    pub(super) fn last(
        &self,
        challenge: &str,
        password: &str,
    ) -> Result<(String, Expected), Breach> {
        let challenge = decoded(challenge)?;
        let Challenge { nonce, salt, iterations } = Challenge::parse(&challenge)?;
        // RFC 5802 §5.1: without this a server could have the answer to another exchange replayed.
        if nonce.strip_prefix(&self.nonce.0).is_none_or(str::is_empty) {
            return Err(Breach::Nonce);
        }
        let mut salted = [0; digest::SHA256_OUTPUT_LEN];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, iterations, &salt, password.as_bytes(), &mut salted);
        let client_key = signed(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        let server_key = signed(&salted, b"Server Key");

        let bare = format!("c={},r={nonce}", STANDARD.encode(GS2_HEADER));
        let all = format!("{},{challenge},{bare}", self.first_bare);
        let client_signature = signed(stored_key.as_ref(), all.as_bytes());
        let proof = mixed(client_key.as_ref(), client_signature.as_ref());
        let signature = signed(server_key.as_ref(), all.as_bytes());
        Ok((format!("{bare},p={}", STANDARD.encode(proof)), Expected { signature }))
    }
}

impl Expected {
    /// Whether this last message of the server, in Base64, shows that it knows the password.
    pub(super) fn check(&self, message: &str) -> Result<(), Breach> {
        let message = decoded(message)?;
        let first = message.split(',').next().unwrap_or_default();
        if first.starts_with("e=") {
            return Err(Breach::Refused);
        }
        let shown = first.strip_prefix("v=").ok_or(Breach::Malformed)?;
        let shown = STANDARD.decode(shown).map_err(|_| Breach::Malformed)?;
        constant_time::verify_slices_are_equal(self.signature.as_ref(), &shown)
            .map_err(|_| Breach::Signature)
    }
}

/// The first message of the server: `r=nonce,s=salt,i=rounds`.
struct Challenge<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl<'a> Challenge<'a> {
    /// The order is fixed (RFC 5802 §7). What stands behind may be ignored; an `m=` in front is an
    /// extension that may not, and we know none.
    fn parse(message: &'a str) -> Result<Self, Breach> {
        let mut parts = message.split(',');
        let mut part = |name| parts.next().and_then(|part| part.strip_prefix(name));
        let nonce = part("r=").filter(|nonce| nonce.bytes().all(is_printable));
        let (Some(nonce), Some(salt), Some(iterations)) = (nonce, part("s="), part("i=")) else {
            return Err(Breach::Malformed);
        };
        let salt = STANDARD.decode(salt).map_err(|_| Breach::Malformed)?;
        if salt.is_empty() || salt.len() > SALT_OCTETS_MAX {
            return Err(Breach::Malformed);
        }
        Ok(Self { nonce, salt, iterations: rounds(iterations).ok_or(Breach::Iterations)? })
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iterations => write!(
                f,
                "SCRAM: the rounds are not a number from {ITERATIONS_MIN} to {ITERATIONS_MAX}"
            ),
            Self::Malformed => f.write_str("SCRAM: the server's message is malformed"),
            Self::Nonce => f.write_str("SCRAM: the server's nonce does not continue ours"),
            Self::Refused => f.write_str("SCRAM: the server names an error and no signature"),
            Self::Signature => f.write_str("SCRAM: the server does not know the password"),
        }
    }
}

fn rounds(text: &str) -> Option<NonZeroU32> {
    // `parse` alone would take a sign too.
    let is_number = !text.starts_with('0') && text.bytes().all(|octet| octet.is_ascii_digit());
    let rounds = text.parse().ok().filter(|_| is_number)?;
    NonZeroU32::new(rounds).filter(|n| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&n.get()))
}

fn decoded(message: &str) -> Result<String, Breach> {
    let octets = STANDARD.decode(message).map_err(|_| Breach::Malformed)?;
    String::from_utf8(octets).map_err(|_| Breach::Malformed)
}

/// RFC 5802 §7: no channel binding, and no name to act for other than the one that authenticates.
const GS2_HEADER: &str = "n,,";

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

    fn exchange() -> Exchange {
        Exchange::new("user", &Nonce::parse(NONCE).unwrap())
    }

    #[track_caller]
    fn check_challenge(challenge: &str, want: Option<Breach>) {
        let got = exchange().last(&STANDARD.encode(challenge), "pencil").err();
        assert_eq!(got, want, "{challenge}");
    }

    #[test]
    fn a_challenge_outside_of_the_grammar_and_the_limits_is_refused() {
        let salt = "s=W22ZaJ0SNY7soEsUEjb6gQ==";
        let whole = format!("r={NONCE}x,{salt},i=4096");
        check_challenge(&whole, None);
        check_challenge(&format!("{whole},x=later"), None);
        for rounds in ["4095", "1000001", "0", "", "04096", "+4096", "-1", "4096 ", "99999999999"] {
            check_challenge(&format!("r={NONCE}x,{salt},i={rounds}"), Some(Breach::Iterations));
        }
        for nonce in [NONCE, "", "rOprNGfwEbeRWgbNEkq", "xrOprNGfwEbeRWgbNEkqOx"] {
            check_challenge(&format!("r={nonce},{salt},i=4096"), Some(Breach::Nonce));
        }
        let long_salt = STANDARD.encode([7; SALT_OCTETS_MAX + 1]);
        for junk in [
            "",
            ",,,",
            "r=x",
            &format!("m=must,{whole}"),
            &format!("{salt},r={NONCE}x,i=4096"),
            &format!("r={NONCE}x,s=,i=4096"),
            &format!("r={NONCE}x,s=!,i=4096"),
            &format!("r={NONCE}x,s={long_salt},i=4096"),
            &format!("r={NONCE}\u{e9},{salt},i=4096"),
            &format!("r={NONCE} x,{salt},i=4096"),
        ] {
            check_challenge(junk, Some(Breach::Malformed));
        }
        for raw in ["", "%%%", "cj1", "/w==", &whole] {
            let wanted = Some(Breach::Malformed);
            assert_eq!(exchange().last(raw, "pencil").err(), wanted, "{raw}");
        }
    }

    #[test]
    fn the_most_rounds_that_are_allowed_are_done() {
        let challenge = format!("r={NONCE}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i={ITERATIONS_MAX}");
        check_challenge(&challenge, None);
    }

    #[test]
    fn only_the_signature_of_this_exchange_is_believed() {
        let challenge = format!("r={NONCE}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let (_, expected) = exchange().last(&STANDARD.encode(challenge), "pencil").unwrap();
        let signature = STANDARD.encode(expected.signature.as_ref());
        let check = |text: &str| expected.check(&STANDARD.encode(text));
        assert_eq!(check(&format!("v={signature}")), Ok(()));
        assert_eq!(check(&format!("v={signature},x=later")), Ok(()));
        assert_eq!(check("e=invalid-proof"), Err(Breach::Refused));
        assert_eq!(check("v="), Err(Breach::Signature));
        assert_eq!(check("v=AAAA"), Err(Breach::Signature));
        let of_another = format!("v={}", STANDARD.encode([0; 32]));
        assert_eq!(check(&of_another), Err(Breach::Signature));
        for junk in ["", "v", "v=!", "x=1", &signature] {
            assert_eq!(check(junk), Err(Breach::Malformed), "{junk}");
        }
        assert_eq!(expected.check("%"), Err(Breach::Malformed));
    }

    #[test]
    fn names_and_nonces_cannot_add_attributes() {
        let exchange = Exchange::new("a=b,c", &Nonce::from_random([0xff; 24]));
        assert_eq!(exchange.first(), format!("n,,n=a=3Db=2Cc,r={}", "/".repeat(32)));
        for junk in ["", "a,b", "a b", "\u{e9}", &"x".repeat(129)] {
            assert_eq!(Nonce::parse(junk), None, "{junk}");
        }
    }
}
