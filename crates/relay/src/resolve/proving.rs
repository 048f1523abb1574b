//! Whether what deliveries ask is proven by DNSSEC: looked at from the start on, and switched on
//! once our name servers hand over what proves their answers.
//!
//! Invariant: it is never switched off while the relay runs: name servers that stop handing over
//! signatures make answers bogus, which mail waits for. An attacker who takes signatures away gets
//! nowhere. Not pure: asks name servers, and one task.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{Options, Resolver, Shared, Signatures, lookup::Dns};

/// Who is told what was found of the signatures.
pub type Told = Box<dyn Fn(&Signatures) + Send>;

/// What proves answers, once there is something.
#[derive(Debug)]
pub(super) struct Proving {
    dns: OnceLock<Dns>,
    /// Whether it was looked once; who delivers waits for that.
    is_known: watch::Sender<bool>,
}

impl Proving {
    /// With name servers whose answers are checked whatever they hand over; `None`: nothing is
    /// checked yet.
    pub(super) fn new(dns: Option<Dns>) -> Self {
        let proving = Self { dns: OnceLock::new(), is_known: watch::Sender::new(true) };
        if let Some(dns) = dns {
            proving.dns.set(dns).ok();
        }
        proving
    }

    /// Waits until it is known, but no longer than this.
    pub(super) async fn known(&self, patience: Duration) {
        let mut is_known = self.is_known.subscribe();
        timeout(patience, is_known.wait_for(|known| *known)).await.ok();
    }
}

impl Resolver {
    /// Looks whether answers can be proven, in a task of its own, until they are or the resolver is
    /// gone; what deliveries ask waits for the first look. `told` hears of each change.
    pub fn start_proving(&self, told: Told) {
        let shared = &self.0;
        if shared.proving.dns.get().is_some() {
            return told(&Signatures::HandedOver);
        }
        shared.proving.is_known.send_replace(false);
        let (weak, options) = (Arc::downgrade(shared), shared.options.clone());
        tokio::spawn(async move {
            let mut before = None;
            loop {
                let found = Dns::signatures(&options).await;
                let Some(shared) = weak.upgrade() else { return };
                let is_on = found == Signatures::HandedOver && shared.prove(&options);
                shared.proving.is_known.send_replace(true);
                if before.as_ref() != Some(&found) {
                    told(&found);
                }
                if is_on {
                    return;
                }
                before = Some(found);
                drop(shared);
                sleep(PACE).await;
            }
        });
    }

    /// Whether answers to deliveries are proven where their zone is signed.
    pub fn proves(&self) -> bool {
        self.0.proving().is_some()
    }
}

impl Shared {
    /// Name servers whose answers are checked; `None` where they cannot be.
    pub(super) fn proving(&self) -> Option<&Dns> {
        self.proving.dns.get()
    }

    /// Whom deliveries ask.
    pub(super) fn deliveries(&self) -> &Dns {
        self.proving().unwrap_or(&self.checks)
    }

    /// Switches it on.
    fn prove(&self, options: &Options) -> bool {
        match Dns::new(&Options { validate: true, ..options.clone() }) {
            Ok(dns) => {
                self.proving.dns.set(dns).ok();
                true
            }
            Err(error) => {
                tracing::error!(%error, "answers cannot be proven");
                false
            }
        }
    }
}

/// How often it is looked while answers cannot be proven.
const PACE: Duration = Duration::from_mins(5);
