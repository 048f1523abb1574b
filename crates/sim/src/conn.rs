//! A connection: two sessions, and the bytes on their way between them.
//!
//! Pure: bytes travel by [`crate::world::Happening`]s.

use std::{net::IpAddr, time::Duration};

use merpati_flow::JobId;
use merpati_mail::Time;
use merpati_smtp::{client, server};

use crate::{
    ledger::RelayId,
    node::Generation,
    plan::Habit,
    world::{Happening, World},
};

/// The number of a connection; never used twice in a world.
pub(crate) type ConnId = u64;

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Who called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Relay { relay: RelayId, generation: Generation, job: JobId },
    Submitter { mail: usize },
}

/// Who was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callee {
    Host(u8),
    Relay(RelayId),
}

/// What does not change while a connection lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) id: ConnId,
    pub(crate) caller: Caller,
    pub(crate) callee: Callee,
    pub(crate) from: IpAddr,
    pub(crate) habit: Habit,
    pub(crate) latency: Duration,
    /// Where the host cuts it; `None` where it does not.
    pub(crate) cut: Option<Cut>,
}

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    AfterOctetsOut(u64),
    AtConnect,
    AtEndOfData,
    AtMail,
    AtRecipient,
    InContent(u64),
}

/// Who answers at the server's end.
#[derive(Debug)]
pub(crate) enum Talk {
    Broken { step: u64 },
    Gone,
    Silent,
    Smtp(Box<server::Session>),
}

/// A connection that is open.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) facts: Facts,
    /// `None` when the client's end is closed.
    pub(crate) client: Option<Box<client::Session>>,
    pub(crate) client_in: Vec<u8>,
    /// What the client sends as content.
    pub(crate) content: Vec<u8>,
    pub(crate) talk: Talk,
    pub(crate) server_in: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// When the last octets arrive, to the client and to the server.
    arrival: (Time, Time),
    /// Octets that went out from the server, and in to it.
    pub(crate) passed: (u64, u64),
    /// When the next deadline is looked at.
    alarm: Option<Time>,
}

impl Conn {
    pub(crate) const fn new(facts: Facts, client: Box<client::Session>, talk: Talk) -> Self {
        Self {
            facts,
            client: Some(client),
            client_in: Vec::new(),
            content: Vec::new(),
            talk,
            server_in: Vec::new(),
            body: Vec::new(),
            arrival: (Time::EPOCH, Time::EPOCH),
            passed: (0, 0),
            alarm: None,
        }
    }

    pub(crate) fn touches(&self, relay: RelayId) -> bool {
        let is_caller = matches!(self.facts.caller, Caller::Relay { relay: by, .. } if by == relay);
        is_caller || self.facts.callee == Callee::Relay(relay)
    }
}

impl World {
    /// Sends octets to an end of a connection; they arrive in order, after its latency.
    pub(crate) fn send(&mut self, conn: &mut Conn, to: Side, octets: Vec<u8>) {
        if octets.is_empty() {
            return;
        }
        let when = self.arrival(conn, to);
        let length = octets.len() as u64;
        match to {
            Side::Client => conn.passed.0 += length,
            Side::Server => conn.passed.1 += length,
        }
        self.later(when, Happening::Octets { conn: conn.facts.id, to, octets });
    }

    /// Tells an end that the other one has closed.
    pub(crate) fn send_close(&mut self, conn: &mut Conn, to: Side) {
        let when = self.arrival(conn, to);
        self.later(when, Happening::Closed { conn: conn.facts.id, to });
    }

    fn arrival(&mut self, conn: &mut Conn, to: Side) -> Time {
        let latest = match to {
            Side::Client => &mut conn.arrival.0,
            Side::Server => &mut conn.arrival.1,
        };
        *latest = (self.now + conn.facts.latency).max(*latest);
        *latest
    }

    /// Cuts a connection: nothing more arrives at either end but the news.
    pub(crate) fn cut(&mut self, conn: &mut Conn) {
        conn.talk = Talk::Gone;
        self.later(self.now, Happening::Closed { conn: conn.facts.id, to: Side::Client });
    }

    /// Octets have arrived.
    pub(crate) fn arrived(&mut self, id: ConnId, to: Side, octets: &[u8]) {
        let Some(mut conn) = self.conns.remove(&id) else { return };
        match to {
            Side::Client => {
                conn.client_in.extend_from_slice(octets);
                self.pump_client(&mut conn);
            }
            Side::Server => {
                conn.server_in.extend_from_slice(octets);
                self.pump_server(&mut conn);
            }
        }
        self.keep(conn);
    }

    /// The other end has closed.
    pub(crate) fn closed(&mut self, id: ConnId, to: Side) {
        let Some(mut conn) = self.conns.remove(&id) else { return };
        match to {
            Side::Client => {
                if let Some(client) = &mut conn.client {
                    client.handle(self.now, client::Input::Closed);
                }
                self.pump_client(&mut conn);
            }
            Side::Server => {
                if let Talk::Smtp(session) = &mut conn.talk {
                    session.handle(self.now, server::Input::Closed);
                }
                self.pump_server(&mut conn);
                conn.talk = Talk::Gone;
            }
        }
        self.keep(conn);
    }

    /// A deadline may have passed.
    pub(crate) fn timer(&mut self, id: ConnId) {
        let Some(mut conn) = self.conns.remove(&id) else { return };
        conn.alarm = None;
        if let Some(client) = &mut conn.client
            && client.deadline().is_some_and(|at| at <= self.now)
        {
            client.handle(self.now, client::Input::Timeout);
            self.pump_client(&mut conn);
        }
        if let Talk::Smtp(session) = &mut conn.talk
            && session.deadline().is_some_and(|at| at <= self.now)
        {
            session.handle(self.now, server::Input::Timeout);
            self.pump_server(&mut conn);
        }
        self.keep(conn);
    }

    /// Puts a connection back, with an alarm for its next deadline; forgets it when both ends are
    /// closed.
    pub(crate) fn keep(&mut self, mut conn: Conn) {
        let server = match &conn.talk {
            Talk::Smtp(session) => session.deadline(),
            Talk::Broken { .. } | Talk::Gone | Talk::Silent => None,
        };
        let client = conn.client.as_ref().and_then(|client| client.deadline());
        if let Some(when) = [server, client].into_iter().flatten().min()
            && conn.alarm.is_none_or(|alarm| alarm > when)
        {
            conn.alarm = Some(when);
            self.later(when, Happening::Timer { conn: conn.facts.id });
        }
        if conn.client.is_some() || !matches!(conn.talk, Talk::Gone) {
            self.conns.insert(conn.facts.id, conn);
        }
    }
}
