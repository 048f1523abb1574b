//! What the server's end of a connection does: hosts with habits, and our relays.
//!
//! Pure: decisions come from the seed and from the machines under test.

use std::time::Duration;

use merpati_flow::admit::{self, Room};
use merpati_mail::{Envelope, Reply, Stage, Time, Verdict, stage::Decision};
use merpati_smtp::server::{Input, Output, Session};
use merpati_spool::{Level, Spool as _};

use crate::{
    conn::{Callee, Caller, Conn, Cut, Facts, Side, Talk},
    mark::Mark,
    mutant::Mutant,
    plan::{self, Habit},
    world::World,
};

/// What is to be done at the end of data.
enum Fate {
    Cut,
    Later,
    Now(Verdict),
    Taken,
}

/// What came of handing octets to a session.
#[derive(Default)]
struct Turn {
    is_closing: bool,
    is_cut: bool,
    is_idle: bool,
    sends: Vec<Vec<u8>>,
}

impl Turn {
    fn answer(&mut self, session: &mut Session, now: Time, input: Input<'_>) {
        session.handle(now, input);
        self.is_idle = false;
    }
}

impl World {
    /// Lets the server's end go on as far as it can.
    pub(crate) fn pump_server(&mut self, conn: &mut Conn) {
        match &mut conn.talk {
            Talk::Smtp(_) => self.pump_session(conn),
            Talk::Broken { step } => {
                *step += 1;
                let reply = babble(*step).to_vec();
                conn.server_in.clear();
                self.send(conn, Side::Client, reply);
            }
            Talk::Gone | Talk::Silent => conn.server_in.clear(),
        }
    }

    fn pump_session(&mut self, conn: &mut Conn) {
        self.old_fashioned(conn);
        let facts = conn.facts;
        loop {
            let Talk::Smtp(session) = &mut conn.talk else { return };
            let consumed = session.handle(self.now, Input::Octets(&conn.server_in));
            let mut turn = Turn { is_idle: consumed == 0, ..Turn::default() };
            while let Some(output) = session.poll() {
                let input = (&conn.server_in[..], &mut conn.body);
                self.react(&facts, (session, &mut turn), input, output);
                if turn.is_cut {
                    return self.cut(conn);
                }
            }
            conn.server_in.drain(..consumed);
            if self.emit(conn, turn.sends) {
                return self.cut(conn);
            }
            if turn.is_closing {
                self.send_close(conn, Side::Client);
                conn.talk = Talk::Gone;
                return;
            }
            if turn.is_idle || conn.server_in.is_empty() {
                return;
            }
        }
    }

    /// Does what a session wants done.
    fn react(
        &mut self,
        facts: &Facts,
        (session, turn): (&mut Session, &mut Turn),
        (octets, body): (&[u8], &mut Vec<u8>),
        output: Output,
    ) {
        match output {
            Output::Ask(stage) => match self.verdict(facts, &stage) {
                Some(verdict) => turn.answer(session, self.now, Input::Verdict(verdict)),
                None => turn.is_cut = true,
            },
            Output::Body(range) => {
                body.extend(octets.get(range).unwrap_or_default());
                let length = body.len() as u64;
                turn.is_cut = matches!(facts.cut, Some(Cut::InContent(end)) if length >= end);
            }
            Output::BodyDropped => body.clear(),
            Output::BodyEnd(envelope) => {
                match self.end_of_data(facts, &envelope, std::mem::take(body)) {
                    Fate::Cut => turn.is_cut = true,
                    Fate::Later => {}
                    Fate::Now(verdict) => {
                        turn.answer(session, self.now, Input::Verdict(verdict));
                    }
                    Fate::Taken => {
                        let id = self.next_host_id();
                        turn.answer(session, self.now, Input::Committed(id));
                    }
                }
            }
            Output::Close => turn.is_closing = true,
            Output::Send(octets) => turn.sends.push(octets),
            Output::Question(_) | Output::StartTls => {}
        }
    }

    /// Sends replies; true where the host cuts the connection in the midst of them.
    fn emit(&mut self, conn: &mut Conn, sends: Vec<Vec<u8>>) -> bool {
        for mut octets in sends {
            if matches!(conn.facts.habit, Habit::Old | Habit::Simple) {
                octets = without(&octets, b"PIPELINING");
            }
            if let Callee::Host(number) = conn.facts.callee
                && !plan::has_dsn(&plan::host_name(number))
            {
                octets = without(&octets, b"DSN");
            }
            if let Some(Cut::AfterOctetsOut(limit)) = conn.facts.cut {
                let room = limit.saturating_sub(conn.passed.0);
                if (octets.len() as u64) > room {
                    return true;
                }
            }
            self.send(conn, Side::Client, octets);
        }
        false
    }

    /// An old host does not know EHLO.
    fn old_fashioned(&mut self, conn: &mut Conn) {
        if conn.facts.habit == Habit::Old && conn.server_in.starts_with(b"EHLO ") {
            conn.server_in.clear();
            self.ledger.marks.insert(Mark::HeloOnly);
            self.send(conn, Side::Client, b"502 5.5.1 what is EHLO\r\n".to_vec());
        }
    }

    /// The answer to a question of a session; `None`: the connection is cut.
    fn verdict(&mut self, facts: &Facts, stage: &Stage) -> Option<Verdict> {
        match facts.callee {
            Callee::Host(number) => self.host_verdict(number, facts, stage),
            Callee::Relay(relay) => {
                let node = self.nodes.get(relay)?;
                if !node.is_up() {
                    return None;
                }
                let room = match node.spool.pressure().level {
                    Level::Roomy => Room::Roomy,
                    Level::OutcomesOnly | Level::Full => Room::Full,
                };
                let asked = admit::Facts {
                    peer: facts.from,
                    credential: None,
                    room,
                    reverse_path: None,
                    now: self.now,
                };
                let mut verdict = admit::decide(&node.policy, &asked, stage);
                if self.mutant == Some(Mutant::OpenRelay) {
                    verdict = Verdict::accept("open");
                }
                self.watch(facts, stage, &verdict);
                Some(verdict)
            }
        }
    }

    /// What must hold of the answers of a relay.
    fn watch(&mut self, facts: &Facts, stage: &Stage, verdict: &Verdict) {
        if verdict.rule == "spool-full" {
            self.ledger.marks.insert(Mark::SpoolFull);
        }
        let Stage::Recipient { path, .. } = stage else { return };
        let Caller::Submitter { mail } = facts.caller else { return };
        let is_stranger = self.mails.get(mail).is_some_and(|mail| mail.is_stranger);
        if !is_stranger || path.to_string().ends_with("@home.example>") {
            return;
        }
        if verdict.decision == Decision::Accept {
            self.ledger.wrong(self.now, format!("a stranger may send to {path}"));
        } else {
            self.ledger.marks.insert(Mark::RelayDenied);
        }
    }

    fn host_verdict(&mut self, number: u8, facts: &Facts, stage: &Stage) -> Option<Verdict> {
        let is_cut = matches!(
            (facts.cut, stage),
            (Some(Cut::AtConnect), Stage::Connect)
                | (Some(Cut::AtMail), Stage::Mail { .. })
                | (Some(Cut::AtRecipient), Stage::Recipient { .. })
        );
        if is_cut {
            return None;
        }
        if facts.habit == Habit::Throttling && self.draw.chance(20) {
            self.ledger.marks.insert(Mark::Throttled);
            let reply = Reply::new(421, (4, 7, 28), "unusual rate, slow down");
            return Some(Verdict::disconnect("throttle", reply));
        }
        let Stage::Recipient { path, accepted_before } = stage else {
            return Some(Verdict::accept("host"));
        };
        let address = path.to_string();
        if address.starts_with("<no@") {
            let reply = Reply::new(550, (5, 1, 1), "no such user");
            return Some(Verdict::refuse("unknown", reply));
        }
        if address.starts_with("<full@") && !self.is_calm {
            let reply = Reply::new(452, (4, 2, 2), "mailbox full");
            return Some(Verdict::refuse("full", reply));
        }
        match facts.habit {
            Habit::Few if *accepted_before >= 3 => {
                let reply = Reply::new(452, (4, 5, 3), "too many recipients");
                Some(Verdict::refuse("few", reply))
            }
            Habit::Greylisting => Some(self.greylist(number, &address)),
            Habit::Ambiguous
            | Habit::Broken
            | Habit::Cutting
            | Habit::Few
            | Habit::Good
            | Habit::Old
            | Habit::Silent
            | Habit::Simple
            | Habit::Throttling => Some(Verdict::accept("host")),
        }
    }

    fn greylist(&mut self, number: u8, address: &str) -> Verdict {
        let now = self.now;
        let seen = *self.greylisted.entry((number, address.to_owned())).or_insert(now);
        if self.now.since(seen) < Duration::from_mins(10) {
            let reply = Reply::new(450, (4, 7, 1), "greylisted, come back later");
            return Verdict::refuse("greylist", reply);
        }
        self.ledger.marks.insert(Mark::Greylisted);
        Verdict::accept("host")
    }

    fn end_of_data(&mut self, facts: &Facts, envelope: &Envelope, content: Vec<u8>) -> Fate {
        match facts.callee {
            Callee::Host(_) => {
                for recipient in &envelope.recipients {
                    self.ledger.delivered(self.now, &recipient.path.to_string(), &content);
                }
                if facts.cut == Some(Cut::AtEndOfData) { Fate::Cut } else { Fate::Taken }
            }
            Callee::Relay(relay) => {
                let Some(node) = self.nodes.get(relay) else { return Fate::Cut };
                let head = admit::Head::of(&content, content.len() as u64);
                let verdict = admit::content(&node.policy, None, &head);
                if verdict.decision != Decision::Accept {
                    return Fate::Now(verdict);
                }
                self.take_over(relay, facts.id, envelope.clone(), content);
                Fate::Later
            }
        }
    }
}

/// Replies without the lines that name an extension.
fn without(octets: &[u8], extension: &[u8]) -> Vec<u8> {
    let lines = octets.split_inclusive(|&octet| octet == b'\n');
    lines
        .filter(|line| line.get(4..).is_none_or(|text| !text.starts_with(extension)))
        .flatten()
        .copied()
        .collect()
}

/// Something like SMTP.
const fn babble(step: u64) -> &'static [u8] {
    match step % 5 {
        0 => b"220 hello\r\n",
        1 => b"250-what\r\n250 ever\r\n",
        2 => b"250 ok\r\n250 ok\r\n250 ok\r\n",
        3 => b"999 is no reply\r\n",
        _ => b"354 go on\r\nno code\r\n",
    }
}
