//! How certificates are ordered while mail goes on.
//!
//! Not pure: spawns.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::Node;
use crate::{acme::Keeper, config::Config};

impl Node {
    /// Begins to order and to renew; rings when there is a new certificate. Who is given learns of
    /// each configuration that holds.
    pub(super) fn order_certificates(&self) -> (watch::Sender<Arc<Config>>, mpsc::Receiver<()>) {
        let (config, of_keeper) = watch::channel(Arc::new(self.config.clone()));
        let (bell, rings) = mpsc::channel(1);
        let keeper = Keeper {
            config: of_keeper,
            challenges: Arc::clone(&self.challenges),
            clock: Arc::clone(&self.clock),
            sinks: self.sinks.clone(),
            bell,
        };
        tokio::spawn(keeper.run());
        (config, rings)
    }
}
