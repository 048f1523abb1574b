//! Who sent a message that a stranger hands over.

use merpati_auth::Message;
use merpati_flow::admit;
use merpati_mail::{Envelope, Time};

use crate::{
    listen::{body::Collected, connection::Connection},
    world::Looked,
};

impl Connection<'_> {
    /// What is found out about it; `None` where nobody asks.
    pub(super) async fn provenance(
        &self,
        at: Time,
        envelope: &Envelope,
        collected: &Collected,
    ) -> Option<Looked> {
        if !admit::asks_provenance(&self.plan.policy, &self.facts()) {
            return None;
        }
        let head = admit::Head::of(&collected.head, collected.size_bytes);
        let message = Message::read(head.octets());
        let (by, hashes) = (&self.shared.hostname, collected.hashes(&message));
        self.shared.world.provenance(by, envelope, (&head, &message, &hashes), at).await
    }
}
