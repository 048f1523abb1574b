//! How a next hop is spoken to: TLS, passwords, the address that mail leaves from.
//!
//! Invariant: nothing is less protected than in Postfix, but for DANE, which is told; a password is
//! said under TLS to a host that proves its name, unless that is this machine. Pure.

use std::net::IpAddr;

use merpati_mail::{
    Domain,
    route::{Endpoint, HostPort},
};

use super::{
    Passwords, Postfix,
    document::Table,
    egress,
    hop::Way,
    report::{Report, Weight},
    scope::Scope,
    tables::{Row, Table as Lookup},
};
use crate::config::{
    RouteTls,
    next_hop::{Secret, To},
    setting::Setting,
};

/// How much TLS is wanted, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Level {
    word: String,
    from: String,
}

/// A user with a password for a next hop.
struct Login {
    user: String,
    password: Secret,
    row: Row,
}

/// Writes the options of a route that leads there; `domain` is that of its recipients, where it has
/// one alone.
pub(super) fn fill(
    table: &mut Table,
    postfix: &Postfix,
    (way, domain): (&Way, Option<&Domain>),
    passwords: Passwords,
    report: &mut Report,
) {
    let is_smtp = match &way.to {
        To::Mx | To::Smtp(_) | To::Smtps(_) => true,
        To::Lmtp(_) | To::Refuse(_) => false,
    };
    if !is_smtp {
        return;
    }
    let scope = postfix.scope_of_transport(&way.transport);
    if way.to == To::Mx {
        tls(table, &scope, way, &level(postfix, &scope, way, domain, report), report);
    } else {
        let login = login(postfix, &scope, way, report);
        let level = level(postfix, &scope, way, domain, report);
        match login {
            None => tls(table, &scope, way, &level, report),
            Some(login) => with_login(table, &scope, way, (&level, &login, passwords), report),
        }
    }
    if !way.without_brackets.is_empty() && !scope.is_yes("disable_dns_lookups") {
        let names: Vec<String> = way.without_brackets.iter().map(ToString::to_string).collect();
        let names = names.join(", ");
        let text = format!(
            "without brackets Postfix asks for MX records of {names}; here the host itself is \
             meant: look whether there are any (`dig mx {names}`), and write those hosts into `to`"
        );
        table.note(&text);
        if scope.value("relayhost") == way.next_hop {
            report.left(&scope, "relayhost", Weight::Loud, &text);
        }
    }
    if let Some(name) = egress::name_of(postfix, &way.transport, report) {
        table.set(
            "egress",
            &name,
            &format!("the transport `{}` has its own source", way.transport),
        );
    }
    connections(table, postfix, &way.transport, report);
}

/// How much TLS Postfix wants there.
fn level(
    postfix: &Postfix,
    scope: &Scope<'_>,
    way: &Way,
    domain: Option<&Domain>,
    report: &mut Report,
) -> Level {
    let key = domain.map(ToString::to_string).filter(|_| way.next_hop.is_empty());
    let key = key.unwrap_or_else(|| way.next_hop.to_lowercase());
    if let Some(row) = policies(postfix, scope, report).into_iter().find(|row| row.key == key) {
        let word = row.value.split_whitespace().next().unwrap_or_default().to_owned();
        return Level { word, from: format!("smtp_tls_policy_maps: {key} ({})", row.place) };
    }
    for (name, word) in [("smtp_enforce_tls", "encrypt"), ("smtp_use_tls", "may")] {
        if !scope.has("smtp_tls_security_level") && scope.is_yes(name) {
            report.carried(scope, name);
            return Level { word: word.to_owned(), from: scope.origin(name) };
        }
    }
    let name = "smtp_tls_security_level";
    if scope.has(name) {
        report.carried(scope, name);
    }
    Level { word: scope.value(name), from: scope.origin(name) }
}

/// The rows of `smtp_tls_policy_maps`.
pub(super) fn policies(postfix: &Postfix, scope: &Scope<'_>, report: &mut Report) -> Vec<Row> {
    let name = "smtp_tls_policy_maps";
    let (rows, unread) = Lookup::rows_of(&scope.words(name), &postfix.files);
    if !rows.is_empty() {
        report.carried(scope, name);
    }
    for why in unread {
        let text = format!("{why}; write what it says as `tls` of routes");
        report.left(scope, name, Weight::Loud, &text);
    }
    rows
}

/// Writes the options about TLS; says whether the host must prove its name.
fn tls(table: &mut Table, scope: &Scope<'_>, way: &Way, level: &Level, report: &mut Report) {
    let is_implicit = matches!(way.to, To::Smtps(_));
    let Level { word, from } = level;
    let loud = |report: &mut Report, text: &str| {
        let name = "smtp_tls_security_level";
        report.left(scope, name, Weight::Loud, &format!("`{word}` for {}: {text}", shown(way)));
    };
    let is_verified = match word.as_str() {
        "" | "may" if !is_implicit => return,
        "none" if !is_implicit => {
            table.set("tls", &RouteTls::Never, from);
            return;
        }
        "dane" if !is_implicit => {
            loud(report, "DANE is not there yet: TLS where it is offered, without proof");
            return;
        }
        "verify" | "secure" => {
            if way.to == To::Mx {
                loud(report, "the name that must be in the certificate is that of the MX host");
            }
            true
        }
        "dane-only" | "half-dane" | "fingerprint" => {
            loud(report, "a certificate of a known issuer is wanted in its place, or mail waits");
            true
        }
        "" | "may" | "none" | "dane" | "encrypt" => false,
        _ => {
            loud(
                report,
                "this level is not known: TLS with a good certificate is wanted, or mail waits",
            );
            true
        }
    };
    if !is_implicit {
        table.set("tls", &RouteTls::Required, from);
    }
    if is_verified {
        issuers(table, scope, report);
    } else {
        table.set("tls_verify", &false, "Postfix did not look at the certificate");
    }
}

fn issuers(table: &mut Table, scope: &Scope<'_>, report: &mut Report) {
    let name = "smtp_tls_CAfile";
    if scope.has(name) {
        let path = std::path::PathBuf::from(scope.value(name));
        let from = report.carried(scope, name);
        table.set("tls_ca", &path, &from);
    }
}

fn with_login(
    table: &mut Table,
    scope: &Scope<'_>,
    way: &Way,
    (level, login, passwords): (&Level, &Login, Passwords),
    report: &mut Report,
) {
    let from = format!("{}: {} ({})", "smtp_sasl_password_maps", login.row.key, login.row.place);
    match passwords {
        Passwords::Hidden => {
            let text = "the password is not printed: write to a file with --output, or give \
                        password_file yourself";
            report.line(Weight::Loud, &login.row.place, "smtp_sasl_password_maps", text);
            table.note(&from);
            table.offer(&[
                format!("user = {}", login.user.show()),
                "password_file = \"/etc/merpati/next-hop.password\"".to_owned(),
            ]);
            return tls(table, scope, way, level, report);
        }
        Passwords::Shown => {
            table.set("user", &login.user, &from);
            // `show` hides it, as it should everywhere but here.
            let password = login.password.expose().to_owned();
            table.set("password", &password, "better in a file of its own: password_file");
        }
    }
    let is_strict = ["verify", "secure"].contains(&level.word.as_str());
    if is_this_machine(&way.to) && !is_strict {
        if matches!(way.to, To::Smtp(_)) && level.word != "encrypt" {
            table.set("tls", &RouteTls::Opportunistic, &level.from);
        } else {
            table.set("tls_verify", &false, &level.from);
        }
        table.set("auth_clear", &true, "the next hop is on this machine");
        return;
    }
    issuers(table, scope, report);
    if !is_strict {
        let text = format!(
            "{}: the password is said under TLS alone, to a host whose certificate is good, which \
             Postfix did not ask for; where it is not good, mail waits: see route.tls_ca and \
             route.auth_clear",
            shown(way)
        );
        report.line(Weight::Plain, &login.row.place, "smtp_sasl_password_maps", &text);
        table.note("TLS is required and the certificate verified, because a password is said.");
    }
}

/// The user and password for a next hop.
fn login(postfix: &Postfix, scope: &Scope<'_>, way: &Way, report: &mut Report) -> Option<Login> {
    let name = "smtp_sasl_password_maps";
    if !scope.is_yes("smtp_sasl_auth_enable") {
        return None;
    }
    let (rows, unread) = Lookup::rows_of(&scope.words(name), &postfix.files);
    for why in unread {
        let text = format!("{why}; write user and password_file into the routes");
        report.left(scope, name, Weight::Loud, &text);
    }
    let hosts = match &way.to {
        To::Smtp(hosts) | To::Smtps(hosts) => hosts.as_slice(),
        To::Lmtp(_) | To::Mx | To::Refuse(_) => &[],
    };
    let by_host = hosts.first().map(|HostPort { host, .. }| match host {
        Domain::Literal(address) => address.to_string(),
        Domain::Name(_) => host.to_string(),
    });
    let keys = [by_host, Some(way.next_hop.to_lowercase()), Some("*".to_owned())];
    let row = keys.into_iter().flatten().find_map(|key| rows.iter().find(|row| row.key == key))?;
    let (user, password) = row.value.split_once(':').unwrap_or((&row.value, ""));
    let (Ok(user), Ok(password)) = (String::parse(user), Secret::parse(password)) else {
        let text = "a user with a password is wanted; mail goes without";
        report.line(Weight::Loud, &row.place, name, text);
        return None;
    };
    report.carried(scope, "smtp_sasl_auth_enable");
    report.carried(scope, name);
    Some(Login { user, password, row: row.clone() })
}

/// Whether all hosts are this machine.
fn is_this_machine(to: &To) -> bool {
    let is_own = |host: &HostPort| match &host.host {
        Domain::Literal(address) => address.is_loopback(),
        name @ Domain::Name(_) => *name == Domain::localhost(),
    };
    match to {
        To::Smtp(hosts) | To::Smtps(hosts) => hosts.iter().all(is_own),
        To::Lmtp(Endpoint::Tcp(host)) => is_own(host),
        To::Lmtp(Endpoint::Unix(_)) => true,
        To::Mx | To::Refuse(_) => false,
    }
}

fn shown(way: &Way) -> String {
    if way.next_hop.is_empty() { "the hosts of DNS".to_owned() } else { way.next_hop.clone() }
}

/// How many attempts at once a transport makes to one next hop.
fn connections(table: &mut Table, postfix: &Postfix, transport: &str, report: &mut Report) {
    let scope = postfix.scope();
    let name = format!("{transport}_destination_concurrency_limit");
    let usual = scope.value("default_destination_concurrency_limit");
    let value = scope.value(&name);
    if scope.assignment(&name).is_none() || value == usual {
        return report.nothing(&scope, &name, "it is that of all transports");
    }
    if let Ok(limit) = value.parse::<std::num::NonZeroU32>() {
        let from = report.carried(&scope, &name);
        table.set("connections_max", &limit, &from);
    } else {
        let text = "a route has a limit: see delivery.connections_per_host_max";
        report.left(&scope, &name, Weight::Plain, text);
    }
}

/// An address of this machine, as a parameter has it.
pub(super) fn address_of(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inside.unwrap_or(text).parse().ok()
}
