//! Whether the relay works, and what the service manager is shown of it.
//!
//! Invariant: the manager hears that the relay is alive only after the committer and the conductor
//! have each gone once through their work since it heard so last; this task shows that the runtime
//! does. A thread that hangs, or a disk that does not come back, ends the telling. Not pure.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::Notifier;
use crate::{
    committer::Committer,
    conductor::Conductor,
    health::{Health, Life},
    pressure::Resource,
};

/// Tells the manager how the relay is, and that it is alive; until one of the threads ends.
pub(crate) async fn keep(
    notifier: Notifier,
    health: Arc<Health>,
    committer: Committer,
    conductor: Conductor,
) {
    if !notifier.is_heard() {
        return;
    }
    let mut pace = interval(notifier.watchdog().map_or(STATUS_EVERY, |wait| wait / 2));
    // A slow disk shows as a late answer; the next one is due half a wait after that.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = String::new();
    loop {
        pace.tick().await;
        let (commits, conducts) = tokio::join!(committer.beat(), conductor.beat());
        if !commits || !conducts {
            return;
        }
        if notifier.watchdog().is_some() {
            notifier.alive();
        }
        let status = status(&health);
        if status != shown {
            notifier.status(&status);
            shown = status;
        }
    }
}

/// How the relay is, in one line.
pub(crate) fn status(health: &Health) -> String {
    let pressure = health.pressure();
    let messages = pressure.map_or(0, |pressure| pressure.messages);
    let state = match (health.life(), health.shortage()) {
        (Life::Starting, _) => "Starts".to_owned(),
        (Life::Draining, _) => "Drains: takes no new mail and is about to end".to_owned(),
        (Life::Failed(why), _) => format!("The spool failed: {why}"),
        (Life::Ready, Some(Resource::Disk)) => "Refuses new mail: the spool is full".to_owned(),
        (Life::Ready, Some(Resource::Memory)) => "Refuses new mail: short of memory".to_owned(),
        (Life::Ready, Some(Resource::Queue)) => "Refuses new mail: the queue is full".to_owned(),
        (Life::Ready, None) => "Takes mail".to_owned(),
    };
    match pressure.map_or(0, |pressure| pressure.segments_unread) {
        0 => format!("{state}; {messages} messages in the spool"),
        unread => format!("{state}; still reads its spool, {unread} segments to go"),
    }
}

/// How often the manager is shown how the relay is where it watches nobody.
const STATUS_EVERY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_what_is_with_new_mail() {
        let health = Health::default();
        assert_eq!(status(&health), "Starts; 0 messages in the spool");
        health.ready();
        assert_eq!(status(&health), "Takes mail; 0 messages in the spool");
        health.fail("EIO".to_owned());
        assert_eq!(status(&health), "The spool failed: EIO; 0 messages in the spool");
    }
}
