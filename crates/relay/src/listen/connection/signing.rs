//! Signatures on what our users and our networks hand over.

use merpati_flow::admit;
use merpati_mail::{Domain, Overlay, Time};

use crate::{
    listen::{body::Collected, connection::Connection},
    world,
};

impl Connection<'_> {
    /// Puts our signatures on top of a message that leaves with these edits.
    pub(super) fn sign(&self, at: Time, edits: &mut Overlay, collected: &Collected) {
        let signers = &self.shared.signers;
        if signers.are_none() || !admit::is_signed_for(&self.plan.policy, &self.facts()) {
            return;
        }
        let edited: Vec<u8> = edits.slices(&collected.head).flatten().copied().collect();
        let octets_behind = collected.size_bytes - collected.head.len() as u64;
        let head = admit::Head::of(&edited, edited.len() as u64 + octets_behind);
        // Of several authors nobody could speak for all; nor of one who may not be the only one.
        let authors = world::authors(&head).unwrap_or_default();
        let [author] = &authors[..] else { return };
        let Ok(author) = Domain::parse(author) else { return };
        let fields = signers.sign(&author, &edited, || collected.signing_hash(), at);
        if edits.prepend_fields(fields.as_bytes()).is_err() {
            tracing::error!("a signature of ours is no header field");
        }
    }
}
