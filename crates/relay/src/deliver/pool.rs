//! Which connections are open: idle ones to be used again, and how many there may be.
//!
//! Invariant: a connection counts from before it is made until it is dropped. Who waits for a place
//! gets the next one that comes free, be it an idle connection or that of one which gives way; so
//! nobody waits while a connection is idle. Not pure: shared between tasks.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use merpati_mail::{Domain, Time};
use tokio::sync::Notify;

use super::{connection::Connection, guard::Lock};

/// What makes two connections the same way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The name of the rule, which stands for its TLS and login.
    pub(super) rule: Arc<str>,
    /// The name of the egress source.
    pub(super) source: Arc<str>,
    /// The host as the route or the MX record names it.
    pub(super) host: Domain,
    /// Its address; `None` for a Unix socket.
    pub(super) address: Option<IpAddr>,
    /// The port, or the path of the socket.
    pub(super) place: Arc<str>,
    /// Whether LMTP is spoken.
    pub(super) is_lmtp: bool,
    /// How it is protected.
    pub(super) lock: Lock,
}

/// A connection that waits. It goes from hand to hand, so it stays where it is.
pub(super) type Idle = Box<Connection>;

/// Connections are counted for each egress source and host.
type HostKey = (Arc<str>, Domain);

/// A place among the connections of all and of one host, as long as it lives.
pub(super) struct Permit {
    shared: Weak<Shared>,
    host: HostKey,
}

/// What somebody who wants a connection gets.
pub(super) enum Seat {
    /// One that waits for a transaction, or was ended by the host meanwhile.
    Idle(Box<Connection>),
    /// The right to make one.
    New(Permit),
}

/// The connections.
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    connections_max: usize,
    per_host_max: usize,
    state: Mutex<State>,
    /// Some connection came free.
    freed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    idle: HashMap<Key, Vec<Idle>>,
    open: usize,
    hosts: HashMap<HostKey, Host>,
}

#[derive(Default)]
struct Host {
    open: usize,
    /// One of its connections came free.
    freed: Arc<Notify>,
}

/// What a look for a place comes to.
enum Look {
    Seat(Seat),
    /// This idle one gives way.
    Evicted(Box<Connection>),
    /// All are in use; who waits is told here.
    Full(Arc<Notify>),
}

impl Pool {
    /// Open connections in all and from one source to one host, idle ones included.
    pub(super) fn new(connections_max: usize, per_host_max: usize) -> Self {
        let shared = Shared {
            connections_max: connections_max.max(1),
            per_host_max: per_host_max.max(1),
            state: Mutex::default(),
            freed: Arc::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The idle connection that was used last, unless a new one is wanted, or a place for a new
    /// one; waits until there is one.
    pub(super) async fn seat(&self, key: &Key, may_reuse: bool) -> Seat {
        loop {
            let freed = match self.look(key, may_reuse) {
                Look::Seat(seat) => return seat,
                Look::Evicted(connection) => {
                    connection.leave().await;
                    continue;
                }
                Look::Full(freed) => freed,
            };
            let mut notified = pin!(freed.notified());
            notified.as_mut().enable();
            // What came free between the look and now was told to nobody.
            match self.look(key, may_reuse) {
                Look::Seat(seat) => return seat,
                Look::Evicted(connection) => connection.leave().await,
                Look::Full(now) if Arc::ptr_eq(&now, &freed) => notified.await,
                Look::Full(_) => {}
            }
        }
    }

    /// Keeps a connection on which nothing is under way.
    pub(super) fn keep(&self, connection: Box<Connection>) {
        let key = connection.key.clone();
        let mut state = self.shared.lock();
        let host = state.hosts.get(&key.host_key()).map(|host| Arc::clone(&host.freed));
        state.idle.entry(key).or_default().push(connection);
        drop(state);
        if let Some(host) = host {
            host.notify_one();
        }
        self.shared.freed.notify_one();
    }

    /// Takes out the connections that were not used since `before`.
    pub(super) fn stale(&self, before: Time) -> Vec<Idle> {
        let mut state = self.shared.lock();
        let mut ended = Vec::new();
        state.idle.retain(|_, idle| {
            ended.extend(idle.extract_if(.., |connection| connection.used_at <= before));
            !idle.is_empty()
        });
        ended
    }

    fn look(&self, key: &Key, may_reuse: bool) -> Look {
        let shared = &self.shared;
        let mut state = shared.lock();
        if may_reuse && let Some(connection) = state.take(key) {
            return Look::Seat(Seat::Idle(connection));
        }
        let host_key = key.host_key();
        let host = state.hosts.get(&host_key).filter(|host| host.open >= shared.per_host_max);
        if let Some(freed) = host.map(|host| Arc::clone(&host.freed)) {
            let same = |other: &Key| other.source == key.source && other.host == key.host;
            return state.oldest_idle(same).map_or(Look::Full(freed), Look::Evicted);
        }
        if state.open >= shared.connections_max {
            let freed = Arc::clone(&shared.freed);
            return state.oldest_idle(|_| true).map_or(Look::Full(freed), Look::Evicted);
        }
        state.hosts.entry(host_key.clone()).or_default().open += 1;
        state.open += 1;
        Look::Seat(Seat::New(Permit { shared: Arc::downgrade(shared), host: host_key }))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, key: &Key) -> Option<Box<Connection>> {
        let idle = self.idle.get_mut(key)?;
        let connection = idle.pop();
        if idle.is_empty() {
            self.idle.remove(key);
        }
        connection
    }

    fn oldest_idle(&mut self, fits: impl Fn(&Key) -> bool) -> Option<Box<Connection>> {
        let fitting = self.idle.iter().filter(|(key, _)| fits(key));
        let aged = fitting.filter_map(|(key, idle)| Some((idle.first()?.used_at, key)));
        let key = aged.min_by_key(|(at, _)| *at)?.1.clone();
        let idle = self.idle.get_mut(&key)?;
        let connection = (!idle.is_empty()).then(|| idle.remove(0));
        if idle.is_empty() {
            self.idle.remove(&key);
        }
        connection
    }
}

impl Key {
    fn host_key(&self) -> HostKey {
        (Arc::clone(&self.source), self.host.clone())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut state = shared.lock();
        state.open = state.open.saturating_sub(1);
        let Some(host) = state.hosts.get_mut(&self.host) else { return };
        host.open = host.open.saturating_sub(1);
        // Told under the lock: who waits there holds a share of it.
        host.freed.notify_one();
        if host.open == 0 && Arc::strong_count(&host.freed) == 1 {
            state.hosts.remove(&self.host);
        }
        drop(state);
        shared.freed.notify_one();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.host).finish()
    }
}

#[cfg(test)]
mod tests {
    use merpati_console::sessions::Direction;
    use merpati_smtp::client::Options;
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        clock::Clock,
        deliver::stream::{Socket, Stream},
        sessions::{About, Doing, Sessions},
        tls::{Trust, connector},
    };

    fn key(rule: &str, host: &str) -> Key {
        Key {
            rule: rule.into(),
            source: "default".into(),
            host: Domain::parse(host).unwrap(),
            address: None,
            place: "25".into(),
            is_lmtp: false,
            lock: Lock::Routed,
        }
    }

    fn is_new(seat: &Seat) -> bool {
        matches!(seat, Seat::New(_))
    }

    /// A connection to a host that has ended it.
    async fn connection(key: &Key, seat: Seat) -> Box<Connection> {
        let Seat::New(permit) = seat else { panic!("no place for a new connection") };
        let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = Socket::tcp(host.local_addr().unwrap(), None).await.unwrap();
        let tools = (connector(Trust::Any, None).unwrap(), Arc::new(Clock::start(Time::EPOCH)));
        let options = Options::new(Domain::parse("relay.example").unwrap());
        let stream = (Stream::Clear(socket), None);
        let about = About::default();
        let shown = Arc::new(Sessions::default());
        let shown = shown.begin(Time::EPOCH, Direction::Out, Doing::Talks, about);
        Box::new(Connection::new(key.clone(), stream, options, tools, (permit, shown)))
    }

    /// Polls once: whether it is there already.
    async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match future.as_mut().poll(cx) {
                std::task::Poll::Ready(value) => Some(value),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn places_are_counted_for_each_host_and_in_all() {
        let pool = Pool::new(3, 2);
        let (a, b) = (key("r", "a.example"), key("r", "b.example"));
        let first = pool.seat(&a, true).await;
        let second = pool.seat(&a, true).await;
        assert!(is_new(&first) && is_new(&second));
        assert!(now(pool.seat(&a, true)).await.is_none(), "the host has two");
        let third = pool.seat(&b, true).await;
        assert!(now(pool.seat(&b, true)).await.is_none(), "there are three in all");
        drop(first);
        assert!(is_new(&pool.seat(&b, true).await));
        drop((second, third));
        assert!(pool.shared.lock().hosts.is_empty());
    }

    #[tokio::test]
    async fn who_waits_gets_the_connection_that_comes_free() {
        let pool = Pool::new(9, 1);
        let key = key("r", "a.example");
        let held = connection(&key, pool.seat(&key, true).await).await;
        let mut waiting = pin!(pool.seat(&key, true));
        assert!(now(waiting.as_mut()).await.is_none());
        pool.keep(held);
        assert!(matches!(waiting.await, Seat::Idle(_)));
    }

    #[tokio::test]
    async fn an_idle_connection_gives_way_to_who_cannot_use_it() {
        for (per_host, other) in [(1, key("s", "a.example")), (9, key("r", "b.example"))] {
            let pool = Pool::new(1, per_host);
            let mine = key("r", "a.example");
            let held = connection(&mine, pool.seat(&mine, true).await).await;
            let mut waiting = pin!(pool.seat(&other, true));
            assert!(now(waiting.as_mut()).await.is_none(), "{other:?}");
            pool.keep(held);
            assert!(is_new(&waiting.await), "{other:?}");
            assert_eq!(pool.shared.lock().open, 0, "the place was dropped again");
        }
    }

    #[tokio::test]
    async fn each_of_many_who_wait_is_served() {
        let pool = Arc::new(Pool::new(2, 2));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..40 {
            let pool = Arc::clone(&pool);
            let key = key("r", if n % 2 == 0 { "a.example" } else { "b.example" });
            tasks.spawn(async move {
                let seat = pool.seat(&key, true).await;
                tokio::task::yield_now().await;
                drop(seat);
            });
        }
        let all = async { while tasks.join_next().await.is_some() {} };
        assert!(tokio::time::timeout(std::time::Duration::from_secs(30), all).await.is_ok());
    }
}
