//! Whether a password belongs to a user.
//!
//! Invariant: hashing never runs on the threads of the connections and never in more than
//! `HASHES_MAX` places at once; an unknown user costs as much as a wrong password, so that
//! nobody learns which users exist. Not pure: it reads a clock and spawns.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::{hmac, rand};
use tokio::sync::Semaphore;

use super::{Found, users::Users};
use crate::credential::{Credential, CredentialError};

/// Compares passwords, with a memory of those that fitted lately.
#[derive(Debug)]
pub(super) struct Passwords {
    /// What the password of an unknown user is compared with; `None` where there is no password.
    dummy: Option<Arc<Credential>>,
    permits: Semaphore,
    /// Keyed, so that a dump of the memory gives nothing to guess against but with the key.
    key: hmac::Key,
    fitted: Mutex<HashMap<[u8; TAG_OCTETS], Instant>>,
}

impl Passwords {
    /// For these users.
    pub(super) fn new(users: &Users) -> Result<Self, CredentialError> {
        let mut secret = [0; TAG_OCTETS];
        rand::fill(&mut secret).map_err(|_| CredentialError::Random)?;
        Ok(Self {
            dummy: users.passwords().next().map(Arc::clone),
            permits: Semaphore::new(HASHES_MAX),
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            fitted: Mutex::default(),
        })
    }

    /// Whether this password belongs to this user; both are prepared.
    pub(super) async fn check(&self, users: &Users, user: &str, password: &str) -> Found {
        let tag = self.tag(user, password);
        let known = users.password(user);
        if known.is_some() && self.has_fitted(&tag) {
            return Found::Credential(user.to_owned());
        }
        // Waiting for a permit is bounded, so that guessing cannot stall those who know.
        let permit = tokio::time::timeout(PERMIT_WAIT, self.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else { return Found::Unknown };
        let Some(credential) = known.or(self.dummy.as_ref()).map(Arc::clone) else {
            return Found::Nobody;
        };
        let is_known = known.is_some();
        let password = password.to_owned();
        let verified = tokio::task::spawn_blocking(move || credential.verify(&password)).await;
        match verified {
            Ok(true) if is_known => {
                self.remember(tag);
                Found::Credential(user.to_owned())
            }
            Ok(_) => Found::Nobody,
            Err(_) => Found::Unknown,
        }
    }

    fn tag(&self, user: &str, password: &str) -> [u8; TAG_OCTETS] {
        let mut context = hmac::Context::with_key(&self.key);
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        context.update(&(user.len() as u64).to_be_bytes());
        context.update(user.as_bytes());
        context.update(password.as_bytes());
        context.sign().as_ref().try_into().unwrap_or_default()
    }

    fn has_fitted(&self, tag: &[u8; TAG_OCTETS]) -> bool {
        let fitted = self.fitted.lock().unwrap_or_else(PoisonError::into_inner);
        fitted.get(tag).is_some_and(|at| at.elapsed() < REMEMBERED_FOR)
    }

    fn remember(&self, tag: [u8; TAG_OCTETS]) {
        let mut fitted = self.fitted.lock().unwrap_or_else(PoisonError::into_inner);
        if fitted.len() >= REMEMBERED_MAX {
            fitted.retain(|_, at| at.elapsed() < REMEMBERED_FOR);
        }
        if fitted.len() < REMEMBERED_MAX {
            fitted.insert(tag, Instant::now());
        }
    }
}

/// How many passwords are hashed at once; each takes tens of megabytes.
const HASHES_MAX: usize = 4;
/// How long a session waits until its password may be hashed; then 454 (RFC 4954 §6).
const PERMIT_WAIT: Duration = Duration::from_secs(10);
/// How long a password that fitted is not hashed again: clients log in anew for each message.
const REMEMBERED_FOR: Duration = Duration::from_mins(5);
/// How many of them.
const REMEMBERED_MAX: usize = 10_000;
const TAG_OCTETS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::access::CredentialEntry;

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_granted() {
        let mut disabled = CredentialEntry::for_test("budi", "open sesame");
        disabled.enabled = false;
        let users = Users::of(&[CredentialEntry::for_test("ali", "open sesame"), disabled]);
        let passwords = Passwords::new(&users).unwrap();
        let granted = Found::Credential("ali".to_owned());
        for (user, password, want) in [
            ("ali", "open sesame", granted.clone()),
            ("ali", "open barley", Found::Nobody),
            ("kasim", "open sesame", Found::Nobody),
            ("budi", "open sesame", Found::Nobody),
            ("ali", "open sesame", granted),
        ] {
            assert_eq!(passwords.check(&users, user, password).await, want, "{user}");
        }
        assert_eq!(passwords.fitted.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn where_there_is_no_user_nobody_is_granted() {
        let users = Users::of(&[]);
        let passwords = Passwords::new(&users).unwrap();
        assert_eq!(passwords.check(&users, "ali", "x").await, Found::Nobody);
    }
}
