//! The sockets on which mail comes in, and by what those who come are served.
//!
//! Invariant: a socket that is wanted before and after a reload is never closed in between, and
//! nobody is served by half of a configuration. Not pure: opens sockets, spawns.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use merpati_flow::alias::Aliases;
use tokio::{net::TcpListener, task::JoinHandle};

use super::plan;
use crate::{
    admin::Socket,
    certificates::Certificates,
    config::{Config, options::Listener},
    listen::{self, Gate, Plan, Shared, Slot},
    process::Sockets,
    self_signed,
};

/// Who is inside of each listener, by its name.
pub(super) type Gates = BTreeMap<String, Arc<Gate>>;

/// A socket on which clients are served.
#[derive(Debug)]
pub(super) struct Door {
    at: Place,
    slot: Arc<Slot>,
    task: JoinHandle<()>,
}

impl Door {
    /// Has connections served by these from now on; those that are open go on by what they began
    /// with.
    pub(super) fn share(&self, shared: &Arc<Shared>) {
        self.slot.share(Arc::clone(shared));
    }
}

/// Where a socket is.
#[derive(Clone, Debug)]
struct Place {
    /// The name of its listener.
    listener: String,
    /// As the configuration wants it; port 0 where any free one will do.
    wanted: SocketAddr,
    /// As it is.
    local: SocketAddr,
    /// Whether the service manager passed it for the listener, whatever addresses that names.
    is_foreign: bool,
}

/// Where a configuration finds sockets.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// Those on which clients are served, in a reload.
    Doors(&'a [Door]),
    /// Those that were opened before anything else, at the start.
    Sockets(&'a mut Sockets),
}

/// The listeners of a configuration: their plans, and the sockets on which nobody is served yet.
#[derive(Debug)]
pub(super) struct Opened {
    /// What each listener does, in the order of the configuration.
    pub(super) plans: Vec<Arc<Plan>>,
    /// Those who are inside, and the listeners that nobody was inside of.
    pub(super) gates: Gates,
    /// The place of the plan in `plans` for each socket.
    fresh: Vec<(usize, Place, TcpListener)>,
    /// The same for those that are open already: their places among the doors.
    kept: Vec<(usize, usize)>,
}

impl Opened {
    /// Makes the plans, and opens the sockets that no door of `doors` is. Nothing that is served
    /// changes before [`Self::adopt`].
    pub(super) fn new(
        (config, aliases): (&Config, Option<&Arc<Aliases>>),
        mut found: Found<'_>,
        gates: &Gates,
    ) -> anyhow::Result<Self> {
        let mut opened =
            Self { plans: Vec::new(), gates: Gates::new(), fresh: Vec::new(), kept: Vec::new() };
        for listener in &config.listeners {
            let name = listener.name.as_str();
            let gate = gates.get(name).cloned();
            let gate = gate.unwrap_or_else(|| Gate::new(plan::limits(listener)));
            let plan = plan::plan(config, listener, &gate, aliases)?;
            opened.gates.insert(name.to_owned(), gate);
            opened.plans.push(Arc::new(plan));
            match &mut found {
                Found::Doors(doors) => opened.find_sockets(config, listener, doors)?,
                Found::Sockets(sockets) => opened.take_sockets(config, listener, sockets)?,
            }
        }
        Ok(opened)
    }

    /// Takes what was passed or bound when the process began.
    fn take_sockets(
        &mut self,
        config: &Config,
        listener: &Listener,
        sockets: &mut Sockets,
    ) -> anyhow::Result<()> {
        let number = self.plans.len() - 1;
        for socket in sockets.of(config, listener)? {
            let socket = TcpListener::from_std(socket)?;
            let local = socket.local_addr()?;
            let is_it = |wanted: &&SocketAddr| {
                wanted.ip() == local.ip() && [0, local.port()].contains(&wanted.port())
            };
            let wanted = listener.listen.iter().find(is_it).copied();
            let place = Place {
                listener: listener.name.as_str().to_owned(),
                wanted: wanted.unwrap_or(local),
                local,
                is_foreign: wanted.is_none(),
            };
            self.fresh.push((number, place, socket));
        }
        Ok(())
    }

    fn find_sockets(
        &mut self,
        config: &Config,
        listener: &Listener,
        doors: &[Door],
    ) -> anyhow::Result<()> {
        let number = self.plans.len() - 1;
        let name = listener.name.as_str();
        let foreign = |(_, door): &(usize, &Door)| door.at.is_foreign && door.at.listener == name;
        let foreign: Vec<_> = doors.iter().enumerate().filter(foreign).collect();
        if !foreign.is_empty() {
            self.kept.extend(foreign.into_iter().map(|(place, _)| (number, place)));
            return Ok(());
        }
        for &wanted in &listener.listen {
            let is_it = |(place, door): &(usize, &Door)| {
                let is_named = wanted.port() != 0 || door.at.listener == name;
                door.at.wanted == wanted
                    && is_named
                    && self.kept.iter().all(|(_, taken)| taken != place)
            };
            if let Some((place, _)) = doors.iter().enumerate().find(is_it) {
                self.kept.push((number, place));
                continue;
            }
            let socket = listen::bind(wanted, plan::families(config, wanted)).map_err(|why| {
                let key = format!("listener.{name}.listen");
                let own = doors.iter().find(|door| door.at.local.port() == wanted.port());
                let why = plan::cannot_listen(config, &key, wanted, &why);
                match own {
                    Some(own) => anyhow::anyhow!(
                        "{why}\nhelp: this relay itself is at {}; it takes a restart to change",
                        own.at.local
                    ),
                    None => why,
                }
            })?;
            let local = socket.local_addr()?;
            let listener = name.to_owned();
            let place = Place { listener, wanted, local, is_foreign: false };
            self.fresh.push((number, place, socket));
        }
        Ok(())
    }

    /// The true addresses.
    pub(super) fn addresses(&self, doors: &[Door]) -> Vec<SocketAddr> {
        let kept = self.kept.iter().filter_map(|(_, place)| doors.get(*place));
        let kept = kept.map(|door| door.at.local);
        self.fresh.iter().map(|(_, place, _)| place.local).chain(kept).collect()
    }

    /// What the operator is told of the sockets, in the order of the configuration.
    pub(super) fn sockets(&self, config: &Config, doors: &[Door]) -> Vec<Socket> {
        let fresh = self.fresh.iter().map(|(number, place, _)| (*number, place.local));
        let kept = self.kept.iter();
        let kept = kept.filter_map(|(number, at)| Some((*number, doors.get(*at)?.at.local)));
        let mut all: Vec<(usize, SocketAddr)> = fresh.chain(kept).collect();
        all.sort_by_key(|(number, _)| *number);
        let socket = |(number, address): (usize, SocketAddr)| {
            let listener = config.listeners.get(number)?;
            let name = listener.name.as_str().to_owned();
            let gate = self.gates.get(&name).cloned();
            let is_self_signed = self_signed::is_for(config, listener);
            Some(Socket { name, kind: listener.kind.word(), address, gate, is_self_signed })
        };
        all.into_iter().filter_map(socket).collect()
    }

    /// All certificates that are shown.
    pub(super) fn certificates(&self) -> Vec<Arc<Certificates>> {
        self.plans.iter().filter_map(|plan| plan.certificates.clone()).collect()
    }

    /// Serves on all sockets by these plans from now on, and closes those that nobody wants any
    /// more. Connections that are open go on by what they began with.
    pub(super) fn adopt(self, config: &Config, doors: &mut Vec<Door>, shared: &Arc<Shared>) {
        for (listener, plan) in config.listeners.iter().zip(&self.plans) {
            plan.gate.set_limits(plan::limits(listener));
        }
        let mut before: Vec<Option<Door>> = std::mem::take(doors).into_iter().map(Some).collect();
        for (number, place) in self.kept {
            let Some(plan) = self.plans.get(number) else { continue };
            let Some(mut door) = before.get_mut(place).and_then(Option::take) else { continue };
            door.slot.set(Arc::clone(plan), Arc::clone(shared));
            door.at.listener.clone_from(&plan.options.listener);
            doors.push(door);
        }
        for door in before.into_iter().flatten() {
            door.task.abort();
        }
        for (number, at, socket) in self.fresh {
            let Some(plan) = self.plans.get(number) else { continue };
            let slot = Arc::new(Slot::new(Arc::clone(plan), Arc::clone(shared)));
            let task = tokio::spawn(listen::accept(socket, Arc::clone(&slot)));
            doors.push(Door { at, slot, task });
        }
    }
}
