//! What a proof of SCRAM is checked with, also for users who do not exist (RFC 5802).
//!
//! Invariant: the same name is shown the same salt, whenever and however often somebody asks, and
//! nothing tells a salt that was made up from one that was drawn. Not pure: draws nonces.

use std::{num::NonZeroU32, sync::Arc};

use aws_lc_rs::{hmac, rand};
use merpati_mail::question::{CredentialAnswer, ScramKeys, Verifier};

use super::users::Users;
use crate::credential::{Credential, ITERATIONS, SALT_OCTETS};

/// Makes up keys for users who have none.
#[derive(Debug)]
pub(super) struct MadeUp {
    key: hmac::Key,
    /// Rounds and octets of the salt of each real user: who is made up resembles one of them.
    models: Vec<(NonZeroU32, usize)>,
}

impl MadeUp {
    /// Like these users, with this secret.
    pub(super) fn new(secret: &[u8], users: &Users) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let models = users.passwords().map(|password| {
            let keys = password.scram();
            (keys.iterations, keys.salt.len())
        });
        Self { key, models: models.collect() }
    }

    /// What the proof of a user with this password is checked with; without one, none will do.
    pub(super) fn verifier(
        &self,
        password: Option<&Arc<Credential>>,
        user: &str,
    ) -> CredentialAnswer {
        let mut nonce = [0; Verifier::NONCE_OCTETS];
        if rand::fill(&mut nonce).is_err() {
            return CredentialAnswer::Unavailable;
        }
        // Made up for everybody, so that it takes the same time.
        let made_up = self.keys(user);
        let verifier = match password {
            Some(password) => Verifier {
                credential: Some(user.to_owned()),
                keys: password.scram().clone(),
                nonce,
            },
            None => Verifier { credential: None, keys: made_up, nonce },
        };
        CredentialAnswer::Verifier(Box::new(verifier))
    }

    fn keys(&self, user: &str) -> ScramKeys {
        let octets = |what: &str| -> [u8; ScramKeys::KEY_OCTETS] {
            let mut context = hmac::Context::with_key(&self.key);
            context.update(what.as_bytes());
            context.update(&[0]);
            context.update(user.as_bytes());
            context.sign().as_ref().try_into().unwrap_or_default()
        };
        let model = usize::from(octets("model")[0]);
        let model = self.models.get(model.checked_rem(self.models.len()).unwrap_or_default());
        let (iterations, salt_octets) = model.copied().unwrap_or((ITERATIONS, SALT_OCTETS));
        let blocks = (0..salt_octets.div_ceil(ScramKeys::KEY_OCTETS))
            .flat_map(|block| octets(&format!("salt {block}")));
        ScramKeys {
            iterations,
            salt: blocks.take(salt_octets).collect(),
            stored_key: octets("stored key"),
            server_key: octets("server key"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::SECRET_OCTETS, config::access::CredentialEntry, durable};

    fn secret(path: &std::path::Path) -> [u8; SECRET_OCTETS] {
        durable::secret(path).unwrap()
    }

    fn keys_of(answer: CredentialAnswer) -> (Option<String>, ScramKeys) {
        let CredentialAnswer::Verifier(verifier) = answer else { panic!("{answer:?}") };
        (verifier.credential, verifier.keys)
    }

    #[test]
    fn who_does_not_exist_has_the_same_salt_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.key");
        let entry = CredentialEntry::for_test("ani", "secret");
        let salts: Vec<(Option<String>, ScramKeys)> = (0..2)
            .map(|_| {
                let users = Users::of(std::slice::from_ref(&entry));
                let made_up = MadeUp::new(&secret(&path), &users);
                keys_of(made_up.verifier(users.password("budi"), "budi"))
            })
            .collect();
        assert_eq!(salts[0], salts[1]);
        assert_eq!(salts[0].0, None);
        assert_eq!(salts[0].1.salt.len(), SALT_OCTETS);
        let users = Users::of(&[entry]);
        let made_up = MadeUp::new(&secret(&path), &users);
        let other = keys_of(made_up.verifier(users.password("citra"), "citra"));
        assert_ne!(other.1.salt, salts[0].1.salt);
        let ani = keys_of(made_up.verifier(users.password("ani"), "ani"));
        assert_eq!(ani.0.as_deref(), Some("ani"));
        assert_eq!(ani.1.iterations, salts[0].1.iterations);
    }
}
