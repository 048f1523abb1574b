//! What the configuration means for the questions of admission: the lists, the greylist and the
//! verifier.
//!
//! Invariant: nothing is decided here; the words of the configuration become the options of the
//! machines. Reads the file of the greylist.

use std::{num::NonZeroU32, sync::Arc};

use merpati_flow::admit::Greylisting;

use crate::{
    clock::Clock,
    config::{Config, strangers::ListEntry},
    deliver::Deliverer,
    resolve::Resolver,
    sinks::Sinks,
    world::{ListOptions, Lists, Memory, Verifier, VerifierOptions, Waits, World},
};

/// The greylist, where there is one; a task of the current runtime keeps it.
pub(super) fn greylist(config: &Config, clock: &Arc<Clock>) -> Option<Arc<Memory>> {
    match config.greylist.greylisting() {
        Greylisting::Off => return None,
        Greylisting::On => {}
    }
    let path = config.server.data_dir.join(GREYLIST_FILE);
    let memory = Arc::new(Memory::open(path, config.greylist.options(), Arc::clone(clock)));
    tokio::spawn(Arc::clone(&memory).keep());
    Some(memory)
}

/// Who answers the questions of admission; errs where a list cannot be used.
pub(super) fn world(
    config: &Config,
    (resolver, deliverer): (Resolver, Deliverer),
    greylist: Option<Arc<Memory>>,
    (clock, sinks): (Arc<Clock>, Sinks),
) -> anyhow::Result<World> {
    let lists = config.lists.iter().map(|entry: &ListEntry| {
        Ok(ListOptions { list: entry.list()?, has_test_points: entry.test_points })
    });
    let lists = Lists::start(lists.collect::<anyhow::Result<_>>()?, &resolver, clock, sinks);
    let recipients = &config.recipients;
    let options = VerifierOptions {
        router: config.router(),
        kept_for: recipients.kept_for,
        refused_kept_for: recipients.refused_kept_for,
        entries_max: count(recipients.entries_max),
        wait: recipients.wait,
    };
    let verifier = Verifier::new(options, deliverer);
    let waits = Waits {
        questions: config.strangers.wait,
        provenance: config.authentication.wait,
        recipients: recipients.wait,
    };
    Ok(World::new(resolver, lists, greylist, verifier, waits))
}

fn count(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}

/// The file in the data directory that holds the greylist (`docs/format.md` §9).
const GREYLIST_FILE: &str = "greylist";
