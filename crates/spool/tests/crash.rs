//! Model and crash at every call: what was acknowledged is there, and nothing that never was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs, clippy::cast_possible_truncation, clippy::print_stdout)]

mod common;

use std::{collections::BTreeSet, ops::ControlFlow, path::PathBuf, sync::Arc};

use bytes::Bytes;
use common::{Message, State, accepted, attempted, carried, content};
use merpati_mail::{Draw, Event, NodeId, QueueId, Time};
use merpati_spool::{
    Body, Disk, Group, Options, Recovery, Spool, SpoolError, StoredBody,
    fault::{FaultyFiles, Trouble},
    io::Io,
};

/// A journal over files that fail, with everything that it may say after a crash.
struct Run {
    draw: Draw,
    files: FaultyFiles,
    options: Options,
    disk: Option<Disk>,
    /// What was surely said, and then what was added since, group by group.
    states: Vec<State>,
    acknowledged: BTreeSet<QueueId>,
    crashes: u32,
    freed: usize,
}

type Checked<T = ()> = Result<T, String>;

/// What a step of the work came to.
enum Did {
    /// The process has to end.
    Broke,
    Fine,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let mut options = Options::new(PathBuf::from("/spool"), NodeId::default());
        options.segment_bytes = 8 * 1_024;
        options.in_background = false;
        options.segments_ready = draw.below(2) as usize;
        options.free_bytes_min = 0;
        if draw.chance(50) {
            options.bytes_max = options.segment_bytes * (5 + draw.below(6));
        }
        Self {
            draw,
            files: FaultyFiles::default(),
            options,
            disk: None,
            states: vec![State::default()],
            acknowledged: BTreeSet::new(),
            crashes: 0,
            freed: 0,
        }
    }

    fn go(&mut self, lives: u64) -> Checked {
        for _ in 0..lives {
            self.recover()?;
            let calls = self.files.calls() + 1 + self.draw.below(80);
            let trouble = match self.draw.below(8) {
                0..3 => Trouble::Failure,
                3 => Trouble::NoRoom,
                _ => Trouble::Crash,
            };
            self.files.plan(calls, trouble);
            for _ in 0..200 {
                if let Did::Broke = self.step()? {
                    break;
                }
            }
            self.end_life();
        }
        self.recover()?;
        self.drain()
    }

    /// When everything has ended, nothing but the newest segment is left.
    fn drain(&mut self) -> Checked {
        self.files.plan(0, Trouble::Crash);
        if self.files.is_down() {
            return Ok(());
        }
        let now = self.states.last().unwrap();
        let ids: Vec<QueueId> = now.messages.keys().copied().collect();
        let disk = self.disk.as_mut().unwrap();
        for some in ids.chunks(8) {
            let retired = some.iter().map(|id| Group::of(Time::from_secs(8), Event::Retired(*id)));
            let retired: Vec<Group> = retired.collect();
            disk.append(&retired).map_err(|error| format!("cannot drain: {error}"))?;
        }
        // What the spool copies is durable with the next sync, and only then frees its segment.
        for _ in 0..3 {
            disk.sync().map_err(|error| error.to_string())?;
            while disk.maintain().map_err(|error| error.to_string())? {}
        }
        let pressure = disk.pressure();
        if pressure.messages > 0 || pressure.segments_used > 2 {
            return Err(format!("something is left: {pressure:?}"));
        }
        Ok(())
    }

    /// Opens until it works; crashes may come in between.
    fn recover(&mut self) -> Checked {
        loop {
            if self.draw.chance(30) {
                let call = self.files.calls() + 1 + self.draw.below(30);
                self.files.plan(call, Trouble::Crash);
            }
            let io: Arc<dyn Io> = Arc::new(self.files.clone());
            let (disk, unread) = match Disk::begin_in(&io, &self.options) {
                Ok(begun) => begun,
                Err(_) if self.files.is_down() => {
                    self.end_life();
                    continue;
                }
                Err(error) => return Err(format!("cannot open: {error}")),
            };
            self.disk = Some(disk);
            let before = self.states.clone();
            let meanwhile = if self.draw.chance(50) { self.meanwhile()? } else { Vec::new() };
            let mut found = State::default();
            let read = unread.read(&mut |record| {
                found.fold(&record);
                ControlFlow::Continue(())
            });
            match read {
                Ok(Some(_)) | Err(_) if self.files.is_down() => self.end_life(),
                Ok(Some(recovery)) => {
                    if !before.contains(&found) {
                        let acknowledged = &before[0];
                        return Err(format!("found {found:?}\nacknowledged {acknowledged:?}"));
                    }
                    return self.check(&found, &meanwhile, &recovery);
                }
                Ok(None) => return Err("reading broke off".to_owned()),
                Err(error) => return Err(format!("cannot read: {error}")),
            }
        }
    }

    /// What is taken while the journal is yet to be read; it may be in every state from now on.
    fn meanwhile(&mut self) -> Checked<Vec<(Group, bool)>> {
        let mut taken: Vec<(Group, bool)> = Vec::new();
        for _ in 0..self.draw.below(8) {
            let groups = match self.draw.below(4) {
                0 => {
                    let digest = [self.draw.bits() as u8; 32];
                    vec![Group::of(Time::from_secs(9), Event::ConfigChanged { digest })]
                }
                1 => {
                    let mine = taken.iter().flat_map(|(group, _)| opened(group));
                    let ended = mine.take(1).map(Event::Retired);
                    ended.map(|event| Group::of(Time::from_secs(2), event)).collect()
                }
                _ => self.new_messages()?,
            };
            let disk = self.disk.as_mut().unwrap();
            if self.draw.chance(20) && disk.maintain().is_err() {
                break;
            }
            assert!(disk.carry_wanted(3).is_empty());
            match disk.append(&groups) {
                Ok(_) => taken.extend(groups.into_iter().map(|group| (group, false))),
                Err(error) if error.is_passing() => continue,
                Err(_) => {
                    taken.extend(groups.into_iter().map(|group| (group, false)));
                    break;
                }
            }
            if self.draw.chance(70) && disk.sync().is_ok() {
                for (_, is_durable) in &mut taken {
                    *is_durable = true;
                }
            }
        }
        let durable = taken.iter().take_while(|(_, is_durable)| *is_durable).count();
        let acknowledged = taken.iter().take(durable).flat_map(|(group, _)| opened(group));
        self.acknowledged.extend(acknowledged);
        // Before it is read what was there, any of these may be what a crash leaves.
        let states = self.states.iter().flat_map(|before| after(before, &taken, durable));
        self.states = states.collect();
        Ok(taken)
    }

    fn end_life(&mut self) {
        self.disk = None;
        self.crashes += 1;
        let is_kill = !self.files.is_down() && self.draw.chance(70);
        self.files = if is_kill { self.files.kill() } else { self.files.crash(&mut self.draw) };
    }

    /// `found` was there before `meanwhile`; both together is what there is now.
    fn check(
        &mut self,
        found: &State,
        meanwhile: &[(Group, bool)],
        recovery: &Recovery,
    ) -> Checked {
        if let Some(damage) = recovery.damage.iter().find(|damage| damage.octets > 0) {
            return Err(format!("damage: {damage:?}"));
        }
        let durable = meanwhile.iter().take_while(|(_, is_durable)| *is_durable).count();
        self.states = after(found, meanwhile, durable);
        self.check_contents()
    }

    fn check_contents(&mut self) -> Checked {
        let whole = self.states.last().unwrap();
        let disk = self.disk.as_mut().unwrap();
        if disk.pressure().messages != whole.messages.len() {
            return Err(format!("{:?} in place of {whole:?}", disk.pressure()));
        }
        for (id, message) in &whole.messages {
            let stored = match disk.read(*id) {
                Ok(stored) => stored,
                Err(_) if self.files.is_down() => return Ok(()),
                Err(error) => return Err(format!("cannot read {id}: {error}")),
            };
            let octets = match stored.body {
                StoredBody::Bytes(bytes) => bytes.to_vec(),
                StoredBody::File(file) => {
                    let mut octets = vec![0; file.len() as usize];
                    match file.read_at(&mut octets, 0).and_then(|_| file.check()) {
                        Ok(()) => octets,
                        Err(_) if self.files.is_down() => return Ok(()),
                        Err(error) => return Err(format!("cannot read {id}: {error}")),
                    }
                }
            };
            if octets != content(*id, message.size_bytes) || stored.accepted.id != *id {
                return Err(format!("the content of {id} is not its own"));
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Checked<Did> {
        let choice = self.draw.below(100);
        let groups = match choice {
            0..45 => self.new_messages()?,
            45..75 => self.outcomes(),
            75..80 => {
                let digest = [self.draw.bits() as u8; 32];
                vec![Group::of(Time::from_secs(9), Event::ConfigChanged { digest })]
            }
            80..90 => self.carries(),
            _ => return self.upkeep(),
        };
        let Some(groups) = self.append(groups)? else { return Ok(Did::Broke) };
        let is_synced = self.draw.chance(70);
        if !is_synced {
            return Ok(Did::Fine);
        }
        match self.disk.as_mut().unwrap().sync() {
            Ok(_) => {
                self.states.drain(..self.states.len() - 1);
                self.acknowledged.extend(groups.iter().flat_map(opened));
                Ok(Did::Fine)
            }
            Err(_) => Ok(Did::Broke),
        }
    }

    /// `None` where the process has to end.
    fn append(&mut self, mut groups: Vec<Group>) -> Checked<Option<Vec<Group>>> {
        loop {
            let before = self.states.len();
            for group in &groups {
                let mut state = self.states.last().unwrap().clone();
                group.entries.iter().for_each(|entry| state.apply(&entry.event));
                self.states.push(state);
            }
            match self.disk.as_mut().unwrap().append(&groups) {
                Ok(lsns) => {
                    assert_eq!(lsns.end.0 - lsns.start.0, groups.len() as u64);
                    return Ok(Some(groups));
                }
                Err(error) if error.is_passing() => {
                    self.states.truncate(before);
                    if matches!(error, SpoolError::Corrupt { .. }) {
                        return Err(error.to_string());
                    }
                    let grew = groups.iter().any(Group::grows);
                    groups.retain(|group| !group.grows());
                    if !grew {
                        return Ok(Some(Vec::new()));
                    }
                }
                Err(_) => return Ok(None),
            }
        }
    }

    fn new_messages(&mut self) -> Checked<Vec<Group>> {
        let mut groups = Vec::new();
        for _ in 0..=self.draw.below(4) {
            let disk = self.disk.as_ref().unwrap();
            let id = disk.next_id();
            if self.acknowledged.contains(&id) {
                return Err(format!("{id} was given twice"));
            }
            let size = match self.draw.below(10) {
                0 => 0,
                1 => 2_500,
                _ => self.draw.below(700),
            };
            let octets = content(id, size);
            let body = if self.draw.chance(15) {
                let large = disk.handle().large(id).and_then(|mut large| {
                    large.write(&octets)?;
                    large.finish()
                });
                match large {
                    Ok(file) => Body::File(file),
                    Err(_) => continue,
                }
            } else {
                let (front, back) = octets.split_at(octets.len() / 2);
                Body::Bytes(vec![Bytes::copy_from_slice(front), Bytes::copy_from_slice(back)])
            };
            let accepted = Box::new(accepted(id, size));
            let is_captured = self.draw.chance(30);
            let event =
                if is_captured { Event::Captured(accepted) } else { Event::Accepted(accepted) };
            groups.push(Group::with_body(Time::from_secs(1), event, body));
        }
        Ok(groups)
    }

    fn outcomes(&mut self) -> Vec<Group> {
        let now = self.states.last().unwrap();
        let mut messages: Vec<(QueueId, Message)> =
            now.messages.iter().map(|(id, message)| (*id, *message)).collect();
        self.draw.shuffle(&mut messages);
        messages.truncate(1 + self.draw.below(5) as usize);
        let events = messages.into_iter().map(|(id, message)| {
            if message.is_captured || self.draw.chance(75) {
                Event::Retired(id)
            } else {
                attempted(id, message.attempts + 1)
            }
        });
        events.map(|event| Group::of(Time::from_secs(2), event)).collect()
    }

    fn carries(&mut self) -> Vec<Group> {
        let wanted = self.disk.as_mut().unwrap().carry_wanted(3);
        let now = self.states.last().unwrap();
        let living = wanted.iter().filter_map(|id| Some((*id, now.messages.get(id)?)));
        living
            .map(|(id, m)| {
                let event = carried(id, m.size_bytes, m.attempts);
                Group::with_body(Time::from_secs(3), event, Body::Same)
            })
            .collect()
    }

    fn upkeep(&mut self) -> Checked<Did> {
        for _ in 0..4 {
            let disk = self.disk.as_mut().unwrap();
            let used = disk.pressure().segments_used;
            match disk.maintain() {
                Ok(more) => {
                    self.freed += used.saturating_sub(disk.pressure().segments_used);
                    if !more {
                        break;
                    }
                }
                Err(SpoolError::Corrupt { file, offset, why }) => {
                    return Err(format!("{} {offset} {why}", file.display()));
                }
                Err(_) => return Ok(Did::Broke),
            }
        }
        Ok(Did::Fine)
    }
}

/// The states after these groups: with the first `least` of them, and then with one more each.
fn after(before: &State, groups: &[(Group, bool)], least: usize) -> Vec<State> {
    let mut state = before.clone();
    let mut states = Vec::new();
    for (nth, (group, _)) in groups.iter().enumerate() {
        if nth >= least {
            states.push(state.clone());
        }
        group.entries.iter().for_each(|entry| state.apply(&entry.event));
    }
    states.push(state);
    states
}

fn opened(group: &Group) -> Vec<QueueId> {
    group
        .entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Accepted(accepted) | Event::Captured(accepted) => Some(accepted.id),
            Event::Attempted(_)
            | Event::Cancelled(_)
            | Event::Carried(_)
            | Event::ConfigChanged { .. }
            | Event::Delayed { .. }
            | Event::Expired { .. }
            | Event::Held { .. }
            | Event::Released { .. }
            | Event::Rerouted { .. }
            | Event::Retired(_) => None,
        })
        .collect()
}

fn check(seeds: std::ops::Range<u64>) {
    let (mut freed, mut crashes) = (0, 0);
    for seed in seeds {
        let mut run = Run::new(seed);
        if let Err(why) = run.go(2) {
            panic!("seed {seed}: {why}");
        }
        freed += run.freed;
        crashes += run.crashes;
    }
    println!("{crashes} crashes, {freed} segments freed");
    assert!(freed > 1_000, "the work must reach recycling: {freed}");
}

#[test]
fn what_was_acknowledged_survives_2_500_runs_a() {
    check(0..2_500);
}

#[test]
fn what_was_acknowledged_survives_2_500_runs_b() {
    check(2_500..5_000);
}

#[test]
fn what_was_acknowledged_survives_2_500_runs_c() {
    check(5_000..7_500);
}

#[test]
fn what_was_acknowledged_survives_2_500_runs_d() {
    check(7_500..10_000);
}

#[test]
fn without_sync_losses_are_found() {
    let found = (0..200)
        .filter(|seed| {
            let mut run = Run::new(*seed);
            run.files.ignore_sync(true);
            run.go(2).is_err()
        })
        .count();
    println!("losses found in {found} of 200 runs");
    assert!(found > 100, "only {found} of 200 runs without sync lost something");
}
