//! Virtual time: what happens next, to whom.
//!
//! Invariant: happenings are ordered by time and then by the order in which they were caused, so a
//! seed is a run. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use merpati_mail::{Domain, Draw, NodeId, QueueId, Time};

use crate::{
    Mark, Mutant,
    conn::{Callee, Caller, Conn, ConnId, Side},
    ledger::{Ledger, RelayId},
    mails::{self, Mail},
    node::{Generation, Node},
    plan::{self, Trouble},
};

/// A simulated internet with its clock.
pub struct World {
    pub(crate) now: Time,
    pub(crate) draw: Draw,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) conns: BTreeMap<ConnId, Conn>,
    pub(crate) mails: Vec<Mail>,
    pub(crate) submitted: BTreeSet<usize>,
    pub(crate) greylisted: BTreeMap<(u8, String), Time>,
    pub(crate) ledger: Ledger,
    /// Whether faults have stopped.
    pub(crate) is_calm: bool,
    agenda: BTreeMap<(Time, u64), Happening>,
    sequence: u64,
    conn_count: ConnId,
    host_ids: u32,
}

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Happening {
    Answer { relay: RelayId, generation: Generation, domain: Domain },
    Calm,
    Closed { conn: ConnId, to: Side },
    CoreDue { relay: RelayId, generation: Generation },
    Drained { relay: RelayId, generation: Generation },
    Kick { relay: RelayId },
    More { conn: ConnId },
    LazyDue { relay: RelayId, generation: Generation },
    Octets { conn: ConnId, to: Side, octets: Vec<u8> },
    Pump { relay: RelayId },
    Read { relay: RelayId, generation: Generation },
    Start { relay: RelayId },
    Submit { mail: usize },
    SyncDone { relay: RelayId, generation: Generation },
    Timer { conn: ConnId },
    Trouble { relay: RelayId, trouble: Trouble },
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What did not hold; empty where all is well.
    pub wrongs: Vec<String>,
    /// What out of the ordinary happened.
    pub marks: BTreeSet<Mark>,
    /// Messages for which a client heard 250.
    pub acknowledged: u32,
    /// Happenings.
    pub steps: u64,
}

impl World {
    /// The world of a seed, with a fault in its relays or without.
    pub fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut draw = Draw::new(seed);
        let mut world = Self {
            now: plan::BEGIN,
            mutant,
            nodes: Vec::new(),
            conns: BTreeMap::new(),
            mails: Vec::new(),
            submitted: BTreeSet::new(),
            greylisted: BTreeMap::new(),
            ledger: Ledger::default(),
            is_calm: false,
            agenda: BTreeMap::new(),
            sequence: 0,
            conn_count: 0,
            host_ids: 0,
            draw: draw.fork(),
        };
        for relay in 0..plan::RELAYS {
            match Node::new(relay) {
                Ok(node) => world.nodes.push(node),
                Err(error) => world.ledger.wrong(world.now, format!("no spool: {error}")),
            }
            world.later(plan::BEGIN, Happening::Start { relay });
        }
        for number in 0..plan::MAILS {
            let mail = mails::mail(number, &mut draw, &mut world.ledger.marks);
            world.ledger.written(&mail.token, &mail.content);
            world.ledger.ask(&mail.token, &mail.to);
            if !mail.from.is_null() {
                world.ledger.expect_report(&mail.token);
            }
            world.mails.push(mail);
            let when = plan::burst(&mut draw, plan::BURST);
            world.later(when, Happening::Submit { mail: number });
        }
        for (when, relay, trouble) in plan::troubles(&mut draw, mutant) {
            world.later(when, Happening::Trouble { relay, trouble });
        }
        world.later(plan::BEGIN + plan::FAULTS, Happening::Calm);
        world
    }

    /// Lets everything happen, until nothing is left to happen.
    pub fn run(mut self) -> Run {
        let mut steps = 0;
        while let Some(((when, _), happening)) = self.agenda.pop_first() {
            self.now = when;
            self.happen(happening);
            steps += 1;
            if steps > STEPS_MAX {
                self.ledger.wrong(self.now, "it never ends".to_owned());
                break;
            }
            if !self.ledger.wrongs.is_empty() {
                break;
            }
        }
        if self.ledger.wrongs.is_empty() {
            self.ledger.close(self.now);
        }
        Run {
            wrongs: self.ledger.wrongs,
            marks: self.ledger.marks,
            acknowledged: self.ledger.acknowledged,
            steps,
        }
    }

    pub(crate) fn later(&mut self, when: Time, happening: Happening) {
        self.sequence += 1;
        self.agenda.insert((when.max(self.now), self.sequence), happening);
    }

    pub(crate) const fn next_conn(&mut self) -> ConnId {
        self.conn_count += 1;
        self.conn_count
    }

    /// A name that a host gives to what it takes.
    pub(crate) fn next_host_id(&mut self) -> QueueId {
        self.host_ids += 1;
        QueueId::new(NodeId::default(), 0, self.host_ids)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Answer { relay, generation, domain } => {
                if self.is_current(relay, generation) {
                    self.answer(relay, domain);
                }
            }
            Happening::Calm => {
                self.is_calm = true;
                for relay in 0..plan::RELAYS {
                    self.trouble(relay, Trouble::Roomy);
                    self.release_all(relay);
                }
            }
            Happening::Closed { conn, to } => self.closed(conn, to),
            Happening::CoreDue { relay, generation } => {
                if self.is_current(relay, generation) {
                    self.core_due(relay);
                }
            }
            Happening::Drained { relay, generation } => {
                if self.is_current(relay, generation) {
                    self.crash(relay);
                }
            }
            Happening::Kick { relay } => self.kick(relay),
            Happening::More { conn } => self.more(conn),
            Happening::LazyDue { relay, generation } => {
                if self.is_current(relay, generation) {
                    self.lazy_due(relay);
                }
            }
            Happening::Octets { conn, to, octets } => self.arrived(conn, to, &octets),
            Happening::Pump { relay } => self.pump_core(relay),
            Happening::Read { relay, generation } => {
                if self.is_current(relay, generation) {
                    self.read_spool(relay);
                }
            }
            Happening::Start { relay } => self.start_relay(relay),
            Happening::Submit { mail } => self.submit(mail),
            Happening::SyncDone { relay, generation } => {
                if self.is_current(relay, generation) {
                    self.synced(relay);
                }
            }
            Happening::Timer { conn } => self.timer(conn),
            Happening::Trouble { relay, trouble } => {
                if !self.is_calm || matches!(trouble, Trouble::Roomy) {
                    self.trouble(relay, trouble);
                }
            }
        }
    }

    fn submit(&mut self, number: usize) {
        if !self.is_listening(0) {
            // A submitter without an answer comes again.
            let when = self.now + Duration::from_secs(30);
            return self.later(when, Happening::Submit { mail: number });
        }
        let is_stranger = self.mails.get(number).is_some_and(|mail| mail.is_stranger);
        let from: IpAddr = plan::submitter_address(is_stranger);
        let caller = Caller::Submitter { mail: number };
        self.connect(caller, Callee::Relay(0), from, "client.sim.example");
    }
}

/// Happenings after which something goes round in circles.
const STEPS_MAX: u64 = 1_000_000;
