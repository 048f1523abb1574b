//! Whether a password belongs to a user: the answer to `Question::Password`.
//!
//! Invariant: hashing never runs on the threads of the connections and never in more than
//! `HASHES_MAX` places at once; an unknown user costs as much as a wrong password, so that
//! nobody learns which users exist. Not pure: it reads a clock and spawns.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::{hmac, rand};
use merpati_mail::question::PasswordAnswer;
use tokio::sync::Semaphore;

use crate::credential::{Credential, CredentialError};

/// The credentials of the configuration, with a memory of those that fitted lately.
#[derive(Debug)]
pub struct Credentials {
    by_user: BTreeMap<String, Arc<Credential>>,
    /// What an unknown user is compared with; `None` where there is no user.
    dummy: Option<Arc<Credential>>,
    permits: Semaphore,
    /// Keyed, so that a dump of the memory gives nothing to guess against but with the key.
    key: hmac::Key,
    fitted: Mutex<HashMap<[u8; TAG_OCTETS], Instant>>,
}

impl Credentials {
    /// The credentials of these users.
    pub fn new(
        by_user: impl IntoIterator<Item = (String, Credential)>,
    ) -> Result<Self, CredentialError> {
        let by_user: BTreeMap<_, _> =
            by_user.into_iter().map(|(user, credential)| (user, Arc::new(credential))).collect();
        let dummy = by_user.values().next().map(Arc::clone);
        let mut secret = [0; TAG_OCTETS];
        rand::fill(&mut secret).map_err(|_| CredentialError::Random)?;
        Ok(Self {
            by_user,
            dummy,
            permits: Semaphore::new(HASHES_MAX),
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            fitted: Mutex::default(),
        })
    }

    /// Whether there is any credential.
    pub fn is_empty(&self) -> bool {
        self.by_user.is_empty()
    }

    /// Whether this password belongs to this user.
    pub async fn check(&self, user: &str, password: String) -> PasswordAnswer {
        let tag = self.tag(user, &password);
        if self.has_fitted(&tag) {
            return PasswordAnswer::Granted { credential: user.to_owned() };
        }
        // Waiting for a permit is bounded, so that guessing cannot stall those who know.
        let permit = tokio::time::timeout(PERMIT_WAIT, self.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else { return PasswordAnswer::Unavailable };
        let known = self.by_user.get(user);
        let Some(credential) = known.or(self.dummy.as_ref()).map(Arc::clone) else {
            return PasswordAnswer::Denied;
        };
        let is_known = known.is_some();
        let verified = tokio::task::spawn_blocking(move || credential.verify(&password)).await;
        match verified {
            Ok(true) if is_known => {
                self.remember(tag);
                PasswordAnswer::Granted { credential: user.to_owned() }
            }
            Ok(_) => PasswordAnswer::Denied,
            Err(_) => PasswordAnswer::Unavailable,
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

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_granted() {
        let credential = Credential::of("open sesame").unwrap();
        let credentials = Credentials::new([("ali".to_owned(), credential)]).unwrap();
        let granted = PasswordAnswer::Granted { credential: "ali".to_owned() };
        for (user, password, want) in [
            ("ali", "open sesame", granted.clone()),
            ("ali", "open barley", PasswordAnswer::Denied),
            ("kasim", "open sesame", PasswordAnswer::Denied),
            ("ali", "open sesame", granted),
        ] {
            assert_eq!(credentials.check(user, password.to_owned()).await, want, "{user}");
        }
        assert_eq!(credentials.fitted.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn where_there_is_no_user_nobody_is_granted() {
        let credentials = Credentials::new([]).unwrap();
        assert_eq!(credentials.check("ali", "x".to_owned()).await, PasswordAnswer::Denied);
    }
}
