//! Greylisting (RFC 6647): who writes for the first time is asked to come again, and who comes
//! again is known from then on.
//!
//! Invariant: the table is bounded whatever comes, and what is forgotten costs a sender one more
//! wait and never a message. Pure: the shell keeps the octets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use merpati_mail::{
    Time,
    question::{GreylistAnswer, Triplet},
};

/// How long for what, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GreylistOptions {
    /// How long a first contact waits.
    pub wait: Duration,
    /// How long after its first try it may come again; later it is a first contact anew.
    pub retry_within: Duration,
    /// How long a client that came again is known after its last message.
    pub kept_for: Duration,
    /// How many entries there are at most.
    pub entries_max: usize,
}

/// Who waits, and who has waited.
#[derive(Clone, Debug)]
pub struct Greylist {
    options: GreylistOptions,
    entries: BTreeMap<u128, Entry>,
    /// When each entry ends; the first one gives way where there is no room.
    ends: BTreeSet<(Time, u128)>,
    has_news: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// When it was first seen, while it waits; `None` once it is known.
    waits_since: Option<Time>,
    ends: Time,
}

impl Greylist {
    /// An empty table.
    pub const fn new(options: GreylistOptions) -> Self {
        Self { options, entries: BTreeMap::new(), ends: BTreeSet::new(), has_news: false }
    }

    /// Whether this triplet has waited; notes that it was seen.
    ///
    /// Who came again with one triplet is known with its network and sender domain: that it tries
    /// again is shown, and to wait for each recipient would only cost time.
    pub fn ask(&mut self, now: Time, triplet: &Triplet) -> GreylistAnswer {
        self.forget_ended(now);
        let (pair, whole) = (key(triplet, Part::Pair), key(triplet, Part::Whole));
        if let Some(known) = self.entries.get(&pair).copied() {
            let ends = now + self.options.kept_for;
            // Not for each message anew: what is written must be kept.
            if ends.since(known.ends) > self.options.kept_for / 50 {
                self.put(pair, Entry { waits_since: None, ends });
            }
            return GreylistAnswer::Passed;
        }
        let Some(Entry { waits_since: Some(since), .. }) = self.entries.get(&whole).copied() else {
            let ends = now + self.options.retry_within;
            self.put(whole, Entry { waits_since: Some(now), ends });
            return GreylistAnswer::Waits { until: now + self.options.wait };
        };
        let until = since + self.options.wait;
        if now < until {
            return GreylistAnswer::Waits { until };
        }
        self.remove(whole);
        self.put(pair, Entry { waits_since: None, ends: now + self.options.kept_for });
        GreylistAnswer::Passed
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The octets to keep, where anything changed since the last time (`docs/format.md` §9).
    pub fn news(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.has_news) {
            return None;
        }
        let mut octets = Vec::with_capacity(HEAD_OCTETS + self.entries.len() * ENTRY_OCTETS + 16);
        octets.extend_from_slice(MAGIC);
        octets.extend_from_slice(&VERSION.to_le_bytes());
        octets.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for (key, entry) in &self.entries {
            octets.extend_from_slice(&key.to_le_bytes());
            let since = entry.waits_since.map_or(0, Time::as_micros);
            octets.extend_from_slice(&since.to_le_bytes());
            octets.extend_from_slice(&entry.ends.as_micros().to_le_bytes());
        }
        octets.extend_from_slice(&hash([octets.as_slice()]).to_le_bytes());
        Some(octets)
    }

    /// The table that was kept in these octets; `None` where they are not whole, not of this
    /// version or not such a table at all.
    pub fn from_octets(options: GreylistOptions, octets: &[u8]) -> Option<Self> {
        let (rest, sum) = octets.split_last_chunk::<16>()?;
        if hash([rest]).to_le_bytes() != *sum {
            return None;
        }
        let rest = rest.strip_prefix(MAGIC.as_slice())?;
        let (version, rest) = rest.split_first_chunk::<8>()?;
        let (count, mut rest) = rest.split_first_chunk::<8>()?;
        if u64::from_le_bytes(*version) != VERSION {
            return None;
        }
        let mut table = Self::new(options);
        for _ in 0..u64::from_le_bytes(*count) {
            let (key, behind) = rest.split_first_chunk::<16>()?;
            let (since, behind) = behind.split_first_chunk::<8>()?;
            let (ends, behind) = behind.split_first_chunk::<8>()?;
            let since = Time::from_micros(u64::from_le_bytes(*since));
            let ends = Time::from_micros(u64::from_le_bytes(*ends));
            let waits_since = (since != Time::EPOCH).then_some(since);
            table.put(u128::from_le_bytes(*key), Entry { waits_since, ends });
            rest = behind;
        }
        table.has_news = false;
        rest.is_empty().then_some(table)
    }

    fn put(&mut self, key: u128, entry: Entry) {
        self.remove(key);
        while self.entries.len() >= self.options.entries_max.max(1) {
            // The first to end is one that waits, as long as there is one.
            let Some((_, oldest)) = self.ends.pop_first() else { break };
            self.entries.remove(&oldest);
        }
        self.entries.insert(key, entry);
        self.ends.insert((entry.ends, key));
        self.has_news = true;
    }

    fn remove(&mut self, key: u128) {
        if let Some(entry) = self.entries.remove(&key) {
            self.ends.remove(&(entry.ends, key));
        }
    }

    fn forget_ended(&mut self, now: Time) {
        while let Some((ends, key)) = self.ends.first().copied().filter(|(ends, _)| *ends <= now) {
            self.ends.remove(&(ends, key));
            self.entries.remove(&key);
        }
    }
}

/// The network of a client, as greylisting counts it: a sender's pool of hosts is one client.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Pair,
    Whole,
}

/// A triplet, or its network and sender domain, in 16 octets. Two that fall together by chance
/// share an entry, which only spares a wait.
fn key(triplet: &Triplet, part: Part) -> u128 {
    let network = match triplet.network {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let sender = triplet.sender.to_string();
    let recipient = match part {
        Part::Pair => String::new(),
        Part::Whole => triplet.recipient.to_string().to_lowercase(),
    };
    let octets = network.octets();
    hash([octets.as_slice(), sender.as_bytes(), b"\n", recipient.as_bytes()])
}

/// FNV-1a in 128 bits: written down for ever, as what is kept on disk needs.
fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u128 {
    let octets = parts.into_iter().flatten();
    octets.fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, octet| {
        (hash ^ u128::from(*octet)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

const MAGIC: &[u8; 8] = b"MERPATIG";
const VERSION: u64 = 1;
const HEAD_OCTETS: usize = 24;
const ENTRY_OCTETS: usize = 32;

#[cfg(test)]
mod tests {
    use merpati_mail::{Domain, Mailbox};

    use super::*;

    const OPTIONS: GreylistOptions = GreylistOptions {
        wait: Duration::from_mins(5),
        retry_within: Duration::from_hours(24),
        kept_for: Duration::from_hours(24 * 36),
        entries_max: 100,
    };

    fn triplet(address: &str, sender: &str, recipient: &str) -> Triplet {
        Triplet {
            network: network(address.parse().unwrap()),
            sender: Domain::parse(sender).unwrap(),
            recipient: Mailbox::parse(recipient).unwrap(),
        }
    }

    fn at(minutes: u64) -> Time {
        Time::from_secs(1_800_000_000 + minutes * 60)
    }

    #[test]
    fn a_first_contact_waits_and_is_known_once_it_came_again() {
        let mut table = Greylist::new(OPTIONS);
        let (a, u) = ("a.example", "u@ours.example");
        let wait = |minutes| GreylistAnswer::Waits { until: at(minutes) };
        let passed = GreylistAnswer::Passed;
        for (minute, address, sender, recipient, want) in [
            (0, "192.0.2.1", a, u, wait(5)),
            (1, "192.0.2.1", a, u, wait(5)),
            (1, "192.0.2.1", a, "v@ours.example", wait(6)),
            (1, "192.0.2.1", "b.example", u, wait(6)),
            (1, "192.0.3.1", a, u, wait(6)),
            // The pool of a large sender: the same /24 comes again from another address.
            (5, "192.0.2.77", a, "U@ours.example", passed),
            // It is known with its domain, for all recipients.
            (5, "192.0.2.1", a, "v@ours.example", passed),
            (5, "192.0.2.1", "b.example", u, wait(6)),
            (6, "2001:db8::1", a, u, wait(11)),
            (11, "2001:db8::ffff", a, u, passed),
            (11, "2001:db8:0:1::1", a, u, wait(16)),
        ] {
            let got = table.ask(at(minute), &triplet(address, sender, recipient));
            assert_eq!(got, want, "{minute} {address} {sender} {recipient}");
        }
    }

    #[test]
    fn who_comes_too_late_waits_again_and_who_writes_stays_known() {
        let mut table = Greylist::new(OPTIONS);
        let one = triplet("192.0.2.1", "a.example", "u@ours.example");
        let day = 24 * 60;
        table.ask(at(0), &one);
        assert_ne!(table.ask(at(day), &one), GreylistAnswer::Passed, "a day later");
        assert_eq!(table.ask(at(day + 5), &one), GreylistAnswer::Passed);
        assert_eq!(table.ask(at(36 * day), &one), GreylistAnswer::Passed);
        assert_eq!(table.ask(at(71 * day), &one), GreylistAnswer::Passed);
        assert_ne!(table.ask(at(107 * day + 1), &one), GreylistAnswer::Passed);
    }

    #[test]
    fn a_flood_forgets_who_waits_and_not_who_is_known() {
        let mut table = Greylist::new(OPTIONS);
        let known = triplet("192.0.2.1", "a.example", "u@ours.example");
        table.ask(at(0), &known);
        table.ask(at(5), &known);
        for n in 0..1_000_u32 {
            let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + n * 256).to_string();
            table.ask(at(6), &triplet(&address, "b.example", "u@ours.example"));
            assert!(table.len() <= OPTIONS.entries_max);
        }
        assert_eq!(table.ask(at(7), &known), GreylistAnswer::Passed);
        assert_eq!(table.entries.len(), table.ends.len());
    }

    #[test]
    fn who_writes_often_is_not_written_down_each_time() {
        let mut table = Greylist::new(OPTIONS);
        assert!(table.is_empty());
        let known = triplet("192.0.2.1", "a.example", "u@ours.example");
        table.ask(at(0), &known);
        table.ask(at(5), &known);
        assert!(table.news().is_some());
        // A fiftieth of 36 days is some 17 hours.
        for (hours, is_news) in [(1, false), (17, false), (18, true), (19, false), (36, true)] {
            assert_eq!(table.ask(at(hours * 60), &known), GreylistAnswer::Passed);
            assert_eq!(table.news().is_some(), is_news, "{hours} h");
        }
        assert_eq!((table.len(), table.is_empty()), (1, false));
        assert_ne!(table.ask(at(36 * 60 + 36 * 24 * 60), &known), GreylistAnswer::Passed);
    }

    #[test]
    fn what_is_kept_is_read_again_and_damage_is_an_empty_table() {
        let mut table = Greylist::new(OPTIONS);
        assert_eq!(table.news(), None);
        let known = triplet("192.0.2.1", "a.example", "u@ours.example");
        let waits = triplet("192.0.9.1", "a.example", "u@ours.example");
        table.ask(at(0), &known);
        table.ask(at(5), &known);
        table.ask(at(5), &waits);
        let octets = table.news().unwrap();
        assert_eq!(table.news(), None);
        let mut again = Greylist::from_octets(OPTIONS, &octets).unwrap();
        assert_eq!(again.len(), 2);
        assert_eq!(again.news(), None);
        assert_eq!(again.ask(at(6), &known), GreylistAnswer::Passed);
        assert_eq!(again.ask(at(6), &waits), GreylistAnswer::Waits { until: at(10) });
        for cut in 0..octets.len() {
            assert!(Greylist::from_octets(OPTIONS, &octets[..cut]).is_none(), "{cut}");
            let mut flipped = octets.clone();
            flipped[cut] ^= 4;
            assert!(Greylist::from_octets(OPTIONS, &flipped).is_none(), "{cut}");
        }
    }
}
