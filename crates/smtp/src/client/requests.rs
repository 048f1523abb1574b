//! What was asked for with a message besides its delivery, towards a peer that offers it or not.
//!
//! Invariant: nothing that must not be done without is left out silently. Pure.

use std::fmt::Write as _;

use merpati_mail::{ByMode, DeliverBy, Requests, Time, TlsRequest, outcome::Need};

use super::{Capabilities, Dialect, Extension};

/// What is left of the time for the delivery of a message (RFC 2852 §4.1.4).
#[derive(Clone, Copy, Debug)]
pub(super) struct Remaining {
    /// Seconds up to the deadline; below 0 behind it.
    seconds: i64,
    by: DeliverBy,
}

impl Remaining {
    pub(super) fn at(now: Time, by: DeliverBy) -> Self {
        let secs = |ahead: Time, behind: Time| {
            i64::try_from(ahead.since(behind).as_secs()).unwrap_or(SECONDS_MAX).min(SECONDS_MAX)
        };
        let left = secs(by.deadline, now) - secs(now, by.deadline);
        let seconds = match by.mode {
            ByMode::Notify => left,
            // RFC 2852 §4: no such message is due at once or before.
            ByMode::Return => left.max(1),
        };
        Self { seconds, by }
    }
}

/// What the message may not go without, and the peer does not offer.
///
/// A store that speaks LMTP is the last hop: what the extensions ask of the next one does not
/// concern it.
pub(super) fn lacking(
    requests: &Requests,
    remaining: Option<Remaining>,
    dialect: Dialect,
    offered: &Capabilities,
) -> Option<Need> {
    if dialect == Dialect::Lmtp {
        return None;
    }
    if requests.tls == TlsRequest::Required && !offered.offers(Extension::RequireTls) {
        return Some(Need::RequireTls);
    }
    // RFC 2852 §4.1.4: what is to be returned where it is late must not go to a host that would
    // not do so.
    let is_promised = |remaining: Remaining| {
        let is_early = u64::try_from(remaining.seconds).is_ok_and(|s| s >= offered.deliver_by_min);
        offered.offers(Extension::DeliverBy) && is_early
    };
    remaining
        .filter(|remaining| remaining.by.mode == ByMode::Return && !is_promised(*remaining))
        .map(|_| Need::DeliverBy)
}

/// Writes the parameters of MAIL behind its others.
pub(super) fn add(
    text: &mut String,
    requests: &Requests,
    remaining: Option<Remaining>,
    offered: &Capabilities,
) {
    // Writing to a string cannot fail.
    if let Some(Remaining { seconds, by }) =
        remaining.filter(|_| offered.offers(Extension::DeliverBy))
    {
        let trace = if by.is_traced { "T" } else { "" };
        let _ = write!(text, " BY={seconds};{}{trace}", by.mode.letter());
    }
    if let Some(priority) = requests.priority.filter(|_| offered.offers(Extension::MtPriority)) {
        let _ = write!(text, " MT-PRIORITY={priority}");
    }
    if requests.tls == TlsRequest::Required && offered.offers(Extension::RequireTls) {
        text.push_str(" REQUIRETLS");
    }
}

/// The most seconds that RFC 2852 §4 can tell.
const SECONDS_MAX: i64 = 999_999_999;
