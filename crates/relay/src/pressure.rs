//! When too much is under way, and what that means for new mail: first slow reads, then refusals.
//!
//! Invariant: a level rises as soon as its mark is reached and falls only clearly below it, so it
//! does not flutter. Nobody who delivers asks here: what was accepted always goes on, for that is
//! what makes room. Pure; who looks at the machine is in [`watch`].

pub mod watch;

use std::time::Duration;

use merpati_mail::{Reply, Verdict};
use merpati_spool::{Level, Pressure};

/// What there may be too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Room of the spool.
    Disk,
    /// Resident memory of the process.
    Memory,
    /// Places for deliveries that wait.
    Queue,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Disk, Self::Memory, Self::Queue];

    /// Its word in logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
            Self::Queue => "queue",
        }
    }
}

/// How far a resource is strained; the later, the worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// There is enough.
    #[default]
    Normal,
    /// Content is read slowly, so that senders feel it.
    Slow,
    /// New mail is refused; messages in transit end.
    Refuse,
    /// New connections are refused as well.
    Shut,
}

impl Load {
    /// Its word in the log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Refuse => "refuse",
            Self::Shut => "shut",
            Self::Slow => "slow",
        }
    }

    /// Its place in the order, for the metric.
    pub const fn number(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::Slow => 1,
            Self::Refuse => 2,
            Self::Shut => 3,
        }
    }

    const fn of_number(number: u32) -> Self {
        match number & 3 {
            0 => Self::Normal,
            1 => Self::Slow,
            2 => Self::Refuse,
            _ => Self::Shut,
        }
    }
}

/// How much there may be; `None`: any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Octets of resident memory.
    pub memory_max: Option<u64>,
    /// Deliveries that wait or are attempted.
    pub queue_max: Option<u64>,
}

/// How much there is; `None` where nobody knows, which changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Octets of resident memory.
    pub memory: Option<u64>,
    /// Deliveries that wait or are attempted.
    pub queue: Option<u64>,
    /// The room of the spool.
    pub disk: Option<Pressure>,
}

/// The level of each resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    disk: Load,
    memory: Load,
    queue: Load,
}

/// Which mail is meant: what is captured never waits in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mail {
    /// It stays in the sandbox.
    Captured,
    /// It is delivered.
    Queued,
}

/// From which share of what there may be, in percent, a level begins.
struct Marks {
    slow: u64,
    refuse: u64,
    shut: u64,
}

impl Levels {
    /// The levels that follow from this sample.
    #[must_use]
    pub fn after(self, limits: &Limits, sample: &Sample) -> Self {
        let share = |used: Option<u64>, max: Option<u64>| Some(percent(used?, max?));
        let memory = share(sample.memory, limits.memory_max);
        let queue = share(sample.queue, limits.queue_max);
        Self {
            disk: sample.disk.map_or(self.disk, |pressure| disk(self.disk, &pressure)),
            memory: memory.map_or(self.memory, |share| MEMORY_MARKS.next(self.memory, share)),
            queue: queue.map_or(self.queue, |share| QUEUE_MARKS.next(self.queue, share)),
        }
    }

    /// The level of one resource.
    pub const fn of(self, resource: Resource) -> Load {
        match resource {
            Resource::Disk => self.disk,
            Resource::Memory => self.memory,
            Resource::Queue => self.queue,
        }
    }

    /// What answers MAIL; `None` where the mail may come. The room of the disk is not asked here
    /// but of the spool, which knows it at once: see [`merpati_flow::admit`].
    pub fn refuse_mail(self, mail: Mail) -> Option<Verdict> {
        let (rule, text) = if self.memory >= Load::Refuse {
            (MEMORY_RULE, "not enough memory now, try again later")
        } else if self.queue >= Load::Refuse && mail == Mail::Queued {
            (QUEUE_RULE, "too many deliveries wait here now, try again later")
        } else {
            return None;
        };
        // RFC 3463 §3.4: X.3.2, system not accepting network messages.
        Some(Verdict::refuse(rule, Reply::new(452, (4, 3, 2), text)))
    }

    /// The rule and the reply for a new connection; `None` where it may come.
    pub fn refuse_connection(self) -> Option<(&'static str, Reply)> {
        let text = "not enough memory now, try again later";
        (self.memory == Load::Shut).then(|| (MEMORY_RULE, Reply::new(421, (4, 3, 2), text)))
    }

    /// How long to wait before more content is read; `None`: not at all.
    pub fn pause(self, mail: Mail) -> Option<Duration> {
        let queue = if mail == Mail::Queued { self.queue } else { Load::Normal };
        let worst = self.disk.max(self.memory).max(queue);
        (worst >= Load::Slow).then_some(PAUSE)
    }

    /// Both directions of a form that fits into an atomic number.
    pub(crate) const fn to_bits(self) -> u32 {
        let (disk, memory) = (self.disk.number() as u32, self.memory.number() as u32);
        disk | memory << 2 | (self.queue.number() as u32) << 4
    }

    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self {
            disk: Load::of_number(bits),
            memory: Load::of_number(bits >> 2),
            queue: Load::of_number(bits >> 4),
        }
    }
}

impl Marks {
    fn next(&self, before: Load, share: u64) -> Load {
        self.reached(share).max(before.min(self.reached(share.saturating_add(MARGIN))))
    }

    const fn reached(&self, share: u64) -> Load {
        if share >= self.shut {
            Load::Shut
        } else if share >= self.refuse {
            Load::Refuse
        } else if share >= self.slow {
            Load::Slow
        } else {
            Load::Normal
        }
    }
}

/// When the spool refuses is its own to say; before that it is slow while little is left.
fn disk(before: Load, pressure: &Pressure) -> Load {
    match pressure.level {
        Level::Full | Level::OutcomesOnly => return Load::Refuse,
        Level::Roomy => {}
    }
    let all = pressure.bytes_used.saturating_add(pressure.bytes_free);
    let low = (pressure.segment_bytes.saturating_mul(DISK_SEGMENTS_LOW)).min(all / DISK_SHARE_LOW);
    let is_slow = match before {
        Load::Normal => pressure.bytes_free <= low,
        Load::Refuse | Load::Shut | Load::Slow => pressure.bytes_free <= low + low / 2,
    };
    if is_slow { Load::Slow } else { Load::Normal }
}

fn percent(used: u64, max: u64) -> u64 {
    let share = u128::from(used) * 100 / u128::from(max.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

const MEMORY_MARKS: Marks = Marks { slow: 80, refuse: 90, shut: 100 };
/// More connections do not make the queue longer, so they may always come.
const QUEUE_MARKS: Marks = Marks { slow: 90, refuse: 100, shut: u64::MAX };
/// How far below its mark, in percent, a level ends.
const MARGIN: u64 = 5;
/// With no more segments left than these, the disk is slow,
const DISK_SEGMENTS_LOW: u64 = 4;
/// but only where that is less than this part of all that can be used.
const DISK_SHARE_LOW: u64 = 5;
/// The pause between two reads of content, of 64 KiB at most: far below what any sender waits.
const PAUSE: Duration = Duration::from_millis(100);
/// The rule of refusals for want of memory: the option that limits it.
pub const MEMORY_RULE: &str = "memory-max";
/// The rule of refusals for the length of the queue.
pub const QUEUE_RULE: &str = "queue-max";

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { memory_max: Some(1_000), queue_max: Some(200) };

    /// Samples of one resource, one after the other, and the level after each.
    #[track_caller]
    fn check(resource: Resource, samples: &[(u64, Load)]) {
        let mut levels = Levels::default();
        for &(used, want) in samples {
            let sample = match resource {
                Resource::Disk => Sample { disk: Some(room(used)), ..Sample::default() },
                Resource::Memory => Sample { memory: Some(used), ..Sample::default() },
                Resource::Queue => Sample { queue: Some(used), ..Sample::default() },
            };
            levels = levels.after(&LIMITS, &sample);
            assert_eq!(levels.of(resource), want, "{resource:?} {used} in {samples:?}");
            assert_eq!(Levels::from_bits(levels.to_bits()), levels);
            let others = Resource::ALL.into_iter().filter(|other| *other != resource);
            assert!(others.map(|other| levels.of(other)).all(|load| load == Load::Normal));
        }
    }

    /// A spool of 100 segments of ten octets, of which so many octets are left.
    const fn room(bytes_free: u64) -> Pressure {
        let level = if bytes_free == 0 { Level::OutcomesOnly } else { Level::Roomy };
        Pressure {
            level,
            segments_used: 0,
            segments_ready: 0,
            segments_unread: 0,
            segment_bytes: 10,
            bytes_used: 1_000 - bytes_free,
            bytes_live: 0,
            bytes_free,
            messages: 0,
        }
    }

    #[test]
    fn memory_is_slow_first_and_each_level_ends_below_its_mark() {
        use Load::{Normal, Refuse, Shut, Slow};
        check(
            Resource::Memory,
            &[(0, Normal), (799, Normal), (800, Slow), (760, Slow), (749, Normal), (800, Slow)],
        );
        check(Resource::Memory, &[(900, Refuse), (860, Refuse), (849, Slow), (749, Normal)]);
        check(Resource::Memory, &[(1_000, Shut), (960, Shut), (949, Refuse), (0, Normal)]);
        check(Resource::Memory, &[(u64::MAX, Shut)]);
    }

    #[test]
    fn the_queue_refuses_at_its_limit_and_never_shuts_the_door() {
        use Load::{Normal, Refuse, Slow};
        check(
            Resource::Queue,
            &[(179, Normal), (180, Slow), (200, Refuse), (190, Refuse), (189, Slow), (169, Normal)],
        );
        check(Resource::Queue, &[(u64::MAX, Refuse)]);
    }

    #[test]
    fn the_disk_is_slow_before_the_spool_refuses() {
        use Load::{Normal, Refuse, Slow};
        check(
            Resource::Disk,
            &[(41, Normal), (40, Slow), (60, Slow), (61, Normal), (0, Refuse), (50, Slow)],
        );
    }

    #[test]
    fn a_small_spool_is_not_slow_from_the_beginning() {
        let small = Pressure { bytes_used: 0, bytes_free: 30, ..room(30) };
        assert_eq!(disk(Load::Normal, &small), Load::Normal);
        assert_eq!(disk(Load::Normal, &Pressure { bytes_used: 24, bytes_free: 6, ..small }), {
            Load::Slow
        });
    }

    #[test]
    fn what_nobody_knows_or_limits_changes_nothing() {
        let full = Sample { memory: Some(u64::MAX), queue: Some(u64::MAX), disk: None };
        assert_eq!(Levels::default().after(&Limits::default(), &full), Levels::default());
        let shut = Levels { memory: Load::Shut, queue: Load::Refuse, disk: Load::Slow };
        assert_eq!(shut.after(&LIMITS, &Sample::default()), shut);
    }

    #[test]
    fn a_long_queue_concerns_only_mail_that_would_join_it() {
        let queue = Levels { queue: Load::Refuse, ..Levels::default() };
        assert!(queue.refuse_mail(Mail::Captured).is_none());
        assert!(queue.pause(Mail::Captured).is_none());
        assert_eq!(queue.refuse_mail(Mail::Queued).unwrap().rule, QUEUE_RULE);
        assert_eq!(queue.pause(Mail::Queued), Some(PAUSE));
        assert!(queue.refuse_connection().is_none());
    }

    #[test]
    fn want_of_memory_refuses_mail_first_and_connections_only_at_the_limit() {
        for (memory, mail, connection) in [
            (Load::Normal, false, false),
            (Load::Slow, false, false),
            (Load::Refuse, true, false),
            (Load::Shut, true, true),
        ] {
            let levels = Levels { memory, ..Levels::default() };
            assert_eq!(levels.refuse_mail(Mail::Captured).is_some(), mail, "{memory:?}");
            assert_eq!(levels.refuse_connection().is_some(), connection, "{memory:?}");
            assert_eq!(levels.pause(Mail::Queued).is_some(), memory > Load::Normal);
        }
    }
}
