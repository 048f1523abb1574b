//! The certificates that listeners show.

use std::time::SystemTime;

use merpati_console::health::{Finding, Grade};
use merpati_mail::Domain;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::{
    certificates::{Pair, is_named},
    config::{Config, values::TlsUse},
};

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for listener in config.listeners.iter().filter(|it| it.tls != TlsUse::None) {
        let about = format!("listener {}", listener.name);
        let pair = listener.tls_certificate.clone().zip(listener.tls_key.clone());
        findings.push(if let Some((chain, key)) = pair {
            look(about, &Pair { chain, key }, Some(config))
        } else if let Some(ordered) = config.ordered_for_host() {
            look(about, &config.files_of(ordered), Some(config))
        } else {
            let words = "it shows a certificate that the relay signed itself";
            Finding::new("certificate", about, Grade::Warning, words)
                .fix("set tls_certificate and tls_key of this listener")
        });
    }
    findings.extend(
        config
            .certificates
            .iter()
            .map(|one| look(format!("certificate {}", one.name), &config.files_of(one), None)),
    );
    findings
}

/// `config` where the certificate should be for our own name.
fn look(about: String, pair: &Pair, config: Option<&Config>) -> Finding {
    let read = pair.read().map_err(|why| format!("{why:#}"));
    let facts = read.and_then(|key| {
        let first = key.cert.first().ok_or("there is no certificate")?;
        let (_, parsed) = X509Certificate::from_der(first).map_err(|why| why.to_string())?;
        let hostname = config.map(|config| &config.server.hostname);
        let missing = hostname.filter(|name| !is_named(&key, &name.to_string()));
        Ok(Facts {
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            is_self_signed: parsed.issuer() == parsed.subject(),
            missing: missing.cloned(),
        })
    });
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    judge(about, &facts, i64::try_from(now).unwrap_or(i64::MAX))
}

/// What counts of a certificate; times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    not_before: i64,
    not_after: i64,
    is_self_signed: bool,
    /// Our name, which it does not have.
    missing: Option<Domain>,
}

fn judge(about: String, facts: &Result<Facts, String>, now: i64) -> Finding {
    let finding = |grade, words: String| Finding::new("certificate", about, grade, words);
    let facts = match facts {
        Ok(facts) => facts,
        Err(why) => {
            return finding(Grade::Bad, format!("there is no TLS with it: {why}"))
                .fix("correct the files; they are read again by themselves");
        }
    };
    let days = (facts.not_after - now).div_euclid(86_400);
    let renewal = "renew it; the files are read again by themselves";
    if facts.not_before > now {
        return finding(Grade::Bad, "it is not valid yet".to_owned()).fix("see the clock");
    }
    if facts.not_after < now {
        let words = format!("it has expired {} days ago", -days);
        return finding(Grade::Bad, words).fix(renewal);
    }
    if days < DAYS_LEFT_MIN {
        return finding(Grade::Warning, format!("it expires in {days} days")).fix(renewal);
    }
    if facts.is_self_signed {
        let words = "it is signed by itself, and proves nobody's name".to_owned();
        return finding(Grade::Warning, words).fix("take one of a certificate authority");
    }
    if let Some(missing) = &facts.missing {
        let words = format!("it is not for {missing}, by which others know us");
        return finding(Grade::Warning, words).fix(format!("take one for {missing}"));
    }
    finding(Grade::Good, format!("it is good for {days} more days"))
}

/// Certificates are renewed when a third of their life is left: at 30 days of 90.
const DAYS_LEFT_MIN: i64 = 14;

#[cfg(test)]
mod tests {
    use rcgen::generate_simple_self_signed;

    use super::*;

    #[test]
    fn a_certificate_is_good_for_our_name_and_long_enough() {
        let day = 86_400;
        let good =
            Facts { not_before: 0, not_after: 90 * day, is_self_signed: false, missing: None };
        let missing = Some(Domain::parse("mx.ours.example").unwrap());
        for (facts, now, want) in [
            (good.clone(), day, Grade::Good),
            (good.clone(), 77 * day, Grade::Warning),
            (good.clone(), 91 * day, Grade::Bad),
            (good.clone(), -1, Grade::Bad),
            (Facts { is_self_signed: true, ..good.clone() }, day, Grade::Warning),
            (Facts { missing, ..good }, day, Grade::Warning),
        ] {
            let finding = judge(String::new(), &Ok(facts), now);
            assert_eq!(finding.grade, want, "{finding:?}");
        }
        let finding = judge(String::new(), &Err("x".to_owned()), 0);
        assert_eq!(finding.grade, Grade::Bad, "{finding:?}");
    }

    #[test]
    fn files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let made = generate_simple_self_signed(vec!["mx.ours.example".to_owned()]).unwrap();
        let pair = Pair { chain: folder.path().join("chain"), key: folder.path().join("key") };
        let finding = look("x".to_owned(), &pair, None);
        assert_eq!(finding.grade, Grade::Bad, "{finding:?}");
        std::fs::write(&pair.chain, made.cert.pem()).unwrap();
        std::fs::write(&pair.key, made.signing_key.serialize_pem()).unwrap();
        let finding = look("x".to_owned(), &pair, None);
        assert!(finding.words.contains("signed by itself"), "{finding:?}");
    }
}
