//! Signatures on what our users and our networks hand over, and seals on what strangers do.

use merpati_flow::{
    admit::{self, Head},
    verified::{self, Author},
};
use merpati_mail::{Domain, Overlay, Time, Verdict};

use crate::{
    listen::{body::Collected, connection::Connection},
    world,
};

impl Connection<'_> {
    /// Puts our signatures, or our seal, on top of a message that leaves with these edits; errs
    /// where its authors may not send.
    pub(super) fn sign(
        &self,
        at: Time,
        edits: &mut Overlay,
        collected: &Collected,
    ) -> Result<(), Verdict> {
        let (policy, facts) = (&self.plan.policy, self.facts());
        let asks = verified::is_asked(policy, &facts);
        if self.shared.signers.are_none() && !asks {
            return Ok(());
        }
        let edited = edits.slices(&collected.head).collect::<Vec<_>>().concat();
        let fields = if admit::is_signed_for(policy, &facts) {
            let octets_behind = collected.size_bytes - collected.head.len() as u64;
            let head = Head::of(&edited, edited.len() as u64 + octets_behind);
            let authors = world::authors(&head);
            if asks {
                verified::judge(authors.as_deref().map(|all| self.authors(all)).as_deref())?;
            }
            self.signatures(at, &edited, &authors.unwrap_or_default(), collected)
        } else {
            self.seal(at, &edited, collected)
        };
        if edits.prepend_fields(fields.as_bytes()).is_err() {
            tracing::error!("a signature of ours is no header field");
        }
        Ok(())
    }

    /// Whether we speak for each of these.
    fn authors(&self, domains: &[String]) -> Vec<Author> {
        let author = |domain: &String| {
            let is_verified =
                Domain::parse(domain).is_ok_and(|it| self.shared.signers.speak_for(&it));
            Author { domain: domain.clone(), is_verified }
        };
        domains.iter().map(author).collect()
    }

    /// `edited` is the header as it leaves, with what follows.
    fn signatures(
        &self,
        at: Time,
        edited: &[u8],
        authors: &[String],
        collected: &Collected,
    ) -> String {
        // Of several authors nobody could speak for all; nor of one who may not be the only one.
        let [author] = authors else { return String::new() };
        let Ok(author) = Domain::parse(author) else { return String::new() };
        self.shared.signers.sign(&author, edited, || collected.signing_hash(), at)
    }

    fn seal(&self, at: Time, edited: &[u8], collected: &Collected) -> String {
        let chain = collected.looked.as_ref().and_then(|looked| looked.chain.as_ref());
        let Some(chain) = chain else { return String::new() };
        self.shared.signers.seal(chain, edited, || collected.signing_hash(), at)
    }
}
