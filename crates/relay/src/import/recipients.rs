//! Which domains are ours here, and which of their recipients exist.
//!
//! Invariant: no domain is ours for which Postfix took no mail, and no recipient exists who did
//! not. Pure.

use std::collections::BTreeSet;

use merpati_flow::admit::recipients::{CallAhead, KnownRecipient};
use merpati_mail::{Domain, Mailbox};

use super::{
    Postfix,
    access::Doors,
    aliases::{self, Aliases},
    classes::Class,
    document::Table,
    hop::Hop,
    names::few,
    report::{Report, Weight},
    restrictions::items,
    rules::{Transports, Ways},
    tables::{Row, Table as Lookup},
};
use crate::config::{next_hop::To, values::Separator};

/// The classes whose domains may be ours.
const OURS: [Class; 3] = [Class::Local, Class::Mailbox, Class::Relay];

/// The parameter that lists the recipients of a class.
const fn maps_of(class: Class) -> &'static str {
    match class {
        Class::Alias | Class::Default => "",
        Class::Local => "local_recipient_maps",
        Class::Mailbox => "virtual_mailbox_maps",
        Class::Relay => "relay_recipient_maps",
    }
}

/// The domains for which Postfix took mail from strangers, and that go somewhere here too.
pub(super) fn domains(
    ways: &Ways<'_>,
    transports: &Transports,
    report: &mut Report,
) -> Vec<Domain> {
    let (postfix, classes) = (ways.postfix, ways.classes);
    let scope = postfix.scope();
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    let named = OURS.into_iter().flat_map(|class| classes.named(class).to_vec());
    // Postfix takes mail for what is below a relay domain too: here it has to be named.
    let below = transports.named().cloned().chain(of_recipients(postfix));
    let below: Vec<Domain> = below.filter(|domain| classes.class(domain) == Class::Relay).collect();
    for domain in named.chain(below) {
        let is_alias = classes.class(&domain) == Class::Alias;
        if !is_alias && !seen.contains(&domain) && ways.is_delivered(&domain) {
            seen.insert(domain.clone());
            all.push(domain);
        }
    }
    for class in OURS {
        if classes.named(class).iter().any(|domain| seen.contains(domain)) {
            report.carried(&scope, class.parameter());
        }
    }
    all
}

/// Tells of the domains that were ours by those above them alone.
pub(super) fn tell_of_those_below(ways: &Ways<'_>, ours: &[Domain], report: &mut Report) {
    let scope = ways.postfix.scope();
    let ours: BTreeSet<&Domain> = ours.iter().collect();
    let above = ways.classes.relay.above.iter().filter(|above| ours.contains(above));
    let above: Vec<String> = above.map(ToString::to_string).collect();
    if !above.is_empty() {
        let text = format!(
            "Postfix took mail for all domains below {} as well; here only those are ours that are \
             named: add them to relay.local_domains",
            few(&above)
        );
        report.left(&scope, "relay_domains", Weight::Loud, &text);
    }
}

/// The domains of the recipients of relay domains.
fn of_recipients(postfix: &Postfix) -> BTreeSet<Domain> {
    let scope = postfix.scope();
    let (rows, _) = Lookup::rows_of(&scope.words(maps_of(Class::Relay)), &postfix.files);
    let domains = rows.iter().filter_map(|row| row.key.rsplit_once('@'));
    domains.filter_map(|(_, domain)| Domain::parse(domain).ok()).collect()
}

/// What is known of the recipients of our domains.
#[derive(Debug, Default)]
struct Known {
    all: Vec<KnownRecipient>,
    from: Vec<String>,
    /// Whether a list says who exists.
    has_list: bool,
    /// Whether next hops must be asked.
    is_asked: bool,
}

/// `[recipients]`.
pub(super) fn table(
    ways: &Ways<'_>,
    (doors, aliases): (&Doors<'_>, &Aliases),
    ours: &[Domain],
    report: &mut Report,
) -> Table {
    let mut table = Table::new("[recipients]");
    let scope = ways.postfix.scope();
    let is_wanted = doors.all.iter().any(|door| {
        let lists = super::restrictions::LISTS.into_iter();
        door.scope.is_yes("smtpd_reject_unlisted_recipient")
            || lists.flat_map(|list| items(&door.scope, list)).any(|item| item.name == UNLISTED)
    });
    if !is_wanted && !doors.all.is_empty() {
        let text = "every recipient in our domains is taken, and returned later, to senders who \
                    may be forged: see [recipients]";
        report.left(&scope, "smtpd_reject_unlisted_recipient", Weight::Loud, text);
        if !aliases.is_empty() && !ours.is_empty() {
            separator(&mut table, ways.postfix, report);
        }
        return table;
    }
    report.nothing(&scope, "smtpd_reject_unlisted_recipient", "recipients are always looked up");
    let mut known = Known::default();
    for class in OURS {
        let domains: BTreeSet<&Domain> =
            ours.iter().filter(|domain| ways.classes.class(domain) == class).collect();
        // Where only aliases lead somewhere, nobody else exists.
        let domains: BTreeSet<&Domain> =
            domains.into_iter().filter(|domain| ways.is_delivered(domain)).collect();
        if !domains.is_empty() {
            of_class(ways, class, &domains, &mut known, report);
        }
    }
    let asks = |door: &super::access::Door<'_>| {
        let lists = super::restrictions::LISTS.into_iter();
        lists.flat_map(|list| items(&door.scope, list)).any(|item| item.name == UNVERIFIED)
    };
    // Of a domain with aliases alone, only a list can say that the others are nobody; where there
    // is a catch-all, nobody is nobody.
    let is_alone = |domain: &&Domain| !ways.is_delivered(domain) && !aliases.has_catch_all(domain);
    let alone: Vec<Domain> = ours.iter().filter(is_alone).cloned().collect();
    known.has_list |= !alone.is_empty();
    // Those that need not be asked about are listed.
    known.has_list |= known.is_asked && !known.all.is_empty();
    known.is_asked |= doors.all.iter().any(asks);
    tell_of_aliases(ways.postfix, aliases, (&known, &alone), report);
    if known.has_list && known.all.is_empty() {
        // An empty list would be none, and let everybody exist.
        let some = alone.first().or_else(|| ours.first());
        let postmaster = some.and_then(|d| Mailbox::new("postmaster", d.clone()).ok());
        known.all.extend(postmaster.map(KnownRecipient::Address));
    }
    if known.has_list {
        table.list("known", &known.all, &known.from.join(", "));
        separator(&mut table, ways.postfix, report);
    } else if !aliases.is_empty() && !ours.is_empty() {
        separator(&mut table, ways.postfix, report);
    } else {
        report.nothing(&scope, "recipient_delimiter", "all recipients exist");
    }
    if known.is_asked && !ours.is_empty() {
        let from = "The next hop is asked about recipients that are not listed.";
        table.set("call_ahead", &CallAhead::OrDefer, from);
    }
    table
}

/// Where who is listed, or nobody, comes to another place than before.
fn tell_of_aliases(
    postfix: &Postfix,
    aliases: &Aliases,
    (known, alone): (&Known, &[Domain]),
    report: &mut Report,
) {
    let scope = postfix.scope();
    let listed = known.all.iter().filter_map(|one| match one {
        KnownRecipient::Address(mailbox) => Some(mailbox),
        KnownRecipient::Domain(_) => None,
    });
    let caught = aliases.caught(listed, aliases::separator(postfix));
    if !caught.is_empty() {
        let text = format!(
            "a catch-all took the mail for {} as well, who are listed and have no alias of their \
             own; here it goes to their mailboxes",
            few(&caught)
        );
        report.left(&scope, "virtual_alias_maps", Weight::Loud, &text);
    }
    if known.is_asked && !alone.is_empty() {
        let alone: Vec<String> = alone.iter().map(ToString::to_string).collect();
        let text = format!(
            "in {} only aliases exist, and there is no next hop to ask about others: with \
             recipients.call_ahead mail for them is taken, and returned",
            few(&alone)
        );
        report.left(&scope, "virtual_alias_maps", Weight::Loud, &text);
    }
}

fn of_class(
    ways: &Ways<'_>,
    class: Class,
    domains: &BTreeSet<&Domain>,
    known: &mut Known,
    report: &mut Report,
) {
    let scope = ways.postfix.scope();
    let name = maps_of(class);
    let whole = domains.iter().map(|domain| KnownRecipient::Domain((*domain).clone()));
    let maps = scope.words(name);
    if maps.is_empty() {
        report.nothing(&scope, name, "all recipients exist");
        known.all.extend(whole);
        return;
    }
    let (rows, unread) = Lookup::rows_of(&maps, &ways.postfix.files);
    if rows.iter().any(|row| row.key == "*") {
        report.nothing(&scope, name, "all recipients exist");
        known.all.extend(whole);
        return;
    }
    if !unread.is_empty() {
        let can_ask = domains.iter().all(|domain| match ways.resolve(domain) {
            Hop::Lost(_) => false,
            Hop::To(way) => way.to != To::Mx,
        });
        let text = if can_ask {
            "the next hop is asked about recipients in its place (recipients.call_ahead)"
        } else {
            "every recipient is taken, and returned later, to senders who may be forged: list them \
             in recipients.known_file"
        };
        report.left(&scope, name, Weight::Loud, &format!("{}; {text}", unread.join("; ")));
        if can_ask {
            known.is_asked = true;
        } else {
            known.all.extend(whole);
            return;
        }
    }
    let found: Vec<KnownRecipient> =
        rows.iter().flat_map(|row| recipients(row, class, domains)).collect();
    if unread.is_empty() || !found.is_empty() {
        known.has_list = true;
        known.from.push(report.carried(&scope, name));
    }
    known.all.extend(found);
}

/// The recipients that a row names, of those in these domains.
fn recipients(row: &Row, class: Class, domains: &BTreeSet<&Domain>) -> Vec<KnownRecipient> {
    let is_ours = |domain: &Domain| domains.contains(domain);
    match row.key.rsplit_once('@') {
        Some(("", domain)) => {
            let domain = Domain::parse(domain).ok().filter(is_ours);
            domain.map(KnownRecipient::Domain).into_iter().collect()
        }
        Some(_) => {
            let mailbox = Mailbox::parse(&row.key).ok();
            let mailbox = mailbox.filter(|mailbox| is_ours(mailbox.domain()));
            mailbox.map(KnownRecipient::Address).into_iter().collect()
        }
        // A user of this machine, in each of its domains.
        None if class == Class::Local => domains
            .iter()
            .filter_map(|domain| Mailbox::new(&row.key, (*domain).clone()).ok())
            .map(KnownRecipient::Address)
            .collect(),
        None => Vec::new(),
    }
}

fn separator(table: &mut Table, postfix: &Postfix, report: &mut Report) {
    let scope = postfix.scope();
    let name = "recipient_delimiter";
    let value = scope.value(name);
    let first = aliases::separator(postfix);
    let from = report.carried(&scope, name);
    table.set("separator", &first.map(Separator), &from);
    if value.chars().count() > 1 {
        let text = format!("of `{value}` only the first character counts");
        report.left(&scope, name, Weight::Plain, &text);
    }
}

const UNLISTED: &str = "reject_unlisted_recipient";
const UNVERIFIED: &str = "reject_unverified_recipient";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::setting::Setting,
        import::{access::doors, classes::Classes, document::text, tests::postfix},
    };

    const SMTP: &str = "smtp inet n - y - - smtpd\n";

    fn read(main: &str, files: &[(&str, &str)]) -> (String, String) {
        let main = format!("compatibility_level = 3.6\n{main}");
        let postfix = postfix(&main, SMTP, files);
        let mut report = Report::default();
        let classes = Classes::of(&postfix, &mut report);
        let transports = Transports::of(&postfix, &mut report);
        let ways = Ways { postfix: &postfix, classes: &classes, transports: &transports };
        let mut ours = domains(&ways, &transports, &mut report);
        let aliases = Aliases::of(&ways, &mut ours);
        let doors = doors(&postfix, true, &mut report);
        let table = text(&[table(&ways, (&doors, &aliases), &ours, &mut report)]);
        let lines = table.lines().filter(|line| !line.starts_with(['#', '[']));
        let names: Vec<String> = ours.iter().map(ToString::to_string).collect();
        (names.join(" "), lines.collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn a_domain_is_ours_where_postfix_took_its_mail_and_it_goes_somewhere() {
        let tables = [
            ("/t", "b.example smtp:[in]\nx.b.example smtp:[in]\ne.example error:no\n"),
            ("/r", "ani@y.b.example x\n"),
        ];
        for (main, want) in [
            ("mydestination = a.example", ""),
            ("mydestination = a.example\nmailbox_transport = lmtp:unix:/l", "a.example"),
            (
                "mydestination =\nrelay_domains = b.example, e.example\ntransport_maps = hash:/t",
                "b.example x.b.example",
            ),
            (
                "mydestination =\nrelay_domains = b.example\nrelay_recipient_maps = hash:/r",
                "b.example y.b.example",
            ),
            (
                "mydestination =\nrelay_domains = b.example\ntransport_maps = hash:/t\n\
                 parent_domain_matches_subdomains =",
                "b.example",
            ),
            ("mydestination =\nvirtual_alias_domains = c.example", ""),
            (
                "mydestination =\nvirtual_mailbox_domains = d.example\n\
                 virtual_transport = lmtp:unix:/l",
                "d.example",
            ),
        ] {
            assert_eq!(read(main, &tables).0, want, "{main}");
        }
    }

    #[test]
    fn recipients_exist_who_existed_for_postfix() {
        let relay = "mydestination =\nrelay_domains = b.example, c.example\n";
        let in_hop = "relayhost = [in]\n";
        let files = [("/r", "Ani@B.example x\n@c.example x\nbudi@other.example x\nciti x\n")];
        for (main, want) in [
            (relay.to_owned(), ""),
            (
                format!("{relay}relay_recipient_maps = hash:/r\n"),
                "known = [\"ani@b.example\", \"@c.example\"]; separator = \"off\"",
            ),
            (
                format!("{relay}relay_recipient_maps = hash:/r\nrecipient_delimiter = +-\n"),
                "known = [\"ani@b.example\", \"@c.example\"]; separator = \"+\"",
            ),
            (format!("{relay}relay_recipient_maps = static:x\n"), ""),
            (format!("{relay}relay_recipient_maps = pcre:/p\n"), ""),
            (format!("{relay}{in_hop}relay_recipient_maps = pcre:/p\n"), "call_ahead = \"defer\""),
            (
                format!("{relay}relay_recipient_maps = inline:{{nobody=x}}\n"),
                "known = [\"postmaster@b.example\"]; separator = \"off\"",
            ),
            (
                format!(
                    "{relay}{in_hop}smtpd_recipient_restrictions = reject_unverified_recipient\n"
                ),
                "call_ahead = \"defer\"",
            ),
            (
                format!(
                    "{relay}relay_recipient_maps = hash:/r\nsmtpd_reject_unlisted_recipient = no\n"
                ),
                "",
            ),
            (
                "mydestination = a.example\nlocal_recipient_maps = inline:{ani=x}\n\
                 mailbox_transport = lmtp:unix:/l\n"
                    .to_owned(),
                "known = [\"ani@a.example\"]; separator = \"off\"",
            ),
        ] {
            assert_eq!(read(&main, &files).1, want, "{main}");
        }
        assert_eq!(Option::<Separator>::None.show(), "\"off\"");
    }
}
