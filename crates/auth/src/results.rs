//! What was found, said to those who come after us: `Authentication-Results` (RFC 8601) and
//! `Received-SPF` (RFC 7208 §9.1).
//!
//! Invariant: what strangers said, in HELO, in addresses, in records, can neither end a field nor
//! speak for us in it: it is a token, a quoted string, or left out. Pure.

use std::fmt::Write as _;

use crate::{Findings, spf::SpfResult};

/// What was found, as header fields say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The checks and their results, as `Authentication-Results` has them behind its name, without
    /// a line end.
    pub results: String,
    /// The field `Received-SPF`, with its line end.
    pub received_spf: String,
}

impl Said {
    /// Both fields, each with its line end, the one that goes on top first.
    pub fn fields(&self) -> String {
        format!("Authentication-Results: {}\r\n{}", self.results, self.received_spf)
    }
}

/// What was found. `host` is our own name, `client` the address of the client, `helo` what it said,
/// `sender` the mailbox of the reverse-path.
pub fn said(
    findings: &Findings,
    host: &str,
    (client, helo, sender): (std::net::IpAddr, &str, Option<&str>),
) -> Said {
    let mut text = value(host);
    let client = client.to_canonical();
    let identity = match sender {
        Some(sender) => Property::of("smtp.mailfrom", address_or_domain(sender)),
        None => Property::of("smtp.helo", helo),
    };
    let name = findings.iprev.name.as_deref();
    entry(
        &mut text,
        "iprev",
        findings.iprev.result.as_str(),
        (name, None),
        &[Property::of("policy.iprev", &client.to_string())],
    );
    let spf = &findings.spf;
    entry(&mut text, "spf", spf.result.as_str(), (None, spf.why.as_deref()), &[identity]);
    if findings.dkim.is_empty() {
        entry(&mut text, "dkim", "none", (None, None), &[]);
    }
    for it in &findings.dkim {
        let bits = it.rsa_bits.map(|bits| format!("{bits}-bit key"));
        let properties = [
            Property::of("header.d", &it.domain),
            Property::of("header.s", &it.selector),
            Property::of("header.a", it.algorithm),
            Property::of("header.b", &it.start),
        ];
        let said = (bits.as_deref(), it.why.as_deref());
        entry(&mut text, "dkim", it.result.as_str(), said, &properties);
    }
    let arc = &findings.arc;
    if arc.result.as_str() != "none" {
        let sealer = arc.sealers.last().map_or("", String::as_str);
        let properties = [Property::of("header.d", sealer)];
        entry(&mut text, "arc", arc.result.as_str(), (None, arc.why.as_deref()), &properties);
    }
    for dmarc in &findings.dmarc {
        let policy = dmarc.published_by.as_ref().map(|_| format!("p={}", dmarc.policy.as_str()));
        let said = (policy.as_deref(), dmarc.why.as_deref());
        let properties = [Property::of("header.from", &dmarc.author)];
        entry(&mut text, "dmarc", dmarc.result.as_str(), said, &properties);
    }
    let received_spf = received_spf(findings, host, (&client.to_string(), helo, sender));
    Said { results: text, received_spf }
}

/// A property of a result: type, name and value.
struct Property<'a> {
    name: &'a str,
    value: String,
}

impl<'a> Property<'a> {
    /// One with an empty value is left out.
    fn of(name: &'a str, text: &str) -> Self {
        Self { name, value: if text.is_empty() { String::new() } else { value(text) } }
    }
}

/// One result on lines of its own: method, result, a comment, a reason, and properties.
fn entry(
    text: &mut String,
    method: &str,
    result: &str,
    (comment, reason): (Option<&str>, Option<&str>),
    properties: &[Property<'_>],
) {
    write(text, format_args!(";\r\n\t{method}={result}"));
    if let Some(comment) = comment {
        write(text, format_args!(" ({})", plain(comment)));
    }
    // That there is nothing needs no reason.
    let reason = reason.filter(|_| result != "none");
    if let Some(reason) = reason {
        write(text, format_args!("\r\n\t reason={}", quoted(reason)));
    }
    for Property { name, value } in properties.iter().filter(|it| !it.value.is_empty()) {
        let line = text.len() - text.rfind('\n').map_or(0, |feed| feed + 1);
        let is_long = line + name.len() + value.len() > LINE_OCTETS;
        let blank = if is_long { "\r\n\t " } else { " " };
        write(text, format_args!("{blank}{name}={value}"));
    }
}

/// `Received-SPF`, in the key and value pairs of RFC 7208 §9.1.
fn received_spf(
    findings: &Findings,
    host: &str,
    (client, helo, sender): (&str, &str, Option<&str>),
) -> String {
    let spf = &findings.spf;
    let said = match spf.result {
        SpfResult::Fail => "does not permit",
        SpfResult::Neutral => "neither permits nor denies",
        SpfResult::None => "does not say who may send:",
        SpfResult::Pass => "permits",
        SpfResult::PermError => "cannot be understood about",
        SpfResult::SoftFail => "probably does not permit",
        SpfResult::TempError => "could not be asked about",
    };
    let domain = plain(&spf.domain);
    let mut text = format!("Received-SPF: {} ({domain} {said} {client})", spf.result);
    write(&mut text, format_args!("\r\n\treceiver={}; client-ip={}", value(host), value(client)));
    let sender = sender.map(quoted);
    if let Some(sender) = &sender {
        write(&mut text, format_args!(";\r\n\tenvelope-from={sender}"));
    }
    if !helo.is_empty() {
        write(&mut text, format_args!(";\r\n\thelo={}", value(helo)));
    }
    write(
        &mut text,
        format_args!(";\r\n\tidentity={}", if sender.is_some() { "mailfrom" } else { "helo" }),
    );
    if let Some((mechanism, _)) = &spf.by {
        write(&mut text, format_args!("; mechanism={mechanism}"));
    }
    text.push_str("\r\n");
    text
}

/// A mailbox, where all readers read it alike; else its domain.
fn address_or_domain(mailbox: &str) -> &str {
    let Some((local, domain)) = mailbox.rsplit_once('@') else { return mailbox };
    let is_plain =
        |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&octet);
    let is_atoms = local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_plain));
    if is_atoms && domain.is_ascii() { mailbox } else { domain }
}

/// A token (RFC 2045 §5.1), an address as RFC 8601 has it in a value, or a quoted string.
fn value(text: &str) -> String {
    let is_token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|o| o.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&o))
    };
    let is_address = text.rsplit_once('@').is_some_and(|(local, domain)| {
        let is_local = |octet: u8| octet.is_ascii_graphic() && !b"()<>@,;:\\\"[]".contains(&octet);
        is_token(domain) && !local.is_empty() && local.bytes().all(is_local)
    });
    let is_short = text.len() <= TEXT_CHARS_MAX;
    if is_short && (is_token(text) || is_address) { text.to_owned() } else { quoted(text) }
}

/// A quoted string (RFC 5322 §3.2.4), without what could end it or its line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars().take(TEXT_CHARS_MAX) {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_ascii_graphic() || c == ' ' => quoted.push(c),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

/// A text for a comment.
fn plain(text: &str) -> String {
    let fit = |c: char| match c {
        '(' | ')' | '\\' => '?',
        c if c.is_ascii_graphic() || c == ' ' => c,
        _ => '?',
    };
    text.chars().take(TEXT_CHARS_MAX).map(fit).collect()
}

fn write(text: &mut String, what: std::fmt::Arguments<'_>) {
    // A string takes anything.
    text.write_fmt(what).ok();
}

/// Octets of a line that it should not exceed (RFC 5322 §2.1.1), if it can be folded.
const LINE_OCTETS: usize = 78;
/// Characters of a stranger's text that are repeated.
const TEXT_CHARS_MAX: usize = 320;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ArcFinding, ArcResult, DkimFinding, DkimResult,
        dmarc::{DmarcFinding, DmarcResult, Policy},
        iprev::{IprevFinding, IprevResult},
        spf::SpfFinding,
    };

    fn findings(stranger: &str) -> Findings {
        let text = || stranger.to_owned();
        let signature = DkimFinding {
            result: DkimResult::Fail,
            domain: text(),
            selector: text(),
            identity: Some(text()),
            algorithm: "rsa-sha256",
            start: "abc+/d==".to_owned(),
            why: Some(text()),
            ..DkimFinding::default()
        };
        let dmarc = DmarcFinding {
            result: DmarcResult::Fail,
            author: text(),
            published_by: Some(text()),
            policy: Policy::Reject,
            by: None,
            why: Some(text()),
        };
        Findings {
            iprev: IprevFinding { result: IprevResult::Pass, name: Some(text()) },
            spf: SpfFinding {
                domain: text(),
                result: SpfResult::PermError,
                by: Some(("ip4", text())),
                why: Some(text()),
                explanation: Some(text()),
                terms: 0,
            },
            dkim: vec![signature],
            arc: ArcFinding { result: ArcResult::Fail, sealers: vec![text()], why: Some(text()) },
            dmarc: vec![dmarc],
        }
    }

    #[test]
    fn what_strangers_say_can_neither_end_a_field_nor_speak_in_it() {
        let client = "192.0.2.1".parse().unwrap();
        for evil in [
            "a\r\nX-Evil: yes",
            "a; dmarc=pass header.from=bank.example",
            "a) (b\\",
            "\"; spf=pass\"",
            "x\u{1}\u{7f}\u{e9}\u{202e}",
            "",
            "a b",
            "=?utf-8?q?a?=",
            &"x".repeat(10_000),
            &"\"".repeat(10_000),
        ] {
            let sender = format!("{evil}@{evil}");
            for sender in [Some(sender.as_str()), None] {
                let client = (client, evil, sender);
                let text = said(&findings(evil), "mx.example.org", client).fields();
                assert!(text.is_ascii() && text.ends_with("\r\n"), "{text}");
                let lines: Vec<_> = text.strip_suffix("\r\n").unwrap().split("\r\n").collect();
                let starts = lines.iter().filter(|line| !line.starts_with(['\t', ' ']));
                assert_eq!(starts.count(), 2, "{text}");
                assert!(lines.iter().all(|line| line.len() < 998), "{text}");
                assert!(
                    !text.contains(|c: char| c.is_control() && !"\r\n\t".contains(c)),
                    "{text}"
                );
                // Outside of quoted strings and comments no result is there but ours.
                let bare = without_quoted(&text);
                assert_eq!(bare.matches("dmarc=").count(), 1, "{bare}");
                assert_eq!(bare.matches("spf=").count(), 1, "{bare}");
            }
        }
    }

    /// Without quoted strings and comments, as a reader of RFC 5322 skips them.
    fn without_quoted(text: &str) -> String {
        let (mut bare, mut depth, mut is_quoted) = (String::new(), 0, false);
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '\\' if is_quoted || depth > 0 => {
                    rest.next();
                }
                '"' if depth == 0 => is_quoted = !is_quoted,
                '(' if !is_quoted => depth += 1,
                ')' if !is_quoted => depth -= 1,
                c if !is_quoted && depth == 0 => bare.push(c),
                _ => {}
            }
        }
        assert_eq!((depth, is_quoted), (0, false), "{text}");
        bare
    }

    #[test]
    fn an_address_stands_only_where_all_read_it_alike() {
        for (mailbox, want) in [
            ("a.b+c@example.org", "a.b+c@example.org"),
            ("\"a b\"@example.org", "example.org"),
            ("a;b@example.org", "example.org"),
            (".a@example.org", "example.org"),
            ("a@b\u{fc}cher.example", "\"b?cher.example\""),
            ("a@[192.0.2.1]", "\"a@[192.0.2.1]\""),
        ] {
            assert_eq!(value(address_or_domain(mailbox)), want, "{mailbox}");
        }
    }
}
