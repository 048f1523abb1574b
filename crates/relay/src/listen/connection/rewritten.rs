//! A message whose recipients stand for others: one content under one envelope or several.
//!
//! Invariant: all of it becomes durable in one group, with the report that is due at once, before
//! the client is told of anything; in a rehearsal one after the other. Not pure: the journal.

use std::time::Instant;

use bytes::Bytes;
use merpati_flow::{
    Loaded,
    alias::Rewritten,
    report::{self, Desk, Dsn, Item},
};
use merpati_mail::{Envelope, Event, QueueId, Time, Verdict, event::Accepted};
use merpati_spool::{Body, Entry, Group};

use super::{Connection, message_id, refused, refused_by};
use crate::{
    committer::Proposal,
    listen::{Sink, body::Collected},
};

impl Connection<'_> {
    /// Takes a message that the client handed over for `named`.
    pub(super) async fn take_rewritten(
        &self,
        at: Time,
        (named, rewritten): (Envelope, Rewritten),
        collected: Collected,
    ) -> Result<QueueId, Verdict> {
        let Rewritten { envelopes, news } = rewritten;
        let (id, spool) = (collected.id, &self.shared.spool);
        let mut all: Vec<Accepted> = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            let id = if all.is_empty() { id } else { spool.next_id() };
            let original = Some((collected.id, &named.reverse_path));
            all.push(self.accepted((id, at), envelope, original, &collected)?);
        }
        let dsn = all.first().and_then(|first| self.told(at, (first, named), &collected, &news));
        let mut parts = Vec::with_capacity(all.len());
        for accepted in all {
            let body = if accepted.id == id {
                collected.body.clone()
            } else {
                collected.copied(accepted.id, spool).await.map_err(|error| refused_by(&error))?
            };
            parts.push((accepted, body));
        }
        match self.plan.sink {
            Sink::Capture | Sink::Discard => self.capture_all(at, parts, &collected).await?,
            Sink::Queue => self.queue_all(at, parts, dsn, &collected.head).await?,
        }
        Ok(id)
    }

    /// What the originator is told at once; `None` where he did not ask for it.
    fn told(
        &self,
        at: Time,
        (first, named): (&Accepted, Envelope),
        collected: &Collected,
        news: &[Item],
    ) -> Option<Dsn> {
        if news.is_empty() {
            return None;
        }
        let desk = Desk {
            by: self.shared.hostname.clone(),
            postmaster: None,
            aliases: self.plan.policy.aliases.clone(),
        };
        let accepted = Accepted { envelope: named, ..first.clone() };
        let about = Loaded { accepted, header: collected.head.clone() };
        report::answer(&desk, (self.shared.spool.next_id(), at), &about, news)
    }

    async fn queue_all(
        &self,
        at: Time,
        parts: Vec<(Accepted, Body)>,
        dsn: Option<Dsn>,
        head: &Bytes,
    ) -> Result<(), Verdict> {
        let message_id = parts.first().and_then(|(first, _)| message_id(&first.edits, head));
        let ids: Vec<QueueId> = parts.iter().map(|(accepted, _)| accepted.id).collect();
        let own = dsn.map(|dsn| (dsn.accepted, Body::Bytes(vec![dsn.content.into()])));
        let mut entries = Vec::with_capacity(parts.len() + 1);
        for (accepted, body) in parts {
            self.keep_fresh(Instant::now(), &accepted, &body, head);
            entries.push(Entry { event: Event::Accepted(Box::new(accepted)), body });
        }
        entries.extend(own.map(|(accepted, body)| {
            let event = Event::Accepted(Box::new(accepted));
            Entry { event, body }
        }));
        let committer = &self.shared.committer;
        let group = Group { at, entries };
        committer.commit(Proposal { group, summary: None, message_id }).await.map_err(|why| {
            for id in ids {
                self.shared.fresh.forget(id);
            }
            refused(why)
        })
    }

    async fn capture_all(
        &self,
        at: Time,
        parts: Vec<(Accepted, Body)>,
        collected: &Collected,
    ) -> Result<(), Verdict> {
        for (accepted, body) in parts {
            let part = Collected {
                id: accepted.id,
                head: collected.head.clone(),
                size_bytes: collected.size_bytes,
                longest_line: collected.longest_line,
                body,
                hashes: None,
                looked: None,
            };
            self.capture(at, accepted, part).await?;
        }
        Ok(())
    }
}
