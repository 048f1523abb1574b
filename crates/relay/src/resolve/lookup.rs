//! What the DNS says about one name and one type, in four words: records, none, no such name, or
//! unknown.
//!
//! Invariant: only a server that says so makes a name nonexistent or empty. Whatever else happens
//! (no answer, an error code, a referral, an endless chain of aliases, a bogus signature) is
//! unknown, and the caller defers. No type of the library leaves this file. Not pure.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        dnssec::{Proof, TrustAnchors},
        op::ResponseCode,
        rr::{Name, RData, Record, RecordType},
    },
    system_conf::read_system_conf,
};
use merpati_mail::Domain;
use tokio::sync::Semaphore;

use super::{Options, believed::Second};
use crate::dane::TlsaRecord;

/// The name servers, and a cache in front of them.
#[derive(Clone)]
pub(super) struct Dns {
    resolver: TokioResolver,
    /// Where answers are checked.
    second: Option<Second>,
    under_way: Arc<Semaphore>,
}

impl Dns {
    pub(super) fn new(options: &Options) -> anyhow::Result<Self> {
        let servers = if options.servers.is_empty() {
            system_servers()?
        } else {
            options.servers.iter().copied().map(server).collect()
        };
        // Neither a domain nor a search list: every name is absolute.
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.clone());
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = library_options(options);
        let mut second = None;
        if options.validate {
            let anchors = Arc::new(anchors(options)?);
            second = Some(Second::new(&servers, builder.options_mut(), Arc::clone(&anchors))?);
            builder = builder.with_trust_anchor(anchors);
        }
        let resolver = builder.build().context("the resolver cannot be set up")?;
        Ok(Self { resolver, second, under_way: Arc::new(Semaphore::new(QUERIES_MAX)) })
    }

    /// The MX records of a name: preference and host.
    pub(super) async fn mx(&self, domain: &str) -> Result<Found<(u16, MxName)>, Unknown> {
        let pick = |data: &RData| {
            let RData::MX(mx) = data else { return None };
            Some((mx.preference, MxName::of(&mx.exchange)))
        };
        self.ask(domain, RecordType::MX, pick).await
    }

    /// The IPv4 addresses of a name.
    pub(super) async fn a(&self, host: &str) -> Result<Found<IpAddr>, Unknown> {
        self.ask(host, RecordType::A, address).await
    }

    /// The IPv6 addresses of a name.
    pub(super) async fn aaaa(&self, host: &str) -> Result<Found<IpAddr>, Unknown> {
        self.ask(host, RecordType::AAAA, address).await
    }

    /// The names of PTR records.
    pub(super) async fn ptr(&self, name: &str) -> Result<Found<MxName>, Unknown> {
        let pick = |data: &RData| {
            let RData::PTR(ptr) = data else { return None };
            Some(MxName::of(&ptr.0))
        };
        self.ask(name, RecordType::PTR, pick).await
    }

    /// The texts of a name; each is one record, its strings joined.
    pub(super) async fn txt(&self, name: &str) -> Result<Found<Vec<u8>>, Unknown> {
        let pick = |data: &RData| {
            let RData::TXT(txt) = data else { return None };
            Some(txt.txt_data.iter().flatten().copied().collect())
        };
        self.ask(name, RecordType::TXT, pick).await
    }

    /// Whether what these name servers say can be proven, by what they say of the root.
    pub(super) async fn signatures(options: &Options) -> Signatures {
        let dns = match Self::new(&Options { validate: true, ..options.clone() }) {
            Ok(dns) => dns,
            Err(why) => return Signatures::Silence(format!("{why:#}")),
        };
        match dns.resolver.lookup(Name::root(), RecordType::NS).await {
            Ok(lookup) if lookup.answers().iter().any(|it| it.proof == Proof::Secure) => {
                return Signatures::HandedOver;
            }
            Ok(_) => return Signatures::Stripped,
            Err(_) => {}
        }
        let Ok(dns) = Self::new(&Options { validate: false, ..options.clone() }) else {
            return Signatures::Silence("it cannot be set up".to_owned());
        };
        match dns.resolver.lookup(Name::root(), RecordType::NS).await {
            Ok(_) => Signatures::Stripped,
            Err(NetError::Dns(why)) => Signatures::NoRoot(why.to_string()),
            Err(why) => Signatures::Silence(why.to_string()),
        }
    }

    /// The TLSA records of a name.
    pub(super) async fn tlsa(&self, name: &str) -> Result<Found<TlsaRecord>, Unknown> {
        let pick = |data: &RData| {
            let RData::TLSA(tlsa) = data else { return None };
            Some(TlsaRecord {
                usage: tlsa.cert_usage.into(),
                selector: tlsa.selector.into(),
                matching: tlsa.matching.into(),
                data: tlsa.cert_data.clone(),
            })
        };
        self.ask(name, RecordType::TLSA, pick).await
    }

    async fn ask<T>(
        &self,
        name: &str,
        kind: RecordType,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Result<Found<T>, Unknown> {
        // By its labels, for a name may hold any octet: those of SPF macros do.
        let Ok(mut name) = Name::from_labels(name.split('.').map(str::as_bytes)) else {
            return Ok(Found::NoName);
        };
        let mut ttl = TTL_MAX;
        let mut trail = Trail { is_proven: true, ..Trail::default() };
        for _ in 0..=ALIASES_MAX {
            let lookup = match self.query(&name, kind).await? {
                Said::Lookup(lookup) => lookup,
                Said::NoName => return Ok(Found::NoName),
                Said::Nothing { at, sure: true } => return self.nothing(&at, None).await,
                Said::Nothing { at, sure: false } => return self.nothing(&at, Some(kind)).await,
            };
            ttl = ttl.min(lookup.valid_until().saturating_duration_since(Instant::now()));
            let end = end_of_chain(&name, lookup.answers());
            trail.follow(&name, lookup.answers());
            // What the answer holds about other names is nobody's business (RFC 5452 §6).
            let is_about = |record: &&Record| record.name == end;
            let data: Vec<T> =
                lookup.answers().iter().filter(is_about).filter_map(|r| pick(&r.data)).collect();
            if !data.is_empty() {
                trail.end_at(&end, kind, lookup.answers());
                return Ok(Found::Records { data, ttl, trail });
            }
            // The library followed a chain through its cache and kept only the end of it.
            let next = match self.alias_records(&name, end == name).await? {
                Some(lookup) => {
                    trail.follow(&name, lookup.answers());
                    alias_in(&name, lookup.answers()).cloned()
                }
                None => (end != name).then_some(end),
            };
            match next {
                Some(next) => name = next,
                None => return Ok(Found::Nothing),
            }
        }
        Err(Unknown::told(format!("{kind} {name}: more than {ALIASES_MAX} aliases")))
    }

    /// No records at `at`. A server that says so adds an SOA record (RFC 2308 §2.2), but many a
    /// forwarder leaves it out, and the library says the same when it gives up on a long chain:
    /// where `doubted`, an alias at `at` tells that apart.
    async fn nothing<T>(
        &self,
        at: &Name,
        doubted: Option<RecordType>,
    ) -> Result<Found<T>, Unknown> {
        match doubted {
            Some(kind) if self.alias(at).await?.is_some() => {
                Err(Unknown::told(format!("{kind} {at}: the chain of aliases does not end")))
            }
            Some(_) | None => Ok(Found::Nothing),
        }
    }

    /// The name for which this name is an alias.
    async fn alias(&self, name: &Name) -> Result<Option<Name>, Unknown> {
        let lookup = self.alias_records(name, true).await?;
        Ok(lookup.and_then(|lookup| alias_in(name, lookup.answers()).cloned()))
    }

    /// What says for which name this name is an alias, where that is wanted.
    async fn alias_records(
        &self,
        name: &Name,
        is_wanted: bool,
    ) -> Result<Option<Box<Lookup>>, Unknown> {
        if !is_wanted {
            return Ok(None);
        }
        match self.query(name, RecordType::CNAME).await? {
            Said::Lookup(lookup) => Ok(Some(lookup)),
            Said::NoName | Said::Nothing { .. } => Ok(None),
        }
    }

    async fn query(&self, name: &Name, kind: RecordType) -> Result<Said, Unknown> {
        // An error means that the semaphore was closed, which nobody does.
        let _permit = self.under_way.acquire().await;
        let mut answer = self.resolver.lookup(name.clone(), kind).await;
        if let (Err(NetError::Dns(DnsError::DnssecBogus)), Some(second)) = (&answer, &self.second)
            && let Some(lookup) = second.look(name, kind).await
        {
            answer = Ok(lookup);
        }
        let is_told = is_told(&answer);
        said(answer).map_err(|why| Unknown { why: format!("{kind} {name}: {why}"), is_told })
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

/// What the DNS holds at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<T> {
    /// The name does not exist (NXDOMAIN).
    NoName,
    /// The name exists, but not with this type (NODATA).
    Nothing,
    /// These, never empty, for so long; at most [`TTL_MAX`].
    Records { data: Vec<T>, ttl: Duration, trail: Trail },
}

/// How records were come by, from the name that was asked for, and what of it is proven (DNSSEC).
/// Nothing is where signatures are not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trail {
    /// Whether every alias on the way is proven, and the records at its end.
    pub(super) is_proven: bool,
    /// Whether the first alias is; `None` where there is none.
    pub(super) first_alias: Option<bool>,
    /// The name at the end, without its last dot.
    pub(super) end: String,
}

impl Trail {
    /// Takes in the aliases of an answer, from `name` on.
    fn follow(&mut self, name: &Name, answers: &[Record]) {
        let mut at = name;
        for _ in 0..ALIASES_MAX {
            let own = |record: &&Record| record.name == *at;
            let alias = answers.iter().filter(own).find_map(|record| {
                let RData::CNAME(to) = &record.data else { return None };
                Some((record.proof.is_secure(), &to.0))
            });
            let Some((is_proven, next)) = alias else { return };
            self.first_alias.get_or_insert(is_proven);
            self.is_proven &= is_proven;
            at = next;
        }
    }

    /// The records of this kind stand here.
    fn end_at(&mut self, name: &Name, kind: RecordType, answers: &[Record]) {
        let own = |record: &&Record| record.name == *name && record.record_type() == kind;
        self.is_proven &= answers.iter().filter(own).all(|record| record.proof.is_secure());
        let text = name.to_ascii();
        text.strip_suffix('.').unwrap_or(&text).clone_into(&mut self.end);
    }
}

/// Whether name servers hand over what proves their answers (DNSSEC, RFC 4033).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signatures {
    /// They do.
    HandedOver,
    /// They answer, and know no root: they are for a network of their own; what they say.
    NoRoot(String),
    /// Nobody answers; why, in words.
    Silence(String),
    /// They answer without.
    Stripped,
}

/// Why it could not be found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    /// In words.
    pub(super) why: String,
    /// Whether a name server told us that the domain is in trouble (SERVFAIL, a bogus signature,
    /// aliases without end); where not, nobody said anything, or it was about us.
    pub(super) is_told: bool,
}

impl Unknown {
    const fn told(why: String) -> Self {
        Self { why, is_told: true }
    }
}

/// The host of an MX record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MxName {
    /// A name that a host can have.
    Host(Domain),
    /// The root: the domain takes no mail (RFC 7505 §3).
    Null,
    /// A name that no host has, such as an IP address in text form.
    Odd,
}

impl MxName {
    fn of(exchange: &Name) -> Self {
        if exchange.is_root() {
            return Self::Null;
        }
        let text = exchange.to_ascii();
        Domain::parse(text.strip_suffix('.').unwrap_or(&text)).map_or(Self::Odd, Self::Host)
    }
}

/// What the library says, without its errors.
#[derive(Debug)]
enum Said {
    Lookup(Box<Lookup>),
    NoName,
    /// At the end of a chain of aliases; `sure` if there was an SOA record.
    Nothing {
        at: Name,
        sure: bool,
    },
}

/// The keys that everything is proven by.
fn anchors(options: &Options) -> anyhow::Result<TrustAnchors> {
    let Some(path) = &options.trust_anchor else { return Ok(TrustAnchors::default()) };
    let anchors = TrustAnchors::from_file(path);
    let anchors = anchors.with_context(|| format!("the keys in {}", path.display()))?;
    anyhow::ensure!(!anchors.is_empty(), "there is no key of the root in {}", path.display());
    Ok(anchors)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library has many codes, and all others mean that the server could not say"
)]
fn said(answer: Result<Lookup, NetError>) -> Result<Said, String> {
    let error = match answer {
        Ok(lookup) => return Ok(Said::Lookup(Box::new(lookup))),
        Err(NetError::Dns(error)) => error,
        Err(NetError::Timeout) => return Err("no name server answered in time".to_owned()),
        Err(other) => return Err(other.to_string()),
    };
    match error {
        DnsError::NoRecordsFound(none) => match none.response_code {
            ResponseCode::NXDomain => Ok(Said::NoName),
            // A name server that points elsewhere instead of asking there: lame for us.
            ResponseCode::NoError if none.soa.is_none() && none.ns.is_some() => {
                Err("the name server only refers to others".to_owned())
            }
            ResponseCode::NoError => {
                Ok(Said::Nothing { at: none.query.name().clone(), sure: none.soa.is_some() })
            }
            code => Err(code.to_string()),
        },
        // A negative answer of an unsigned zone, with DNSSEC.
        DnsError::Nsec { query, response, proof: Proof::Insecure | Proof::Secure, .. } => {
            match response.response_code {
                ResponseCode::NXDomain => Ok(Said::NoName),
                ResponseCode::NoError => {
                    Ok(Said::Nothing { at: query.name().clone(), sure: response.soa().is_some() })
                }
                code => Err(code.to_string()),
            }
        }
        // The library calls it bogus too when a key does not come in time.
        DnsError::DnssecBogus | DnsError::Nsec { .. } => Err("DNSSEC says bogus".to_owned()),
        DnsError::ResponseCode(code) => Err(format!("the name server says {code}")),
        other => Err(other.to_string()),
    }
}

/// Whether the answer says that the domain is in trouble, and not that we are.
fn is_told(answer: &Result<Lookup, NetError>) -> bool {
    match answer {
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            none.response_code == ResponseCode::ServFail
        }
        Err(NetError::Dns(DnsError::ResponseCode(code))) => *code == ResponseCode::ServFail,
        Err(NetError::Dns(DnsError::DnssecBogus | DnsError::Nsec { .. })) => true,
        Ok(_) | Err(_) => false,
    }
}

/// Where the aliases in an answer lead from `name`; `name` itself where there is none.
fn end_of_chain(name: &Name, answers: &[Record]) -> Name {
    let mut end = name;
    for _ in 0..ALIASES_MAX {
        match alias_in(end, answers) {
            Some(next) => end = next,
            None => break,
        }
    }
    end.clone()
}

fn alias_in<'a>(name: &Name, answers: &'a [Record]) -> Option<&'a Name> {
    answers.iter().filter(|record| record.name == *name).find_map(|record| {
        let RData::CNAME(alias) = &record.data else { return None };
        Some(&alias.0)
    })
}

fn address(data: &RData) -> Option<IpAddr> {
    data.ip_addr()
}

fn library_options(options: &Options) -> ResolverOpts {
    let mut library = ResolverOpts::default();
    library.timeout = options.query_wait;
    // The library counts what comes after the first.
    library.attempts = options.tries.saturating_sub(1);
    library.validate = options.validate;
    library.cache_size = u64::try_from(options.cache_entries).unwrap_or(u64::MAX);
    library.use_hosts_file = ResolveHosts::Never;
    library.case_randomization = true;
    library.max_active_requests = QUERIES_MAX;
    library.preserve_intermediates = true;
    library.positive_min_ttl = Some(TTL_MIN);
    library.positive_max_ttl = Some(TTL_MAX);
    library.negative_min_ttl = Some(TTL_MIN);
    library.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
    library
}

fn server(at: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(at.ip());
    for connection in &mut config.connections {
        set_port(connection, at.port());
    }
    config
}

fn set_port(connection: &mut ConnectionConfig, port: u16) {
    connection.port = port;
}

/// The name servers of the machine; without such a file the one on this machine, as
/// `resolv.conf(5)` has it.
fn system_servers() -> anyhow::Result<Vec<NameServerConfig>> {
    match read_system_conf() {
        Ok((config, _)) => Ok(config.name_servers().to_vec()),
        Err(NetError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            Ok(vec![NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into())])
        }
        Err(error) => Err(error).context("the name servers of the system are not known"),
    }
}

/// How many queries are under way at most; each holds a socket. More wait.
const QUERIES_MAX: usize = 256;

/// How long a chain of aliases may be, besides the eight that the library follows by itself.
const ALIASES_MAX: usize = 8;

/// What is kept for less is kept so long nevertheless.
const TTL_MIN: Duration = Duration::from_secs(30);

/// What may be kept for longer is kept no longer than this.
pub(super) const TTL_MAX: Duration = Duration::from_hours(24);

/// The same for "no such name" and "no such record" (RFC 2308 §5 allows up to three hours).
pub(super) const NEGATIVE_TTL_MAX: Duration = Duration::from_mins(15);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hickory_resolver::{net::NoRecords, proto::op::Query};

    use super::*;

    fn none(code: ResponseCode) -> NetError {
        let name = Name::from_ascii("example.org.").unwrap();
        NoRecords::new(Query::query(name, RecordType::MX), code).into()
    }

    #[test]
    fn only_a_server_that_says_so_makes_a_name_nonexistent_or_empty() {
        let broken = io::Error::from(io::ErrorKind::ConnectionRefused);
        for (error, want) in [
            (none(ResponseCode::NXDomain), "no name"),
            (none(ResponseCode::NoError), "nothing"),
            (none(ResponseCode::ServFail), "unknown"),
            (none(ResponseCode::Unknown(4_000)), "unknown"),
            (DnsError::ResponseCode(ResponseCode::Refused).into(), "unknown"),
            (DnsError::DnssecBogus.into(), "unknown"),
            (NetError::Timeout, "unknown"),
            (NetError::Busy, "unknown"),
            (NetError::NoConnections, "unknown"),
            (NetError::Truncated, "unknown"),
            (NetError::QueryCaseMismatch, "unknown"),
            (NetError::Io(Arc::new(broken)), "unknown"),
        ] {
            let shown = format!("{error:?}");
            let got = match said(Err(error)) {
                Ok(Said::Lookup(_)) => "records",
                Ok(Said::NoName) => "no name",
                Ok(Said::Nothing { .. }) => "nothing",
                Err(_) => "unknown",
            };
            assert_eq!(got, want, "{shown}");
        }
    }

    #[test]
    fn only_what_a_server_says_of_the_domain_is_its_trouble() {
        for (error, want) in [
            (none(ResponseCode::ServFail), true),
            (DnsError::ResponseCode(ResponseCode::ServFail).into(), true),
            (DnsError::DnssecBogus.into(), true),
            (none(ResponseCode::Refused), false),
            (DnsError::ResponseCode(ResponseCode::Refused).into(), false),
            (NetError::Timeout, false),
            (NetError::NoConnections, false),
            (NetError::Io(Arc::new(io::ErrorKind::ConnectionRefused.into())), false),
        ] {
            let shown = format!("{error:?}");
            assert_eq!(is_told(&Err(error)), want, "{shown}");
        }
    }

    #[test]
    fn only_names_that_a_host_can_have_become_hosts() {
        for (text, want) in [
            ("MX.Example.Org.", Some("mx.example.org")),
            ("_mx.example.org.", Some("_mx.example.org")),
            ("localhost.", Some("localhost")),
            ("10.0.0.1.", None),
            ("*.example.org.", None),
            ("a\\.b.example.org.", None),
        ] {
            let want = want.map_or(MxName::Odd, |name| MxName::Host(Domain::parse(name).unwrap()));
            assert_eq!(MxName::of(&Name::from_ascii(text).unwrap()), want, "{text}");
        }
        for odd in [&b"m\xc3\xbc"[..], b"-", b"a b"] {
            let name = Name::from_labels([odd, b"example", b"org"]).unwrap();
            assert_eq!(MxName::of(&name), MxName::Odd, "{name}");
        }
        assert_eq!(MxName::of(&Name::root()), MxName::Null);
        let label = "a".repeat(63);
        let longest = Name::from_ascii(format!("{label}.{label}.{label}.{}.", "a".repeat(61)));
        assert!(matches!(MxName::of(&longest.unwrap()), MxName::Host(_)));
    }

    #[test]
    fn a_chain_of_aliases_ends_also_where_it_is_a_ring() {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let alias = |from: &str, to: &str| {
            use hickory_resolver::proto::rr::rdata::CNAME;
            Record::from_rdata(name(from), 60, RData::CNAME(CNAME(name(to))))
        };
        let answers = [alias("b.", "c."), alias("a.", "b."), alias("x.", "y."), alias("y.", "x.")];
        assert_eq!(end_of_chain(&name("a."), &answers), name("c."));
        assert_eq!(end_of_chain(&name("z."), &answers), name("z."));
        assert_eq!(end_of_chain(&name("x."), &answers), name("x."));
    }
}
