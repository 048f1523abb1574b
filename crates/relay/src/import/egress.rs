//! Which address and name mail leaves from.
//!
//! Pure.

use std::net::IpAddr;

use merpati_mail::Domain;

use super::{
    Postfix,
    document::Table,
    report::{Report, Weight},
    scope::Scope,
    ways::address_of,
};
use crate::config::Name;

/// What a source is made of.
const PARAMETERS: [&str; 3] = ["smtp_bind_address", "smtp_bind_address6", "smtp_helo_name"];

/// The tables `[[egress]]`: that of all transports, and those of transports with a source of their
/// own, of which `transports` are used.
pub(super) fn tables(postfix: &Postfix, transports: &[String], report: &mut Report) -> Vec<Table> {
    let mut all: Vec<Table> = Vec::new();
    let usual = source(&postfix.scope(), "default", report);
    all.extend(usual);
    let mut done: Vec<&String> = Vec::new();
    for transport in transports {
        let Some(name) = name_of(postfix, transport, report) else { continue };
        if done.contains(&transport) {
            continue;
        }
        done.push(transport);
        let scope = postfix.scope_of_transport(transport);
        all.extend(source(&scope, name.as_str(), report));
    }
    all
}

/// The name of the source of a transport; `None` where it is that of all.
pub(super) fn name_of(postfix: &Postfix, transport: &str, report: &mut Report) -> Option<Name> {
    let service = postfix.master.transport(transport)?;
    let own = PARAMETERS.iter().any(|name| service.own.contains_key(*name));
    let scope = postfix.scope_of_transport(transport);
    let name = own.then(|| Name::parse(&super::names::sanitized(transport)))??;
    // Only where it leads to a table.
    source(&scope, name.as_str(), report).map(|_| name)
}

fn source(scope: &Scope<'_>, name: &str, report: &mut Report) -> Option<Table> {
    let mut table = Table::new("[[egress]]");
    table.set("name", &name.to_owned(), "");
    let (addresses, from) = addresses(scope, report);
    if !addresses.is_empty() {
        table.list("addresses", &addresses, &from.join(", "));
    }
    let hello = scope.value("smtp_helo_name");
    if hello != scope.value("myhostname") {
        match Domain::parse(&hello) {
            Ok(hello) => {
                let from = report.carried(scope, "smtp_helo_name");
                table.set("hello", &hello, &from);
            }
            Err(why) => {
                let text = format!("`{hello}` is no name: {why}");
                report.left(scope, "smtp_helo_name", Weight::Plain, &text);
            }
        }
    }
    (table.options() > 1).then_some(table)
}

fn addresses(scope: &Scope<'_>, report: &mut Report) -> (Vec<IpAddr>, Vec<String>) {
    let (mut addresses, mut from) = (Vec::new(), Vec::new());
    for name in ["smtp_bind_address", "smtp_bind_address6"] {
        if !scope.has(name) {
            continue;
        }
        match address_of(&scope.value(name)) {
            // The address of every machine is no choice.
            Some(address) if address.is_unspecified() => {
                report.nothing(scope, name, "the system chooses the address");
            }
            Some(address) => {
                addresses.push(address);
                from.push(report.carried(scope, name));
            }
            None => report.left(scope, name, Weight::Loud, "it is no address"),
        }
    }
    if !addresses.is_empty() {
        return (addresses, from);
    }
    // With one address of a family to listen at, Postfix sends from there as well.
    let own: Vec<IpAddr> =
        scope.words("inet_interfaces").iter().filter_map(|word| address_of(word)).collect();
    for is_v4 in [true, false] {
        let mut family = own.iter().filter(|address| address.is_ipv4() == is_v4);
        if let (Some(one), None) = (family.next(), family.next())
            && !one.is_loopback()
        {
            addresses.push(*one);
        }
    }
    if !addresses.is_empty() {
        from.push(format!("{}: the only address", report.carried(scope, "inet_interfaces")));
    }
    (addresses, from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{document::text, tests::postfix};

    #[test]
    fn mail_leaves_from_where_postfix_let_it_leave() {
        let slow = "slow unix - - n - - smtp -o smtp_bind_address=192.0.2.2\n";
        for (main, master, want) in [
            ("", "", ""),
            ("smtp_bind_address = 192.0.2.1", "", "name = \"default\" addresses = [\"192.0.2.1\"]"),
            ("smtp_bind_address = 0.0.0.0", "", ""),
            ("inet_interfaces = 192.0.2.3, 127.0.0.1", "", ""),
            ("inet_interfaces = 192.0.2.3", "", "name = \"default\" addresses = [\"192.0.2.3\"]"),
            ("inet_interfaces = 127.0.0.1", "", ""),
            (
                "myhostname = a.example\nsmtp_helo_name = b.example",
                "",
                "name = \"default\" hello = \"b.example\"",
            ),
            ("", slow, "name = \"slow\" addresses = [\"192.0.2.2\"]"),
        ] {
            let postfix = postfix(main, master, &[]);
            let tables = tables(&postfix, &["slow".to_owned()], &mut Report::default());
            let text = text(&tables);
            let lines: Vec<&str> =
                text.lines().filter(|line| !line.starts_with(['#', '['])).collect();
            assert_eq!(lines.join(" "), want, "{main} {master}");
        }
    }
}
