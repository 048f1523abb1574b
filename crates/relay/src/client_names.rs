//! For whom a certificate was issued (RFC 5280 §4.2.1.6).
//!
//! Invariant: only the names of the extension `subjectAltName` count, never the subject; and what
//! cannot be read has no names. Pure: whether the certificate is good was found out before.

/// The mail addresses and DNS names in a certificate in DER.
pub(crate) fn names(certificate: &[u8]) -> Vec<String> {
    find(certificate).unwrap_or_default()
}

/// Walks `Certificate → tbsCertificate → extensions → subjectAltName`.
fn find(certificate: &[u8]) -> Option<Vec<String>> {
    let (certificate, _) = Der(certificate).take(SEQUENCE)?;
    let (tbs, _) = certificate.take(SEQUENCE)?;
    let mut rest = tbs;
    let extensions = loop {
        let (tag, content, behind) = rest.next()?;
        if tag == EXTENSIONS {
            break content.take(SEQUENCE)?.0;
        }
        rest = behind;
    };
    let mut rest = extensions;
    while let Some((extension, behind)) = rest.take(SEQUENCE) {
        rest = behind;
        let (id, value) = extension.take(OBJECT_IDENTIFIER)?;
        if id.0 == SUBJECT_ALT_NAME {
            // `critical` may stand between.
            let value = value.take(BOOLEAN).map_or(value, |(_, behind)| behind);
            let (names, _) = value.take(OCTET_STRING)?.0.take(SEQUENCE)?;
            return Some(texts(names));
        }
    }
    None
}

fn texts(names: Der<'_>) -> Vec<String> {
    let (mut texts, mut rest) = (Vec::new(), names);
    while let Some((tag, name, behind)) = rest.next() {
        rest = behind;
        // IA5String: with anything else in it, it is a trick.
        let is_text = !name.0.is_empty() && name.0.iter().all(u8::is_ascii_graphic);
        if [RFC822_NAME, DNS_NAME].contains(&tag) && is_text {
            texts.push(String::from_utf8_lossy(name.0).into_owned());
        }
    }
    texts
}

/// A text in DER (X.690 §10).
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl Der<'_> {
    /// The first value with its tag, and what stands behind it.
    fn next(self) -> Option<(u8, Self, Self)> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x83 => {
                let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = octets.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet));
                (length, rest)
            }
            0x80 | 0x84..=0xff => return None,
        };
        let (content, behind) = rest.split_at_checked(length)?;
        Some((*tag, Self(content), Self(behind)))
    }

    /// The first value where it has this tag, and what stands behind it.
    fn take(self, wanted: u8) -> Option<(Self, Self)> {
        let (tag, content, behind) = self.next()?;
        (tag == wanted).then_some((content, behind))
    }
}

const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const RFC822_NAME: u8 = 0x81;
const DNS_NAME: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn only_the_names_that_stand_where_they_belong_count() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "root@subject.example");
        params.subject_alt_names = vec![
            SanType::Rfc822Name("ani@shop.example".try_into().unwrap()),
            SanType::IpAddress("192.0.2.1".parse().unwrap()),
            SanType::DnsName("till.shop.example".try_into().unwrap()),
        ];
        let whole = params.self_signed(&key).unwrap();
        assert_eq!(names(whole.der()), ["ani@shop.example", "till.shop.example"]);
        params.subject_alt_names.clear();
        assert_eq!(names(params.self_signed(&key).unwrap().der()), [] as [&str; 0]);
        // Cut off or broken anywhere, it has no names, or those, but never ends us.
        let mut octets = whole.der().to_vec();
        for at in 0..octets.len() {
            names(&octets[..at]);
            octets[at] ^= 0xff;
            names(&octets);
            octets[at] ^= 0xff;
        }
    }
}
