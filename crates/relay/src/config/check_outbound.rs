//! Which options about mail that goes out do not go together.
//!
//! Invariant: no diagnostic points at a password, because the line it points at is shown. Pure.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use merpati_console::near::nearest;
use merpati_mail::{Domain, route::HostPort};

use super::{
    check::{Parts, place_of},
    diagnostic::Diagnostic,
    next_hop::To,
    options::Listener,
    outbound::{EgressEntry, RouteEntry},
    read,
    source::Table,
    values::{Name, RouteTls},
};

/// Notes every pair of options that cannot both hold.
pub(super) fn together(parts: &Parts<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for (table, route) in parts.with_tables("route", parts.routes) {
        diagnostics.extend(names(parts, table, route));
        diagnostics.extend(tls(table, route));
        diagnostics.extend(login(table, route));
        diagnostics.extend(circle(parts, table, route));
    }
    for (table, egress) in parts.with_tables("egress", parts.egresses) {
        diagnostics.extend(addresses(table, egress));
    }
    diagnostics.extend(coverage(parts));
    diagnostics.extend(waits(parts));
    diagnostics.extend(retries(parts));
}

/// A next hop that is one of our own listeners.
fn circle(parts: &Parts<'_>, table: &Table, route: &RouteEntry) -> Option<Diagnostic> {
    let (To::Smtp(hosts) | To::Smtps(hosts)) = &route.to else { return None };
    let hostname = parts.server.map(|server| &server.hostname);
    let leads_to = |listener: &Listener, HostPort { host, port }: &HostPort| {
        listener.listen.iter().filter(|address| address.port() == *port).any(|address| {
            let own = address.ip();
            // A wildcard of IPv6 takes IPv4 as well.
            let any = own.is_unspecified();
            let takes = |other: IpAddr| any && (own.is_ipv6() || other.is_ipv4());
            match host {
                Domain::Name(_) if host.to_string() == "localhost" => any || own.is_loopback(),
                Domain::Name(_) => any && Some(host) == hostname,
                Domain::Literal(literal) => {
                    let other = literal.to_canonical();
                    own == other || other.is_loopback() && takes(other)
                }
            }
        })
    };
    let found = hosts.iter().find_map(|host| {
        // What comes in elsewhere stays there.
        let listeners = parts.listeners.iter().map(|(_, listener)| listener);
        let mut listeners = listeners.filter(|listener| listener.kind.is_delivered());
        Some((host, listeners.find(|listener| leads_to(listener, host))?))
    });
    let (HostPort { host, port }, listener) = found?;
    let host = match host {
        Domain::Literal(address) => SocketAddr::new(*address, *port).to_string(),
        Domain::Name(_) => format!("{host}:{port}"),
    };
    let why = format!("`{host}` is listener `{}` of this relay: mail goes round", listener.name);
    let help = "name the host that takes the mail from here, or another port";
    Some(Diagnostic::new(why, place_of(table, "to")).help(help))
}

/// Waits between attempts that are longer than all of them may take.
fn retries(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let (Some(retry), Some(table)) = (parts.retry, parts.tables("retry").first()) else {
        return Vec::new();
    };
    let is_written = |option: &str| table.entries.contains_key(option);
    let waits = [("first_wait", retry.first_wait), ("longest_wait", retry.longest_wait)];
    // A default that is too long is never reached, and does no harm.
    let is_wrong =
        |(option, wait): &(&str, Duration)| *wait > retry.give_up_after && is_written(option);
    let wrong = waits.into_iter().filter(is_wrong).map(|(option, _)| {
        let why = format!("`{option}` is longer than `give_up_after`");
        let help = format!("write a shorter {option}, or a longer give_up_after");
        let diagnostic = Diagnostic::new(why, place_of(table, option)).help(help);
        if is_written("give_up_after") {
            diagnostic.beside(place_of(table, "give_up_after"), "longer than this")
        } else {
            diagnostic
        }
    });
    wrong.collect()
}

/// Names of a route that lead to nothing.
fn names(parts: &Parts<'_>, table: &Table, route: &RouteEntry) -> Vec<Diagnostic> {
    let egress = route.egress.as_ref().map(Name::as_str);
    [("credential", route.credential.as_deref()), ("egress", egress)]
        .into_iter()
        .filter_map(|(section, name)| {
            let name = name?;
            let known = || parts.tables(section).iter().map(Table::name);
            if known().any(|other| other == name) {
                return None;
            }
            let help = match nearest(name, known()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("add [[{section}]] with name = \"{name}\""),
            };
            let why = format!("there is no {section} `{name}`");
            Some(Diagnostic::new(why, place_of(table, section)).help(help))
        })
        .collect()
}

fn tls(table: &Table, route: &RouteEntry) -> Option<Diagnostic> {
    let is_required = route.tls == RouteTls::Required;
    let (option, why, help) = match &route.to {
        To::Smtps(_) if !is_required => {
            ("tls", "`smtps://` always speaks TLS", "leave `tls` away, or write smtp:// in `to`")
        }
        to if !to.is_network() && route.tls != RouteTls::Never => {
            ("tls", "there is no TLS on the way to this next hop", "leave `tls` away")
        }
        _ if route.tls_verify && !is_required => (
            "tls_verify",
            "a certificate proves nothing where TLS is not required",
            "add tls = \"required\", or leave `tls_verify` away",
        ),
        _ if route.tls_ca.is_some() && !route.tls_verify => (
            "tls_ca",
            "`tls_ca` has no effect where certificates are not verified",
            "add tls = \"required\", or leave `tls_ca` away",
        ),
        _ if route.tls_certificate.is_some() && route.tls == RouteTls::Never => (
            "tls_certificate",
            "a certificate is shown to nobody where there is no TLS",
            "leave `tls_certificate` and `tls_key` away",
        ),
        _ if route.tls_certificate.is_some() && route.tls_key.is_none() => (
            "tls_certificate",
            "a certificate proves nothing without its key",
            "add tls_key = \"/path/to/key.pem\"",
        ),
        _ if route.tls_key.is_some() && route.tls_certificate.is_none() => (
            "tls_key",
            "this key belongs to no certificate",
            "add tls_certificate = \"/path/to/chain.pem\"",
        ),
        To::Lmtp(_) | To::Mx | To::Refuse(_) | To::Smtp(_) | To::Smtps(_) => return None,
    };
    Some(Diagnostic::new(why, place_of(table, option)).help(help))
}

fn login(table: &Table, route: &RouteEntry) -> Option<Diagnostic> {
    let has_password = route.password.is_some() || route.password_file.is_some();
    let (option, why, help) = match &route.user {
        None if has_password => {
            ("name", "this route has a password and no user", "add user = \"name\"")
        }
        Some(_) if !has_password => (
            "user",
            "this user has no password",
            "add password_file = \"/path/to/file\" with the password in it",
        ),
        Some(_) if route.password.is_some() && route.password_file.is_some() => {
            ("user", "this user has two passwords", "leave `password` away")
        }
        Some(_) if !route.to.is_known_server() => (
            "user",
            "a password is not said to hosts that DNS names",
            "write the host: to = \"smtp://mail.example.org:587\"",
        ),
        Some(_) if route.tls != RouteTls::Required && !route.auth_clear => (
            "user",
            "the password may not be said without TLS, and TLS is not required",
            "add auth_clear = true where the next hop is on this machine, or leave `tls` away",
        ),
        None | Some(_) => return None,
    };
    Some(Diagnostic::new(why, place_of(table, option)).help(help))
}

fn addresses(table: &Table, egress: &EgressEntry) -> Option<Diagnostic> {
    let v4 = egress.addresses.iter().filter(|address| address.is_ipv4()).count();
    let is_double = v4 > 1 || egress.addresses.len() - v4 > 1;
    is_double.then(|| {
        let why = "an egress source has at most one address of each family";
        let help = "write an [[egress]] for each address";
        Diagnostic::new(why, place_of(table, "addresses")).help(help)
    })
}

/// Mail that is taken in and could go nowhere.
fn coverage(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut delivering = parts
        .with_tables("listener", parts.listeners)
        .filter(|(_, listener)| listener.kind.is_delivered());
    let Some((table, listener)) = delivering.next() else { return Vec::new() };
    if parts.tables("route").is_empty() {
        let why = format!(
            "listener `{}` takes mail in, but there is no [[route]] by which it could go",
            listener.name
        );
        return vec![Diagnostic::new(why, place_of(table, "kind")).help(USUAL_ROUTES)];
    }
    let relay = parts.relay.filter(|_| parts.routes.len() == parts.tables("route").len());
    let Some(relay) = relay else { return Vec::new() };
    let can_go = |domain| parts.routes.iter().any(|(_, route)| route.can_cover(domain, true));
    let lost = relay.local_domains.iter().filter(|domain| !can_go(domain));
    lost.map(|domain| {
        let at = parts.tables("relay").first().map(|table| place_of(table, "local_domains"));
        let why = format!("mail for `{domain}` is taken in, but no route covers it");
        let help = "add a [[route]] with recipients = \"local\"";
        Diagnostic::new(why, at.unwrap_or_else(|| table.head.clone())).help(help)
    })
    .collect()
}

/// Waits that are no waits.
fn waits(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    for (section, options) in [
        (
            "delivery",
            &[
                "connect_wait",
                "attempt_wait",
                "greeting_wait",
                "command_wait",
                "data_wait",
                "data_block_wait",
                "data_end_wait",
            ][..],
        ),
        ("retry", &["first_wait", "longest_wait", "give_up_after", "delay_report_after"]),
        ("dns", &["query_wait"]),
    ] {
        let Some(table) = parts.tables(section).first() else { continue };
        for option in options {
            if read::<Duration>(table, option) == Some(Duration::ZERO) {
                let why = format!("`{option}` must be longer than nothing");
                wrong.push(Diagnostic::new(why, place_of(table, option)));
            }
        }
    }
    wrong
}

const USUAL_ROUTES: &str = "\
add where mail for your domains goes, and where all other mail goes:

[[route]]
name = \"local\"
recipients = \"local\"
to = \"lmtp:/run/dovecot/lmtp\"

[[route]]
name = \"world\"
to = \"mx\"";
