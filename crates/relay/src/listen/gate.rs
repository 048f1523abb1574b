//! How many connections may be open at once, in all and from one address.
//!
//! Invariant: each pass is given back, also by a task that panics. IPv6 clients count by their /64,
//! because one client has as many addresses in it as it likes. Not pure: shared by all tasks.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub connections_max: u32,
    /// From one IPv4 address or one IPv6 /64.
    pub connections_per_address_max: u32,
}

/// Counts the open connections of one listener.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    open: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// The right to a connection; dropping it gives it back.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Gate {
    /// A gate with nobody inside.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default() })
    }

    /// Lets a client in, or gives the name of the limit that keeps it out.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Pass, &'static str> {
        let address = counted_as(address);
        let mut open = self.lock();
        if open.all >= self.limits.connections_max {
            return Err("connections");
        }
        let here = open.by_address.entry(address).or_default();
        if *here >= self.limits.connections_per_address_max {
            return Err("connections-per-address");
        }
        *here += 1;
        open.all += 1;
        Ok(Pass { gate: Arc::clone(self), address })
    }

    /// How many are open now.
    pub fn connections(&self) -> u32 {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self.gate.lock();
        open.all -= 1;
        if let Some(here) = open.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_takes_more_than_its_share_and_all_is_given_back() {
        let gate = Gate::new(Limits { connections_max: 3, connections_per_address_max: 2 });
        let enter = |address: &str| gate.enter(address.parse().unwrap());
        let first = enter("192.0.2.1").unwrap();
        let second = enter("::ffff:192.0.2.1").unwrap();
        assert_eq!(enter("192.0.2.1").err(), Some("connections-per-address"));
        let third = enter("2001:db8::1").unwrap();
        assert_eq!(enter("2001:db8::2").err(), Some("connections"));
        drop(first);
        let fourth = enter("2001:db8::ffff").unwrap();
        drop(second);
        assert_eq!(enter("2001:db8::3").err(), Some("connections-per-address"));
        drop((third, fourth));
        assert_eq!(gate.connections(), 0);
        assert!(gate.lock().by_address.is_empty());
    }
}
