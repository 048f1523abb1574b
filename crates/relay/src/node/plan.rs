//! What a listener of the configuration does: its protocol options, its policy, its TLS.
//!
//! Invariant: nothing is decided here; the words of the configuration become the options of the
//! machines. Reads the files of certificates.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use merpati_flow::{
    admit::{self, ListenerKind, Policy, Strangers},
    alias::Aliases,
    content::{FromRule, Rules},
};
use merpati_smtp::server::{self, Auth, Discipline, MailNeeds, Mechanism, Offer, Offers, StartTls};

use crate::{
    certificates::{Certificates, Origin, Pair},
    config::{
        AfterCapture, AuthUse, Config, FromCheck, Kind, Network, Pipelining, TlsUse,
        options::{CertificateEntry, Listener},
        strangers::ListEntry,
    },
    listen::{Families, Gate, Limits, Lists, Plan, Sink, Tls},
    self_signed, tls,
};

/// The plan of one listener. Where its certificate cannot be used there is no TLS, until it can.
pub(super) fn plan(
    config: &Config,
    listener: &Listener,
    gate: &Arc<Gate>,
    aliases: Option<&Arc<Aliases>>,
) -> anyhow::Result<Plan> {
    let ca = listener.tls_client_ca.as_ref();
    let clients = ca.map(|ca| tls::client_verifier(ca, listener.tls_client_crl.as_deref()));
    let clients = clients.transpose()?;
    let certificates = certificates(config, listener)?;
    let acceptor =
        certificates.as_ref().map(|certificates| tls::acceptor(certificates.clone(), clients));
    let tls = match (listener.tls, acceptor.transpose()?) {
        (TlsUse::Implicit, Some(acceptor)) => Tls::Implicit(acceptor),
        (TlsUse::StartTls, Some(acceptor)) => Tls::Starttls(acceptor),
        (TlsUse::None | TlsUse::Implicit | TlsUse::StartTls, _) => Tls::Never,
    };
    let sink = match (listener.kind, config.sandbox.after_capture) {
        (Kind::Relay | Kind::Submission, _) => Sink::Queue,
        (Kind::Rehearsal | Kind::Sandbox, AfterCapture::Discard) => Sink::Discard,
        (Kind::Rehearsal | Kind::Sandbox, AfterCapture::Keep) => Sink::Capture,
    };
    let options = session_options(config, listener, &tls);
    let without_tls = server::Options {
        starttls: match options.starttls {
            StartTls::Offered | StartTls::Unavailable => StartTls::Unavailable,
            StartTls::Absent => StartTls::Absent,
        },
        ..options.clone()
    };
    Ok(Plan {
        options: Arc::new(options),
        options_without_tls: Arc::new(without_tls),
        certificates,
        policy: Arc::new(policy(config, listener, aliases)?),
        sink,
        tls,
        gate: Arc::clone(gate),
        write_wait: listener.write_wait,
        handshake_wait: listener.handshake_wait,
        lists: Lists {
            known: networks(&config.relay.networks)?,
            proxies: networks(&listener.proxy_from)?,
            introducers: networks(&listener.xclient_from)?,
        },
    })
}

/// The certificates that a listener shows, made where it has none; `None` where it has no TLS.
fn certificates(config: &Config, listener: &Listener) -> anyhow::Result<Option<Arc<Certificates>>> {
    match listener.tls {
        TlsUse::None => Ok(None),
        TlsUse::Implicit | TlsUse::StartTls => {
            let files = (listener.tls_certificate.as_ref(), listener.tls_key.as_ref());
            shown(config, files).map(Some)
        }
    }
}

/// The certificates that are shown where these files are named for who names nobody.
pub(super) fn shown(
    config: &Config,
    (chain, key): (Option<&PathBuf>, Option<&PathBuf>),
) -> anyhow::Result<Arc<Certificates>> {
    let of_entry = |entry: &CertificateEntry| {
        let origin = if entry.is_ordered() { Origin::Ordered } else { Origin::Kept };
        (config.files_of(entry), origin)
    };
    let mut all = Vec::new();
    if let (Some(chain), Some(key)) = (chain, key) {
        all.push((Pair { chain: chain.clone(), key: key.clone() }, Origin::Kept));
    } else {
        // Until that for our name comes, our own stands in for it.
        all.extend(config.ordered_for_host().map(of_entry));
        let own = self_signed::pair(&config.server.data_dir, &config.server.hostname)?;
        all.push((own, Origin::Kept));
    }
    all.extend(config.certificates.iter().map(of_entry));
    Ok(Arc::new(Certificates::of(all)))
}

/// Who may connect at this address: both families at a wildcard of IPv6, unless IPv4 has the same
/// port elsewhere.
pub(crate) fn families(config: &Config, address: SocketAddr) -> Families {
    let web = config.https.listen.iter().chain(&config.https.http_listen);
    let mut all = config.listeners.iter().flat_map(|listener| &listener.listen).chain(web);
    let has_own = all.any(|other| other.is_ipv4() && other.port() == address.port());
    if has_own && address.port() != 0 { Families::Own } else { Families::Both }
}

/// Why an option cannot have its address, and what to do.
pub(crate) fn cannot_listen(
    config: &Config,
    key: &str,
    address: SocketAddr,
    why: &anyhow::Error,
) -> anyhow::Error {
    let port = address.port();
    let kind = why.downcast_ref::<io::Error>().map(io::Error::kind);
    let help = match kind {
        Some(io::ErrorKind::AddrInUse) => {
            format!("`ss -ltnp 'sport = :{port}'` names the program there; end it, or take another")
        }
        Some(io::ErrorKind::PermissionDenied) => {
            "ports below 1024 are for root, or with the capability CAP_NET_BIND_SERVICE".to_owned()
        }
        Some(io::ErrorKind::AddrNotAvailable) => {
            "`ip address` lists the addresses of this machine".to_owned()
        }
        _ => "take another address".to_owned(),
    };
    anyhow::anyhow!("{}", config.wrong_at(key, format!("{key}: {why:#}"), help).first())
}

/// How many may be inside a listener.
pub(super) fn limits(listener: &Listener) -> Limits {
    Limits {
        connections_max: listener.connections_max.get(),
        connections_per_address_max: listener.connections_per_address_max.get(),
        connections_per_network_max: listener.connections_per_network_max,
        connections_per_minute_max: listener.connections_per_minute_max,
        messages_per_minute_max: listener.messages_per_minute_max,
        recipients_per_minute_max: listener.recipients_per_minute_max,
    }
}

fn networks(named: &[Network]) -> anyhow::Result<Vec<admit::Network>> {
    Ok(named.iter().map(|network| network.to_string().parse()).collect::<Result<_, _>>()?)
}

fn session_options(config: &Config, listener: &Listener, tls: &Tls) -> server::Options {
    let hostname = config.server.hostname.to_string();
    let mut options = server::Options::new(listener.name.as_str(), hostname);
    options.greeting.clone_from(&listener.greeting);
    options.starttls = match tls {
        Tls::Starttls(_) => StartTls::Offered,
        Tls::Implicit(_) | Tls::Never => StartTls::Absent,
    };
    options.auth = match listener.auth {
        AuthUse::AllowClear => Auth::Anywhere,
        AuthUse::Off => Auth::Off,
        AuthUse::TlsOnly => Auth::OverTls,
    };
    options.mechanisms = mechanisms(config, listener);
    options.mail_needs = match listener.kind {
        Kind::Submission => MailNeeds::Auth,
        Kind::Rehearsal | Kind::Relay | Kind::Sandbox => MailNeeds::Nothing,
    };
    options.vrfy = listener.vrfy;
    let offer = |is_on: bool| if is_on { Offer::Offered } else { Offer::Absent };
    options.offers = Offers {
        deliver_by_min: listener.deliver_by_min,
        future_release_max: listener.future_release_max,
        mt_priority: offer(listener.mt_priority),
        require_tls: offer(listener.requiretls),
    };
    options.limits.message_bytes_max = listener.message_size_max.0;
    options.limits.recipients_max =
        usize::try_from(listener.recipients_max.get()).unwrap_or(usize::MAX);
    options.limits.transactions_max = listener.transactions_max.get();
    options.limits.bad_commands_max = listener.bad_commands_max.get();
    options.limits.auth_failures_max = listener.auth_failures_max.get();
    options.waits.command_wait = listener.command_wait;
    options.waits.data_block_wait = listener.data_block_wait;
    options.waits.content_grace = listener.content_grace;
    options.waits.content_rate_min = listener.content_rate_min.get().into();
    options.waits.transaction_wait = listener.transaction_wait;
    options.waits.greeting_wait = listener.greeting_wait.unwrap_or(Duration::ZERO);
    options.early_talkers = match listener.greeting_wait {
        Some(_) => Discipline::Enforced,
        None => Discipline::Tolerated,
    };
    options.pipelining = match listener.pipelining {
        Pipelining::Enforced => Discipline::Enforced,
        Pipelining::Tolerated => Discipline::Tolerated,
    };
    options
}

/// The mechanisms of the listener but for those for which something is missing.
fn mechanisms(config: &Config, listener: &Listener) -> Vec<Mechanism> {
    let can_work = |mechanism: &Mechanism| match mechanism {
        Mechanism::External => listener.tls_client_ca.is_some(),
        Mechanism::Oauthbearer | Mechanism::Xoauth2 => !config.token_issuers.is_empty(),
        Mechanism::Login
        | Mechanism::Plain
        | Mechanism::ScramSha256
        | Mechanism::ScramSha256Plus => true,
    };
    listener.auth_mechanisms.iter().copied().filter(can_work).collect()
}

/// What a listener admits; errs where a file that it needs cannot be read.
pub(crate) fn policy(
    config: &Config,
    listener: &Listener,
    aliases: Option<&Arc<Aliases>>,
) -> anyhow::Result<Policy> {
    let relay = &config.relay;
    let confined = config.credentials.iter().filter(|entry| entry.internal_only);
    let issuers = config.token_issuers.iter();
    Ok(Policy {
        kind: match listener.kind {
            Kind::Rehearsal | Kind::Relay => ListenerKind::Relay,
            Kind::Sandbox => ListenerKind::Sandbox,
            Kind::Submission => ListenerKind::Submission,
        },
        local_domains: relay.local_domains.iter().cloned().collect(),
        networks: networks(&relay.networks)?,
        senders: config.senders(),
        vouched_domains: issuers.flat_map(|issuer| issuer.domains.iter().cloned()).collect(),
        size_bytes_max: listener.message_size_max.0,
        hops_max: usize::try_from(relay.hops_max.get()).unwrap_or(usize::MAX),
        contents: Rules {
            authors: config.authentication.rules(&config.authors),
            authors_are_verified: config.signing.require_verified,
            authserv_ids: relay.authserv_ids.iter().chain(&relay.local_domains).cloned().collect(),
            from: match listener.from_check {
                FromCheck::Off => FromRule::Any,
                FromCheck::One => FromRule::One,
                FromCheck::Readable => FromRule::Readable,
            },
            line_octets_max: listener.line_length_max.map(|octets| octets.0),
            router: config.router(),
        },
        strangers: strangers(config)?,
        aliases: match listener.kind {
            Kind::Rehearsal | Kind::Relay | Kind::Submission => aliases.cloned(),
            // It shows what was sent.
            Kind::Sandbox => None,
        },
        internal_domains: relay.internal_domains.iter().cloned().collect(),
        confined: confined.map(|entry| entry.name.clone()).collect(),
    })
}

/// What is asked about clients that nobody vouches for, and about recipients; errs where the file
/// of recipients cannot be read.
fn strangers(config: &Config) -> anyhow::Result<Strangers> {
    let options = &config.strangers;
    let known = options.known_networks.iter().map(|network| network.to_string().parse());
    Ok(Strangers {
        names: options.rdns,
        sender_domain: options.sender_domain,
        lists: config.lists.iter().map(ListEntry::list).collect::<Result<_, _>>()?,
        greylisting: config.greylist.greylisting(),
        known: known.collect::<Result<_, _>>()?,
        recipients: config.recipients.verification()?,
    })
}
