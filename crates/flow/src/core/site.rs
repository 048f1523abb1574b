//! The hosts that several lanes may lead to, and when the next attempt towards them may begin.
//!
//! Invariants: towards the same hosts no more attempts go on than one next hop may have, however
//! many domains lead there. Where one ends because they want less of us, or where several in a row
//! cannot reach them, no other begins for a while, before the rest have told: if one succeeds, half
//! as many may go on as before, and one more with each success; if none does, nothing is sent there
//! for a while, and then one message first. A lane that has to wait stands in line; whoever is in
//! front begins as soon as there is room, and no wait of a site is without an end. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use merpati_mail::{
    Cause, Class, Hold, Scope, Time, outcome::Fact, outcome::Phase, route::Endpoint,
};

use super::{Finding, Report};
use crate::{
    outcome,
    queue::{LaneId, Parking},
    retry::RetryPlan,
    route::RulePlace,
};

/// All hosts with attempts that go on, for which somebody waits, or that were in trouble lately.
#[derive(Clone, Debug)]
pub(super) struct Sites {
    /// The shortest and the longest rest.
    rest: (Duration, Duration),
    known: BTreeMap<SiteId, Site>,
    names: BTreeMap<SiteKey, SiteId>,
    /// The next number, of a site or of a turn.
    next: u64,
    /// The site of each lane that was in trouble there, or waits.
    homes: BTreeMap<LaneId, Home>,
    /// Sites with room and a lane that waits for it, in line themselves.
    ready: BTreeMap<u64, SiteId>,
    /// When moods end, and when some more may be told that hosts are given up.
    alarms: BTreeSet<(Time, SiteId)>,
}

/// The number of a site; it is never given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SiteId(u64);

/// The rule that leads there, for it may say how, as whom and from where; and the hosts, in order.
pub(super) type SiteKey = (Option<RulePlace>, Arc<[Endpoint]>);

#[derive(Clone, Copy, Debug)]
struct Home {
    site: SiteId,
    /// Its place in line; `None` where it does not wait.
    turn: Option<u64>,
}

#[derive(Clone, Debug)]
struct Site {
    key: SiteKey,
    /// Attempts that go on.
    active: usize,
    /// How many may go on now, and how many at most.
    window: (usize, usize),
    mood: Mood,
    /// What was the matter the last time, since the last success.
    trouble: Option<Arc<Trouble>>,
    /// When the window was made smaller; what began before has seen the same trouble.
    narrowed_at: Option<Time>,
    /// Attempts that found trouble since the last success.
    failures: u32,
    /// Rests since the last success.
    rests: u32,
    /// Since when, and how many attempts ended with the trouble without being made.
    told: (Time, usize),
    /// When more of those in line may end so; `None` where nobody waits for that.
    tell_at: Option<Time>,
    /// The lanes that wait, by their turns.
    line: BTreeMap<u64, LaneId>,
    /// The lanes whose home it is: those in line, and while there is trouble those that met it.
    lanes: BTreeSet<LaneId>,
    /// Its place among those that are ready.
    turn: Option<u64>,
}

/// What is to be expected of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Trouble is over, or so long ago that it says little; until then it is not forgotten.
    Fading(Time),
    /// The last attempt was in trouble, and others go on: nothing begins until they have told.
    InDoubt(Time),
    /// Nothing begins until then.
    Resting(Time),
    /// Nothing speaks against it.
    Well,
}

/// Trouble of hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) cause: Cause,
    /// When the attempt began.
    began: Time,
    /// Whether the hosts want less of us.
    is_asked: bool,
}

/// What an attempt says of the hosts, whatever became of its recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// They talk to us about mail.
    Fine,
    /// They cannot be reached, or want less of us for now.
    Trouble(Box<Trouble>),
    /// Nothing.
    Unknown,
}

/// What is so for an attempt that wants to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It begins.
    Begun,
    /// There is no room: it waits in line.
    Full,
    /// The hosts have rested before, and it was no use: it ends with their trouble.
    Suspended(Arc<Trouble>),
}

impl Health {
    /// What is so after this report.
    ///
    /// One recipient or one message that a host cannot take just now says nothing of the next one:
    /// only what a host does before any mail, and what it says of all mail, is trouble. What is the
    /// finding of no host may be our own fault.
    pub(super) fn of(report: &Report) -> Self {
        let mut health = Self::Unknown;
        for (_, finding, host) in &report.findings {
            let found = match finding {
                Finding::Delivered(..) => return Self::Fine,
                Finding::NotDelivered(found) => found,
                Finding::TryAgain => continue,
            };
            let Some(tried) = host.and_then(|host| report.tried.get(host)) else { continue };
            let (cause, _) =
                outcome::classify_on(report.terms, found, Some(tried.path.host.clone()));
            let is_of_us = matches!(cause.class, Class::Throttled | Class::Blocked);
            let is_early = found.phase < Phase::Auth && cause.scope != Scope::Us;
            let is_asked =
                matches!(&found.fact, Fact::Replied(reply) if is_of_us || reply.code == 421);
            let is_trouble = match &found.fact {
                Fact::Replied(_) => is_early || is_asked,
                Fact::Cut
                | Fact::Protocol(_)
                | Fact::TimedOut
                | Fact::Tls(_)
                | Fact::Unreachable(_) => is_early,
                Fact::Lacks(_) | Fact::NotConvertible(_) | Fact::Ourselves => false,
            };
            let is_talk = matches!(found.fact, Fact::Replied(_)) && cause.scope != Scope::Us;
            if is_trouble {
                health = Self::Trouble(Box::new(Trouble { cause, began: report.began, is_asked }));
            } else if is_talk {
                return Self::Fine;
            }
        }
        health
    }
}

/// The shortest and the longest rest of hosts by this plan.
fn rest_of(plan: &RetryPlan) -> (Duration, Duration) {
    (plan.first / 5, plan.first)
}

impl Sites {
    /// None yet. A rest begins with a fifth of the first wait of a delivery, and is never longer
    /// than that one.
    pub(super) fn new(plan: &RetryPlan) -> Self {
        Self {
            rest: rest_of(plan),
            known: BTreeMap::new(),
            names: BTreeMap::new(),
            next: 0,
            homes: BTreeMap::new(),
            ready: BTreeMap::new(),
            alarms: BTreeSet::new(),
        }
    }

    /// Other rests hold from now on; those that have begun end as they were meant to.
    pub(super) fn set_rest(&mut self, plan: &RetryPlan) {
        self.rest = rest_of(plan);
    }

    /// The site with this name, where at most so many attempts may go on.
    pub(super) fn of(&mut self, key: SiteKey, most: usize) -> SiteId {
        if let Some(&id) = self.names.get(&key) {
            return id;
        }
        let id = SiteId(self.number());
        self.names.insert(key.clone(), id);
        let site = Site {
            key,
            active: 0,
            window: (most, most),
            mood: Mood::Well,
            trouble: None,
            narrowed_at: None,
            failures: 0,
            rests: 0,
            told: (Time::EPOCH, 0),
            tell_at: None,
            line: BTreeMap::new(),
            lanes: BTreeSet::new(),
            turn: None,
        };
        self.known.insert(id, site);
        id
    }

    /// Begins an attempt of a lane that is not in line, if there is room and nobody in line.
    pub(super) fn enter(&mut self, now: Time, id: SiteId, lane: LaneId) -> Entry {
        let Some(site) = self.known.get_mut(&id) else { return Entry::Full };
        if site.has_room() && site.line.is_empty() {
            site.active += 1;
            return Entry::Begun;
        }
        let suspended = site.trouble.clone().filter(|_| site.is_given_up());
        let mut entry = suspended.map_or(Entry::Full, Entry::Suspended);
        if matches!(entry, Entry::Suspended(_)) && !site.may_tell(now) {
            let at = site.told.0 + TELL_EVERY;
            self.tell_later(id, at);
            entry = Entry::Full;
        }
        self.settle_in(id, lane);
        entry
    }

    fn tell_later(&mut self, id: SiteId, at: Time) {
        if let Some(site) = self.known.get_mut(&id)
            && site.tell_at.is_none()
        {
            site.tell_at = Some(at);
            self.alarms.insert((at, id));
        }
    }

    /// The lane is in line from now on, at the end.
    pub(super) fn wait(&mut self, id: SiteId, lane: LaneId) {
        self.settle_in(id, lane);
        if self.homes.get(&lane).is_some_and(|home| home.turn.is_none()) {
            let turn = self.number();
            if let Some(site) = self.known.get_mut(&id) {
                site.line.insert(turn, lane);
                self.homes.insert(lane, Home { site: id, turn: Some(turn) });
            }
        }
        self.refresh(id);
    }

    /// The lane is not in line any more.
    pub(super) fn forget(&mut self, lane: LaneId) {
        let Some(Home { site, turn: Some(turn) }) = self.homes.get(&lane).copied() else { return };
        self.homes.insert(lane, Home { site, turn: None });
        if let Some(known) = self.known.get_mut(&site) {
            known.line.remove(&turn);
            if known.trouble.is_none() {
                known.lanes.remove(&lane);
                self.homes.remove(&lane);
            }
        }
        self.refresh(site);
    }

    /// A site with room, and the lane that is in front there.
    pub(super) fn next_ready(&self) -> Option<(SiteId, LaneId)> {
        let (_, id) = self.ready.first_key_value()?;
        let (_, lane) = self.known.get(id)?.line.first_key_value()?;
        Some((*id, *lane))
    }

    /// Begins an attempt of the lane in front, which is not in line any more. The site itself goes
    /// to the end of those that are ready.
    pub(super) fn enter_in_line(&mut self, id: SiteId, lane: LaneId) {
        if let Some(site) = self.known.get_mut(&id) {
            site.active += 1;
            if let Some(turn) = site.turn.take() {
                self.ready.remove(&turn);
            }
        }
        self.forget(lane);
    }

    /// Ends an attempt of this lane. Gives the lanes in line if they wait for something else now.
    pub(super) fn leave(
        &mut self,
        now: Time,
        (id, lane): (SiteId, LaneId),
        health: Health,
    ) -> Vec<LaneId> {
        let (first, longest) = self.rest;
        if matches!(health, Health::Trouble(_)) {
            self.settle_in(id, lane);
        }
        let Some(site) = self.known.get_mut(&id) else { return Vec::new() };
        let before = site.active;
        site.active = before.saturating_sub(1);
        let mood = match health {
            Health::Fine => {
                site.window.0 = (site.window.0 + 1).min(site.window.1);
                (site.failures, site.rests) = (0, 0);
                if site.trouble.take().is_some() {
                    self.forget_idle(id);
                }
                Mood::Well
            }
            Health::Trouble(trouble)
                if !trouble.is_asked && site.failures < TOLERATED && site.rests == 0 =>
            {
                site.failures += 1;
                match site.mood {
                    Mood::InDoubt(_) if site.active > 0 => site.mood,
                    Mood::Fading(_) | Mood::InDoubt(_) | Mood::Resting(_) | Mood::Well => {
                        Mood::Fading(now + longest)
                    }
                }
            }
            Health::Trouble(trouble) => {
                if site.narrowed_at.is_none_or(|at| trouble.began > at) {
                    site.window.0 = (before / 2).max(1);
                    site.narrowed_at = Some(now);
                }
                site.trouble = Some(Arc::from(trouble));
                match site.mood {
                    Mood::Resting(_) => site.mood,
                    Mood::InDoubt(_) if site.active > 0 => site.mood,
                    Mood::Fading(_) | Mood::Well if site.active > 0 => Mood::InDoubt(now + first),
                    Mood::Fading(_) | Mood::InDoubt(_) | Mood::Well => {
                        let rest = first.saturating_mul(1 << site.rests.min(16)).min(longest);
                        (site.rests, site.window.0) = (site.rests.saturating_add(1), 1);
                        Mood::Resting(now + rest)
                    }
                }
            }
            Health::Unknown if matches!(site.mood, Mood::InDoubt(_)) && site.active == 0 => {
                Mood::Well
            }
            Health::Unknown => site.mood,
        };
        self.set_mood(now, id, mood)
    }

    /// Ends the moods that are over, and lets more be told. Gives the lanes that waited for that.
    pub(super) fn wake(&mut self, now: Time) -> Vec<LaneId> {
        let mut woken = Vec::new();
        while let Some(&(at, id)) = self.alarms.first().filter(|(at, _)| *at <= now) {
            self.alarms.remove(&(at, id));
            let Some(site) = self.known.get_mut(&id) else { continue };
            if site.mood.until() != Some(at) {
                site.tell_at = None;
                woken.extend(self.give_up_line(now, id));
                continue;
            }
            let is_idle = site.active == 0 && site.line.is_empty();
            let mood = match site.mood {
                Mood::Resting(_) if is_idle => Mood::Fading(at + self.rest.1),
                Mood::Fading(_) | Mood::InDoubt(_) | Mood::Resting(_) | Mood::Well => Mood::Well,
            };
            woken.extend(self.set_mood(now, id, mood));
        }
        woken
    }

    /// Forgets the trouble of the site of this lane: an operator wants it to be tried.
    pub(super) fn lift(&mut self, now: Time, lane: LaneId) -> Vec<LaneId> {
        let Some(id) = self.homes.get(&lane).map(|home| home.site) else { return Vec::new() };
        if let Some(site) = self.known.get_mut(&id) {
            site.window.0 = site.window.1;
            (site.failures, site.rests) = (0, 0);
            (site.trouble, site.narrowed_at) = (None, None);
        }
        self.forget_idle(id);
        self.set_mood(now, id, Mood::Well)
    }

    /// What the lane waits for; `None` where it is not in line.
    pub(super) fn parking(&self, lane: LaneId) -> Option<Parking> {
        let home = self.homes.get(&lane).filter(|home| home.turn.is_some())?;
        self.known.get(&home.site).map(Site::parking)
    }

    /// Whether nothing is remembered of any host.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.names.is_empty() && self.homes.is_empty()
    }

    /// When a mood ends.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Whether a lane in line may go on.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Lanes in line, unless the mood is the one before. They leave it where the hosts are given
    /// up: what is due there ends with their trouble.
    fn set_mood(&mut self, now: Time, id: SiteId, mood: Mood) -> Vec<LaneId> {
        let Some(site) = self.known.get_mut(&id) else { return Vec::new() };
        let before = std::mem::replace(&mut site.mood, mood);
        if before == mood {
            self.refresh(id);
            return Vec::new();
        }
        for at in [before.until(), site.tell_at.take()].into_iter().flatten() {
            self.alarms.remove(&(at, id));
        }
        if let Some(at) = mood.until() {
            self.alarms.insert((at, id));
        }
        let line: Vec<LaneId> = site.line.values().copied().collect();
        self.give_up_line(now, id);
        self.refresh(id);
        line
    }

    /// Where the hosts are given up, lets go as many of those in line as may be told at once, and
    /// the others later; gives them.
    fn give_up_line(&mut self, now: Time, id: SiteId) -> Vec<LaneId> {
        let Some(site) = self.known.get_mut(&id).filter(|site| site.is_given_up()) else {
            return Vec::new();
        };
        let mut gone = Vec::new();
        while gone.len() < TOLD_MAX
            && let Some((_, lane)) = site.line.pop_first()
        {
            self.homes.insert(lane, Home { site: id, turn: None });
            gone.push(lane);
        }
        if !site.line.is_empty() {
            self.tell_later(id, now + TELL_EVERY);
        }
        gone
    }

    /// The home of the lane is here; it leaves the line elsewhere.
    fn settle_in(&mut self, id: SiteId, lane: LaneId) {
        match self.homes.get(&lane).copied() {
            Some(home) if home.site == id => return,
            Some(home) => {
                self.forget(lane);
                if let Some(site) = self.known.get_mut(&home.site) {
                    site.lanes.remove(&lane);
                }
                self.refresh(home.site);
            }
            None => {}
        }
        if let Some(site) = self.known.get_mut(&id) {
            site.lanes.insert(lane);
            self.homes.insert(lane, Home { site: id, turn: None });
        }
    }

    /// Without trouble only lanes in line matter.
    fn forget_idle(&mut self, id: SiteId) {
        let Some(site) = self.known.get_mut(&id) else { return };
        let homes = &mut self.homes;
        site.lanes.retain(|lane| {
            let waits = homes.get(lane).is_some_and(|home| home.turn.is_some());
            if !waits {
                homes.remove(lane);
            }
            waits
        });
    }

    /// Notes whether somebody may go on; a site about which there is nothing to know goes.
    fn refresh(&mut self, id: SiteId) {
        let next = self.number();
        let Some(site) = self.known.get_mut(&id) else { return };
        match (site.has_room() && !site.line.is_empty(), site.turn) {
            (true, None) => {
                site.turn = Some(next);
                self.ready.insert(next, id);
            }
            (false, Some(turn)) => {
                site.turn = None;
                self.ready.remove(&turn);
            }
            (true, Some(_)) | (false, None) => {}
        }
        if site.active == 0 && site.line.is_empty() && site.mood == Mood::Well {
            for lane in &site.lanes {
                self.homes.remove(lane);
            }
            self.names.remove(&site.key);
            self.known.remove(&id);
        }
    }

    const fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Site {
    const fn has_room(&self) -> bool {
        let may_begin = matches!(self.mood, Mood::Fading(_) | Mood::Well);
        may_begin && self.active < self.window.0
    }

    /// Whether it rests again, and there is no use in waiting for it.
    const fn is_given_up(&self) -> bool {
        matches!(self.mood, Mood::Resting(_)) && self.rests > 1
    }

    /// Whether one more attempt may end with the trouble now; counts it.
    fn may_tell(&mut self, now: Time) -> bool {
        let (since, told) = &mut self.told;
        if now >= *since + TELL_EVERY {
            (*since, *told) = (now, 0);
        }
        *told += 1;
        *told <= TOLD_MAX
    }

    fn parking(&self) -> Parking {
        let Some(trouble) = &self.trouble else { return Parking::Full };
        let Trouble { cause, .. } = &**trouble;
        let host =
            cause.remote.as_ref().map_or_else(|| "the next hop".to_owned(), ToString::to_string);
        Parking::Told(Arc::new(Hold {
            limit: "back-off".to_owned(),
            value: cause.reply.to_string(),
            source: host,
            until: self.mood.until(),
        }))
    }
}

impl Mood {
    const fn until(self) -> Option<Time> {
        match self {
            Self::Fading(until) | Self::InDoubt(until) | Self::Resting(until) => Some(until),
            Self::Well => None,
        }
    }
}

/// Attempts in a row that cannot reach the hosts before that counts: one may be chance, and who
/// looks into the matter tries a few times.
const TOLERATED: u32 = 4;
/// How many attempts a site that is given up ends in such a time. There may be millions, all due
/// at once, and none of them is urgent: they must not take the machine from mail that flows.
const TOLD_MAX: usize = 200;
const TELL_EVERY: Duration = Duration::from_millis(100);
