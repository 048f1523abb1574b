//! The journal by example: damage, room, locks, failures, large contents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs, clippy::cast_possible_truncation, clippy::print_stdout)]

mod common;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use common::{State, accepted, attempted, carried, content};
use merpati_mail::{Draw, Event, Lsn, NodeId, QueueId, Record, Time};
use merpati_spool::{
    Body, Disk, Entry, Group, Level, Memory, MemoryOptions, Options, Recovery, Spool, SpoolError,
    StoredBody,
    fault::{FaultyFiles, Trouble},
    io::Io,
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

fn open(files: &FaultyFiles) -> (Disk, State, Recovery) {
    let io: Arc<dyn Io> = Arc::new(files.clone());
    let mut state = State::default();
    let (disk, recovery) =
        Disk::open_in(&io, &options(Path::new("/s")), &mut |r| state.fold(&r)).unwrap();
    (disk, state, recovery)
}

fn recover(spool: &mut Memory, each: &mut dyn FnMut(Record)) -> Recovery {
    let read = spool.begin().unwrap().read(&mut |record| {
        each(record);
        ControlFlow::Continue(())
    });
    read.unwrap().unwrap()
}

fn message(id: QueueId, octets: u64) -> Group {
    let body = Body::Bytes(vec![Bytes::from(content(id, octets))]);
    Group::with_body(NOW, Event::Accepted(Box::new(accepted(id, octets))), body)
}

fn store(spool: &mut dyn Spool, octets: u64) -> QueueId {
    let id = spool.next_id();
    spool.append(&[message(id, octets)]).unwrap();
    spool.sync().unwrap();
    id
}

fn read(spool: &dyn Spool, id: QueueId) -> Result<Vec<u8>, SpoolError> {
    match spool.read(id)?.body {
        StoredBody::Bytes(bytes) => Ok(bytes.to_vec()),
        StoredBody::File(file) => {
            let mut octets = vec![0; file.len() as usize];
            file.check()?;
            file.read_at(&mut octets, 0)?;
            Ok(octets)
        }
    }
}

fn slot(number: u32) -> PathBuf {
    PathBuf::from(format!("/s/journal/{number:04}.seg"))
}

#[test]
fn a_damaged_frame_is_set_aside_and_the_rest_is_read() {
    let files = FaultyFiles::default();
    let (mut disk, ..) = open(&files);
    let ids: Vec<QueueId> = (0..3).map(|_| store(&mut disk, 100)).collect();
    drop(disk);
    // The first frame begins at 4,096; this is in its event.
    assert!(files.damage(&slot(0), 4_096 + 100));
    for round in 0..2 {
        let files = files.kill();
        let (mut disk, state, recovery) = open(&files);
        assert_eq!(recovery.damage.len(), 1, "round {round}: {:?}", recovery.damage);
        assert_eq!(recovery.damage[0].offset, 4_096);
        assert_eq!(state.messages.keys().copied().collect::<Vec<_>>()[..2], ids[1..]);
        assert!(matches!(disk.read(ids[0]), Err(SpoolError::Missing(_))));
        // The second round reads a segment whose end is recorded.
        store(&mut disk, 10);
    }
}

#[test]
fn a_damaged_content_is_found_when_it_is_read() {
    let files = FaultyFiles::default();
    let (mut disk, ..) = open(&files);
    let id = store(&mut disk, 2_000);
    assert!(files.damage(&slot(0), 4_096 + 1_500));
    assert!(matches!(read(&disk, id), Err(SpoolError::Corrupt { .. })));
}

#[test]
fn a_torn_end_is_no_damage() {
    let files = FaultyFiles::default();
    let (mut disk, ..) = open(&files);
    let id = store(&mut disk, 100);
    let torn = disk.next_id();
    let lsns = disk.append(&[message(torn, 100)]).unwrap();
    drop(disk);
    let files = files.kill();
    assert!(files.damage(&slot(0), 4_096 + 400 + 100));
    let (mut disk, state, recovery) = open(&files);
    assert_eq!(recovery.damage, []);
    assert!(state.messages.keys().eq([&id]));
    // The place of an event that never was durable is given again; its name is not.
    assert_eq!(recovery.next, lsns.start);
    assert!(store(&mut disk, 10) > torn);
}

#[test]
fn a_header_that_rots_does_not_hide_its_segment() {
    for number in 0..4 {
        let files = FaultyFiles::default();
        let (mut disk, ..) = open(&files);
        let ids: Vec<QueueId> = (0..7).map(|_| store(&mut disk, 1_200)).collect();
        assert_eq!(disk.pressure().segments_used, 4);
        drop(disk);
        assert!(files.damage(&slot(number), 20));
        let files = files.kill();
        let (disk, state, recovery) = open(&files);
        assert_eq!(recovery.damage.len(), 1, "{:?}", recovery.damage);
        assert_eq!(state.messages.len(), 7);
        assert!(ids.iter().all(|id| read(&disk, *id).is_ok()));
    }
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let files = FaultyFiles::default();
    let (mut disk, ..) = open(&files);
    store(&mut disk, 1);
    drop(disk);
    let io: Arc<dyn Io> = Arc::new(files);
    let file = io.open(&slot(0)).unwrap();
    let mut header = vec![0; 128];
    file.read_at(&mut header, 0).unwrap();
    header[8] = 9;
    let sum = crc32c::crc32c(&header[..124]).to_le_bytes();
    header[124..].copy_from_slice(&sum);
    file.write_at(&mut [std::io::IoSlice::new(&header)], 0).unwrap();
    let opened = Disk::open_in(&io, &options(Path::new("/s")), &mut |_| ());
    assert!(matches!(opened, Err(SpoolError::Version { found: 9, .. })));
}

#[test]
fn a_full_spool_refuses_messages_takes_outcomes_and_drains() {
    let memory = MemoryOptions { segment_bytes: 8 * 1_024, segments_max: 6 };
    let mut spool = Memory::with(NodeId::default(), memory).unwrap();
    let mut ids = Vec::new();
    let refused = loop {
        let id = spool.next_id();
        match spool.append(&[message(id, 500)]) {
            Ok(_) => ids.push(id),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, SpoolError::Full { .. }), "{refused}");
    assert_eq!(spool.pressure().level, Level::OutcomesOnly);
    assert_eq!(spool.pressure().segments_used, 4);
    for id in &ids {
        let outcome = [Group::of(NOW, attempted(*id, 1)), Group::of(NOW, Event::Retired(*id))];
        spool.append(&outcome).unwrap();
        spool.sync().unwrap();
    }
    while spool.maintain().unwrap() {}
    assert_eq!(spool.pressure().level, Level::Roomy);
    store(&mut spool, 500);
}

#[test]
fn a_full_spool_that_holds_old_mail_is_carried_on() {
    let memory = MemoryOptions { segment_bytes: 8 * 1_024, segments_max: 6 };
    let mut spool = Memory::with(NodeId::default(), memory).unwrap();
    let old = store(&mut spool, 300);
    let mut stored = 0;
    for _ in 0..200 {
        let id = spool.next_id();
        spool.append(&[message(id, 500)]).unwrap();
        spool.append(&[Group::of(NOW, Event::Retired(id))]).unwrap();
        stored += 1;
        let told = spool.carry_wanted(10).into_iter().map(|id| {
            assert_eq!(id, old);
            Group::with_body(NOW, carried(id, 300, 0), Body::Same)
        });
        spool.append(&told.collect::<Vec<_>>()).unwrap();
        spool.sync().unwrap();
        while spool.maintain().unwrap() {}
    }
    assert_eq!(stored, 200);
    assert_eq!(read(&spool, old).unwrap(), content(old, 300));
    assert!(spool.pressure().segments_used <= 4, "{:?}", spool.pressure());
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_written_any_more() {
    for fails_write in [true, false] {
        let mut spool = Memory::new(NodeId::default()).unwrap();
        let id = store(&mut spool, 10);
        let lost = spool.next_id();
        if fails_write {
            spool.fail_next_write();
            assert!(matches!(spool.append(&[message(lost, 10)]), Err(SpoolError::Io { .. })));
        } else {
            spool.fail_next_sync();
            spool.append(&[message(lost, 10)]).unwrap();
            assert!(matches!(spool.sync(), Err(SpoolError::Io { .. })));
        }
        assert!(matches!(spool.sync(), Err(SpoolError::Poisoned)));
        assert!(matches!(spool.append(&[message(lost, 10)]), Err(SpoolError::Poisoned)));
        assert!(matches!(spool.maintain(), Err(SpoolError::Poisoned)));
        let mut state = State::default();
        spool.crash(&mut Draw::new(1));
        recover(&mut spool, &mut |record| state.fold(&record));
        assert!(state.messages.contains_key(&id));
    }
}

#[test]
fn the_events_of_a_group_survive_together_or_not_at_all() {
    let (mut both, mut neither) = (0, 0);
    for seed in 0..200 {
        let mut spool = Memory::new(NodeId::default()).unwrap();
        let failed = store(&mut spool, 10);
        let report = spool.next_id();
        let entries = vec![
            Entry { event: attempted(failed, 1), body: Body::None },
            Entry {
                event: Event::Accepted(Box::new(accepted(report, 900))),
                body: Body::Bytes(vec![Bytes::from(content(report, 900))]),
            },
        ];
        spool.append(&[Group { at: NOW, entries }]).unwrap();
        spool.crash(&mut Draw::new(seed));
        let mut state = State::default();
        recover(&mut spool, &mut |record| state.fold(&record));
        match (state.messages[&failed].attempts, state.messages.contains_key(&report)) {
            (1, true) => both += 1,
            (0, false) => neither += 1,
            torn => panic!("seed {seed}: {torn:?}"),
        }
    }
    assert!(both > 0 && neither > 0, "{both} {neither}");
}

#[test]
fn places_grow_by_one_and_records_come_back_as_they_were() {
    let mut spool = Memory::new(NodeId::new(7).unwrap()).unwrap();
    let id = spool.next_id();
    let groups = [message(id, 3), Group::of(Time::from_secs(6), attempted(id, 1))];
    assert_eq!(spool.append(&groups).unwrap(), Lsn(1)..Lsn(3));
    assert_eq!(spool.durable(), Lsn(1));
    assert_eq!(spool.sync().unwrap(), Lsn(3));
    spool.crash(&mut Draw::new(0));
    let mut records = Vec::new();
    let recovery = recover(&mut spool, &mut |record| records.push(record));
    let got: Vec<_> = records.iter().map(|r| (r.lsn, r.at, r.node.number())).collect();
    assert_eq!(got, [(Lsn(1), NOW, 7), (Lsn(2), Time::from_secs(6), 7)]);
    assert_eq!(records[1].event, attempted(id, 1));
    assert_eq!((recovery.records, recovery.messages, recovery.next), (2, 1, Lsn(3)));
    assert_eq!(recovery.last_at, Time::from_secs(6));
}

#[test]
fn a_group_larger_than_a_segment_is_refused_and_nothing_is_written() {
    let memory = MemoryOptions { segment_bytes: 8 * 1_024, segments_max: 6 };
    let mut spool = Memory::with(NodeId::default(), memory).unwrap();
    let id = spool.next_id();
    let refused = spool.append(&[message(id, 10), message(spool.next_id(), 5_000)]);
    assert!(matches!(refused, Err(SpoolError::TooLarge { .. })));
    assert!(matches!(spool.read(id), Err(SpoolError::Missing(_))));
    store(&mut spool, 10);
}

#[test]
fn real_files_work_and_are_locked() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.segment_bytes = 64 * 1_024;
    options.in_background = true;
    options.segments_ready = 2;
    let (mut disk, _) = Disk::open(&options, &mut |_| ()).unwrap();
    match Disk::open(&options, &mut |_| ()) {
        Err(SpoolError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    // More pieces than one call to the kernel takes.
    let groups: Vec<Group> = (0..1_500)
        .map(|_| {
            let id = disk.next_id();
            message(id, 600 + id.bits() % 7)
        })
        .collect();
    disk.append(&groups).unwrap();
    disk.sync().unwrap();
    while disk.maintain().unwrap() {}
    drop(disk);
    let mut state = State::default();
    let (mut disk, recovery) = Disk::open(&options, &mut |r| state.fold(&r)).unwrap();
    assert_eq!((recovery.messages, recovery.damage), (1_500, vec![]));
    for id in state.messages.keys() {
        assert_eq!(read(&disk, *id).unwrap(), content(*id, 600 + id.bits() % 7));
    }
    let used = disk.pressure().segments_used;
    for id in state.messages.keys() {
        disk.append(&[Group::of(NOW, Event::Retired(*id))]).unwrap();
    }
    disk.sync().unwrap();
    while disk.maintain().unwrap() {}
    assert!(disk.pressure().segments_used < used / 4, "{:?}", disk.pressure());
    assert_eq!(disk.pressure().bytes_live, 0);
}

#[test]
fn a_large_content_that_no_event_names_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let (mut disk, _) = Disk::open(&options, &mut |_| ()).unwrap();
    let files = || std::fs::read_dir(dir.path().join("bodies")).unwrap().count();
    let handle = disk.handle();
    let id = handle.next_id();
    let mut large = handle.large(id).unwrap();
    large.write(&vec![1; 300_000]).unwrap();
    assert_eq!(files(), 1);
    drop(large);
    assert_eq!(files(), 0);
    // Finished on another thread, refused by the journal.
    let handle_there = handle.clone();
    let file = std::thread::spawn(move || {
        let mut large = handle_there.large(id).unwrap();
        large.write(&content(id, 300_000)).unwrap();
        large.finish().unwrap()
    });
    let body = Body::File(file.join().unwrap());
    drop(body.clone());
    assert_eq!(files(), 1);
    let event = Event::Accepted(Box::new(accepted(id, 300_000)));
    disk.append(&[Group::with_body(NOW, event, body)]).unwrap();
    disk.sync().unwrap();
    assert_eq!(read(&disk, id).unwrap(), content(id, 300_000));
    assert!(disk.pressure().bytes_used >= 300_000);
    disk.append(&[Group::with_body(NOW, carried(id, 300_000, 2), Body::Same)]).unwrap();
    assert_eq!(read(&disk, id).unwrap(), content(id, 300_000));
    disk.append(&[Group::of(NOW, Event::Retired(id))]).unwrap();
    disk.maintain().unwrap();
    assert_eq!(files(), 1, "not before it is durable");
    disk.sync().unwrap();
    disk.maintain().unwrap();
    assert_eq!(files(), 0);
}

#[test]
fn readers_beside_the_owner_get_the_right_message_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.segments_ready = 1;
    let (mut disk, _) = Disk::open(&options, &mut |_| ()).unwrap();
    let handle = disk.handle();
    let (told, tells) = std::sync::mpsc::channel::<QueueId>();
    let reader = std::thread::spawn(move || {
        let mut found = 0;
        for id in tells {
            match handle.read(id) {
                Ok(stored) => {
                    let StoredBody::Bytes(bytes) = stored.body else { panic!("{id}") };
                    assert_eq!((stored.accepted.id, &bytes[..]), (id, &content(id, 900)[..]));
                    found += 1;
                }
                Err(SpoolError::Missing(missing)) => assert_eq!(missing, id),
                Err(error) => panic!("{error}"),
            }
        }
        found
    });
    let mut living = std::collections::VecDeque::new();
    for _ in 0..1_000 {
        let id = disk.next_id();
        disk.append(&[message(id, 900)]).unwrap();
        living.push_back(id);
        told.send(id).unwrap();
        if living.len() > 3 {
            let id = living.pop_front().unwrap();
            disk.append(&[Group::of(NOW, Event::Retired(id))]).unwrap();
            disk.sync().unwrap();
            told.send(id).unwrap();
        }
        while disk.maintain().unwrap() {}
    }
    drop(told);
    println!("{} of 2,000 reads found their message", reader.join().unwrap());
}

#[test]
fn a_segment_freed_by_a_process_that_died_before_the_sync_stays_free() {
    for seed in 0..50 {
        let files = FaultyFiles::default();
        let (mut disk, ..) = open(&files);
        let ids: Vec<QueueId> = (0..8).map(|_| store(&mut disk, 1_200)).collect();
        for id in &ids[..5] {
            disk.append(&[Group::of(NOW, Event::Retired(*id))]).unwrap();
        }
        disk.sync().unwrap();
        files.fail_next_sync();
        assert!(matches!(disk.maintain(), Err(SpoolError::Io { .. })));
        drop(disk);
        let files = files.kill();
        let (mut disk, ..) = open(&files);
        while disk.maintain().unwrap() {}
        drop(disk);
        let (_, state, recovery) = open(&files.crash(&mut Draw::new(seed)));
        assert_eq!(recovery.damage, [], "seed {seed}");
        assert!(state.messages.keys().eq(&ids[5..]), "seed {seed}");
    }
}

#[test]
fn what_lay_in_a_slot_before_never_comes_back() {
    for seed in 0..600 {
        let files = FaultyFiles::default();
        let (mut disk, ..) = open(&files);
        // Frames of one length: in a slot that is used again they lie where the old ones lay.
        let old: Vec<QueueId> = (0..24).map(|_| store(&mut disk, 100)).collect();
        let retired: Vec<Group> =
            old.iter().map(|id| Group::of(NOW, Event::Retired(*id))).collect();
        disk.append(&retired).unwrap();
        disk.sync().unwrap();
        while disk.maintain().unwrap() {}
        for _ in 0..seed % 12 {
            store(&mut disk, 100);
        }
        for _ in 0..6 {
            let id = disk.next_id();
            disk.append(&[message(id, 100)]).unwrap();
        }
        drop(disk);
        let (_, state, recovery) = open(&files.crash(&mut Draw::new(seed)));
        assert_eq!(recovery.damage, [], "seed {seed}");
        assert!(state.messages.keys().all(|id| !old.contains(id)), "seed {seed}");
    }
}

#[test]
fn a_slot_whose_name_was_not_durable_loses_nothing() {
    for call in 1..60 {
        let files = FaultyFiles::default();
        let (mut disk, ..) = open(&files);
        files.plan(files.calls() + call, Trouble::Failure);
        let id = disk.next_id();
        let appended = disk.append(&[message(id, 10)]).and_then(|_| disk.sync());
        drop(disk);
        let files = files.kill();
        let (mut disk, ..) = open(&files);
        let id = store(&mut disk, 10);
        drop(disk);
        let (_, state, _) = open(&files.crash(&mut Draw::new(call)));
        assert!(state.messages.contains_key(&id), "call {call}: {appended:?}");
    }
}
