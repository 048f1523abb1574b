//! The greylist, in memory and in a file.
//!
//! Invariant: the file is written beside the old one, synced and renamed, off the way of mail; a
//! crash forgets at most what is younger than [`KEEP_PACE`], which costs a sender one more wait.
//! Not pure: a file.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use merpati_flow::greylist::{Greylist, GreylistOptions};
use merpati_mail::question::{GreylistAnswer, Triplet};
use tokio::task::spawn_blocking;

use crate::{clock::Clock, durable};

/// Who waits and who is known.
#[derive(Debug)]
pub struct Memory {
    table: Mutex<Greylist>,
    path: PathBuf,
    clock: Arc<Clock>,
}

impl Memory {
    /// The table in this file; an empty one where there is none, or none that can be read, which is
    /// said.
    pub fn open(path: PathBuf, options: GreylistOptions, clock: Arc<Clock>) -> Self {
        let table = match fs::read(&path) {
            Ok(octets) => Greylist::from_octets(options, &octets).unwrap_or_else(|| {
                let file = path.display();
                tracing::error!(%file, "the greylist is damaged and begins empty");
                Greylist::new(options)
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::error!(%error, "the greylist cannot be read and begins empty");
                }
                Greylist::new(options)
            }
        };
        Self { table: Mutex::new(table), path, clock }
    }

    /// Whether this triplet has waited.
    pub fn ask(&self, triplet: &Triplet) -> GreylistAnswer {
        let now = self.clock.now();
        self.lock().ask(now, triplet)
    }

    /// Writes what is new, again and again.
    pub async fn keep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(KEEP_PACE).await;
            let memory = Arc::clone(&self);
            spawn_blocking(move || memory.save()).await.ok();
        }
    }

    /// Writes what is new. Where that fails, mail goes on, and the operator is told.
    pub fn save(&self) {
        let news = self.lock().news();
        if let Some(octets) = news
            && let Err(error) = durable::replace(&self.path, &octets, 0o600)
        {
            tracing::error!(%error, file = %self.path.display(), "cannot write the greylist");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Greylist> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often the file is written, where anything changed.
const KEEP_PACE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use merpati_mail::{Domain, Mailbox, Time};

    use super::*;

    #[test]
    fn what_was_known_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("greylist");
        let options = GreylistOptions {
            wait: Duration::ZERO,
            retry_within: Duration::from_hours(24),
            kept_for: Duration::from_hours(24),
            entries_max: 10,
        };
        let clock = Arc::new(Clock::start(Time::EPOCH));
        let open = || Memory::open(path.clone(), options, Arc::clone(&clock));
        let triplet = Triplet {
            network: [192, 0, 2, 0].into(),
            sender: Domain::parse("a.example").unwrap(),
            recipient: Mailbox::parse("u@ours.example").unwrap(),
        };
        let memory = open();
        assert!(matches!(memory.ask(&triplet), GreylistAnswer::Waits { .. }));
        memory.save();
        let memory = open();
        assert_eq!(memory.ask(&triplet), GreylistAnswer::Passed);
        memory.save();
        assert_eq!(open().ask(&triplet), GreylistAnswer::Passed);
        fs::write(&path, b"MERPATIG damaged").unwrap();
        assert!(matches!(open().ask(&triplet), GreylistAnswer::Waits { .. }));
        assert!(!path.with_extension("new").exists());
    }
}
