//! Signatures on what our users and our networks hand over, and seals on what strangers do.

use merpati_flow::admit;
use merpati_mail::{Domain, Overlay, Time};

use crate::{
    listen::{body::Collected, connection::Connection},
    world,
};

impl Connection<'_> {
    /// Puts our signatures, or our seal, on top of a message that leaves with these edits.
    pub(super) fn sign(&self, at: Time, edits: &mut Overlay, collected: &Collected) {
        if self.shared.signers.are_none() {
            return;
        }
        let edited = edits.slices(&collected.head).collect::<Vec<_>>().concat();
        let fields = if admit::is_signed_for(&self.plan.policy, &self.facts()) {
            self.signatures(at, &edited, collected)
        } else {
            self.seal(at, &edited, collected)
        };
        if edits.prepend_fields(fields.as_bytes()).is_err() {
            tracing::error!("a signature of ours is no header field");
        }
    }

    /// `edited` is the header as it leaves, with what follows.
    fn signatures(&self, at: Time, edited: &[u8], collected: &Collected) -> String {
        let octets_behind = collected.size_bytes - collected.head.len() as u64;
        let head = admit::Head::of(edited, edited.len() as u64 + octets_behind);
        // Of several authors nobody could speak for all; nor of one who may not be the only one.
        let authors = world::authors(&head).unwrap_or_default();
        let [author] = &authors[..] else { return String::new() };
        let Ok(author) = Domain::parse(author) else { return String::new() };
        self.shared.signers.sign(&author, edited, || collected.signing_hash(), at)
    }

    fn seal(&self, at: Time, edited: &[u8], collected: &Collected) -> String {
        let chain = collected.looked.as_ref().and_then(|looked| looked.chain.as_ref());
        let Some(chain) = chain else { return String::new() };
        self.shared.signers.seal(chain, edited, || collected.signing_hash(), at)
    }
}
