//! What the operator sees of the queue and does to it: pages, messages, verbs.
//!
//! Invariant: the thread of the core is held up for one chunk of messages at a time, never for a
//! whole queue, and it never waits for the disk: envelopes are read by threads that may block. A
//! page and a verb look at a bounded part of the queue and say where to go on. Not pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use merpati_console::{
    AdminError, Selection, Summary,
    admin::bare,
    near::nearest,
    queue::{
        Delivery, EnvelopeFacts, Grouping, Mode, Operated, QueueListing, QueuePage, Queued, Shape,
        Standing, Verb,
    },
};
use merpati_flow::{
    Core,
    queue::{LaneKey, View},
    route,
};
use merpati_mail::{
    Class, DeliveryId, Domain, NextHop, QueueId, Recipient, Route, Time,
    event::{Accepted, Waiting},
    header,
};
use merpati_spool::{Handle, SpoolError};
use tokio::task::{JoinError, spawn_blocking};

use super::{Control, content, read, refused};
use crate::conductor;

impl Control {
    /// A page of the queue.
    pub(super) async fn queue_page(
        &self,
        selection: &Selection,
        page: QueuePage,
    ) -> Result<QueueListing, AdminError> {
        let from = page.after.map(|after| after.message);
        let ids = self.candidates(selection, from).await?;
        let mut found: Vec<Delivery> = Vec::new();
        let mut looked = 0;
        for chunk in ids.chunks(CHUNK_MESSAGES) {
            let (selected, _) = self.selected(selection, chunk).await?;
            found.extend(selected.into_iter().filter(|d| page.after.is_none_or(|a| d.id > a)));
            looked += chunk.len();
            if found.len() > page.limit || looked >= looked_max(selection) {
                break;
            }
        }
        let is_full = found.len() > page.limit;
        found.truncate(page.limit);
        let next = if is_full {
            found.last().map(|last| last.id)
        } else {
            end(&ids, looked).map(|message| DeliveryId { message, recipient: u32::MAX })
        };
        Ok(QueueListing { deliveries: self.complete(found).await?, next })
    }

    /// How much waits in a part of the queue.
    pub(super) async fn queue_shape(
        &self,
        selection: &Selection,
        by: Grouping,
        after: Option<QueueId>,
    ) -> Result<Shape, AdminError> {
        let mut ids = self.candidates(selection, after).await?;
        ids.retain(|id| after.is_none_or(|after| *id > after));
        let reads = by.reads_envelopes() || selection.reads_envelopes();
        let most = if reads { READ_MAX } else { LOOKED_MAX };
        let (mut shape, mut looked) = (Shape::default(), 0);
        for chunk in ids.chunks(CHUNK_MESSAGES) {
            let (mut selected, _) = self.selected(selection, chunk).await?;
            if by.reads_envelopes() && !selection.reads_envelopes() {
                let read = self.read(&selected).await?;
                selected.retain_mut(|delivery| fill(delivery, &read));
            }
            let hops = match by {
                Grouping::NextHop => self.next_hops(&selected).await?,
                Grouping::Credential
                | Grouping::Domain
                | Grouping::Listener
                | Grouping::Reason
                | Grouping::SenderDomain
                | Grouping::Status => BTreeMap::new(),
            };
            let now = self.clock.now();
            let mut seen = BTreeSet::new();
            for delivery in &selected {
                let hop = hops.get(&delivery.id).map(String::as_str);
                let group = by.name(delivery, hop, now);
                let is_first = seen.insert((delivery.id.message, group.clone()));
                shape.count(group, now.since(delivery.accepted_at), is_first);
            }
            looked += chunk.len();
            if looked >= most {
                break;
            }
        }
        shape.next = end(&ids, looked);
        Ok(shape)
    }

    /// Where these deliveries wait, in words.
    async fn next_hops(
        &self,
        deliveries: &[Delivery],
    ) -> Result<BTreeMap<DeliveryId, String>, AdminError> {
        let ids: Vec<DeliveryId> = deliveries.iter().map(|delivery| delivery.id).collect();
        self.look(move |core| {
            let queue = core.queue();
            let name = |id| {
                let key = queue.lane_key(queue.lane_of(id)?)?;
                Some((id, lane_name(core, key)))
            };
            ids.into_iter().filter_map(name).collect()
        })
        .await
    }

    /// A message of the queue.
    pub(super) async fn queue_message(&self, id: QueueId) -> Result<Option<Queued>, AdminError> {
        let deliveries = self.known(vec![id]).await?;
        if deliveries.is_empty() {
            return Ok(None);
        }
        let deliveries = self.complete(deliveries).await?;
        let spool = self.spool.clone();
        let read = spawn_blocking(move || beginning(&spool, id)).await.map_err(crashed)?;
        let (accepted, content) = match read {
            Ok(read) => read,
            // The last delivery ended meanwhile.
            Err(SpoolError::Missing(_)) => return Ok(None),
            Err(error) => return Err(AdminError::Storage(error.to_string())),
        };
        let (content, content_error) = match content {
            Ok(content) => (content, None),
            Err(why) => (Bytes::new(), Some(why.to_string())),
        };
        let header: Vec<u8> = accepted.edits.slices(&content).flatten().copied().collect();
        let mut summary = Summary::of(id, &accepted.envelope, &header);
        summary.size_bytes = accepted.size_bytes;
        let date = header::first(&header, "Date").map(|field| field.unfolded().trim().to_owned());
        let envelope = accepted.envelope;
        Ok(Some(Queued { summary, date, content_error, envelope, deliveries }))
    }

    /// The content of a message of the queue, with what was changed in its header.
    pub(super) async fn queue_content(&self, id: QueueId) -> Result<Option<Bytes>, AdminError> {
        if self.known(vec![id]).await?.is_empty() {
            return Ok(None);
        }
        let spool = self.spool.clone();
        match spawn_blocking(move || read(&spool, id)).await.map_err(crashed)? {
            Ok((stored, content)) => {
                let slices = stored.accepted.edits.slices(&content);
                Ok(Some(slices.flatten().copied().collect()))
            }
            Err(SpoolError::Missing(_)) => Ok(None),
            Err(error) => Err(AdminError::Storage(error.to_string())),
        }
    }

    /// A verb for a part of the queue. It is looked at whole before anything is done.
    pub(super) async fn queue_operate(
        &self,
        selection: &Selection,
        verb: &Verb,
        after: Option<QueueId>,
        mode: Mode,
    ) -> Result<Operated, AdminError> {
        if let Verb::Reroute(Some(route)) = verb {
            self.check_route(route).await?;
        }
        let mut ids = self.candidates(selection, after).await?;
        ids.retain(|id| after.is_none_or(|after| *id > after));
        let mut done = Operated::default();
        let mut concerned: Vec<DeliveryId> = Vec::new();
        let mut looked = 0;
        for chunk in ids.chunks(CHUNK_MESSAGES) {
            let (selected, living) = self.selected(selection, chunk).await?;
            if selection.named().is_some() {
                done.missing.extend(chunk.iter().filter(|id| !living.contains(id)));
            }
            let before = concerned.len();
            let all = selected.len();
            let changed = selected.into_iter().filter(|d| verb.concerns(d.standing));
            concerned.extend(changed.map(|d| d.id));
            done.passed_over += (all - (concerned.len() - before)) as u64;
            looked += chunk.len();
            if concerned.len() >= OPERATED_MAX || looked >= looked_max(selection) {
                break;
            }
        }
        done.next = end(&ids, looked);
        done.messages = concerned.iter().map(|id| id.message).collect::<BTreeSet<_>>().len() as u64;
        done.deliveries = concerned.len() as u64;
        if mode == Mode::Real && !concerned.is_empty() {
            let order = match verb {
                Verb::Cancel => conductor::Verb::Cancel,
                Verb::Hold(hold) => conductor::Verb::Hold(hold.clone()),
                Verb::Release => conductor::Verb::Release,
                Verb::Reroute(route) => conductor::Verb::Reroute(route.as_deref().map(Arc::from)),
                Verb::Retry => conductor::Verb::Retry,
            };
            let wanted = done.deliveries;
            done.deliveries = self.conductor.operate(concerned, order).await.map_err(refused)?;
            if matches!(verb, Verb::Reroute(_)) {
                // What began to be tried meanwhile, or has ended.
                done.passed_over += wanted.saturating_sub(done.deliveries);
            }
        }
        Ok(done)
    }

    /// Refuses a route that there is not, and one that would return everything at once.
    async fn check_route(&self, name: &str) -> Result<(), AdminError> {
        let rules = |core: &Core| core.queue().router().rules.clone();
        let rules = self.look(rules).await?;
        if let Some(rule) = rules.iter().find(|rule| &*rule.name == name) {
            return match rule.then {
                NextHop::Refuse(_) => Err(AdminError::Refused(format!(
                    "the route `{name}` refuses all mail; what is to be given up is cancelled"
                ))),
                NextHop::Hosts(_) | NextHop::Lmtp(_) | NextHop::Mx => Ok(()),
            };
        }
        let names: Vec<&str> = rules.iter().map(|rule| &*rule.name).collect();
        let meant = nearest(name, names.iter().copied());
        let meant = meant.map_or_else(String::new, |meant| format!("; is `{meant}` meant?"));
        Err(AdminError::Refused(format!("no route is called `{name}`{meant}")))
    }

    /// The messages among which the selection may find something, the oldest first, from this one
    /// on.
    async fn candidates(
        &self,
        selection: &Selection,
        from: Option<QueueId>,
    ) -> Result<Vec<QueueId>, AdminError> {
        if let Some(mut named) = selection.named() {
            named.retain(|id| from.is_none_or(|from| *id >= from));
            return Ok(named);
        }
        self.look(move |core| {
            core.queue().messages().filter(|id| from.is_none_or(|from| *id >= from)).collect()
        })
        .await
    }

    /// The deliveries of these messages that are selected, and which of the messages live.
    async fn selected(
        &self,
        selection: &Selection,
        ids: &[QueueId],
    ) -> Result<(Vec<Delivery>, BTreeSet<QueueId>), AdminError> {
        let now = self.clock.now();
        let mut deliveries = self.known(ids.to_vec()).await?;
        let living = deliveries.iter().map(|d| d.id.message).collect();
        deliveries.retain(|delivery| selection.may_select(delivery, now));
        if selection.reads_envelopes() {
            let read = self.read(&deliveries).await?;
            deliveries.retain_mut(|delivery| fill(delivery, &read));
            deliveries.retain(|delivery| selection.selects(delivery, now));
        }
        Ok((deliveries, living))
    }

    /// What memory knows of the living deliveries of these messages.
    async fn known(&self, ids: Vec<QueueId>) -> Result<Vec<Delivery>, AdminError> {
        self.look(move |core| {
            let queue = core.queue();
            let views = ids.into_iter().flat_map(|id| {
                let accepted_at = queue.accepted_at(id).unwrap_or_default();
                queue.views_of(id).map(move |view| delivery(view, accepted_at))
            });
            views.collect()
        })
        .await
    }

    /// Adds to the deliveries of a page what is shown besides: envelope, code and route. What has
    /// ended meanwhile is left out; what cannot be read stays, without an envelope.
    async fn complete(&self, mut deliveries: Vec<Delivery>) -> Result<Vec<Delivery>, AdminError> {
        let read = self.read(&deliveries).await?;
        deliveries.retain_mut(|delivery| fill(delivery, &read));
        let wanted: BTreeSet<DeliveryId> = deliveries.iter().map(|d| d.id).collect();
        let hostname = self.setup.get().hostname.clone();
        let mut notes: BTreeMap<DeliveryId, Note> = self
            .look(move |core| {
                let living = read.values().flatten();
                living.flat_map(|accepted| notes(core, &hostname, accepted, &wanted)).collect()
            })
            .await?;
        for delivery in &mut deliveries {
            if let Some(note) = notes.remove(&delivery.id) {
                delivery.code = note.code;
                if let Some(envelope) = &mut delivery.envelope {
                    envelope.route = note.route;
                    envelope.is_rerouted = note.is_rerouted;
                }
            }
        }
        Ok(deliveries)
    }

    /// The envelopes of these deliveries' messages; `None` for one that cannot be read, and no
    /// entry for one that is gone.
    async fn read(&self, deliveries: &[Delivery]) -> Result<Envelopes, AdminError> {
        let ids: BTreeSet<QueueId> = deliveries.iter().map(|d| d.id.message).collect();
        let spool = self.spool.clone();
        let read = move || {
            let one = |id| match spool.accepted(id) {
                Ok(accepted) => Some((id, Some(accepted))),
                Err(SpoolError::Missing(_)) => None,
                Err(_) => Some((id, None)),
            };
            ids.into_iter().filter_map(one).collect()
        };
        spawn_blocking(read).await.map_err(crashed)
    }

    /// Looks at the core on its thread.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, AdminError> {
        let ended = || AdminError::Unavailable("the queue has ended with the relay".to_owned());
        self.conductor.look(look).await.ok_or_else(ended)
    }
}

type Envelopes = BTreeMap<QueueId, Option<Accepted>>;

/// What only the core knows of a delivery, and only with its envelope.
struct Note {
    code: Option<u16>,
    route: Option<Route>,
    is_rerouted: bool,
}

fn notes(
    core: &Core,
    hostname: &Domain,
    accepted: &Accepted,
    wanted: &BTreeSet<DeliveryId>,
) -> Vec<(DeliveryId, Note)> {
    let envelope = &accepted.envelope;
    let states = core.queue().carried(accepted).map(|carried| carried.deliveries);
    let mut notes = Vec::new();
    for (recipient, state) in states.unwrap_or_default() {
        let id = DeliveryId { message: accepted.id, recipient };
        let Some(of) = recipient_of(accepted, recipient).filter(|_| wanted.contains(&id)) else {
            continue;
        };
        let (Waiting::Held { cause, .. } | Waiting::Until { cause, .. }) = state.waiting;
        let facts = route::Facts {
            recipient: route::destination(&of.path, hostname),
            reverse_path: &envelope.reverse_path,
            credential: envelope.origin.credential.as_deref(),
        };
        let note = Note {
            code: cause.map(|cause| cause.code),
            route: core.queue().route(id, &facts),
            is_rerouted: core.queue().is_rerouted(id),
        };
        notes.push((id, note));
    }
    notes
}

/// What a lane leads to, in words.
fn lane_name(core: &Core, key: &LaneKey) -> String {
    match key {
        LaneKey::Hop(place) => {
            let rule = core.queue().router().rule(*place);
            rule.map_or_else(|| "-".to_owned(), |rule| format!("route {}", rule.name))
        }
        LaneKey::Mx(_, domain) => domain.to_string(),
        LaneKey::Stale => "(looked up anew when it is due)".to_owned(),
        LaneKey::Unrouted(domain) => format!("{domain} (no route)"),
    }
}

fn delivery(view: View, accepted_at: Time) -> Delivery {
    // What is held while an attempt goes on is held: the attempt ends by itself, the hold does not.
    let standing = if view.class == Class::Held {
        Standing::Held
    } else if view.is_taken {
        Standing::Attempting
    } else {
        Standing::Waiting
    };
    Delivery {
        id: view.delivery,
        accepted_at,
        standing,
        class: view.class,
        code: None,
        next: view.next,
        attempts: view.attempts,
        hold: view.hold,
        envelope: None,
    }
}

/// Puts the envelope to the delivery; false where the message is gone.
fn fill(delivery: &mut Delivery, read: &Envelopes) -> bool {
    let Some(accepted) = read.get(&delivery.id.message) else { return false };
    delivery.envelope = accepted.as_ref().and_then(|accepted| {
        let envelope = &accepted.envelope;
        let reverse_path = envelope.reverse_path.mailbox().map(ToString::to_string);
        let recipient = recipient_of(accepted, delivery.id.recipient)?;
        Some(EnvelopeFacts {
            reverse_path: reverse_path.unwrap_or_default(),
            recipient: bare(&recipient.path),
            via: recipient.via(),
            size_bytes: accepted.size_bytes,
            listener: envelope.origin.listener.clone(),
            credential: envelope.origin.credential.clone(),
            route: None,
            is_rerouted: false,
        })
    });
    true
}

fn recipient_of(accepted: &Accepted, number: u32) -> Option<&Recipient> {
    accepted.envelope.recipients.get(usize::try_from(number).ok()?)
}

/// A message and the beginning of its content. Where that cannot be read, it is a reason to look at
/// the message. Blocks for the disk.
fn beginning(
    spool: &Handle,
    id: QueueId,
) -> Result<(Accepted, Result<Bytes, SpoolError>), SpoolError> {
    let whole = spool.read(id).and_then(|stored| {
        let beginning = content(&stored.body, HEADER_OCTETS_MAX)?;
        Ok((stored.accepted, beginning))
    });
    match whole {
        Ok((accepted, beginning)) => Ok((accepted, Ok(beginning))),
        Err(missing @ SpoolError::Missing(_)) => Err(missing),
        Err(why) => Ok((spool.accepted(id)?, Err(why))),
    }
}

/// The last message that was looked at, where others follow.
fn end(ids: &[QueueId], looked: usize) -> Option<QueueId> {
    ids.get(looked).and_then(|_| ids.get(looked.checked_sub(1)?)).copied()
}

/// Messages that one request looks at, about.
fn looked_max(selection: &Selection) -> usize {
    if selection.reads_envelopes() { READ_MAX } else { LOOKED_MAX }
}

/// The thread that read panicked.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn crashed(error: JoinError) -> AdminError {
    AdminError::Storage(format!("reading ended badly: {error}"))
}

/// Messages of which the core tells at once; it delivers nothing meanwhile.
const CHUNK_MESSAGES: usize = 1_000;
/// Messages that one request looks at in memory.
const LOOKED_MAX: usize = 1_000_000;
/// Messages that one request reads from the disk.
const READ_MAX: usize = 20_000;
/// Deliveries for which one request carries out a verb, about.
const OPERATED_MAX: usize = 10_000;
/// Octets of a content that are read for its header.
const HEADER_OCTETS_MAX: u64 = 256 * 1_024;
