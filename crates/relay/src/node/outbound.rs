//! What the configuration means for mail that goes out: the options of the core, the resolver and
//! the deliverer.
//!
//! Invariant: nothing is decided here; the words of the configuration become the options of the
//! machines. Reads the files of passwords and of
//! certificates.

use std::{net::SocketAddr, num::NonZeroU32, sync::Arc};

use anyhow::Context;
use merpati_flow::{Options as CoreOptions, alias::Aliases};
use merpati_smtp::client;

use crate::{
    admin::RouteFacts,
    certificates::Certificates,
    clock::Clock,
    config::{
        Config,
        next_hop::To,
        outbound::{Login, RouteEntry},
        values::RouteTls,
    },
    deliver::{CertificateTrust, Deliverer, Egress, Options as DeliverOptions, Profile, Tools},
    resolve::{Options as ResolverOptions, Resolver, Signatures},
    sinks::Sinks,
    sts::{self, Policies},
    tls,
};

/// How the core decides.
pub(super) fn core_options(config: &Config, aliases: Option<Arc<Aliases>>) -> CoreOptions {
    let delivery = &config.delivery;
    let mut options = CoreOptions::new(config.server.hostname.clone(), config.router());
    options.retry = config.retry.plan();
    options.jobs_max = count(delivery.attempts_max);
    options.jobs_per_lane_max = count(delivery.connections_per_host_max);
    options.recipients_per_job_max = count(delivery.recipients_max);
    options.port = delivery.port.get();
    options.delay_report_after = config.retry.delay_report_after;
    options.postmaster.clone_from(&delivery.postmaster);
    options.aliases = aliases;
    options
}

/// Who answers questions; `own` are the sockets on which we listen.
pub(crate) fn resolver(
    config: &Config,
    own: Vec<SocketAddr>,
    clock: Arc<Clock>,
) -> anyhow::Result<Resolver> {
    let (dns, delivery) = (&config.dns, &config.delivery);
    let allowed = delivery.allow_networks.iter().map(|network| network.to_string().parse());
    let options = ResolverOptions {
        servers: dns.servers.clone(),
        query_wait: dns.query_wait,
        tries: count(dns.tries),
        cache_entries: count(dns.cache_entries),
        trust_anchor: dns.trust_anchor.clone(),
        validate: dns.validate,
        port: delivery.port.get(),
        allowed: allowed.collect::<Result<_, _>>()?,
        own,
    };
    Resolver::new(options, clock)
}

/// Who carries out attempts.
pub(super) fn deliverer(
    config: &Config,
    resolver: Resolver,
    tools: Tools,
) -> anyhow::Result<Deliverer> {
    let delivery = &config.delivery;
    let profiles = config.routes.iter().map(|route| {
        let profile = profile(config, route).with_context(|| format!("route {}", route.name))?;
        Ok((Arc::from(route.name.as_str()), profile))
    });
    let per_route = config.routes.iter().filter_map(|route| route.connections_max);
    // A route may have more connections than others are allowed.
    let per_host = per_route.chain([delivery.connections_per_host_max]).max();
    let options = DeliverOptions {
        profiles: profiles.collect::<anyhow::Result<_>>()?,
        hostname: config.server.hostname.clone(),
        connections_max: count(delivery.connections_max),
        connections_per_host_max: per_host.map_or(1, count),
        messages_per_connection_max: delivery.messages_per_connection_max.get(),
        recipients_max: count(delivery.recipients_max),
        idle_wait: delivery.idle_wait,
        connect_wait: delivery.connect_wait,
        attempt_wait: delivery.attempt_wait,
        dane: delivery.dane,
        timeouts: delivery.timeouts(),
    };
    let policies = policies(config, &resolver, &tools.clock)?;
    Deliverer::new(options, resolver, Tools { policies, ..tools })
}

/// The policies of others; `None` where none are wanted, or no host could prove that one is its
/// own: a machine without CAs sends mail all the same.
fn policies(
    config: &Config,
    resolver: &Resolver,
    clock: &Arc<Clock>,
) -> anyhow::Result<Option<Policies>> {
    if !config.delivery.mta_sts {
        return Ok(None);
    }
    if let Err(why) = tls::connector(tls::Trust::System, None) {
        tracing::warn!("MTA-STS IS OFF: {why:#}. Mail goes on without it");
        return Ok(None);
    }
    let options = sts::Options {
        port: config.delivery.mta_sts_port.get(),
        ..sts::Options::new(config.server.data_dir.join(sts::DIRECTORY))
    };
    let policies = Policies::new(options, resolver.clone(), Arc::clone(clock));
    policies.map(Some).context("the policies of MTA-STS")
}

/// Has answers to deliveries proven where a route goes by DANE, and says loudly where they cannot
/// be.
pub(super) fn prove(config: &Config, resolver: &Resolver, sinks: &Sinks) {
    sinks.metrics().dane(false);
    let follows = |route: &RouteEntry| {
        route.to.next_hop() == merpati_mail::NextHop::Mx
            && route.tls_policies
            && route.tls != RouteTls::Never
    };
    if !config.delivery.dane || !config.routes.iter().any(follows) {
        return;
    }
    let sinks = sinks.clone();
    resolver.start_proving(Box::new(move |found| {
        sinks.metrics().dane(*found == Signatures::HandedOver);
        let why = match found {
            Signatures::HandedOver => {
                return tracing::info!("what DNS says of hosts is proven: DANE is on");
            }
            // They are for a network of their own, where nobody expects it.
            Signatures::NoRoot(why) => {
                return tracing::info!("the name servers know no root ({why}): DANE is off");
            }
            Signatures::Silence(why) => format!("no name server answers ({why})"),
            Signatures::Stripped => {
                "the name servers do not hand over signatures (DNSSEC)".to_owned()
            }
        };
        tracing::warn!(
            "DANE IS OFF: {why}. Mail goes on without it, and the relay looks again every 5 \
             minutes; see `merpati doctor`"
        );
    }));
}

/// What the configuration says of routes, for who explains them.
pub(super) fn route_facts(config: &Config) -> Vec<RouteFacts> {
    let facts = |route: &RouteEntry| RouteFacts {
        rule: route.name.as_str().to_owned(),
        tls: route.tls.word().to_owned(),
        egress: config.egress(route).name,
    };
    config.routes.iter().map(facts).collect()
}

fn profile(config: &Config, route: &RouteEntry) -> anyhow::Result<Profile> {
    let egress = config.egress(route);
    let login = route.login()?.map(|Login { user, password, may_be_clear }| client::Credential {
        user,
        password: password.expose().to_owned(),
        exposure: if may_be_clear {
            client::Exposure::InClear
        } else {
            client::Exposure::OverTlsOnly
        },
    });
    Ok(Profile {
        egress: Egress {
            name: egress.name.into(),
            addresses: egress.addresses,
            hello: egress.hello,
        },
        tls: match (&route.to, route.tls) {
            (To::Smtps(_), _) => client::TlsUse::Implicit,
            (_, RouteTls::Never) => client::TlsUse::Never,
            (_, RouteTls::Opportunistic) => client::TlsUse::Opportunistic,
            (_, RouteTls::Required) => client::TlsUse::Required,
        },
        trust: match (route.tls_verify, &route.tls_ca) {
            (false, _) => CertificateTrust::Any,
            (true, Some(path)) => CertificateTrust::File(path.clone()),
            (true, None) => CertificateTrust::System,
        },
        certificates: route.certificate().map(|pair| Arc::new(Certificates::load(pair, []))),
        login,
        follows_policies: route.tls_policies,
        is_mx: route.to.next_hop() == merpati_mail::NextHop::Mx,
    })
}

fn count(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}
