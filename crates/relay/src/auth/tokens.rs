//! Which issuers vouch for users, and with which keys.
//!
//! Invariant: where the keys cannot be read, nobody is let in and nobody is refused for good. Not
//! pure: reads files and the clock.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use merpati_mail::Domain;

use super::{
    jwk::{self, Key},
    jwt::{Token, Wanted},
};
use crate::{
    clock,
    config::{Name, access::TokenIssuer},
};

/// All issuers.
#[derive(Debug)]
pub(super) struct Tokens {
    issuers: Vec<Issuer>,
}

#[derive(Debug)]
struct Issuer {
    entry: TokenIssuer,
    kept: Mutex<Option<Kept>>,
}

/// The keys of a file, as long as it is the same.
#[derive(Clone, Debug)]
struct Kept {
    stamp: Stamp,
    keys: Arc<Vec<Key>>,
}

/// By which a file is known to be the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size_bytes: u64,
    modified: Option<SystemTime>,
}

/// For whom an issuer vouches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bearer {
    /// The name of the issuer in the configuration.
    pub(super) issuer: Name,
    /// What its token calls the user; never empty.
    pub(super) user: String,
    /// In which domains the issuer vouches for users who are in no list.
    pub(super) domains: Vec<Domain>,
}

/// Why a token leads to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is no good.
    Denied,
    /// Keys cannot be read.
    Unavailable,
}

impl Tokens {
    /// These issuers. Files that cannot be read now are told, and read again when they are needed.
    pub(super) fn new(entries: &[TokenIssuer]) -> Self {
        let issuers: Vec<Issuer> = entries
            .iter()
            .map(|entry| Issuer { entry: entry.clone(), kept: Mutex::default() })
            .collect();
        for issuer in &issuers {
            issuer.keys();
        }
        Self { issuers }
    }

    /// Whom a token speaks for. Reads files, so never on a thread that serves connections.
    pub(super) fn check(&self, text: &str) -> Result<Bearer, Refused> {
        let now = clock::wall().as_secs();
        let token = Token::parse(text).map_err(|why| {
            tracing::debug!(%why, "a token is refused");
            Refused::Denied
        })?;
        let mut refused = Refused::Denied;
        let said = |issuer: &&Issuer| token.issuer() == Some(&issuer.entry.issuer);
        for issuer in self.issuers.iter().filter(said) {
            let TokenIssuer {
                name, issuer: iss, audience, algorithms, user_claim, domains, ..
            } = &issuer.entry;
            let Some(keys) = issuer.keys() else {
                refused = Refused::Unavailable;
                continue;
            };
            let wanted = Wanted { issuer: iss, audience, algorithms, user_claim };
            match token.verify(&wanted, &keys, now) {
                Ok(user) => {
                    return Ok(Bearer { issuer: name.clone(), user, domains: domains.clone() });
                }
                Err(why) => tracing::debug!(issuer = %name, %why, "a token is refused"),
            }
        }
        Err(refused)
    }
}

impl Issuer {
    /// The keys as the file has them now; `None`, with a warning, where it cannot be read.
    fn keys(&self) -> Option<Arc<Vec<Key>>> {
        let path = &self.entry.keys;
        let read = || -> Result<Arc<Vec<Key>>, String> {
            let stamp = Stamp::of(path).map_err(|error| error.to_string())?;
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(kept) = kept.as_ref().filter(|kept| kept.stamp == stamp) {
                return Ok(Arc::clone(&kept.keys));
            }
            let text = read_bounded(path).map_err(|error| error.to_string())?;
            let keys = Arc::new(jwk::parse(&text)?);
            *kept = Some(Kept { stamp, keys: Arc::clone(&keys) });
            Ok(keys)
        };
        read()
            .inspect_err(|why| {
                let issuer = &self.entry.name;
                tracing::warn!(%issuer, file = %path.display(), why, "no keys for tokens");
            })
            .ok()
    }
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let file = fs::metadata(path)?;
        Ok(Self { inode: file.ino(), size_bytes: file.len(), modified: file.modified().ok() })
    }
}

fn read_bounded(path: &PathBuf) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(FILE_OCTETS_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// A file of keys is cut off here.
const FILE_OCTETS_MAX: u64 = 1 << 20;

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
