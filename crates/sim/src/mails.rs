//! The mail that a world carries: who writes what to whom.
//!
//! Pure: everything is drawn from the seed.

use std::collections::BTreeSet;

use merpati_mail::{Draw, ForwardPath, Mailbox, Recipient, ReversePath, envelope::Notify};

use crate::mark::Mark;

/// A mail that somebody submits.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    /// Its name, in its `X-Sim` field.
    pub(crate) token: String,
    pub(crate) from: ReversePath,
    pub(crate) to: Vec<Recipient>,
    pub(crate) content: Vec<u8>,
    /// Whether the submitter may send anywhere.
    pub(crate) is_stranger: bool,
    /// Whether the submitter stops in the midst of the content.
    pub(crate) is_stalling: bool,
}

/// Domains of recipients; some come more often, because their hosts are more interesting.
const DOMAINS: &[&str] = &[
    "spread.example",
    "spread.example",
    "spread.example",
    "spread.example",
    "spread.example",
    "grey.example",
    "cut.example",
    "cut.example",
    "ambiguous.example",
    "throttle.example",
    "broken.example",
    "few.example",
    "few.example",
    "users.example",
    "slow.example",
    "old.example",
    "via.example",
    "via.example",
    "dead.example",
    "null.example",
    "none.example",
    "unsure.example",
    "nowhere.test",
];

pub(crate) fn mail(number: usize, draw: &mut Draw, marks: &mut BTreeSet<Mark>) -> Mail {
    let token = format!("m{number}-{}", draw.below(1_000_000));
    let is_stranger = draw.chance(6);
    let from = if draw.chance(8) {
        ReversePath(None)
    } else if draw.chance(10) {
        ReversePath(Mailbox::parse("gone@null.example").ok())
    } else {
        ReversePath(Mailbox::parse(&format!("a{number}@home.example")).ok())
    };
    let content = content(&token, draw, marks);
    let to = recipients(draw);
    Mail { token, from, to, content, is_stranger, is_stalling: draw.chance(3) }
}

fn recipients(draw: &mut Draw) -> Vec<Recipient> {
    let mut addresses = BTreeSet::new();
    let count = if draw.chance(20) { 6 + draw.below(8) } else { 1 + draw.below(3) };
    let one_domain = draw.chance(40).then(|| domain(draw));
    for number in 0..count {
        let local = match draw.below(8) {
            0 => "no".to_owned(),
            1 => "full".to_owned(),
            _ => format!("u{number}"),
        };
        let domain = one_domain.unwrap_or_else(|| domain(draw));
        addresses.insert(format!("{local}@{domain}"));
    }
    let notify = draw.chance(25).then(|| asked(draw));
    let recipient = |a: String| {
        let path = ForwardPath::Mailbox(Mailbox::parse(&a).ok()?);
        Some(Recipient { path, notify, orcpt: None })
    };
    addresses.into_iter().filter_map(recipient).collect()
}

/// What an originator wants to hear of.
fn asked(draw: &mut Draw) -> Notify {
    let bits = draw.below(8);
    let (delay, failure, success) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
    if bits == 0 { Notify::Never } else { Notify::On { delay, failure, success } }
}

fn domain(draw: &mut Draw) -> &'static str {
    let at = usize::try_from(draw.below(DOMAINS.len() as u64)).unwrap_or(0);
    DOMAINS.get(at).copied().unwrap_or("spread.example")
}

fn content(token: &str, draw: &mut Draw, marks: &mut BTreeSet<Mark>) -> Vec<u8> {
    let mut content = format!("X-Sim: {token}\r\nSubject: simulated\r\n\r\n").into_bytes();
    let lines = if draw.chance(4) { 3_000 } else { draw.below(20) };
    for _ in 0..lines {
        match draw.below(6) {
            0 => {
                content.extend_from_slice(b".\r\n..x\r\n");
                marks.insert(Mark::DotLine);
            }
            1 => {
                content.extend_from_slice("Merpati \u{2192} rumah\r\n".as_bytes());
                marks.insert(Mark::EightBit);
            }
            2 => content.extend_from_slice(b"\r\n"),
            _ => content.extend_from_slice(b"the carrier pigeon finds the way home\r\n"),
        }
    }
    content
}

/// The name of the mail whose content this is; reports are named by their own `Message-ID`.
pub(crate) fn token(content: &[u8]) -> Option<String> {
    use merpati_mail::header;
    if let Some(field) = header::first(content, "X-Sim") {
        return Some(field.unfolded());
    }
    header::first(content, "Message-ID").map(|field| field.unfolded())
}
