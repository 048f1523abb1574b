//! What is in a file with reports of TLS: a mail, a gzip, or JSON as it is (RFC 8460 §5).
//!
//! Invariant: what is taken apart is bounded, in octets once it is unpacked, in depth and in
//! parts; names of files in a mail lead nowhere. Pure.

use std::io::Read as _;

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use merpati_mail::header;
use serde_json::Value;

use super::Report;

/// The reports in these octets, or why there is none.
pub fn open(octets: &[u8]) -> Result<Vec<Report>, String> {
    if is_report(octets) {
        return read(octets).map(|report| vec![report]);
    }
    if !header::is_header_start(octets) {
        return Err("it is no mail, no gzip and no JSON".to_owned());
    }
    let mut found = Parts { left: PARTS_MAX, reports: Vec::new(), trouble: None };
    found.look(octets, 0);
    match (found.reports.is_empty(), found.trouble) {
        (false, _) => Ok(found.reports),
        (true, Some(why)) => Err(why),
        (true, None) => Err("the mail has no report of TLS in it".to_owned()),
    }
}

/// JSON, or JSON in gzip.
fn read(octets: &[u8]) -> Result<Report, String> {
    let unpacked = if octets.starts_with(GZIP) { Some(unpack(octets)?) } else { None };
    let octets = unpacked.as_deref().unwrap_or(octets);
    // Some writers begin with the mark of UTF-8.
    let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
    let value: Value =
        serde_json::from_slice(octets).map_err(|why| format!("the JSON is broken: {why}"))?;
    Report::of(&value).ok_or_else(|| "the JSON is no report of TLS: it has no policies".to_owned())
}

fn unpack(octets: &[u8]) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    let mut reader = GzDecoder::new(octets).take(UNPACKED_OCTETS_MAX + 1);
    reader.read_to_end(&mut unpacked).map_err(|why| format!("the gzip is broken: {why}"))?;
    if unpacked.len() as u64 > UNPACKED_OCTETS_MAX {
        return Err(format!("it is longer than {UNPACKED_OCTETS_MAX} octets once it is unpacked"));
    }
    Ok(unpacked)
}

/// Octets in gzip (RFC 1952).
pub fn pack(octets: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Write as _;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(octets)?;
    encoder.finish()
}

fn is_report(octets: &[u8]) -> bool {
    let text = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
    octets.starts_with(GZIP) || text.trim_ascii_start().starts_with(b"{")
}

/// What was found in a mail.
struct Parts {
    /// Parts that may still be looked at.
    left: usize,
    reports: Vec<Report>,
    trouble: Option<String>,
}

impl Parts {
    fn look(&mut self, part: &[u8], depth: usize) {
        if depth > DEPTH_MAX || self.left == 0 {
            return;
        }
        self.left -= 1;
        let body = part.get(header::body_start(part)..).unwrap_or_default();
        let field = |name| header::first(part, name).map(|field| field.unfolded());
        let kind = field("Content-Type").unwrap_or_default();
        let encoding = field("Content-Transfer-Encoding").unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence.starts_with("multipart/") {
            let Some(boundary) = boundary(&kind) else { return };
            for inner in split(body, &boundary) {
                self.look(inner, depth + 1);
            }
            return;
        }
        let octets = decoded(body, encoding.trim());
        if essence == "message/rfc822" {
            self.look(&octets, depth + 1);
        } else if is_report(&octets) {
            match read(&octets) {
                Ok(report) => self.reports.push(report),
                Err(why) => self.trouble = Some(why),
            }
        }
    }
}

/// The parameter `boundary` of a content type.
fn boundary(kind: &str) -> Option<String> {
    let at = kind.to_ascii_lowercase().find("boundary")?;
    let value = kind.get(at + "boundary".len()..)?.trim_start().strip_prefix('=')?.trim_start();
    let value = match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => value.split([';', ' ', '\t']).next()?,
    };
    (!value.is_empty()).then(|| value.to_owned())
}

/// The parts between the delimiters (RFC 2046 §5.1.1).
fn split<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let delimiter = format!("--{boundary}");
    let (mut parts, mut begin, mut at) = (Vec::new(), None, 0);
    for line in body.split_inclusive(|octet| *octet == b'\n') {
        let is_delimiter = line.starts_with(delimiter.as_bytes());
        if is_delimiter {
            parts.extend(begin.and_then(|begin| body.get(begin..at)));
            begin = Some(at + line.len());
        }
        at += line.len();
    }
    // One that was cut off may be whole all the same.
    parts.extend(begin.and_then(|begin| body.get(begin..)).filter(|rest| !rest.is_empty()));
    parts
}

fn decoded(body: &[u8], encoding: &str) -> Vec<u8> {
    if encoding.eq_ignore_ascii_case("base64") {
        let text: Vec<u8> = body.iter().copied().filter(|it| !it.is_ascii_whitespace()).collect();
        return LENIENT.decode(text).unwrap_or_default();
    }
    if encoding.eq_ignore_ascii_case("quoted-printable") {
        return unquoted(body);
    }
    body.to_vec()
}

/// Quoted-printable (RFC 2045 §6.7); what is no encoding stays as it is.
fn unquoted(body: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'=' {
            octets.push(*first);
            continue;
        }
        let soft = [&b"\r\n"[..], b"\n"].into_iter().find_map(|end| behind.strip_prefix(end));
        if let Some(behind) = soft {
            rest = behind;
            continue;
        }
        let digits = behind.split_at_checked(2).and_then(|(digits, behind)| {
            let digits = str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(digits, 16).ok()?, behind))
        });
        match digits {
            Some((octet, behind)) => {
                octets.push(octet);
                rest = behind;
            }
            None => octets.push(b'='),
        }
    }
    octets
}

/// Padding may be missing: some writers forget it.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How octets in gzip begin.
const GZIP: &[u8] = b"\x1f\x8b";

/// The longest report once it is unpacked.
const UNPACKED_OCTETS_MAX: u64 = 16 << 20;

/// Parts within parts of a mail.
const DEPTH_MAX: usize = 8;

/// Parts of a mail that are looked at.
const PARTS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"organization-name":"A","policies":[]}"#;

    fn organizations(octets: &[u8]) -> Result<Vec<String>, String> {
        let reports = open(octets)?;
        Ok(reports.into_iter().map(|report| report.organization.unwrap()).collect())
    }

    #[test]
    fn a_report_is_found_in_json_gzip_and_mail() {
        let packed = pack(JSON.as_bytes()).unwrap();
        let mut base64 = base64::engine::general_purpose::STANDARD.encode(&packed);
        base64.insert_str(20, "\r\n");
        let part = |fields: &str, body: &str| format!("--b\r\n{fields}\r\n{body}\r\n");
        let text = part("Content-Type: text/plain\r\n", "A report.");
        let report = part(
            "Content-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: Base64\r\n",
            &base64,
        );
        let quoted = part(
            "Content-Type: application/tlsrpt+json\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n",
            &JSON.replace('"', "=22").replace("polic", "pol=\r\nic"),
        );
        let head = "From: a@a.example\r\n\
                    Content-Type: multipart/report; report-type=\"tlsrpt\"; boundary=b\r\n\r\n";
        let mail = format!("{head}{text}{report}--b--\r\n");
        let forwarded = format!(
            "Content-Type: multipart/mixed; Boundary=\"c\"\r\n\r\n--c\r\nContent-Type: \
             message/rfc822\r\n\r\n{mail}\r\n--c--\r\n"
        );
        let alone = format!(
            "Content-Type: application/gzip\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
            base64.trim_end_matches('=')
        );
        for (octets, count) in [
            (JSON.as_bytes(), 1),
            (format!("\u{feff} {JSON}").as_bytes(), 1),
            (&packed, 1),
            (mail.as_bytes(), 1),
            (mail.replace("\r\n", "\n").as_bytes(), 1),
            (format!("{head}{text}{report}{quoted}--b--\r\n").as_bytes(), 2),
            (format!("{head}{text}{report}").as_bytes(), 1),
            (forwarded.as_bytes(), 1),
            (alone.as_bytes(), 1),
        ] {
            let got = organizations(octets);
            assert_eq!(got, Ok(vec!["A".to_owned(); count]), "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_report_says_why() {
        for (octets, want) in [
            (&b"hello"[..], "no mail"),
            (b"", "no mail"),
            (b"{\"a\":1}", "no policies"),
            (b"{\"policies\":", "broken"),
            (b"\x1f\x8bxxxxxxxxxxxxxx", "broken"),
            (b"Subject: x\r\n\r\nhello", "no report"),
            (b"Content-Type: application/json\r\n\r\n{", "broken"),
        ] {
            let why = open(octets).unwrap_err();
            assert!(why.contains(want), "{why}: {}", octets.escape_ascii());
        }
    }

    #[test]
    fn what_unpacks_without_end_or_nests_without_end_is_left() {
        let bomb = pack(&vec![b' '; 20 << 20]).unwrap();
        assert!(bomb.len() < 100_000);
        assert!(open(&bomb).unwrap_err().contains("longer than"));
        let twice = pack(&pack(JSON.as_bytes()).unwrap()).unwrap();
        assert!(open(&twice).unwrap_err().contains("broken"), "a gzip in a gzip");
        let deep = "[".repeat(100_000);
        assert!(open(format!("{{\"policies\":{deep}").as_bytes()).is_err());
        let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(20);
        assert!(open(format!("{nested}\r\n{JSON}").as_bytes()).is_err());
        let many = "--b\r\n\r\nx\r\n".repeat(1_000);
        let many = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{many}");
        assert!(open(many.as_bytes()).is_err());
    }
}
