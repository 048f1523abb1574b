//! What an attempt means for each of its recipients, and what the originator is told of it.
//!
//! Invariant: what became of a recipient and the report on it are one group. Failures of a message
//! whose other recipients are still being tried are gathered for a while, so that its originator
//! gets one report; until then they are nowhere, and after a crash those recipients are tried
//! again. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use merpati_mail::{
    Cause, Class, DeliveryId, Domain, Event, Outcome, QueueId, Reply, Scope, Time,
    event::Attempted, outcome::Attempt,
};

use super::{Core, Desk, Handover, JobId, Loaded, Report, Tried};
use crate::{
    attempt::HostPlace,
    outcome::{self, Before, Fate, Voice},
    report::{self, Item, News},
};

/// What an attempt means for one recipient.
pub(super) enum Verdict {
    No(Cause, Fate, Voice),
    Yes(Reply, Handover),
}

/// A verdict, and which host of the attempt brought it; `None` for none.
pub(super) type Sourced = (Verdict, Option<HostPlace>);

/// Failures that are not told yet.
#[derive(Clone, Debug)]
pub(super) struct Gathering {
    loaded: Arc<Loaded>,
    tallies: Vec<Tally>,
    until: Time,
}

/// What an attempt means for some of its recipients.
#[derive(Clone, Debug)]
struct Tally {
    attempt: Attempt,
    outcomes: Vec<(u32, Outcome)>,
    expired: Vec<(u32, Cause)>,
    /// What the originator may be told.
    items: Vec<Item>,
    /// Recipients of whom nothing is left to do.
    gone: Vec<u32>,
}

impl Core {
    /// Decides what is so for each recipient of an attempt, and proposes it as one group: the
    /// outcomes, the report on them, and the end of the message where nothing is left of it.
    pub(super) fn conclude(
        &mut self,
        now: Time,
        id: JobId,
        report: Option<&Report>,
        verdict: &dyn Fn(u32) -> Option<Sourced>,
    ) {
        let Some(running) = self.jobs.get(&id).cloned() else { return };
        let Some(loaded) = running.loaded.clone() else { return };
        let message = running.message;
        let attempt = |host: Option<HostPlace>| {
            let tried = host.and_then(|host| report?.tried.get(host).cloned());
            let began = report.map_or(now, |report| report.began);
            let bare =
                Attempt { number: 1, path: None, began, ended: now, tls: None, policy: None };
            match tried {
                Some(Tried { path, tls, policy }) => {
                    Attempt { path: Some(path), tls, policy, ..bare }
                }
                None => bare,
            }
        };
        // Each host has its own, so that what is said of a recipient stands beside who said it.
        let mut tallies: BTreeMap<Option<HostPlace>, (Tally, Tally)> = BTreeMap::new();
        for &recipient in &running.recipients {
            let delivery = DeliveryId { message, recipient };
            if !self.lives(delivery) {
                continue;
            }
            let Some((verdict, host)) = verdict(recipient) else {
                self.queue.put_back(delivery, now);
                continue;
            };
            let (done, failed) = tallies
                .entry(host)
                .or_insert_with(|| (Tally::new(attempt(host)), Tally::new(attempt(host))));
            self.judge(now, delivery, verdict, (done, failed));
        }
        let numbers = tallies.values().map(|(done, _)| done.attempt.number);
        let number = numbers.max().unwrap_or(1);
        for (done, failed) in tallies.values_mut() {
            (done.attempt.number, failed.attempt.number) = (number, number);
        }
        self.end(now, id);
        let has_failed = tallies.values().any(|(_, failed)| !failed.outcomes.is_empty());
        if has_failed
            && self.gathering.len() < GATHERED_MAX
            && self.is_tried_elsewhere(now, message)
        {
            let (done, failed): (Vec<Tally>, Vec<Tally>) = tallies.into_values().unzip();
            self.settle(now, &loaded, done);
            return self.gather(now, loaded, failed);
        }
        let joined = tallies.into_values().map(|(mut done, failed)| {
            done.join(failed);
            done
        });
        let mut tallies: Vec<Tally> = joined.collect();
        if has_failed && let Some(gathering) = self.gathering.remove(&message) {
            self.told_at.remove(&(gathering.until, message));
            tallies.splice(..0, gathering.tallies);
        }
        self.settle(now, &loaded, tallies);
    }

    /// The spool cannot give a message, and who would be told of a failure stands in what cannot be
    /// read: its recipients wait, however old it is, for the disk or for an operator.
    pub(super) fn defer_unread(&mut self, now: Time, id: JobId) {
        let Some(running) = self.jobs.get(&id).cloned() else { return };
        let message = running.message;
        let (cause, _) = outcome::own(Before::Unreadable);
        let mut attempt =
            Attempt { number: 1, path: None, began: now, ended: now, tls: None, policy: None };
        let mut outcomes = Vec::new();
        for &recipient in &running.recipients {
            let delivery = DeliveryId { message, recipient };
            if self.lives(delivery) {
                let attempts = self.queue.attempts(delivery).saturating_add(1);
                attempt.number = attempt.number.max(attempts);
                let wait = self.options.retry.pause(attempts, self.draw.fraction());
                let until = self.due_after(now, message, wait);
                outcomes.push((recipient, Outcome::Deferred { cause: cause.clone(), until }));
            }
        }
        self.end(now, id);
        if !outcomes.is_empty() {
            let attempted = Attempted { message, attempt, outcomes };
            let events = vec![(Event::Attempted(Box::new(attempted)), None)];
            self.propose_end(now, message, &[], events);
        }
    }

    /// Proposes the failures that have waited for the other recipients of their message for long
    /// enough, or need not wait any more.
    pub(super) fn tell_gathered(&mut self, now: Time) {
        if self.gathering.is_empty() {
            return;
        }
        let ripe = std::mem::take(&mut self.ripe);
        let late = self.told_at.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id);
        let mut ready: Vec<QueueId> = late.collect();
        if self.is_draining {
            ready.extend(self.gathering.keys());
        }
        ready.extend(ripe.into_iter().filter(|&id| !self.is_tried_elsewhere(now, id)));
        for message in ready {
            if let Some(gathering) = self.gathering.remove(&message) {
                self.told_at.remove(&(gathering.until, message));
                self.settle(now, &gathering.loaded, gathering.tallies);
            }
        }
    }

    /// Whether an attempt for other recipients of this message goes on, or is due for the first
    /// time.
    fn is_tried_elsewhere(&self, now: Time, message: QueueId) -> bool {
        !self.is_draining
            && (self.queue.has_untried(message, now)
                || self.jobs.values().any(|job| job.message == message))
    }

    fn gather(&mut self, now: Time, loaded: Arc<Loaded>, failed: Vec<Tally>) {
        let message = loaded.accepted.id;
        let until = now + GATHER_WAIT;
        let gathering = self.gathering.entry(message).or_insert_with(|| {
            self.told_at.insert((until, message));
            Gathering { loaded, tallies: Vec::new(), until }
        });
        gathering.tallies.extend(failed);
    }

    fn judge(
        &mut self,
        now: Time,
        delivery: DeliveryId,
        verdict: Verdict,
        (done, failed): (&mut Tally, &mut Tally),
    ) {
        let attempts = self.queue.attempts(delivery).saturating_add(1);
        done.attempt.number = done.attempt.number.max(attempts);
        let recipient = delivery.recipient;
        let (cause, fate, voice) = match verdict {
            Verdict::Yes(reply, handover) => {
                let remote = done.attempt.path.as_ref().map(|path| path.host.clone());
                let news = handover_news(reply.clone(), remote, handover);
                done.items.extend(news.map(|news| Item { recipient, news, at: now }));
                done.gone.push(recipient);
                done.outcomes.push((recipient, Outcome::Delivered { reply }));
                return;
            }
            Verdict::No(cause, fate, voice) => (cause, fate, voice),
        };
        let message = delivery.message;
        let age = self.age(now, message);
        let (cause, fate, voice) = match fate {
            Fate::Passing if self.is_overdue(now, message) => {
                let (cause, fate) = outcome::own(Before::Overdue);
                (cause, fate, Voice::Ours)
            }
            Fate::Final | Fate::Passing => (cause, fate, voice),
        };
        let wait = self.options.retry.wait(attempts, age, self.draw.fraction());
        match (fate, wait) {
            (Fate::Passing, Some(wait)) => {
                let is_late = self.options.delay_report_after.is_some_and(|after| age >= after)
                    || self.is_notice_due(now, message);
                if is_late && !self.queue.is_delay_told(delivery) {
                    let until = self.given_up_at(now, message);
                    let news = News::Delayed { cause: cause.clone(), voice, until };
                    done.items.push(Item { recipient, news, at: now });
                }
                let until = self.due_after(now, message, wait);
                done.outcomes.push((recipient, Outcome::Deferred { cause, until }));
            }
            (Fate::Passing, None) => {
                let last = Outcome::Deferred { cause: cause.clone(), until: now };
                failed.outcomes.push((recipient, last));
                let cause = Cause { class: Class::Expired, scope: Scope::Message, ..cause };
                failed.expired.push((recipient, cause.clone()));
                failed.fail(recipient, (cause, voice), now);
            }
            (Fate::Final, _) => {
                failed.outcomes.push((recipient, Outcome::Failed { cause: cause.clone() }));
                failed.fail(recipient, (cause, voice), now);
            }
        }
    }

    /// Proposes as one group what became of recipients of a message, the report on it, and the end
    /// of the message where nothing is left of it.
    fn settle(&mut self, now: Time, loaded: &Loaded, tallies: Vec<Tally>) {
        let message = loaded.accepted.id;
        let (mut events, mut items, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for mut tally in tallies {
            // What was given up while its failure was not told yet has its end already.
            tally.retain(|recipient| self.lives(DeliveryId { message, recipient }));
            let Tally { attempt, outcomes, expired, items: news, gone: ended } = tally;
            if !outcomes.is_empty() {
                let attempted = Attempted { message, attempt, outcomes };
                events.push((Event::Attempted(Box::new(attempted)), None));
            }
            events.extend(expired.into_iter().map(|(recipient, cause)| {
                (Event::Expired { delivery: DeliveryId { message, recipient }, cause }, None)
            }));
            items.extend(news);
            gone.extend(ended);
        }
        items.retain(|item| is_told(loaded, item));
        let delayed = items.iter().filter(|item| matches!(item.news, News::Delayed { .. }));
        let recipients: Vec<u32> = delayed.map(|item| item.recipient).collect();
        if !recipients.is_empty() {
            events.push((Event::Delayed { message, recipients }, None));
        }
        if !items.is_empty() {
            let desk = Desk {
                by: self.options.hostname.clone(),
                postmaster: self.options.postmaster.clone(),
                aliases: self.options.aliases.clone(),
            };
            if let Some(dsn) = report::answer(&desk, (self.ids.next(), now), loaded, &items) {
                events.push((Event::Accepted(Box::new(dsn.accepted)), Some(dsn.content)));
            }
        }
        if !events.is_empty() {
            self.propose_end(now, message, &gone, events);
        }
    }
}

impl Tally {
    const fn new(attempt: Attempt) -> Self {
        Self {
            attempt,
            outcomes: Vec::new(),
            expired: Vec::new(),
            items: Vec::new(),
            gone: Vec::new(),
        }
    }

    fn fail(&mut self, recipient: u32, (cause, voice): (Cause, Voice), at: Time) {
        self.items.push(Item { recipient, news: News::Failed { cause, voice }, at });
        self.gone.push(recipient);
    }

    /// Takes what another one says of the same attempt.
    fn join(&mut self, other: Self) {
        self.outcomes.extend(other.outcomes);
        self.outcomes.sort_by_key(|(recipient, _)| *recipient);
        self.expired.extend(other.expired);
        self.items.extend(other.items);
        self.gone.extend(other.gone);
    }

    fn retain(&mut self, is_kept: impl Fn(u32) -> bool) {
        self.outcomes.retain(|(recipient, _)| is_kept(*recipient));
        self.expired.retain(|(recipient, _)| is_kept(*recipient));
        self.items.retain(|item| is_kept(item.recipient));
        self.gone.retain(|recipient| is_kept(*recipient));
    }
}

/// What is told of a success; `None` where the next hop tells it.
fn handover_news(reply: Reply, remote: Option<Domain>, handover: Handover) -> Option<News> {
    match handover {
        Handover::Final => Some(News::Delivered { reply, remote }),
        Handover::Owed => Some(News::Relayed { reply, remote, is_owed: true }),
        Handover::Relayed => Some(News::Relayed { reply, remote, is_owed: false }),
        Handover::Reporting => None,
    }
}

/// Whether somebody is told of it: the originator, or of a report of ours that failed perhaps the
/// postmaster.
fn is_told(loaded: &Loaded, item: &Item) -> bool {
    let is_null = loaded.accepted.envelope.reverse_path.is_null();
    report::is_wanted(loaded, item) || is_null && matches!(item.news, News::Failed { .. })
}

/// Messages whose failures wait, in all: each may hold its content.
const GATHERED_MAX: usize = 256;
/// How long failures wait for the other recipients of their message.
const GATHER_WAIT: Duration = Duration::from_secs(30);
