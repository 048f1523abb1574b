//! Where a domain wants reports of TLS sent: its record of TLSRPT (RFC 8460 §3).
//!
//! Invariant: a record that is not well-formed wants nothing. Pure: somebody else asks the DNS.

use std::fmt;

use merpati_mail::Mailbox;

/// Where a report goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// By POST to this `https` URI, in ASCII without blanks.
    Https(String),
    /// By mail to this address.
    Mail(Mailbox),
}

impl Endpoint {
    /// Reads a URI. `None` where it is of another scheme, or what it says cannot be understood.
    pub fn parse(uri: &str) -> Option<Self> {
        let is_uri =
            uri.len() <= URI_OCTETS_MAX && uri.bytes().all(|octet| octet.is_ascii_graphic());
        let (scheme, rest) = uri.split_once(':').filter(|_| is_uri)?;
        if scheme.eq_ignore_ascii_case("https") {
            let host = rest.strip_prefix("//")?;
            return (!host.is_empty()).then(|| Self::Https(format!("https:{rest}")));
        }
        if !scheme.eq_ignore_ascii_case("mailto") {
            return None;
        }
        // Fields behind `?` would be ours to write into a message (RFC 6068 §2): they are left out.
        let address = rest.split('?').next()?;
        Mailbox::parse(&unescaped(address)?).ok().map(Self::Mail)
    }
}

impl fmt::Display for Endpoint {
    /// The URI.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Https(uri) => f.write_str(uri),
            Self::Mail(mailbox) => write!(f, "mailto:{mailbox}"),
        }
    }
}

/// Where reports go by the TXT records of `_smtp._tls.DOMAIN`, each once; at most
/// [`ENDPOINTS_MAX`]. `None` where there is no record, more than one, or one that is not
/// well-formed: then the domain wants no reports. Schemes that we do not know are passed over.
pub fn endpoints(texts: &[impl AsRef<[u8]>]) -> Option<Vec<Endpoint>> {
    let mut records = texts.iter().filter_map(|text| fields(text.as_ref()));
    let (Some(fields), None) = (records.next(), records.next()) else { return None };
    let fields = str::from_utf8(fields).ok()?.trim_matches(is_blank);
    let mut found: Option<Vec<Endpoint>> = None;
    for field in fields.strip_suffix(';').unwrap_or(fields).split(';') {
        let (name, value) = field.trim_matches(is_blank).split_once('=')?;
        if name != "rua" {
            continue;
        }
        // Two of them: nobody can tell which is meant.
        if found.is_some() {
            return None;
        }
        let mut endpoints = Vec::new();
        for uri in value.split(',').filter_map(|uri| Endpoint::parse(uri.trim_matches(is_blank))) {
            if endpoints.len() < ENDPOINTS_MAX && !endpoints.contains(&uri) {
                endpoints.push(uri);
            }
        }
        found = Some(endpoints);
    }
    found
}

/// What stands behind the version, where a text has the version of such records.
fn fields(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"v=TLSRPTv1")?.trim_ascii_start().strip_prefix(b";")
}

/// Text with `%XX` for octets (RFC 3986 §2.1); `None` where it is not that, or no UTF-8.
fn unescaped(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    octets.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        octets.push(u8::from_str_radix(digits, 16).ok()?);
        octets.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(octets).ok()
}

/// WSP (RFC 5234, appendix B.1).
const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// Places to which one domain may have a report sent.
pub const ENDPOINTS_MAX: usize = 5;

/// The longest URI.
const URI_OCTETS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_where_reports_go() {
        let many: Vec<_> = (0..100).map(|n| format!("https://r{n}.example/")).collect();
        let many = format!("v=TLSRPTv1; rua={}", many.join(","));
        let first: Vec<_> = (0..5).map(|n| format!("https://r{n}.example/")).collect();
        let first: Vec<&str> = first.iter().map(String::as_str).collect();
        for (texts, want) in [
            (&["v=TLSRPTv1;rua=mailto:r@a.example"][..], Some(&["mailto:r@a.example"][..])),
            (&["v=TLSRPTv1; rua=https://a.example/v1?x=1;"], Some(&["https://a.example/v1?x=1"])),
            (
                &["v=TLSRPTv1 ; rua=mailto:r@a.example , HTTPS://a.example/ ; x=y"],
                Some(&["mailto:r@a.example", "https://a.example/"]),
            ),
            (
                &["v=TLSRPTv1; rua=MAILTO:r@A.example,mailto:r@a.example"],
                Some(&["mailto:r@a.example"]),
            ),
            (
                &["v=TLSRPTv1; rua=mailto:r%2Bx@a.example?subject=y"],
                Some(&["mailto:r+x@a.example"]),
            ),
            (&["other", "v=TLSRPTv1; rua=mailto:r@a.example"], Some(&["mailto:r@a.example"])),
            (&["v=TLSRPTv1; rua=http://a.example/,ftp://a.example"], Some(&[])),
            (&["v=TLSRPTv1; rua=mailto:r@a.example%0d%0aRCPT%20TO:<x@b.example>"], Some(&[])),
            (&["v=TLSRPTv1; rua=mailto:a@a.example%0D%0A"], Some(&[])),
            (&["v=TLSRPTv1; rua=https://"], Some(&[])),
            (&["v=TLSRPTv1; rua=https://a b/"], Some(&[])),
            (&[&many], Some(&first)),
            (&["v=TLSRPTv1; rua=mailto:a@a.example; rua=mailto:b@a.example"], None),
            (&["v=TLSRPTv1; rua=mailto:a@a.example", "v=TLSRPTv1; rua=mailto:a@a.example"], None),
            (&["v=TLSRPTv1; x=y"], None),
            (&["v=TLSRPTv1"], None),
            (&["v=TLSRPTv2; rua=mailto:a@a.example"], None),
            (&["v=tlsrptv1; rua=mailto:a@a.example"], None),
            (&["v=TLSRPTv1; rua"], None),
            (&[], None),
        ] {
            let got = endpoints(texts);
            let got: Option<Vec<_>> = got.map(|all| all.iter().map(ToString::to_string).collect());
            let want: Option<Vec<_>> =
                want.map(|all| all.iter().map(ToString::to_string).collect());
            assert_eq!(got, want, "{texts:?}");
        }
        assert_eq!(endpoints(&[b"v=TLSRPTv1; rua=mailto:a@a.example; x=\xff"]), None);
    }
}
