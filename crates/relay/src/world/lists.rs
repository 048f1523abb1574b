//! Which DNS lists are believed: each is tested at its two test points at the start and from time
//! to time (RFC 5782 §5).
//!
//! Invariant: a list that was not proven, or answers what no list can mean, is ignored until a test
//! proves it, and the operator is told of each change. Not pure: asks name servers, spawns.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use merpati_flow::admit::lists::{Heard, List, ListAbout, Standing, standing};
use merpati_mail::{
    Domain,
    question::{ListEntry, ListedAnswer},
};

use crate::{
    clock::Clock,
    resolve::{Resolver, Silence},
    sinks::{ListChanged, Notice, Sinks},
};

/// A list, and how it is tested.
#[derive(Clone, Debug)]
pub struct ListOptions {
    /// The list.
    pub list: List,
    /// Whether it has the test points that every list has.
    pub has_test_points: bool,
}

/// All lists.
#[derive(Clone, Debug)]
pub struct Lists(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    all: Vec<ListOptions>,
    states: Mutex<HashMap<Key, State>>,
    clock: Arc<Clock>,
    sinks: Sinks,
}

/// A zone may be asked about clients and about senders.
type Key = (Domain, ListAbout);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    trust: Trust,
    /// Questions in a row to which nobody answered.
    silences: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trust {
    /// It is asked and believed.
    Believed,
    /// It has shown that it must not be believed, or does not answer.
    Ignored,
    /// It has shown nothing yet.
    #[default]
    Unproven,
}

impl Lists {
    /// These; a task of the current runtime tests them as long as somebody asks them.
    pub fn start(
        all: Vec<ListOptions>,
        resolver: &Resolver,
        clock: Arc<Clock>,
        sinks: Sinks,
    ) -> Self {
        let states = all.iter().map(|options| {
            let is_tested = options.has_test_points;
            let trust = if is_tested { Trust::Unproven } else { Trust::Believed };
            (key_of(&options.list), State { trust, silences: 0 })
        });
        let states = Mutex::new(states.collect());
        let lists = Self(Arc::new(Shared { all, states, clock, sinks }));
        for number in 0..lists.0.all.len() {
            tokio::spawn(watch(Arc::downgrade(&lists.0), number, resolver.clone()));
        }
        lists
    }

    /// What the list of this zone says of an entry; it is unknown while the list is not believed.
    pub async fn ask(&self, resolver: &Resolver, zone: &Domain, entry: &ListEntry) -> ListedAnswer {
        let about = match entry {
            ListEntry::Address(_) => ListAbout::Client,
            ListEntry::Domain(_) => ListAbout::SenderDomain,
        };
        let key = (zone.clone(), about);
        let state = self.0.lock().get(&key).copied().unwrap_or_default();
        if state.trust != Trust::Believed {
            self.0.count(&key, "ignored");
            return ListedAnswer::Unknown;
        }
        let listing = resolver.listed(zone, entry).await;
        self.0.note_silence(&key, listing.is_err());
        let (heard, reason) = match listing {
            Ok(listing) => (listing.heard, listing.reason),
            Err(Silence) => (None, None),
        };
        match heard {
            Some(Heard::Listed(codes)) => {
                self.0.count(&key, "listed");
                ListedAnswer::Yes { codes, reason }
            }
            Some(Heard::Nonsense(why)) => {
                self.0.change(&key, Trust::Ignored, &why.to_string());
                self.0.count(&key, "ignored");
                ListedAnswer::No
            }
            Some(Heard::NotListed) => {
                self.0.count(&key, "clear");
                ListedAnswer::No
            }
            None => {
                self.0.count(&key, "unknown");
                ListedAnswer::Unknown
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn named(&self, key: &Key) -> Option<&List> {
        self.all.iter().map(|options| &options.list).find(|list| key_of(list) == *key)
    }

    fn count(&self, key: &Key, answer: &'static str) {
        if let Some(list) = self.named(key) {
            self.sinks.metrics().list_answered(&list.name, answer);
        }
    }

    /// A list that is silent costs each client the whole wait: it is left alone for a while.
    fn note_silence(&self, key: &Key, is_silent: bool) {
        let mut states = self.lock();
        let Some(state) = states.get_mut(key) else { return };
        state.silences = if is_silent { state.silences.saturating_add(1) } else { 0 };
        let is_dead = state.silences >= SILENCES_MAX;
        drop(states);
        if is_dead {
            self.change(key, Trust::Ignored, "its name servers do not answer");
        }
    }

    /// Notes whether the list is believed, and tells where that is news.
    fn change(&self, key: &Key, trust: Trust, why: &str) {
        let mut states = self.lock();
        let Some(state) = states.get_mut(key) else { return };
        let before = std::mem::replace(state, State { trust, silences: 0 }).trust;
        drop(states);
        let Some(list) = self.named(key).filter(|_| before != trust) else { return };
        self.sinks.metrics().list_believed(&list.name, trust == Trust::Believed);
        if trust == Trust::Ignored {
            tracing::error!(list = %list.name, zone = %list.zone, why, "a DNS list is ignored");
        }
        self.sinks.tell([Notice::ListChanged(ListChanged {
            at: self.clock.now(),
            list: Arc::clone(&list.name),
            zone: list.zone.clone(),
            is_believed: trust == Trust::Believed,
            why: why.to_owned(),
        })]);
    }

    /// Tests a list; gives the time until the next test.
    async fn test(&self, number: usize, resolver: &Resolver) -> Duration {
        let Some(options) = self.all.get(number) else { return TEST_PACE };
        let (list, key) = (&options.list, key_of(&options.list));
        if !options.has_test_points {
            // It has nothing that would prove it: it is given another chance each time.
            self.change(&key, Trust::Believed, "it is tried again");
            return TEST_PACE;
        }
        let (always, never) = list.test_points();
        let (always, never) =
            tokio::join!(resolver.listed(&list.zone, &always), resolver.listed(&list.zone, &never));
        let heard = [always, never].map(|listing| listing.ok().and_then(|listing| listing.heard));
        let [always, never] = &heard;
        match standing(always.as_ref(), never.as_ref()) {
            Standing::Good => {
                self.change(&key, Trust::Believed, "its test points are right");
                TEST_PACE
            }
            Standing::Bad(why) => {
                self.change(&key, Trust::Ignored, &why);
                RETEST_PACE
            }
            Standing::Unknown => {
                let trust = self.lock().get(&key).copied().unwrap_or_default().trust;
                if trust == Trust::Unproven {
                    self.change(&key, Trust::Ignored, "it could not be tested");
                }
                RETEST_PACE
            }
        }
    }
}

async fn watch(lists: Weak<Shared>, number: usize, resolver: Resolver) {
    loop {
        let Some(shared) = lists.upgrade() else { return };
        let wait = shared.test(number, &resolver).await;
        drop(shared);
        tokio::time::sleep(wait).await;
    }
}

fn key_of(list: &List) -> Key {
    (list.zone.clone(), list.about)
}

/// How often a list that is believed is tested; one without test points is tried again so often.
const TEST_PACE: Duration = Duration::from_mins(30);
/// How often one that is not believed is.
const RETEST_PACE: Duration = Duration::from_mins(1);
/// Questions in a row without an answer after which a list is left alone until a test is answered.
const SILENCES_MAX: u32 = 5;
