//! How many connections may be open at once and how often clients may come, in all, from one
//! address and from one network.
//!
//! Invariant: each pass is given back, also by a task that panics. Where places run short, those
//! who have many get no more, so that who has none still finds one. Not pure: shared by all tasks.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

use merpati_flow::rate::{Counted, Rates, counted_as, network_of};
use merpati_mail::{Reply, Time};

/// How many, and how often; `None`: any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub connections_max: u32,
    /// From one IPv4 address or one IPv6 /64.
    pub connections_per_address_max: u32,
    /// From one IPv4 /24 or one IPv6 /48.
    pub connections_per_network_max: Option<NonZeroU32>,
    /// New connections in a minute, from one address.
    pub connections_per_minute_max: Option<NonZeroU32>,
    /// Messages in a minute, from one address.
    pub messages_per_minute_max: Option<NonZeroU32>,
    /// Recipients in a minute, from one address.
    pub recipients_per_minute_max: Option<NonZeroU32>,
}

/// Counts the open connections of one listener, and who did what lately.
#[derive(Debug)]
pub struct Gate {
    limits: RwLock<Limits>,
    /// How many are open, in all.
    all: AtomicU32,
    open: Mutex<Counts>,
    rates: Mutex<Counters>,
}

#[derive(Debug, Default)]
struct Counts {
    by_address: HashMap<IpAddr, u32>,
    by_network: HashMap<IpAddr, u32>,
}

#[derive(Debug, Default)]
struct Counters {
    connections: Rates,
    messages: Rates,
    recipients: Rates,
}

/// Whose limits hold for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// It speaks for many: only the limit on all.
    Everybodys,
    /// That of one address; the networks of the operator.
    Known,
    /// All of them.
    Strangers,
}

/// The limit that keeps a client out, by its name.
pub type Limit = &'static str;

/// The right to a connection; dropping it gives it back.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    /// As whom it counts; `None` where only as one of all.
    address: Option<IpAddr>,
}

impl Gate {
    /// A gate with nobody inside.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits: RwLock::new(limits),
            all: AtomicU32::new(0),
            open: Mutex::default(),
            rates: Mutex::default(),
        })
    }

    /// Lets a connection in, or gives the name of the limit that keeps it out. Whose it is, is said
    /// by [`Pass::count`].
    pub fn enter(self: &Arc<Self>) -> Result<Pass, Limit> {
        let most = self.limits().connections_max;
        let one_more = |all| (all < most).then_some(all + 1);
        match self.all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Pass { gate: Arc::clone(self), address: None }),
            Err(_) => Err("connections"),
        }
    }

    /// Judges by these limits from now on; who is inside stays.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    fn limits(&self) -> Limits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are open now.
    pub fn connections(&self) -> u32 {
        self.all.load(Ordering::Relaxed)
    }

    /// Whether places run short, so that who does nothing must give his back.
    pub fn is_strained(&self) -> bool {
        let max = self.limits().connections_max;
        self.connections() >= max - max / STRAINED_PART
    }

    /// Whether `address` may have one more of these now; if so, it has.
    pub fn take(&self, now: Time, address: IpAddr, counted: Counted) -> bool {
        let limits = self.limits();
        let (per_minute, rates): (_, fn(&mut Counters) -> &mut Rates) = match counted {
            Counted::Message => (limits.messages_per_minute_max, |all| &mut all.messages),
            Counted::Recipient => (limits.recipients_per_minute_max, |all| &mut all.recipients),
        };
        let Some(per_minute) = per_minute else { return true };
        rates(&mut lock(&self.rates)).take(now, address, per_minute)
    }

    fn take_connection(&self, now: Time, address: IpAddr) -> bool {
        let Some(per_minute) = self.limits().connections_per_minute_max else { return true };
        lock(&self.rates).connections.take(now, address, per_minute)
    }
}

impl Pass {
    /// Counts the connection as one of this client, or gives the name of the limit that keeps it
    /// out. To be said once.
    pub fn count(&mut self, now: Time, address: IpAddr, share: Share) -> Result<(), Limit> {
        let (one, many) = (counted_as(address), network_of(address));
        let limits = self.gate.limits();
        let is_stranger = match share {
            Share::Everybodys => return Ok(()),
            Share::Known => false,
            Share::Strangers => true,
        };
        let mut open = lock(&self.gate.open);
        let has = |counts: &HashMap<IpAddr, u32>, key| counts.get(&key).copied().unwrap_or(0);
        let (here, around) = (has(&open.by_address, one), has(&open.by_network, many));
        let is_strained = is_stranger && self.gate.is_strained();
        let here_max = match limits.connections_per_address_max {
            max if is_strained => max.div_ceil(STRAINED_SHARE),
            max => max,
        };
        if here >= here_max {
            return Err("connections-per-address");
        }
        let around_max = limits.connections_per_network_max.filter(|_| is_stranger);
        if around_max.is_some_and(|max| around >= max.get()) {
            return Err("connections-per-network");
        }
        if is_stranger && !self.gate.take_connection(now, address) {
            return Err("connection-rate");
        }
        *open.by_address.entry(one).or_default() += 1;
        *open.by_network.entry(many).or_default() += 1;
        drop(open);
        self.address = Some(address);
        Ok(())
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            let mut open = lock(&self.gate.open);
            give_back(&mut open.by_address, counted_as(address));
            give_back(&mut open.by_network, network_of(address));
        }
    }
}

/// What a client is told whom a limit keeps out.
pub(super) fn refusal(limit: Limit) -> Reply {
    let text = match limit {
        "connection-rate" => "you connect too often, try again later",
        _ => "too many connections, try again later",
    };
    Reply::new(421, (4, 7, 0), text)
}

/// Gives one back; an address without any is forgotten.
fn give_back(counts: &mut HashMap<IpAddr, u32>, key: IpAddr) {
    if let Some(here) = counts.get_mut(&key) {
        *here -= 1;
        if *here == 0 {
            counts.remove(&key);
            // After a flood the room of its addresses would stay for ever.
            if counts.capacity() > 2 * counts.len() + COUNTS_KEPT {
                counts.shrink_to(counts.len() + COUNTS_KEPT / 2);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last quarter of all places is for those who have few.
const STRAINED_PART: u32 = 4;
/// In it, an address gets a tenth of what it may have else.
const STRAINED_SHARE: u32 = 10;
/// Addresses for which there is always room.
const COUNTS_KEPT: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        connections_max: 3,
        connections_per_address_max: 2,
        connections_per_network_max: None,
        connections_per_minute_max: None,
        messages_per_minute_max: None,
        recipients_per_minute_max: None,
    };

    fn enter(gate: &Arc<Gate>, address: &str, share: Share) -> Result<Pass, Limit> {
        let mut pass = gate.enter()?;
        pass.count(Time::EPOCH, address.parse().unwrap(), share)?;
        Ok(pass)
    }

    #[test]
    fn no_address_takes_more_than_its_share_and_all_is_given_back() {
        let gate = Gate::new(LIMITS);
        let enter = |address| enter(&gate, address, Share::Known);
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
        let open = lock(&gate.open);
        assert!(open.by_address.is_empty() && open.by_network.is_empty());
    }

    #[test]
    fn who_speaks_for_many_counts_only_as_one_of_all() {
        let gate = Gate::new(LIMITS);
        let all: Vec<_> =
            (0..3).map(|_| enter(&gate, "192.0.2.1", Share::Everybodys).unwrap()).collect();
        assert_eq!(enter(&gate, "192.0.2.1", Share::Everybodys).err(), Some("connections"));
        drop(all);
        assert_eq!(gate.connections(), 0);
    }

    #[test]
    fn neighbours_share_the_limit_of_their_network_unless_they_are_known() {
        let limits = Limits {
            connections_max: 100,
            connections_per_address_max: 100,
            connections_per_network_max: NonZeroU32::new(2),
            ..LIMITS
        };
        let gate = Gate::new(limits);
        let one = enter(&gate, "192.0.2.1", Share::Strangers).unwrap();
        let _two = enter(&gate, "192.0.2.2", Share::Strangers).unwrap();
        let third = |share| enter(&gate, "192.0.2.3", share);
        assert_eq!(third(Share::Strangers).err(), Some("connections-per-network"));
        let known = third(Share::Known).unwrap();
        drop((one, known));
        assert!(third(Share::Strangers).is_ok());
    }

    #[test]
    fn where_places_run_short_who_has_many_gets_no_more() {
        let limits = Limits { connections_max: 40, connections_per_address_max: 20, ..LIMITS };
        let gate = Gate::new(limits);
        let many: Vec<_> =
            (0..20).map(|_| enter(&gate, "192.0.2.1", Share::Strangers).unwrap()).collect();
        assert!(!gate.is_strained());
        let _some: Vec<_> =
            (0..9).map(|_| enter(&gate, "192.0.2.2", Share::Strangers).unwrap()).collect();
        let next = |address, share| enter(&gate, address, share);
        assert_eq!(next("192.0.2.2", Share::Strangers).err(), Some("connections-per-address"));
        let known = next("192.0.2.2", Share::Known).unwrap();
        assert!(gate.is_strained());
        let newcomer = next("192.0.2.3", Share::Strangers).unwrap();
        drop((many, known, newcomer));
        assert!(!gate.is_strained());
    }

    #[test]
    fn who_comes_or_sends_too_often_is_stopped() {
        let twice = NonZeroU32::new(2);
        let limits = Limits {
            connections_max: 100,
            connections_per_address_max: 100,
            connections_per_minute_max: twice,
            messages_per_minute_max: twice,
            recipients_per_minute_max: twice,
            ..LIMITS
        };
        let gate = Gate::new(limits);
        for _ in 0..2 {
            drop(enter(&gate, "192.0.2.1", Share::Strangers).unwrap());
        }
        let next = |address, share| enter(&gate, address, share).map(drop);
        assert_eq!(next("192.0.2.1", Share::Strangers), Err("connection-rate"));
        assert_eq!(next("192.0.2.1", Share::Known), Ok(()));
        assert_eq!(next("192.0.2.2", Share::Strangers), Ok(()));
        assert_eq!(gate.connections(), 0);
        let address = "192.0.2.1".parse().unwrap();
        for counted in [Counted::Message, Counted::Recipient] {
            let taken: Vec<_> = (0..3).map(|_| gate.take(Time::EPOCH, address, counted)).collect();
            assert_eq!(taken, [true, true, false], "{counted:?}");
        }
    }
}
