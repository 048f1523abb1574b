//! The domains for which we sign, and their keys: a file for each in the data directory.
//!
//! Invariant: a file is whole or as it was, and readable by us alone; a key that signs is one whose
//! public half was seen in the DNS, unless the operator said otherwise. What a stage leads to is
//! decided in [`stages`]. Not pure: files.

mod file;
mod host;
pub mod judge;
pub mod look;
pub mod records;
pub mod rotation;
pub mod schedule;
mod seal;
mod spf;
pub mod stages;
pub mod tlsa;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use merpati_auth::{BodyHash, KeyKind, Message, PrivateKey, Sealing, Signer, sealed_names};
use merpati_mail::{Domain, Time};

pub use self::{seal::SealingKey, stages::Stage};
use crate::{
    config::{Config, outbound::Signing},
    world::Chain,
};

/// A domain for which we sign.
#[derive(Debug)]
pub struct SendingDomain {
    /// Its name.
    pub name: Domain,
    /// Its keys, oldest first.
    pub keys: Vec<Key>,
}

/// A key of a domain.
pub struct Key {
    /// Under which its record stands: `SELECTOR._domainkey.DOMAIN`.
    pub selector: String,
    /// What becomes of it.
    pub stage: Stage,
    /// Since when that is so.
    pub since: Time,
    /// The key in PKCS#8.
    pkcs8: Vec<u8>,
    private: PrivateKey,
}

impl fmt::Debug for Key {
    /// Shows nothing that is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Key");
        shown.field("selector", &self.selector).field("stage", &self.stage);
        shown.field("since", &self.since).finish_non_exhaustive()
    }
}

impl Key {
    /// Draws a key for a day; `number` tells it from others of that day.
    fn draw(kind: KeyKind, at: Time, number: usize) -> anyhow::Result<Self> {
        let day: String = at.rfc3339().chars().filter(char::is_ascii_digit).take(8).collect();
        let letter = match kind {
            KeyKind::Ed25519 => 'e',
            KeyKind::Rsa => 'r',
        };
        let more = if number == 0 { String::new() } else { number.to_string() };
        let selector = format!("m{day}{letter}{more}");
        Self::read(selector, Stage::New, at, PrivateKey::draw(kind)?)
    }

    fn read(selector: String, stage: Stage, since: Time, pkcs8: Vec<u8>) -> anyhow::Result<Self> {
        let private = PrivateKey::read(&pkcs8)?;
        Ok(Self { selector, stage, since, pkcs8, private })
    }

    /// What kind it is.
    pub const fn kind(&self) -> KeyKind {
        self.private.kind()
    }

    /// The text of its record.
    pub fn record(&self) -> String {
        self.private.record()
    }
}

impl SendingDomain {
    /// A domain with a pair of keys that are still to be published.
    pub fn new(name: Domain, at: Time) -> anyhow::Result<Self> {
        let mut domain = Self { name, keys: Vec::new() };
        domain.add_keys(at)?;
        Ok(domain)
    }

    /// Draws another pair of keys: the first step of a rotation.
    pub fn add_keys(&mut self, at: Time) -> anyhow::Result<()> {
        for kind in [KeyKind::Rsa, KeyKind::Ed25519] {
            let mut number = 0;
            let key = loop {
                let key = Key::draw(kind, at, number)?;
                if !self.keys.iter().any(|other| other.selector == key.selector) {
                    break key;
                }
                number += 1;
            };
            self.keys.push(key);
        }
        Ok(())
    }
}

/// The files of the domains.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    key: Option<SealingKey>,
}

impl Store {
    /// In this data directory; `key` opens and seals private keys, where the operator has one.
    pub fn new(data_dir: &Path, key: Option<SealingKey>) -> Self {
        Self { directory: data_dir.join(DIRECTORY), key }
    }

    /// Keeps others from changing a domain until what is given is dropped: it is to be read,
    /// changed and kept meanwhile.
    pub fn lock(&self) -> anyhow::Result<fs::File> {
        let locked = || -> io::Result<fs::File> {
            let folder = file::folder(&self.directory)?;
            rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)?;
            Ok(folder)
        };
        locked().with_context(|| self.directory.display().to_string())
    }

    /// All domains, by their names. Errs where a file cannot be read, and says which.
    pub fn all(&self) -> anyhow::Result<Vec<SendingDomain>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(why) => return Err(why).with_context(|| self.directory.display().to_string()),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            names.extend(name.and_then(|name| Domain::parse(name).ok()));
        }
        names.sort();
        names.iter().filter_map(|name| self.one(name).transpose()).collect()
    }

    /// One domain; `None` where we do not know it.
    pub fn one(&self, name: &Domain) -> anyhow::Result<Option<SendingDomain>> {
        let path = self.path(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(why).with_context(|| path.display().to_string()),
        };
        let keys = file::parse(&text, name, self.key.as_ref());
        let keys = keys.with_context(|| path.display().to_string())?;
        Ok(Some(SendingDomain { name: name.clone(), keys }))
    }

    /// Keeps a domain as it is now; under [`Self::lock`].
    pub fn keep(&self, domain: &SendingDomain) -> anyhow::Result<()> {
        let text = file::write(domain, self.key.as_ref())?;
        let path = self.path(&domain.name);
        file::replace(&path, &text).with_context(|| path.display().to_string())
    }

    fn path(&self, name: &Domain) -> PathBuf {
        self.directory.join(format!("{name}{SUFFIX}"))
    }
}

/// Where a configuration keeps its domains; errs where the file of the sealing key cannot be used.
pub fn store(config: &Config) -> anyhow::Result<Store> {
    let key = match &config.signing.key_file {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Some(SealingKey::parse(&text).with_context(|| path.display().to_string())?)
        }
        None => None,
    };
    Ok(Store::new(&config.server.data_dir, key))
}

/// Who signs by a configuration; errs where a key cannot be read.
pub fn signers(config: &Config) -> anyhow::Result<Signers> {
    let signers = Signers::of(store(config)?.all()?, &config.signing);
    if let Some(domain) = &config.signing.seal_as
        && signers.sealer().is_none()
    {
        tracing::warn!(%domain, "signing.seal_as: no key of it signs yet, and nothing is sealed");
    }
    if config.signing.seal_as.is_some() && !config.authentication.rules(&config.authors).ask() {
        tracing::warn!("signing.seal_as: nothing is sealed, because authentication.dmarc is off");
    }
    Ok(signers)
}

/// Who signs for which domain; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Signers {
    by_domain: Arc<BTreeMap<Domain, Vec<Signer>>>,
    /// For how long a signature is to be believed; `None`: for ever.
    lifetime: Option<Duration>,
    /// Who seals what strangers hand over; `None`: nobody.
    seal_as: Option<Domain>,
}

impl Signers {
    /// Of these domains, with their keys that sign.
    pub fn of(domains: Vec<SendingDomain>, options: &Signing) -> Self {
        let mut signers = BTreeMap::new();
        for SendingDomain { name, keys } in domains {
            let signs = keys.into_iter().filter(|key| key.stage == Stage::Signing);
            let own: Vec<_> = signs
                .map(|key| Signer {
                    domain: name.to_string(),
                    selector: key.selector,
                    key: key.private,
                })
                .collect();
            if !own.is_empty() {
                signers.insert(name, own);
            }
        }
        let Signing { lifetime, seal_as, .. } = options.clone();
        Self { by_domain: Arc::new(signers), lifetime, seal_as }
    }

    /// The signature fields for a message from an author in this domain; empty where nobody signs
    /// for it. `head` is its final header with what follows, `body` hashes the body, `now` is wall
    /// time.
    pub fn sign(
        &self,
        author: &Domain,
        head: &[u8],
        body: impl FnOnce() -> Option<BodyHash>,
        now: Time,
    ) -> String {
        let signers = self.for_author(author);
        let Some(body) = (!signers.is_empty()).then(body).flatten() else { return String::new() };
        let (message, now) = (Message::read(head), now.as_secs());
        let lifetime = self.lifetime.map(|lifetime| lifetime.as_secs());
        let fields = signers.iter().filter_map(|signer| {
            let field = signer.sign(&message, body, now, lifetime);
            if field.is_none() {
                tracing::warn!(domain = signer.domain, selector = signer.selector, "not signed");
            }
            field
        });
        fields.collect()
    }

    /// The fields of our seal behind a chain of forwarders (ARC); empty where there is to be none.
    /// `head`, `body` and `now` are as for [`Self::sign`].
    pub fn seal(
        &self,
        chain: &Chain,
        head: &[u8],
        body: impl FnOnce() -> Option<BodyHash>,
        now: Time,
    ) -> String {
        let set = self.sealer().and_then(|signer| {
            let message = Message::read(head);
            let names = sealed_names(&message)?;
            let (chain, results) = (chain.result, chain.results.as_str());
            let sealing = Sealing { chain, results, now: now.as_secs() };
            signer.seal(&message, body()?, &names, &sealing)
        });
        set.unwrap_or_default()
    }

    /// RSA, if there is a choice: not every receiver knows Ed25519, and a set has one seal.
    fn sealer(&self) -> Option<&Signer> {
        let signers = self.by_domain.get(self.seal_as.as_ref()?)?;
        signers.iter().min_by_key(|signer| signer.key.kind() != KeyKind::Rsa)
    }

    /// Whether somebody signs for authors in this domain: it is one of ours, or below one, and DNS
    /// has shown a key of it.
    pub fn speak_for(&self, author: &Domain) -> bool {
        !self.for_author(author).is_empty()
    }

    /// Whether nothing is ever signed.
    pub fn are_none(&self) -> bool {
        self.by_domain.is_empty()
    }

    /// Who signs for an author in this domain: those of the domain, or of the nearest above it,
    /// which speaks for its subdomains too.
    fn for_author(&self, domain: &Domain) -> &[Signer] {
        let Some(name) = domain.as_name() else { return &[] };
        let mut rest = name;
        loop {
            let found = Domain::parse(rest).ok().and_then(|domain| self.by_domain.get(&domain));
            if let Some(found) = found {
                return found;
            }
            match rest.split_once('.') {
                Some((_, above)) => rest = above,
                None => return &[],
            }
        }
    }
}

/// Where the files are in the data directory.
const DIRECTORY: &str = "domains";
const SUFFIX: &str = ".toml";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    #[test]
    fn what_is_kept_is_found_again_and_is_ours_alone() {
        let directory = tempfile::tempdir().unwrap();
        let at = Time::from_secs(1_790_000_000);
        for key in [None, Some(SealingKey::parse(&"ab".repeat(32)).unwrap())] {
            let store = Store::new(directory.path(), key.clone());
            let mut kept = SendingDomain::new(domain("ours.example"), at).unwrap();
            kept.add_keys(at).unwrap();
            kept.keys[0].stage = Stage::Signing;
            let lock = store.lock().unwrap();
            store.keep(&kept).unwrap();
            drop(lock);
            let found = store.all().unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].keys.len(), 4);
            let selectors: Vec<_> = found[0].keys.iter().map(|key| &key.selector).collect();
            assert_eq!(selectors, ["m20260921r", "m20260921e", "m20260921r1", "m20260921e1"]);
            for (before, after) in kept.keys.iter().zip(&found[0].keys) {
                assert_eq!((before.stage, before.since), (after.stage, after.since));
                assert_eq!(before.record(), after.record());
            }
            let path = directory.path().join("domains/ours.example.toml");
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(text.contains("sealed"), key.is_some(), "{text}");
        }
        // The keys are sealed now, and nobody else opens them.
        for key in [None, Some(SealingKey::parse(&"cd".repeat(32)).unwrap())] {
            let why = Store::new(directory.path(), key).all().unwrap_err();
            assert!(format!("{why:#}").contains("ours.example.toml"), "{why:#}");
        }
    }

    #[test]
    fn the_nearest_domain_signs_with_the_keys_that_sign() {
        let at = Time::from_secs(1_790_000_000);
        let with = |name: &str, stage: Stage| {
            let mut domain = SendingDomain::new(domain(name), at).unwrap();
            domain.keys.truncate(1);
            domain.keys[0].stage = stage;
            domain
        };
        let domains = vec![
            with("ours.example", Stage::Signing),
            with("new.ours.example", Stage::New),
            with("shop.ours.example", Stage::Signing),
        ];
        let options = Signing {
            lifetime: None,
            key_file: None,
            resolvers: Vec::new(),
            rotate_every: None,
            seal_as: None,
            require_verified: false,
        };
        let signers = Signers::of(domains, &options);
        for (author, want) in [
            ("ours.example", Some("ours.example")),
            ("a.ours.example", Some("ours.example")),
            ("new.ours.example", Some("ours.example")),
            ("a.shop.ours.example", Some("shop.ours.example")),
            ("myours.example", None),
            ("example", None),
        ] {
            let found = signers.for_author(&domain(author));
            assert_eq!(found.first().map(|signer| signer.domain.as_str()), want, "{author}");
            assert_eq!(signers.speak_for(&domain(author)), want.is_some(), "{author}");
        }
        assert!(Signers::default().are_none());
    }
}
