//! Which options about mail that comes in do not go together.
//!
//! Pure.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use merpati_flow::admit::recipients::KnownRecipient;

use super::{
    diagnostic::Diagnostic,
    options::{CredentialEntry, Listener, Relay},
    outbound::{EgressEntry, RouteEntry},
    senders,
    source::{Span, Table, Tree},
    strangers::Recipients,
    values::{AuthUse, Kind, Network, TlsUse},
};

/// What was read so far, each entry of a list with the place of its table.
pub(super) struct Parts<'a> {
    /// What was written.
    pub tree: &'a Tree,
    /// The listeners that could be read.
    pub listeners: &'a [(usize, Listener)],
    /// Relay control; `None` where it could not be read.
    pub relay: Option<&'a Relay>,
    /// The credentials that could be read.
    pub credentials: &'a [(usize, CredentialEntry)],
    /// The recipients that exist; `None` where they could not be read.
    pub recipients: Option<&'a Recipients>,
    /// The routes that could be read.
    pub routes: &'a [(usize, RouteEntry)],
    /// The egress sources that could be read.
    pub egresses: &'a [(usize, EgressEntry)],
}

impl<'a> Parts<'a> {
    /// The tables of a section as they were written.
    pub(super) fn tables(&self, section: &str) -> &'a [Table] {
        self.tree.tables.get(section).map(Vec::as_slice).unwrap_or_default()
    }

    /// Each of these with its table.
    pub(super) fn with_tables<'t, T>(
        &self,
        section: &str,
        all: &'t [(usize, T)],
    ) -> impl Iterator<Item = (&'a Table, &'t T)> {
        let tables = self.tables(section);
        all.iter().filter_map(|(place, one)| Some((tables.get(*place)?, one)))
    }
}

/// Notes every pair of options that cannot both hold.
pub(super) fn together(parts: &Parts<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let mut taken: BTreeMap<SocketAddr, Span> = BTreeMap::new();
    for (table, listener) in parts.with_tables("listener", parts.listeners) {
        diagnostics.extend(tls(listener, table));
        diagnostics.extend(auth(listener, table));
        diagnostics.extend(spans(listener, table));
        diagnostics.extend(trusted(listener, table));
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
    diagnostics.extend(credentials(parts));
    diagnostics.extend(recipients(parts));
}

/// Recipients outside of our domains, of whom nobody is asked.
fn recipients(parts: &Parts<'_>) -> Option<Diagnostic> {
    let (relay, recipients) = (parts.relay?, parts.recipients?);
    let domains = recipients.known.iter().map(|known| match known {
        KnownRecipient::Address(mailbox) => mailbox.domain(),
        KnownRecipient::Domain(domain) => domain,
    });
    let mut others = domains.filter(|domain| !relay.local_domains.contains(domain));
    let why = format!("`{}` is not one of your domains", others.next()?);
    let table = parts.tables("recipients").first()?;
    let help = "add it to relay.local_domains, or leave it away";
    Some(Diagnostic::new(why, place_of(table, "known")).help(help))
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
    wrong
}

/// Networks that are believed what they say about others, and are everybody.
fn trusted(listener: &Listener, table: &Table) -> Vec<Diagnostic> {
    let lists = [("proxy_from", &listener.proxy_from), ("xclient_from", &listener.xclient_from)];
    let open = lists.into_iter().filter(|(_, list)| list.iter().any(Network::is_everybody));
    open.map(|(option, _)| {
        let why = format!("with this `{option}` anybody could claim to be anybody");
        let help = "name the addresses of your proxies";
        Diagnostic::new(why, place_of(table, option)).help(help)
    })
    .collect()
}

fn auth(listener: &Listener, table: &Table) -> Option<Diagnostic> {
    let is_submission = listener.kind == Kind::Submission;
    let (why, help) = match (listener.auth, listener.tls) {
        (AuthUse::Off, _) if is_submission => (
            "a submission listener without AUTH takes no mail at all",
            "leave `auth` away, or write kind = \"relay\"",
        ),
        (AuthUse::TlsOnly, TlsUse::None) if is_submission => (
            "a submission listener without TLS offers AUTH nowhere, and takes no mail without it",
            "add tls = \"starttls\" (port 587) or tls = \"implicit\" (port 465) with a \
             certificate, or for tests on loopback auth = \"allow-clear\"",
        ),
        (AuthUse::TlsOnly, TlsUse::None) => (
            "auth = \"tls-only\" without TLS offers AUTH nowhere",
            "add tls = \"starttls\", or for tests on loopback auth = \"allow-clear\"",
        ),
        (AuthUse::AllowClear | AuthUse::Off | AuthUse::TlsOnly, _) => return None,
    };
    Some(Diagnostic::new(why, place_of(table, "auth")).help(help))
}

/// Spans of time that EHLO cannot tell: RFC 2852 §3 and RFC 4865 §4 give them nine digits of
/// seconds.
fn spans(listener: &Listener, table: &Table) -> Vec<Diagnostic> {
    let longest = Duration::from_secs(999_999_999);
    let of_by = listener.deliver_by_min.map(|min| ("deliver_by_min", min, Duration::ZERO));
    let shortest = Duration::from_secs(1);
    let of_hold = listener.future_release_max.map(|max| ("future_release_max", max, shortest));
    let both = [of_by, of_hold].into_iter().flatten();
    both.filter(|(_, span, least)| !(*least..=longest).contains(span))
        .map(|(option, _, least)| {
            let why = format!("`{option}` is {} to 999999999 s", least.as_secs());
            let help = "write `off` where the extension is not to be offered";
            Diagnostic::new(why, place_of(table, option)).help(help)
        })
        .collect()
}

/// Credentials that could log in and then send as nobody.
fn credentials(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let takes_logins = |listener: &Listener| match listener.kind {
        Kind::Rehearsal | Kind::Relay | Kind::Submission => listener.auth != AuthUse::Off,
        Kind::Sandbox => false,
    };
    let Some(relay) = parts.relay else { return Vec::new() };
    if !parts.listeners.iter().any(|(_, listener)| takes_logins(listener)) {
        return Vec::new();
    }
    let entries = parts.with_tables("credential", parts.credentials);
    let idle = entries.filter(|(_, entry)| senders(entry, &relay.local_domains).are_none());
    idle.map(|(table, entry)| {
        let why = format!("credential `{}` may send as nobody", entry.name);
        let help = "add senders = [\"ani@shop.example\"] or senders = [\"shop.example\"], or name \
                    your domains in relay.local_domains";
        Diagnostic::new(why, place_of(table, "name")).help(help)
    })
    .collect()
}

/// Where an option was written; the head of its table where it was not.
pub(super) fn place_of(table: &Table, option: &str) -> Span {
    let written = table.entries.get(option).filter(|entry| !entry.value.is_nowhere());
    written.map_or(&table.head, |entry| &entry.value).clone()
}
