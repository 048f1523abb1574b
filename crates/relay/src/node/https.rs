//! The listener for the web: its sockets, and what a reload changes of it.
//!
//! Invariant: its sockets live as long as the process. Not pure: opens sockets, spawns.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpListener;

use super::{Node, plan};
use crate::{
    acme::challenges::Resolver,
    admin::Socket,
    certificates::Certificates,
    config::Config,
    https::{self, Entrance, Site, Slot, answer::Answers},
    listen::{Gate, Limits},
    mta_sts::Policy,
    self_signed,
};

/// The listener for the web while the process lives.
#[derive(Debug)]
pub(super) struct Web {
    slot: Arc<Slot>,
    certificates: Arc<Certificates>,
    sockets: Vec<(Entrance, SocketAddr)>,
}

/// A site, and the certificates that it shows.
pub(super) type Made = (Arc<Site>, Arc<Certificates>);

impl Web {
    /// What the operator is told of its sockets.
    pub(super) fn sockets(&self, config: &Config) -> impl Iterator<Item = Socket> {
        let is_self_signed = self_signed::is_for_web(config);
        self.sockets.iter().map(move |(entrance, address)| {
            let (name, is_self_signed) = match entrance {
                Entrance::Plain => ("https-plain", false),
                Entrance::Tls => ("https", is_self_signed),
            };
            Socket::of_web(name, *address, Arc::clone(self.slot.gate()), is_self_signed)
        })
    }

    /// The certificates that it shows.
    pub(super) fn certificates(&self) -> Arc<Certificates> {
        Arc::clone(&self.certificates)
    }

    /// Serves by another site from now on.
    pub(super) fn adopt(&mut self, config: &Config, (site, certificates): Made) {
        self.slot.gate().set_limits(limits(config));
        self.slot.set(site);
        self.certificates = certificates;
    }
}

impl Node {
    /// Begins to serve, where an address is named.
    pub(super) fn open_web(&mut self) -> anyhow::Result<()> {
        let [with, without] = self.sockets.web(&self.config)?;
        let Some((site, certificates)) = self.site(&self.config)? else { return Ok(()) };
        let gate = Gate::new(limits(&self.config));
        let slot = Arc::new(Slot::new(site, gate, Arc::clone(&self.clock)));
        let mut sockets = Vec::new();
        let with = with.into_iter().map(|socket| (Entrance::Tls, socket));
        let without = without.into_iter().map(|socket| (Entrance::Plain, socket));
        for (entrance, socket) in with.chain(without) {
            let socket = TcpListener::from_std(socket)?;
            sockets.push((entrance, socket.local_addr()?));
            tokio::spawn(https::accept(socket, entrance, Arc::clone(&slot)));
        }
        self.web = Some(Web { slot, certificates, sockets });
        Ok(())
    }

    /// What is served by this configuration; `None` where nothing is.
    pub(super) fn site(&self, config: &Config) -> anyhow::Result<Option<Made>> {
        let options = &config.https;
        if options.listen.is_empty() && options.http_listen.is_empty() {
            return Ok(None);
        }
        let files = (options.tls_certificate.as_ref(), options.tls_key.as_ref());
        let certificates = plan::shown(config, files)?;
        let policies = config.policies.iter();
        let policies = policies.map(|entry| Policy::of(entry, &config.server.hostname)).collect();
        let challenges = Arc::clone(&self.challenges);
        let resolver = Resolver { certificates: Arc::clone(&certificates), challenges };
        let answers = Answers {
            policies,
            health: Arc::clone(&self.health),
            challenges: Arc::clone(&self.challenges),
        };
        let site = Site {
            answers: Arc::new(answers),
            tls: https::acceptor(resolver)?,
            request_wait: options.request_wait,
        };
        Ok(Some((Arc::new(site), certificates)))
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        connections_max: config.https.connections_max.get(),
        connections_per_address_max: config.https.connections_per_address_max.get(),
        connections_per_network_max: None,
        connections_per_minute_max: None,
        messages_per_minute_max: None,
        recipients_per_minute_max: None,
    }
}
