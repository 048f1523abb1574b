//! Which options do not go together: those about mail that comes in here, others beside it.
//!
//! Pure.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use merpati_flow::admit::recipients::KnownRecipient;

use super::{
    access::{CredentialEntry, TokenIssuer},
    acme::Acme,
    aliases::AliasEntry,
    check_access, check_acme, check_aliases, check_https, check_outbound,
    diagnostic::Diagnostic,
    https::{Https, StsEntry},
    options::{CertificateEntry, Listener, Relay, Server},
    outbound::{EgressEntry, Retry, RouteEntry},
    source::{Span, Table, Tree},
    strangers::Recipients,
    values::{Network, TlsUse},
};

/// What was read so far, each entry of a list with the place of its table.
pub(super) struct Parts<'a> {
    /// What was written.
    pub tree: &'a Tree,
    /// The relay as a whole; `None` where it could not be read.
    pub server: Option<&'a Server>,
    /// When what is tried again; `None` where it could not be read.
    pub retry: Option<&'a Retry>,
    /// The listeners that could be read.
    pub listeners: &'a [(usize, Listener)],
    /// The certificates that could be read.
    pub certificates: &'a [(usize, CertificateEntry)],
    /// From whom some are ordered; `None` where it could not be read.
    pub acme: Option<&'a Acme>,
    /// The listener for the web; `None` where it could not be read.
    pub https: Option<&'a Https>,
    /// The policies of MTA-STS that could be read.
    pub policies: &'a [(usize, StsEntry)],
    /// Relay control; `None` where it could not be read.
    pub relay: Option<&'a Relay>,
    /// The credentials that could be read.
    pub credentials: &'a [(usize, CredentialEntry)],
    /// The issuers of tokens that could be read.
    pub token_issuers: &'a [(usize, TokenIssuer)],
    /// The recipients that exist; `None` where they could not be read.
    pub recipients: Option<&'a Recipients>,
    /// The tables of aliases that could be read.
    pub aliases: &'a [(usize, AliasEntry)],
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
        diagnostics.extend(spans(listener, table));
        diagnostics.extend(trusted(listener, table));
        for address in listener.listen.iter().filter(|address| address.port() != 0) {
            let at = place_of(table, "listen");
            diagnostics.extend(taken_twice(&taken, *address, &at));
            taken.insert(*address, at);
        }
        if listener.listen.is_empty() {
            let why = format!("listener `{}` listens nowhere", listener.name);
            let at = place_of(table, "listen");
            diagnostics.push(Diagnostic::new(why, at).help("write listen = [\"127.0.0.1:2525\"]"));
        }
    }
    diagnostics.extend(web_addresses(parts, &mut taken));
    diagnostics.extend(group(parts));
    diagnostics.extend(open(parts));
    diagnostics.extend(recipients(parts));
    check_access::together(parts, diagnostics);
    check_acme::together(parts, diagnostics);
    check_https::together(parts, diagnostics);
    check_aliases::together(parts, diagnostics);
    check_outbound::together(parts, diagnostics);
}

/// The same for the addresses of the listener for the web.
fn web_addresses(parts: &Parts<'_>, taken: &mut BTreeMap<SocketAddr, Span>) -> Vec<Diagnostic> {
    let (Some(https), Some(table)) = (parts.https, parts.tables("https").first()) else {
        return Vec::new();
    };
    let mut wrong = Vec::new();
    for (option, addresses) in [("listen", &https.listen), ("http_listen", &https.http_listen)] {
        let at = place_of(table, option);
        for address in addresses.iter().filter(|address| address.port() != 0) {
            wrong.extend(taken_twice(taken, *address, &at));
            taken.insert(*address, at.clone());
        }
    }
    wrong
}

/// Two addresses of which only one can be had.
fn taken_twice(
    taken: &BTreeMap<SocketAddr, Span>,
    address: SocketAddr,
    at: &Span,
) -> Option<Diagnostic> {
    let covers = |one: SocketAddr, other: SocketAddr| {
        one.ip().is_unspecified() && one.is_ipv6() == other.is_ipv6()
    };
    let same_port = taken.iter().filter(|(other, _)| other.port() == address.port());
    let (other, first) = same_port.into_iter().find(|(other, _)| {
        **other == address || covers(**other, address) || covers(address, **other)
    })?;
    let why = if *other == address {
        format!("two listeners take {address}")
    } else {
        format!("{other} and {address} cannot both be had: one takes the other as well")
    };
    let diagnostic = Diagnostic::new(why, at.clone()).help("leave one of them away");
    Some(if first == at {
        diagnostic
    } else {
        diagnostic.beside(first.clone(), "the first is here")
    })
}

/// Networks of ours that are those of strangers: an open relay.
fn open(parts: &Parts<'_>) -> Option<Diagnostic> {
    let network = parts.relay?.networks.iter().find(|network| network.is_everybody())?;
    let why = format!("`{network}` holds the networks of strangers: they could send to everywhere");
    let table = parts.tables("relay").first()?;
    let help = "name your own networks, such as \"192.0.2.0/24\"; others authenticate";
    Some(Diagnostic::new(why, place_of(table, "networks")).help(help))
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

/// One file of two. With neither, the relay makes both.
fn tls(listener: &Listener, table: &Table) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    let speaks = listener.tls != TlsUse::None;
    let files = [
        ("tls_certificate", listener.tls_certificate.is_some()),
        ("tls_key", listener.tls_key.is_some()),
    ];
    for (option, is_set) in files {
        if speaks && !is_set && files.iter().any(|(_, is_set)| *is_set) {
            let why = format!("TLS needs `{option}` as well");
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

/// A group that nobody works in.
fn group(parts: &Parts<'_>) -> Option<Diagnostic> {
    let server = parts.server.filter(|server| server.user.is_none())?;
    server.group.as_ref()?;
    let table = parts.tables("server").first()?;
    let why = "`group` without `user` has no effect";
    Some(Diagnostic::new(why, place_of(table, "group")).help("add user = \"_merpati\""))
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

/// Where an option was written; the head of its table where it was not.
pub(super) fn place_of(table: &Table, option: &str) -> Span {
    let written = table.entries.get(option).filter(|entry| !entry.value.is_nowhere());
    written.map_or(&table.head, |entry| &entry.value).clone()
}
