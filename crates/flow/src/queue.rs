//! Where deliveries wait: which there are, what each waits for, and which is due.
//!
//! Invariant: the queue is the fold of the journal's events and of nothing else; every delivery in
//! it has a reason, a next time and an advice id. What is taken for an attempt is not part of the
//! fold: a restart forgets it, and the delivery is due again. Pure.
//!
//! Deliveries wait in *lanes*: a lane is a next hop, and with [`NextHop::Mx`] one domain of it. A
//! limit parks the lane; it never touches the deliveries in it. Of what is due in a lane the
//! longest due goes first, where a step of priority (RFC 6710) counts as much as [`PRIORITY_LEAD`]
//! of waiting: whatever comes later and is more urgent overtakes, but not for ever.

mod fold;
mod lane;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use merpati_mail::{
    Cause, Class, DeliverBy, DeliveryId, Domain, Event, Hold, IdMap, NextHop, Outcome, Priority,
    QueueId, Recipient, Requests, Route, Time,
    event::{Accepted, Attempted, Carried, CauseNote, DeliveryState, Waiting},
};

use self::lane::{Lane, Place};
pub use self::{fold::Fold, lane::PRIORITY_LEAD};
use crate::route::{self, Router, Rule, RulePlace};

/// All deliveries for which we are responsible.
#[derive(Clone, Debug)]
pub struct Queue {
    router: Router,
    hostname: Domain,
    messages: IdMap<Message>,
    /// Of the few messages with which times were asked for.
    terms: BTreeMap<QueueId, Terms>,
    /// Of the few deliveries that an operator leads another way: the name of the rule.
    rerouted: BTreeMap<DeliveryId, Arc<str>>,
    lanes: BTreeMap<LaneId, Lane>,
    next_lane: u32,
    names: BTreeMap<LaneKey, LaneId>,
    /// Living deliveries: the members of all lanes.
    living: usize,
    /// The earliest delivery of each lane that is not parked and has one waiting.
    agenda: BTreeSet<(Time, LaneId)>,
    /// Whether deliveries find their places in the lanes later, all at once.
    is_folding: bool,
}

/// What a lane leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LaneKey {
    /// The next hop of this rule, which does not depend on the recipient's domain.
    Hop(RulePlace),
    /// The hosts that DNS names for this domain, as this rule says.
    Mx(RulePlace, Domain),
    /// Where rules or an operator led that decide no more: what is in it finds its lane when it is
    /// due.
    Stale,
    /// Nowhere: no rule covers this domain.
    Unrouted(Domain),
}

/// The number of a lane; it is never given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneId(u32);

/// Why nothing of a lane may be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parking {
    /// As many attempts go on as may.
    Full,
    /// For this.
    Told(Arc<Hold>),
}

/// A living delivery, as a person wants to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Which.
    pub delivery: DeliveryId,
    /// What it waits for, in one word that leads to the advice.
    pub class: Class,
    /// When something will happen by itself; `None` where somebody must act.
    pub next: Option<Time>,
    /// How many attempts have ended.
    pub attempts: u32,
    /// What holds it, where something does.
    pub hold: Option<Hold>,
    /// Whether an attempt goes on just now.
    pub is_taken: bool,
}

impl View {
    /// The id of the advice for it.
    pub const fn advice_id(&self) -> &'static str {
        self.class.advice_id()
    }
}

/// A message that waits; with one delivery 48 octets and its place in the lane, as `sizes` proves.
#[derive(Clone, Debug)]
struct Message {
    accepted_at: Time,
    deliveries: Deliveries,
}

/// The times that were asked for with a message.
#[derive(Clone, Debug)]
struct Terms {
    deliver_by: Option<DeliverBy>,
    release_at: Option<Time>,
}

/// The living deliveries of a message, in the order of its recipients. Most messages have one.
#[derive(Clone, Debug)]
enum Deliveries {
    One(Delivery),
    Many(Vec<Delivery>),
}

#[derive(Clone, Debug)]
struct Delivery {
    status: Status,
    recipient: u32,
    lane: LaneId,
    attempts: u32,
    note: Option<CauseNote>,
    priority: Priority,
    /// Whether the originator was told of the delay.
    is_delay_told: bool,
    /// Whether an attempt goes on: whatever the status becomes meanwhile, there is no second one.
    is_taken: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Status {
    Held(Box<Hold>),
    Waiting(Time),
}

impl Queue {
    /// An empty queue. `hostname` is where `<Postmaster>` without a domain lives.
    pub const fn new(router: Router, hostname: Domain) -> Self {
        Self {
            router,
            hostname,
            messages: IdMap::new(),
            terms: BTreeMap::new(),
            rerouted: BTreeMap::new(),
            lanes: BTreeMap::new(),
            next_lane: 0,
            names: BTreeMap::new(),
            living: 0,
            agenda: BTreeSet::new(),
            is_folding: false,
        }
    }

    /// Takes in what happened. What does not concern living deliveries changes nothing.
    pub fn apply(&mut self, at: Time, event: &Event) {
        match event {
            Event::Accepted(accepted) => self.insert(accepted, |_| {
                let release_at = accepted.envelope.requests.release_at;
                let time = release_at.map_or(at, |release| release.max(at));
                let waiting = Waiting::Until { time, cause: None };
                Some(DeliveryState { attempts: 0, waiting, is_delay_told: false, rule: None })
            }),
            Event::Carried(carried) => self.replace(carried),
            Event::Attempted(attempted) => self.attempted(attempted),
            Event::Delayed { message, recipients } => {
                for &recipient in recipients {
                    let delivery = DeliveryId { message: *message, recipient };
                    self.set(delivery, |d| d.is_delay_told = true);
                }
            }
            Event::Cancelled(delivery) | Event::Expired { delivery, .. } => self.remove(*delivery),
            Event::Held { delivery, hold } => {
                self.set(*delivery, |d| d.status = Status::Held(Box::new(hold.clone())));
            }
            Event::Released { delivery, until } => {
                self.set(*delivery, |d| d.status = Status::Waiting(*until));
            }
            Event::Rerouted { delivery, rule, until } => {
                self.reroute(*delivery, rule.as_ref(), *until);
            }
            Event::Retired(id) => self.forget(*id),
            Event::Captured(_) | Event::ConfigChanged { .. } => {}
        }
    }

    /// Other rules hold from now on. Envelopes are not at hand, so what waits stays where it is,
    /// in lanes that are stale, until [`Self::find_lanes`].
    pub fn set_rules(&mut self, router: Router, hostname: Domain) {
        (self.router, self.hostname) = (router, hostname);
        self.names.clear();
        let lanes: Vec<LaneId> = self.lanes.keys().copied().collect();
        for lane in lanes {
            self.park(lane, None);
            if let Some(lane) = self.lane_mut(lane) {
                lane.key = LaneKey::Stale;
            }
        }
    }

    /// Brings the deliveries of this message into the lanes in which the rules of today want them.
    pub fn find_lanes(&mut self, accepted: &Accepted) {
        for recipient in self.recipients(accepted.id) {
            let id = DeliveryId { message: accepted.id, recipient };
            let place = usize::try_from(recipient).unwrap_or(usize::MAX);
            let (Some(of), Some(before)) =
                (accepted.envelope.recipients.get(place), self.lane_of(id))
            else {
                continue;
            };
            let lane = self.join(self.key_of(id, accepted, of));
            self.set(id, |delivery| delivery.lane = lane);
            self.leave(before);
        }
    }

    /// All lanes with living deliveries.
    pub fn lanes(&self) -> impl Iterator<Item = LaneId> {
        self.lanes.keys().copied()
    }

    /// Takes due deliveries of one message in one lane for one attempt: of the lane with what is
    /// longest due, whatever is to go first.
    ///
    /// They are taken until an event about them is applied, or until [`Self::put_back`].
    pub fn take(&mut self, now: Time, most: usize) -> Option<(LaneId, QueueId, Vec<u32>)> {
        let &(due, lane) = self.agenda.first()?;
        if due > now {
            return None;
        }
        let (message, recipients) = self.take_of(lane, now, most)?;
        Some((lane, message, recipients))
    }

    /// Takes due deliveries of one message in this lane, parked or not, as [`Self::take`] does.
    pub fn take_of(&mut self, lane: LaneId, now: Time, most: usize) -> Option<(QueueId, Vec<u32>)> {
        let first = self.lane(lane)?.first_due(now)?;
        let message = self.messages.get(first.message)?;
        let mut recipients: Vec<u32> = message
            .deliveries
            .as_slice()
            .iter()
            .filter(|d| d.lane == lane && d.place().is_some_and(|place| place.due <= now))
            .map(|d| d.recipient)
            .collect();
        recipients.truncate(most);
        for &recipient in &recipients {
            self.set(DeliveryId { message: first.message, recipient }, |d| d.is_taken = true);
        }
        Some((first.message, recipients))
    }

    /// Takes this delivery alone, due or not, for as long as a change of it is under way. False
    /// where it is taken already, or does not live.
    pub fn take_one(&mut self, delivery: DeliveryId) -> bool {
        let is_free = self.delivery(delivery).is_some_and(|d| !d.is_taken);
        self.set(delivery, |d| d.is_taken = true);
        is_free
    }

    /// Gives back what was taken and not tried: it is due as it was.
    pub fn untake(&mut self, delivery: DeliveryId) {
        self.set(delivery, |d| d.is_taken = false);
    }

    /// Gives back what was taken and did not come to an outcome: it is due again at `when`.
    pub fn put_back(&mut self, delivery: DeliveryId, when: Time) {
        self.set(delivery, |d| {
            d.is_taken = false;
            if matches!(d.status, Status::Waiting(_)) {
                d.status = Status::Waiting(when);
            }
        });
    }

    /// Whether deliveries of this lane may be taken: `None`, or why not.
    pub fn park(&mut self, lane: LaneId, parking: Option<Parking>) {
        self.unlist(lane);
        if let Some(lane) = self.lane_mut(lane) {
            lane.parking = parking;
        }
        self.list(lane);
    }

    /// When the next delivery in this lane is due, parked or not; `None` where none waits in it.
    pub fn due_in(&self, lane: LaneId) -> Option<Time> {
        self.lane(lane)?.due()
    }

    /// The lane of a living delivery.
    pub fn lane_of(&self, delivery: DeliveryId) -> Option<LaneId> {
        self.delivery(delivery).map(|delivery| delivery.lane)
    }

    /// When the next delivery is due; `None` where none waits in a lane that is not parked.
    pub fn deadline(&self) -> Option<Time> {
        self.agenda.first().map(|&(due, _)| due)
    }

    /// The rules by which deliveries find their lanes.
    pub const fn router(&self) -> &Router {
        &self.router
    }

    /// Where a delivery of this queue goes: as an operator said, or as the rules say. `None` where
    /// no rule covers it.
    pub fn route(&self, delivery: DeliveryId, facts: &route::Facts<'_>) -> Option<Route> {
        self.router.route_at(self.rule_place(delivery, facts)?)
    }

    /// Whether an operator chose the rule that decides for this delivery.
    pub fn is_rerouted(&self, delivery: DeliveryId) -> bool {
        self.chosen(delivery).is_some()
    }

    /// What a lane leads to.
    pub fn lane_key(&self, lane: LaneId) -> Option<&LaneKey> {
        self.lane(lane).map(|lane| &lane.key)
    }

    /// How many attempts at this delivery have ended; 0 where it is not in the queue.
    pub fn attempts(&self, delivery: DeliveryId) -> u32 {
        self.delivery(delivery).map_or(0, |d| d.attempts)
    }

    /// Whether the originator was told that this delivery is delayed.
    pub fn is_delay_told(&self, delivery: DeliveryId) -> bool {
        self.delivery(delivery).is_some_and(|d| d.is_delay_told)
    }

    /// Whether a delivery of this message is due that was never tried and is not taken.
    pub fn has_untried(&self, message: QueueId, now: Time) -> bool {
        let deliveries = self.messages.get(message).map(|m| m.deliveries.as_slice());
        let is_untried =
            |d: &Delivery| d.attempts == 0 && d.place().is_some_and(|place| place.due <= now);
        deliveries.unwrap_or_default().iter().any(is_untried)
    }

    /// When the message was accepted; `None` where nothing of it is left.
    pub fn accepted_at(&self, message: QueueId) -> Option<Time> {
        self.messages.get(message).map(|m| m.accepted_at)
    }

    /// When the age of a message begins: with its release where it was to be held (RFC 4865), else
    /// with its acceptance; `None` where nothing of it is left.
    pub fn released_at(&self, message: QueueId) -> Option<Time> {
        let accepted_at = self.accepted_at(message)?;
        let release_at = self.terms.get(&message).and_then(|terms| terms.release_at);
        Some(release_at.map_or(accepted_at, |release| release.max(accepted_at)))
    }

    /// By when the message is to be delivered (RFC 2852); `None` where that was not asked for.
    pub fn deliver_by(&self, message: QueueId) -> Option<DeliverBy> {
        self.terms.get(&message)?.deliver_by
    }

    /// Whether the message has no living delivery besides these.
    pub fn is_last(&self, message: QueueId, recipients: &[u32]) -> bool {
        let deliveries = self.messages.get(message).map(|m| m.deliveries.as_slice());
        deliveries.unwrap_or_default().iter().all(|d| recipients.contains(&d.recipient))
    }

    /// Whether this delivery lives.
    pub fn contains(&self, delivery: DeliveryId) -> bool {
        self.delivery(delivery).is_some()
    }

    /// Whether an attempt at this delivery goes on.
    pub fn is_taken(&self, delivery: DeliveryId) -> bool {
        self.delivery(delivery).is_some_and(|d| d.is_taken)
    }

    /// Messages with at least one living delivery, or not yet retired.
    pub fn messages(&self) -> impl Iterator<Item = QueueId> {
        self.messages.iter().map(|(id, _)| id)
    }

    /// How many deliveries live.
    pub const fn len(&self) -> usize {
        self.living
    }

    /// Whether no message is left.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Every living delivery, in the order of acceptance.
    pub fn views(&self) -> impl Iterator<Item = View> {
        self.messages.iter().flat_map(move |(id, message)| {
            message.deliveries.as_slice().iter().map(move |delivery| self.view(id, delivery))
        })
    }

    /// The living deliveries of one message, in the order of its recipients.
    pub fn views_of(&self, id: QueueId) -> impl Iterator<Item = View> {
        let deliveries = self.messages.get(id).map(|message| message.deliveries.as_slice());
        deliveries.unwrap_or_default().iter().map(move |delivery| self.view(id, delivery))
    }

    /// The whole state of a message, to be written anew; `None` where it is gone.
    pub fn carried(&self, accepted: &Accepted) -> Option<Carried> {
        let message = self.messages.get(accepted.id)?;
        let deliveries =
            message.deliveries.as_slice().iter().map(|d| (d.recipient, self.state(accepted.id, d)));
        let deliveries = deliveries.collect();
        Some(Carried { accepted: accepted.clone(), deliveries })
    }

    /// A living delivery as a person wants to see it; `None` where it does not live.
    pub fn view_of(&self, id: DeliveryId) -> Option<View> {
        self.delivery(id).map(|delivery| self.view(id.message, delivery))
    }

    fn view(&self, message: QueueId, delivery: &Delivery) -> View {
        let (next, hold) = match &delivery.status {
            Status::Held(hold) => (hold.until, Some((**hold).clone())),
            Status::Waiting(due) if delivery.is_taken => (Some(*due), None),
            Status::Waiting(due) => {
                let hold = self.future_release(message, delivery, *due);
                // What ends before the delivery is due does not hold it.
                let holds = |hold: &Hold| hold.until.is_none_or(|until| *due <= until);
                (Some(*due), hold.or_else(|| self.parking(delivery.lane).filter(holds)))
            }
        };
        let class = match (&delivery.status, delivery.note) {
            (Status::Held(_), _) => Class::Held,
            (_, Some(note)) => note.class,
            (_, None) => Class::NotTried,
        };
        View {
            delivery: DeliveryId { message, recipient: delivery.recipient },
            class,
            next,
            attempts: delivery.attempts,
            hold,
            is_taken: delivery.is_taken,
        }
    }

    /// What holds a delivery that waits for the time at which the client wants it to be released.
    fn future_release(&self, message: QueueId, delivery: &Delivery, due: Time) -> Option<Hold> {
        let release_at = self.terms.get(&message)?.release_at?;
        (delivery.attempts == 0 && release_at == due).then(|| Hold {
            limit: "future-release".to_owned(),
            value: "asked for by the client (RFC 4865)".to_owned(),
            source: "HOLDFOR or HOLDUNTIL".to_owned(),
            until: Some(release_at),
        })
    }

    fn parking(&self, lane: LaneId) -> Option<Hold> {
        Some(match self.lane(lane)?.parking.as_ref()? {
            Parking::Full => Hold {
                limit: "connections-per-next-hop".to_owned(),
                value: "all in use".to_owned(),
                source: "options".to_owned(),
                until: None,
            },
            Parking::Told(hold) => (**hold).clone(),
        })
    }

    /// A message that is told again replaces what was known of it.
    fn insert(&mut self, accepted: &Accepted, state: impl Fn(u32) -> Option<DeliveryState>) {
        self.forget(accepted.id);
        let mut deliveries = Vec::new();
        for (recipient, of) in (0u32..).zip(&accepted.envelope.recipients) {
            let Some(state) = state(recipient) else { continue };
            let id = DeliveryId { message: accepted.id, recipient };
            if let Some(rule) = &state.rule {
                self.rerouted.insert(id, Arc::clone(rule));
            }
            let lane = self.join(self.key_of(id, accepted, of));
            let priority = accepted.envelope.requests.urgency();
            deliveries.push(Delivery::new(recipient, lane, state, priority));
        }
        let accepted_at = accepted.envelope.origin.received_at;
        let deliveries = Deliveries::new(deliveries);
        self.messages.insert(accepted.id, Message { accepted_at, deliveries });
        let Requests { deliver_by, release_at, .. } = accepted.envelope.requests;
        if deliver_by.is_some() || release_at.is_some() {
            self.terms.insert(accepted.id, Terms { deliver_by, release_at });
        }
        let recipients: Vec<u32> = self.recipients(accepted.id);
        for recipient in recipients {
            self.index(DeliveryId { message: accepted.id, recipient });
        }
    }

    /// Where a delivery goes.
    fn key_of(&self, id: DeliveryId, accepted: &Accepted, recipient: &Recipient) -> LaneKey {
        let domain = route::destination(&recipient.path, &self.hostname).clone();
        let facts = route::Facts {
            recipient: &domain,
            reverse_path: &accepted.envelope.reverse_path,
            credential: accepted.envelope.origin.credential.as_deref(),
        };
        let place = self.rule_place(id, &facts);
        let rule = place.and_then(|place| Some((place, self.router.rule(place)?)));
        match rule {
            Some((place, Rule { then: NextHop::Mx, .. })) => LaneKey::Mx(place, domain),
            Some((place, _)) => LaneKey::Hop(place),
            None => LaneKey::Unrouted(domain),
        }
    }

    fn rule_place(&self, id: DeliveryId, facts: &route::Facts<'_>) -> Option<RulePlace> {
        self.chosen(id).or_else(|| self.router.place(facts))
    }

    /// The rule that an operator chose. One that is no more decides nothing, and one that has come
    /// to refuse neither: nobody chose that.
    fn chosen(&self, id: DeliveryId) -> Option<RulePlace> {
        let place = self.router.place_of(self.rerouted.get(&id)?)?;
        let refuses = matches!(self.router.rule(place)?.then, NextHop::Refuse(_));
        (!refuses).then_some(place)
    }

    /// Leads a delivery another way. Envelopes are not at hand, so it finds its lane when it is
    /// due.
    fn reroute(&mut self, id: DeliveryId, rule: Option<&Arc<str>>, until: Time) {
        let Some(before) = self.lane_of(id) else { return };
        match rule {
            Some(rule) => self.rerouted.insert(id, Arc::clone(rule)),
            None => self.rerouted.remove(&id),
        };
        let stale = self.join(LaneKey::Stale);
        self.set(id, |delivery| {
            delivery.lane = stale;
            delivery.is_taken = false;
            if matches!(delivery.status, Status::Waiting(_)) {
                delivery.status = Status::Waiting(until);
            }
        });
        self.leave(before);
    }

    fn replace(&mut self, carried: &Carried) {
        let states: BTreeMap<u32, &DeliveryState> =
            carried.deliveries.iter().map(|(recipient, state)| (*recipient, state)).collect();
        self.insert(&carried.accepted, |recipient| states.get(&recipient).copied().cloned());
    }

    fn attempted(&mut self, attempted: &Attempted) {
        for (recipient, outcome) in &attempted.outcomes {
            let delivery = DeliveryId { message: attempted.message, recipient: *recipient };
            match outcome {
                Outcome::Delivered { .. } | Outcome::Failed { .. } => self.remove(delivery),
                Outcome::Deferred { cause, until } => self.set(delivery, |d| {
                    d.attempts = d.attempts.saturating_add(1);
                    d.note = Some(note(cause));
                    d.is_taken = false;
                    // What an operator held meanwhile stays held.
                    if !matches!(d.status, Status::Held(_)) {
                        d.status = Status::Waiting(*until);
                    }
                }),
            }
        }
    }

    fn forget(&mut self, id: QueueId) {
        for recipient in self.recipients(id) {
            self.remove(DeliveryId { message: id, recipient });
        }
        self.messages.remove(id);
        self.terms.remove(&id);
    }

    fn remove(&mut self, id: DeliveryId) {
        self.unindex(id);
        self.rerouted.remove(&id);
        let Some(message) = self.messages.get_mut(id.message) else { return };
        let gone = message.deliveries.remove(id.recipient);
        if let Some(lane) = gone.map(|delivery| delivery.lane) {
            self.leave(lane);
        }
    }

    fn set(&mut self, id: DeliveryId, change: impl FnOnce(&mut Delivery)) {
        self.unindex(id);
        let message = self.messages.get_mut(id.message);
        if let Some(delivery) = message.and_then(|m| m.deliveries.get_mut(id.recipient)) {
            change(delivery);
        }
        self.index(id);
    }

    fn state(&self, message: QueueId, delivery: &Delivery) -> DeliveryState {
        let waiting = match &delivery.status {
            Status::Held(hold) => Waiting::Held { hold: (**hold).clone(), cause: delivery.note },
            Status::Waiting(time) => Waiting::Until { time: *time, cause: delivery.note },
        };
        let id = DeliveryId { message, recipient: delivery.recipient };
        DeliveryState {
            attempts: delivery.attempts,
            waiting,
            is_delay_told: delivery.is_delay_told,
            rule: self.rerouted.get(&id).cloned(),
        }
    }

    fn recipients(&self, id: QueueId) -> Vec<u32> {
        let deliveries = self.messages.get(id).map(|m| m.deliveries.as_slice());
        deliveries.unwrap_or_default().iter().map(|d| d.recipient).collect()
    }

    fn delivery(&self, id: DeliveryId) -> Option<&Delivery> {
        self.messages.get(id.message)?.deliveries.get(id.recipient)
    }

    fn index(&mut self, id: DeliveryId) {
        let Some(place) = self.indexed(id) else { return };
        self.unlist(place.lane);
        if let Some(lane) = self.lane_mut(place.lane) {
            lane.insert(place, id);
        }
        self.list(place.lane);
    }

    fn unindex(&mut self, id: DeliveryId) {
        let Some(place) = self.indexed(id) else { return };
        self.unlist(place.lane);
        if let Some(lane) = self.lane_mut(place.lane) {
            lane.remove(place, id);
        }
        self.list(place.lane);
    }

    /// Where this delivery is, or is to be, in its lane; `None` where it does not wait there.
    fn indexed(&self, id: DeliveryId) -> Option<Place> {
        if self.is_folding {
            return None;
        }
        self.delivery(id).and_then(Delivery::place)
    }

    fn list(&mut self, id: LaneId) {
        if let Some(entry) = self.lane(id).and_then(|lane| lane.entry(id)) {
            self.agenda.insert(entry);
        }
    }

    fn unlist(&mut self, id: LaneId) {
        if let Some(entry) = self.lane(id).and_then(|lane| lane.entry(id)) {
            self.agenda.remove(&entry);
        }
    }

    /// The lane with this key, with one more delivery in it.
    fn join(&mut self, key: LaneKey) -> LaneId {
        let id = *self.names.entry(key.clone()).or_insert_with(|| {
            self.next_lane = self.next_lane.wrapping_add(1);
            LaneId(self.next_lane)
        });
        let lane = self.lanes.entry(id).or_insert_with(|| Lane::new(key));
        lane.members += 1;
        self.living += 1;
        id
    }

    /// One delivery less; with the last one the lane goes.
    fn leave(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.members = lane.members.saturating_sub(1);
        self.living = self.living.saturating_sub(1);
        if lane.members == 0 {
            // Several lanes may be stale; the name is that of one.
            if self.names.get(&lane.key) == Some(&id) {
                self.names.remove(&lane.key);
            }
            self.lanes.remove(&id);
        }
    }

    fn lane(&self, id: LaneId) -> Option<&Lane> {
        self.lanes.get(&id)
    }

    fn lane_mut(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.lanes.get_mut(&id)
    }
}

impl Deliveries {
    fn new(mut deliveries: Vec<Delivery>) -> Self {
        match deliveries.pop() {
            Some(one) if deliveries.is_empty() => Self::One(one),
            last => {
                deliveries.extend(last);
                deliveries.shrink_to_fit();
                Self::Many(deliveries)
            }
        }
    }

    fn as_slice(&self) -> &[Delivery] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    fn get(&self, recipient: u32) -> Option<&Delivery> {
        let all = self.as_slice();
        all.binary_search_by_key(&recipient, |d| d.recipient).ok().and_then(|at| all.get(at))
    }

    fn get_mut(&mut self, recipient: u32) -> Option<&mut Delivery> {
        let all = match self {
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(many) => many.as_mut_slice(),
        };
        let found = all.binary_search_by_key(&recipient, |d| d.recipient);
        found.ok().and_then(|at| all.get_mut(at))
    }

    fn remove(&mut self, recipient: u32) -> Option<Delivery> {
        match self {
            Self::One(one) if one.recipient != recipient => None,
            Self::One(_) => match std::mem::replace(self, Self::Many(Vec::new())) {
                Self::One(one) => Some(one),
                Self::Many(_) => None,
            },
            Self::Many(many) => {
                let found = many.binary_search_by_key(&recipient, |d| d.recipient);
                found.ok().map(|at| many.remove(at))
            }
        }
    }
}

impl Delivery {
    fn new(recipient: u32, lane: LaneId, state: DeliveryState, priority: Priority) -> Self {
        let (status, note) = match state.waiting {
            Waiting::Held { hold, cause } => (Status::Held(Box::new(hold)), cause),
            Waiting::Until { time, cause } => (Status::Waiting(time), cause),
        };
        Self {
            recipient,
            lane,
            attempts: state.attempts,
            note,
            priority,
            status,
            is_delay_told: state.is_delay_told,
            is_taken: false,
        }
    }

    /// Where it is indexed; `None` where it is held or taken.
    const fn place(&self) -> Option<Place> {
        match self.status {
            Status::Waiting(due) if !self.is_taken => {
                Some(Place { lane: self.lane, priority: self.priority, due })
            }
            Status::Held(_) | Status::Waiting(_) => None,
        }
    }
}

fn note(cause: &Cause) -> CauseNote {
    CauseNote { class: cause.class, code: cause.reply.code }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
