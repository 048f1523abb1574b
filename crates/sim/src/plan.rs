//! What a world consists of: hosts and their habits, names, and when what goes wrong.
//!
//! Pure: everything follows from the seed.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use merpati_flow::{
    Options,
    admit::{ListenerKind, Policy, Strangers},
    route::{Condition, Router, Rule},
};
use merpati_mail::{
    Domain, Draw, NextHop, Time,
    question::{Addresses, MxAnswer, MxHost},
    route::HostPort,
};

use crate::{ledger::RelayId, mutant::Mutant};

/// How a host behaves towards us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// It takes the mail and cuts the connection before it says so.
    Ambiguous,
    /// It speaks something like SMTP.
    Broken,
    /// It cuts connections anywhere.
    Cutting,
    /// It takes three recipients in one transaction.
    Few,
    /// It does all that it should.
    Good,
    /// It defers a recipient until 10 minutes after the first try.
    Greylisting,
    /// It knows neither EHLO nor pipelining.
    Old,
    /// It accepts connections and says nothing.
    Silent,
    /// It has no pipelining.
    Simple,
    /// It often asks to slow down.
    Throttling,
}

/// The hosts of a world: address, habit while faults go on, round-trip time in milliseconds.
pub(crate) const HOSTS: &[(u8, Habit, u64)] = &[
    (11, Habit::Good, 20),
    (12, Habit::Simple, 30),
    (13, Habit::Greylisting, 40),
    (14, Habit::Cutting, 20),
    (15, Habit::Good, 80),
    (16, Habit::Ambiguous, 20),
    (17, Habit::Throttling, 60),
    (18, Habit::Broken, 10),
    (19, Habit::Few, 25),
    (20, Habit::Silent, 10),
    (21, Habit::Old, 400),
    (22, Habit::Good, 5),
];

/// The name of the host with this number.
pub(crate) fn host_name(number: u8) -> String {
    format!("mx{number}.sim.example")
}

/// Whether a host of this name tells originators of success itself; relays do.
pub(crate) fn has_dsn(host: &str) -> bool {
    !WITHOUT_DSN.iter().any(|&number| host == host_name(number))
}

/// The hosts without DSN, also when all faults have stopped.
const WITHOUT_DSN: [u8; 3] = [12, 15, 21];

/// The domains of a world: name, then preference and host of each MX.
const ZONES: &[(&str, &[(u16, u8)])] = &[
    ("spread.example", &[(10, 11), (10, 12)]),
    ("grey.example", &[(10, 13)]),
    ("cut.example", &[(10, 14), (20, 15)]),
    ("ambiguous.example", &[(10, 16)]),
    ("throttle.example", &[(10, 17)]),
    ("broken.example", &[(10, 18), (20, 15)]),
    ("few.example", &[(10, 19)]),
    ("users.example", &[(10, 15)]),
    ("slow.example", &[(10, 20), (20, 15)]),
    ("old.example", &[(10, 21)]),
    ("via.example", &[(10, 15)]),
    ("dead.example", &[(10, 99)]),
    ("unsure.example", &[(10, 15)]),
    ("home.example", &[(10, 22)]),
];

/// How many relays there are; mail for `via.example` goes through both.
pub(crate) const RELAYS: RelayId = 2;
/// When the world begins.
pub(crate) const BEGIN: Time = Time::from_secs(1_800_000_000);
/// How long things go wrong; then hosts are good and relays stay up.
pub(crate) const FAULTS: Duration = Duration::from_hours(8);
/// How many mails are submitted, and in which time.
pub(crate) const MAILS: usize = 64;
pub(crate) const SUBMITTING: Duration = Duration::from_hours(2);
/// The largest message that relays take, in octets.
pub(crate) const SIZE_BYTES_MAX: u64 = 60_000;
/// Equal hosts are counted here.
pub(crate) const SPREAD: &str = "spread.example";

pub(crate) fn host_address(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))
}

pub(crate) fn relay_address(relay: RelayId) -> IpAddr {
    host_address(u8::try_from(relay + 1).unwrap_or(1))
}

/// Submitters sit in a network that may relay; strangers do not.
pub(crate) const fn submitter_address(is_stranger: bool) -> IpAddr {
    let net = if is_stranger { [203, 0, 113, 5] } else { [198, 51, 100, 5] };
    IpAddr::V4(Ipv4Addr::new(net[0], net[1], net[2], net[3]))
}

pub(crate) fn relay_name(relay: RelayId) -> String {
    format!("relay{relay}.sim.example")
}

/// A domain that is right by construction.
pub(crate) fn domain(text: &str) -> Domain {
    let literal = || Domain::Literal(IpAddr::V4(Ipv4Addr::LOCALHOST));
    Domain::parse(text).unwrap_or_else(|_| literal())
}

pub(crate) fn core_options(relay: RelayId) -> Options {
    let rule = |name: &'static str, when: &str, then: NextHop| Rule {
        name: name.into(),
        when: vec![Condition::RecipientBelow(domain(when))],
        then,
        attempts_max: None,
    };
    let mut rules = Vec::new();
    if relay == 0 {
        let next = HostPort { host: domain(&relay_name(1)), port: 25 };
        rules.push(rule("via", "via.example", NextHop::Hosts(vec![next])));
    }
    rules.push(rule("direct", "example", NextHop::Mx));
    let mut options = Options::new(domain(&relay_name(relay)), Router { rules });
    options.jobs_per_lane_max = 2;
    options.jobs_max = 12;
    options
}

pub(crate) fn policy(relay: RelayId) -> Policy {
    let network = if relay == 0 { "198.51.100.0/24" } else { "192.0.2.0/24" };
    Policy {
        kind: ListenerKind::Relay,
        local_domains: [domain("home.example")].into(),
        networks: network.parse().into_iter().collect(),
        senders: BTreeMap::new(),
        size_bytes_max: SIZE_BYTES_MAX + 4_000 * relay as u64,
        vouched_domains: [].into(),
        hops_max: 100,
        strangers: Strangers::default(),
        contents: merpati_flow::content::Rules::default(),
        aliases: None,
        internal_domains: [].into(),
        confined: [].into(),
    }
}

/// What DNS says about a domain.
pub(crate) fn mx(name: &Domain, now: Time, is_calm: bool, draw: &mut Draw) -> MxAnswer {
    let text = name.to_string();
    match text.as_str() {
        "null.example" => return MxAnswer::NullMx,
        "none.example" => return MxAnswer::NoSuchDomain,
        "unsure.example" if !is_calm && draw.chance(50) => {
            return MxAnswer::Unknown { why: "SERVFAIL".to_owned() };
        }
        _ => {}
    }
    let zones: BTreeMap<&str, &[(u16, u8)]> = ZONES.iter().copied().collect();
    let Some(records) = zones.get(text.as_str()) else { return MxAnswer::NoSuchDomain };
    let host = |&(preference, number): &(u16, u8)| MxHost {
        preference,
        name: domain(&host_name(number)),
        addresses: Addresses::Known(vec![host_address(number)]),
    };
    MxAnswer::Hosts {
        hosts: records.iter().map(host).collect(),
        valid_until: now + Duration::from_hours(1),
        is_proven: false,
    }
}

/// Something that goes wrong, or that an operator does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    Crash,
    Drain,
    FailSync,
    FailWrite,
    Full,
    Operate,
    Roomy,
}

/// When a burst of mail comes, and what goes wrong with it: somewhere in its first seconds.
pub(crate) fn burst(draw: &mut Draw, length: Duration) -> Time {
    let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    let start = draw.below(BURSTS) * (micros(SUBMITTING) / BURSTS);
    BEGIN + Duration::from_secs(1) + Duration::from_micros(start + draw.below(micros(length)))
}

/// Bursts make relays commit in groups and lanes fill.
const BURSTS: u64 = 12;
/// How long a burst is.
pub(crate) const BURST: Duration = Duration::from_millis(1_200);

/// What goes wrong when, at which relay.
pub(crate) fn troubles(draw: &mut Draw, mutant: Option<Mutant>) -> Vec<(Time, RelayId, Trouble)> {
    let mut troubles = Vec::new();
    let mut at = |draw: &mut Draw, when: Time, trouble: Trouble| {
        let relay = RelayId::from(!draw.chance(70));
        troubles.push((when, relay, trouble));
        (when, relay)
    };
    let around = |draw: &mut Draw| burst(draw, BURST * 2);
    let any = |draw: &mut Draw| BEGIN + Duration::from_secs(draw.below(FAULTS.as_secs()));
    // Most crashes come while mail is submitted, one later.
    for _ in 0..4 + draw.below(4) {
        {
            let when = around(draw);
            at(draw, when, Trouble::Crash)
        };
    }
    {
        let when = any(draw);
        at(draw, when, Trouble::Crash)
    };
    let calm = mutant.is_some();
    if !calm && draw.chance(30) {
        {
            let when = around(draw);
            at(draw, when, Trouble::FailWrite)
        };
    }
    if !calm && draw.chance(30) {
        {
            let when = around(draw);
            at(draw, when, Trouble::FailSync)
        };
    }
    for _ in 0..draw.below(3) {
        {
            let when = around(draw);
            at(draw, when, Trouble::Drain)
        };
    }
    for _ in 0..2 + draw.below(10) {
        {
            let when = any(draw);
            at(draw, when, Trouble::Operate)
        };
    }
    if draw.chance(40) {
        let (when, relay) = {
            let when = around(draw);
            at(draw, when, Trouble::Full)
        };
        troubles.push((when + Duration::from_mins(15), relay, Trouble::Roomy));
    }
    troubles
}
