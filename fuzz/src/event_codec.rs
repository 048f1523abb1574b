//! Whether an event is read as it was written, and any octets without a panic. Pure.

use merpati_mail::Event;
use merpati_spool::codec::{decode, encode};

use crate::samples::events;

/// The first octet chooses an event, and each three that follow (place, place, value) change an
/// octet of its encoding; where there is no such event, the octets themselves are read.
pub fn event_codec(octets: &[u8]) {
    check(octets);
    let Some((&kind, changes)) = octets.split_first() else { return };
    let events = events();
    let Some(event) = events.get(usize::from(kind.wrapping_sub(b'0'))) else { return };
    let mut written = written(event);
    assert_eq!(decode(&written).as_ref(), Ok(event));
    for change in changes.chunks_exact(3) {
        let place = usize::from(change[0]) | usize::from(change[1]) << 8;
        let at = place % written.len();
        written[at] = change[2];
    }
    check(&written);
    check(&written[..written.len() - changes.len() % 3]);
}

fn check(octets: &[u8]) {
    if let Ok(event) = decode(octets) {
        assert_eq!(decode(&written(&event)), Ok(event));
    }
}

fn written(event: &Event) -> Vec<u8> {
    let mut octets = Vec::new();
    encode(event, &mut octets);
    octets
}
