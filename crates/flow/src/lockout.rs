//! Who has to wait, and who is locked out, because authentication failed too often.
//!
//! Invariants: bounded, whatever anybody tries; a failure counts however the client connects; and
//! who has authenticated from an address before is not locked out there by what others do, but for
//! their own failures. Pure.
//!
//! A name that nobody has is counted like any other, and who guesses wrongly is told what he would
//! be told of any name, so that neither a wait nor a lock tells anything.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use merpati_mail::{Time, question::Lock};

use crate::rate::counted_as;

/// How much may fail, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a client waits for the answer to each of its first ten failures; to each of the
    /// next ten twice as long, and so on. Zero: nobody waits.
    pub wait: Duration,
    /// The longest wait.
    pub wait_max: Duration,
    /// The failures that lock out an address, where one IPv6 /64 is one address; `None`: none do.
    pub per_address_max: Option<u32>,
    /// The failures that lock out a user; `None`: none do.
    pub per_user_max: Option<u32>,
    /// After so long one failure is forgotten. Zero: nothing is ever held against anybody.
    pub forgotten_after: Duration,
    /// The most addresses and users that are remembered; at least 4.
    pub entries_max: usize,
}

impl Default for Rules {
    /// The defaults of the configuration.
    fn default() -> Self {
        Self {
            wait: Duration::from_millis(500),
            wait_max: Duration::from_secs(10),
            per_address_max: Some(30),
            per_user_max: Some(20),
            forgotten_after: Duration::from_mins(1),
            entries_max: 100_000,
        }
    }
}

/// Who tries.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// From where.
    pub address: IpAddr,
    /// Whether what fails there is held against all of that address, and what fails elsewhere
    /// against who comes from there. Not so where many users share an address with our consent.
    pub is_responsible: bool,
    /// As whom; `None` where that is not known, or cannot be guessed.
    pub user: Option<&'a str>,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The client hears of it after so long.
    Waits(Duration),
    /// The client hears that it is locked out, as it would with any other name.
    Locked(Lock),
}

/// What failed lately.
#[derive(Clone, Debug)]
pub struct Lockout {
    rules: Rules,
    failures: Generations<Key>,
    /// Failures of users at addresses from which they have authenticated before. What strangers
    /// do makes no room here, so it never drives out anybody.
    known: Generations<(IpAddr, String)>,
}

/// What failures are counted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Address(IpAddr),
    User(String),
}

/// Counts in two generations: where the young one is full, it becomes the old one, which is
/// forgotten. So room is made at no cost that a client could drive up.
#[derive(Clone, Debug)]
struct Generations<K> {
    young: BTreeMap<K, Count>,
    old: BTreeMap<K, Count>,
}

/// How much has failed, less what was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    failures: u32,
    /// When the oldest of them began to be forgotten.
    since: Time,
}

impl Lockout {
    /// Nothing has failed yet.
    pub const fn new(rules: Rules) -> Self {
        Self { rules, failures: Generations::new(), known: Generations::new() }
    }

    /// Judges by these rules from now on; what is remembered stays.
    pub const fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// What keeps this client from trying; `None` where it may.
    pub fn lock(&self, now: Time, attempt: &Attempt<'_>) -> Option<Lock> {
        let stranger = self.lock_of_stranger(now, attempt);
        let Some(known) = self.known_at(attempt) else { return stranger };
        let count = self.known.get(&known);
        let lock = self.is_full(now, count, self.rules.per_user_max, Lock::User);
        lock.map(|lock| stranger.unwrap_or(lock))
    }

    /// Counts a failure; what the client is told, and when.
    pub fn failed(&mut self, now: Time, attempt: &Attempt<'_>) -> Failed {
        let lock = self.lock_of_stranger(now, attempt);
        let mut most = 1;
        for key in keys(attempt) {
            let count = self.rules.one_more(now, self.failures.get(&key));
            self.failures.put(key, count, self.rules.entries_max / 4);
            most = most.max(count.failures);
        }
        if let Some(known) = self.known_at(attempt) {
            let count = self.rules.one_more(now, self.known.get(&known));
            self.known.put(known, count, self.rules.entries_max / 4);
            most = most.max(count.failures);
        }
        let doublings = (most - 1) / SAME_WAITS;
        let wait = self.rules.wait.saturating_mul(2_u32.saturating_pow(doublings));
        lock.map_or(Failed::Waits(wait.min(self.rules.wait_max)), Failed::Locked)
    }

    /// Remembers that the user has authenticated from there. What others have done there stays: one
    /// who has a password of his own could otherwise guess those of others for ever.
    pub fn succeeded(&mut self, now: Time, attempt: &Attempt<'_>) {
        if let Some(user) = attempt.user {
            let count = Count { failures: 0, since: now };
            self.known.put(pair(attempt.address, user), count, self.rules.entries_max / 4);
        }
    }

    /// The user at this address, where he is counted apart from all others.
    fn known_at(&self, attempt: &Attempt<'_>) -> Option<(IpAddr, String)> {
        let known = pair(attempt.address, attempt.user?);
        (!attempt.is_responsible || self.known.get(&known).is_some()).then_some(known)
    }

    /// What keeps somebody from trying who is not known there.
    fn lock_of_stranger(&self, now: Time, attempt: &Attempt<'_>) -> Option<Lock> {
        keys(attempt).into_iter().find_map(|key| {
            let (max, lock) = match key {
                Key::Address(_) => (self.rules.per_address_max, Lock::Address),
                Key::User(_) => (self.rules.per_user_max, Lock::User),
            };
            self.is_full(now, self.failures.get(&key), max, lock)
        })
    }

    fn is_full(
        &self,
        now: Time,
        count: Option<Count>,
        max: Option<u32>,
        lock: Lock,
    ) -> Option<Lock> {
        let failures = count.map_or(0, |count| self.rules.faded(now, count).failures);
        max.is_some_and(|max| failures >= max).then_some(lock)
    }
}

impl Rules {
    /// What is left of a count by now.
    fn faded(&self, now: Time, count: Count) -> Count {
        let step = self.forgotten_after.as_micros();
        let passed = now.since(count.since).as_micros();
        let forgotten = passed
            .checked_div(step)
            .map_or(u32::MAX, |forgotten| u32::try_from(forgotten).unwrap_or(u32::MAX));
        if forgotten >= count.failures {
            return Count { failures: 0, since: now };
        }
        let since = count.since + self.forgotten_after.saturating_mul(forgotten);
        Count { failures: count.failures - forgotten, since }
    }

    fn one_more(&self, now: Time, count: Option<Count>) -> Count {
        let before = Count { failures: 0, since: now };
        let Count { failures, since } = count.map_or(before, |count| self.faded(now, count));
        Count { failures: failures.saturating_add(1), since }
    }
}

impl<K: Ord> Generations<K> {
    const fn new() -> Self {
        Self { young: BTreeMap::new(), old: BTreeMap::new() }
    }

    fn get(&self, key: &K) -> Option<Count> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    /// Keeps a count; each generation has at most so many, or one.
    fn put(&mut self, key: K, count: Count, entries_max: usize) {
        if self.young.len() >= entries_max.max(1) && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, count);
    }
}

/// What the failures of this client count for, whether it is known there or not: else a count
/// would tell.
fn keys(attempt: &Attempt<'_>) -> Vec<Key> {
    if !attempt.is_responsible {
        return Vec::new();
    }
    let user = attempt.user.map(|user| Key::User(shortened(user)));
    [Key::Address(counted_as(attempt.address))].into_iter().chain(user).collect()
}

fn pair(address: IpAddr, user: &str) -> (IpAddr, String) {
    (counted_as(address), shortened(user))
}

/// A name as far as it is remembered. Longer names count together; nobody has such a name.
fn shortened(user: &str) -> String {
    user.chars().take(USER_CHARS_MAX).collect()
}

/// So many failures wait equally long: a wait that grew with each would tell how often a name was
/// tried, and with that whether it is known there.
const SAME_WAITS: u32 = 10;
/// The longest name that is remembered whole.
const USER_CHARS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        wait: Duration::from_secs(1),
        wait_max: Duration::from_secs(5),
        per_address_max: Some(4),
        per_user_max: Some(3),
        forgotten_after: Duration::from_mins(1),
        entries_max: 64,
    };

    fn at(seconds: u64) -> Time {
        Time::from_secs(1_000_000 + seconds)
    }

    fn attempt<'a>(address: &str, user: &'a str) -> Attempt<'a> {
        Attempt { address: address.parse().unwrap(), is_responsible: true, user: Some(user) }
    }

    /// From a network of ours.
    fn trusted(user: Option<&str>) -> Attempt<'_> {
        Attempt { address: [10, 0, 0, 5].into(), is_responsible: false, user }
    }

    #[test]
    fn failures_wait_longer_in_groups_up_to_a_limit() {
        let rules = Rules { per_address_max: None, per_user_max: None, ..RULES };
        let mut lockout = Lockout::new(rules);
        let waits: Vec<_> =
            (0..32).map(|_| lockout.failed(at(0), &attempt("192.0.2.1", "ani"))).collect();
        let seconds = [[1; 10], [2; 10], [4; 10]].concat().into_iter().chain([5; 2]);
        let want: Vec<_> = seconds.map(|n| Failed::Waits(Duration::from_secs(n))).collect();
        assert_eq!(waits, want);
        for _ in 0..400 {
            lockout.failed(at(0), &attempt("192.0.2.1", "ani"));
        }
        let longest = Failed::Waits(RULES.wait_max);
        assert_eq!(lockout.failed(at(0), &attempt("192.0.2.1", "ani")), longest);
        assert_eq!(lockout.lock(at(0), &attempt("192.0.2.1", "ani")), None);
    }

    #[test]
    fn an_address_is_locked_out_whomever_it_tries_and_opens_again_slowly() {
        let mut lockout = Lockout::new(RULES);
        for (n, user) in ["a", "b", "c", "d"].into_iter().enumerate() {
            assert_eq!(lockout.lock(at(0), &attempt("2001:db8::1", user)), None, "{n}");
            lockout.failed(at(0), &attempt("2001:db8::1", user));
        }
        let same = attempt("2001:db8::ffff", "e");
        assert_eq!(lockout.lock(at(59), &same), Some(Lock::Address));
        assert_eq!(lockout.lock(at(59), &attempt("2001:db8:0:1::1", "e")), None);
        assert_eq!(lockout.lock(at(60), &same), None);
        lockout.failed(at(70), &same);
        assert_eq!(lockout.lock(at(119), &same), Some(Lock::Address));
        assert_eq!(lockout.lock(at(120), &same), None, "one more is forgotten a minute later");
        assert_eq!(lockout.lock(at(10_000), &same), None);
    }

    #[test]
    fn a_user_is_locked_out_for_strangers_but_not_where_he_is_known() {
        let mut lockout = Lockout::new(RULES);
        lockout.succeeded(at(0), &attempt("192.0.2.9", "ani"));
        for n in 1..=3 {
            lockout.failed(at(0), &attempt(&format!("192.0.2.{n}"), "ani"));
        }
        assert_eq!(lockout.lock(at(1), &attempt("192.0.2.4", "ani")), Some(Lock::User));
        assert_eq!(lockout.lock(at(1), &attempt("192.0.2.4", "budi")), None);
        assert_eq!(lockout.lock(at(1), &attempt("192.0.2.9", "ani")), None);
        // Nor does his neighbour lock him out, but he himself can.
        for user in ["b", "c", "d", "e"] {
            lockout.failed(at(1), &attempt("192.0.2.9", user));
        }
        assert_eq!(lockout.lock(at(1), &attempt("192.0.2.9", "f")), Some(Lock::Address));
        assert_eq!(lockout.lock(at(1), &attempt("192.0.2.9", "ani")), None);
        for _ in 0..3 {
            lockout.failed(at(1), &attempt("192.0.2.9", "ani"));
        }
        assert_eq!(lockout.lock(at(1), &attempt("192.0.2.9", "ani")), Some(Lock::Address));
        assert_eq!(lockout.lock(at(121), &attempt("192.0.2.9", "ani")), None);
    }

    #[test]
    fn who_guesses_hears_the_same_of_a_name_that_is_known_there() {
        let (mut with, mut without) = (Lockout::new(RULES), Lockout::new(RULES));
        with.succeeded(at(0), &attempt("192.0.2.9", "ani"));
        for n in 0..8 {
            let told = [&mut with, &mut without].map(|lockout| {
                let user = if n % 2 == 0 { "ani" } else { "junk" };
                let own = attempt("192.0.2.9", user);
                match lockout.lock(at(0), &own) {
                    Some(lock) => Failed::Locked(lock),
                    None => lockout.failed(at(0), &own),
                }
            });
            let [known, unknown] = told;
            assert_eq!(known, unknown, "{n}");
        }
    }

    #[test]
    fn from_our_networks_a_user_is_locked_out_by_his_own_failures_alone() {
        let mut lockout = Lockout::new(RULES);
        for _ in 0..9 {
            lockout.failed(at(0), &trusted(None));
            lockout.failed(at(0), &trusted(Some("budi")));
            lockout.failed(at(0), &attempt("192.0.2.1", "ani"));
        }
        assert_eq!(lockout.lock(at(0), &trusted(None)), None);
        assert_eq!(lockout.lock(at(0), &trusted(Some("budi"))), Some(Lock::User));
        assert_eq!(lockout.lock(at(0), &trusted(Some("ani"))), None);
        assert_eq!(lockout.lock(at(0), &attempt("192.0.2.2", "budi")), None);
    }

    #[test]
    fn memory_is_bounded_and_no_junk_drives_out_who_is_known() {
        let rules = Rules { entries_max: 16, ..RULES };
        let mut lockout = Lockout::new(rules);
        let one = attempt("192.0.2.1", "x");
        lockout.succeeded(at(0), &attempt("192.0.2.9", "ani"));
        for n in 0..1_000 {
            let user = format!("user{n}{}", "x".repeat(5_000));
            lockout.failed(at(0), &attempt(&format!("198.51.100.{}", n % 250), &user));
            let sizes = [&lockout.failures.young, &lockout.failures.old].map(BTreeMap::len);
            assert!(sizes.iter().sum::<usize>() <= rules.entries_max / 2, "{sizes:?}");
            if n % 2 == 0 {
                lockout.failed(at(0), &one);
            }
        }
        assert_eq!(lockout.lock(at(0), &one), Some(Lock::Address));
        for n in 1..=3 {
            lockout.failed(at(0), &attempt(&format!("192.0.2.{n}"), "ani"));
        }
        assert_eq!(lockout.lock(at(0), &attempt("192.0.2.9", "ani")), None);
        for n in 0..1_000 {
            lockout.succeeded(at(0), &attempt("192.0.2.7", &format!("user{n}")));
        }
        let known = lockout.known.young.len() + lockout.known.old.len();
        assert!(known <= rules.entries_max / 2, "{known}");
        let users = lockout.failures.young.keys().chain(lockout.failures.old.keys());
        let longest = users.map(|key| match key {
            Key::Address(_) => 0,
            Key::User(user) => user.len(),
        });
        assert_eq!(longest.max(), Some(USER_CHARS_MAX));
    }

    #[test]
    fn with_nothing_to_remember_nothing_is_held_against_anybody() {
        let mut lockout = Lockout::new(Rules { forgotten_after: Duration::ZERO, ..RULES });
        for _ in 0..9 {
            let failed = lockout.failed(at(0), &attempt("192.0.2.1", "a"));
            assert_eq!(failed, Failed::Waits(RULES.wait));
        }
        assert_eq!(lockout.lock(at(0), &attempt("192.0.2.1", "a")), None);
    }
}
