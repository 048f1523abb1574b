//! What next hops say of recipients, and for how long that is so.
//!
//! Invariant: one recipient is asked about but once at a time, however many ask; the memory is
//! bounded, and that nothing is known is remembered for a moment only. Not pure: asks next hops.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use merpati_flow::{Job, route::Router};
use merpati_mail::{Domain, Mailbox, question::RecipientAnswer};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::deliver::Deliverer;

/// How next hops are asked.
#[derive(Clone, Debug)]
pub struct VerifierOptions {
    /// Where mail for whom goes.
    pub router: Router,
    /// How long a recipient that is taken is taken to be.
    pub kept_for: Duration,
    /// How long one that is refused is.
    pub refused_kept_for: Duration,
    /// How many are remembered.
    pub entries_max: usize,
    /// How long a next hop may take; who asks may lose patience before.
    pub wait: Duration,
}

/// Asks next hops; cheap to clone.
#[derive(Clone, Debug)]
pub struct Verifier(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: VerifierOptions,
    deliverer: Deliverer,
    state: Mutex<HashMap<Key, Entry>>,
}

/// The local part in lower case, and the domain.
type Key = (String, Domain);

#[derive(Clone, Debug)]
enum Entry {
    Asked(watch::Receiver<Option<RecipientAnswer>>),
    Known { answer: RecipientAnswer, until: Instant },
}

/// What a look into the memory comes to.
enum Look {
    Ask(watch::Sender<Option<RecipientAnswer>>, watch::Receiver<Option<RecipientAnswer>>),
    Known(RecipientAnswer),
    Wait(watch::Receiver<Option<RecipientAnswer>>),
}

impl Verifier {
    /// A verifier that remembers nobody.
    pub fn new(options: VerifierOptions, deliverer: Deliverer) -> Self {
        Self(Arc::new(Shared { options, deliverer, state: Mutex::default() }))
    }

    /// Whether the next hop takes mail for this mailbox. It is taken to, where its mail goes to no
    /// next hop of the operator's.
    pub async fn ask(&self, mailbox: &Mailbox) -> RecipientAnswer {
        let key = (mailbox.local().to_lowercase(), mailbox.domain().clone());
        let mut answer = match self.0.look(&key) {
            Look::Known(answer) => return answer,
            Look::Wait(answer) => answer,
            Look::Ask(promise, answer) => {
                let (shared, mailbox) = (Arc::clone(&self.0), mailbox.clone());
                // It goes on when who asked has gone: others will ask the same.
                tokio::spawn(async move {
                    let found = shared.find(&mailbox).await;
                    shared.remember(key, found.clone());
                    promise.send_replace(Some(found));
                });
                answer
            }
        };
        let found = answer.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        found.unwrap_or(RecipientAnswer::Unknown)
    }
}

impl Shared {
    fn look(&self, key: &Key) -> Look {
        let mut state = self.lock();
        match state.get(key) {
            Some(Entry::Known { answer, until }) if Instant::now() < *until => {
                return Look::Known(answer.clone());
            }
            // A sender that is gone without an answer panicked.
            Some(Entry::Asked(answer)) if answer.has_changed().is_ok() => {
                return Look::Wait(answer.clone());
            }
            Some(_) | None => {}
        }
        let (promise, answer) = watch::channel(None);
        self.make_room(&mut state);
        state.insert(key.clone(), Entry::Asked(answer.clone()));
        Look::Ask(promise, answer)
    }

    async fn find(&self, mailbox: &Mailbox) -> RecipientAnswer {
        let Some(job) = Job::verification(&self.options.router, mailbox) else {
            return RecipientAnswer::Taken;
        };
        let asked = timeout(self.options.wait, self.deliverer.verify(job)).await;
        asked.unwrap_or(RecipientAnswer::Unknown)
    }

    fn remember(&self, key: Key, answer: RecipientAnswer) {
        let kept_for = match answer {
            RecipientAnswer::Refused => self.options.refused_kept_for,
            RecipientAnswer::Taken => self.options.kept_for,
            RecipientAnswer::Unknown => UNKNOWN_KEPT_FOR,
        };
        let until = Instant::now() + kept_for;
        self.lock().insert(key, Entry::Known { answer, until });
    }

    /// Forgets what is over; where that is not enough, whatever comes first.
    fn make_room(&self, state: &mut HashMap<Key, Entry>) {
        let max = self.options.entries_max.max(1);
        if state.len() < max {
            return;
        }
        let now = Instant::now();
        state.retain(|_, entry| match entry {
            Entry::Asked(_) => true,
            Entry::Known { until, .. } => now < *until,
        });
        // A tenth at once, so that a flood does not make each question a search.
        let surplus = (state.len() + max / 10 + 1).saturating_sub(max);
        let first: Vec<Key> = state.keys().take(surplus).cloned().collect();
        for key in first {
            state.remove(&key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long nobody is asked again after a next hop did not say.
const UNKNOWN_KEPT_FOR: Duration = Duration::from_secs(5);
