//! Which rules the transport table and the classes make, in the order in which they hold.
//!
//! Invariant: a recipient's domain meets the same rule as in Postfix, of those that can be written
//! by domain; those that cannot are told. Pure.

use std::collections::BTreeMap;

use merpati_mail::Domain;

use super::{
    Postfix,
    classes::{Class, Classes, hop_of, origin_of, transport_of},
    hop::{Hop, hop, relayhost},
    names::few,
    report::{Report, Weight},
    tables::{Row, Table},
};

/// For whom a rule is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// For all.
    Any,
    /// For recipients in this domain and below.
    Below(Domain),
    /// For recipients in these domains.
    Domains(Vec<Domain>),
    /// For senders in this domain and below.
    SenderBelow(Domain),
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// What its name is made of.
    pub name: String,
    /// For whom.
    pub when: When,
    /// Where to.
    pub hop: Hop,
    /// Where it comes from.
    pub from: String,
}

/// The transport table, by the form of its keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Transports {
    exact: Vec<(Domain, Row)>,
    /// Where each of them is in the list.
    places: BTreeMap<Domain, usize>,
    below: Vec<(Domain, Row)>,
    all: Option<Row>,
}

impl Transports {
    /// The rows of `transport_maps`.
    pub(super) fn of(postfix: &Postfix, report: &mut Report) -> Self {
        let scope = postfix.scope();
        let names = scope.words("transport_maps");
        let matches_below = scope
            .words("parent_domain_matches_subdomains")
            .iter()
            .any(|one| one == "transport_maps");
        let (rows, unread) = Table::rows_of(&names, &postfix.files);
        if !names.is_empty() {
            report.carried(&scope, "transport_maps");
        }
        for why in unread {
            let text = format!("{why}; write what it says as routes, or mail takes other ways");
            report.left(&scope, "transport_maps", Weight::Loud, &text);
        }
        let mut read = Self::default();
        for row in rows {
            let key = row.key.clone();
            if key == "*" {
                read.all = Some(row);
                continue;
            }
            let (is_below, name) =
                key.strip_prefix('.').map_or((false, key.as_str()), |k| (true, k));
            match Domain::parse(name) {
                Ok(domain) if is_below => read.below.push((domain, row)),
                Ok(domain) => {
                    if matches_below {
                        read.below.push((domain.clone(), row.clone()));
                    }
                    read.places.insert(domain.clone(), read.exact.len());
                    read.exact.push((domain, row));
                }
                Err(_) => {
                    let text = format!(
                        "`{key}`: a route is chosen by domain, not by a single address; its mail \
                         goes where that of its domain goes"
                    );
                    report.line(Weight::Loud, &row.place, "transport_maps", &text);
                }
            }
        }
        // The longest suffix is looked up first.
        read.below
            .sort_by_key(|(domain, _)| std::cmp::Reverse(domain.to_string().matches('.').count()));
        read
    }

    /// The domains that have rows of their own.
    pub(super) fn named(&self) -> impl Iterator<Item = &Domain> {
        self.exact.iter().map(|(domain, _)| domain)
    }

    /// The row that decides about a domain; `None` where its class does.
    fn row(&self, domain: &Domain) -> Option<&Row> {
        let is_below = |above: &Domain| domain != above && domain.is_or_is_below(above);
        let exact = self.places.get(domain).and_then(|place| self.exact.get(*place));
        let below = || self.below.iter().find(|(above, _)| is_below(above));
        exact.or_else(below).map(|(_, row)| row).or(self.all.as_ref())
    }
}

/// What says where mail goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways<'a> {
    /// The configuration.
    pub postfix: &'a Postfix,
    /// Its classes.
    pub classes: &'a Classes,
    /// Its transport table.
    pub transports: &'a Transports,
}

impl Ways<'_> {
    /// Where mail for a domain goes.
    pub(super) fn resolve(&self, domain: &Domain) -> Hop {
        let class = self.classes.class(domain);
        match self.transports.row(domain) {
            Some(row) => self.of_row(row, class),
            None => hop_of(self.postfix, class),
        }
    }

    /// Whether mail for a domain goes anywhere by SMTP or LMTP.
    pub(super) fn is_delivered(&self, domain: &Domain) -> bool {
        match self.resolve(domain) {
            Hop::Lost(_) => false,
            Hop::To(way) => way.to.is_network() || way.to.is_known_server(),
        }
    }

    /// The domains whose mail the local delivery agent takes, which looks up `alias_maps`.
    pub(super) fn local_domains(&self) -> Vec<Domain> {
        let transport = self.postfix.scope().value("local_transport");
        if transport.split(':').next() != Some("local") {
            return Vec::new();
        }
        let named = self.classes.named(Class::Local).iter();
        named.filter(|domain| self.transports.row(domain).is_none()).cloned().collect()
    }

    fn of_row(&self, row: &Row, class: Class) -> Hop {
        let (transport, next_hop) = row.value.split_once(':').unwrap_or((&row.value, ""));
        match (transport.trim(), next_hop.trim()) {
            ("", "") => hop_of(self.postfix, class),
            ("", next_hop) => relayhost(self.postfix, next_hop, &transport_of(self.postfix, class)),
            (_, _) => hop(self.postfix, &row.value),
        }
    }

    /// All rules, the first one first.
    pub(super) fn rules(&self, report: &mut Report) -> Vec<Rule> {
        let mut rules = self.exact();
        for (above, row) in &self.transports.below {
            let is_named = self.transports.places.contains_key(above);
            if !is_named {
                // The rule below holds for the domain itself too, and Postfix's does not.
                rules.push(Rule {
                    name: above.to_string(),
                    when: When::Domains(vec![above.clone()]),
                    hop: self.resolve(above),
                    from: format!(
                        "{above} itself, which `{}` at {} is not for",
                        row.key, row.place
                    ),
                });
            }
            rules.push(Rule {
                name: format!("below-{above}"),
                when: When::Below(above.clone()),
                hop: self.of_row(row, Class::Default),
                from: format!("transport_maps: {} ({})", row.key, row.place),
            });
        }
        if let Some(row) = &self.transports.all {
            rules.push(Rule {
                name: "all".to_owned(),
                when: When::Any,
                hop: self.of_row(row, Class::Default),
                from: format!("transport_maps: * ({})", row.place),
            });
            return rules;
        }
        rules
            .extend([Class::Local, Class::Alias, Class::Mailbox].map(|class| self.of_class(class)));
        let (relay, world) = (self.of_class(Class::Relay), self.of_class(Class::Default));
        let is_fixed = |class| {
            let transport = transport_of(self.postfix, class);
            transport.split_once(':').is_some_and(|(_, next_hop)| !next_hop.is_empty())
        };
        let senders = if is_fixed(Class::Default) {
            self.no_senders(report);
            Vec::new()
        } else {
            self.by_sender(report)
        };
        let relay = if relay.hop.leads_like(&world.hop) { Vec::new() } else { self.below(relay) };
        // A next hop of relay_transport counts more than one of the sender's.
        if is_fixed(Class::Relay) {
            rules.extend(relay);
            rules.extend(senders);
        } else {
            rules.extend(senders);
            rules.extend(relay);
        }
        rules.push(world);
        rules.retain(|rule| rule.when != When::Domains(Vec::new()));
        rules
    }

    /// A rule for relay domains with those for what is below them, where Postfix means that too.
    fn below(&self, rule: Rule) -> Vec<Rule> {
        let below = self.classes.relay.above.iter().map(|above| Rule {
            name: format!("below-{above}"),
            when: When::Below(above.clone()),
            ..rule.clone()
        });
        let below: Vec<Rule> = below.collect();
        [vec![rule], below].concat()
    }

    /// A rule for all domains of the transport table that lead to the same place.
    fn exact(&self) -> Vec<Rule> {
        let has_policies = self.postfix.scope().has("smtp_tls_policy_maps");
        // Hops with their domains and the rows that name them.
        let mut groups: Vec<(Hop, Vec<Domain>, Vec<String>)> = Vec::new();
        for (domain, row) in &self.transports.exact {
            let hop = self.of_row(row, self.classes.class(domain));
            let from = format!("{} ({})", row.key, row.place);
            let is_alone = has_policies && hop.is_by_domain();
            let same = groups.iter_mut().find(|(other, _, _)| *other == hop && !is_alone);
            if let Some((_, domains, rows)) = same {
                domains.push(domain.clone());
                rows.push(from);
            } else {
                groups.push((hop, vec![domain.clone()], vec![from]));
            }
        }
        let rules = groups.into_iter().map(|(hop, domains, rows)| Rule {
            name: hop.name().or_else(|| domains.first().map(Domain::to_string)).unwrap_or_default(),
            when: When::Domains(domains),
            hop,
            from: format!("transport_maps: {}", few(&rows)),
        });
        rules.collect()
    }

    fn of_class(&self, class: Class) -> Rule {
        let domains = self.classes.named(class).iter();
        // What the transport table names has its rule.
        let domains = domains.filter(|domain| {
            self.classes.class(domain) == class && self.transports.row(domain).is_none()
        });
        let scope = self.postfix.scope();
        let origins = origin_of(self.postfix, class).into_iter().map(|name| scope.origin(name));
        Rule {
            name: match class {
                Class::Alias => "aliases",
                Class::Default => "world",
                Class::Local => "this-machine",
                Class::Mailbox => "mailboxes",
                Class::Relay => "relay-domains",
            }
            .to_owned(),
            when: match class {
                Class::Default => When::Any,
                Class::Alias | Class::Local | Class::Mailbox | Class::Relay => {
                    When::Domains(domains.cloned().collect())
                }
            },
            hop: hop_of(self.postfix, class),
            from: origins.collect::<Vec<_>>().join(", "),
        }
    }

    /// A next hop of `default_transport` counts more than one of the sender's, which is left to
    /// mail for relay domains.
    fn no_senders(&self, report: &mut Report) {
        let scope = self.postfix.scope();
        let name = "sender_dependent_relayhost_maps";
        if scope.has(name) {
            let text = "default_transport names a host, so this was for mail to relay_domains \
                        alone: write routes with recipient_domains and sender_below";
            report.left(&scope, name, Weight::Loud, text);
        }
    }

    /// Rules for senders with a relay host of their own.
    fn by_sender(&self, report: &mut Report) -> Vec<Rule> {
        let scope = self.postfix.scope();
        let name = "sender_dependent_relayhost_maps";
        let (rows, unread) = Table::rows_of(&scope.words(name), &self.postfix.files);
        for why in unread {
            let text = format!("{why}; write what it says as routes with sender_below");
            report.left(&scope, name, Weight::Loud, &text);
        }
        let transport = transport_of(self.postfix, Class::Default);
        let mut rules = Vec::new();
        for row in rows {
            let domain = row.key.strip_prefix('@').and_then(|domain| Domain::parse(domain).ok());
            let Some(domain) = domain.filter(|_| !row.value.eq_ignore_ascii_case("DUNNO")) else {
                let text = format!(
                    "`{} {}`: a route is chosen by the domain of the sender alone; this mail goes \
                     where that of other senders goes",
                    row.key, row.value
                );
                report.line(Weight::Loud, &row.place, name, &text);
                continue;
            };
            report.carried(&scope, name);
            let text = format!("`{}` holds here for senders below {domain} as well", row.key);
            report.line(Weight::Plain, &row.place, name, &text);
            rules.push(Rule {
                name: format!("from-{domain}"),
                when: When::SenderBelow(domain),
                hop: relayhost(self.postfix, &row.value, &transport),
                from: format!("{name}: {} ({})", row.key, row.place),
            });
        }
        rules
    }
}

impl Hop {
    /// Whether it leads to the same place as another, whatever the transport is called.
    fn leads_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::To(one), Self::To(other)) => one.to == other.to,
            (Self::Lost(_), Self::Lost(_) | Self::To(_)) | (Self::To(_), Self::Lost(_)) => false,
        }
    }

    /// Whether the host depends on the recipient's domain, and so may its TLS.
    fn is_by_domain(&self) -> bool {
        match self {
            Self::Lost(_) => false,
            Self::To(way) => way.next_hop.is_empty(),
        }
    }

    /// What a rule for it may be called.
    fn name(&self) -> Option<String> {
        match self {
            Self::Lost(_) => None,
            Self::To(way) => {
                let is_host = way.to.is_known_server() && !way.next_hop.contains('/');
                is_host.then(|| way.next_hop.clone())
            }
        }
    }
}
