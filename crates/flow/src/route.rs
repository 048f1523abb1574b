//! Where a delivery goes: ordered rules, and the order in which hosts are tried.
//!
//! Invariant: routing fails closed. What no rule covers has no route and waits; it never goes
//! direct. Pure.

use std::{borrow::Cow, net::IpAddr};

use merpati_mail::{
    Domain, Draw, ForwardPath, NextHop, ReversePath, Route, question::MxHost, route::HostPort,
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
    pub name: Cow<'static, str>,
    /// All of these must hold.
    pub when: Vec<Condition>,
    /// Where it goes then.
    pub then: NextHop,
}

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
        let rule = self.rules.iter().find(|rule| rule.when.iter().all(|c| c.holds(facts)))?;
        Some(Route { rule: rule.name.clone(), next_hop: rule.then.clone() })
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
    /// The host and port, as the route or the MX record names it.
    pub host: HostPort,
    /// Its address; `None` where the shell finds it from the name.
    pub address: Option<IpAddr>,
}

/// The hosts of an MX answer in the order in which they are tried (RFC 5321 §5.1).
///
/// By preference, hosts of equal preference in random order. If we are among them, only the hosts
/// before us are kept, or the message would go round. At most [`HOSTS_MAX`] hosts and
/// [`ADDRESSES_MAX`] addresses are tried in one attempt.
pub fn order(
    hosts: &[MxHost],
    ours: &Domain,
    port: u16,
    draw: &mut Draw,
) -> Result<Vec<Target>, Before> {
    let own = hosts.iter().filter(|host| &host.name == ours).map(|host| host.preference).min();
    let mut hosts: Vec<&MxHost> =
        hosts.iter().filter(|host| own.is_none_or(|own| host.preference < own)).collect();
    if hosts.is_empty() {
        return Err(Before::Loop);
    }
    // The shuffle comes first, and the sort is stable: equal preferences stay shuffled.
    draw.shuffle(&mut hosts);
    hosts.sort_by_key(|host| host.preference);
    let targets: Vec<Target> = hosts
        .into_iter()
        .take(HOSTS_MAX)
        .flat_map(|host| {
            host.addresses.iter().map(|&address| Target {
                host: HostPort { host: host.name.clone(), port },
                address: Some(address),
            })
        })
        .take(ADDRESSES_MAX)
        .collect();
    // Hosts that have no address just now are trouble of DNS, which passes.
    if targets.is_empty() { Err(Before::Dns) } else { Ok(targets) }
}

/// Hosts tried in one attempt.
pub const HOSTS_MAX: usize = 10;
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
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        MxHost { preference, name: domain(name), addresses }
    }

    fn rule(name: &'static str, when: Vec<Condition>, then: NextHop) -> Rule {
        Rule { name: Cow::Borrowed(name), when, then }
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
            assert_eq!(route.as_ref().map(|r| r.rule.as_ref()), want, "{facts:?}");
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
            assert_eq!(targets.last().unwrap().host.host, domain("c.example"));
            *firsts.entry(targets[0].host.host.to_string()).or_insert(0) += 1;
        }
        assert_eq!(firsts.len(), 2);
        assert!(firsts.values().all(|n| (400..600).contains(n)), "{firsts:?}");
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
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let addresses: Vec<String> = (0..50).map(|n| format!("192.0.2.{n}")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let hosts: Vec<MxHost> =
            (0..200).map(|n| host(n, &format!("h{n}.example"), &addresses)).collect();
        let targets = order(&hosts, &domain("me.example"), 25, &mut Draw::new(1)).unwrap();
        assert_eq!(targets.len(), ADDRESSES_MAX);
    }
}
