//! How another configuration is taken up while mail goes on.
//!
//! Invariant: all that can fail is done first, and changes nothing that is seen; where it fails,
//! the relay goes on as it was. What cannot change while the relay runs is named. Not pure.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context;
use merpati_console::{AdminError, admin};
use merpati_flow::alias::Aliases;
use merpati_mail::Event;
use merpati_spool::Group;

use super::{
    Node, Signals, config_digest,
    https::{Made, Web},
    inbound::{Found, Opened},
    outbound, quota, strangers, target,
};
use crate::{
    admin::{Setup, Socket},
    auth::Authenticator,
    conductor::Means,
    config::Config,
    listen::Shared,
    pressure::watch,
    sinks::{LogWriter, Notice, Reloaded},
    tls_reports,
};

/// All that a configuration needs, made and not yet used.
struct Draft {
    opened: Opened,
    means: Means,
    shared: Shared,
    aliases: Option<Arc<Aliases>>,
    log: LogWriter,
    site: Option<Made>,
}

impl Node {
    /// Reads the configuration again and goes by it; where that cannot be, nothing changes.
    pub(super) fn reload(&mut self, signals: &mut Signals) -> Result<admin::Reloaded, AdminError> {
        self.notifier.reloading();
        let done = self.take_up(signals);
        self.notifier.ready();
        let at = self.clock.now();
        self.sinks.metrics().reloaded(done.is_ok());
        let told = match &done {
            Ok(admin::Reloaded { changed, at_restart }) => Reloaded {
                at,
                changed: changed.clone(),
                at_restart: at_restart.clone(),
                refused: None,
            },
            Err(why) => {
                tracing::error!("the configuration was not reloaded:\n{why}");
                let (changed, at_restart) = (Vec::new(), Vec::new());
                Reloaded { at, changed, at_restart, refused: Some(why.to_string()) }
            }
        };
        self.sinks.tell([Notice::Reloaded(told)]);
        done
    }

    fn take_up(&mut self, signals: &mut Signals) -> Result<admin::Reloaded, AdminError> {
        let config = (self.again)().map_err(AdminError::Config)?;
        let changed = changed(&self.config, &config);
        let (at_restart, changed) = changed.into_iter().partition(|key| is_for_restart(key));
        let config = self.with_lasting(config);
        let draft = self.draft(&config).map_err(|why| AdminError::Config(format!("{why:#}")))?;
        let before = self.adopt(config, draft, signals).map_err(|why| {
            AdminError::Unavailable(format!("the relay could not go on by it: {why:#}"))
        })?;
        tokio::spawn(async move { before.close().await });
        Ok(admin::Reloaded { changed, at_restart })
    }

    /// The configuration, but for what must stay as it is until the next start.
    fn with_lasting(&self, mut config: Config) -> Config {
        let now = &self.config;
        config.server.data_dir.clone_from(&now.server.data_dir);
        config.server.control_socket.clone_from(&now.server.control_socket);
        config.server.http_listen.clone_from(&now.server.http_listen);
        config.server.user.clone_from(&now.server.user);
        config.server.group.clone_from(&now.server.group);
        config.server.confine = now.server.confine;
        config.server.writable.clone_from(&now.server.writable);
        config.https.listen.clone_from(&now.https.listen);
        config.https.http_listen.clone_from(&now.https.http_listen);
        config.spool = now.spool.clone();
        config.history = now.history.clone();
        config.telemetry = now.telemetry.clone();
        config.greylist = now.greylist.clone();
        config
    }

    /// Makes all that can fail.
    fn draft(&self, config: &Config) -> anyhow::Result<Draft> {
        let aliases = super::rewriting(super::aliases(config)?, config)?;
        let tables = (config, aliases.as_ref());
        let opened = Opened::new(tables, Found::Doors(&self.doors), &self.gates)?;
        let own = opened.addresses(&self.doors);
        let told = (Arc::clone(&self.clock), self.sinks.clone());
        let resolver = outbound::resolver(config, own, Arc::clone(&self.clock))?;
        let deliverer = outbound::deliverer(config, resolver.clone(), self.tools())?;
        let askers = (resolver.clone(), deliverer.clone());
        let world = strangers::world(config, askers, self.greylist.clone(), told)?;
        let log = LogWriter::open(&target(config)).context("cannot open the mail log")?;
        let options = outbound::core_options(config, aliases.clone());
        let means = Means { options, resolver, deliverer };
        let before = self.shared.as_ref().context("nobody listens yet")?;
        // The last one: it judges by the new rules at once.
        let authenticator = Authenticator::after(config, &before.authenticator)?;
        let shared = self.shared_with(config, authenticator, world)?;
        let site = self.site(config)?;
        Ok(Draft { opened, means, shared, aliases, log, site })
    }

    /// Goes by what was made; gives who delivered before.
    fn adopt(
        &mut self,
        config: Config,
        draft: Draft,
        signals: &mut Signals,
    ) -> anyhow::Result<crate::deliver::Deliverer> {
        let Draft { opened, means, shared, aliases, log, site } = draft;
        if let Some((web, made)) = self.web.as_mut().zip(site) {
            web.adopt(&config, made);
        }
        let outbound = self.outbound.as_mut().context("nobody delivers yet")?;
        let (resolver, deliverer) = (means.resolver.clone(), means.deliverer.clone());
        outbound::prove(&config, &resolver, &self.sinks);
        outbound.conductor.reconfigure(means);
        if let Some(reports) = &self.reports {
            reports.configure(tls_reports::Options::of(&config));
        }
        outbound.resolver = resolver.clone();
        let before = std::mem::replace(&mut outbound.deliverer, deliverer);
        let http = |socket: &&Socket| socket.kind == HTTP;
        let setups = self.setup.as_ref().context("nobody is served yet")?;
        let mut sockets = opened.sockets(&config, &self.doors);
        sockets.extend(setups.get().sockets.iter().filter(http).cloned());
        sockets.extend(self.web.iter().flat_map(|web| web.sockets(&config)));
        let addresses: Vec<_> =
            sockets.iter().map(|socket| (socket.name.clone(), socket.address)).collect();
        setups.set(Arc::new(Setup {
            config: Arc::new(config.clone()),
            sockets,
            plans: opened.plans.clone(),
            world: shared.world.clone(),
            resolver,
            deliverer: outbound.deliverer.clone(),
            hostname: config.server.hostname.clone(),
            mx_port: config.delivery.port.get(),
            routes: outbound::route_facts(&config),
            aliases: aliases.clone(),
        }));
        let mut certificates = opened.certificates();
        certificates.extend(outbound.deliverer.certificates());
        certificates.extend(self.web.iter().map(Web::certificates));
        for one in &certificates {
            one.keep(&signals.certificates);
        }
        signals.certificates = certificates;
        let gone = std::mem::replace(&mut self.gates, opened.gates.clone());
        // Who is inside of a listener that is no more is waited for at the end.
        for (name, gate) in gone {
            self.gates.entry(name).or_insert(gate);
        }
        let shared = Arc::new(shared);
        opened.adopt(&config, &mut self.doors, &shared);
        self.shared = Some(shared);
        self.sinks.turn_log(log);
        self.store.set_quota(quota(&config));
        self.set_limits(watch::limits(&config.limits));
        if let Err(error) = self.say_where(&addresses) {
            tracing::warn!(%error, "the file `listening` cannot be written");
        }
        let digest = config_digest(&config);
        let event = Event::ConfigChanged { digest };
        // Where the journal takes nothing, the relay ends anyway.
        self.committer.commit_lazily(Group::of(self.clock.now(), event)).ok();
        if let Some(ordering) = &self.ordering {
            ordering.send(Arc::new(config.clone())).ok();
        }
        (self.config, self.aliases) = (config, aliases);
        Ok(before)
    }
}

/// The options that have another value, in the order of their names.
fn changed(before: &Config, after: &Config) -> Vec<String> {
    let values = |config: &Config| -> BTreeMap<String, String> {
        let all = config.effective.iter();
        all.map(|option| (option.key.clone(), option.value.clone())).collect()
    };
    let (before, after) = (values(before), values(after));
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let differs = |key: &&String| before.get(*key) != after.get(*key);
    keys.into_iter().filter(differs).cloned().collect()
}

/// Whether an option holds only from the next start on.
fn is_for_restart(key: &str) -> bool {
    FOR_RESTART.iter().any(|lasting| match lasting.strip_suffix('.') {
        Some(section) => key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.')),
        None => key == *lasting,
    })
}

/// Options, and sections with a dot, that hold only from the next start on.
const FOR_RESTART: [&str; 13] = [
    "greylist.",
    "history.",
    "https.http_listen",
    "https.listen",
    "server.confine",
    "server.control_socket",
    "server.data_dir",
    "server.group",
    "server.http_listen",
    "server.user",
    "server.writable",
    "spool.",
    "telemetry.",
];
/// The kind of the sockets of the HTTP API.
const HTTP: &str = "http";

#[cfg(test)]
mod tests {
    use super::*;

    fn config(settings: &[&str]) -> Config {
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        Config::of(Vec::new(), &BTreeMap::new(), &settings).unwrap()
    }

    #[test]
    fn what_differs_is_named_and_what_holds_only_at_a_start_is_told_apart() {
        let before = config(&["server.hostname=a.example"]);
        let after = config(&["server.hostname=b.example", "spool.journal_max=1GiB"]);
        let keys = changed(&before, &after);
        assert_eq!(keys, ["server.hostname", "spool.journal_max"]);
        let later: Vec<bool> = keys.iter().map(|key| is_for_restart(key)).collect();
        assert_eq!(later, [false, true]);
        assert!(changed(&before, &before).is_empty());
    }
}
