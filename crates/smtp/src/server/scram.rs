//! What a server says in SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677, RFC 9266).
//!
//! Invariants: a credential is proven only by who has the key that the password leads to, in this
//! very exchange, and where both ends can bind it, in this very TLS session. An unknown user takes
//! the same steps as a known one, to the same end as a wrong proof.
//!
//! Pure: keys, nonce and channel binding are arguments.

use std::fmt;

use aws_lc_rs::{constant_time, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use merpati_mail::{precis, question::Verifier};

use crate::scram::{is_printable, mixed, signed};

/// How the exchange is bound to the TLS session below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// It is, by this value of `tls-exporter` (RFC 9266): SCRAM-SHA-256-PLUS.
    Bound([u8; super::Channel::BINDING_OCTETS]),
    /// It could have been: a client that says that we could not was lied to.
    Declined,
    /// It cannot be.
    Impossible,
}

/// What the client said first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct First {
    /// As whom the client authenticates, prepared.
    pub(super) user: String,
    /// What `c=` of the last message has to say: the header, and the channel binding behind it.
    bound: Vec<u8>,
    /// `n=…,r=…`, which both signatures cover.
    bare: String,
    /// The client's part of the nonce.
    nonce: String,
}

/// An exchange whose challenge was sent.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Challenged {
    first: First,
    verifier: Box<Verifier>,
    /// The nonce of both.
    nonce: String,
    /// What we said, which both signatures cover.
    challenge: String,
}

/// What came of the last message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The proof was wrong, for this user.
    Nothing { user: String },
    /// It was right: this signature shows the client that we know the password too.
    Proof { user: String, credential: String, signature: String },
}

/// Why a message leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breach {
    /// Somebody between us took the mechanism with channel binding out of our list (RFC 5802 §6),
    /// or the client binds to something else, or acts for somebody else.
    Denied,
    /// It is not the message that the grammar wants here.
    Malformed,
}

impl First {
    /// Reads the first message of the client: `n,,n=user,r=nonce`.
    pub(super) fn parse(message: &str, binding: &Binding) -> Result<Self, Breach> {
        let mut parts = message.splitn(3, ',');
        let (Some(flag), Some(acts_as), Some(bare)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(Breach::Malformed);
        };
        let mut bound = format!("{flag},{acts_as},").into_bytes();
        match (flag, binding) {
            ("n" | "y", Binding::Impossible) | ("n", Binding::Declined) => {}
            ("p=tls-exporter", Binding::Bound(value)) => bound.extend(value),
            ("y", Binding::Declined) => return Err(Breach::Denied),
            // RFC 5802 §6: a type of channel binding that we do not have.
            (other, Binding::Bound(_)) if other.starts_with("p=") => return Err(Breach::Denied),
            _ => return Err(Breach::Malformed),
        }
        // RFC 5802 §7: an `m=` in front is an extension that must not be ignored, and we know none.
        let (name, behind) = bare.split_once(',').ok_or(Breach::Malformed)?;
        let nonce = behind.split(',').next().and_then(|part| part.strip_prefix("r="));
        let is_nonce = |nonce: &&str| {
            (1..=NONCE_OCTETS_MAX).contains(&nonce.len()) && nonce.bytes().all(is_printable)
        };
        let nonce = nonce.filter(is_nonce).ok_or(Breach::Malformed)?;
        let user = name.strip_prefix("n=").and_then(unescaped).ok_or(Breach::Malformed)?;
        let user = prepared(&user)?;
        if !acts_as.is_empty() {
            let acts_as = acts_as.strip_prefix("a=").and_then(unescaped);
            // Nobody may act for somebody else.
            if prepared(&acts_as.ok_or(Breach::Malformed)?)? != user {
                return Err(Breach::Denied);
            }
        }
        Ok(Self { user, bound, bare: bare.to_owned(), nonce: nonce.to_owned() })
    }

    /// The exchange and its challenge, not yet in base64.
    pub(super) fn challenge(self, verifier: Box<Verifier>) -> Challenged {
        let nonce = format!("{}{}", self.nonce, STANDARD.encode(verifier.nonce));
        let keys = &verifier.keys;
        let challenge =
            format!("r={nonce},s={},i={}", STANDARD.encode(&keys.salt), keys.iterations);
        Challenged { first: self, verifier, nonce, challenge }
    }
}

impl Challenged {
    /// What we say first.
    pub(super) fn challenge(&self) -> &str {
        &self.challenge
    }

    /// Reads the last message of the client: `c=…,r=…,p=…`.
    pub(super) fn finish(self, message: &str) -> Result<Shown, Breach> {
        let (bare, proof) = message.rsplit_once(",p=").ok_or(Breach::Malformed)?;
        let proof = STANDARD.decode(proof).map_err(|_| Breach::Malformed)?;
        let mut parts = bare.split(',');
        let bound = parts.next().and_then(|part| part.strip_prefix("c="));
        let nonce = parts.next().and_then(|part| part.strip_prefix("r="));
        let (Some(bound), Some(nonce)) = (bound, nonce) else { return Err(Breach::Malformed) };
        let bound = STANDARD.decode(bound).map_err(|_| Breach::Malformed)?;

        let all = format!("{},{},{bare}", self.first.bare, self.challenge);
        let keys = &self.verifier.keys;
        let client_signature = signed(&keys.stored_key, all.as_bytes());
        let client_key = mixed(&proof, client_signature.as_ref());
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        let is =
            |one: &[u8], other: &[u8]| constant_time::verify_slices_are_equal(one, other).is_ok();
        // All of it, whatever comes out of the parts: what is wrong is nobody's business.
        let is_proven = is(stored_key.as_ref(), &keys.stored_key)
            & (proof.len() == digest::SHA256_OUTPUT_LEN)
            & is(&bound, &self.first.bound)
            & is(nonce.as_bytes(), self.nonce.as_bytes());
        let user = self.first.user;
        match self.verifier.credential {
            Some(credential) if is_proven => {
                let signature = signed(&keys.server_key, all.as_bytes());
                let signature = format!("v={}", STANDARD.encode(signature.as_ref()));
                Ok(Shown::Proof { user, credential, signature })
            }
            Some(_) | None => Ok(Shown::Nothing { user }),
        }
    }
}

impl fmt::Debug for Challenged {
    /// Shows nothing that could be attacked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenged").field("user", &self.first.user).finish_non_exhaustive()
    }
}

/// RFC 5802 §5.1: comma and equals sign are written as `=2C` and `=3D`, and nothing else is.
pub(super) fn unescaped(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (escaped, rest) = part.split_at_checked(2)?;
        text.push(match escaped {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        text.push_str(rest);
    }
    Some(text)
}

/// A name that cannot be prepared is nobody's.
fn prepared(name: &str) -> Result<String, Breach> {
    precis::opaque(name).map(String::from).ok_or(Breach::Denied)
}

/// The longest nonce of a client in octets; common are 32.
const NONCE_OCTETS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use merpati_mail::question::ScramKeys;

    use super::*;

    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const BOUND: Binding = Binding::Bound([7; 32]);

    fn key(text: &str) -> [u8; 32] {
        STANDARD.decode(text).unwrap().try_into().unwrap()
    }

    /// The keys of the password `pencil` with the salt of RFC 7677 §3.
    fn verifier(credential: Option<&str>) -> Box<Verifier> {
        Box::new(Verifier {
            credential: credential.map(str::to_owned),
            keys: ScramKeys {
                iterations: NonZeroU32::new(4_096).unwrap(),
                salt: STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(),
                stored_key: key("WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="),
                server_key: key("wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="),
            },
            nonce: [0; Verifier::NONCE_OCTETS],
        })
    }

    fn challenged(first: &str, binding: &Binding, credential: Option<&str>) -> Challenged {
        First::parse(first, binding).unwrap().challenge(verifier(credential))
    }

    /// The last message of a client that knows the password.
    fn last(challenged: &Challenged, bound: &[u8]) -> String {
        let mut salted = [0; 32];
        let keys = &challenged.verifier.keys;
        let algorithm = aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA256;
        aws_lc_rs::pbkdf2::derive(algorithm, keys.iterations, &keys.salt, b"pencil", &mut salted);
        let client_key = signed(&salted, b"Client Key");
        let bare = format!("c={},r={}", STANDARD.encode(bound), challenged.nonce);
        let all = format!("{},{},{bare}", challenged.first.bare, challenged.challenge);
        let signature = signed(&keys.stored_key, all.as_bytes());
        let proof = mixed(client_key.as_ref(), signature.as_ref());
        format!("{bare},p={}", STANDARD.encode(proof))
    }

    #[test]
    fn who_knows_the_password_is_believed_and_learns_that_we_know_it_too() {
        let bound = [&b"p=tls-exporter,a=user,"[..], &[7; 32]].concat();
        for (first, binding, bound) in [
            (FIRST, Binding::Impossible, &b"n,,"[..]),
            ("n,a=user,n=user,r=x", Binding::Impossible, b"n,a=user,"),
            ("y,,n=user,r=x", Binding::Impossible, b"y,,"),
            ("n,,n=user,r=x", Binding::Declined, b"n,,"),
            ("p=tls-exporter,a=user,n=user,r=x", BOUND, &bound),
        ] {
            let challenged = challenged(first, &binding, Some("ani"));
            assert!(challenged.challenge().ends_with(",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
            let last = last(&challenged, bound);
            let shown = challenged.clone().finish(&last).unwrap();
            let Shown::Proof { user, credential, signature } = shown else { panic!("{first}") };
            assert_eq!((&*user, &*credential), ("user", "ani"));
            let (bare, _) = last.rsplit_once(",p=").unwrap();
            let all = format!("{},{},{bare}", challenged.first.bare, challenged.challenge);
            let want = signed(&challenged.verifier.keys.server_key, all.as_bytes());
            assert_eq!(signature, format!("v={}", STANDARD.encode(want.as_ref())));
        }
    }

    #[test]
    fn a_proof_is_good_for_one_exchange_in_one_tls_session_only() {
        let nothing = Ok(Shown::Nothing { user: "user".to_owned() });
        let good = challenged(FIRST, &Binding::Impossible, Some("ani"));
        let last_message = last(&good, b"n,,");
        let check = |message: &str| good.clone().finish(message);
        assert_ne!(check(&last_message), nothing);
        let (bare, proof) = last_message.rsplit_once(",p=").unwrap();
        for message in [
            format!("{bare},p={}", STANDARD.encode([7; 32])),
            format!("{bare},p={}", STANDARD.encode([7; 31])),
            format!("{bare},p="),
            format!("{bare},x=later,p={proof}"),
            last_message.replace("r=rOpr", "r=xOpr"),
            format!("c=biws,r=rOprNGfwEbeRWgbNEkqO,p={proof}"),
            last_message.replace("c=biws", "c=eSws"),
            last(&good, b"y,,"),
            last(&good, b"n,,x"),
            last(&good, b""),
        ] {
            assert_eq!(check(&message), nothing, "{message}");
        }
        let bound = challenged("p=tls-exporter,,n=user,r=x", &BOUND, Some("ani"));
        let other = last(&bound, &[&b"p=tls-exporter,,"[..], &[8; 32]].concat());
        assert_eq!(bound.clone().finish(&other), nothing, "bound to another session");
        let unbound = last(&bound, b"p=tls-exporter,,");
        assert_eq!(bound.finish(&unbound), nothing, "bound to nothing");
        let unknown = challenged(FIRST, &Binding::Impossible, None);
        let message = last(&unknown, b"n,,");
        assert_eq!(unknown.finish(&message), nothing, "a user whom we do not know");
    }

    #[test]
    fn a_last_message_outside_of_the_grammar_is_malformed() {
        let good = challenged(FIRST, &Binding::Impossible, Some("ani"));
        let whole = last(&good, b"n,,");
        for junk in ["", "p=", "c=biws,r=x", "r=x,c=biws,p=AA==", "c=!,r=x,p=AA==", "c=biws,p=AA=="]
        {
            assert_eq!(good.clone().finish(junk), Err(Breach::Malformed), "{junk}");
        }
        assert_eq!(good.finish(&format!("{whole}!")), Err(Breach::Malformed));
    }

    #[test]
    fn a_first_message_is_read_to_the_letter() {
        let check = |message: &str, binding: &Binding| {
            First::parse(message, binding).map(|first| first.user)
        };
        for (message, want) in [
            ("n,,n=a=2Cb=3Dc,r=x", Ok("a,b=c".to_owned())),
            ("n,,n=caf\u{65}\u{301},r=x", Ok("caf\u{e9}".to_owned())),
            ("n,,n=user,r=x,x=later", Ok("user".to_owned())),
            ("n,a=other,n=user,r=x", Err(Breach::Denied)),
            ("n,,n=,r=x", Err(Breach::Denied)),
            ("n,,n=a\0b,r=x", Err(Breach::Denied)),
            ("", Err(Breach::Malformed)),
            ("n", Err(Breach::Malformed)),
            ("n,,", Err(Breach::Malformed)),
            ("n,,n=user", Err(Breach::Malformed)),
            ("n,,n=user,r=", Err(Breach::Malformed)),
            ("n,,n=user,r=a b", Err(Breach::Malformed)),
            ("n,,r=x,n=user", Err(Breach::Malformed)),
            ("n,,m=must,n=user,r=x", Err(Breach::Malformed)),
            ("n,user,n=user,r=x", Err(Breach::Malformed)),
            ("n,,n=a=b,r=x", Err(Breach::Malformed)),
            ("n,,n=a=2c,r=x", Err(Breach::Malformed)),
            ("x,,n=user,r=x", Err(Breach::Malformed)),
            ("p=tls-exporter,,n=user,r=x", Err(Breach::Malformed)),
        ] {
            assert_eq!(check(message, &Binding::Impossible), want, "{message}");
        }
        let long = format!("n,,n=user,r={}", "x".repeat(NONCE_OCTETS_MAX + 1));
        assert_eq!(check(&long, &Binding::Impossible), Err(Breach::Malformed));
    }

    #[test]
    fn who_was_told_that_we_cannot_bind_was_lied_to() {
        let check = |flag: &str, binding: &Binding| {
            First::parse(&format!("{flag},,n=user,r=x"), binding).err()
        };
        assert_eq!(check("y", &Binding::Declined), Some(Breach::Denied));
        assert_eq!(check("n", &Binding::Declined), None);
        assert_eq!(check("p=tls-exporter", &Binding::Declined), Some(Breach::Malformed));
        assert_eq!(check("p=tls-unique", &BOUND), Some(Breach::Denied));
        assert_eq!(check("y", &BOUND), Some(Breach::Malformed));
        assert_eq!(check("n", &BOUND), Some(Breach::Malformed));
    }
}
