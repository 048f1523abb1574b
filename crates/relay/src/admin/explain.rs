//! Where mail for an address would go: asks the rules of the queue and DNS, and tries nothing.
//!
//! Invariant: what it says is decided by the code that delivers: the same rules, the same order of
//! hosts. Not pure: asks DNS.

use std::{fmt, net::IpAddr};

use merpati_console::{
    AdminError,
    admin::bare,
    explain::{AliasFacts, HostFacts, RouteAnswer, RouteQuestion, RuleFacts, Trouble, next_hop},
};
use merpati_flow::{
    alias::{Aliases, Expansion, Leaves, NotExpanded, SRS_ORIGIN, Step},
    outcome::{self, Before},
    route::{self, Condition, Facts, Router, Rule},
    srs::NoReturn,
};
use merpati_mail::{
    Class, Domain, Draw, ForwardPath, Mailbox, NextHop, ReversePath, Route, Time,
    question::{Addresses, MxAnswer, MxHost},
    route::{Endpoint, HostPort},
};

use super::{Control, Setup};

/// What stands in the configuration of a route and not in the rules of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFacts {
    /// The name of its rule.
    pub rule: String,
    /// Whether TLS is asked for, in the words of the configuration.
    pub tls: String,
    /// The name of its egress source, with its address where it has one.
    pub egress: String,
}

impl Control {
    /// Where mail would go.
    pub(super) async fn explain(
        &self,
        question: &RouteQuestion,
    ) -> Result<RouteAnswer, AdminError> {
        let router = self.look(|core| core.queue().router().clone()).await?;
        let setup = self.setup.get();
        let meant = Meant::of(setup.aliases.as_deref(), question, self.clock.now());
        let domain = route::destination(&meant.recipient, &setup.hostname).clone();
        let facts = Facts {
            recipient: &domain,
            reverse_path: &meant.reverse_path,
            credential: question.credential.as_deref(),
        };
        let route = router.route(&facts);
        let found = match &route {
            Some(route) => setup.hosts(self.clock.now(), &domain, route).await,
            None => Found::nothing(Class::NoRoute, "no rule covers it"),
        };
        let more = route.as_ref().and_then(|route| setup.facts_of(route));
        Ok(RouteAnswer {
            rules: looked_at(&router, &facts),
            tls: more.map(|facts| facts.tls.clone()),
            egress: more.map(|facts| facts.egress.clone()),
            sentence: format!("{}{}", meant.words, sentence(&domain, route.as_ref(), &found)),
            aliases: meant.steps,
            hosts: found.hosts,
            trouble: found.trouble,
            domain,
            route,
        })
    }
}

/// What is asked about, once aliases are applied.
struct Meant {
    recipient: ForwardPath,
    /// From whom the message leaves.
    reverse_path: ReversePath,
    steps: Vec<AliasFacts>,
    /// What became of the question, in sentences with a blank behind each.
    words: String,
}

impl Meant {
    fn of(aliases: Option<&Aliases>, question: &RouteQuestion, now: Time) -> Self {
        let mut meant = Self {
            recipient: question.recipient.clone(),
            reverse_path: question.reverse_path.clone(),
            steps: Vec::new(),
            words: String::new(),
        };
        let Some(aliases) = aliases else { return meant };
        let expansion = match aliases.expand(&question.recipient, now) {
            Ok(Some(expansion)) => expansion,
            Err(NotExpanded::Nobody(why)) => {
                let why = match why {
                    NoReturn::Expired => "is too old to lead back to anybody",
                    NoReturn::Forged => "is none that a sender was rewritten to here",
                };
                meant.words = format!("{} {why}, and refused. ", bare(&question.recipient));
                return meant;
            }
            Ok(None) | Err(NotExpanded::TooMany) => return meant,
        };
        meant.words = format!("{} ", alias_sentence(&question.recipient, &expansion));
        meant.steps = expansion.steps.iter().take(TARGETS_SHOWN).map(alias_facts).collect();
        let Some(first) = expansion.targets.first() else { return meant };
        meant.recipient = ForwardPath::Mailbox(first.mailbox.clone());
        match aliases.leaves(&question.reverse_path, first, now) {
            Leaves::Owner(owner) => meant.leave_from(Mailbox::clone(&owner)),
            Leaves::Rewritten(mailbox) => meant.leave_from(mailbox),
            Leaves::Same => {}
            Leaves::TooLong => {
                meant.words.push_str("It leaves from its sender, who is too long for SRS. ");
            }
        }
        meant
    }

    fn leave_from(&mut self, mailbox: Mailbox) {
        self.words = format!("{}It leaves from {mailbox}. ", self.words);
        self.reverse_path = ReversePath(Some(mailbox));
    }
}

impl Setup {
    fn facts_of(&self, route: &Route) -> Option<&RouteFacts> {
        self.routes.iter().find(|facts| *facts.rule == *route.rule)
    }

    async fn hosts(&self, now: Time, domain: &Domain, route: &Route) -> Found {
        match &route.next_hop {
            NextHop::Hosts(hosts) => {
                let mut found = Vec::new();
                for host in hosts {
                    found.push(self.named_host(host).await);
                }
                Found::of(found)
            }
            NextHop::Lmtp(Endpoint::Tcp(host)) => Found::of(vec![self.named_host(host).await]),
            NextHop::Lmtp(endpoint @ Endpoint::Unix(_)) => Found::of(vec![HostFacts {
                preference: None,
                name: endpoint.to_string(),
                addresses: Vec::new(),
                why_not: None,
            }]),
            NextHop::Mx => self.mx(now, self.resolver.mx(domain).await),
            NextHop::Refuse(refusal) => Found::nothing(Class::RouteRefused, &refusal.text),
        }
    }

    async fn named_host(&self, host: &HostPort) -> HostFacts {
        let (addresses, why_not) = match self.resolver.addresses(&host.host).await {
            Ok(addresses) if addresses.is_empty() => {
                (addresses, Some("it has no address".to_owned()))
            }
            Ok(addresses) => (addresses, None),
            Err(why) => (Vec::new(), Some(why.to_string())),
        };
        HostFacts { preference: None, name: host.to_string(), addresses, why_not }
    }

    fn mx(&self, now: Time, answer: MxAnswer) -> Found {
        match answer {
            MxAnswer::Hosts { hosts, .. } => self.ordered(now, &hosts),
            MxAnswer::NoHost => before(Before::DomainUnknown, "it has no MX and no address record"),
            MxAnswer::NoSuchDomain => before(Before::DomainUnknown, "DNS does not know the domain"),
            MxAnswer::NullMx => before(Before::NullMx, "its MX record is the null MX"),
            MxAnswer::Unknown { why } => before(Before::Dns, &why),
        }
    }

    /// The hosts that would be tried, in their order, and then those that would not.
    fn ordered(&self, now: Time, hosts: &[MxHost]) -> Found {
        let mut draw = Draw::new(now.as_micros());
        let ordered = route::order(hosts, &self.hostname, self.mx_port, &mut draw);
        let (targets, trouble) = match ordered {
            Ok(targets) => (targets, None),
            Err(why) => (Vec::new(), Some(trouble(why, None))),
        };
        // Of the others DNS cannot say now where they are; an attempt looks them up once more.
        let known = targets.iter().filter(|target| target.address.is_some());
        let mut tried: Vec<Domain> = known.map(|target| target.endpoint.host()).collect();
        tried.dedup();
        let facts = |host: &MxHost, why_not| HostFacts {
            preference: Some(host.preference),
            name: format!("{}:{}", host.name, self.mx_port),
            addresses: host.addresses.known().to_vec(),
            why_not,
        };
        let named = |name: &Domain| hosts.iter().find(|host| host.name == *name);
        let first = tried.iter().filter_map(named).map(|host| facts(host, None));
        let mut left: Vec<&MxHost> =
            hosts.iter().filter(|host| !tried.contains(&host.name)).collect();
        left.sort_by_key(|host| host.preference);
        let left = left.into_iter().map(|host| facts(host, Some(self.why_not(host))));
        Found { hosts: first.chain(left).collect(), trouble }
    }

    fn why_not(&self, host: &MxHost) -> String {
        if host.name == self.hostname {
            return "that is our own name".to_owned();
        }
        match &host.addresses {
            Addresses::Forbidden(address) => {
                format!("mail must not lead to {address}: loopback, private or reserved")
            }
            Addresses::Known(_) => {
                "we are a host of this or a better preference, or enough are tried before it"
                    .to_owned()
            }
            Addresses::None => "it has no address".to_owned(),
            Addresses::Ourselves => "its address is our own".to_owned(),
            Addresses::Unknown => "DNS cannot say its address just now".to_owned(),
        }
    }
}

/// What was found behind a route.
struct Found {
    hosts: Vec<HostFacts>,
    trouble: Option<Trouble>,
}

impl Found {
    fn nothing(class: Class, why: &str) -> Self {
        Self { hosts: Vec::new(), trouble: Some(Trouble { class, why: why.to_owned() }) }
    }

    /// Hosts that the route names.
    fn of(hosts: Vec<HostFacts>) -> Self {
        let usable = hosts.iter().any(|host| host.why_not.is_none());
        let why = "none of the hosts of the route has an address now".to_owned();
        let trouble = (!usable).then_some(Trouble { class: Class::Dns, why });
        Self { hosts, trouble }
    }
}

fn before(why: Before, detail: &str) -> Found {
    Found { hosts: Vec::new(), trouble: Some(trouble(why, Some(detail))) }
}

/// What the core finds in such a case.
fn trouble(why: Before, detail: Option<&str>) -> Trouble {
    let (cause, _) = outcome::own(why);
    let text = cause.reply.text.to_string();
    let why = detail.map_or_else(|| text.clone(), |detail| format!("{text}: {detail}"));
    Trouble { class: cause.class, why }
}

/// The rules up to the one that decides.
fn looked_at(router: &Router, facts: &Facts<'_>) -> Vec<RuleFacts> {
    let mut rules = Vec::new();
    for rule in &router.rules {
        let conditions = rule
            .when
            .iter()
            .map(|condition| (Words(condition).to_string(), holds(condition, facts)));
        let looked = RuleFacts { name: rule.name.to_string(), conditions: conditions.collect() };
        let decides = looked.covers();
        rules.push(looked);
        if decides {
            break;
        }
    }
    rules
}

/// Whether a rule with this condition alone would decide.
fn holds(condition: &Condition, facts: &Facts<'_>) -> bool {
    let when = vec![condition.clone()];
    let rule = Rule { name: "".into(), when, then: NextHop::Mx, attempts_max: None };
    Router { rules: vec![rule] }.place(facts).is_some()
}

/// A condition as a person reads it.
struct Words<'a>(&'a Condition);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Condition::Credential(name) => write!(f, "the credential is `{name}`"),
            Condition::RecipientBelow(parent) => {
                write!(f, "the recipient's domain is {parent} or below it")
            }
            Condition::RecipientDomain(domains) => {
                f.write_str("the recipient's domain is ")?;
                for (at, domain) in domains.iter().take(DOMAINS_SHOWN).enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{domain}")?;
                }
                match domains.len().saturating_sub(DOMAINS_SHOWN) {
                    0 => Ok(()),
                    more => write!(f, ", or one of {more} others"),
                }
            }
            Condition::SenderBelow(parent) => {
                write!(f, "the sender's domain is {parent} or below it")
            }
        }
    }
}

fn alias_facts(step: &Step) -> AliasFacts {
    let to = step.to.iter().take(TARGETS_SHOWN).map(ToString::to_string);
    let more = step.to.len().saturating_sub(TARGETS_SHOWN);
    let more = (more > 0).then(|| format!("and {more} more"));
    AliasFacts {
        address: step.mailbox.to_string(),
        origin: step.origin.to_string(),
        to: to.chain(more).collect(),
    }
}

/// What an alias stands for. All that follows is about the first of its targets.
fn alias_sentence(named: &ForwardPath, expansion: &Expansion) -> String {
    let origin = expansion.steps.first().map_or("", |step| &*step.origin);
    let first = expansion.targets.first().map(|it| it.mailbox.to_string()).unwrap_or_default();
    let others = match expansion.targets.len().saturating_sub(1) {
        0 => String::new(),
        1 => " and another address; what follows is about the first".to_owned(),
        more => format!(" and {more} others; what follows is about the first"),
    };
    let named = bare(named);
    if origin == SRS_ORIGIN {
        return format!("{named} stands for {first}, whose mail was forwarded ({origin}).");
    }
    format!("{named} is an alias ({origin}) for {first}{others}.")
}

fn sentence(domain: &Domain, route: Option<&Route>, found: &Found) -> String {
    let Some(route) = route else {
        return format!("No rule covers mail for {domain}: it waits until one does.");
    };
    let rule = format!("Mail for {domain} goes by the rule `{}`", route.rule);
    if let NextHop::Refuse(refusal) = &route.next_hop {
        return format!("{rule}, which refuses it: {}.", refusal.text.trim_end_matches('.'));
    }
    if let Some(trouble) = &found.trouble {
        return format!("{rule}, but nothing can be tried now: {}.", trouble.why);
    }
    let first =
        found.hosts.first().map(|host| (host, host.addresses.first().map(IpAddr::to_string)));
    match (&route.next_hop, first) {
        (NextHop::Mx, Some((host, Some(address)))) => {
            format!(
                "{rule} to the hosts that DNS names; {} at {address} is tried first.",
                host.name
            )
        }
        (hop, _) => format!("{rule} to {}.", next_hop(hop)),
    }
}

/// Domains of a condition that are written out.
const DOMAINS_SHOWN: usize = 10;
/// Targets of an alias that are written out.
const TARGETS_SHOWN: usize = 100;
