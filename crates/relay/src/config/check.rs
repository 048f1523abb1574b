//! Which options do not go together.
//!
//! Pure.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{
    diagnostic::Diagnostic,
    options::Listener,
    source::{Span, Table, Tree},
    values::{AuthUse, TlsUse},
};

/// Notes every pair of options that cannot both hold. Each listener comes with the place of its
/// table.
pub(super) fn together(
    tree: &Tree,
    listeners: &[(usize, Listener)],
    diagnostics: &mut Vec<Diagnostic>,
) {
    let tables = tree.tables.get("listener").map(Vec::as_slice).unwrap_or_default();
    let mut taken: BTreeMap<SocketAddr, Span> = BTreeMap::new();
    for (place, listener) in listeners {
        let Some(table) = tables.get(*place) else { continue };
        diagnostics.extend(tls(listener, table));
        for address in listener.listen.iter().filter(|address| address.port() != 0) {
            let at = place_of(table, "listen");
            if let Some(first) = taken.insert(*address, at.clone()) {
                let why = format!("two listeners take {address}");
                diagnostics.push(Diagnostic::new(why, at).beside(first, "the first is here"));
            }
        }
        if listener.listen.is_empty() {
            let why = format!("listener `{}` listens nowhere", listener.name);
            let at = place_of(table, "listen");
            diagnostics.push(Diagnostic::new(why, at).help("write listen = [\"127.0.0.1:2525\"]"));
        }
    }
}

fn tls(listener: &Listener, table: &Table) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    let speaks = listener.tls != TlsUse::None;
    for (option, is_set) in [
        ("tls_certificate", listener.tls_certificate.is_some()),
        ("tls_key", listener.tls_key.is_some()),
    ] {
        if speaks && !is_set {
            let why = format!("TLS needs `{option}`");
            let help = format!("add {option} = \"/path/to/file.pem\"");
            wrong.push(Diagnostic::new(why, place_of(table, "tls")).help(help));
        } else if !speaks && is_set {
            let why = format!("`{option}` without TLS has no effect");
            let help = "add tls = \"starttls\" or tls = \"implicit\"";
            wrong.push(Diagnostic::new(why, place_of(table, option)).help(help));
        }
    }
    if listener.auth == AuthUse::TlsOnly && !speaks {
        let why = "auth = \"tls-only\" without TLS offers AUTH nowhere";
        let help = "add tls = \"starttls\", or for tests on loopback auth = \"allow-clear\"";
        wrong.push(Diagnostic::new(why, place_of(table, "auth")).help(help));
    }
    wrong
}

/// Where an option was written; the head of its table where it was not.
fn place_of(table: &Table, option: &str) -> Span {
    table.entries.get(option).map_or(&table.head, |entry| &entry.value).clone()
}
