//! What becomes of each restriction that is no question of who may send where: DNS lists, senders
//! that do not exist, and all that has no counterpart here.
//!
//! Invariant: a restriction that refused something, and does not here, is told. Pure.

use std::net::Ipv4Addr;

use merpati_flow::admit::{
    Names as ClientNames, SenderDomain,
    lists::{ListAbout, ListAction},
};
use merpati_mail::Domain;

use super::{
    Postfix,
    access::{Door, Doors},
    document::Table,
    names::Names,
    report::{Report, Weight},
    restrictions::{Item, LISTS, items},
};
use crate::config::Network;

/// `[strangers]` and `[[list]]`.
pub(super) fn tables(postfix: &Postfix, doors: &Doors<'_>, report: &mut Report) -> Vec<Table> {
    let mut found = Found::default();
    for door in &doors.all {
        for list in LISTS.iter().chain(&OTHER_LISTS) {
            for item in items(&door.scope, list) {
                found.item(door, list, &item, report);
            }
            if door.scope.has(list) {
                report.carried(&door.scope, list);
            }
        }
        report.nothing(
            &door.scope,
            "smtpd_restriction_classes",
            "classes stand where they are used",
        );
    }
    let mut strangers = Table::new("[strangers]");
    if let Some(from) = &found.sender_domain {
        strangers.set("sender_domain", &SenderDomain::MustExist, from);
    } else {
        let from = "There is no reject_unknown_sender_domain; without this line it would be so.";
        strangers.set("sender_domain", &SenderDomain::Any, from);
    }
    let scope = postfix.scope();
    let name = "smtpd_peername_lookup";
    if scope.value(name) == "no" {
        let from = report.carried(&scope, name);
        strangers.set("rdns", &ClientNames::Off, &from);
    } else {
        report.nothing(&scope, name, "names are looked up");
    }
    let mut tables = vec![strangers];
    tables.extend(found.lists.into_iter().map(|list| list.table));
    tables
}

struct List {
    zone: String,
    table: Table,
}

#[derive(Default)]
struct Found {
    lists: Vec<List>,
    names: Names,
    /// What asks for it.
    sender_domain: Option<String>,
}

impl Found {
    fn item(&mut self, door: &Door<'_>, list: &str, item: &Item, report: &mut Report) {
        let scope = &door.scope;
        match item.name.as_str() {
            "reject_rbl_client" => self.list(door, list, item, (ListAbout::Client, report)),
            "reject_rhsbl_sender" => {
                self.list(door, list, item, (ListAbout::SenderDomain, report));
            }
            "reject_unknown_sender_domain" | "reject_unknown_address" if !item.is_warning => {
                self.sender_domain = Some(format!("{}: {}", scope.origin(list), item.name));
            }
            name if DECIDED.contains(&name) => {}
            name => {
                let text = FATES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
                let text = text.unwrap_or(if name.starts_with("check_") {
                    "this table is not looked up: what it refuses is taken, what it permits is not"
                } else if name.starts_with("permit_") {
                    "it permits nobody here"
                } else {
                    "it refuses nothing here"
                });
                report.left(scope, list, Weight::Loud, &format!("{}: {text}", item.shown()));
            }
        }
    }

    fn list(
        &mut self,
        door: &Door<'_>,
        list: &str,
        item: &Item,
        (about, report): (ListAbout, &mut Report),
    ) {
        let argument = item.argument.clone().unwrap_or_default();
        let (zone, codes) =
            argument.split_once('=').map_or((argument.as_str(), None), |(z, c)| (z, Some(c)));
        if self.lists.iter().any(|one| one.zone == argument) {
            return;
        }
        let codes = codes.map_or(Some(Vec::new()), codes_of);
        let (Ok(domain), Some(codes)) = (Domain::parse(zone), codes) else {
            let text = format!("{}: write a [[list]] for it", item.shown());
            return report.left(&door.scope, list, Weight::Loud, &text);
        };
        let mut table = Table::new("[[list]]");
        table.about(&format!("{}: {}", door.scope.origin(list), item.shown()));
        table.set("name", &self.names.give(zone), "");
        table.set("zone", &domain, "");
        if about != ListAbout::Client {
            table.set("about", &about, "");
        }
        if !codes.is_empty() {
            table.list("codes", &codes, "");
        }
        if item.is_warning {
            table.set("action", &ListAction::Note, "warn_if_reject");
        }
        self.lists.push(List { zone: argument, table });
    }
}

/// The codes that `127.0.0.[2;4..6]` means; `None` where they cannot be listed.
fn codes_of(pattern: &str) -> Option<Vec<Network>> {
    let mut octets: [Vec<u8>; 4] = Default::default();
    let mut rest = pattern;
    for octet in &mut octets {
        let (part, behind) = match rest.strip_prefix('[') {
            Some(inside) => {
                let (part, behind) = inside.split_once(']')?;
                (part, behind.strip_prefix('.').unwrap_or(behind))
            }
            None => rest.split_once('.').unwrap_or((rest, "")),
        };
        *octet = part.split(';').map(range).collect::<Option<Vec<_>>>()?.concat();
        rest = behind;
    }
    let [first, second, third, fourth] = octets;
    let count = first.len() * second.len() * third.len() * fourth.len();
    if !rest.is_empty() || first != [127] || count > CODES_MAX {
        return None;
    }
    let mut codes = Vec::new();
    for b in &second {
        for c in &third {
            for d in &fourth {
                let address = Ipv4Addr::new(127, *b, *c, *d);
                codes.push(Network::parse(&address.to_string()).ok()?);
            }
        }
    }
    Some(codes)
}

/// A number, or all from one to another.
fn range(text: &str) -> Option<Vec<u8>> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let (from, to): (u8, u8) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (from <= to).then(|| (from..=to).collect())
}

/// Lists that are walked at other commands than RCPT.
const OTHER_LISTS: [&str; 2] = ["smtpd_data_restrictions", "smtpd_end_of_data_restrictions"];

/// Restrictions that the walk has decided, or that are so here in any case.
const DECIDED: [&str; 16] = [
    "defer",
    "defer_if_permit",
    "defer_if_reject",
    "defer_unauth_destination",
    "permit",
    "permit_auth_destination",
    "permit_mynetworks",
    "permit_sasl_authenticated",
    "reject",
    "reject_non_fqdn_recipient",
    "reject_unauth_destination",
    "reject_unauth_pipelining",
    "reject_unknown_sender_domain",
    "reject_unlisted_recipient",
    "reject_unverified_recipient",
    "sleep",
];

/// What is said of others.
const FATES: &[(&str, &str)] = &[
    (
        "check_policy_service",
        "there are no policy services; for greylisting see [greylist], for rates the limits of a \
         listener",
    ),
    (
        "permit_inet_interfaces",
        "it permits nobody here: name the addresses of this machine in relay.networks",
    ),
    ("permit_mx_backup", "it permits nobody here: name the domains in relay.local_domains"),
    (
        "permit_tls_clientcerts",
        "it permits nobody here: see listener.tls_client_ca and credential.certificate_names",
    ),
    (
        "reject_authenticated_sender_login_mismatch",
        "write the addresses of each user into credential.senders",
    ),
    ("reject_plaintext_session", "mail in the clear is taken"),
    ("reject_rhsbl_client", "lists are asked about addresses and sender domains alone"),
    ("reject_rhsbl_helo", "lists are asked about addresses and sender domains alone"),
    ("reject_sender_login_mismatch", "write the addresses of each user into credential.senders"),
    ("reject_unverified_sender", "senders are not asked about at their hosts"),
];

/// Codes of one list.
const CODES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{access::doors, document::text, tests::postfix};

    #[test]
    fn codes_are_listed_one_by_one() {
        for (pattern, want) in [
            ("127.0.0.2", Some("127.0.0.2/32")),
            ("127.0.0.[2;4..5]", Some("127.0.0.2/32 127.0.0.4/32 127.0.0.5/32")),
            ("127.0.[0..1].3", Some("127.0.0.3/32 127.0.1.3/32")),
            ("10.0.0.2", None),
            ("127.0.0", None),
            ("127.[0..255].[0..255].2", None),
        ] {
            let codes = codes_of(pattern)
                .map(|codes| codes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            assert_eq!(codes.as_deref(), want, "{pattern}");
        }
        assert_eq!(codes_of("127.0.0.[0..255]").map(|codes| codes.len()), Some(256));
    }

    #[test]
    fn lists_and_senders_are_carried_over_and_the_rest_is_told() {
        let main = "\
compatibility_level = 3.6
mynetworks = 10.0.0.0/8
smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination,
  reject_unknown_sender_domain, reject_rbl_client zen.example=127.0.0.[2;3],
  warn_if_reject reject_rbl_client zen.example, reject_rhsbl_sender dbl.example,
  check_sender_access hash:/s, reject_invalid_helo_hostname, permit
smtpd_data_restrictions = reject_unauth_pipelining, reject_multi_recipient_bounce
";
        let postfix = postfix(main, "smtp inet n - y - - smtpd\n", &[]);
        let mut report = Report::default();
        let doors = doors(&postfix, true, &mut report);
        let found = text(&tables(&postfix, &doors, &mut report));
        let lines = found.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [
                "[strangers]",
                "sender_domain = \"must-exist\"",
                "[[list]]",
                "name = \"zen-example\"",
                "zone = \"zen.example\"",
                "codes = [\"127.0.0.2/32\", \"127.0.0.3/32\"]",
                "[[list]]",
                "name = \"zen-example-2\"",
                "zone = \"zen.example\"",
                "action = \"note\"",
                "[[list]]",
                "name = \"dbl-example\"",
                "zone = \"dbl.example\"",
                "about = \"sender-domain\"",
            ]
        );
        let told: Vec<String> = report.into_lines().into_iter().map(|line| line.text).collect();
        assert_eq!(
            told,
            [
                "check_sender_access hash:/s: this table is not looked up: what it refuses is \
                 taken, what it permits is not",
                "reject_invalid_helo_hostname: it refuses nothing here",
                "reject_multi_recipient_bounce: it refuses nothing here"
            ]
        );
    }
}
