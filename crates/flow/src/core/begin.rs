//! When an attempt begins, and what its end leaves room for.
//!
//! Invariant: a delivery is taken only where its lane, its hosts and the whole have room; what
//! finds none goes back as it was. Pure.

use merpati_mail::{Cause, DeliveryId, Reply, Time, route::Endpoint};

use super::{
    Core, JobId, Output, Running,
    settle::Verdict,
    site::{Entry, Health, SiteId, Trouble},
};
use crate::{
    outcome::{Fate, Voice},
    queue::{LaneId, LaneKey, Parking},
    route::Rule,
};

impl Core {
    /// Takes the next due delivery for an attempt, if limits allow for one.
    pub(super) fn start(&mut self, now: Time) {
        let woken = self.sites.wake(now);
        self.tell_waiting(&woken);
        if !self.has_room() {
            return;
        }
        let most = self.options.recipients_per_job_max;
        let (lane, message, recipients, site) = if let Some((site, lane)) = self.next_in_line(now) {
            let Some((message, recipients)) = self.queue.take_of(lane, now, most) else { return };
            (lane, message, recipients, Some(site))
        } else {
            let Some((lane, message, recipients)) = self.queue.take(now, most) else { return };
            (lane, message, recipients, None)
        };
        let id = JobId(self.next_job);
        self.next_job += 1;
        let active = self.active.entry(lane).or_default();
        *active += 1;
        let active = *active;
        if let Some(site) = site {
            self.sites.enter_in_line(site, lane);
            if self.queue.due_in(lane).is_some_and(|due| due <= now) {
                self.sites.wait(site, lane);
            }
            self.park_again(lane);
        } else if active >= self.jobs_max_of(lane) {
            self.queue.park(lane, Some(Parking::Full));
        }
        let health = Health::Unknown;
        self.jobs.insert(id, Running { lane, message, recipients, loaded: None, site, health });
        self.outputs.push_back(Output::Load(id, message));
    }

    /// The lane in front at a site with room, if what it has is no later due than all that is in
    /// no line. Lanes that have nothing to do there leave the line.
    fn next_in_line(&mut self, now: Time) -> Option<(SiteId, LaneId)> {
        loop {
            let (site, lane) = self.sites.next_ready()?;
            let has_room = self.active_in(lane) < self.jobs_max_of(lane);
            match self.queue.due_in(lane).filter(|due| has_room && *due <= now) {
                Some(due) if self.queue.deadline().is_some_and(|other| other < due) => return None,
                Some(_) => return Some((site, lane)),
                None => {
                    self.sites.forget(lane);
                    self.park_again(lane);
                }
            }
        }
    }

    fn active_in(&self, lane: LaneId) -> usize {
        self.active.get(&lane).copied().unwrap_or_default()
    }

    /// Says why nothing of this lane may be taken, if that is so.
    fn park_again(&mut self, lane: LaneId) {
        let is_full = || self.active_in(lane) >= self.jobs_max_of(lane);
        let parking = self.sites.parking(lane).or_else(|| is_full().then_some(Parking::Full));
        self.queue.park(lane, parking);
    }

    /// Says of lanes that are or were in line what they wait for now.
    pub(super) fn tell_waiting(&mut self, lanes: &[LaneId]) {
        for &lane in lanes {
            self.park_again(lane);
        }
    }

    /// Ends an attempt that was not made, because its hosts have as many as they may have.
    fn wait_in_line(&mut self, now: Time, id: JobId, site: SiteId) {
        let Some(Running { lane, message, recipients, .. }) = self.jobs.get(&id).cloned() else {
            return;
        };
        for recipient in recipients {
            self.queue.untake(DeliveryId { message, recipient });
        }
        self.sites.wait(site, lane);
        self.end(now, id);
    }

    /// Ends an attempt that was taken by rules that are no more: its message goes where the rules
    /// of today lead.
    pub(super) fn follow_rules(&mut self, now: Time, id: JobId) {
        let Some(Running { message, recipients, loaded: Some(loaded), .. }) =
            self.jobs.get(&id).cloned()
        else {
            return;
        };
        self.queue.find_lanes(&loaded.accepted);
        for recipient in recipients {
            self.queue.untake(DeliveryId { message, recipient });
        }
        self.end(now, id);
    }

    /// Ends an attempt that was not made, because its hosts are in trouble and stay so: it counts,
    /// so that who waits long enough is told, and returned in the end.
    fn suspend(&mut self, now: Time, id: JobId, trouble: &Trouble) {
        let Trouble { cause, .. } = trouble;
        let Reply { code, enhanced, text } = &cause.reply;
        let text = format!("not tried now, since the last attempt met: {text}").into();
        let reply = Reply { code: *code, enhanced: *enhanced, text }.shortened();
        let cause = Cause { reply, ..cause.clone() };
        self.conclude(now, id, None, &|_| {
            Some((Verdict::No(cause.clone(), Fate::Passing, Voice::Ours), None))
        });
    }

    /// How many attempts may go on at once in a lane.
    fn jobs_max_of(&self, lane: LaneId) -> usize {
        let rule = self.rule_of(lane).and_then(|rule| rule.attempts_max);
        rule.unwrap_or(self.options.jobs_per_lane_max).max(1)
    }

    pub(super) fn rule_of(&self, lane: LaneId) -> Option<&Rule> {
        match self.queue.lane_key(lane)? {
            LaneKey::Hop(place) | LaneKey::Mx(place, _) => self.options.router.rule(*place),
            LaneKey::Stale | LaneKey::Unrouted(_) => None,
        }
    }

    /// Takes a place for an attempt at its hosts; where there is none, ends it.
    pub(super) fn has_place(&mut self, now: Time, id: JobId, mut hosts: Vec<Endpoint>) -> bool {
        let Some(&Running { lane, site: before, .. }) = self.jobs.get(&id) else { return false };
        let rule = match self.queue.lane_key(lane) {
            Some(LaneKey::Hop(place) | LaneKey::Mx(place, _)) => Some(*place),
            Some(LaneKey::Stale | LaneKey::Unrouted(_)) | None => None,
        };
        hosts.sort();
        hosts.dedup();
        let site = self.sites.of((rule, hosts.into()), self.jobs_max_of(lane));
        if before == Some(site) {
            return true;
        }
        // DNS names others than when it came into line.
        self.leave_site(now, id);
        match self.sites.enter(now, site, lane) {
            Entry::Begun => {
                if let Some(running) = self.jobs.get_mut(&id) {
                    running.site = Some(site);
                }
                return true;
            }
            Entry::Full => self.wait_in_line(now, id, site),
            Entry::Suspended(trouble) => self.suspend(now, id, &trouble),
        }
        false
    }

    fn leave_site(&mut self, now: Time, id: JobId) {
        let Some(running) = self.jobs.get_mut(&id) else { return };
        let health = std::mem::replace(&mut running.health, Health::Unknown);
        let lane = running.lane;
        if let Some(site) = running.site.take() {
            let waiting = self.sites.leave(now, (site, lane), health);
            self.tell_waiting(&waiting);
        }
    }

    pub(super) fn give_back(&mut self, now: Time, id: JobId, when: Time) {
        if let Some(running) = self.jobs.get(&id) {
            for &recipient in &running.recipients {
                let delivery = DeliveryId { message: running.message, recipient };
                self.queue.put_back(delivery, when);
            }
        }
        self.end(now, id);
    }

    pub(super) fn end(&mut self, now: Time, id: JobId) {
        self.leave_site(now, id);
        let Some(running) = self.jobs.remove(&id) else { return };
        if let Some(active) = self.active.get_mut(&running.lane) {
            *active -= 1;
            if *active == 0 {
                self.active.remove(&running.lane);
            }
        }
        self.park_again(running.lane);
        if self.gathering.contains_key(&running.message) {
            self.ripe.push(running.message);
        }
    }
}
