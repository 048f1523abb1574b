//! Where mail for an address would go, and why: what `explain route` asks and is told.
//!
//! Pure.

use std::net::IpAddr;

use merpati_mail::{Class, Domain, ForwardPath, NextHop, ReversePath, Route};

/// A delivery that need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteQuestion {
    /// To whom.
    pub recipient: ForwardPath,
    /// From whom; the null reverse-path where nothing else was given.
    pub reverse_path: ReversePath,
    /// Which credential handed it over; `None`: none.
    pub credential: Option<String>,
}

/// Where it would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteAnswer {
    /// The domain that decides: that of the recipient, or our host name for `postmaster`.
    pub domain: Domain,
    /// The aliases that were applied, in order; where there are any, all else is about the first
    /// address that they lead to.
    pub aliases: Vec<AliasFacts>,
    /// The rules that were looked at, in order; the last one decides where `route` is there.
    pub rules: Vec<RuleFacts>,
    /// What they say; `None` where no rule covers it.
    pub route: Option<Route>,
    /// Whether TLS is asked for, in the words of the configuration; `None` where it is not known.
    pub tls: Option<String>,
    /// From which egress source; `None` where it is not known.
    pub egress: Option<String>,
    /// The hosts, those that are tried first in the order in which they would be tried now.
    pub hosts: Vec<HostFacts>,
    /// Why nothing would be tried; `None` where something would.
    pub trouble: Option<Trouble>,
    /// The whole in one sentence.
    pub sentence: String,
}

/// An alias that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasFacts {
    /// To which address.
    pub address: String,
    /// Where it was written, as a file with a line or a table of the configuration.
    pub origin: String,
    /// What it leads to.
    pub to: Vec<String>,
}

/// A rule and whether it covers the delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFacts {
    /// Its name.
    pub name: String,
    /// Its conditions in words, and whether each holds; a rule without any covers everything.
    pub conditions: Vec<(String, bool)>,
}

impl RuleFacts {
    /// Whether it covers the delivery.
    pub fn covers(&self) -> bool {
        self.conditions.iter().all(|(_, holds)| *holds)
    }
}

/// A host that takes mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// The preference of its MX record; `None` where the route names it.
    pub preference: Option<u16>,
    /// Its name, with the port where that is known.
    pub name: String,
    /// Its addresses that may be used.
    pub addresses: Vec<IpAddr>,
    /// Why it is not tried; `None` where it is.
    pub why_not: Option<String>,
}

/// Why nothing would be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Its class.
    pub class: Class,
    /// What was found, in words.
    pub why: String,
}

/// A mail that need not exist, as a client would hand it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptQuestion {
    /// The client.
    pub client: IpAddr,
    /// The listener that it talks to; `None`: the first one whose mail is delivered, or the first.
    pub listener: Option<String>,
    /// As whom it authenticates; `None`: as nobody.
    pub credential: Option<String>,
    /// From whom.
    pub reverse_path: ReversePath,
    /// To whom.
    pub recipient: ForwardPath,
}

/// What the relay would say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptAnswer {
    /// The listener that was asked.
    pub listener: String,
    /// What it would say, command by command, up to the first no.
    pub steps: Vec<AcceptStep>,
    /// What was asked of DNS, next hops and the like on the way, and what came of it.
    pub asked: Vec<(String, String)>,
    /// The whole in one sentence.
    pub sentence: String,
}

impl AcceptAnswer {
    /// Whether the recipient would be accepted.
    pub fn is_accepted(&self) -> bool {
        self.steps.iter().all(|step| step.refusal.is_none())
    }
}

/// What the relay would say to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptStep {
    /// The command.
    pub command: &'static str,
    /// The rule that decides.
    pub rule: String,
    /// The reply that says no; `None` where it says yes.
    pub refusal: Option<String>,
}

/// A next hop in words.
pub fn next_hop(hop: &NextHop) -> String {
    match hop {
        NextHop::Hosts(hosts) => {
            let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            hosts.join(", ")
        }
        NextHop::Lmtp(endpoint) => format!("lmtp {endpoint}"),
        NextHop::Mx => "mx".to_owned(),
        NextHop::Refuse(refusal) => format!("refuse: {}", refusal.text),
    }
}
