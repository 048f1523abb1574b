//! What becomes of any content that is taken: passed on octet for octet, or mended.
//!
//! Properties: a relay adds one Received field and takes away nothing but whole fields; a
//! submission goes out with one From, without what must not leave, and mending it again changes
//! nothing more. Pure.

use std::collections::{BTreeMap, BTreeSet};

use merpati_flow::{
    admit::{Head, ListenerKind, Policy, Senders, Strangers},
    content::{self, Rules, Taking},
    repair,
};
use merpati_mail::{Domain, NodeId, QueueId, Time, header};

use crate::samples;

/// A content with CRLF at the end of each line.
pub fn content(octets: &[u8]) {
    let whole = lines(octets);
    relayed(&whole);
    submitted(&whole);
}

/// What a session takes: no NUL, no CR and no LF but in CRLF.
fn lines(octets: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(octets.len());
    for octet in octets.iter().filter(|octet| !matches!(octet, b'\r' | b'\0')) {
        if *octet == b'\n' {
            whole.push(b'\r');
        }
        whole.push(*octet);
    }
    if !whole.is_empty() && !whole.ends_with(b"\r\n") {
        whole.extend_from_slice(b"\r\n");
    }
    whole
}

fn relayed(whole: &[u8]) {
    let Some(sent) = taken(whole, ListenerKind::Relay, false) else { return };
    let (received, rest) = sent.split_at(header::body_start(&sent[..first_field(&sent)]));
    assert!(received.starts_with(b"Received: "), "{}", sent.escape_ascii());
    // In front of what is no header there is an empty line.
    let body = rest.strip_prefix(b"\r\n").unwrap_or(rest);
    assert!(is_below(rest, whole) || is_below(body, whole), "{}", sent.escape_ascii());
}

/// Octets of the first field.
fn first_field(message: &[u8]) -> usize {
    header::fields(message).next().map_or(0, |field| field.range.end)
}

/// Whether all lines of `less` stand in `all`, in this order.
fn is_below(less: &[u8], all: &[u8]) -> bool {
    let mut all = all.split_inclusive(|octet| *octet == b'\n');
    less.split_inclusive(|octet| *octet == b'\n').all(|line| all.any(|other| other == line))
}

fn submitted(whole: &[u8]) {
    let Some(sent) = taken(whole, ListenerKind::Submission, true) else { return };
    let count = |name: &str| header::count(&sent, name);
    assert_eq!(count("From"), 1, "{}", sent.escape_ascii());
    assert_eq!((count("Bcc"), count("Return-Path")), (0, 0), "{}", sent.escape_ascii());
    assert!(count("Date") >= 1 && count("Message-ID") >= 1, "{}", sent.escape_ascii());
    assert!(!sent.contains(&0) && bare(&sent) == 0, "{}", sent.escape_ascii());
    let again = taken(&sent, ListenerKind::Submission, true).expect("it is taken once more");
    let below = &again[first_field(&again)..];
    assert_eq!(below.escape_ascii().to_string(), sent.escape_ascii().to_string(), "mended again");
}

/// CR and LF that stand alone.
fn bare(octets: &[u8]) -> usize {
    let count =
        |octet: u8| octets.iter().fold(0, |count, other| count + usize::from(*other == octet));
    let pairs = octets.windows(2).filter(|pair| pair == b"\r\n").count();
    count(b'\r') + count(b'\n') - 2 * pairs
}

/// What is sent on; `None` where it is refused.
fn taken(whole: &[u8], kind: ListenerKind, is_own: bool) -> Option<Vec<u8>> {
    let policy = Policy {
        kind,
        local_domains: BTreeSet::new(),
        networks: Vec::new(),
        senders: BTreeMap::from([("ani".to_owned(), Senders::Any)]),
        vouched_domains: BTreeSet::new(),
        size_bytes_max: 1 << 20,
        hops_max: 100,
        strangers: Strangers::default(),
        contents: Rules::default(),
        aliases: None,
        internal_domains: [].into(),
        confined: [].into(),
    };
    let longest = whole.split(|octet| *octet == b'\n').map(|line| line.len().saturating_sub(1));
    let longest_line_octets = longest.max().unwrap_or(0) as u64;
    let mut whole = whole.to_vec();
    if policy.asks_for_repair(&whole, longest_line_octets)
        && let Some(repaired) = repair::repaired(&whole).ok()?
    {
        whole = repaired;
    }
    let id = QueueId::new(NodeId::default(), 1, 1);
    let mut accepted = samples::accepted(id, 0);
    accepted.envelope.origin.credential = is_own.then(|| "ani".to_owned());
    let hostname = Domain::parse("mx.ours.example").expect("a domain");
    let taking = Taking {
        policy: &policy,
        hostname: &hostname,
        envelope: &accepted.envelope,
        id,
        original: (id, &accepted.envelope.reverse_path),
        at: Time::from_secs(1_000_000_000),
        longest_line_octets,
        provenance: None,
    };
    let head = Head::of(&whole, whole.len() as u64);
    let edits = content::decide(&taking, &head).ok()?;
    Some(edits.slices(&whole).flatten().copied().collect())
}
