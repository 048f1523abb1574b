//! Which options of the listener for the web, and of what it serves, do not go together.
//!
//! Pure.

use std::collections::BTreeMap;

use merpati_mail::Domain;

use super::{
    check::{Parts, place_of},
    diagnostic::Diagnostic,
    https::{Https, StsMode},
    source::{Span, Table},
};
use crate::mta_sts::MAX_AGE_SECS_MAX;

/// Notes every pair of options that cannot both hold.
pub(super) fn together(parts: &Parts<'_>, diagnostics: &mut Vec<Diagnostic>) {
    if let (Some(https), Some(table)) = (parts.https, parts.tables("https").first()) {
        diagnostics.extend(files(https, table));
    }
    diagnostics.extend(policies(parts));
}

/// One file of two. With neither, the relay makes both.
fn files(https: &Https, table: &Table) -> Option<Diagnostic> {
    let (set, missing) = match (&https.tls_certificate, &https.tls_key) {
        (Some(_), None) => ("tls_certificate", "tls_key"),
        (None, Some(_)) => ("tls_key", "tls_certificate"),
        (Some(_), Some(_)) | (None, None) => return None,
    };
    let why = format!("TLS needs `{missing}` as well");
    let help = format!("add {missing} = \"/path/to/file.pem\"");
    Some(Diagnostic::new(why, place_of(table, set)).help(help))
}

fn policies(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    let mut first: BTreeMap<&Domain, Span> = BTreeMap::new();
    let is_served =
        parts.https.is_none_or(|https| !(https.listen.is_empty() && https.http_listen.is_empty()));
    let host = parts.server.map(|server| &server.hostname);
    for (table, policy) in parts.with_tables("mta_sts", parts.policies) {
        let name = &policy.name;
        let mut note = |option, why: String, help: &str| {
            wrong.push(Diagnostic::new(why, place_of(table, option)).help(help));
        };
        if !is_served {
            let why = format!("nobody serves the policy `{name}`");
            note("domains", why, "set https.listen = [\"0.0.0.0:443\", \"[::]:443\"]");
        }
        if policy.domains.is_empty() {
            let why = format!("policy `{name}` is about no domain");
            note("domains", why, "write domains = [\"example.org\"]");
        }
        if policy.max_age.as_secs() > MAX_AGE_SECS_MAX {
            let why = format!("`max_age` is {MAX_AGE_SECS_MAX} s at most (RFC 8461 §3.2)");
            note("max_age", why, "write max_age = \"365 d\"");
        }
        let is_nameless = !matches!(host, Some(Domain::Name(_)) | None);
        if policy.mx.is_empty() && is_nameless && policy.mode != StsMode::None {
            let why = format!("policy `{name}` names no host: server.hostname is an address");
            note("domains", why, "write mx = [\"mx.example.org\"]");
        }
        for domain in &policy.domains {
            let at = place_of(table, "domains");
            if !matches!(domain, Domain::Name(_)) {
                let why = format!("`{domain}` is no domain name");
                wrong.push(Diagnostic::new(why, at).help("write \"example.org\""));
            } else if let Some(other) = first.get(domain) {
                let diagnostic = Diagnostic::new(format!("`{domain}` has two policies"), at)
                    .help("leave one of them away")
                    .beside(other.clone(), "the first is here");
                wrong.push(diagnostic);
            } else {
                first.insert(domain, at);
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Source};

    /// What is said of this configuration.
    fn said(text: &str) -> String {
        let source = Source { name: "merpati.toml".to_owned(), text: text.to_owned() };
        let settings = ["server.hostname=mx.ours.example".to_owned()];
        let config = Config::of(vec![source], &std::collections::BTreeMap::new(), &settings);
        config.err().map_or_else(|| "ok".to_owned(), |why| why.to_string())
    }

    #[test]
    fn a_policy_that_nobody_can_keep_or_find_is_told_with_its_place() {
        let https = "[https]\nlisten = \"127.0.0.1:443\"\n";
        let policy = "[[mta_sts]]\nname = \"a\"\ndomains = [\"ours.example\"]\n";
        let other = "[[mta_sts]]\nname = \"b\"\ndomains = [\"OURS.example\"]\n";
        assert_eq!(said(&format!("{https}{policy}")), "ok");
        for (text, line, part) in [
            (policy.to_owned(), 3, "nobody serves the policy `a`"),
            (format!("{https}{policy}{other}"), 8, "`ours.example` has two policies"),
            (format!("{https}{policy}max_age = \"366 d\"\n"), 6, "31557600 s at most"),
            (format!("{https}{policy}mode = \"enfore\"\n"), 6, "did you mean \"enforce\"?"),
            (format!("{https}{policy}mx = [\"*\"]\n"), 6, "`*` is not a host"),
            (format!("{https}[[mta_sts]]\nname = \"a\"\ndomains = []\n"), 5, "no domain"),
            (
                format!("{https}[[mta_sts]]\nname = \"a\"\ndomains = [\"[192.0.2.1]\"]\n"),
                5,
                "is no domain name",
            ),
            (format!("{https}tls_key = \"/k\"\n"), 3, "TLS needs `tls_certificate` as well"),
            (format!("{https}http_listen = \"0.0.0.0:443\"\n"), 3, "cannot both be had"),
        ] {
            let told = said(&text);
            for part in [part, &format!("merpati.toml:{line}:"), "= help: "] {
                assert!(told.contains(part), "{text}\n{told}\nlacks {part}");
            }
        }
    }
}
