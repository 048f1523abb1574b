//! How attempts are carried out, as whom and from where. Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use merpati_flow::{
    Job,
    outcome::{Login, Terms},
};
use merpati_mail::Domain;
use merpati_smtp::client::{self, Timeouts, TlsUse};

use crate::{
    certificates::Certificates, clock::Clock, sessions::Sessions, sinks::Sinks, sts::Policies,
    tls_reports::Tally,
};

/// How attempts are carried out.
#[derive(Clone, Debug)]
pub struct Options {
    /// How, by the name of the rule that chose the next hop.
    pub profiles: BTreeMap<Arc<str>, Profile>,
    /// Our host name: what calls itself so is ourselves.
    pub hostname: Domain,
    /// Open connections in all, idle ones included.
    pub connections_max: usize,
    /// Open connections from one egress source to one host.
    pub connections_per_host_max: usize,
    /// Messages on one connection.
    pub messages_per_connection_max: u32,
    /// Recipients in one transaction.
    pub recipients_max: usize,
    /// How long a connection is kept without a message for it.
    pub idle_wait: Duration,
    /// How long a connection to one address may take to come about.
    pub connect_wait: Duration,
    /// After it no further host, connection or transaction is begun.
    pub attempt_wait: Duration,
    /// Whether TLSA records are looked at.
    pub dane: bool,
    /// How long each reply may take.
    pub timeouts: Timeouts,
}

/// What is needed besides.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The time.
    pub clock: Arc<Clock>,
    /// Where it is told what was said.
    pub sinks: Sinks,
    /// The policies of others (MTA-STS); `None` where they are not looked at.
    pub policies: Option<Policies>,
    /// Where sessions are counted for reports of TLS; `None` where they are not.
    pub tally: Option<Tally>,
    /// Where it is shown who is connected.
    pub sessions: Arc<Sessions>,
}

/// What a rule says about its connections.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Where they come from.
    pub egress: Egress,
    /// How they are protected.
    pub tls: TlsUse,
    /// Whose certificates are believed.
    pub trust: CertificateTrust,
    /// What is shown to hosts that ask for a certificate; `None` for nothing.
    pub certificates: Option<Arc<Certificates>>,
    /// Whom to authenticate as; `None` for nobody.
    pub login: Option<client::Credential>,
    /// Whether what domains publish of TLS is followed (DANE, MTA-STS), where the hosts come from
    /// MX.
    pub follows_policies: bool,
    /// Whether the hosts come from strangers' zones, so that their addresses must be permitted and
    /// their names must not be ours.
    pub is_mx: bool,
}

impl Profile {
    /// On which terms an attempt goes by this rule.
    pub(super) fn terms(&self, job: &Job) -> Terms {
        let login = if self.login.is_some() { Login::Given } else { Login::None };
        Terms { dialect: job.dialect, login, protection: job.protection }
    }
}

/// Whose certificates are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateTrust {
    /// Anybody's.
    Any,
    /// Those for the name of the host by a CA of this PEM file.
    File(PathBuf),
    /// Those for the name of the host by a CA that this machine trusts.
    System,
}

/// Where connections come from.
#[derive(Clone, Debug)]
pub struct Egress {
    /// Its name.
    pub name: Arc<str>,
    /// The addresses to connect from, at most one of each family; none: the system chooses.
    pub addresses: Vec<IpAddr>,
    /// What we call ourselves in EHLO.
    pub hello: Domain,
}

impl Egress {
    /// The address to connect from to `to`; errs where there is none of its family.
    pub(super) fn source_for(&self, to: SocketAddr) -> Result<Option<IpAddr>, String> {
        if self.addresses.is_empty() {
            return Ok(None);
        }
        let of_family = self.addresses.iter().find(|from| from.is_ipv4() == to.is_ipv4());
        let none = || format!("the egress source {} has no address of this family", self.name);
        of_family.copied().map(Some).ok_or_else(none)
    }
}
