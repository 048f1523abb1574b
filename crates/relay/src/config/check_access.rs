//! Which options about who may authenticate do not go together.
//!
//! Pure.

use std::collections::BTreeMap;

use merpati_mail::precis;

use super::{
    access::CredentialEntry,
    check::{Parts, place_of},
    diagnostic::Diagnostic,
    options::Listener,
    senders,
    source::{Span, Table},
    values::{AuthUse, Kind, TlsUse},
};

/// Notes every pair of options that cannot both hold.
pub(super) fn together(parts: &Parts<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for (table, listener) in parts.with_tables("listener", parts.listeners) {
        diagnostics.extend(offer(listener, table));
        diagnostics.extend(client_certificates(listener, table));
    }
    let mut names = BTreeMap::new();
    for (table, entry) in parts.with_tables("credential", parts.credentials) {
        diagnostics.extend(unreachable(parts, entry, table));
        diagnostics.extend(shared_names(entry, table, &mut names));
    }
    for (table, issuer) in parts.with_tables("token_issuer", parts.token_issuers) {
        for (option, is_empty) in
            [("audience", issuer.audience.is_empty()), ("algorithms", issuer.algorithms.is_empty())]
        {
            if is_empty {
                let why = format!("with no `{option}`, no token of `{}` is good", issuer.name);
                diagnostics.push(Diagnostic::new(why, place_of(table, option)));
            }
        }
    }
    diagnostics.extend(idle(parts));
}

/// Listeners that offer AUTH where nobody can use it.
fn offer(listener: &Listener, table: &Table) -> Option<Diagnostic> {
    let is_submission = listener.kind == Kind::Submission;
    let (why, help) = match (listener.auth, listener.tls) {
        (AuthUse::Off, _) if is_submission => (
            "a submission listener without AUTH takes no mail at all",
            "leave `auth` away, or write kind = \"relay\"",
        ),
        (AuthUse::TlsOnly, TlsUse::None) if is_submission => (
            "a submission listener without TLS offers AUTH nowhere, and takes no mail without it",
            "add tls = \"starttls\" (port 587) or tls = \"implicit\" (port 465), or for tests on \
             loopback auth = \"allow-clear\"",
        ),
        (AuthUse::TlsOnly, TlsUse::None) => (
            "auth = \"tls-only\" without TLS offers AUTH nowhere",
            "add tls = \"starttls\", or for tests on loopback auth = \"allow-clear\"",
        ),
        (AuthUse::AllowClear | AuthUse::TlsOnly, _) if listener.auth_mechanisms.is_empty() => (
            "AUTH is wanted here, and there is no mechanism for it",
            "leave `auth_mechanisms` away, or write auth = \"off\"",
        ),
        (AuthUse::AllowClear | AuthUse::Off | AuthUse::TlsOnly, _) => return None,
    };
    Some(Diagnostic::new(why, place_of(table, "auth")).help(help))
}

fn client_certificates(listener: &Listener, table: &Table) -> Option<Diagnostic> {
    let (option, why, help) =
        match (listener.tls, &listener.tls_client_ca, &listener.tls_client_crl) {
            (TlsUse::None, Some(_), _) => (
                "tls_client_ca",
                "a certificate of a client comes with TLS, which is not there",
                "add tls = \"starttls\" or tls = \"implicit\"",
            ),
            (_, None, Some(_)) => (
                "tls_client_crl",
                "a list of revoked certificates without `tls_client_ca` has no effect",
                "add tls_client_ca = \"/path/to/ca.pem\"",
            ),
            (TlsUse::Implicit | TlsUse::None | TlsUse::StartTls, _, _) => return None,
        };
    Some(Diagnostic::new(why, place_of(table, option)).help(help))
}

/// Credentials as which nobody can ever log in.
fn unreachable(parts: &Parts<'_>, entry: &CredentialEntry, table: &Table) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    let CredentialEntry { name, password, certificate_names, token_issuers, .. } = entry;
    if precis::opaque(name).as_deref() != Some(name) {
        let why = "clients cannot give such a name (RFC 8265 §4.2)";
        let help = "leave out what cannot be seen, and write letters with accents as one character";
        wrong.push(Diagnostic::new(why, place_of(table, "name")).help(help));
    }
    if password.is_none() && certificate_names.is_empty() && token_issuers.is_empty() {
        let why = format!("nobody can authenticate as `{name}`");
        let help = "add a password (`merpati credential hash` prints its stored form), \
                    certificate_names or token_issuers";
        wrong.push(Diagnostic::new(why, place_of(table, "name")).help(help));
    }
    for wanted in token_issuers {
        if !parts.token_issuers.iter().any(|(_, issuer)| issuer.name == *wanted) {
            let why = format!("there is no token_issuer `{wanted}`");
            wrong.push(Diagnostic::new(why, place_of(table, "token_issuers")));
        }
    }
    wrong
}

/// Names that would make one certificate that of two users.
fn shared_names(
    entry: &CredentialEntry,
    table: &Table,
    names: &mut BTreeMap<String, Span>,
) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    for name in &entry.certificate_names {
        let at = place_of(table, "certificate_names");
        if let Some(first) = names.insert(name.to_ascii_lowercase(), at.clone()) {
            let why = format!("a certificate for `{name}` would be that of two users");
            wrong.push(Diagnostic::new(why, at).beside(first, "the first is here"));
        }
    }
    wrong
}

/// Credentials that could log in and then send as nobody.
fn idle(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let takes_logins = |listener: &Listener| match listener.kind {
        Kind::Rehearsal | Kind::Relay | Kind::Submission => listener.auth != AuthUse::Off,
        Kind::Sandbox => false,
    };
    let Some(relay) = parts.relay else { return Vec::new() };
    if !parts.listeners.iter().any(|(_, listener)| takes_logins(listener)) {
        return Vec::new();
    }
    let entries = parts.with_tables("credential", parts.credentials);
    let entries = entries.filter(|(_, entry)| entry.enabled);
    let idle = entries.filter(|(_, entry)| senders(entry, &relay.local_domains).are_none());
    idle.map(|(table, entry)| {
        let why = format!("credential `{}` may send as nobody", entry.name);
        let help = "add senders = [\"ani@shop.example\"] or senders = [\"shop.example\"], or name \
                    your domains in relay.local_domains";
        Diagnostic::new(why, place_of(table, "name")).help(help)
    })
    .collect()
}
