//! The disk on which acknowledged mail lies.

use std::path::Path;

use merpati_console::health::{Finding, Grade};
use rustix::fs::{StatVfsMountFlags, statfs, statvfs};

use crate::config::Config;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let directory = &config.server.data_dir;
    // It is made at the first start: what is above it counts until then.
    let there = directory.ancestors().find(|path| path.is_dir()).unwrap_or_else(|| Path::new("/"));
    let facts = statvfs(there).and_then(|room| {
        let magic = u64::try_from(statfs(there)?.f_type).unwrap_or_default();
        Ok(Facts {
            octets_free: room.f_bavail.saturating_mul(room.f_frsize),
            octets: room.f_blocks.saturating_mul(room.f_frsize),
            files_free: room.f_favail,
            files: room.f_files,
            is_read_only: room.f_flag.contains(StatVfsMountFlags::RDONLY),
            magic,
        })
    });
    let about = directory.display().to_string();
    vec![match facts {
        Ok(facts) => judge(about, &facts),
        Err(why) => Finding::new("disk", about, Grade::Unknown, why.to_string()),
    }]
}

/// What a file system says of itself.
#[derive(Clone, Copy, Debug)]
struct Facts {
    octets_free: u64,
    octets: u64,
    /// Files that can still be made, and in all; 0 in all where it has no limit.
    files_free: u64,
    files: u64,
    is_read_only: bool,
    /// What kind it is (`statfs(2)`).
    magic: u64,
}

fn judge(about: String, facts: &Facts) -> Finding {
    let finding = |grade, words: String| Finding::new("disk", about, grade, words);
    let share = |free: u64, all: u64| free.saturating_mul(100).checked_div(all).unwrap_or(100);
    let (octets, files) =
        (share(facts.octets_free, facts.octets), share(facts.files_free, facts.files));
    let words = format!("{octets} % free, {} MiB; {files} % of its files", facts.octets_free >> 20);
    if facts.is_read_only {
        return finding(Grade::Bad, "it is read-only: no mail can be taken".to_owned())
            .fix("see `dmesg`; mount it for writing");
    }
    if [TMPFS, RAMFS].contains(&facts.magic) {
        return finding(Grade::Bad, "it is in memory: a power cut loses all mail".to_owned())
            .fix("set server.data_dir to a place on a disk");
    }
    let least = octets.min(files);
    if least < SHARE_BAD || facts.octets_free < OCTETS_BAD {
        return finding(Grade::Bad, words).fix("free some room: mail is refused with 452 soon");
    }
    if least < SHARE_WARNING {
        return finding(Grade::Warning, words).fix("free some room");
    }
    if facts.magic == NFS {
        let words = format!("{words}; over a network, each message waits for it");
        return finding(Grade::Warning, words)
            .fix("set server.data_dir to a place on a local disk");
    }
    finding(Grade::Good, words)
}

/// Numbers of `statfs(2)`.
const NFS: u64 = 0x6969;
const RAMFS: u64 = 0x8584_58f6;
const TMPFS: u64 = 0x0102_1994;
/// Per cent that are free.
const SHARE_BAD: u64 = 2;
const SHARE_WARNING: u64 = 10;
const OCTETS_BAD: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_room_and_outlives_a_power_cut() {
        let good = Facts {
            octets_free: 50 << 30,
            octets: 100 << 30,
            files_free: 500,
            files: 1_000,
            is_read_only: false,
            magic: 0xef53,
        };
        for (facts, want) in [
            (good, Grade::Good),
            (Facts { octets_free: 5 << 30, ..good }, Grade::Warning),
            (Facts { octets_free: 1 << 30, ..good }, Grade::Bad),
            (Facts { octets_free: 32 << 20, octets: 64 << 20, ..good }, Grade::Bad),
            (Facts { files_free: 10, ..good }, Grade::Bad),
            // Such as btrfs.
            (Facts { files_free: 0, files: 0, ..good }, Grade::Good),
            (Facts { is_read_only: true, ..good }, Grade::Bad),
            (Facts { magic: TMPFS, ..good }, Grade::Bad),
            (Facts { magic: NFS, ..good }, Grade::Warning),
        ] {
            assert_eq!(judge(String::new(), &facts).grade, want, "{facts:?}");
        }
    }
}
