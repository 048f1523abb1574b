//! What is kept of the policies of others over a restart: a file for each domain.
//!
//! Invariant: a file is there whole or not at all; one that cannot be read is told, removed and
//! costs a fetch. Not pure: reads and writes files. The format stands in `docs/format.md`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use merpati_auth::sts::{POLICY_OCTETS_MAX, Policy, is_policy_id};
use merpati_mail::{Domain, Time};

use super::Kept;
use crate::durable;

/// The directory of the files.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
}

impl Store {
    /// The store in this directory, which is made where it is not, and what lies in it: at most
    /// `entries_max` policies that are good at `now`. The files of those that are not are removed.
    pub(super) fn open(
        directory: PathBuf,
        now: Time,
        entries_max: usize,
    ) -> anyhow::Result<(Self, Vec<Kept>)> {
        let cannot = || format!("cannot read {}", directory.display());
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&directory).with_context(cannot)? {
            let path = entry.with_context(cannot)?.path();
            // What else lies here was left by one that died while it wrote, or is not ours.
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            match read(&path, now) {
                Ok(kept) if now < kept.expires_at && found.len() < entries_max => found.push(kept),
                Ok(_) => remove(&path),
                Err(why) => {
                    let name = path.display();
                    tracing::warn!(path = %name, %why, "a kept policy of MTA-STS is of no use");
                    remove(&path);
                }
            }
        }
        Ok((Self { directory }, found))
    }

    /// Writes a policy; its file is durable then.
    pub(super) fn keep(&self, kept: &Kept) -> io::Result<()> {
        durable::replace(&self.path(&kept.domain), text(kept).as_bytes(), 0o644)
    }

    /// Removes the policy of a domain.
    pub(super) fn forget(&self, domain: &Domain) {
        remove(&self.path(domain));
    }

    /// A name in its normal form has no `/`, and does not begin with a dot. `_mta-sts.NAME` is a
    /// name as well, so the file's name is shorter than the 255 octets that file systems take.
    fn path(&self, domain: &Domain) -> PathBuf {
        self.directory.join(format!("{domain}.{EXTENSION}"))
    }
}

fn remove(path: &Path) {
    if let Err(why) = durable::remove(path) {
        tracing::warn!(path = %path.display(), %why, "an old policy of MTA-STS stays");
    }
}

fn read(path: &Path, now: Time) -> anyhow::Result<Kept> {
    // A policy may be as long as it may be, and a few lines stand before it.
    let octets_max = u64::try_from(POLICY_OCTETS_MAX).unwrap_or(u64::MAX).saturating_mul(2);
    anyhow::ensure!(fs::metadata(path)?.len() <= octets_max, "it is too long");
    let kept = parse(&fs::read_to_string(path)?, now)?;
    let name = format!("{}.{EXTENSION}", kept.domain);
    anyhow::ensure!(path.file_name().is_some_and(|own| own == name.as_str()), "it is of another");
    Ok(kept)
}

fn text(kept: &Kept) -> String {
    let Kept { domain, id, policy, fetched_at, .. } = kept;
    let fetched = fetched_at.rfc3339();
    let policy = policy.lines().join("\n");
    format!("{MAGIC}\ndomain: {domain}\nid: {id}\nfetched: {fetched}\n\n{policy}\n")
}

fn parse(text: &str, now: Time) -> anyhow::Result<Kept> {
    // The last line ends, so that a number in it has not lost digits.
    let text = text.strip_suffix('\n').context("it is cut off")?;
    let (head, policy) = text.split_once("\n\n").context("it is cut off")?;
    let mut lines = head.lines();
    anyhow::ensure!(lines.next() == Some(MAGIC), "it does not begin with `{MAGIC}`");
    let mut value = |name: &str| {
        let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map(str::to_owned).with_context(|| format!("`{name}` is not where it should be"))
    };
    let domain = Domain::parse(&value("domain")?)?;
    let id = value("id")?;
    anyhow::ensure!(is_policy_id(&id), "`id` is none");
    let fetched = Time::parse_rfc3339(&value("fetched")?).context("`fetched` is no time")?;
    let policy = Policy::parse(policy.as_bytes())?;
    // A clock that was wrong must not make a policy last for ever.
    Ok(Kept::new(domain, id, policy, fetched.min(now)))
}

const MAGIC: &str = "merpati-sts 1";

const EXTENSION: &str = "sts";

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &[u8] =
        b"version: STSv1\nmode: enforce\nmx: mx.example\nmx: *.example.net\nmax_age: 600\n";

    fn kept(domain: &str, fetched: u64) -> Kept {
        let domain = Domain::parse(domain).unwrap();
        let policy = Policy::parse(POLICY).unwrap();
        Kept::new(domain, "7a".to_owned(), policy, Time::from_secs(fetched))
    }

    #[test]
    fn what_is_kept_is_read_again_until_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("mta-sts");
        let (store, found) = Store::open(directory.clone(), Time::EPOCH, 9).unwrap();
        assert_eq!(found, []);
        let (old, new) = (kept("a.example", 1_000), kept("b.example", 1_500));
        store.keep(&old).unwrap();
        store.keep(&new).unwrap();
        let open = |secs| {
            let (_, mut found) = Store::open(directory.clone(), Time::from_secs(secs), 9).unwrap();
            found.sort_by_key(|kept| kept.domain.clone());
            found
        };
        assert_eq!(open(1_599), [old, new.clone()]);
        assert_eq!(open(1_600), std::slice::from_ref(&new), "the other has expired");
        assert_eq!(open(1_599), [new], "and its file is gone");
        store.forget(&Domain::parse("b.example").unwrap());
        assert_eq!(open(1_599), []);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }

    #[test]
    fn no_more_are_read_than_there_is_room_for() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path().to_owned(), Time::EPOCH, 9).unwrap();
        for n in 0..5 {
            store.keep(&kept(&format!("d{n}.example"), 1_000)).unwrap();
        }
        let (_, found) = Store::open(folder.path().to_owned(), Time::from_secs(1_000), 3).unwrap();
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_file_that_is_damaged_is_not_believed() {
        let good = text(&kept("a.example", 1_000));
        let now = Time::from_secs(1_000);
        assert_eq!(parse(&good, now).unwrap(), kept("a.example", 1_000));
        let early = Time::from_secs(500);
        assert_eq!(parse(&good, early).unwrap().fetched_at, early, "not in what is to come");
        for length in 0..good.len() {
            parse(&good[..length], now).unwrap_err();
        }
        for (from, to) in [
            ("merpati-sts 1", "merpati-sts 2"),
            ("id: 7a", "id: 7-a"),
            ("fetched: 1970", "fetched: 70"),
            ("mode: enforce", "mode: enforced"),
            ("domain: ", "Domain: "),
        ] {
            parse(&good.replace(from, to), now).unwrap_err();
        }
        let folder = tempfile::tempdir().unwrap();
        for (name, octets) in [("b.example.sts", good.as_bytes()), ("a.example.sts", b"\xff\n")] {
            let path = folder.path().join(name);
            fs::write(&path, octets).unwrap();
            let (_, found) = Store::open(folder.path().to_owned(), now, 9).unwrap();
            assert_eq!(found, [], "{name}");
            assert!(!path.exists());
        }
    }
}
