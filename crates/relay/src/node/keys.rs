//! How the keys of domains are looked after while mail goes on.
//!
//! Invariant: one look goes on at a time, and nothing of the configuration is read anew for it.
//! Not pure: see [`schedule`].

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Node;
use crate::{
    domains::{self, schedule},
    listen::Shared,
    sinks::{KeysChanged, Notice},
};

impl Node {
    /// Begins a look, unless the last one goes on; `bell` rings when it is over.
    pub(super) fn look_after_keys(&self, bell: &mpsc::Sender<()>) {
        // The channel has room for one.
        let Ok(place) = bell.clone().try_reserve_owned() else { return };
        let (config, sinks, at) = (self.config.clone(), self.sinks.clone(), self.clock.now());
        tokio::spawn(async move {
            let changes = match schedule::tick(&config, at).await {
                Ok(changes) => changes,
                Err(why) => {
                    return tracing::error!("the keys of domains stay as they are: {why:#}");
                }
            };
            for schedule::Change { domain, said } in changes {
                tracing::warn!("{domain}: {}", said.join("\n"));
                sinks.tell([Notice::KeysChanged(KeysChanged { at, domain, said })]);
            }
            // Also where nothing has changed: a command may have changed the files, and its reload
            // failed.
            place.send(());
        });
    }

    /// Signs with the keys as they are now. Who is connected goes on by what held when he came.
    pub(super) fn take_up_keys(&mut self) {
        let Some(before) = &self.shared else { return };
        match domains::signers(&self.config) {
            Ok(signers) => {
                let shared = Arc::new(Shared { signers, ..Shared::clone(before) });
                for door in &self.doors {
                    door.share(&shared);
                }
                self.shared = Some(shared);
            }
            Err(why) => tracing::error!("the keys that signed before go on: {why:#}"),
        }
    }
}
