//! Whether what the DNS says of our certificate (TLSA, RFC 6698, RFC 7672) fits it.
//!
//! Invariant: a record is good only where who goes by DANE would deliver to us by it. Pure.

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;

use super::{
    judge::{Judgement, Standing},
    records::Host,
};
use crate::{
    dane::{HOST, ISSUER, TlsaRecord, hex, public_key},
    resolve::TlsaAnswer,
};

/// What a listener shows to who delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Its certificate and those that lead to its root.
    Chain(Vec<CertificateDer<'static>>),
    /// Nothing: no listener takes mail with STARTTLS.
    Nothing,
    /// What could not be read, and why.
    Unread(String),
}

impl Shown {
    /// What a record says of it: that the public key of the host is this one (3 1 1), which holds
    /// when the certificate is renewed with the same key (RFC 7672 §3.1.1). `None` where nothing is
    /// shown.
    pub fn record(&self) -> Option<String> {
        let Self::Chain(chain) = self else { return None };
        let sum = digest::digest(&digest::SHA256, &public_key(chain.first()?)?);
        Some(format!("3 1 1 {}", hex(sum.as_ref())))
    }

    /// Whether a record fits. Of what stands in no public tree, SMTP knows usages 2 and 3 only
    /// (RFC 7672 §3.1.3).
    fn fits(&self, record: &TlsaRecord) -> bool {
        let Self::Chain(chain) = self else { return false };
        match record.usage {
            HOST => chain.first().is_some_and(|own| record.names(own)),
            ISSUER => chain.iter().skip(1).any(|one| record.names(one)),
            _ => false,
        }
    }
}

/// What DNS says of our certificate; `None` where it says nothing, which is good.
pub(super) fn judge(answer: &TlsaAnswer, host: &Host) -> Option<Judgement> {
    let records = match answer {
        TlsaAnswer::None => return None,
        TlsaAnswer::Records(records) => records,
        TlsaAnswer::Unknown => {
            let words = "the DNS does not answer; who goes by DANE waits while that is so";
            return Some(Judgement::new(Standing::Unknown, words));
        }
    };
    let fitting = records.iter().filter(|record| host.shown.fits(record)).count();
    let is_of_host = |record: &&TlsaRecord| record.usage == HOST && host.shown.fits(record);
    let is_sure = records.iter().any(|record| is_of_host(&record));
    Some(match &host.shown {
        Shown::Nothing => {
            let words = "no listener takes mail with STARTTLS: who goes by DANE does not deliver; \
                         withdraw it";
            Judgement::new(Standing::Differs, words)
        }
        Shown::Unread(why) => {
            Judgement::new(Standing::Unknown, format!("the certificate cannot be read: {why}"))
        }
        Shown::Chain(_) if fitting > 0 && !is_sure => {
            let words = "it names one in the chain of the certificate (usage 2): whether that one \
                         signed ours, and for this name, is not looked at. 3 1 1 needs neither";
            Judgement::new(Standing::Unknown, words)
        }
        Shown::Chain(_) if fitting > 0 => {
            let others = match records.len() - fitting {
                0 => "",
                _ => "; others there do not, as for a key of tomorrow",
            };
            let words = format!(
                "it fits the certificate{others}. It counts if the zone of {} is signed (DNSSEC)",
                host.hostname
            );
            Judgement::new(Standing::Good, words)
        }
        Shown::Chain(_) => {
            let ours = host.shown.record().unwrap_or_default();
            let words = format!(
                "it does not fit the certificate: who goes by DANE does not deliver. Publish \
                 {ours} beside it at once, then withdraw what was there"
            );
            Judgement::new(Standing::Differs, words)
        }
    })
}

#[cfg(test)]
mod tests {
    use merpati_mail::Domain;
    use rcgen::generate_simple_self_signed;

    use super::*;

    fn host(shown: Shown) -> Host {
        let hostname = Domain::parse("mx.ours.example").unwrap();
        Host {
            hello: hostname.clone(),
            hostname,
            leaves: Vec::new(),
            is_chosen: true,
            takes_mail: true,
            policy: None,
            shown,
        }
    }

    /// Three numbers and hexadecimal digits.
    fn record(text: &str) -> TlsaRecord {
        let parts: Vec<&str> = text.split(' ').collect();
        let number = |at: usize| parts[at].parse().unwrap();
        let octet = |at| u8::from_str_radix(&parts[3][at..at + 2], 16).unwrap();
        let data = (0..parts[3].len()).step_by(2).map(octet).collect();
        TlsaRecord { usage: number(0), selector: number(1), matching: number(2), data }
    }

    #[test]
    fn a_record_is_good_only_where_it_lets_mail_through() {
        let made = ["a", "b", "c"]
            .map(|name| generate_simple_self_signed(vec![format!("{name}.example")]).unwrap());
        let [own, issuer, other] = made.map(|made| made.cert.der().clone());
        let shown = Shown::Chain(vec![own.clone(), issuer.clone()]);
        let ours = shown.record().unwrap();
        assert!(ours.starts_with("3 1 1 ") && ours.len() == 6 + 64, "{ours}");
        let of = |numbers: &str, certificate: &CertificateDer<'static>| {
            let key = public_key(certificate).unwrap();
            let of = |algorithm, octets: &[u8]| hex(digest::digest(algorithm, octets).as_ref());
            let data = match numbers.get(2..).unwrap() {
                "0 0" => hex(certificate),
                "0 1" => of(&digest::SHA256, certificate),
                "1 2" => of(&digest::SHA512, &key),
                _ => of(&digest::SHA256, &key),
            };
            format!("{numbers} {data}")
        };
        for (texts, want) in [
            (vec![ours.clone()], Standing::Good),
            (vec![of("3 1 1", &own)], Standing::Good),
            (vec![of("3 0 0", &own)], Standing::Good),
            (vec![of("3 0 1", &own)], Standing::Good),
            (vec![of("3 1 2", &own)], Standing::Good),
            (vec![of("2 1 1", &issuer)], Standing::Unknown),
            (vec![of("2 1 1", &issuer), ours.clone()], Standing::Good),
            (vec![of("3 1 1", &other), ours.clone()], Standing::Good),
            (vec![of("3 1 1", &other)], Standing::Differs),
            (vec![of("3 1 1", &issuer)], Standing::Differs),
            (vec![of("2 1 1", &own)], Standing::Differs),
            (vec![of("1 1 1", &own)], Standing::Differs),
            (vec![of("3 2 1", &own)], Standing::Differs),
            (vec![of("3 1 3", &own)], Standing::Differs),
        ] {
            let records = texts.iter().map(|text| record(text)).collect();
            let found = judge(&TlsaAnswer::Records(records), &host(shown.clone())).unwrap();
            assert_eq!(found.standing, want, "{texts:?}: {}", found.words);
        }
        let published = TlsaAnswer::Records(vec![record(&ours)]);
        let standing = |answer, shown| judge(answer, &host(shown)).map(|found| found.standing);
        assert_eq!(standing(&published, Shown::Nothing), Some(Standing::Differs));
        let unread = Shown::Unread("gone".to_owned());
        assert_eq!(standing(&published, unread), Some(Standing::Unknown));
        assert_eq!(standing(&TlsaAnswer::Unknown, shown.clone()), Some(Standing::Unknown));
        assert_eq!(standing(&TlsaAnswer::None, shown), None);
    }
}
