//! When kept policies are fetched again, so that they do not expire while there is mail.
//!
//! Not pure: it waits and spawns tasks.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{Reason, Shared};

/// Begins to keep policies fresh, for as long as anybody holds what is shared.
pub(super) fn begin(shared: &Arc<Shared>) {
    let shared = Arc::downgrade(shared);
    tokio::spawn(async move {
        let mut turns = interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            let Some(shared) = Weak::upgrade(&shared) else { return };
            keep_fresh(&shared).await;
        }
    });
}

/// One turn: expired ones go, and those that are due are fetched, a few at once.
pub(super) async fn keep_fresh(shared: &Arc<Shared>) {
    let now = shared.clock.now();
    let removing = {
        let shared = Arc::clone(shared);
        // Under the lock: a fetch that begins now writes its file after that.
        move || {
            let mut state = shared.state();
            for domain in state.expire(now) {
                shared.store.forget(&domain);
            }
        }
    };
    tokio::task::spawn_blocking(removing).await.ok();
    let due = shared.state().due(now);
    let mut looks = JoinSet::new();
    for domain in due {
        if looks.len() >= AT_ONCE {
            looks.join_next().await;
        }
        let shared = Arc::clone(shared);
        looks.spawn(async move {
            shared.look(&domain, Reason::Refresh).await;
        });
    }
    looks.join_all().await;
}

/// How often it is looked what is due.
const TURN: Duration = Duration::from_mins(10);

/// Policies that are fetched at once because it is time.
const AT_ONCE: usize = 4;
