//! Which connections are open: idle ones to be used again, and how many there may be.
//!
//! Invariant: a connection counts from before it is made until it is dropped; idle ones give way to
//! new ones where there are too many. Not pure: shared between tasks.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use merpati_mail::{Domain, Time};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::Connection;

/// What makes two connections the same way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The name of the rule, which stands for its egress source, TLS and login.
    pub(super) rule: Arc<str>,
    /// The host as the route or the MX record names it.
    pub(super) host: Domain,
    /// Its address; `None` for a Unix socket.
    pub(super) address: Option<IpAddr>,
    /// The port, or the path of the socket.
    pub(super) place: Arc<str>,
    /// Whether LMTP is spoken.
    pub(super) is_lmtp: bool,
}

/// A place among the connections of all and of one host.
pub(super) struct Permits {
    _all: OwnedSemaphorePermit,
    _host: OwnedSemaphorePermit,
}

/// The connections.
pub(super) struct Pool {
    all: Arc<Semaphore>,
    per_host_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: HashMap<Key, Vec<Connection>>,
    hosts: HashMap<(Arc<str>, Domain), Arc<Semaphore>>,
}

impl Pool {
    pub(super) fn new(connections_max: usize, per_host_max: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS))),
            per_host_max: per_host_max.clamp(1, Semaphore::MAX_PERMITS),
            state: Mutex::default(),
        }
    }

    /// The idle connection that was used last.
    pub(super) fn take(&self, key: &Key) -> Option<Connection> {
        let mut state = self.lock();
        let idle = state.idle.get_mut(key)?;
        let connection = idle.pop();
        if idle.is_empty() {
            state.idle.remove(key);
        }
        connection
    }

    /// Keeps a connection on which nothing is under way.
    pub(super) fn keep(&self, connection: Connection) {
        let key = connection.key.clone();
        self.lock().idle.entry(key).or_default().push(connection);
    }

    /// A place for a connection from this egress source to this host; waits until there is one.
    /// `None` where none will come.
    pub(super) async fn permit(&self, source: &Arc<str>, host: &Domain) -> Option<Permits> {
        let semaphore = {
            let mut state = self.lock();
            if state.hosts.len() > HOSTS_MAX {
                // Nobody waits at, nor has a place of, what only we hold.
                state.hosts.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            }
            let new = || Arc::new(Semaphore::new(self.per_host_max));
            Arc::clone(state.hosts.entry((Arc::clone(source), host.clone())).or_insert_with(new))
        };
        // An idle connection to another address of the host, or of another rule, gives way.
        if semaphore.available_permits() == 0 {
            drop(self.oldest_idle(|key| &key.host == host));
        }
        let for_host = semaphore.acquire_owned().await.ok()?;
        if self.all.available_permits() == 0 {
            drop(self.oldest_idle(|_| true));
        }
        let in_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Permits { _all: in_all, _host: for_host })
    }

    /// Takes out the connections that were not used since `before`.
    pub(super) fn stale(&self, before: Time) -> Vec<Connection> {
        let mut state = self.lock();
        let mut ended = Vec::new();
        state.idle.retain(|_, idle| {
            ended.extend(idle.extract_if(.., |connection| connection.used_at <= before));
            !idle.is_empty()
        });
        ended
    }

    fn oldest_idle(&self, fits: impl Fn(&Key) -> bool) -> Option<Connection> {
        let mut state = self.lock();
        let fitting = state.idle.iter().filter(|(key, _)| fits(key));
        let aged = fitting.filter_map(|(key, idle)| Some((idle.first()?.used_at, key)));
        let key = aged.min_by_key(|(at, _)| *at)?.1.clone();
        let idle = state.idle.get_mut(&key)?;
        let connection = (!idle.is_empty()).then(|| idle.remove(0));
        if idle.is_empty() {
            state.idle.remove(&key);
        }
        connection
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hosts that are remembered before those without connections are forgotten.
const HOSTS_MAX: usize = 10_000;
