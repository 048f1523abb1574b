//! Runs worlds by their seeds: `merpati-sim --seed N`, or `merpati-sim --seeds A..B`.
//!
//! Prints what did not hold, how often each mark was reached, and ends with 1 where anything was
//! wrong.

#![expect(clippy::print_stdout, reason = "a program that tells what it found")]

use std::{collections::BTreeMap, env, process::ExitCode};

use merpati_sim::{Mark, Mutant, World};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (seeds, mutant) = match words.as_slice() {
        ["--seed", seed] => (seed.parse().ok().map(|s: u64| s..s + 1), None),
        ["--seeds", range] => (parse(range), None),
        ["--seeds", range, "--mutant", name] => (parse(range), mutant(name)),
        _ => (None, None),
    };
    let Some(seeds) = seeds else {
        println!("usage: merpati-sim --seed N | --seeds A..B [--mutant NAME]");
        return ExitCode::from(2);
    };
    let mut marks: BTreeMap<Mark, u64> = BTreeMap::new();
    let (mut wrong, mut steps, mut acknowledged, total) = (0, 0, 0, seeds.end - seeds.start);
    for seed in seeds {
        let run = World::new(seed, mutant).run();
        for line in &run.wrongs {
            println!("seed {seed}: {line}");
        }
        wrong += u64::from(!run.wrongs.is_empty());
        steps += run.steps;
        acknowledged += u64::from(run.acknowledged);
        for mark in run.marks {
            *marks.entry(mark).or_default() += 1;
        }
    }
    for mark in Mark::ALL {
        println!("{mark:?}: {} of {total}", marks.get(mark).copied().unwrap_or(0));
    }
    println!("{total} seeds, {wrong} wrong, {acknowledged} acknowledged, {steps} steps");
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(range: &str) -> Option<std::ops::Range<u64>> {
    let (first, end) = range.split_once("..")?;
    Some(first.parse().ok()?..end.parse().ok()?)
}

fn mutant(name: &str) -> Option<Mutant> {
    Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == name)
}
