//! DNS lists of addresses and domains (RFC 5782): what is asked, and what an answer is worth.
//!
//! Invariant: only an answer that a list can mean counts as one. A list that has died, moved or
//! refuses us answers everything; it is then ignored and never believed, so that nothing makes it
//! "everybody is listed". Pure.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use merpati_mail::{
    Domain, Mailbox,
    question::{ListEntry, ListedAnswer},
};

use super::{Facts, Network};

/// A list that the operator named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Its name in rules and logs.
    pub name: Arc<str>,
    /// Its zone.
    pub zone: Domain,
    /// What is looked for in it.
    pub about: ListAbout,
    /// The codes that count; none: all of them.
    pub codes: Vec<Network>,
    /// What a hit leads to.
    pub action: ListAction,
}

/// What a list is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListAbout {
    /// The address of the client.
    Client,
    /// The domain of the reverse-path.
    SenderDomain,
}

/// What a hit leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListAction {
    /// It is written into the log.
    Note,
    /// Recipients are refused.
    Refuse,
}

impl List {
    /// What to look for; `None` where the session has nothing of the kind.
    pub fn entry(&self, facts: &Facts<'_>) -> Option<ListEntry> {
        match self.about {
            ListAbout::Client => Some(ListEntry::Address(facts.peer.to_canonical())),
            ListAbout::SenderDomain => {
                let mailbox: &Mailbox = facts.reverse_path?.mailbox()?;
                mailbox.domain().as_name()?;
                Some(ListEntry::Domain(mailbox.domain().clone()))
            }
        }
    }

    /// Whether the answer is a hit: the first code that counts.
    pub fn hit(&self, answer: &ListedAnswer) -> Option<Ipv4Addr> {
        let ListedAnswer::Yes { codes, reason: _ } = answer else { return None };
        let counts = |code: &&Ipv4Addr| {
            self.codes.is_empty() || self.codes.iter().any(|own| own.contains(IpAddr::V4(**code)))
        };
        codes.iter().find(counts).copied()
    }

    /// The entry that every list of this kind holds, and the one that none holds (RFC 5782 §5).
    pub fn test_points(&self) -> (ListEntry, ListEntry) {
        match self.about {
            ListAbout::Client => {
                let address = |last| ListEntry::Address(Ipv4Addr::new(127, 0, 0, last).into());
                (address(2), address(1))
            }
            ListAbout::SenderDomain => {
                // A name of one label always parses; were it not so, the list would not be used.
                let name = |text| Domain::parse(text).unwrap_or_else(|_| Domain::localhost());
                (ListEntry::Domain(name("test")), ListEntry::Domain(name("invalid")))
            }
        }
    }
}

/// The name under which a list has an entry (RFC 5782 §2.1, §2.4, §3); `None` where it would be
/// too long.
pub fn query_name(zone: &Domain, entry: &ListEntry) -> Option<Domain> {
    let zone = zone.as_name()?;
    let text = match entry {
        ListEntry::Address(address) => format!("{}.{zone}", reversed(*address)),
        ListEntry::Domain(domain) => format!("{}.{zone}", domain.as_name()?),
    };
    Domain::parse(&text).ok()
}

/// The name under which the DNS has the name of an address (RFC 1035 §3.5, RFC 3596 §2.5).
pub fn reverse_name(address: IpAddr) -> Option<Domain> {
    let address = address.to_canonical();
    let tree = if address.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" };
    Domain::parse(&format!("{}.{tree}", reversed(address))).ok()
}

/// Octets of IPv4 or nibbles of IPv6, the last one first.
fn reversed(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            let nibbles: Vec<String> =
                (0..32).map(|at| format!("{:x}", bits >> (4 * at) & 0xf)).collect();
            nibbles.join(".")
        }
    }
}

/// What the addresses that a list answered with mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The entry is listed, with these codes.
    Listed(Vec<Ipv4Addr>),
    /// They mean nothing about the entry, but that the list must not be believed.
    Nonsense(Nonsense),
    /// The entry is not listed.
    NotListed,
}

/// Why an answer is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonsense {
    /// The list says that we may not ask it so, or asked too much, or by a public resolver.
    Error(Ipv4Addr),
    /// No list answers so (RFC 5782 §2.1): its domain has expired, or somebody rewrites answers.
    Outside(IpAddr),
}

impl fmt::Display for Nonsense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(code) => write!(f, "it answers with the error code {code}"),
            Self::Outside(address) => {
                write!(f, "it answers with {address}, which is outside of 127.0.0.0/8")
            }
        }
    }
}

/// What these addresses mean. One that means nothing spoils them all: who answers so does not
/// speak for the list.
pub fn heard(addresses: &[IpAddr]) -> Heard {
    let mut codes = Vec::new();
    for address in addresses {
        match address {
            IpAddr::V4(code) if is_error(*code) => return Heard::Nonsense(Nonsense::Error(*code)),
            IpAddr::V4(code) if code.is_loopback() => codes.push(*code),
            IpAddr::V4(_) | IpAddr::V6(_) => {
                return Heard::Nonsense(Nonsense::Outside(*address));
            }
        }
    }
    if codes.is_empty() { Heard::NotListed } else { Heard::Listed(codes) }
}

/// The codes by which lists refuse an answer: 127.255.255.0/24 (Spamhaus) and 127.0.0.1 (SURBL,
/// URIBL), which no entry has (RFC 5782 §2.1).
fn is_error(code: Ipv4Addr) -> bool {
    let [a, b, c, d] = code.octets();
    (a, b, c) == (127, 255, 255) || (a, b, c, d) == (127, 0, 0, 1)
}

/// Whether a list may be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Good,
    /// No, for this reason.
    Bad(String),
    /// Nobody knows: it could not be asked.
    Unknown,
}

/// What the answers at its two test points say of a list; `None` for one that did not come.
pub fn standing(always: Option<&Heard>, never: Option<&Heard>) -> Standing {
    let bad = |why: String| Standing::Bad(why);
    match (always, never) {
        (Some(Heard::Nonsense(why)), _) | (_, Some(Heard::Nonsense(why))) => bad(why.to_string()),
        (_, Some(Heard::Listed(_))) => bad("it lists what no list lists (127.0.0.1)".to_owned()),
        (Some(Heard::NotListed), Some(Heard::NotListed)) => {
            bad("it does not list what every list lists (127.0.0.2)".to_owned())
        }
        (Some(Heard::Listed(_)), Some(Heard::NotListed)) => Standing::Good,
        (None, _) | (_, None) => Standing::Unknown,
    }
}

/// The text of a list in a form that fits into a reply: one line of ASCII, not too long; `None`
/// where nothing is left of it.
pub fn reason(texts: &[String]) -> Option<String> {
    let joined = texts.join(" ");
    let clean: String = joined
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { ' ' })
        .take(REASON_CHARS_MAX)
        .collect();
    let words: Vec<&str> = clean.split_ascii_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// What a reply line holds beside it (RFC 5321 §4.5.3.1.5: 512 octets).
const REASON_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use merpati_mail::{ReversePath, Time};

    use super::{super::Room, *};

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn entries_are_asked_for_backwards() {
        let zone = Domain::parse("list.example").unwrap();
        let address = |text: &str| ListEntry::Address(text.parse().unwrap());
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2";
        for (entry, want) in [
            (address("192.0.2.99"), "99.2.0.192.list.example".to_owned()),
            (address("::ffff:192.0.2.99"), "99.2.0.192.list.example".to_owned()),
            (address("2001:db8::1"), format!("{v6}.list.example")),
            (
                ListEntry::Domain(Domain::parse("Spam.Example").unwrap()),
                "spam.example.list.example".to_owned(),
            ),
        ] {
            assert_eq!(query_name(&zone, &entry).unwrap().to_string(), want);
        }
        let literal = ListEntry::Domain(Domain::parse("[192.0.2.1]").unwrap());
        assert_eq!(query_name(&zone, &literal), None);
        let label = "a".repeat(63);
        let long = Domain::parse(&format!("{label}.{label}.{label}.{}", "a".repeat(50))).unwrap();
        assert_eq!(query_name(&zone, &ListEntry::Domain(long)), None);
        let name = |text: &str| reverse_name(text.parse().unwrap()).unwrap().to_string();
        assert_eq!(name("192.0.2.99"), "99.2.0.192.in-addr.arpa");
        assert_eq!(name("2001:db8::1"), format!("{v6}.ip6.arpa"));
    }

    #[test]
    fn only_what_a_list_can_mean_is_a_hit() {
        let error = |text: &str| Heard::Nonsense(Nonsense::Error(text.parse().unwrap()));
        let outside = |text: &str| Heard::Nonsense(Nonsense::Outside(text.parse().unwrap()));
        let listed = |texts: &[&str]| {
            Heard::Listed(texts.iter().map(|text| text.parse().unwrap()).collect())
        };
        for (texts, want) in [
            (&[][..], Heard::NotListed),
            (&["127.0.0.2"], listed(&["127.0.0.2"])),
            (&["127.0.0.4", "127.0.0.11"], listed(&["127.0.0.4", "127.0.0.11"])),
            (&["127.1.2.3"], listed(&["127.1.2.3"])),
            (&["127.255.255.254"], error("127.255.255.254")),
            (&["127.255.255.252"], error("127.255.255.252")),
            (&["127.0.0.1"], error("127.0.0.1")),
            (&["127.0.0.2", "127.255.255.255"], error("127.255.255.255")),
            (&["203.0.113.7"], outside("203.0.113.7")),
            (&["127.0.0.2", "203.0.113.7"], outside("203.0.113.7")),
            (&["0.0.0.0"], outside("0.0.0.0")),
            (&["::1"], outside("::1")),
        ] {
            assert_eq!(heard(&addresses(texts)), want, "{texts:?}");
        }
    }

    #[test]
    fn nonsense_is_told_with_its_address() {
        for address in ["127.255.255.254", "203.0.113.7"] {
            let Heard::Nonsense(why) = heard(&addresses(&[address])) else { panic!("{address}") };
            assert!(why.to_string().contains(address), "{why}");
        }
    }

    #[test]
    fn a_list_is_good_only_if_its_test_points_are() {
        let (yes, no) = (heard(&addresses(&["127.0.0.2"])), Heard::NotListed);
        let (wild, error) =
            (heard(&addresses(&["203.0.113.7"])), heard(&addresses(&["127.255.255.254"])));
        for (always, never, want) in [
            (Some(&yes), Some(&no), "good"),
            (Some(&yes), Some(&yes), "bad"),
            (Some(&no), Some(&no), "bad"),
            (Some(&no), Some(&yes), "bad"),
            (Some(&wild), Some(&wild), "bad"),
            (Some(&error), None, "bad"),
            (None, Some(&wild), "bad"),
            (None, Some(&no), "unknown"),
            (Some(&yes), None, "unknown"),
            (None, None, "unknown"),
        ] {
            let got = match standing(always, never) {
                Standing::Good => "good",
                Standing::Bad(_) => "bad",
                Standing::Unknown => "unknown",
            };
            assert_eq!(got, want, "{always:?} {never:?}");
        }
    }

    #[test]
    fn codes_choose_what_counts() {
        let list = |codes: &[&str]| List {
            name: "l".into(),
            zone: Domain::parse("list.example").unwrap(),
            about: ListAbout::Client,
            codes: codes.iter().map(|code| code.parse().unwrap()).collect(),
            action: ListAction::Refuse,
        };
        let yes = |codes: &[&str]| ListedAnswer::Yes {
            codes: codes.iter().map(|code| code.parse().unwrap()).collect(),
            reason: None,
        };
        for (own, answer, want) in [
            (&[][..], yes(&["127.0.0.9"]), Some("127.0.0.9")),
            (&["127.0.0.2", "127.0.0.4/30"], yes(&["127.0.0.9", "127.0.0.6"]), Some("127.0.0.6")),
            (&["127.0.0.2"], yes(&["127.0.0.3"]), None),
            (&[], ListedAnswer::No, None),
            (&[], ListedAnswer::Unknown, None),
        ] {
            let want = want.map(|text| text.parse::<Ipv4Addr>().unwrap());
            assert_eq!(list(own).hit(&answer), want, "{own:?} {answer:?}");
        }
    }

    #[test]
    fn a_list_of_domains_is_asked_about_the_sender_and_never_about_nobody() {
        let list = List {
            name: "l".into(),
            zone: Domain::parse("list.example").unwrap(),
            about: ListAbout::SenderDomain,
            codes: Vec::new(),
            action: ListAction::Refuse,
        };
        for (sender, want) in
            [("a@spam.example", Some("spam.example")), ("a@[192.0.2.1]", None), ("", None)]
        {
            let reverse_path = ReversePath(Mailbox::parse(sender).ok());
            let facts = Facts {
                peer: Ipv4Addr::LOCALHOST.into(),
                credential: None,
                room: Room::Roomy,
                reverse_path: Some(&reverse_path),
                now: Time::EPOCH,
            };
            let want = want.map(|text| ListEntry::Domain(Domain::parse(text).unwrap()));
            assert_eq!(list.entry(&facts), want, "{sender}");
        }
    }

    #[test]
    fn the_reason_of_a_list_fits_into_a_line() {
        let texts =
            |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        for (all, want) in [
            (
                &["listed, see http://l.example/?ip=192.0.2.1"][..],
                Some("listed, see http://l.example/?ip=192.0.2.1"),
            ),
            (&["two", "parts"], Some("two parts")),
            (&["a\r\n250 2.0.0 ok\u{0}\u{fc}\u{1b}[2J"], Some("a 250 2.0.0 ok [2J")),
            (&["\r\n\t"], None),
            (&[], None),
        ] {
            assert_eq!(reason(&texts(all)).as_deref(), want, "{all:?}");
        }
        let long = reason(&["x".repeat(5_000)]).unwrap();
        assert_eq!(long.len(), REASON_CHARS_MAX);
    }
}
