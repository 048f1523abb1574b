//! What the DNS says of a client and of a sender: the name of an address, DNS lists, and whether
//! there is mail for a domain.
//!
//! Invariant: an answer is bounded in work and time whatever a stranger's zone holds, and trouble
//! is never taken for a no. Not pure: asks name servers.

use std::{net::IpAddr, sync::Arc};

use merpati_flow::admit::lists::{self, Heard};
use merpati_mail::{
    Domain,
    question::{HostNameAnswer, ListEntry, MailDomainAnswer},
};
use tokio::time::{Instant, timeout_at};

use super::{
    Resolver, Shared,
    flight::{Answered, Flights},
    lookup::{Found, MxName, Unknown},
};

/// What was asked of strangers and is under way.
#[derive(Debug)]
pub(super) struct Questions {
    names: Flights<HostNameAnswer>,
    lists: Flights<Result<Listing, Silence>>,
    mail_domains: Flights<Result<MailDomainAnswer, Silence>>,
}

impl Questions {
    pub(super) fn new() -> Self {
        Self { names: Flights::new(), lists: Flights::new(), mail_domains: Flights::new() }
    }
}

/// No name server said anything; what is not known then is nobody's fault but ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence;

/// What a list says of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// What its addresses mean; `None` where the name servers of the list are in trouble.
    pub heard: Option<Heard>,
    /// Its text, made fit for a reply; `None` where it has none, or was not heard in time.
    pub reason: Option<String>,
}

impl Resolver {
    /// The name of an address: of its PTR records the first that leads back to it. At most
    /// [`NAMES_MAX`] of them are looked at.
    pub async fn host_name(&self, address: IpAddr) -> HostNameAnswer {
        let address = address.to_canonical();
        let Some(key) = lists::reverse_name(address) else { return HostNameAnswer::None };
        let shared = Arc::clone(&self.0);
        let name = key.clone();
        let lookup = async move {
            let deadline = Instant::now() + shared.patience;
            let found = timeout_at(deadline, shared.confirmed_name(&name, address)).await;
            match found.unwrap_or(HostNameAnswer::Unknown) {
                HostNameAnswer::Unknown => Answered::Failed(HostNameAnswer::Unknown),
                known @ (HostNameAnswer::Confirmed(_) | HostNameAnswer::None) => {
                    Answered::Found(known)
                }
            }
        };
        self.0.strangers.names.join(&key, lookup).await.unwrap_or(HostNameAnswer::Unknown)
    }

    /// Whether there is mail for a domain: MX records, or addresses in their place. Whether they
    /// lead anywhere is not asked.
    pub async fn mail_domain(&self, domain: &Domain) -> Result<MailDomainAnswer, Silence> {
        let Some(name) = domain.as_name().map(str::to_owned) else {
            return Ok(MailDomainAnswer::Exists);
        };
        let shared = Arc::clone(&self.0);
        let lookup = async move {
            let deadline = Instant::now() + shared.patience;
            match timeout_at(deadline, shared.find_mail_domain(&name)).await {
                Ok(Ok(MailDomainAnswer::Trouble)) => {
                    Answered::Failed(Ok(MailDomainAnswer::Trouble))
                }
                Ok(Ok(answer)) => Answered::Found(Ok(answer)),
                Ok(Err(Silence)) | Err(_) => Answered::Failed(Err(Silence)),
            }
        };
        let answer = self.0.strangers.mail_domains.join(domain, lookup).await;
        answer.unwrap_or(Err(Silence))
    }

    /// What a DNS list says of an entry (RFC 5782).
    pub async fn listed(&self, zone: &Domain, entry: &ListEntry) -> Result<Listing, Silence> {
        let Some(key) = lists::query_name(zone, entry) else {
            return Ok(Listing { heard: Some(Heard::NotListed), reason: None });
        };
        let (shared, name) = (Arc::clone(&self.0), key.to_string());
        let lookup = async move {
            let deadline = Instant::now() + shared.patience;
            match timeout_at(deadline, shared.find_listing(&name)).await {
                Ok(Ok(listing @ Listing { heard: Some(_), .. })) => Answered::Found(Ok(listing)),
                Ok(Ok(listing)) => Answered::Failed(Ok(listing)),
                Ok(Err(Silence)) | Err(_) => Answered::Failed(Err(Silence)),
            }
        };
        self.0.strangers.lists.join(&key, lookup).await.unwrap_or(Err(Silence))
    }
}

impl Shared {
    async fn confirmed_name(&self, reverse: &Domain, address: IpAddr) -> HostNameAnswer {
        let names = match self.checks.ptr(&reverse.to_string()).await {
            Ok(Found::Records { data, .. }) => data,
            Ok(Found::NoName | Found::Nothing) => return HostNameAnswer::None,
            Err(Unknown { .. }) => return HostNameAnswer::Unknown,
        };
        let mut trouble = false;
        let hosts = names.into_iter().filter_map(|name| match name {
            MxName::Host(host) => Some(host),
            MxName::Null | MxName::Odd => None,
        });
        for host in hosts.take(NAMES_MAX) {
            let name = host.to_string();
            let found = match address {
                IpAddr::V4(_) => self.checks.a(&name).await,
                IpAddr::V6(_) => self.checks.aaaa(&name).await,
            };
            match found {
                Ok(Found::Records { data, .. }) if data.contains(&address) => {
                    return HostNameAnswer::Confirmed(host);
                }
                Ok(Found::NoName | Found::Nothing | Found::Records { .. }) => {}
                Err(Unknown { .. }) => trouble = true,
            }
        }
        if trouble { HostNameAnswer::Unknown } else { HostNameAnswer::None }
    }

    async fn find_mail_domain(&self, name: &str) -> Result<MailDomainAnswer, Silence> {
        match self.checks.mx(name).await {
            Ok(Found::NoName) => return Ok(MailDomainAnswer::NoSuchDomain),
            Ok(Found::Nothing) => {}
            Ok(Found::Records { data, .. }) => {
                // A null MX beside others is a mistake (RFC 7505 §3): the others count.
                let is_null = data.iter().all(|(_, host)| *host == MxName::Null);
                let answer =
                    if is_null { MailDomainAnswer::NullMx } else { MailDomainAnswer::Exists };
                return Ok(answer);
            }
            Err(unknown) => return unknown.into_trouble(),
        }
        let (a, aaaa) = tokio::join!(self.checks.a(name), self.checks.aaaa(name));
        match (a, aaaa) {
            (Ok(Found::Records { .. }), _) | (_, Ok(Found::Records { .. })) => {
                Ok(MailDomainAnswer::Exists)
            }
            (Err(unknown), _) | (_, Err(unknown)) => unknown.into_trouble(),
            (Ok(Found::NoName | Found::Nothing), Ok(Found::NoName | Found::Nothing)) => {
                Ok(MailDomainAnswer::NoHost)
            }
        }
    }

    async fn find_listing(&self, name: &str) -> Result<Listing, Silence> {
        let heard = match self.checks.a(name).await {
            Ok(Found::NoName | Found::Nothing) => Heard::NotListed,
            Ok(Found::Records { data, .. }) => lists::heard(&data),
            Err(Unknown { is_told: true, .. }) => return Ok(Listing { heard: None, reason: None }),
            Err(Unknown { .. }) => return Err(Silence),
        };
        let reason = match &heard {
            Heard::Listed(_) => self.reason(name).await,
            Heard::Nonsense(_) | Heard::NotListed => None,
        };
        Ok(Listing { heard: Some(heard), reason })
    }

    /// The text of a list; who has none in time is listed without one.
    async fn reason(&self, name: &str) -> Option<String> {
        let deadline = Instant::now() + self.patience / 2;
        match timeout_at(deadline, self.checks.txt(name)).await {
            Ok(Ok(Found::Records { data, .. })) => {
                let texts = data.iter().take(TEXTS_MAX);
                let texts: Vec<_> =
                    texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect();
                lists::reason(&texts)
            }
            Ok(Ok(Found::NoName | Found::Nothing) | Err(_)) | Err(_) => None,
        }
    }
}

impl Unknown {
    fn into_trouble(self) -> Result<MailDomainAnswer, Silence> {
        if self.is_told { Ok(MailDomainAnswer::Trouble) } else { Err(Silence) }
    }
}

/// How many names of an address are looked at: some have thousands, few have more than one.
pub const NAMES_MAX: usize = 10;

/// How many texts of a list are shown.
const TEXTS_MAX: usize = 3;
