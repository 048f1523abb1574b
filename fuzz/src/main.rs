//! Runs the targets over changed inputs of the corpus until the time is up.
//!
//! Invariant: the same seed and target give the same inputs in the same order.

use std::{
    collections::BTreeMap,
    fs, io, panic,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use merpati_fuzz::{TARGETS, Target, mutate::Pool};
use merpati_mail::Draw;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Wish::read(&arguments).and_then(|wish| wish.fulfil()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("merpati-fuzz: {why}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// What the command line asks for.
struct Wish {
    targets: Vec<Target>,
    seconds: u64,
    seed: u64,
    replay: Option<PathBuf>,
}

impl Wish {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let mut options: BTreeMap<&str, &str> = BTreeMap::new();
        for pair in arguments.chunks(2) {
            match pair {
                [name, value] if NAMES.contains(&name.as_str()) => options.insert(name, value),
                _ => return Err(format!("`{}` is not understood", pair.join(" "))),
            };
        }
        let number = |name, default| match options.get(name) {
            Some(text) => text.parse().map_err(|_| format!("{name} takes a number")),
            None => Ok(default),
        };
        let wanted = options.get("--target");
        let is_wanted = |target: &Target| wanted.is_none_or(|name| *name == target.name);
        let targets: Vec<Target> = TARGETS.into_iter().filter(is_wanted).collect();
        if targets.is_empty() {
            return Err(format!("the targets are {}", TARGETS.map(|t| t.name).join(", ")));
        }
        let replay = options.get("--replay").map(PathBuf::from);
        if replay.is_some() && wanted.is_none() {
            return Err("--replay needs --target".to_owned());
        }
        Ok(Self { targets, seconds: number("--seconds", 60)?, seed: number("--seed", 1)?, replay })
    }

    /// Whether all properties held.
    fn fulfil(&self) -> Result<bool, String> {
        if let Some(file) = &self.replay {
            let input = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
            // Not caught: the panic shows where it comes from.
            self.targets.iter().for_each(|target| (target.run)(&input));
            println!("{}: {} octets, all well", self.targets[0].name, input.len());
            return Ok(true);
        }
        // A finding is told once, by `tell`.
        panic::set_hook(Box::new(|_| {}));
        let watched = watch();
        let mut lanes = Vec::new();
        for target in &self.targets {
            let seeds = corpus(target.name).map_err(|error| error.to_string())?;
            if seeds.is_empty() {
                return Err(format!("no corpus for {}", target.name));
            }
            let at = TARGETS.iter().position(|t| t.name == target.name).unwrap_or(0);
            let seed = self.seed.wrapping_add(u64::try_from(at).unwrap_or(0) << 32);
            lanes.push((target, Pool::new(seeds, Draw::new(seed)), 0_u64));
        }
        println!("{} s with seed {}", self.seconds, self.seed);
        let end = Instant::now() + Duration::from_secs(self.seconds);
        while Instant::now() < end {
            for (target, pool, executions) in &mut lanes {
                if !take_turn(target, pool, executions, &watched) {
                    return Ok(false);
                }
            }
        }
        for (target, _, executions) in &lanes {
            println!("{:<15} {executions:>10} executions", target.name);
        }
        Ok(true)
    }
}

/// What runs now, and since when.
type Watched = Arc<Mutex<Option<(&'static str, Vec<u8>, Instant)>>>;

/// Runs a target for its turn; whether its property held.
fn take_turn(target: &Target, pool: &mut Pool, executions: &mut u64, watched: &Watched) -> bool {
    let turn = Instant::now() + TURN;
    while Instant::now() < turn {
        let input = pool.next_input(*executions);
        *executions += 1;
        if let Some((why, input)) = failure(target, input, watched) {
            tell(target.name, &why, &input);
            return false;
        }
    }
    true
}

/// Runs a target; what it says and its input where it fails.
fn failure(target: &Target, input: Vec<u8>, watched: &Watched) -> Option<(String, Vec<u8>)> {
    let mut current = watched.lock().unwrap_or_else(PoisonError::into_inner);
    *current = Some((target.name, input.clone(), Instant::now()));
    drop(current);
    let caught = panic::catch_unwind(|| (target.run)(&input)).err();
    *watched.lock().unwrap_or_else(PoisonError::into_inner) = None;
    let payload = caught?;
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Some((text.unwrap_or_else(|| "a panic".to_owned()), input))
}

/// Ends the process where an input takes too long.
fn watch() -> Watched {
    let watched = Watched::default();
    let current = Arc::clone(&watched);
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(1));
            let now = current.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((name, input, since)) = &*now
                && since.elapsed() > RUN_WAIT
            {
                tell(name, "it takes too long", input);
                std::process::exit(1);
            }
        }
    });
    watched
}

/// Keeps an input that fails, and says how to run it again.
fn tell(target: &str, why: &str, input: &[u8]) {
    let hash = input.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    });
    let dir = here().join("artifacts").join(target);
    let file = dir.join(format!("{hash:016x}"));
    println!("{target}: {why}\ninput: \"{}\"", input.escape_ascii());
    match fs::create_dir_all(&dir).and_then(|()| fs::write(&file, input)) {
        Ok(()) => println!("again: merpati-fuzz --target {target} --replay {}", file.display()),
        Err(error) => println!("it could not be kept in {}: {error}", file.display()),
    }
}

/// The inputs of a target in the order of their names.
fn corpus(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let entries = fs::read_dir(here().join("corpus").join(target))?;
    let mut files = entries.map(|e| Ok(e?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    files.sort();
    files.into_iter().filter(|path| path.is_file()).map(fs::read).collect()
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const USAGE: &str = "usage: merpati-fuzz [--seconds N] [--target T] [--seed S] [--replay FILE]";

const NAMES: [&str; 4] = ["--seconds", "--target", "--seed", "--replay"];

/// So long a target runs before the next one does.
const TURN: Duration = Duration::from_millis(100);

/// No input may take longer.
const RUN_WAIT: Duration = Duration::from_secs(10);
