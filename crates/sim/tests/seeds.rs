//! A thousand worlds, and the known ways to be wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use merpati_sim::{Mark, Mutant, Run, World};

/// Seeds that once found something; each has a name that says what.
const NAMED: &[(u64, &str)] = &[
    (1, "two last deliveries of a message that end together retire it once"),
    (285, "a delivery that is released during its attempt is not tried twice"),
    (643, "mail that was refused by a failing disk and kept all the same comes twice at most"),
    (722, "a release that survives a failed sync is a release"),
];
const SEEDS: u64 = 1_000;
const MARKED_SEEDS_MIN: u64 = SEEDS / 20;
const MARKS_MIN: usize = 30;
const MUTANT_SEEDS: u64 = 60;

/// Runs seeds on all cores; what they find does not depend on how they share them.
fn runs(seeds: u64, mutant: Option<Mutant>) -> BTreeMap<u64, Run> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut found = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return found;
            }
            found.push((seed, World::new(seed, mutant).run()));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

#[test]
fn a_thousand_worlds_lose_nothing_and_reach_every_odd_branch() {
    let runs = runs(SEEDS, None);
    let wrong: Vec<String> = runs
        .iter()
        .filter(|(_, run)| !run.wrongs.is_empty())
        .map(|(seed, run)| format!("make sim SEED={seed}: {:?}", run.wrongs))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let mut marks: BTreeMap<Mark, u64> = BTreeMap::new();
    for mark in runs.values().flat_map(|run| &run.marks) {
        *marks.entry(*mark).or_default() += 1;
    }
    let rare: Vec<&Mark> = Mark::ALL
        .iter()
        .filter(|mark| marks.get(mark).copied().unwrap_or(0) < MARKED_SEEDS_MIN)
        .collect();
    assert!(rare.is_empty(), "reached in less than 5 % of the seeds: {rare:?}");
    assert!(Mark::ALL.len() >= MARKS_MIN);
    let crashes = runs.values().filter(|run| run.marks.contains(&Mark::Crash)).count();
    assert_eq!(crashes, runs.len(), "each world has a crash");
    let steps: u64 = runs.values().map(|run| run.steps).sum();
    let acknowledged: u64 = runs.values().map(|run| u64::from(run.acknowledged)).sum();
    println!("{SEEDS} seeds, {acknowledged} acknowledged, {steps} steps");
}

#[test]
fn named_seeds_stay_right() {
    for (seed, name) in NAMED {
        let run = World::new(*seed, None).run();
        assert_eq!(run.wrongs, Vec::<String>::new(), "seed {seed}: {name}");
    }
}

#[test]
fn every_known_way_to_be_wrong_is_noticed() {
    for mutant in Mutant::ALL {
        let caught =
            runs(MUTANT_SEEDS, Some(mutant)).values().filter(|run| !run.wrongs.is_empty()).count();
        assert!(caught > 0, "{mutant:?} goes unnoticed in {MUTANT_SEEDS} seeds");
        println!("{mutant:?}: noticed in {caught} of {MUTANT_SEEDS} seeds");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [0, 7, 99] {
        assert_eq!(World::new(seed, None).run(), World::new(seed, None).run(), "seed {seed}");
    }
}
