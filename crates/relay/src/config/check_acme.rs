//! Which options of certificates, and of who orders them, do not go together.
//!
//! Pure.

use hyper::Uri;
use merpati_mail::Domain;

use super::{
    acme::{Acme, ChallengeUse},
    check::{Parts, place_of},
    diagnostic::Diagnostic,
    options::CertificateEntry,
    source::Table,
};

/// Notes every pair of options that cannot both hold.
pub(super) fn together(parts: &Parts<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for (table, entry) in parts.with_tables("certificate", parts.certificates) {
        diagnostics.extend(certificate(entry, table));
        diagnostics.extend(parts.acme.and_then(|acme| origin(entry, table, acme)));
    }
    let (Some(acme), Some(table)) = (parts.acme, parts.tables("acme").first()) else { return };
    diagnostics.extend(account(acme, table));
    let is_used = parts.certificates.iter().any(|(_, entry)| entry.is_ordered());
    if is_used && acme.directory.is_some() {
        diagnostics.extend(challenge(parts, acme, table));
    }
}

/// Files or names, and either whole.
fn certificate(entry: &CertificateEntry, table: &Table) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    let name = &entry.name;
    let mut note = |option, why: String, help: &str| {
        wrong.push(Diagnostic::new(why, place_of(table, option)).help(help));
    };
    match (&entry.chain, &entry.key) {
        (Some(_), None) => {
            let why = format!("certificate `{name}` needs its `key` as well");
            note("chain", why, "add key = \"/path/to/file.pem\"");
        }
        (None, Some(_)) => {
            let why = format!("certificate `{name}` needs its `chain` as well");
            note("key", why, "add chain = \"/path/to/file.pem\"");
        }
        (Some(_), Some(_)) if !entry.names.is_empty() => {
            let why = format!("certificate `{name}` has files, and is to be ordered as well");
            note("names", why, "leave away its names, or its chain and key");
        }
        (None, None) if entry.names.is_empty() => {
            let why = format!("certificate `{name}` has neither files nor names");
            note("name", why, "add chain and key, or names = [\"mx.example.org\"]");
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    for literal in entry.names.iter().filter(|name| !matches!(name, Domain::Name(_))) {
        note("names", format!("`{literal}` is no domain name"), "write \"mx.example.org\"");
    }
    wrong
}

/// A certificate that nobody can order.
fn origin(entry: &CertificateEntry, table: &Table, acme: &Acme) -> Option<Diagnostic> {
    if acme.directory.is_some() || entry.names.is_empty() {
        return None;
    }
    let why = format!("nobody gives the certificate `{}`: acme.directory is not set", entry.name);
    let help = "add [acme] with directory = \"https://acme-v02.api.letsencrypt.org/directory\" and \
                terms_agreed = true";
    Some(Diagnostic::new(why, place_of(table, "names")).help(help))
}

fn account(acme: &Acme, table: &Table) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    let mut note = |option, why: String, help: &str| {
        wrong.push(Diagnostic::new(why, place_of(table, option)).help(help));
    };
    let Some(directory) = &acme.directory else { return wrong };
    let uri = directory.parse::<Uri>().ok();
    let is_good = |uri: &Uri| uri.scheme_str() == Some("https") && uri.host().is_some();
    if !uri.as_ref().is_some_and(is_good) {
        let why = format!("`{directory}` is not the URL of a directory");
        note("directory", why, "it begins with https://");
    }
    if !acme.terms_agreed {
        let why = "you have not agreed to the terms of the CA".to_owned();
        note("directory", why, "read them (its directory names them), and add terms_agreed = true");
    }
    let (set, missing) = match (&acme.eab_key_id, &acme.eab_key_file) {
        (Some(_), None) => ("eab_key_id", "eab_key_file"),
        (None, Some(_)) => ("eab_key_file", "eab_key_id"),
        (Some(_), Some(_)) | (None, None) => return wrong,
    };
    note(set, format!("`{set}` needs `{missing}` as well"), "both come from the CA");
    wrong
}

/// A proof that nobody could see.
fn challenge(parts: &Parts<'_>, acme: &Acme, table: &Table) -> Option<Diagnostic> {
    let https = parts.https?;
    let (is_missing, what, help) = match acme.challenge {
        ChallengeUse::Dns01 => {
            (acme.dns_hook.is_empty(), "acme.dns_hook", "name the program that publishes records")
        }
        ChallengeUse::Http01 => (
            https.http_listen.is_empty(),
            "https.http_listen",
            "set it to [\"0.0.0.0:80\", \"[::]:80\"], or take another challenge",
        ),
        ChallengeUse::TlsAlpn01 => (
            https.listen.is_empty(),
            "https.listen",
            "set it to [\"0.0.0.0:443\", \"[::]:443\"], or take another challenge",
        ),
    };
    let why = format!("`{}` needs {what}", acme.challenge.word());
    is_missing.then(|| Diagnostic::new(why, place_of(table, "challenge")).help(help))
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Source};

    /// What is said of this configuration.
    fn said(text: &str) -> String {
        let source = Source { name: "merpati.toml".to_owned(), text: text.to_owned() };
        let config = Config::of(vec![source], &std::collections::BTreeMap::new(), &[]);
        config.err().map_or_else(|| "ok".to_owned(), |why| why.to_string())
    }

    #[test]
    fn a_certificate_that_nobody_could_order_is_told_with_its_place() {
        let acme = "[acme]\ndirectory = \"https://ca.example/dir\"\nterms_agreed = true\n";
        let entry = "[[certificate]]\nname = \"mx\"\nnames = [\"mx.ours.example\"]\n";
        let web = "[https]\nlisten = \"0.0.0.0:443\"\nhttp_listen = \"0.0.0.0:80\"\n";
        assert_eq!(said(&format!("{web}{acme}{entry}")), "ok");
        for (text, line, part) in [
            (entry.to_owned(), 3, "nobody gives the certificate `mx`"),
            (format!("{acme}{entry}"), 1, "`http-01` needs https.http_listen"),
            (format!("{acme}challenge = \"tls-alpn-01\"\n{entry}"), 4, "needs https.listen"),
            (format!("{acme}challenge = \"dns-01\"\n{entry}"), 4, "needs acme.dns_hook"),
            (format!("{acme}challenge = \"dns01\"\n"), 4, "did you mean \"dns-01\"?"),
            (format!("{web}{acme}{entry}chain = \"/c\"\nkey = \"/k\"\n"), 9, "has files"),
            (format!("{web}{acme}{entry}key = \"/k\"\n"), 10, "needs its `chain`"),
            (format!("{acme}eab_key_id = \"a\"\n"), 4, "needs `eab_key_file`"),
            ("[[certificate]]\nname = \"mx\"\n".to_owned(), 2, "neither files nor names"),
            ("[acme]\ndirectory = \"https://ca.example/dir\"\n".to_owned(), 2, "not agreed"),
            (
                "[acme]\nterms_agreed = true\ndirectory = \"ca.example\"\n".to_owned(),
                3,
                "is not the URL",
            ),
        ] {
            let told = said(&text);
            for part in [part, &format!("merpati.toml:{line}:"), "= help: "] {
                assert!(told.contains(part), "{text}\n{told}\nlacks {part}");
            }
        }
    }
}
