//! Whether mail is taken just now, and why not.
//!
//! Invariant: a relay that failed never becomes ready again; a draining one neither. Not pure:
//! shared by all threads.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use merpati_flow::admit::Room;
use merpati_spool::{Level, Pressure};
use tokio::sync::watch;

use crate::pressure::{Levels, Load, Resource};

/// In which part of its life the process is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// The end of the journal is looked for, and sockets are bound.
    #[default]
    Starting,
    /// Mail is taken.
    Ready,
    /// No new connections; sessions end between two commands.
    Draining,
    /// The journal failed, for this reason; as draining, and the exit code says so.
    Failed(String),
}

/// What all threads know of the state of the relay.
#[derive(Debug, Default)]
pub struct Health {
    life: watch::Sender<Life>,
    /// Whether all is known that the spool held when the process began.
    is_recovered: watch::Sender<bool>,
    pressure: Mutex<Option<Pressure>>,
    /// [`Levels`] as bits: each session looks at them before it reads.
    levels: AtomicU32,
}

impl Health {
    /// All is bound: mail is taken from now on.
    pub fn ready(&self) {
        self.advance(Life::Ready);
    }

    /// Recovery is complete: all is known that the spool held.
    pub fn recover(&self) {
        self.is_recovered.send_replace(true);
    }

    /// Until recovery is complete; false where that takes longer than `wait`, and where the relay
    /// ends before.
    pub async fn recovered(&self, wait: Duration) -> bool {
        let mut is_recovered = self.is_recovered.subscribe();
        let mut life = self.life.subscribe();
        tokio::select! {
            biased;
            recovered = is_recovered.wait_for(|is_recovered| *is_recovered) => recovered.is_ok(),
            _ = life.wait_for(|life| matches!(life, Life::Draining | Life::Failed(_))) => false,
            () = tokio::time::sleep(wait) => false,
        }
    }

    /// Stop taking mail and end.
    pub fn drain(&self) {
        self.advance(Life::Draining);
    }

    /// The journal failed.
    pub fn fail(&self, why: String) {
        self.advance(Life::Failed(why));
    }

    /// How it stands now.
    pub fn life(&self) -> Life {
        self.life.borrow().clone()
    }

    /// Sees each change.
    pub fn watch(&self) -> watch::Receiver<Life> {
        self.life.subscribe()
    }

    /// The room of the spool, as the committer last saw it; `None` before it first looked.
    pub fn pressure(&self) -> Option<Pressure> {
        *lock(&self.pressure)
    }

    /// The committer looked.
    pub fn set_pressure(&self, pressure: Pressure) {
        *lock(&self.pressure) = Some(pressure);
    }

    /// How far memory, queue and disk are strained.
    pub fn levels(&self) -> Levels {
        Levels::from_bits(self.levels.load(Ordering::Relaxed))
    }

    /// Who watches saw a change.
    pub fn set_levels(&self, levels: Levels) {
        self.levels.store(levels.to_bits(), Ordering::Relaxed);
    }

    /// Of what there is too little for new mail; `None` where all is taken.
    pub fn shortage(&self) -> Option<Resource> {
        let is_short = |resource| match resource {
            // The spool itself knows it at once.
            Resource::Disk => self.room() == Room::Full,
            Resource::Memory | Resource::Queue => self.levels().of(resource) >= Load::Refuse,
        };
        Resource::ALL.into_iter().find(|resource| is_short(*resource))
    }

    /// What admission has to know of the spool.
    pub fn room(&self) -> Room {
        if matches!(*self.life.borrow(), Life::Failed(_)) {
            return Room::Poisoned;
        }
        match self.pressure().map(|pressure| pressure.level) {
            Some(Level::Roomy) | None => Room::Roomy,
            Some(Level::OutcomesOnly | Level::Full) => Room::Full,
        }
    }

    fn advance(&self, to: Life) {
        self.life.send_if_modified(|life| {
            let goes_on = match (&*life, &to) {
                (Life::Failed(_), _)
                | (Life::Draining, Life::Starting | Life::Ready | Life::Draining)
                | (_, Life::Starting) => false,
                (Life::Starting | Life::Ready, _) | (Life::Draining, Life::Failed(_)) => true,
            };
            if goes_on {
                *life = to;
            }
            goes_on
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_failed_or_drains_never_becomes_ready_again() {
        let health = Health::default();
        health.ready();
        health.drain();
        health.ready();
        assert_eq!(health.life(), Life::Draining);
        health.fail("EIO".to_owned());
        health.drain();
        assert_eq!(health.life(), Life::Failed("EIO".to_owned()));
        assert_eq!(health.room(), Room::Poisoned);
    }
}
