//! What is remembered of hosts for a while: that something which they offer comes to nothing.
//!
//! Invariant: bounded; what is forgotten costs no more than finding it out again. Not pure: shared
//! between tasks.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use merpati_mail::{Time, route::Remote};

/// Hosts by address, each until some time.
#[derive(Debug)]
pub(super) struct Remembered {
    wait: Duration,
    until: Mutex<HashMap<SocketAddr, Time>>,
}

impl Remembered {
    /// Nobody; each is remembered for so long.
    pub(super) fn new(wait: Duration) -> Self {
        Self { wait, until: Mutex::default() }
    }

    /// Remembers a host from now on. One of this machine, behind a Unix socket, is not remembered.
    pub(super) fn insert(&self, remote: &Remote, now: Time) {
        let Remote::Ip(address) = remote else { return };
        let mut known = self.lock();
        if known.len() >= HOSTS_MAX {
            known.retain(|_, until| *until > now);
        }
        if known.len() < HOSTS_MAX {
            known.insert(*address, now + self.wait);
        }
    }

    /// Whether a host is remembered.
    pub(super) fn has(&self, remote: &Remote, now: Time) -> bool {
        let Remote::Ip(address) = remote else { return false };
        self.lock().get(address).is_some_and(|until| *until > now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Time>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hosts that are remembered at most.
const HOSTS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u32) -> Remote {
        Remote::Ip(SocketAddr::new(std::net::Ipv4Addr::from_bits(number).into(), 25))
    }

    #[test]
    fn a_host_is_remembered_for_a_while_and_so_many_at_most() {
        let known = Remembered::new(Duration::from_secs(10));
        let now = Time::from_secs(1_000);
        let later = now + Duration::from_secs(10);
        known.insert(&host(1), now);
        assert!(known.has(&host(1), now) && !known.has(&host(2), now));
        assert!(!known.has(&host(1), later));
        for number in 0..20_000 {
            known.insert(&host(number), now);
        }
        assert_eq!(known.lock().len(), HOSTS_MAX);
        known.insert(&host(30_000), later);
        assert!(known.has(&host(30_000), later));
        assert_eq!(known.lock().len(), 1);
        let socket = Remote::Unix("/run/lmtp".to_owned());
        known.insert(&socket, now);
        assert!(!known.has(&socket, now));
    }
}
