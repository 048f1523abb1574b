//! Under which address of ours a stranger's mail is forwarded, and to whom a report on it goes: the
//! Sender Rewriting Scheme (Shevek, 2004).
//!
//! Invariant: an address is believed only with our own hash over all that it names; whatever else
//! is sent to such an address goes nowhere. Host names and local parts may be lower-cased on the
//! way. Pure: the hash is that of a [`Mac`].
//!
//! `SRS0=HASH=DAY=domain=local` stands for `local@domain`, for so many days. Where that is an
//! address of another forwarder, we do not grow it but guard it: `SRS1=HASH=host==…` stands for
//! his `SRS0=…@host`, and who comes behind us names him and not us. Of an `SRS1` the day is his
//! business.

use std::{fmt, sync::Arc};

use merpati_mail::{Domain, Mailbox, Time};

/// Rewrites senders into one domain, and reads what it wrote.
#[derive(Clone, Debug)]
pub struct Srs {
    domain: Domain,
    mac: Arc<dyn Mac>,
}

/// Proves that a text is ours.
pub trait Mac: fmt::Debug + Send + Sync {
    /// A hash that nobody can make without our key.
    fn mac(&self, text: &[u8]) -> [u8; MAC_OCTETS];
}

/// From whom mail is forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// From this address of ours.
    As(Mailbox),
    /// From the sender himself: of an address literal, SPF knows nothing.
    Same,
    /// From the sender himself: with him, an address of ours would be too long.
    TooLong,
}

/// Why an address does not lead back to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoReturn {
    /// It is ours, and older than [`DAYS_MAX`].
    Expired,
    /// It is none that we wrote.
    Forged,
}

/// Whether the age of an address matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It does not: what waits here is ours, however long it waits.
    Any,
    /// It is read at this wall time.
    At(Time),
}

impl Srs {
    /// Addresses in this domain, under the key of this hash.
    pub fn new(domain: Domain, mac: Arc<dyn Mac>) -> Self {
        Self { domain, mac }
    }

    /// From whom mail of this sender is forwarded; he is in no domain of ours.
    pub fn forwarded(&self, sender: &Mailbox, now: Time) -> Forwarded {
        let Some(domain) = sender.domain().as_name() else { return Forwarded::Same };
        let local = match Foreign::of(sender.local()) {
            Some(Foreign::First { rest }) => self.guard(domain, rest),
            Some(Foreign::Guarded { first, rest }) => self.guard(first, rest),
            None => {
                let rest = format!("{}={domain}={}", stamp(now), sender.local());
                format!("{FIRST}={}={rest}", self.hash(FIRST, &rest))
            }
        };
        Mailbox::new(&local, self.domain.clone()).map_or(Forwarded::TooLong, Forwarded::As)
    }

    /// For whom a report to this address is; `None` where it is an address like others.
    pub fn read(&self, mailbox: &Mailbox, age: Age) -> Option<Result<Mailbox, NoReturn>> {
        if *mailbox.domain() != self.domain {
            return None;
        }
        let local = mailbox.local();
        let after = |tag| after_tag(local, tag).and_then(|rest| rest.strip_prefix('='));
        if let Some(rest) = after(FIRST) {
            return Some(self.read_first(rest, age));
        }
        after(GUARDED).map(|rest| self.read_guarded(rest).ok_or(NoReturn::Forged))
    }

    /// `HASH=DAY=domain=local`.
    fn read_first(&self, text: &str, age: Age) -> Result<Mailbox, NoReturn> {
        let rest = self.proven(FIRST, text).ok_or(NoReturn::Forged)?;
        let (stamp, rest) = rest.split_once('=').ok_or(NoReturn::Forged)?;
        let (domain, local) = rest.split_once('=').ok_or(NoReturn::Forged)?;
        let original = Domain::parse(domain).and_then(|domain| Mailbox::new(local, domain));
        let original = original.map_err(|_| NoReturn::Forged)?;
        match age {
            Age::Any => Ok(original),
            Age::At(now) if is_fresh(stamp, now) => Ok(original),
            Age::At(_) => Err(NoReturn::Expired),
        }
    }

    /// `HASH=host=…`.
    fn read_guarded(&self, text: &str) -> Option<Mailbox> {
        let (host, rest) = self.proven(GUARDED, text)?.split_once('=')?;
        Mailbox::new(&format!("{FIRST}{rest}"), Domain::parse(host).ok()?).ok()
    }

    fn guard(&self, host: &str, rest: &str) -> String {
        let rest = format!("{host}={rest}");
        format!("{GUARDED}={}={rest}", self.hash(GUARDED, &rest))
    }

    /// What stands behind the hash, where that is ours.
    fn proven<'a>(&self, tag: &str, text: &'a str) -> Option<&'a str> {
        let (hash, rest) = text.split_once('=')?;
        let ours = self.hash(tag, rest);
        // Every octet is looked at: the time that it takes tells nothing of our hash.
        let differs = |all: u8, (a, b): (u8, u8)| all | (a.to_ascii_uppercase() ^ b);
        let is_ours =
            hash.len() == ours.len() && hash.bytes().zip(ours.bytes()).fold(0, differs) == 0;
        is_ours.then_some(rest)
    }

    /// Of the text in lower case, for hosts on the way may have lower-cased it.
    fn hash(&self, tag: &str, rest: &str) -> String {
        let mac = self.mac.mac(format!("{tag}={}", rest.to_lowercase()).as_bytes());
        let number = mac.iter().fold(0, |number, octet| number << 8 | u64::from(*octet));
        base32(number, HASH_LETTERS)
    }
}

/// The hashes of two are alike only where they have the same key, which nobody looks at here.
impl PartialEq for Srs {
    fn eq(&self, other: &Self) -> bool {
        self.domain == other.domain && Arc::ptr_eq(&self.mac, &other.mac)
    }
}

impl Eq for Srs {}

/// The local part of an address of another forwarder.
enum Foreign<'a> {
    /// Of one who forwards what its originator sent; with what stands behind `SRS0`.
    First { rest: &'a str },
    /// Of one who guards the address of the first, with what stands behind that one's `SRS0`.
    Guarded { first: &'a str, rest: &'a str },
}

impl<'a> Foreign<'a> {
    fn of(local: &'a str) -> Option<Self> {
        if let Some(rest) = after_tag(local, FIRST) {
            return Some(Self::First { rest });
        }
        let (_hash, rest) = after_tag(local, GUARDED)?.get(1..)?.split_once('=')?;
        let (first, rest) = rest.split_once('=')?;
        let is_name = Domain::parse(first).is_ok_and(|domain| domain.as_name().is_some());
        (is_name && rest.starts_with(SEPARATORS)).then_some(Self::Guarded { first, rest })
    }
}

/// What stands behind a tag, from its separator on.
fn after_tag<'a>(local: &'a str, tag: &str) -> Option<&'a str> {
    let (start, rest) = local.split_at_checked(tag.len())?;
    (start.eq_ignore_ascii_case(tag) && rest.starts_with(SEPARATORS)).then_some(rest)
}

/// Whether an address of this day is still good. One of tomorrow is: of two relays that share a key
/// one is ahead at midnight.
fn is_fresh(stamp: &str, now: Time) -> bool {
    let Some(day) = unbase32(stamp) else { return false };
    // The days go round, and so does their difference.
    let age = (DAYS + today(now) - day) % DAYS;
    age <= DAYS_MAX || age == DAYS - 1
}

fn stamp(now: Time) -> String {
    base32(today(now), STAMP_LETTERS)
}

const fn today(now: Time) -> u64 {
    now.as_secs() / SECONDS_OF_DAY % DAYS
}

/// The last so many letters of a number (RFC 4648 §6).
fn base32(number: u64, letters: u32) -> String {
    let letter = |place: u32| {
        let value = (number >> (5 * place)) & 31;
        usize::try_from(value).ok().and_then(|value| ALPHABET.get(value))
    };
    (0..letters).rev().filter_map(letter).map(|octet| char::from(*octet)).collect()
}

/// The day of a stamp, in whatever case.
fn unbase32(stamp: &str) -> Option<u64> {
    if stamp.len() != STAMP_LETTERS as usize {
        return None;
    }
    stamp.bytes().try_fold(0, |number, octet| {
        let value = ALPHABET.iter().position(|it| *it == octet.to_ascii_uppercase())?;
        Some(number << 5 | u64::try_from(value).ok()?)
    })
}

/// Days for which an address leads back: longer than mail waits anywhere.
pub const DAYS_MAX: u64 = 21;
/// Octets of a hash.
pub const MAC_OCTETS: usize = 5;
/// Letters of a hash: five bits each.
const HASH_LETTERS: u32 = 8;
/// Letters of a day.
const STAMP_LETTERS: u32 = 2;
/// Days after which they begin anew.
const DAYS: u64 = 1 << (5 * STAMP_LETTERS);
const SECONDS_OF_DAY: u64 = 86_400;
/// What the address of who forwards first begins with,
const FIRST: &str = "SRS0";
/// and that of who comes behind him.
const GUARDED: &str = "SRS1";
/// What may stand behind either; we write the first.
const SEPARATORS: [char; 3] = ['=', '+', '-'];
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

#[cfg(test)]
#[path = "srs_tests.rs"]
pub(crate) mod tests;
