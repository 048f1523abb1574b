//! One question at a time: whoever asks what is already being asked waits for the same answer.
//!
//! Invariant: for one key at most one lookup is under way, however many ask, and it goes on when
//! they lose interest. Failures are remembered for [`FAILURE_KEPT`], so that a burst of mail to a
//! dead domain is one lookup. Answers are not remembered here: the cache below does that. Not
//! pure: it spawns tasks.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use merpati_mail::Domain;
use tokio::{sync::watch, time::Instant};

/// What is being asked, and what has just failed.
#[derive(Debug)]
pub(super) struct Flights<V>(Arc<Mutex<State<V>>>);

impl<V: Clone + Send + Sync + 'static> Flights<V> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { under_way: HashMap::new(), failed: HashMap::new() })))
    }

    /// The answer for `key`: of the lookup that is under way, of one that has just failed, or of
    /// `lookup`. `None` if the lookup panicked.
    pub(super) async fn join<F>(&self, key: &Domain, lookup: F) -> Option<V>
    where
        F: Future<Output = Answered<V>> + Send + 'static,
    {
        let mut answer = match self.board(key) {
            Boarded::Failed(value) => return Some(value),
            Boarded::Waiting(answer) => answer,
            Boarded::First { promise, answer } => {
                let landing = Landing { flights: Arc::clone(&self.0), key: key.clone() };
                tokio::spawn(async move {
                    let answered = lookup.await;
                    landing.note(&answered);
                    promise.send_replace(Some(answered.into_value()));
                    drop(landing);
                });
                answer
            }
        };
        // An error means that the lookup ended without an answer, which is a panic in it.
        answer.wait_for(Option::is_some).await.ok().and_then(|value| value.clone())
    }

    fn board(&self, key: &Domain) -> Boarded<V> {
        let mut state = lock(&self.0);
        if let Some(value) = state.recent_failure(key, Instant::now()) {
            return Boarded::Failed(value);
        }
        if let Some(answer) = state.under_way.get(key) {
            return Boarded::Waiting(answer.clone());
        }
        let (promise, answer) = watch::channel(None);
        state.under_way.insert(key.clone(), answer.clone());
        Boarded::First { promise, answer }
    }
}

impl<V> Clone for Flights<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// How a lookup ended.
#[derive(Debug)]
pub(super) enum Answered<V> {
    /// It could not be found out; worth remembering for a moment.
    Failed(V),
    /// It was found out.
    Found(V),
}

impl<V> Answered<V> {
    fn into_value(self) -> V {
        match self {
            Self::Failed(value) | Self::Found(value) => value,
        }
    }
}

enum Boarded<V> {
    Failed(V),
    First { promise: watch::Sender<Option<V>>, answer: watch::Receiver<Option<V>> },
    Waiting(watch::Receiver<Option<V>>),
}

#[derive(Debug)]
struct State<V> {
    under_way: HashMap<Domain, watch::Receiver<Option<V>>>,
    failed: HashMap<Domain, (Instant, V)>,
}

impl<V: Clone> State<V> {
    fn recent_failure(&self, key: &Domain, now: Instant) -> Option<V> {
        self.failed.get(key).filter(|(until, _)| now < *until).map(|(_, value)| value.clone())
    }

    fn remember(&mut self, key: &Domain, value: V, now: Instant) {
        if self.failed.len() >= FAILURES_MAX {
            self.failed.retain(|_, (until, _)| now < *until);
        }
        // Full of fresh ones: forgetting costs another lookup, remembering would cost memory.
        if self.failed.len() < FAILURES_MAX {
            self.failed.insert(key.clone(), (now + FAILURE_KEPT, value));
        }
    }
}

/// Takes a lookup off the list when it ends, also by panic.
struct Landing<V> {
    flights: Arc<Mutex<State<V>>>,
    key: Domain,
}

impl<V: Clone> Landing<V> {
    fn note(&self, answered: &Answered<V>) {
        let mut state = lock(&self.flights);
        match answered {
            Answered::Failed(value) => state.remember(&self.key, value.clone(), Instant::now()),
            Answered::Found(_) => {
                state.failed.remove(&self.key);
            }
        }
    }
}

impl<V> Drop for Landing<V> {
    fn drop(&mut self) {
        lock(&self.flights).under_way.remove(&self.key);
    }
}

fn lock<V>(state: &Mutex<State<V>>) -> std::sync::MutexGuard<'_, State<V>> {
    // Nothing in here is left half-done by a panic.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a failure answers for the question.
pub(super) const FAILURE_KEPT: Duration = Duration::from_secs(5);

/// How many failures are remembered at most.
const FAILURES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn key() -> Domain {
        Domain::parse("example.org").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_answers_for_a_moment_and_then_the_question_is_asked_again() {
        let flights = Flights::new();
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let asked = Arc::clone(&asked);
            async move { Answered::Failed(asked.fetch_add(1, Ordering::SeqCst)) }
        };
        assert_eq!(flights.join(&key(), ask()).await, Some(0));
        assert_eq!(flights.join(&key(), ask()).await, Some(0));
        tokio::time::advance(FAILURE_KEPT).await;
        assert_eq!(flights.join(&key(), ask()).await, Some(1));
    }

    #[tokio::test]
    async fn an_answer_is_asked_for_anew() {
        let flights = Flights::new();
        for n in 0..3 {
            assert_eq!(flights.join(&key(), async move { Answered::Found(n) }).await, Some(n));
        }
        assert!(lock(&flights.0).under_way.is_empty());
    }

    #[tokio::test]
    async fn a_panic_of_the_lookup_leaves_nothing_behind() {
        let flights = Flights::<u8>::new();
        assert_eq!(flights.join(&key(), async { panic!("as the test wants it") }).await, None);
        assert_eq!(flights.join(&key(), async { Answered::Found(1) }).await, Some(1));
    }

    #[tokio::test]
    async fn a_lookup_goes_on_when_who_asked_has_gone() {
        let flights = Flights::new();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let lookup = async move {
            let _ = gone.await;
            Answered::Found(7)
        };
        let first = tokio::spawn({
            let flights = flights.clone();
            async move { flights.join(&key(), lookup).await }
        });
        while lock(&flights.0).under_way.is_empty() {
            tokio::task::yield_now().await;
        }
        first.abort();
        assert!(first.await.is_err());
        let key = key();
        let second = flights.join(&key, async { Answered::Found(8) });
        go.send(()).unwrap();
        assert_eq!(second.await, Some(7));
    }

    #[test]
    fn the_memory_of_failures_is_bounded() {
        let mut state = State { under_way: HashMap::new(), failed: HashMap::new() };
        let now = Instant::now();
        for n in 0..FAILURES_MAX + 10 {
            state.remember(&Domain::parse(&format!("d{n}.example")).unwrap(), n, now);
        }
        assert_eq!(state.failed.len(), FAILURES_MAX);
        let late = Domain::parse("late.example").unwrap();
        state.remember(&late, 1, now + FAILURE_KEPT);
        assert_eq!((state.failed.len(), state.recent_failure(&late, now)), (1, Some(1)));
    }
}
