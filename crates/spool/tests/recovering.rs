//! A journal that takes new messages while what it holds is yet to be read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs, clippy::cast_possible_truncation)]

mod common;

use std::{ops::ControlFlow, path::PathBuf, sync::Arc};

use bytes::Bytes;
use common::{State, accepted, attempted, carried, content};
use merpati_mail::{Event, NodeId, QueueId, Time};
use merpati_spool::{
    Body, Disk, Group, Options, Recovery, Spool, SpoolError, StoredBody, Unread,
    fault::{FaultyFiles, Trouble},
    io::Io,
};

const NOW: Time = Time::from_secs(5);

fn begin(files: &FaultyFiles) -> (Disk, Unread) {
    let mut options = Options::new(PathBuf::from("/s"), NodeId::default());
    options.segment_bytes = 8 * 1_024;
    options.in_background = false;
    options.segments_ready = 0;
    options.free_bytes_min = 0;
    let io: Arc<dyn Io> = Arc::new(files.clone());
    Disk::begin_in(&io, &options).unwrap()
}

fn read_all(unread: Unread) -> (State, Recovery) {
    let mut state = State::default();
    let read = unread.read(&mut |record| {
        state.fold(&record);
        ControlFlow::Continue(())
    });
    (state, read.unwrap().unwrap())
}

fn message(id: QueueId, octets: u64) -> Group {
    let body = Body::Bytes(vec![Bytes::from(content(id, octets))]);
    Group::with_body(NOW, Event::Accepted(Box::new(accepted(id, octets))), body)
}

fn store(disk: &mut Disk, octets: u64) -> QueueId {
    let id = disk.next_id();
    disk.append(&[message(id, octets)]).unwrap();
    disk.sync().unwrap();
    id
}

fn is_whole(disk: &Disk, id: QueueId) -> bool {
    let stored = disk.read(id).unwrap();
    let StoredBody::Bytes(octets) = stored.body else { panic!("a small content has no file") };
    octets == content(id, stored.accepted.size_bytes)
}

/// A journal of several segments, the messages that live in it, and one that has ended.
fn filled() -> (FaultyFiles, Vec<QueueId>) {
    let files = FaultyFiles::default();
    let (mut disk, unread) = begin(&files);
    read_all(unread);
    let mut ids: Vec<QueueId> = (0..12).map(|_| store(&mut disk, 1_200)).collect();
    disk.append(&[Group::of(NOW, Event::Retired(ids.remove(0)))]).unwrap();
    disk.sync().unwrap();
    assert!(disk.pressure().segments_used > 4);
    drop(disk);
    (files.kill(), ids)
}

#[test]
fn new_messages_are_taken_and_nothing_goes_before_all_is_read() {
    let (files, old) = filled();
    let (mut disk, unread) = begin(&files);
    let before = disk.pressure();
    assert_eq!(before.segments_unread, before.segments_used);
    assert_eq!(before.messages, 0);
    assert!(matches!(disk.read(old[3]), Err(SpoolError::Missing(id)) if id == old[3]));

    let new: Vec<QueueId> = (0..8).map(|_| store(&mut disk, 1_200)).collect();
    assert!(new.iter().all(|id| *id > old[10] && is_whole(&disk, *id)));
    for event in [Event::Retired(old[0]), attempted(old[0], 1), carried(old[0], 1_200, 1)] {
        let refused = disk.append(&[Group::of(NOW, event), message(disk.next_id(), 1)]);
        assert!(matches!(refused, Err(SpoolError::Missing(id)) if id == old[0]));
    }
    disk.append(&[Group::of(NOW, Event::Retired(new[0]))]).unwrap();
    disk.sync().unwrap();
    while disk.maintain().unwrap() {}
    assert_eq!(disk.carry_wanted(10), []);
    assert!(disk.pressure().segments_used > before.segments_used);

    let (state, recovery) = read_all(unread);
    assert!(state.messages.keys().eq(&old), "{state:?}");
    assert_eq!(recovery.damage, []);
    assert_eq!(recovery.messages, old.len() + new.len() - 1);
    assert_eq!(disk.pressure().segments_unread, 0);
    assert!(old.iter().chain(&new[1..]).all(|id| is_whole(&disk, *id)));
    let all = old.iter().chain(&new[1..]);
    let retired: Vec<Group> = all.map(|id| Group::of(NOW, Event::Retired(*id))).collect();
    disk.append(&retired).unwrap();
    disk.sync().unwrap();
    while disk.maintain().unwrap() {}
    assert_eq!((disk.pressure().messages, disk.pressure().segments_used), (0, 1));
}

#[test]
fn what_was_taken_before_all_was_read_is_there_after_a_crash() {
    let (mut files, mut living) = filled();
    // Again and again, for a relay may die each time while it recovers.
    for wanted in [0, 3, 100] {
        let (mut disk, unread) = begin(&files);
        let new = store(&mut disk, 300);
        let mut count = 0;
        let read = unread.read(&mut |_| {
            count += 1;
            if count > wanted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(read.unwrap().is_none(), wanted < 100);
        assert!(is_whole(&disk, new));
        living.push(new);
        drop(disk);
        files = files.kill();
    }
    let (disk, unread) = begin(&files);
    let (state, recovery) = read_all(unread);
    assert!(state.messages.keys().eq(&living), "{state:?}");
    assert_eq!(recovery.damage, []);
    assert!(living.iter().all(|id| is_whole(&disk, *id)));
}

#[test]
fn damage_in_old_segments_is_reported_when_they_are_read() {
    let (files, old) = filled();
    assert!(files.damage(&PathBuf::from("/s/journal/0001.seg"), 4_096 + 100));
    let (mut disk, unread) = begin(&files);
    let new = store(&mut disk, 300);
    let (state, recovery) = read_all(unread);
    assert_eq!(recovery.damage.len(), 1);
    assert_eq!(state.messages.len(), old.len() - 1);
    assert!(is_whole(&disk, new));
}

#[test]
fn a_journal_without_a_record_in_its_newest_segment_knows_its_time_and_place() {
    // The process dies at each call of the append that begins a segment; before its last write
    // there is a segment with nothing in it.
    let is_found = (1..20).any(|calls| {
        let files = FaultyFiles::default();
        let (mut disk, unread) = begin(&files);
        read_all(unread);
        let old = store(&mut disk, 3_000);
        let next = disk.durable();
        files.plan(files.calls() + calls, Trouble::Crash);
        disk.append(&[message(disk.next_id(), 3_000)]).ok();
        drop(disk);
        let files = files.kill();
        let (disk, unread) = begin(&files);
        assert_eq!(unread.last_at(), NOW);
        let segments = disk.pressure().segments_used;
        let (state, recovery) = read_all(unread);
        assert!(state.messages.contains_key(&old));
        assert_eq!((recovery.last_at, recovery.damage), (NOW, Vec::new()));
        (segments, state.messages.len(), recovery.next) == (2, 1, next)
    });
    assert!(is_found, "no crash left an empty segment");
}

#[test]
fn a_content_that_was_left_behind_is_in_nobodys_way() {
    let files = FaultyFiles::default();
    let (disk, unread) = begin(&files);
    read_all(unread);
    let orphan = disk.next_id();
    let mut large = disk.handle().large(orphan).unwrap();
    large.write(&[0; 5_000]).unwrap();
    // The process dies with the content on the disk and nothing in the journal.
    std::mem::forget(large.finish().unwrap());
    drop(disk);
    let files = files.kill();
    let (disk, unread) = begin(&files);
    let new = disk.next_id();
    assert!(new > orphan);
    let mut large = disk.handle().large(new).unwrap();
    large.write(&[0; 3_000]).unwrap();
    let large = large.finish().unwrap();
    read_all(unread);
    assert_eq!(disk.pressure().bytes_used, 3_000);
    let io: Arc<dyn Io> = Arc::new(files);
    assert_eq!(io.list(&PathBuf::from("/s/bodies")).unwrap(), [new.to_string()]);
    drop(large);
    assert_eq!(disk.pressure().bytes_used, 0);
}

#[test]
fn names_pass_those_of_imported_mail_wherever_it_lies() {
    let files = FaultyFiles::default();
    let (mut disk, unread) = begin(&files);
    read_all(unread);
    let foreign = |epoch, counter| QueueId::new(NodeId::default(), epoch, counter);
    let mut all = Vec::new();
    for id in (0..9).map(|n| foreign(50, n)).chain((0..9).map(|n| foreign(3, n))) {
        disk.append(&[message(id, 1_200)]).unwrap();
        all.push(id);
    }
    disk.sync().unwrap();
    let own = store(&mut disk, 10);
    drop(disk);
    let files = files.kill();
    let (mut disk, unread) = begin(&files);
    let new = store(&mut disk, 10);
    assert!(own > foreign(50, u32::MAX) && new > own, "{own} {new}");
    let (state, recovery) = read_all(unread);
    assert_eq!(state.messages.len(), all.len() + 1);
    assert_eq!(recovery.epoch, 52);
}
