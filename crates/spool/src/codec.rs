//! How an event lies on disk: `docs/format.md` §5, table by table.
//!
//! Invariant: `decode(encode(event)) == event`; a tag or number is never given a second meaning.
//! Pure.

use std::sync::Arc;

use merpati_mail::{
    DeliveryId, Event, Overlay, QueueId, Time,
    event::{Accepted, Attempted, Carried, CauseNote, DeliveryState, Waiting},
    outcome::Class,
};

use crate::{
    codec_mail::{
        attempt_version, envelope_version, put_attempt, put_cause, put_envelope, put_hold,
        put_outcome, read_attempt, read_cause, read_envelope, read_hold, read_outcome,
    },
    wire::{
        CodecError, Reader, put_list, put_octets, put_option, put_text, put_u16, put_u32, put_u64,
    },
};

/// Writes the event behind what is already in `out`.
pub fn encode(event: &Event, out: &mut Vec<u8>) {
    let version = version_of(event);
    out.extend_from_slice(&[tag(event), version]);
    match event {
        Event::Accepted(accepted) | Event::Captured(accepted) => {
            put_accepted(out, accepted, version);
        }
        Event::Attempted(attempted) => {
            put_u64(out, attempted.message.bits());
            put_attempt(out, &attempted.attempt, version);
            put_list(out, &attempted.outcomes, |out, (recipient, outcome)| {
                put_u32(out, *recipient);
                put_outcome(out, outcome);
            });
        }
        Event::Cancelled(delivery) => put_delivery(out, *delivery),
        Event::Carried(carried) => {
            put_accepted(out, &carried.accepted, version);
            put_list(out, &carried.deliveries, |out, (recipient, state)| {
                put_u32(out, *recipient);
                put_u32(out, state.attempts);
                put_waiting(out, state);
                if version >= ROUTED {
                    put_option(out, state.rule.as_ref(), |out, rule| put_text(out, rule));
                }
            });
        }
        Event::ConfigChanged { digest } => out.extend_from_slice(digest),
        Event::Delayed { message, recipients } => {
            put_u64(out, message.bits());
            put_list(out, recipients, |out, recipient| put_u32(out, *recipient));
        }
        Event::Expired { delivery, cause } => {
            put_delivery(out, *delivery);
            put_cause(out, cause);
        }
        Event::Held { delivery, hold } => {
            put_delivery(out, *delivery);
            put_hold(out, hold);
        }
        Event::Released { delivery, until } => {
            put_delivery(out, *delivery);
            put_u64(out, until.as_micros());
        }
        Event::Rerouted { delivery, rule, until } => {
            put_delivery(out, *delivery);
            put_option(out, rule.as_ref(), |out, rule| put_text(out, rule));
            put_u64(out, until.as_micros());
        }
        Event::Retired(id) => put_u64(out, id.bits()),
    }
}

/// Reads one event; it must fill `octets` exactly.
pub fn decode(octets: &[u8]) -> Result<Event, CodecError> {
    let from = &mut Reader::new(octets);
    let (tag, version) = (from.u8()?, from.u8()?);
    if version > newest_of(tag) {
        return Err(CodecError(format!("event {tag} has the unknown version {version}")));
    }
    let event = match tag {
        ACCEPTED => Event::Accepted(Box::new(read_accepted(from, version)?)),
        ATTEMPTED => Event::Attempted(Box::new(Attempted {
            message: read_id(from)?,
            attempt: read_attempt(from, version)?,
            outcomes: from.list(5, |from| Ok((from.u32()?, read_outcome(from)?)))?,
        })),
        CANCELLED => Event::Cancelled(read_delivery(from)?),
        CAPTURED => Event::Captured(Box::new(read_accepted(from, version)?)),
        CARRIED => Event::Carried(Box::new(Carried {
            accepted: read_accepted(from, version)?,
            deliveries: from.list(9, |from| {
                let recipient = from.u32()?;
                Ok((recipient, read_state(from, version)?))
            })?,
        })),
        CONFIG_CHANGED => Event::ConfigChanged { digest: from.array()? },
        DELAYED => {
            Event::Delayed { message: read_id(from)?, recipients: from.list(4, Reader::u32)? }
        }
        EXPIRED => Event::Expired { delivery: read_delivery(from)?, cause: read_cause(from)? },
        HELD => Event::Held { delivery: read_delivery(from)?, hold: read_hold(from)? },
        RELEASED => Event::Released { delivery: read_delivery(from)?, until: read_time(from)? },
        REROUTED => Event::Rerouted {
            delivery: read_delivery(from)?,
            rule: read_rule(from)?,
            until: read_time(from)?,
        },
        RETIRED => Event::Retired(read_id(from)?),
        unknown => return Err(CodecError(format!("the event tag {unknown} is unknown"))),
    };
    from.end()?;
    Ok(event)
}

const fn tag(event: &Event) -> u8 {
    match event {
        Event::Accepted(_) => ACCEPTED,
        Event::Attempted(_) => ATTEMPTED,
        Event::Cancelled(_) => CANCELLED,
        Event::Captured(_) => CAPTURED,
        Event::Carried(_) => CARRIED,
        Event::ConfigChanged { .. } => CONFIG_CHANGED,
        Event::Delayed { .. } => DELAYED,
        Event::Expired { .. } => EXPIRED,
        Event::Held { .. } => HELD,
        Event::Released { .. } => RELEASED,
        Event::Rerouted { .. } => REROUTED,
        Event::Retired(_) => RETIRED,
    }
}

/// The version in which an event is written: the oldest that can hold it, so that most of them can
/// be read by an older program.
fn version_of(event: &Event) -> u8 {
    match event {
        Event::Accepted(accepted) | Event::Captured(accepted) => {
            envelope_version(&accepted.envelope)
        }
        Event::Carried(carried) => {
            let is_routed = carried.deliveries.iter().any(|(_, state)| state.rule.is_some());
            let version = envelope_version(&carried.accepted.envelope);
            if is_routed { ROUTED } else { version }
        }
        Event::Attempted(attempted) => attempt_version(&attempted.attempt),
        Event::Cancelled(_)
        | Event::ConfigChanged { .. }
        | Event::Expired { .. }
        | Event::Held { .. }
        | Event::Released { .. }
        | Event::Rerouted { .. }
        | Event::Delayed { .. }
        | Event::Retired(_) => 0,
    }
}

/// The newest version of a tag that is read.
const fn newest_of(tag: u8) -> u8 {
    match tag {
        ACCEPTED | ATTEMPTED | CAPTURED => 1,
        CARRIED => ROUTED,
        _ => 0,
    }
}

fn put_accepted(out: &mut Vec<u8>, accepted: &Accepted, version: u8) {
    put_u64(out, accepted.id.bits());
    put_envelope(out, &accepted.envelope, version);
    put_octets(out, &accepted.edits.prepend);
    put_list(out, &accepted.edits.remove, |out, range| {
        put_u32(out, range.start);
        put_u32(out, range.end);
    });
    put_u64(out, accepted.size_bytes);
}

fn read_accepted(from: &mut Reader<'_>, version: u8) -> Result<Accepted, CodecError> {
    Ok(Accepted {
        id: read_id(from)?,
        envelope: read_envelope(from, version)?,
        edits: Overlay {
            prepend: from.octets()?.to_vec(),
            remove: from.list(8, |from| Ok(from.u32()?..from.u32()?))?,
        },
        size_bytes: from.u64()?,
    })
}

/// The tag also tells whether the originator was told of the delay.
fn put_waiting(out: &mut Vec<u8>, state: &DeliveryState) {
    let told = if state.is_delay_told { DELAY_TOLD } else { 0 };
    match &state.waiting {
        Waiting::Held { hold, cause } => {
            out.push(HELD_NOW + told);
            put_hold(out, hold);
            put_note(out, cause.as_ref());
        }
        Waiting::Until { time, cause } => {
            out.push(UNTIL + told);
            put_u64(out, time.as_micros());
            put_note(out, cause.as_ref());
        }
    }
}

fn read_state(from: &mut Reader<'_>, version: u8) -> Result<DeliveryState, CodecError> {
    let attempts = from.u32()?;
    let tag = from.u8()?;
    let is_delay_told = tag > DELAY_TOLD;
    let kind = if is_delay_told { tag - DELAY_TOLD } else { tag };
    let waiting = match kind {
        HELD_NOW => Waiting::Held { hold: read_hold(from)?, cause: read_note(from)? },
        UNTIL => Waiting::Until { time: read_time(from)?, cause: read_note(from)? },
        _ => return Err(CodecError::new("it is unknown what a delivery waits for")),
    };
    let rule = if version >= ROUTED { read_rule(from)? } else { None };
    Ok(DeliveryState { attempts, waiting, is_delay_told, rule })
}

fn read_rule(from: &mut Reader<'_>) -> Result<Option<Arc<str>>, CodecError> {
    from.option(|from| from.text().map(Arc::from))
}

fn put_note(out: &mut Vec<u8>, note: Option<&CauseNote>) {
    put_option(out, note, |out, note| {
        out.push(note.class.number());
        put_u16(out, note.code);
    });
}

fn read_note(from: &mut Reader<'_>) -> Result<Option<CauseNote>, CodecError> {
    from.option(|from| Ok(CauseNote { class: read_class(from)?, code: from.u16()? }))
}

pub(crate) fn read_class(from: &mut Reader<'_>) -> Result<Class, CodecError> {
    let number = from.u8()?;
    Class::from_number(number).ok_or_else(|| CodecError(format!("the class {number} is unknown")))
}

fn put_delivery(out: &mut Vec<u8>, delivery: DeliveryId) {
    put_u64(out, delivery.message.bits());
    put_u32(out, delivery.recipient);
}

fn read_delivery(from: &mut Reader<'_>) -> Result<DeliveryId, CodecError> {
    Ok(DeliveryId { message: read_id(from)?, recipient: from.u32()? })
}

fn read_id(from: &mut Reader<'_>) -> Result<QueueId, CodecError> {
    from.u64().map(QueueId::from_bits)
}

pub(crate) fn read_time(from: &mut Reader<'_>) -> Result<Time, CodecError> {
    from.u64().map(Time::from_micros)
}

const ACCEPTED: u8 = 1;
const ATTEMPTED: u8 = 2;
const CANCELLED: u8 = 3;
const CAPTURED: u8 = 4;
const CARRIED: u8 = 5;
const CONFIG_CHANGED: u8 = 6;
const EXPIRED: u8 = 7;
const HELD: u8 = 8;
const RELEASED: u8 = 9;
const RETIRED: u8 = 10;
const DELAYED: u8 = 11;
const REROUTED: u8 = 12;

/// The version of `Carried` that can tell of rules that operators chose.
const ROUTED: u8 = 2;

/// A delivery is held.
const HELD_NOW: u8 = 1;
/// It waits for its time.
const UNTIL: u8 = 2;
/// Added to these where the originator was told of the delay.
const DELAY_TOLD: u8 = 2;
