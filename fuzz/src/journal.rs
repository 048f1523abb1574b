//! Whether the journal keeps what it said, whatever fails and whenever power is lost.
//!
//! Properties: what a sync covered is found again, with nothing but what was appended after it;
//! contents are their own; no damage is seen where none was done. Over a file system in memory.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use bytes::Bytes;
use merpati_mail::{Draw, Event, NodeId, QueueId, Record, Time};
use merpati_spool::{
    Body, Disk, Group, Options, Recovery, Spool, SpoolError, StoredBody,
    fault::{FaultyFiles, Trouble},
    io::Io,
};

use crate::{plan::draw_from, samples};

/// Each two octets are an operation and its argument.
pub fn journal(octets: &[u8]) {
    let mut run = Run::new(draw_from(octets));
    run.recover();
    for pair in octets.chunks_exact(2).take(OPERATIONS_MAX) {
        if run.step(pair[0], pair[1]).is_err() {
            run.end_life();
            run.recover();
        }
    }
    run.end_life();
    run.recover();
}

/// The process has to end.
struct Broke;

/// What a journal says: for each message its length and attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    messages: BTreeMap<QueueId, (u64, u32)>,
    config: u8,
}

impl State {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Accepted(a) | Event::Captured(a) => {
                self.messages.insert(a.id, (a.size_bytes, 0));
            }
            Event::Attempted(a) => {
                if let Some(message) = self.messages.get_mut(&a.message) {
                    message.1 = a.attempt.number;
                }
            }
            Event::Carried(c) => {
                let attempts = c.deliveries.first().map_or(0, |(_, state)| state.attempts);
                self.messages.insert(c.accepted.id, (c.accepted.size_bytes, attempts));
            }
            Event::ConfigChanged { digest } => self.config = digest[0],
            Event::Retired(id) => {
                self.messages.remove(id);
            }
            Event::Cancelled(_)
            | Event::Delayed { .. }
            | Event::Expired { .. }
            | Event::Held { .. }
            | Event::Released { .. }
            | Event::Rerouted { .. } => {}
        }
    }
}

struct Run {
    draw: Draw,
    files: FaultyFiles,
    options: Options,
    disk: Option<Disk>,
    /// What was surely said, and then what was added since, group by group.
    states: Vec<State>,
}

impl Run {
    fn new(draw: Draw) -> Self {
        let mut options = Options::new(PathBuf::from("/spool"), NodeId::default());
        options.segment_bytes = 8 * 1_024;
        options.bytes_max = 8 * options.segment_bytes;
        options.free_bytes_min = 0;
        options.segments_ready = 0;
        options.in_background = false;
        let states = vec![State::default()];
        Self { draw, files: FaultyFiles::default(), options, disk: None, states }
    }

    fn recover(&mut self) {
        loop {
            let mut found = State::default();
            let io: Arc<dyn Io> = Arc::new(self.files.clone());
            let mut each = |record: Record| found.apply(&record.event);
            match Disk::open_in(&io, &self.options, &mut each) {
                Ok((disk, recovery)) => {
                    self.disk = Some(disk);
                    self.check(found, &recovery);
                    return;
                }
                // Trouble was planned for a call that recovery made.
                Err(_) if self.has_trouble() => self.end_life(),
                Err(error) => panic!("cannot open: {error}"),
            }
        }
    }

    fn has_trouble(&self) -> bool {
        self.files.is_down()
    }

    fn end_life(&mut self) {
        self.disk = None;
        let is_kill = !self.files.is_down() && self.draw.chance(50);
        self.files = if is_kill { self.files.kill() } else { self.files.crash(&mut self.draw) };
    }

    fn check(&mut self, found: State, recovery: &Recovery) {
        let damage = recovery.damage.iter().find(|damage| damage.octets > 0);
        assert_eq!(damage, None, "damage where none was done");
        assert!(
            self.states.contains(&found),
            "found {found:?}\nsynced {:?}\nand then {} groups",
            self.states[0],
            self.states.len() - 1
        );
        for (id, (octets, _)) in &found.messages {
            self.check_content(*id, *octets);
        }
        self.states = vec![found];
    }

    fn check_content(&mut self, id: QueueId, octets: u64) {
        let Some(disk) = &mut self.disk else { return };
        let stored = match disk.read(id) {
            Ok(stored) => stored,
            Err(_) if self.files.is_down() => return,
            Err(error) => panic!("cannot read {id}: {error}"),
        };
        let StoredBody::Bytes(bytes) = stored.body else { panic!("{id} has no file") };
        assert_eq!(bytes, content(id, octets), "the content of {id} is not its own");
    }

    fn step(&mut self, operation: u8, argument: u8) -> Result<(), Broke> {
        let size = u64::from(argument) * 12;
        match operation % 10 {
            0 | 1 => {
                let id = self.disk()?.next_id();
                let event = Event::Accepted(Box::new(samples::accepted(id, size)));
                let octets = content(id, size);
                let (front, back) = octets.split_at(octets.len() / 2);
                let pieces = [front, back].map(Bytes::copy_from_slice).to_vec();
                self.append(Group::with_body(NOW, event, Body::Bytes(pieces)))
            }
            2 => self.about(argument, |id, _, attempts| {
                Group::of(NOW, samples::attempted(id, attempts + 1))
            }),
            3 => self.about(argument, |id, _, _| Group::of(NOW, Event::Retired(id))),
            4 => self.about(argument, |id, octets, attempts| {
                Group::with_body(NOW, samples::carried(id, octets, attempts), Body::Same)
            }),
            5 => self.append(Group::of(NOW, Event::ConfigChanged { digest: [argument; 32] })),
            6 => {
                self.disk()?.sync().map_err(|_| Broke)?;
                self.states.drain(..self.states.len() - 1);
                Ok(())
            }
            7 => self.maintain(),
            8 => {
                let trouble = match argument % 3 {
                    0 => Trouble::Crash,
                    1 => Trouble::Failure,
                    _ => Trouble::NoRoom,
                };
                self.files.plan(self.files.calls() + 1 + u64::from(argument / 4), trouble);
                Ok(())
            }
            _ => Err(Broke),
        }
    }

    fn about(
        &mut self,
        which: u8,
        group: impl FnOnce(QueueId, u64, u32) -> Group,
    ) -> Result<(), Broke> {
        let messages = &self.states[self.states.len() - 1].messages;
        let at = usize::from(which) % messages.len().max(1);
        match messages.iter().nth(at).map(|(id, message)| (*id, *message)) {
            Some((id, (octets, attempts))) => self.append(group(id, octets, attempts)),
            None => Ok(()),
        }
    }

    fn append(&mut self, group: Group) -> Result<(), Broke> {
        let mut state = self.states[self.states.len() - 1].clone();
        group.entries.iter().for_each(|entry| state.apply(&entry.event));
        self.states.push(state);
        match self.disk()?.append(&[group]) {
            Ok(_) => Ok(()),
            Err(SpoolError::Corrupt { file, offset, why }) if !self.has_trouble() => {
                panic!("{} {offset} {why}", file.display())
            }
            Err(error) if error.is_passing() => {
                self.states.pop();
                Ok(())
            }
            Err(_) => Err(Broke),
        }
    }

    fn maintain(&mut self) -> Result<(), Broke> {
        for id in self.disk()?.carry_wanted(3) {
            let now = self.states[self.states.len() - 1].messages.get(&id).copied();
            if let Some((octets, attempts)) = now {
                let event = samples::carried(id, octets, attempts);
                self.append(Group::with_body(NOW, event, Body::Same))?;
            }
        }
        for _ in 0..3 {
            if !self.disk()?.maintain().map_err(|_| Broke)? {
                break;
            }
        }
        Ok(())
    }

    fn disk(&mut self) -> Result<&mut Disk, Broke> {
        self.disk.as_mut().ok_or(Broke)
    }
}

/// The content of a message: it can be told from its name and length.
fn content(id: QueueId, octets: u64) -> Vec<u8> {
    let mut draw = Draw::new(id.bits());
    let mut content: Vec<u8> =
        (0..octets.div_ceil(8)).flat_map(|_| draw.bits().to_le_bytes()).collect();
    content.truncate(usize::try_from(octets).unwrap_or(0));
    content
}

const NOW: Time = Time::from_secs(5);

/// So many operations of one input are carried out.
const OPERATIONS_MAX: usize = 120;
