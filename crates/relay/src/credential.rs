//! What we keep of a password: how it is written down, and whether a given one fits.
//!
//! Invariant: a line never holds the password or anything it can be computed from faster than by
//! guessing; comparing takes the same time wherever the first difference is. Not pure: a new line
//! draws its salts from the TLS provider.
//!
//! A line has two words, so that PLAIN, LOGIN and SCRAM-SHA-256 can all be served from the first
//! day: an Argon2id hash in the PHC form, and the keys of RFC 5802 §3 as `PostgreSQL` writes them:
//!
//! ```text
//! $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH SCRAM-SHA-256$4096:SALT$STOREDKEY:SERVERKEY
//! ```

use std::{fmt, num::NonZeroU32, str::FromStr};

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{constant_time, digest, hmac, pbkdf2, rand};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use merpati_mail::{precis, question::ScramKeys};

/// What is kept of one password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    argon2: Argon2Hash,
    scram: ScramKeys,
}

/// An Argon2id hash (RFC 9106) with what is needed to compute it again.
#[derive(Clone, PartialEq, Eq)]
struct Argon2Hash {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Credential {
    /// Reads a line that [`hash`] wrote.
    pub fn parse(line: &str) -> Result<Self, CredentialError> {
        let (phc, scram) = line.trim().split_once(' ').ok_or(CredentialError::Words)?;
        Ok(Self { argon2: Argon2Hash::parse(phc)?, scram: parse_scram(scram.trim())? })
    }

    /// What a new password leaves behind, with fresh salts and the costs of today.
    pub fn of(password: &str) -> Result<Self, CredentialError> {
        let password = &*precis::opaque(password).ok_or(CredentialError::Password)?;
        if password.len() > PASSWORD_OCTETS_MAX {
            return Err(CredentialError::Password);
        }
        let mut argon2 = Argon2Hash {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: random()?.to_vec(),
            hash: vec![0; HASH_OCTETS],
        };
        argon2.hash = argon2.compute(password)?;
        Ok(Self { argon2, scram: scram_keys(password, random()?.to_vec())? })
    }

    /// Whether the password, prepared (RFC 8265 §4.2), fits. Takes as long as the line's costs say:
    /// tens of milliseconds and tens of megabytes, so never on a thread that serves connections.
    pub fn verify(&self, password: &str) -> bool {
        if password.len() > PASSWORD_OCTETS_MAX {
            return false;
        }
        let computed = self.argon2.compute(password);
        computed.is_ok_and(|hash| {
            constant_time::verify_slices_are_equal(&hash, &self.argon2.hash).is_ok()
        })
    }

    /// The keys for SCRAM-SHA-256.
    pub const fn scram(&self) -> &ScramKeys {
        &self.scram
    }
}

impl fmt::Debug for Credential {
    /// Shows nothing that could be attacked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}

impl fmt::Display for Credential {
    /// The line that [`Credential::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Argon2Hash { memory_kib, passes, lanes, salt, hash } = &self.argon2;
        write!(
            f,
            "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${}${} ",
            STANDARD_NO_PAD.encode(salt),
            STANDARD_NO_PAD.encode(hash)
        )?;
        let ScramKeys { iterations, salt, stored_key, server_key } = &self.scram;
        write!(
            f,
            "SCRAM-SHA-256${iterations}:{}${}:{}",
            STANDARD.encode(salt),
            STANDARD.encode(stored_key),
            STANDARD.encode(server_key)
        )
    }
}

impl FromStr for Credential {
    type Err = CredentialError;

    fn from_str(line: &str) -> Result<Self, CredentialError> {
        Self::parse(line)
    }
}

/// The line for a new password, as `merpati credential hash` prints it.
pub fn hash(password: &str) -> Result<String, CredentialError> {
    Credential::of(password).map(|credential| credential.to_string())
}

/// Why a line is not a [`Credential`], or none can be made. Each reads as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialError {
    /// The first word is no Argon2id hash in the PHC form.
    Argon2,
    /// Its costs are outside of what we are ready to compute for each login.
    Costs,
    /// The password is empty or longer than 1,024 octets, or holds what cannot be typed or seen.
    Password,
    /// The machine gave no random numbers.
    Random,
    /// The second word has not the keys of SCRAM-SHA-256.
    Scram,
    /// There are not two words.
    Words,
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argon2 => "the first word is not an Argon2id hash ($argon2id$v=19$…)",
            Self::Costs => "the costs of the Argon2id hash are out of range",
            Self::Password => "a password has 1 to 1,024 octets and no control characters",
            Self::Random => "the machine gave no random numbers",
            Self::Scram => "the second word does not hold SCRAM-SHA-256 keys",
            Self::Words => "a credential is the line that `merpati credential hash` prints",
        })
    }
}

impl std::error::Error for CredentialError {}

impl Argon2Hash {
    fn parse(phc: &str) -> Result<Self, CredentialError> {
        let mut parts =
            phc.strip_prefix("$argon2id$v=19$").ok_or(CredentialError::Argon2)?.split('$');
        let mut next = || parts.next().ok_or(CredentialError::Argon2);
        let (costs, salt, hash) = (next()?, next()?, next()?);
        let mut costs = costs.split(',');
        let mut cost = |name: &str| {
            let value = costs.next().and_then(|cost| cost.strip_prefix(name));
            value.and_then(|value| value.parse::<u32>().ok()).ok_or(CredentialError::Argon2)
        };
        let (memory_kib, passes, lanes) = (cost("m=")?, cost("t=")?, cost("p=")?);
        let decode = |text| STANDARD_NO_PAD.decode(text).map_err(|_| CredentialError::Argon2);
        let (salt, hash) = (decode(salt)?, decode(hash)?);
        // A line from elsewhere must not make a login cost gigabytes or minutes.
        let fits = memory_kib <= MEMORY_KIB_MAX && passes <= PASSES_MAX && lanes <= LANES_MAX;
        if !fits || !(8..=64).contains(&salt.len()) || !(16..=64).contains(&hash.len()) {
            return Err(CredentialError::Costs);
        }
        Params::new(memory_kib, passes, lanes, Some(hash.len()))
            .map_err(|_| CredentialError::Costs)?;
        Ok(Self { memory_kib, passes, lanes, salt, hash })
    }

    fn compute(&self, password: &str) -> Result<Vec<u8>, CredentialError> {
        let mut hash = vec![0; self.hash.len()];
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(hash.len()))
            .map_err(|_| CredentialError::Costs)?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), &self.salt, &mut hash)
            .map_err(|_| CredentialError::Costs)?;
        Ok(hash)
    }
}

fn parse_scram(word: &str) -> Result<ScramKeys, CredentialError> {
    let read = || {
        let (salted, keys) = word.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = salted.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text| STANDARD.decode(text).ok()?.try_into().ok();
        Some(ScramKeys {
            iterations: iterations.parse().ok()?,
            salt: STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?,
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
    };
    read().ok_or(CredentialError::Scram)
}

/// RFC 5802 §3.
fn scram_keys(password: &str, salt: Vec<u8>) -> Result<ScramKeys, CredentialError> {
    let mut salted = [0; HASH_OCTETS];
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(algorithm, ITERATIONS, &salt, password.as_bytes(), &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client_key = hmac::sign(&key, b"Client Key");
    let octets = |octets: &[u8]| octets.try_into().map_err(|_| CredentialError::Scram);
    Ok(ScramKeys {
        iterations: ITERATIONS,
        salt,
        stored_key: octets(digest::digest(&digest::SHA256, client_key.as_ref()).as_ref())?,
        server_key: octets(hmac::sign(&key, b"Server Key").as_ref())?,
    })
}

fn random() -> Result<[u8; SALT_OCTETS], CredentialError> {
    let mut octets = [0; SALT_OCTETS];
    rand::fill(&mut octets).map_err(|_| CredentialError::Random)?;
    Ok(octets)
}

pub(crate) const SALT_OCTETS: usize = 16;
const HASH_OCTETS: usize = 32;
/// The costs that OWASP names first for Argon2id with little memory: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 32;
const LANES_MAX: u32 = 16;
/// RFC 7677 §4: at least 4,096.
pub(crate) const ITERATIONS: NonZeroU32 = NonZeroU32::new(4_096).expect("not zero");
/// A longer password is not looked at; it bounds what a client can make us hash.
const PASSWORD_OCTETS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_and_fits_only_its_password() {
        let line = hash("correct horse").unwrap();
        let credential = Credential::parse(&line).unwrap();
        assert_eq!(credential.to_string(), line);
        assert!(credential.verify("correct horse"));
        assert!(!credential.verify("correct horsf"));
        assert!(!credential.verify(""));
        assert!(!line.contains("horse") && !format!("{credential:?}").contains('$'));
        assert_ne!(hash("correct horse").unwrap(), line, "salts are fresh");
        let accented = Credential::of("cafe\u{301}").unwrap();
        assert!(accented.verify("caf\u{e9}"), "as clients have it prepared");
    }

    #[test]
    fn scram_keys_are_those_of_rfc_7677() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = scram_keys("pencil", salt).unwrap();
        // RFC 7677 §3: v = HMAC(ServerKey, AuthMessage).
        let auth = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let key = hmac::Key::new(hmac::HMAC_SHA256, &keys.server_key);
        let signature = STANDARD.encode(hmac::sign(&key, auth.as_bytes()));
        assert_eq!(signature, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn what_is_not_a_credential_says_why() {
        let scram = "SCRAM-SHA-256$4096:QUJD$\
            QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=:\
            QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";
        let phc = "$argon2id$v=19$m=64,t=1,p=1$QUJDREVGR0g$QUJDREVGR0hJSktMTU5PUA";
        assert!(Credential::parse(&format!("{phc} {scram}")).is_ok());
        for (line, why) in [
            (String::new(), CredentialError::Words),
            ("secret".to_owned(), CredentialError::Words),
            (format!("secret {scram}"), CredentialError::Argon2),
            (format!("{} {scram}", phc.replace("m=64", "m=9999999")), CredentialError::Costs),
            (format!("{phc} SCRAM-SHA-1$4096:QQ==$QQ==:QQ=="), CredentialError::Scram),
            (format!("{phc} {}", scram.replace("4096", "0")), CredentialError::Scram),
        ] {
            assert_eq!(Credential::parse(&line).err(), Some(why), "{line}");
        }
        for password in ["", "a\nb", &"x".repeat(PASSWORD_OCTETS_MAX + 1)] {
            assert_eq!(hash(password), Err(CredentialError::Password));
        }
        assert!(hash(&"x".repeat(PASSWORD_OCTETS_MAX)).is_ok(), "and none of it is cut off");
    }
}
