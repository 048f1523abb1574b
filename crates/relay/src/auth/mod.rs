//! Who a client is: the answers to `Question::Credential`.
//!
//! Invariant: every yes and every no is counted, and nobody who is locked out is looked at. What is
//! unknown, wrong or disabled costs the same time and gets the same answer; at an address that is
//! locked out, a user who is known there still costs a look at his password. Not pure: files, and
//! what is shared between threads.
//!
//! In the order of reading: what each user has (`users`), the ways to show it (`passwords`,
//! `verifier`, `tokens` with `jwt` and `jwk`).

mod jwk;
pub mod jwt;
mod passwords;
mod tokens;
mod users;
mod verifier;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use merpati_flow::lockout::{Attempt, Failed, Lockout, Rules};
use merpati_mail::{
    Time,
    question::{Claim, CredentialAnswer},
};

use self::{passwords::Passwords, tokens::Tokens, users::Users, verifier::MadeUp};
use crate::{
    config::{
        Config,
        access::{CredentialEntry, TokenIssuer},
    },
    durable,
};

/// Everything that shows who a client is, and a memory of what failed lately.
#[derive(Debug)]
pub struct Authenticator {
    users: Users,
    passwords: Passwords,
    made_up: MadeUp,
    tokens: Arc<Tokens>,
    lockout: Arc<Mutex<Lockout>>,
}

/// Where a claim comes from.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The address of the client.
    pub address: IpAddr,
    /// See [`Attempt::is_responsible`].
    pub is_responsible: bool,
}

/// Whom a claim leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// The holder of this credential.
    Credential(String),
    /// Nobody.
    Nobody,
    /// It could not be found out just now.
    Unknown,
}

impl Authenticator {
    /// What the configuration says. Errs where the machine gives no random octets, or the secret
    /// in the data directory cannot be read or made.
    pub fn of(config: &Config) -> anyhow::Result<Self> {
        let secret = durable::secret(&config.server.data_dir.join(SECRET_FILE))?;
        let Config { credentials, token_issuers, auth, .. } = config;
        Self::new(&secret, credentials, token_issuers, auth.rules())
    }

    /// The same, with what `before` remembers of failures.
    pub fn after(config: &Config, before: &Self) -> anyhow::Result<Self> {
        let lockout = Arc::clone(&before.lockout);
        let own = Self::of(config)?;
        lock(&lockout).set_rules(config.auth.rules());
        Ok(Self { lockout, ..own })
    }

    /// These users and issuers, with the secret from which salts are made up. Errs where the
    /// machine gives no random octets.
    pub fn new(
        secret: &[u8; SECRET_OCTETS],
        users: &[CredentialEntry],
        issuers: &[TokenIssuer],
        rules: Rules,
    ) -> anyhow::Result<Self> {
        let users = Users::of(users);
        let passwords = Passwords::new(&users).context("no passwords can be checked")?;
        Ok(Self {
            made_up: MadeUp::new(secret, &users),
            users,
            passwords,
            tokens: Arc::new(Tokens::new(issuers)),
            lockout: Arc::new(Mutex::new(Lockout::new(rules))),
        })
    }

    /// Who made this claim.
    pub async fn answer(&self, now: Time, claim: Claim, from: Place) -> CredentialAnswer {
        let user = guessed_user(&claim).map(str::to_owned);
        let Place { address, is_responsible } = from;
        let attempt = Attempt { address, is_responsible, user: user.as_deref() };
        if let Some(lock) = self.lockout().lock(now, &attempt) {
            return CredentialAnswer::Locked(lock);
        }
        let found = match claim {
            Claim::Certificate { names, acts_as } => {
                self.users.by_certificate(&names, acts_as.as_deref())
            }
            Claim::Password { user, password } => {
                self.passwords.check(&self.users, &user, &password).await
            }
            Claim::Shown { user: _, credential } => {
                credential.map_or(Found::Nobody, Found::Credential)
            }
            Claim::Token { user, token } => self.token(user.as_deref(), token).await,
            Claim::Verifier { user } => {
                return self.made_up.verifier(self.users.password(&user), &user);
            }
        };
        match found {
            Found::Credential(credential) => {
                self.lockout().succeeded(now, &attempt);
                CredentialAnswer::Granted { credential }
            }
            Found::Nobody => match self.lockout().failed(now, &attempt) {
                Failed::Locked(lock) => CredentialAnswer::Locked(lock),
                Failed::Waits(wait) => CredentialAnswer::Denied { wait },
            },
            Found::Unknown => CredentialAnswer::Unavailable,
        }
    }

    async fn token(&self, wanted: Option<&str>, token: String) -> Found {
        let tokens = Arc::clone(&self.tokens);
        // Keys are files, and signatures cost some of a millisecond.
        match tokio::task::spawn_blocking(move || tokens.check(&token)).await {
            Ok(Ok(bearer)) => self.users.by_token(&bearer, wanted),
            Ok(Err(tokens::Refused::Denied)) => Found::Nobody,
            Ok(Err(tokens::Refused::Unavailable)) | Err(_) => Found::Unknown,
        }
    }

    fn lockout(&self) -> MutexGuard<'_, Lockout> {
        lock(&self.lockout)
    }
}

fn lock(lockout: &Mutex<Lockout>) -> MutexGuard<'_, Lockout> {
    // Each change is whole before the lock is given back.
    lockout.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The user for whom a claim could be a guess. Nobody guesses a signature, so what a token or a
/// certificate names is not held against anybody: else junk would lock out whom it names.
fn guessed_user(claim: &Claim) -> Option<&str> {
    match claim {
        Claim::Certificate { .. } | Claim::Token { .. } => None,
        Claim::Password { user, .. } | Claim::Verifier { user } => Some(user),
        Claim::Shown { user, .. } => user.as_deref(),
    }
}

/// Octets of the secret from which salts are made up.
pub const SECRET_OCTETS: usize = 32;
/// The file in the data directory with the secret behind made-up salts.
const SECRET_FILE: &str = "auth.key";

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

    use merpati_mail::question::Lock;
    use serde_json::json;

    use super::{
        jwt::{Algorithm, tests::ISSUER},
        *,
    };
    use crate::{clock, config::Source, credential};

    const NOW: Time = Time::from_secs(1_000_000);
    /// In a network of ours.
    const OURS: Place =
        Place { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5)), is_responsible: false };

    /// Those of a configuration with `ani` (everything), `budi` (disabled), `citra` (a certificate
    /// alone) and an issuer that vouches for `shop.example`.
    fn authenticator(folder: &std::path::Path, more: &str) -> Authenticator {
        let keys = folder.join("keys.pem");
        std::fs::write(&keys, ISSUER.pem()).unwrap();
        let hash = credential::hash("secret").unwrap();
        let text = format!(
            "{more}
            [server]
            data_dir = {folder:?}
            [[token_issuer]]
            name = \"id\"
            issuer = \"https://id.example\"
            audience = [\"merpati\"]
            keys = {keys:?}
            domains = [\"shop.example\"]
            [[credential]]
            name = \"ani\"
            password = \"{hash}\"
            certificate_names = [\"ani@ours.example\", \"both.example\"]
            token_issuers = [\"id\"]
            [[credential]]
            name = \"budi\"
            password = \"{hash}\"
            enabled = false
            certificate_names = [\"budi@ours.example\"]
            token_issuers = [\"id\"]
            [[credential]]
            name = \"citra\"
            certificate_names = [\"citra@ours.example\"]
            [[credential]]
            name = \"eka@shop.example\"
            token_issuers = [\"id\"]
            [[credential]]
            name = \"fitri@shop.example\"
            token_issuers = [\"id\"]
            enabled = false
            "
        );
        let source = Source { name: "merpati.toml".to_owned(), text };
        let config = Config::of(vec![source], &BTreeMap::new(), &[]);
        Authenticator::of(&config.unwrap_or_else(|errors| panic!("{errors}"))).unwrap()
    }

    fn password(user: &str, password: &str) -> Claim {
        Claim::Password { user: user.to_owned(), password: password.to_owned() }
    }

    async fn whom(authenticator: &Authenticator, claim: Claim) -> Option<String> {
        let answer = authenticator.answer(NOW, claim, OURS).await;
        if let CredentialAnswer::Granted { credential } = answer {
            return Some(credential);
        }
        assert!(matches!(answer, CredentialAnswer::Denied { .. }), "{answer:?}");
        None
    }

    #[tokio::test]
    async fn what_is_wrong_unknown_or_disabled_has_the_same_answer() {
        let folder = tempfile::tempdir().unwrap();
        let authenticator = authenticator(folder.path(), "");
        assert_eq!(whom(&authenticator, password("ani", "secret")).await.as_deref(), Some("ani"));
        for (user, text) in
            [("ani", "wrong"), ("dewi", "secret"), ("budi", "secret"), ("citra", "secret")]
        {
            let answer = authenticator.answer(NOW, password(user, text), OURS).await;
            let wait = Duration::from_millis(500);
            assert_eq!(answer, CredentialAnswer::Denied { wait }, "{user}");
            let verifier = Claim::Verifier { user: user.to_owned() };
            let answer = authenticator.answer(NOW, verifier, OURS).await;
            let CredentialAnswer::Verifier(verifier) = answer else { panic!("{answer:?}") };
            assert_eq!(verifier.credential.is_some(), user == "ani", "{user}");
        }
    }

    #[tokio::test]
    async fn failures_are_remembered_whatever_the_mechanism_and_the_connection() {
        let folder = tempfile::tempdir().unwrap();
        let more = "[auth]\nfailures_per_address_max = 6\nfailures_per_user_max = 3";
        let authenticator = authenticator(folder.path(), more);
        let from = |n: u8| Place { address: [192, 0, 2, n].into(), is_responsible: true };
        let shown = Claim::Shown { user: Some("ani".to_owned()), credential: None };
        let mut waits = Vec::new();
        for (n, claim) in [(1, password("ani", "x")), (2, shown), (3, password("ani", "y"))] {
            let answer = authenticator.answer(NOW, claim, from(n)).await;
            let CredentialAnswer::Denied { wait } = answer else { panic!("{answer:?}") };
            waits.push(wait.as_millis());
        }
        assert_eq!(waits, [500, 500, 500]);
        let locked = CredentialAnswer::Locked(Lock::User);
        let verifier = Claim::Verifier { user: "ani".to_owned() };
        assert_eq!(authenticator.answer(NOW, verifier, from(4)).await, locked);
        assert_eq!(authenticator.answer(NOW, password("ani", "secret"), from(4)).await, locked);
        for _ in 0..6 {
            let token = Claim::Token { user: Some("dewi".to_owned()), token: "junk".to_owned() };
            authenticator.answer(NOW, token, from(9)).await;
        }
        let answer = authenticator.answer(NOW, password("dewi", "x"), from(9)).await;
        assert_eq!(answer, CredentialAnswer::Locked(Lock::Address));
        let answer = authenticator.answer(NOW, password("dewi", "x"), from(8)).await;
        assert!(matches!(answer, CredentialAnswer::Denied { .. }), "junk locks no user out");
    }

    #[tokio::test]
    async fn a_certificate_leads_to_the_one_user_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let authenticator = authenticator(folder.path(), "");
        for (names, acts_as, want) in [
            (&["ani@ours.example"][..], None, Some("ani")),
            (&["ANI@ours.example"], Some("ani"), Some("ani")),
            (&["ani@ours.example"], Some("Ani@ours.example"), Some("ani")),
            (&["ani@ours.example", "both.example"], None, Some("ani")),
            (&["ani@ours.example"], Some("citra"), None),
            (&["ani@ours.example", "citra@ours.example"], None, None),
            (&["ani@ours.example", "citra@ours.example"], Some("citra"), Some("citra")),
            (&["budi@ours.example"], None, None),
            (&["stranger.example"], None, None),
            (&["ani"], None, None),
        ] {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            let claim = Claim::Certificate { names, acts_as: acts_as.map(str::to_owned) };
            let shown = format!("{claim:?}");
            assert_eq!(whom(&authenticator, claim).await.as_deref(), want, "{shown}");
        }
    }

    #[tokio::test]
    async fn a_token_leads_to_a_user_who_takes_the_word_of_its_issuer() {
        let folder = tempfile::tempdir().unwrap();
        let authenticator = authenticator(folder.path(), "");
        let end = clock::wall().as_secs() + 600;
        for (user, wanted, want) in [
            ("ani", None, Some("ani")),
            ("ani", Some("ANI"), Some("ani")),
            ("ani", Some("citra"), None),
            ("budi", None, None),
            ("citra", None, None),
            ("dewi", None, None),
            ("dewi@shop.example", Some("Dewi@shop.example"), Some("dewi@shop.example")),
            ("dewi@other.example", None, None),
            ("dewi@sub.shop.example", None, None),
            ("Eka@shop.example", None, Some("eka@shop.example")),
            ("Fitri@shop.example", None, None),
        ] {
            let claims = json!({
                "iss": "https://id.example", "aud": "merpati", "email": user, "exp": end,
            });
            let token = ISSUER.token(&claims, Algorithm::Es256);
            let claim = Claim::Token { user: wanted.map(str::to_owned), token };
            assert_eq!(whom(&authenticator, claim).await.as_deref(), want, "{user} {wanted:?}");
        }
    }
}
