//! What is kept of certificates that the relay orders: the account, keys and certificates, in
//! `acme/` of the data directory.
//!
//! Invariant: each file is there whole or not at all; a certificate and its key are one file, so no
//! reader finds the one without the other. Not pure: files.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use instant_acme::AccountCredentials;
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};

use crate::{certificates::Pair, durable};

/// The file of a certificate, which is that of its key as well.
pub fn pair(data_dir: &Path, name: &str) -> Pair {
    let path = folder(data_dir).join(format!("{name}.pem"));
    Pair { chain: path.clone(), key: path }
}

/// The files of one data directory.
#[derive(Clone, Debug)]
pub(super) struct Files {
    folder: PathBuf,
}

/// An account, and where it is one.
#[derive(Deserialize, Serialize)]
struct Kept {
    directory: String,
    credentials: AccountCredentials,
}

impl Files {
    /// Those of this data directory; its folder is made where it is missing.
    pub(super) fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let folder = folder(data_dir);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// The account at this directory; `None` where there is none yet, or one elsewhere.
    pub(super) fn account(&self, directory: &str) -> anyhow::Result<Option<AccountCredentials>> {
        let path = self.folder.join(ACCOUNT);
        let Some(text) = read(&path)? else { return Ok(None) };
        let kept: Kept = serde_json::from_str(&text)
            .with_context(|| format!("{} is no account; remove it", path.display()))?;
        Ok((kept.directory == directory).then_some(kept.credentials))
    }

    /// Keeps the account, in the place of one elsewhere.
    pub(super) fn keep_account(
        &self,
        directory: &str,
        credentials: AccountCredentials,
    ) -> anyhow::Result<()> {
        let text = serde_json::to_vec(&Kept { directory: directory.to_owned(), credentials })?;
        let path = self.folder.join(ACCOUNT);
        durable::replace(&path, &text, MODE)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The key that certificates of this name are ordered for; made and kept where there is none.
    pub(super) fn key(&self, name: &str) -> anyhow::Result<KeyPair> {
        let path = self.folder.join(format!("{name}.key"));
        if let Some(text) = read(&path)? {
            return KeyPair::from_pem(&text)
                .with_context(|| format!("{} is no key of ours", path.display()));
        }
        let key = KeyPair::generate().context("cannot make a key")?;
        durable::replace(&path, key.serialize_pem().as_bytes(), MODE)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(key)
    }

    /// Keeps a certificate, with those that lead to its root, and its key.
    pub(super) fn keep(&self, name: &str, key: &KeyPair, chain: &str) -> anyhow::Result<()> {
        let path = self.folder.join(format!("{name}.pem"));
        let text = format!("{}{chain}", key.serialize_pem());
        durable::replace(&path, text.as_bytes(), MODE)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER)
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why).with_context(|| format!("cannot read {}", path.display())),
    }
}

const FOLDER: &str = "acme";
/// The account. No certificate has this name: theirs end otherwise.
const ACCOUNT: &str = "account.json";
/// For us alone: there is a key in each.
const MODE: u32 = 0o600;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_a_certificate_is_read_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let key = files.key("mx").unwrap();
        assert_eq!(files.key("mx").unwrap().serialize_pem(), key.serialize_pem());
        assert_ne!(files.key("other").unwrap().serialize_pem(), key.serialize_pem());
        let params = rcgen::CertificateParams::new(["mx.ours.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        files.keep("mx", &key, &certificate.pem()).unwrap();
        let pair = pair(dir.path(), "mx");
        assert_eq!(&pair.read().unwrap().cert[0], certificate.der());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&pair.chain), 0o600);
        assert_eq!(mode(&folder(dir.path()).join("mx.key")), 0o600);
        assert_eq!(mode(&folder(dir.path())), 0o700);
    }
}
