//! What is known of the policies of others: kept ones, what was just looked at, looks under way.
//!
//! Invariant: bounded in domains. An expired policy is not given out. Not pure: it holds the ends
//! of channels, but no clock.

use std::{collections::HashMap, sync::Arc, time::Duration};

use merpati_mail::{Domain, Time};
use tokio::sync::watch;

use super::{FetchTrouble, Kept, Reason, Shared, Standing, demands};

/// What is known.
pub(super) struct State {
    kept: HashMap<Domain, Slot>,
    recent: HashMap<Domain, Recent>,
    under_way: HashMap<Domain, UnderWay>,
}

/// A kept policy.
struct Slot {
    kept: Arc<Kept>,
    /// When there was mail for it last; at the start, now.
    used_at: Time,
    /// When it was last tried to fetch it.
    tried_at: Time,
}

/// A look that has ended.
struct Recent {
    /// Until when its answer is given to those who have mail.
    until: Time,
    /// When it fetched, or tried to.
    tried_at: Option<Time>,
    /// The trouble where the domain has a policy and none is kept.
    trouble: Option<FetchTrouble>,
}

struct UnderWay {
    answer: watch::Receiver<Option<Standing>>,
    reason: Reason,
}

/// What a look brought.
pub(super) enum Looked {
    /// The record could not be seen, so nothing was fetched; something is kept.
    Failed(FetchTrouble),
    /// A policy could not be fetched.
    FetchFailed(FetchTrouble),
    /// This policy, newly fetched.
    Fetched(Arc<Kept>),
    /// The domain has no policy, and none is kept.
    Nothing,
    /// The record names the policy that is kept.
    Same,
}

/// What becomes of somebody who asks.
pub(super) enum Boarded {
    /// He is the first, and has to look.
    First {
        /// Where the answer goes.
        promise: watch::Sender<Option<Standing>>,
        /// Where it comes out.
        answer: watch::Receiver<Option<Standing>>,
    },
    /// It is known.
    Known(Standing),
    /// Somebody looks already.
    Waiting {
        /// Where the answer comes out.
        answer: watch::Receiver<Option<Standing>>,
        /// Whether that look does what this one would do.
        is_as_wanted: bool,
    },
}

impl State {
    /// What was read from disk.
    pub(super) fn new(kept: Vec<Kept>, now: Time) -> Self {
        let slot = |kept: Kept| {
            let tried_at = kept.fetched_at;
            (kept.domain.clone(), Slot { kept: Arc::new(kept), used_at: now, tried_at })
        };
        let kept = kept.into_iter().map(slot).collect();
        Self { kept, recent: HashMap::new(), under_way: HashMap::new() }
    }

    /// Whether it is known, is being looked at, or has to be looked at.
    pub(super) fn board(&mut self, domain: &Domain, reason: Reason, now: Time) -> Boarded {
        if let Some(slot) = self.kept.get_mut(domain).filter(|_| reason == Reason::Mail) {
            slot.used_at = now;
        }
        let is_known = self.recent.get(domain).is_some_and(|recent| match reason {
            Reason::Mail => now < recent.until,
            Reason::Refresh => recent.tried_at.is_some_and(|at| now.since(at) < LOOK_KEPT),
        });
        if is_known {
            return Boarded::Known(self.standing(domain, now));
        }
        if let Some(UnderWay { answer, reason: other }) = self.under_way.get(domain) {
            let is_as_wanted = reason == Reason::Mail || *other == Reason::Refresh;
            return Boarded::Waiting { answer: answer.clone(), is_as_wanted };
        }
        let (promise, answer) = watch::channel(None);
        self.under_way.insert(domain.clone(), UnderWay { answer: answer.clone(), reason });
        Boarded::First { promise, answer }
    }

    /// Takes up what a look brought; what is in force now.
    pub(super) fn note(&mut self, domain: &Domain, looked: Looked, now: Time) -> Standing {
        let mut recent = Recent { until: now + LOOK_KEPT, tried_at: None, trouble: None };
        match looked {
            Looked::Failed(trouble) => self.set_trouble(domain, Some(trouble.why)),
            Looked::FetchFailed(trouble) => {
                recent = Recent {
                    until: now + FAILURE_KEPT,
                    tried_at: Some(now),
                    trouble: Some(trouble.clone()),
                };
                self.set_trouble(domain, Some(trouble.why));
            }
            Looked::Fetched(kept) => {
                recent.tried_at = Some(now);
                let used_at = self.kept.get(domain).map_or(now, |slot| slot.used_at);
                self.kept.insert(domain.clone(), Slot { kept, used_at, tried_at: now });
            }
            Looked::Nothing => {}
            Looked::Same => self.set_trouble(domain, None),
        }
        if let Some(slot) = self.kept.get_mut(domain) {
            slot.tried_at = recent.tried_at.unwrap_or(slot.tried_at);
            // Then it must be looked for anew, however fresh the look is.
            recent.until = recent.until.min(slot.kept.expires_at.max(now));
        }
        self.remember(domain, recent, now);
        self.standing(domain, now)
    }

    /// What is in force, by what is known.
    pub(super) fn standing(&self, domain: &Domain, now: Time) -> Standing {
        match self.kept(domain, now) {
            Some(kept) if demands(&kept) => Standing::Kept(kept),
            Some(_) => Standing::NOTHING,
            None => {
                let recent = self.recent.get(domain).filter(|recent| now < recent.until);
                let why_no_policy = recent.and_then(|recent| recent.trouble.clone());
                Standing::None { why_no_policy }
            }
        }
    }

    /// The policy that is kept and has not expired, whatever its mode.
    pub(super) fn kept(&self, domain: &Domain, now: Time) -> Option<Arc<Kept>> {
        let slot = self.kept.get(domain).filter(|slot| now < slot.kept.expires_at)?;
        Some(Arc::clone(&slot.kept))
    }

    /// Makes room for the policy of this domain; whose goes for it: the one for which there was
    /// no mail for longest.
    pub(super) fn make_room(&mut self, domain: &Domain) -> Option<Domain> {
        if self.kept.len() < POLICIES_MAX || self.kept.contains_key(domain) {
            return None;
        }
        let idle = self.kept.iter().filter(|(domain, _)| !self.under_way.contains_key(*domain));
        let oldest = idle.min_by_key(|(_, slot)| slot.used_at)?.0.clone();
        self.kept.remove(&oldest);
        Some(oldest)
    }

    /// Those that it is time to fetch again: once a day, or at half their time, for as long as
    /// there is mail for them.
    pub(super) fn due(&self, now: Time) -> Vec<Domain> {
        let is_due = |slot: &Slot| {
            let kept = &slot.kept;
            let wait = REFRESH_AFTER.min(kept.policy.max_age / 2);
            // A host that fails is asked sooner again, but not each time that somebody looks.
            let again = REFRESH_AGAIN.min(wait);
            now < kept.expires_at
                && now.since(kept.fetched_at) >= wait
                && now.since(slot.tried_at) >= again
                && now.since(slot.used_at) < USED_LATELY
        };
        let due = self.kept.iter().filter(|(_, slot)| is_due(slot));
        due.map(|(domain, _)| domain.clone()).collect()
    }

    /// Lets those go that have expired and are not being looked at; which they were.
    pub(super) fn expire(&mut self, now: Time) -> Vec<Domain> {
        let Self { kept, under_way, .. } = self;
        let expired = kept.extract_if(|domain, slot| {
            slot.kept.expires_at <= now && !under_way.contains_key(domain)
        });
        expired.map(|(domain, _)| domain).collect()
    }

    /// The look at this domain is over.
    pub(super) fn land(&mut self, domain: &Domain) {
        self.under_way.remove(domain);
    }

    fn set_trouble(&mut self, domain: &Domain, trouble: Option<String>) {
        if let Some(slot) = self.kept.get_mut(domain)
            && slot.kept.trouble != trouble
        {
            slot.kept = Arc::new(Kept { trouble, ..Kept::clone(&slot.kept) });
        }
    }

    fn remember(&mut self, domain: &Domain, recent: Recent, now: Time) {
        if self.recent.len() >= RECENT_MAX {
            self.recent.retain(|_, recent| now < recent.until);
        }
        // Full of fresh ones: forgetting costs another look, remembering would cost memory.
        if self.recent.len() < RECENT_MAX || self.recent.contains_key(domain) {
            self.recent.insert(domain.clone(), recent);
        }
    }
}

/// Takes a look off the list when it ends, also by panic.
pub(super) struct Landing {
    pub(super) shared: Arc<Shared>,
    pub(super) domain: Domain,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.shared.state().land(&self.domain);
    }
}

/// How long a look answers for others, and how often at most a policy is fetched because hosts
/// fail it.
pub(super) const LOOK_KEPT: Duration = Duration::from_mins(1);

/// How long a fetch that failed answers for others.
const FAILURE_KEPT: Duration = Duration::from_mins(5);

/// Policies that are kept at most.
pub(super) const POLICIES_MAX: usize = 10_000;

/// Looks that are remembered at most.
const RECENT_MAX: usize = 20_000;

/// When a policy is fetched again; §3.3 suggests once a day.
const REFRESH_AFTER: Duration = Duration::from_hours(24);

/// How soon it is tried again where that failed.
const REFRESH_AGAIN: Duration = Duration::from_hours(1);

/// A policy is fetched again where there was mail for it within this time.
const USED_LATELY: Duration = Duration::from_hours(7 * 24);

#[cfg(test)]
mod tests {
    use merpati_auth::sts::Policy;

    use super::*;

    fn at(secs: u64) -> Time {
        Time::from_secs(1_000_000 + secs)
    }

    fn domain(n: usize) -> Domain {
        Domain::parse(&format!("d{n}.example")).unwrap()
    }

    fn kept(n: usize, max_age: u64, fetched: Time) -> Kept {
        let text = format!("version: STSv1\nmode: enforce\nmx: a.example\nmax_age: {max_age}");
        let policy = Policy::parse(text.as_bytes()).unwrap();
        Kept::new(domain(n), "1".to_owned(), policy, fetched)
    }

    #[test]
    fn a_policy_is_due_once_a_day_or_at_half_its_time_while_there_is_mail() {
        const HOUR: u64 = 3_600;
        const DAY: u64 = 24 * HOUR;
        for (max_age, secs, want) in [
            (30 * DAY, DAY - 1, false),
            (30 * DAY, DAY, true),
            (DAY, 12 * HOUR - 1, false),
            (DAY, 12 * HOUR, true),
            (DAY, DAY, false),
            (30 * DAY, 7 * DAY - 1, true),
            (30 * DAY, 7 * DAY, false),
            (0, 30, true),
        ] {
            let state = State::new(vec![kept(1, max_age, at(0))], at(0));
            assert_eq!(!state.due(at(secs)).is_empty(), want, "{max_age} {secs}");
        }
        let mut state = State::new(vec![kept(1, 30 * DAY, at(0))], at(0));
        let why = || FetchTrouble { kind: super::super::TroubleKind::Fetch, why: "x".to_owned() };
        state.note(&domain(1), Looked::FetchFailed(why()), at(DAY));
        assert_eq!(state.due(at(DAY + HOUR - 1)), []);
        assert_eq!(state.due(at(DAY + HOUR)), [domain(1)]);
        let Boarded::First { .. } = state.board(&domain(1), Reason::Mail, at(8 * DAY)) else {
            panic!("it is known or under way");
        };
        assert_eq!(state.due(at(9 * DAY)), [domain(1)], "there was mail");
    }

    #[test]
    fn what_has_expired_goes_and_is_not_given_out() {
        let mut state = State::new(vec![kept(1, 100, at(0)), kept(2, 200, at(0))], at(0));
        assert!(state.standing(&domain(1), at(99)).kept().is_some());
        assert_eq!(state.standing(&domain(1), at(100)), Standing::NOTHING);
        assert_eq!(state.expire(at(100)), [domain(1)]);
        assert_eq!(state.expire(at(100)), []);
        assert!(state.standing(&domain(2), at(199)).kept().is_some());
    }

    #[test]
    fn the_policy_that_was_wanted_least_goes_for_a_new_one() {
        let all = (0..POLICIES_MAX).map(|n| kept(n, 1_000, at(0))).collect();
        let mut state = State::new(all, at(0));
        assert_eq!(state.make_room(&domain(7)), None, "it is kept already");
        for n in (0..POLICIES_MAX).filter(|n| *n != 77) {
            state.board(&domain(n), Reason::Mail, at(1));
            state.land(&domain(n));
        }
        assert_eq!(state.make_room(&domain(POLICIES_MAX)), Some(domain(77)));
        assert_eq!(state.make_room(&domain(POLICIES_MAX)), None, "there is room now");
    }

    #[test]
    fn what_is_remembered_of_looks_is_bounded() {
        let mut state = State::new(Vec::new(), at(0));
        for n in 0..RECENT_MAX + 9 {
            state.note(&domain(n), Looked::Nothing, at(0));
        }
        assert_eq!(state.recent.len(), RECENT_MAX);
        state.note(&domain(RECENT_MAX + 9), Looked::Nothing, at(60));
        assert_eq!(state.recent.len(), 1);
    }
}
