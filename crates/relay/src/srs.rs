//! The key under which senders are rewritten (`merpati_flow::srs`).
//!
//! Invariant: made once and kept, so that an address that was handed out is known again; of two
//! relays with the same file, each knows those of the other. Not pure: a file in the data
//! directory.

use std::{fmt, sync::Arc};

use anyhow::Context as _;
use aws_lc_rs::hmac;
use merpati_flow::srs::{MAC_OCTETS, Mac, Srs};

use crate::{config::Config, durable};

/// Who rewrites senders; `None` where nobody does.
pub(crate) fn of(config: &Config) -> anyhow::Result<Option<Srs>> {
    let Some(domain) = &config.relay.srs_domain else { return Ok(None) };
    let secret: [u8; KEY_OCTETS] = durable::secret(&config.server.data_dir.join(KEY_FILE))
        .context("no senders can be rewritten")?;
    Ok(Some(Srs::new(domain.clone(), Arc::new(Key::of(&secret)))))
}

/// HMAC-SHA256, the first octets of it.
struct Key(hmac::Key);

impl Key {
    fn of(secret: &[u8; KEY_OCTETS]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }
}

impl Mac for Key {
    fn mac(&self, text: &[u8]) -> [u8; MAC_OCTETS] {
        let whole = hmac::sign(&self.0, text);
        whole.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// Octets of the key.
const KEY_OCTETS: usize = 32;
/// The file in the data directory with the key (`docs/format.md` §11).
const KEY_FILE: &str = "srs.key";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use merpati_flow::srs::{Age, Forwarded, NoReturn};
    use merpati_mail::{Mailbox, Time};

    use super::*;

    const NOW: Time = Time::from_secs(1_800_000_000);

    fn srs(folder: &tempfile::TempDir) -> Srs {
        let settings = [
            format!("server.data_dir={}", folder.path().display()),
            "relay.local_domains=ours.example".to_owned(),
            "relay.srs_domain=ours.example".to_owned(),
        ];
        of(&Config::of(Vec::new(), &BTreeMap::new(), &settings).unwrap()).unwrap().unwrap()
    }

    #[test]
    fn an_address_is_known_again_under_the_same_key_only() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sender = Mailbox::parse("Ani@b.example").unwrap();
        let Forwarded::As(address) = srs(&folder).forwarded(&sender, NOW) else { panic!() };
        let again = srs(&folder);
        assert_eq!(again.read(&address, Age::At(NOW)), Some(Ok(sender)));
        assert_eq!(srs(&other).read(&address, Age::At(NOW)), Some(Err(NoReturn::Forged)));
        assert_eq!(format!("{:?}", Key::of(&[7; KEY_OCTETS])), "Key");
    }

    /// Addresses live longer than a release: what is hashed, and how, must not change. These were
    /// made by another program.
    #[test]
    fn the_hash_of_an_address_is_for_ever_the_same() {
        let srs = Srs::new(
            "ours.example".parse().unwrap(),
            Arc::new(Key::of(&std::array::from_fn(|at| u8::try_from(at).unwrap()))),
        );
        for (sender, want) in [
            ("Ani@b.example", "SRS0=KMT6C2EQ=LB=b.example=Ani@ours.example"),
            (
                "SRS0=h=tt=a.example=x@b.example",
                "SRS1=PFKLUSIR=b.example==h=tt=a.example=x@ours.example",
            ),
        ] {
            let sender = Mailbox::parse(sender).unwrap();
            assert_eq!(srs.forwarded(&sender, NOW), Forwarded::As(Mailbox::parse(want).unwrap()));
        }
    }
}
