//! The one resolver of the relay: which hosts take mail for a domain, and where they are.
//!
//! Invariant: it says "does not exist" and "takes no mail" only where the DNS says so; all else is
//! unknown, and mail waits. It never gives an address to which strangers must not lead us. Not
//! pure: it asks name servers.
//!
//! The library's cache keeps records (`lookup`), one question is under way but once (`flight`),
//! and addresses are judged by `policy`.

mod believed;
mod flight;
mod lookup;
pub(crate) mod policy;
mod provenance;
mod proving;
mod strangers;
mod tlsa;

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use merpati_flow::admit::Network;
use merpati_mail::{
    Domain,
    question::{Addresses, MxAnswer, MxHost},
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use self::{
    flight::{Answered, FAILURE_KEPT, Flights},
    lookup::{Dns, Found, MxName, NEGATIVE_TTL_MAX, TTL_MAX, Unknown},
    policy::Policy,
    proving::Proving,
    strangers::Questions,
};
pub use self::{
    lookup::Signatures,
    proving::Told,
    strangers::{Listing, NAMES_MAX, Silence},
    tlsa::{DaneAnswer, TlsaAnswer},
};
use crate::clock::Clock;

/// What the resolver is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The networks to which MX may lead although they are loopback, private or reserved.
    pub allowed: Vec<Network>,
    /// How many answers are kept. Default 32,768.
    pub cache_entries: usize,
    /// The sockets on which we listen.
    pub own: Vec<SocketAddr>,
    /// The port to which mail is delivered. Default 25.
    pub port: u16,
    /// How long one try of a query may take. Default 5 s.
    pub query_wait: Duration,
    /// The name servers; empty: those of the system (`/etc/resolv.conf`).
    pub servers: Vec<SocketAddr>,
    /// How often a query is tried, at least once. Default 2.
    pub tries: usize,
    /// The file with the keys of the root, as DNSKEY records; `None`: those of the Internet.
    pub trust_anchor: Option<PathBuf>,
    /// Whether signatures are checked whatever is asked (DNSSEC); the name servers must pass them
    /// on. Default no: only what deliveries ask is, and only once [`Resolver::start_proving`] has
    /// found that it can be.
    pub validate: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allowed: Vec::new(),
            cache_entries: 32_768,
            own: Vec::new(),
            port: 25,
            query_wait: Duration::from_secs(5),
            servers: Vec::new(),
            tries: 2,
            trust_anchor: None,
            validate: false,
        }
    }
}

/// Asks the DNS. Clones share cache and limits.
#[derive(Clone, Debug)]
pub struct Resolver(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Whom the checks of mail and its senders ask.
    checks: Dns,
    clock: Arc<Clock>,
    hosts: Flights<Host>,
    mx: Flights<MxAnswer>,
    options: Options,
    /// How long one question may take in all.
    patience: Duration,
    policy: Policy,
    proving: Proving,
    strangers: Questions,
}

impl Resolver {
    /// A resolver; errs where the name servers of the system or the
    /// keys of the root cannot be read.
    pub fn new(options: Options, clock: Arc<Clock>) -> anyhow::Result<Self> {
        let checks = Dns::new(&options)?;
        let tries = u32::try_from(options.tries.max(1)).unwrap_or(u32::MAX);
        let patience = options.query_wait.saturating_mul(tries).saturating_mul(QUERIES_IN_A_ROW);
        let Options { allowed, own, port, .. } = options.clone();
        Ok(Self(Arc::new(Shared {
            proving: Proving::new(options.validate.then(|| checks.clone())),
            checks,
            clock,
            hosts: Flights::new(),
            mx: Flights::new(),
            options,
            patience: patience.min(PATIENCE_MAX),
            policy: Policy { port, allowed, own },
            strangers: Questions::new(),
        })))
    }

    /// Which hosts take mail for a domain (RFC 5321 §5.1). Must run within a tokio runtime.
    ///
    /// At most [`MX_HOSTS_MAX`] hosts, those of lowest preference. An address literal is a host by
    /// itself.
    pub async fn mx(&self, domain: &Domain) -> MxAnswer {
        let Some(name) = domain.as_name() else {
            return self.0.literal(domain);
        };
        let lookup = {
            let (shared, name) = (Arc::clone(&self.0), name.to_owned());
            let domain = domain.clone();
            async move {
                match shared.find_mx(&name, &domain).await {
                    unknown @ MxAnswer::Unknown { .. } => Answered::Failed(unknown),
                    known @ (MxAnswer::Hosts { .. }
                    | MxAnswer::NoHost
                    | MxAnswer::NoSuchDomain
                    | MxAnswer::NullMx) => Answered::Found(known),
                }
            }
        };
        let panicked = || MxAnswer::Unknown { why: LOOKUP_PANICKED.to_owned() };
        self.0.mx.join(domain, lookup).await.unwrap_or_else(panicked)
    }

    /// The addresses of a host that the operator named (a smart host, an LMTP server), in no
    /// particular order, at most [`ADDRESSES_MAX`]. They are not judged: the operator may name any
    /// host. `localhost` is loopback, without asking anybody (RFC 6761 §6.3).
    pub async fn addresses(&self, host: &Domain) -> Result<Vec<IpAddr>, Trouble> {
        if let Domain::Literal(address) = host {
            return Ok(vec![*address]);
        }
        let mut found = self.0.host(host).await;
        match found.failed {
            Some(why) if found.addresses.is_empty() => Err(Trouble::Unknown { why }),
            None if found.addresses.is_empty() => Err(Trouble::NoAddress),
            Some(_) | None => {
                found.addresses.truncate(ADDRESSES_MAX);
                Ok(found.addresses)
            }
        }
    }

    /// Whether what our name servers say can be proven, whatever the options say of that.
    pub async fn signatures(&self) -> Signatures {
        Dns::signatures(&self.0.options).await
    }

    /// Whether mail for a stranger's domain may go to this address. To be asked again for the
    /// address that is actually connected to, because the DNS may have changed its mind.
    pub fn permits(&self, address: IpAddr) -> bool {
        self.0.policy.permits(address)
    }

    /// Whether a connection to this address and the destination port would reach ourselves.
    pub fn is_ours(&self, address: IpAddr) -> bool {
        self.0.policy.is_ours(address)
    }
}

/// Why a host that the operator named has no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its name does not exist, or leads to no address.
    NoAddress,
    /// It could not be found out just now.
    Unknown {
        /// What went wrong, in words.
        why: String,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("the host has no address"),
            Self::Unknown { why } => f.write_str(why),
        }
    }
}

impl std::error::Error for Trouble {}

impl Shared {
    fn literal(&self, domain: &Domain) -> MxAnswer {
        let addresses = match domain {
            Domain::Literal(address) => self.judge(&[*address], None),
            Domain::Name(_) => Addresses::None,
        };
        let host = MxHost { preference: 0, name: domain.clone(), addresses };
        self.hosts_for(vec![host], (TTL_MAX, false))
    }

    async fn find_mx(self: Arc<Self>, name: &str, domain: &Domain) -> MxAnswer {
        self.proving.known(self.patience).await;
        let deadline = Instant::now() + self.patience;
        let found = match timeout_at(deadline, self.deliveries().mx(name)).await {
            Ok(Ok(found)) => found,
            Ok(Err(Unknown { why, .. })) => return MxAnswer::Unknown { why },
            Err(_elapsed) => return MxAnswer::Unknown { why: format!("MX {name}: {TOO_LONG}") },
        };
        match found {
            Found::NoName => MxAnswer::NoSuchDomain,
            Found::Nothing => self.implicit_mx(domain, deadline).await,
            Found::Records { data, ttl, trail } => match chosen(data) {
                Chosen::Hosts(hosts) => {
                    self.explicit_mx(hosts, (ttl, trail.is_proven), deadline).await
                }
                Chosen::NoHost => MxAnswer::NoHost,
                Chosen::NullMx => MxAnswer::NullMx,
            },
        }
    }

    /// The domain itself is its host if it has addresses, and only then.
    async fn implicit_mx(self: Arc<Self>, domain: &Domain, deadline: Instant) -> MxAnswer {
        let host = self.host_by(domain, deadline).await;
        match (host.addresses.as_slice(), host.failed.as_ref()) {
            ([], Some(why)) => MxAnswer::Unknown { why: why.clone() },
            ([], None) => MxAnswer::NoHost,
            (addresses, failed) => {
                let addresses = self.judge(addresses, failed);
                let ttl = kept(&addresses, host.ttl);
                let mx = MxHost { preference: 0, name: domain.clone(), addresses };
                // Where the addresses are proven the zone is signed, and that there is no MX too.
                self.hosts_for(vec![mx], (ttl, host.is_proven))
            }
        }
    }

    async fn explicit_mx(
        self: Arc<Self>,
        hosts: Vec<(u16, Domain)>,
        (mut ttl, is_proven): (Duration, bool),
        deadline: Instant,
    ) -> MxAnswer {
        let mut lookups = JoinSet::new();
        for (preference, name) in &hosts {
            let (shared, preference, name) = (Arc::clone(&self), *preference, name.clone());
            lookups.spawn(async move {
                let host = shared.host_by(&name, deadline).await;
                let addresses = shared.judge(&host.addresses, host.failed.as_ref());
                (kept(&addresses, host.ttl), MxHost { preference, name, addresses })
            });
        }
        let mut answers = Vec::new();
        while let Some(joined) = lookups.join_next().await {
            // An error is a panic of ours: the host is then missing from the answer.
            let Ok((kept, host)) = joined else { continue };
            ttl = ttl.min(kept);
            answers.push(host);
        }
        if answers.len() < hosts.len() {
            return MxAnswer::Unknown { why: LOOKUP_PANICKED.to_owned() };
        }
        self.hosts_for(answers, (ttl, is_proven))
    }

    fn hosts_for(&self, hosts: Vec<MxHost>, (ttl, is_proven): (Duration, bool)) -> MxAnswer {
        let valid_until = self.clock.now() + ttl.min(TTL_MAX);
        MxAnswer::Hosts { hosts, valid_until, is_proven }
    }

    /// What a host has, or that it took too long.
    async fn host_by(self: &Arc<Self>, name: &Domain, deadline: Instant) -> Host {
        let too_long = |_| Host::failed(format!("{name}: {TOO_LONG}"));
        timeout_at(deadline, self.host(name)).await.unwrap_or_else(too_long)
    }

    /// A and AAAA of a name.
    async fn host(self: &Arc<Self>, name: &Domain) -> Host {
        let lookup = {
            let (shared, name) = (Arc::clone(self), name.to_string());
            async move {
                let dns = shared.deliveries();
                let both = async { tokio::join!(dns.a(&name), dns.aaaa(&name)) };
                let deadline = Instant::now() + shared.patience;
                let host = match timeout_at(deadline, both).await {
                    Ok((a, aaaa)) => Host::of([a, aaaa]),
                    Err(_elapsed) => Host::failed(format!("{name}: {TOO_LONG}")),
                };
                if host.failed.is_some() { Answered::Failed(host) } else { Answered::Found(host) }
            }
        };
        let panicked = || Host::failed(LOOKUP_PANICKED.to_owned());
        self.hosts.join(name, lookup).await.unwrap_or_else(panicked)
    }

    /// What these addresses of a host, of which some could not be found out if it `failed`, mean.
    fn judge(&self, found: &[IpAddr], failed: Option<&String>) -> Addresses {
        if found.iter().any(|address| self.policy.is_ours(*address)) {
            return Addresses::Ourselves;
        }
        let known: Vec<IpAddr> = found
            .iter()
            .copied()
            .filter(|it| self.policy.permits(*it))
            .take(ADDRESSES_MAX)
            .collect();
        match (known.is_empty(), failed, found.first()) {
            (false, _, _) => Addresses::Known(known),
            // The half that is missing might have been the good one.
            (true, Some(_), _) => Addresses::Unknown,
            (true, None, Some(forbidden)) => Addresses::Forbidden(*forbidden),
            (true, None, None) => Addresses::None,
        }
    }
}

/// What a host name has.
#[derive(Clone, Debug)]
struct Host {
    /// IPv4 and IPv6 in turn, at most [`RECORDS_MAX`] of each.
    addresses: Vec<IpAddr>,
    /// Why IPv4, IPv6 or both could not be found out.
    failed: Option<String>,
    ttl: Duration,
    /// Whether all of that is proven by DNSSEC.
    is_proven: bool,
}

impl Host {
    fn failed(why: String) -> Self {
        Self { addresses: Vec::new(), failed: Some(why), ttl: FAILURE_KEPT, is_proven: false }
    }

    fn of(families: [Result<Found<IpAddr>, Unknown>; 2]) -> Self {
        let mut host = Self { addresses: Vec::new(), failed: None, ttl: TTL_MAX, is_proven: true };
        let mut ranked = Vec::new();
        for family in families {
            match family {
                Ok(Found::Records { data, ttl, trail }) => {
                    host.ttl = host.ttl.min(ttl);
                    host.is_proven &= trail.is_proven;
                    ranked.extend(data.into_iter().take(RECORDS_MAX).enumerate());
                }
                Ok(Found::NoName | Found::Nothing) => {}
                Err(Unknown { why, .. }) => host.failed = Some(why),
            }
        }
        // The limit on addresses must leave some of each family (a host that only seems to have
        // IPv6 is reached by IPv4). The sort is stable, so the server's own rotation stays.
        ranked.sort_by_key(|(rank, _)| *rank);
        host.addresses = ranked.into_iter().map(|(_, address)| address).collect();
        host
    }
}

/// For how long an answer with this host may be kept.
fn kept(addresses: &Addresses, ttl: Duration) -> Duration {
    match addresses {
        Addresses::Forbidden(_) | Addresses::Known(_) | Addresses::Ourselves => ttl,
        Addresses::None => ttl.min(NEGATIVE_TTL_MAX),
        // As long as the failure behind it answers for the question, and no longer: the mail that
        // waits for it is to go when the DNS has recovered.
        Addresses::Unknown => FAILURE_KEPT,
    }
}

/// Which hosts of an MX record set count.
#[derive(Debug, PartialEq, Eq)]
enum Chosen {
    Hosts(Vec<(u16, Domain)>),
    /// There are records, but no host can have any of their names.
    NoHost,
    NullMx,
}

fn chosen(records: Vec<(u16, MxName)>) -> Chosen {
    if records.iter().all(|(_, name)| *name == MxName::Null) {
        return Chosen::NullMx;
    }
    let mut lowest = BTreeMap::<Domain, u16>::new();
    for (preference, name) in records {
        // A null MX beside others is a mistake (RFC 7505 §3): the others count.
        if let MxName::Host(host) = name {
            let kept = lowest.entry(host).or_insert(preference);
            *kept = preference.min(*kept);
        }
    }
    if lowest.is_empty() {
        return Chosen::NoHost;
    }
    let mut hosts: Vec<_> =
        lowest.into_iter().map(|(host, preference)| (preference, host)).collect();
    // Its keys are drawn at random: among equals at the cut, chance decides.
    let chance = RandomState::new();
    hosts.sort_by_cached_key(|(preference, host)| (*preference, chance.hash_one(host)));
    hosts.truncate(MX_HOSTS_MAX);
    Chosen::Hosts(hosts)
}

/// How many hosts of a domain are looked up, those of lowest preference.
pub const MX_HOSTS_MAX: usize = 20;

/// How many addresses of a host are given.
pub const ADDRESSES_MAX: usize = 20;

/// How many addresses of a host and a family are looked at.
const RECORDS_MAX: usize = 100;

/// How many queries one question waits for, one after the other: MX, an alias, an address.
const QUERIES_IN_A_ROW: u32 = 3;

/// No question waits longer than this, whatever the options are.
const PATIENCE_MAX: Duration = Duration::from_mins(5);

const LOOKUP_PANICKED: &str = "the lookup ended without an answer";

const TOO_LONG: &str = "the name servers took too long";

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> MxName {
        MxName::Host(Domain::parse(name).unwrap())
    }

    #[test]
    fn a_null_mx_counts_only_where_it_is_alone() {
        assert_eq!(chosen(vec![(0, MxName::Null)]), Chosen::NullMx);
        assert_eq!(chosen(vec![(0, MxName::Null), (5, MxName::Odd)]), Chosen::NoHost);
        let Chosen::Hosts(hosts) = chosen(vec![(0, MxName::Null), (5, host("mx.example"))]) else {
            panic!("there is a host");
        };
        assert_eq!(hosts, [(5, Domain::parse("mx.example").unwrap())]);
    }

    #[test]
    fn a_host_that_is_named_twice_counts_once_with_the_lower_preference() {
        let records = vec![(20, host("mx.example")), (10, host("MX.example"))];
        let want = Chosen::Hosts(vec![(10, Domain::parse("mx.example").unwrap())]);
        assert_eq!(chosen(records), want);
    }

    #[test]
    fn chance_decides_among_equals_at_the_cut() {
        let records: Vec<_> =
            (0..200u16).map(|n| (n / 30, host(&format!("mx{n}.example")))).collect();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let Chosen::Hosts(hosts) = chosen(records.clone()) else { panic!("there are hosts") };
            assert_eq!(hosts.len(), MX_HOSTS_MAX);
            assert!(hosts.iter().all(|(preference, _)| *preference == 0));
            seen.extend(hosts);
        }
        assert_eq!(seen.len(), 30);
    }

    #[test]
    fn an_answer_is_kept_no_longer_than_the_failure_to_find_a_host_of_it() {
        let hour = Duration::from_hours(1);
        let forbidden = Addresses::Forbidden(IpAddr::from([127, 0, 0, 1]));
        for (addresses, want) in [
            (Addresses::Known(vec![IpAddr::from([192, 0, 2, 1])]), hour),
            (forbidden, hour),
            (Addresses::Ourselves, hour),
            (Addresses::None, NEGATIVE_TTL_MAX),
            (Addresses::Unknown, FAILURE_KEPT),
        ] {
            assert_eq!(kept(&addresses, hour), want, "{addresses:?}");
        }
    }

    #[test]
    fn both_families_survive_the_limit_on_addresses() {
        let many = |text: &str| Found::Records {
            data: vec![text.parse::<IpAddr>().unwrap(); 500],
            ttl: Duration::from_mins(1),
            trail: lookup::Trail::default(),
        };
        let found = Host::of([Ok(many("8.8.8.8")), Ok(many("2a00::1"))]);
        assert_eq!(found.addresses.len(), 2 * RECORDS_MAX);
        let head = found.addresses.iter().take(ADDRESSES_MAX);
        assert_eq!(head.filter(|address| address.is_ipv4()).count(), ADDRESSES_MAX / 2);
    }
}
