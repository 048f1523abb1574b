//! How often somebody may do something: a number in each minute, for each address by itself.
//!
//! Invariant: bounded, however many addresses there are: who cannot be remembered is let pass, and
//! it is for limits on all to stop many. Pure: the caller brings the time.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::Duration,
};

use merpati_mail::{ForwardPath, Reply, Stage, Time, Verdict};

/// What each address has left.
///
/// A minute's worth may be spent at once; it comes back evenly. An address has one number here:
/// when it will have all of it again.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    whole_again: BTreeMap<IpAddr, Time>,
    /// When addresses that have everything again were last forgotten.
    pruned_at: Time,
}

impl Rates {
    /// Whether `address` may do it now, `per_minute` times in each minute; if so, it has done it.
    pub fn take(&mut self, now: Time, address: IpAddr, per_minute: NonZeroU32) -> bool {
        let address = counted_as(address);
        let price = MINUTE / per_minute.get();
        let whole_again = self.whole_again.get(&address).copied().unwrap_or(now).max(now) + price;
        if whole_again.since(now) > MINUTE {
            return false;
        }
        self.make_room(now);
        if self.whole_again.len() < ADDRESSES_MAX || self.whole_again.contains_key(&address) {
            self.whole_again.insert(address, whole_again);
        }
        true
    }

    fn make_room(&mut self, now: Time) {
        // Looking through all of them costs something, so it is not done for each newcomer.
        let is_due = now.since(self.pruned_at) >= PRUNE_WAIT;
        if self.whole_again.len() >= ADDRESSES_MAX && is_due {
            self.whole_again.retain(|_, whole_again| *whole_again > now);
            self.pruned_at = now;
        }
    }
}

/// What is counted of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A message, at the first recipient that is taken: before that nobody knows for whom it is.
    Message,
    /// A recipient, taken or not.
    Recipient,
}

/// What a client spends at a stage of its session.
///
/// RFC 5321 §4.5.1: who has a complaint reaches the postmaster also when he may send nothing else;
/// the same for `abuse` (RFC 2142 §4).
pub fn spent_at(stage: &Stage) -> &'static [Counted] {
    match stage {
        Stage::Recipient { path, .. } if is_for_complaints(path) => &[],
        Stage::Recipient { .. } => &[Counted::Recipient],
        Stage::Connect | Stage::Hello { .. } | Stage::Mail { .. } => &[],
    }
}

/// What a client spends when that stage is otherwise accepted.
pub fn spent_when_taken(stage: &Stage) -> &'static [Counted] {
    match stage {
        Stage::Recipient { path, accepted_before: 0, .. } if !is_for_complaints(path) => {
            &[Counted::Message]
        }
        Stage::Connect | Stage::Hello { .. } | Stage::Mail { .. } | Stage::Recipient { .. } => &[],
    }
}

/// What a client is told that has spent everything.
pub const fn refusal(counted: Counted) -> Verdict {
    match counted {
        Counted::Message => {
            let text = "too many messages in a minute, try again later";
            Verdict::refuse("message-rate", Reply::new(450, (4, 7, 1), text))
        }
        Counted::Recipient => {
            let text = "too many recipients in a minute, try again later";
            Verdict::refuse("recipient-rate", Reply::new(450, (4, 7, 1), text))
        }
    }
}

fn is_for_complaints(path: &ForwardPath) -> bool {
    match path {
        ForwardPath::Mailbox(mailbox) => {
            let local = mailbox.local();
            ["postmaster", "abuse"].iter().any(|name| local.eq_ignore_ascii_case(name))
        }
        ForwardPath::Postmaster => true,
    }
}

/// By what a client is counted: its IPv4 address or, because it has as many addresses in it as it
/// likes, its IPv6 /64.
pub fn counted_as(address: IpAddr) -> IpAddr {
    prefix(address, 32, 64)
}

/// By what the neighbours of a client are counted: its IPv4 /24 or IPv6 /48, which is what one
/// customer of a provider gets.
pub fn network_of(address: IpAddr) -> IpAddr {
    prefix(address, 24, 48)
}

fn prefix(address: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - v4_bits).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - v6_bits).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

const MINUTE: Duration = Duration::from_mins(1);
/// Addresses that are remembered; some 5 MiB.
const ADDRESSES_MAX: usize = 65_536;
/// How long addresses are not looked through again.
const PRUNE_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use merpati_mail::address::Utf8Rule;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_minutes_worth_may_be_spent_at_once_and_comes_back_evenly() {
        let (mut rates, per_minute) = (Rates::default(), NonZeroU32::new(6).unwrap());
        let mut take = |secs: u64, from: &str| {
            rates.take(Time::from_secs(1_000 + secs), address(from), per_minute)
        };
        for _ in 0..6 {
            assert!(take(0, "192.0.2.1"));
        }
        assert!(!take(0, "192.0.2.1") && !take(9, "192.0.2.1"));
        assert!(take(0, "192.0.2.2"), "each address has its own");
        assert!(take(10, "192.0.2.1") && !take(10, "192.0.2.1"));
        assert!(!take(10, "::ffff:192.0.2.1"), "an address in other clothes is the same");
        for _ in 0..6 {
            assert!(take(200, "192.0.2.1"));
        }
        assert!(!take(200, "192.0.2.1"));
    }

    #[test]
    fn an_ipv6_client_counts_by_its_64() {
        let (mut rates, once) = (Rates::default(), NonZeroU32::MIN);
        let mut take = |from: &str| rates.take(Time::EPOCH, address(from), once);
        assert!(take("2001:db8::1") && !take("2001:db8::ffff:2"));
        assert!(take("2001:db8:0:1::1"));
    }

    #[test]
    fn neighbours_share_a_24_or_a_48() {
        for (one, other, want) in [
            ("192.0.2.1", "192.0.2.255", true),
            ("192.0.2.1", "192.0.3.1", false),
            ("2001:db8:1::1", "2001:db8:1:ffff::1", true),
            ("2001:db8:1::1", "2001:db8:2::1", false),
        ] {
            assert_eq!(network_of(address(one)) == network_of(address(other)), want, "{one}");
        }
    }

    #[test]
    fn a_message_is_counted_when_its_first_recipient_is_taken_and_complaints_never() {
        let spent = |path: &str, accepted_before| {
            let path = ForwardPath::parse_prefix(path, Utf8Rule::Allowed).unwrap().0;
            let stage = Stage::Recipient { path, accepted_before };
            (spent_at(&stage), spent_when_taken(&stage))
        };
        let (message, recipient) = (&[Counted::Message][..], &[Counted::Recipient][..]);
        assert_eq!(spent("<a@b.example>", 0), (recipient, message));
        assert_eq!(spent("<a@b.example>", 1), (recipient, &[][..]));
        for path in ["<postmaster>", "<PostMaster@b.example>", "<abuse@b.example>"] {
            assert_eq!(spent(path, 0), (&[][..], &[][..]), "{path}");
        }
        assert_eq!(spent_at(&Stage::Connect), []);
        assert_eq!(spent_when_taken(&Stage::Connect), []);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let (mut rates, once) = (Rates::default(), NonZeroU32::MIN);
        let many = u32::try_from(ADDRESSES_MAX).unwrap();
        for number in 0..many + 10 {
            assert!(rates.take(Time::from_secs(100), IpAddr::V4(number.into()), once));
        }
        assert_eq!(rates.whole_again.len(), ADDRESSES_MAX);
        let later = Time::from_secs(161);
        assert!(rates.take(later, IpAddr::V4(many.into()), once));
        assert_eq!(rates.whole_again.len(), 1);
    }
}
