//! Where a delivery goes: ordered rules, and the order in which hosts are tried.
//!
//! Invariant: routing fails closed. What no rule covers has no route and waits; it never goes
//! direct. Pure.

use std::{net::IpAddr, sync::Arc};

use merpati_mail::{
    Domain, Draw, ForwardPath, NextHop, ReversePath, Route,
    question::{Addresses, MxHost},
    route::{Endpoint, HostPort},
};

use crate::outcome::Before;

/// Rules in order; the first that matches decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Router {
    /// The rules, first one first.
    pub rules: Vec<Rule>,
}

/// When a delivery is like this, it goes there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name that `explain` and logs show.
    pub name: Arc<str>,
    /// All of these must hold.
    pub when: Vec<Condition>,
    /// Where it goes then.
    pub then: NextHop,
    /// Attempts that go on at once towards one next hop of this rule; `None`: as the options of the
    /// core say.
    pub attempts_max: Option<usize>,
}

/// The place of a rule in its [`Router`], from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RulePlace(usize);

/// Something about a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It was handed over by this credential.
    Credential(String),
    /// The recipient's domain is this one or below it.
    RecipientBelow(Domain),
    /// The recipient's domain is one of these.
    RecipientDomain(Vec<Domain>),
    /// The reverse-path's domain is this one or below it; never true for the null reverse-path.
    SenderBelow(Domain),
}

/// What is known about a delivery when its route is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The recipient's domain; our own host name for `<Postmaster>`.
    pub recipient: &'a Domain,
    /// From whom.
    pub reverse_path: &'a ReversePath,
    /// Which credential handed it over; `None` where nothing authenticated.
    pub credential: Option<&'a str>,
}

impl Router {
    /// The route of a delivery, or `None` where no rule covers it: then it waits.
    pub fn route(&self, facts: &Facts<'_>) -> Option<Route> {
        self.route_at(self.place(facts)?)
    }

    /// The route that the rule at a place gives; `None` where there is none.
    pub fn route_at(&self, place: RulePlace) -> Option<Route> {
        let rule = self.rule(place)?;
        Some(Route { rule: Arc::clone(&rule.name), next_hop: rule.then.clone() })
    }

    /// The place of the rule that decides; `None` where no rule covers the delivery.
    pub fn place(&self, facts: &Facts<'_>) -> Option<RulePlace> {
        self.rules.iter().position(|rule| rule.when.iter().all(|c| c.holds(facts))).map(RulePlace)
    }

    /// The place of the rule with this name; `None` where there is none.
    pub fn place_of(&self, name: &str) -> Option<RulePlace> {
        self.rules.iter().position(|rule| &*rule.name == name).map(RulePlace)
    }

    /// The rule at a place; `None` where there is none.
    pub fn rule(&self, place: RulePlace) -> Option<&Rule> {
        self.rules.get(place.0)
    }
}

impl Condition {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Credential(name) => facts.credential == Some(name.as_str()),
            Self::RecipientBelow(parent) => facts.recipient.is_or_is_below(parent),
            Self::RecipientDomain(domains) => domains.contains(facts.recipient),
            Self::SenderBelow(parent) => {
                let sender = facts.reverse_path.mailbox();
                sender.is_some_and(|mailbox| mailbox.domain().is_or_is_below(parent))
            }
        }
    }
}

/// The domain that decides where a forward-path goes.
pub fn destination<'a>(path: &'a ForwardPath, hostname: &'a Domain) -> &'a Domain {
    match path {
        ForwardPath::Mailbox(mailbox) => mailbox.domain(),
        ForwardPath::Postmaster => hostname,
    }
}

/// One host at one address, to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it listens, as the route or the MX record names it.
    pub endpoint: Endpoint,
    /// Its address; `None` where the shell finds it from the name.
    pub address: Option<IpAddr>,
}

/// The hosts of an MX answer in the order in which they are tried (RFC 5321 §5.1).
///
/// By preference, hosts of equal preference in random order. If we are among them, only the hosts
/// before us are kept, or the message would go round. Hosts without an address that may be used are
/// passed over; where none is left, what is so of them says why, and a doubt wins: what may be
/// otherwise soon is not failed. For the same reason hosts of which DNS could not say just now come
/// last, without an address: where no other host takes the message the shell looks them up once
/// more, and while it cannot, no refusal of the others is for ever (RFC 5321 §5.1). At most
/// [`HOSTS_MAX`] hosts and [`ADDRESSES_MAX`] addresses are tried in one attempt, and as many hosts
/// looked up.
pub fn order(
    hosts: &[MxHost],
    ours: &Domain,
    port: u16,
    draw: &mut Draw,
) -> Result<Vec<Target>, Before> {
    let is_us = |host: &&MxHost| &host.name == ours || host.addresses == Addresses::Ourselves;
    let own = hosts.iter().filter(is_us).map(|host| host.preference).min();
    let mut hosts: Vec<&MxHost> =
        hosts.iter().filter(|host| own.is_none_or(|own| host.preference < own)).collect();
    if hosts.is_empty() {
        return Err(Before::Loop);
    }
    let why_none = why_none(&hosts);
    // The shuffle comes first, and the sort is stable: equal preferences stay shuffled.
    draw.shuffle(&mut hosts);
    hosts.sort_by_key(|host| host.preference);
    let endpoint = |host: &MxHost| Endpoint::Tcp(HostPort { host: host.name.clone(), port });
    let mut targets: Vec<Target> = hosts
        .iter()
        .filter(|host| !host.addresses.known().is_empty())
        .take(HOSTS_MAX)
        .flat_map(|host| {
            let addresses = host.addresses.known().iter().take(ADDRESSES_PER_HOST_MAX);
            addresses.map(|&address| Target { endpoint: endpoint(host), address: Some(address) })
        })
        .take(ADDRESSES_MAX)
        .collect();
    if targets.is_empty() {
        return Err(why_none);
    }
    let unknown = hosts.iter().filter(|host| host.addresses == Addresses::Unknown);
    let unknown = unknown.map(|host| Target { endpoint: endpoint(host), address: None });
    targets.extend(unknown.take(HOSTS_MAX));
    Ok(targets)
}

/// Why hosts that have no address that may be used are no way.
fn why_none(hosts: &[&MxHost]) -> Before {
    if hosts.iter().any(|host| host.addresses == Addresses::Unknown) {
        Before::Dns
    } else if hosts.iter().any(|host| matches!(host.addresses, Addresses::Forbidden(_))) {
        Before::BadAddress
    } else {
        Before::DomainUnknown
    }
}

/// Hosts tried in one attempt.
pub const HOSTS_MAX: usize = 10;
/// Addresses of one host tried in one attempt: a host with many dead ones leaves room for the next.
pub const ADDRESSES_PER_HOST_MAX: usize = 10;
/// Addresses tried in one attempt.
pub const ADDRESSES_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use merpati_mail::Mailbox;

    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    fn host(preference: u16, name: &str, addresses: &[&str]) -> MxHost {
        let known = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let addresses =
            if addresses.is_empty() { Addresses::Unknown } else { Addresses::Known(known) };
        MxHost { preference, name: domain(name), addresses }
    }

    fn rule(name: &'static str, when: Vec<Condition>, then: NextHop) -> Rule {
        Rule { name: name.into(), when, then, attempts_max: None }
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_none_is_no_route() {
        let hop = |name: &str| NextHop::Hosts(vec![HostPort { host: domain(name), port: 25 }]);
        let ours = vec![domain("ours.example")];
        let router = Router {
            rules: vec![
                rule("ours", vec![Condition::RecipientDomain(ours)], hop("store.ours.example")),
                rule(
                    "printers",
                    vec![
                        Condition::Credential("printer".to_owned()),
                        Condition::RecipientBelow(domain("big.example")),
                    ],
                    hop("smart.example"),
                ),
                rule("shop", vec![Condition::SenderBelow(domain("shop.example"))], NextHop::Mx),
            ],
        };
        for (recipient, sender, credential, want) in [
            ("ours.example", "a@x.example", None, Some("ours")),
            ("sub.ours.example", "a@x.example", None, None),
            ("mail.big.example", "a@x.example", Some("printer"), Some("printers")),
            ("mail.big.example", "a@x.example", Some("other"), None),
            ("notbig.example", "a@x.example", Some("printer"), None),
            ("z.example", "a@mail.shop.example", None, Some("shop")),
            ("z.example", "", None, None),
        ] {
            let reverse_path = ReversePath(Mailbox::parse(sender).ok());
            let recipient = domain(recipient);
            let facts = Facts { recipient: &recipient, reverse_path: &reverse_path, credential };
            let route = router.route(&facts);
            assert_eq!(route.as_ref().map(|r| &*r.rule), want, "{facts:?}");
        }
    }

    #[test]
    fn equal_preferences_take_turns_and_lower_ones_come_first() {
        let hosts = [
            host(20, "c.example", &["192.0.2.3"]),
            host(10, "a.example", &["192.0.2.1"]),
            host(10, "b.example", &["192.0.2.2"]),
        ];
        let mut draw = Draw::new(3);
        let mut firsts = BTreeMap::new();
        for _ in 0..1_000 {
            let targets = order(&hosts, &domain("me.example"), 25, &mut draw).unwrap();
            assert_eq!(targets.last().unwrap().endpoint.host(), domain("c.example"));
            *firsts.entry(targets[0].endpoint.to_string()).or_insert(0) += 1;
        }
        assert_eq!(firsts.len(), 2);
        assert!(firsts.values().all(|n| (400..600).contains(n)), "{firsts:?}");
    }

    /// χ² over 1,000 attempts: below its value for one in a thousand.
    #[test]
    fn four_equal_hosts_come_in_any_order_equally_often() {
        let names = ["a.example", "b.example", "c.example", "d.example"];
        let hosts = names.map(|name| host(10, name, &["192.0.2.1"]));
        let mut draw = Draw::new(6);
        let mut orders = BTreeMap::new();
        let mut firsts = BTreeMap::new();
        for _ in 0..1_000 {
            let targets = order(&hosts, &domain("me.example"), 25, &mut draw).unwrap();
            let order: Vec<Domain> = targets.iter().map(|target| target.endpoint.host()).collect();
            *firsts.entry(order[0].clone()).or_insert(0) += 1;
            *orders.entry(order).or_insert(0) += 1;
        }
        let chi_square = |counts: Vec<i32>, kinds: f64| -> f64 {
            let expected = 1_000.0 / kinds;
            let seen: f64 = counts.iter().map(|n| (f64::from(*n) - expected).powi(2)).sum();
            seen / expected
        };
        assert_eq!((firsts.len(), orders.len()), (4, 24));
        assert!(chi_square(firsts.into_values().collect(), 4.0) < 16.27);
        assert!(chi_square(orders.into_values().collect(), 24.0) < 49.73);
    }

    #[test]
    fn we_never_deliver_to_ourselves_or_behind_us() {
        let me = domain("me.example");
        let mut draw = Draw::new(3);
        let hosts = [
            host(10, "a.example", &["192.0.2.1"]),
            host(20, "me.example", &["192.0.2.2"]),
            host(20, "b.example", &["192.0.2.3"]),
            host(30, "c.example", &["192.0.2.4"]),
        ];
        let targets = order(&hosts, &me, 25, &mut draw).unwrap();
        assert_eq!(targets.len(), 1);
        assert_eq!(order(&hosts[1..], &me, 25, &mut draw), Err(Before::Loop));
        assert_eq!(order(&[host(1, "a.example", &[])], &me, 25, &mut draw), Err(Before::Dns));
        let by_address = MxHost { addresses: Addresses::Ourselves, ..host(15, "x.example", &[]) };
        let hosts = [hosts[0].clone(), by_address, hosts[2].clone()];
        let targets = order(&hosts, &me, 25, &mut draw).unwrap();
        assert_eq!(targets.len(), 1, "an address of ours counts like our name");
    }

    #[test]
    fn hosts_without_an_address_are_passed_over_and_a_doubt_wins() {
        let me = domain("me.example");
        let forbidden = Addresses::Forbidden("127.0.0.1".parse().unwrap());
        let known = Addresses::Known(vec!["192.0.2.1".parse().unwrap()]);
        for (all, want) in [
            (vec![Addresses::None], Err(Before::DomainUnknown)),
            (vec![Addresses::None, forbidden.clone()], Err(Before::BadAddress)),
            (vec![Addresses::None, forbidden.clone(), Addresses::Unknown], Err(Before::Dns)),
            (vec![Addresses::None, forbidden, known.clone()], Ok(1)),
            (vec![Addresses::Unknown, known, Addresses::Unknown], Ok(3)),
        ] {
            let host = |addresses| MxHost { preference: 1, name: domain("a.example"), addresses };
            let hosts: Vec<MxHost> = all.into_iter().map(host).collect();
            let targets = order(&hosts, &me, 25, &mut Draw::new(1));
            if let Ok([first, others @ ..]) = targets.as_deref() {
                assert!(first.address.is_some() && others.iter().all(|t| t.address.is_none()));
            }
            assert_eq!(targets.map(|targets| targets.len()), want, "{hosts:?}");
        }
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let addresses: Vec<String> = (0..50).map(|n| format!("192.0.2.{n}")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let hosts: Vec<MxHost> =
            (0..200).map(|n| host(n, &format!("h{n}.example"), &addresses)).collect();
        let targets = order(&hosts, &domain("me.example"), 25, &mut Draw::new(1)).unwrap();
        assert_eq!(targets.len(), ADDRESSES_MAX);
        let first = |n: usize| targets[n].endpoint.host();
        assert_eq!(first(ADDRESSES_PER_HOST_MAX - 1), domain("h0.example"));
        assert_eq!(first(ADDRESSES_PER_HOST_MAX), domain("h1.example"));
    }
}
