//! How much of the machine we use, looked at again and again, and who is told when that changes.
//!
//! Invariant: looking needs no memory, no disk and no new descriptor, so it goes on where these
//! have run out. Not pure: reads `/proc` and the limits of control groups.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Levels, Limits, Load, Resource, Sample};
use crate::{
    clock::Clock,
    config::{MemoryMax, options},
    health::Health,
    sinks::{LoadChanged, Notice, Sinks},
};

/// Who looks.
#[derive(Debug)]
pub struct Watch {
    limits: Arc<Mutex<Limits>>,
    memory: Option<Memory>,
    clock: Arc<Clock>,
    health: Arc<Health>,
    sinks: Sinks,
}

impl Watch {
    /// Begins with a first look.
    pub fn start(
        config: &options::Limits,
        clock: Arc<Clock>,
        health: Arc<Health>,
        sinks: Sinks,
    ) -> Self {
        let limits = limits(config);
        sinks.metrics().limits(&limits);
        let limits = Arc::new(Mutex::new(limits));
        let mut watch = Self { limits, memory: Memory::open(), clock, health, sinks };
        watch.look();
        watch
    }

    /// What may be changed while it looks.
    pub fn limits(&self) -> Arc<Mutex<Limits>> {
        Arc::clone(&self.limits)
    }

    /// Looks until it is dropped.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK_PACE).await;
            self.look();
            if self.health.levels().of(Resource::Memory) > Load::Normal {
                on_every_worker(give_back);
            }
        }
    }

    fn look(&mut self) {
        let metrics = self.sinks.metrics();
        let sample = Sample {
            memory: self.memory.as_mut().and_then(Memory::resident_bytes),
            queue: Some(metrics.queue_deliveries()),
            disk: self.health.pressure(),
        };
        let before = self.health.levels();
        let limits = *self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let after = before.after(&limits, &sample);
        metrics.load(after, sample.memory);
        if after == before {
            return;
        }
        self.health.set_levels(after);
        self.tell(before, after, (&sample, &limits));
    }

    fn tell(&self, before: Levels, after: Levels, (sample, limits): (&Sample, &Limits)) {
        for resource in Resource::ALL {
            let (from, to) = (before.of(resource), after.of(resource));
            if from == to {
                continue;
            }
            let (used, max) = match resource {
                Resource::Disk => {
                    let all = |room: merpati_spool::Pressure| room.bytes_used + room.bytes_free;
                    (sample.disk.map(|room| room.bytes_used), sample.disk.map(all))
                }
                Resource::Memory => (sample.memory, limits.memory_max),
                Resource::Queue => (sample.queue, limits.queue_max),
            };
            if to > from {
                tracing::warn!(
                    resource = resource.word(),
                    level = to.word(),
                    used,
                    max,
                    "strained"
                );
            }
            let at = self.clock.now();
            let changed = LoadChanged { at, resource, from, to, used, max };
            self.sinks.tell([Notice::LoadChanged(changed)]);
        }
    }
}

/// How much may be under way, by the configuration and the machine.
pub fn limits(config: &options::Limits) -> Limits {
    let memory_max = match config.memory_max {
        MemoryMax::Auto => memory_of_machine().map(|all| all / 4 * 3),
        MemoryMax::Off => None,
        MemoryMax::Upto(bytes) => Some(bytes.0),
    };
    let queue_max = config.queue_max.map(|count| u64::from(count.get()));
    Limits { memory_max, queue_max }
}

/// Runs this on the threads of the runtime. That none is left out is likely, not sure: each takes
/// up what waits, and there is enough for all.
fn on_every_worker(run: fn()) {
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    for _ in 0..workers * 2 {
        tokio::spawn(async move { run() });
    }
}

/// Has the allocator return what is free to the kernel. It does so a moment later, only when a
/// block is let go, and for the thread that once took the memory, so a relay that nobody sends to
/// any more would stay short of memory for ever.
fn give_back() {
    let mut block = Vec::<u8>::new();
    // Where there is no room for it, the next look tries again.
    drop(block.try_reserve_exact(LARGE_BLOCK_BYTES));
    drop(std::hint::black_box(block));
}

/// The file that tells our own memory, kept open.
#[derive(Debug)]
struct Memory {
    file: File,
    page_bytes: u64,
}

impl Memory {
    fn open() -> Option<Self> {
        let file = File::open("/proc/self/statm").ok()?;
        let page_bytes = u64::try_from(rustix::param::page_size()).ok()?;
        Some(Self { file, page_bytes })
    }

    /// Octets of memory that we have in the machine.
    fn resident_bytes(&mut self) -> Option<u64> {
        let mut text = [0; 256];
        let count = self.file.read_at(&mut text, 0).ok()?;
        let pages = resident_pages(std::str::from_utf8(text.get(..count)?).ok()?)?;
        Some(pages.saturating_mul(self.page_bytes))
    }
}

/// The second number of `/proc/self/statm`.
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Octets of memory of the machine, or of the control group where that is less; `None` where the
/// machine does not say.
fn memory_of_machine() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| total_bytes(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(limit_files).filter_map(|path| read(&path));
    // A group without a limit says `max`, or in the first version a number above all memory.
    limits.filter_map(|text| text.trim().parse().ok()).chain(machine).min()
}

/// `MemTotal` of `/proc/meminfo`, in octets.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

/// The files that may limit the memory of the group that a line of `/proc/self/cgroup` names: its
/// own and those of all groups around it.
fn limit_files(line: &str) -> Vec<PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        names if names.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let group = Path::new(group.trim_start_matches('/'));
    group.ancestors().map(|above| Path::new(root).join(above).join(file)).collect()
}

/// More than the allocator keeps at hand: letting go of it is never the quick path.
const LARGE_BLOCK_BYTES: usize = 4 << 20;
/// How often we look. A client on a fast network brings some megabytes in that time.
const LOOK_PACE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_the_second_number() {
        assert_eq!(resident_pages("100 42 7 1 0 9 0\n"), Some(42));
        assert_eq!(resident_pages(""), None);
        let mut memory = Memory::open().unwrap();
        let bytes = memory.resident_bytes().unwrap();
        assert!(bytes > 100_000, "{bytes}");
        assert!(memory.resident_bytes().is_some(), "it can be read again");
    }

    #[test]
    fn the_memory_of_the_machine_is_told_in_kibibytes() {
        assert_eq!(total_bytes("MemTotal:       16 kB\nMemFree: 1 kB\n"), Some(16_384));
        assert_eq!(total_bytes("MemFree: 1 kB\n"), None);
        assert!(memory_of_machine().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_group_is_limited_by_all_groups_around_it() {
        let files = |line: &str| -> Vec<String> {
            limit_files(line).iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(
            files("0::/system.slice/merpati.service"),
            [
                "/sys/fs/cgroup/system.slice/merpati.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        let memory = files("9:memory:/a");
        assert_eq!(memory.first().unwrap(), "/sys/fs/cgroup/memory/a/memory.limit_in_bytes");
        assert!(files("8:cpu:/a").is_empty());
        assert!(files("").is_empty());
    }
}
