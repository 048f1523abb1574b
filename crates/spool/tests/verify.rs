//! What is done with a spool that nobody serves: it is looked at, copied and filled, on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs, clippy::cast_possible_truncation)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use common::{State, accepted, attempted, carried, content};
use merpati_mail::{Event, NodeId, QueueId, Time};
use merpati_spool::{
    Body, Contents, Damage, Disk, FORMAT_VERSION, Group, Inspection, LARGE_BODY_BYTES, Options,
    Recovery, Spool, SpoolCopy, SpoolError, StoredBody,
};

const NOW: Time = Time::from_secs(5);

fn options(dir: &Path) -> Options {
    let mut options = Options::new(dir.to_owned(), NodeId::default());
    options.segment_bytes = 8 * 1_024;
    options.in_background = false;
    options.segments_ready = 0;
    options.free_bytes_min = 0;
    options
}

fn open(dir: &Path) -> (Disk, State, Recovery) {
    let mut state = State::default();
    let (disk, recovery) = Disk::open(&options(dir), &mut |r| state.fold(&r)).unwrap();
    (disk, state, recovery)
}

fn store(disk: &mut Disk, octets: u64) -> QueueId {
    let id = disk.next_id();
    let octets_of = content(id, octets);
    let body = if octets_of.len() > LARGE_BODY_BYTES {
        let mut large = disk.handle().large(id).unwrap();
        large.write(&octets_of).unwrap();
        Body::File(large.finish().unwrap())
    } else {
        Body::Bytes(vec![Bytes::from(octets_of)])
    };
    let event = Event::Accepted(Box::new(accepted(id, octets)));
    disk.append(&[Group::with_body(NOW, event, body)]).unwrap();
    disk.sync().unwrap();
    id
}

/// Three sealed segments and a newest one, and one large content.
fn filled(dir: &Path) -> Vec<QueueId> {
    let (mut disk, ..) = open(dir);
    let mut ids: Vec<QueueId> = (0..7).map(|_| store(&mut disk, 1_200)).collect();
    assert_eq!(disk.pressure().segments_used, 4);
    ids.push(store(&mut disk, LARGE_BODY_BYTES as u64 + 1));
    ids
}

/// Every file with its content, and every directory.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
            found.insert(path, None);
        } else {
            let octets = fs::read(&path).unwrap();
            found.insert(path, Some(octets));
        }
    }
    found
}

fn flip(file: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut octet = [0];
    file.read_exact_at(&mut octet, offset).unwrap();
    file.write_all_at(&[octet[0] ^ 4], offset).unwrap();
}

fn inspect(dir: &Path) -> Result<(Inspection, State), SpoolError> {
    let mut state = State::default();
    let inspection = Inspection::open(dir, Contents::Checked, &mut |r| state.fold(&r))?;
    Ok((inspection, state))
}

/// What verifying says after something was done to a file, and that it left everything alone.
fn damage_after(file: &str, harm: impl Fn(&Path)) -> (PathBuf, Vec<Damage>, usize) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("spool");
    let ids = filled(&dir);
    let path = dir.join(file.replace("LARGE", &ids[7].to_string()));
    harm(&path);
    let before = tree(&dir);
    let (inspection, _) = inspect(&dir).unwrap();
    assert_eq!(tree(&dir), before, "{file}: something was changed");
    (path, inspection.recovery().damage.clone(), inspection.stats().messages)
}

#[test]
fn a_whole_spool_has_no_damage_and_is_counted() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("spool");
    let ids = filled(&dir);
    let (mut disk, ..) = open(&dir);
    let finished = [Group::of(NOW, Event::Retired(ids[0]))];
    disk.append(&finished).unwrap();
    disk.sync().unwrap();
    drop(disk);
    let before = tree(&dir);
    let (inspection, folded) = inspect(&dir).unwrap();
    assert_eq!(tree(&dir), before);
    assert_eq!((&inspection.recovery().damage, inspection.torn()), (&vec![], None));
    assert!(folded.messages.keys().copied().eq(ids[1..].iter().copied()));
    assert_eq!(inspection.handle().messages(), ids[1..]);
    let stats = inspection.stats();
    let large = LARGE_BODY_BYTES as u64 + 1;
    assert_eq!((stats.messages, stats.large, stats.octets_large), (7, 1, large));
    assert_eq!((stats.segments, stats.format_version, stats.orphans), (5, FORMAT_VERSION, 0));
    assert_eq!(stats.octets_used, 5 * 8 * 1_024 + large);
    assert!(stats.octets_live > 6 * 1_200 + large && stats.octets_live < stats.octets_used);
    assert!(stats.octets >= stats.octets_used, "{stats:?}");
}

#[test]
fn a_flipped_bit_is_found_at_its_file_and_place() {
    for (file, offset, place, living, why) in [
        ("journal/0000.seg", 4_096 + 100, 4_096, 7, "checksum of an event"),
        ("journal/0000.seg", 4_096 + 10, 4_096, 7, "no frame"),
        // The content alone is bad: the message lives, and its delivery will fail.
        ("journal/0001.seg", 4_096 + 900, 4_136, 8, "the checksum of the content of"),
        ("journal/0002.seg", 20, 0, 8, "the header cannot be read"),
        ("bodies/LARGE", 70_000, 0, 8, "the checksum of the content is wrong (message"),
    ] {
        let (path, damage, messages) = damage_after(file, |path| flip(path, offset));
        let [one] = &damage[..] else { panic!("{file}: {damage:?}") };
        assert_eq!((&one.file, one.offset, messages), (&path, place, living), "{one:?}");
        assert!(one.why.contains(why), "{one:?}");
    }
}

#[test]
fn a_large_content_that_is_short_long_or_gone_is_found() {
    type Harm = fn(&Path);
    let cut: Harm = |path| fs::File::options().write(true).open(path).unwrap().set_len(9).unwrap();
    let lengthen: Harm = |path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(LARGE_BODY_BYTES as u64 + 2).unwrap();
    };
    let remove: Harm = |path| fs::remove_file(path).unwrap();
    for (harm, why) in [(cut, "ends before octet"), (lengthen, "in place of"), (remove, "open")] {
        let (path, damage, messages) = damage_after("bodies/LARGE", harm);
        let [one] = &damage[..] else { panic!("{why}: {damage:?}") };
        assert!(one.file == path && one.why.contains(why) && messages == 8, "{one:?}");
    }
}

#[test]
fn a_missing_segment_is_found() {
    let (_, damage, messages) =
        damage_after("journal/0001.seg", |path| fs::remove_file(path).unwrap());
    let [one] = &damage[..] else { panic!("{damage:?}") };
    assert!(one.why.contains("missing") && messages == 6, "{one:?} {messages}");
}

#[test]
fn the_last_frame_but_one_is_damage_when_the_last_says_that_it_was_durable() {
    let temporary = tempfile::tempdir().unwrap();
    let (mut disk, ..) = open(temporary.path());
    let ids = [store(&mut disk, 100), store(&mut disk, 100), store(&mut disk, 100)];
    let octets = disk.pressure().bytes_live / 3;
    drop(disk);
    let second = 4_096 + (40 + octets).div_ceil(8) * 8;
    flip(&temporary.path().join("journal/0000.seg"), second + 60);
    for is_recovery in [false, true] {
        let (damage, state) = if is_recovery {
            let (_, state, recovery) = open(temporary.path());
            (recovery.damage, state)
        } else {
            let (inspection, state) = inspect(temporary.path()).unwrap();
            (inspection.recovery().damage.clone(), state)
        };
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert_eq!(damage[0].offset, second);
        assert!(state.messages.keys().eq([&ids[0], &ids[2]]), "{state:?}");
    }
}

#[test]
fn a_write_that_was_not_completed_is_told_and_is_no_damage() {
    let temporary = tempfile::tempdir().unwrap();
    let (mut disk, ..) = open(temporary.path());
    let id = store(&mut disk, 100);
    let end = 4_096 + (40 + disk.pressure().bytes_live).div_ceil(8) * 8;
    store(&mut disk, 100);
    drop(disk);
    let file = temporary.path().join("journal/0000.seg");
    flip(&file, end + 60);
    let (inspection, state) = inspect(temporary.path()).unwrap();
    assert_eq!(inspection.recovery().damage, []);
    let torn = inspection.torn().unwrap();
    assert_eq!((&torn.file, torn.offset), (&file, end));
    assert!(state.messages.keys().eq([&id]));
}

#[test]
fn a_spool_in_use_is_not_looked_at_and_one_that_is_looked_at_not_used() {
    let temporary = tempfile::tempdir().unwrap();
    let (disk, ..) = open(temporary.path());
    let refused = inspect(temporary.path()).unwrap_err();
    let own = std::process::id();
    assert!(matches!(refused, SpoolError::Locked { pid: Some(pid), .. } if pid == own));
    drop(disk);
    let first = inspect(temporary.path()).unwrap();
    let second = inspect(temporary.path()).unwrap();
    let opened = Disk::open(&options(temporary.path()), &mut |_| ());
    assert!(matches!(opened, Err(SpoolError::Locked { .. })));
    drop((first, second));
    open(temporary.path());
}

#[test]
fn another_format_version_is_refused_by_name_and_left_alone() {
    for (version, says) in [
        (FORMAT_VERSION + 1, "version 2, which a newer program wrote; this one reads up to versio"),
        (0, "version 0, which this program reads no more; it reads from version 1 on"),
    ] {
        let temporary = tempfile::tempdir().unwrap();
        filled(temporary.path());
        let path = temporary.path().join("journal/0002.seg");
        let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut header = [0; 128];
        file.read_exact_at(&mut header, 0).unwrap();
        header[8..10].copy_from_slice(&version.to_le_bytes());
        let sum = crc32c::crc32c(&header[..124]).to_le_bytes();
        header[124..].copy_from_slice(&sum);
        file.write_all_at(&header, 0).unwrap();
        let before = tree(temporary.path());
        let looked = inspect(temporary.path()).unwrap_err();
        let opened = Disk::open(&options(temporary.path()), &mut |_| ()).unwrap_err();
        for error in [looked, opened] {
            assert!(matches!(&error, SpoolError::Version { file, .. } if *file == path));
            assert!(error.to_string().contains(says), "{error}");
        }
        assert_eq!(tree(temporary.path()), before);
    }
}

#[test]
fn a_copy_holds_what_lives_and_has_no_name_before_it_is_complete() {
    let temporary = tempfile::tempdir().unwrap();
    let (from, to) = (temporary.path().join("from"), temporary.path().join("to"));
    let mut ids = filled(&from);
    let (mut disk, ..) = open(&from);
    disk.append(&[
        Group::of(NOW, attempted(ids[1], 3)),
        Group::of(NOW, Event::Retired(ids[0])),
        Group::with_body(NOW, carried(ids[2], 1_200, 7), Body::Same),
    ])
    .unwrap();
    disk.sync().unwrap();
    drop(disk);
    let (inspection, state) = inspect(&from).unwrap();
    let handle = inspection.handle();
    let mut copy = SpoolCopy::begin(&to, 0).unwrap();
    for id in handle.messages() {
        let told = handle.told(id).unwrap();
        let attempts = state.messages[&id].attempts;
        let size = state.messages[&id].size_bytes;
        copy.add(told.at, carried(id, size, attempts), &told.body).unwrap();
    }
    assert!(!to.exists());
    let taken = copy.finish().unwrap();
    let large = LARGE_BODY_BYTES as u64 + 1;
    assert_eq!((taken.messages, taken.octets, taken.large), (7, 6 * 1_200 + large, 1));
    let names: Vec<_> =
        fs::read_dir(temporary.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let (copied, copied_state) = inspect(&to.join("spool")).unwrap();
    assert_eq!(copied.recovery().damage, []);
    assert_eq!(copied_state.messages, state.messages);
    ids.remove(0);
    for id in ids {
        let octets = match copied.handle().read(id).unwrap().body {
            StoredBody::Bytes(bytes) => bytes.to_vec(),
            body @ StoredBody::File(_) => {
                let mut octets = Vec::new();
                body.copy_to(&mut octets).unwrap();
                octets
            }
        };
        assert_eq!(octets, content(id, octets.len() as u64), "{id}");
    }
}

#[test]
fn a_copy_that_is_given_up_leaves_nothing_and_none_is_written_over_another() {
    let temporary = tempfile::tempdir().unwrap();
    let (from, to) = (temporary.path().join("from"), temporary.path().join("to"));
    let ids = filled(&from);
    flip(&from.join("bodies").join(ids[7].to_string()), 9);
    let (inspection, _) = inspect(&from).unwrap();
    let told = inspection.handle().told(ids[7]).unwrap();
    let mut copy = SpoolCopy::begin(&to, 0).unwrap();
    let refused = SpoolCopy::begin(&to, 0).unwrap_err();
    assert!(refused.to_string().contains("which an earlier one left behind"), "{refused}");
    let bad = copy.add(told.at, told.event, &told.body).unwrap_err();
    assert!(matches!(bad, SpoolError::Corrupt { .. }), "{bad}");
    drop(copy);
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
    let full = SpoolCopy::begin(&from, 0).unwrap_err();
    assert!(full.to_string().contains("it is there already, and not empty"), "{full}");
    let mut short = SpoolCopy::begin(&to, u64::MAX / 2).unwrap();
    let told = inspection.handle().told(ids[1]).unwrap();
    short.add(told.at, told.event, &told.body).unwrap();
    assert!(matches!(short.finish(), Err(SpoolError::Full { .. })));
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
}
