//! What the client's end of a connection does: submitters, and the attempts of our relays.
//!
//! Pure.

use std::time::Duration;

use merpati_flow::{
    Dialect, Finding, Handover, Input, Job, JobId, Report, Tried,
    outcome::{self, Terms},
};
use merpati_mail::{
    BodyType, EgressPath, QueueId, Recipient, Requests, Time,
    envelope::Utf8,
    outcome::{Fact, Finding as Found, Need, Phase},
    route::{Endpoint, Remote},
};
use merpati_smtp::{
    client::{self, EightBit, Output, RecipientResult, Transaction, TransactionResult},
    server,
};
use merpati_spool::{Spool as _, StoredBody};

use crate::{
    conn::{Callee, Caller, Conn, ConnId, Cut, Facts, Side, Talk},
    ledger::RelayId,
    mails,
    mark::Mark,
    mutant::Mutant,
    plan::{self, Habit},
    world::{Happening, World},
};

/// An attempt that goes on.
#[derive(Debug)]
pub(crate) struct Outbound {
    job: Job,
    target: usize,
    began: Time,
    findings: Vec<(u32, Finding)>,
    /// Recipients of whom nothing final is known.
    left: Vec<(u32, Recipient)>,
    last: Option<Found>,
}

impl World {
    /// Begins an attempt.
    pub(crate) fn begin(&mut self, relay: RelayId, mut job: Job) {
        if self.mutant == Some(Mutant::UnshuffledMx) {
            job.targets.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        }
        let is_spread = |(_, r): &(u32, Recipient)| r.path.to_string().contains(plan::SPREAD);
        if job.targets.len() > 1
            && job.recipients.iter().all(is_spread)
            && let Some(first) = job.targets.first()
        {
            self.ledger.chosen(&first.endpoint.to_string());
        }
        let id = job.id;
        let left = job.recipients.clone();
        let outbound =
            Outbound { job, target: 0, began: self.now, findings: Vec::new(), left, last: None };
        if let Some(node) = self.nodes.get_mut(relay) {
            node.jobs.insert(id, outbound);
        }
        self.call(relay, id);
    }

    /// Calls the host whose turn it is, or ends the attempt where none is left.
    fn call(&mut self, relay: RelayId, id: JobId) {
        let Some(node) = self.nodes.get_mut(relay) else { return };
        let Some(outbound) = node.jobs.get(&id) else { return };
        let Some(target) = outbound.job.targets.get(outbound.target) else {
            return self.report(relay, id);
        };
        if outbound.target > 0 {
            self.ledger.marks.insert(Mark::NextHost);
        }
        let called = callee(&target.endpoint);
        let us = Caller::Relay { relay, generation: node.generation, job: id };
        let is_there = match called {
            Some(Callee::Relay(other)) => self.is_listening(other),
            Some(Callee::Host(_)) => true,
            None => false,
        };
        if let (Some(called), true) = (called, is_there) {
            self.connect(us, called, plan::relay_address(relay), &plan::relay_name(relay));
        } else {
            let fact = Fact::Unreachable("connection refused".to_owned());
            self.next_target(relay, id, &Found { phase: Phase::Connect, fact });
        }
    }

    /// Opens a connection.
    pub(crate) fn connect(
        &mut self,
        who: Caller,
        called: Callee,
        from: std::net::IpAddr,
        hello: &str,
    ) {
        let (habit, latency) = self.manners(called);
        let id = self.next_conn();
        let cut = self.cut_of(habit);
        let facts = Facts { id, caller: who, callee: called, from, habit, latency, cut };
        let mut options = client::Options::new(plan::domain(hello));
        options.tls = client::TlsUse::Never;
        if matches!(who, Caller::Submitter { .. }) {
            // Those that stall outwait us.
            options.timeouts.data_block = Duration::from_hours(1);
        }
        let client = Box::new(client::Session::new(self.now, options));
        let address = std::net::SocketAddr::new(from, 40_000);
        let talk = match (habit, called) {
            (Habit::Silent, _) => Talk::Silent,
            (Habit::Broken, _) => Talk::Broken { step: self.draw.below(5) },
            (_, Callee::Host(number)) => {
                let name = plan::host_name(number);
                let options = std::sync::Arc::new(server::Options::new("host", name));
                Talk::Smtp(Box::new(server::Session::new(self.now, options, address, None)))
            }
            (_, Callee::Relay(relay)) => {
                let Some(node) = self.nodes.get(relay) else { return };
                let options = std::sync::Arc::clone(&node.server);
                Talk::Smtp(Box::new(server::Session::new(self.now, options, address, None)))
            }
        };
        if matches!(habit, Habit::Simple | Habit::Old) {
            self.ledger.marks.insert(Mark::LockStep);
        }
        let mut conn = Conn::new(facts, client, talk);
        self.pump_server(&mut conn);
        self.pump_client(&mut conn);
        self.keep(conn);
    }

    fn manners(&mut self, callee: Callee) -> (Habit, Duration) {
        let Callee::Host(number) = callee else { return (Habit::Good, Duration::from_millis(2)) };
        let host = plan::HOSTS.iter().find(|(other, ..)| *other == number);
        let (habit, millis) = host.map_or((Habit::Good, 10), |&(_, habit, millis)| (habit, millis));
        let is_odd_now = match habit {
            Habit::Ambiguous | Habit::Silent => self.draw.chance(50),
            Habit::Cutting | Habit::Broken => self.draw.chance(70),
            Habit::Few
            | Habit::Good
            | Habit::Greylisting
            | Habit::Old
            | Habit::Simple
            | Habit::Throttling => true,
        };
        let habit = if self.is_calm || !is_odd_now { Habit::Good } else { habit };
        (habit, Duration::from_millis(millis / 2))
    }

    fn cut_of(&mut self, habit: Habit) -> Option<Cut> {
        match habit {
            Habit::Ambiguous => Some(Cut::AtEndOfData),
            Habit::Cutting => Some(match self.draw.below(6) {
                0 => Cut::AtConnect,
                1 => Cut::AtMail,
                2 => Cut::AtRecipient,
                3 => Cut::InContent(1 + self.draw.below(300)),
                4 => Cut::AtEndOfData,
                _ => Cut::AfterOctetsOut(self.draw.below(500)),
            }),
            Habit::Broken
            | Habit::Few
            | Habit::Good
            | Habit::Greylisting
            | Habit::Old
            | Habit::Silent
            | Habit::Simple
            | Habit::Throttling => None,
        }
    }

    /// Lets the client's end go on as far as it can.
    pub(crate) fn pump_client(&mut self, conn: &mut Conn) {
        let Some(mut client) = conn.client.take() else { return };
        if !self.is_current_caller(conn.facts.caller) {
            return;
        }
        let mut is_closed = false;
        loop {
            while let Some(output) = client.poll() {
                match output {
                    Output::Close => is_closed = true,
                    Output::Failed(found) => self.failed(conn.facts.caller, found),
                    Output::NeedBody => self.send_content(conn, &mut client),
                    Output::Ready => self.next_transaction(conn, &mut client),
                    Output::Results(results) => self.results(conn.facts.caller, results),
                    Output::Send(octets) => self.send(conn, Side::Server, octets),
                    Output::StartTls => {
                        let why = "no TLS in this world".to_owned();
                        client.handle(self.now, client::Input::TlsFailed(why));
                    }
                }
            }
            if conn.client_in.is_empty() {
                break;
            }
            let used = client.handle(self.now, client::Input::Octets(&conn.client_in));
            conn.client_in.drain(..used);
            if used == 0 {
                break;
            }
        }
        while let Some(output) = client.poll() {
            is_closed |= output == Output::Close;
        }
        if is_closed {
            self.send_close(conn, Side::Server);
            self.hung_up(conn.facts.caller);
        } else {
            conn.client = Some(client);
        }
    }

    /// Sends the first half of the content now, and the rest a little later.
    fn send_content(&mut self, conn: &mut Conn, client: &mut client::Session) {
        let half = conn.content.len() / 2;
        let rest = conn.content.split_off(half);
        self.send_piece(conn, client);
        conn.content = rest;
        let mail = match conn.facts.caller {
            Caller::Submitter { mail } => self.mails.get(mail),
            Caller::Relay { .. } => None,
        };
        if mail.is_none_or(|mail| !mail.is_stalling) {
            let when = self.now + conn.facts.latency * 3 + Duration::from_millis(1);
            self.later(when, Happening::More { conn: conn.facts.id });
        }
    }

    /// Sends the rest of the content.
    pub(crate) fn more(&mut self, id: ConnId) {
        let Some(mut conn) = self.conns.remove(&id) else { return };
        if let Some(mut client) = conn.client.take() {
            self.send_piece(&mut conn, &mut client);
            client.handle(self.now, client::Input::BodyEnd);
            conn.client = Some(client);
        }
        self.pump_client(&mut conn);
        self.keep(conn);
    }

    fn send_piece(&mut self, conn: &mut Conn, client: &mut client::Session) {
        let content = std::mem::take(&mut conn.content);
        let mut octets = Vec::new();
        for piece in content.chunks(1_000) {
            client.body(self.now, piece, &mut |slice| octets.extend_from_slice(slice));
        }
        for segment in octets.chunks(1_460) {
            self.send(conn, Side::Server, segment.to_vec());
        }
    }

    fn next_transaction(&mut self, conn: &mut Conn, client: &mut client::Session) {
        let next = match conn.facts.caller {
            Caller::Submitter { mail } => self.submission(mail),
            Caller::Relay { relay, job, .. } => self.transaction(relay, job),
        };
        match next {
            Some((transaction, content)) => {
                conn.content = content;
                client.handle(self.now, client::Input::Start(transaction));
            }
            None => {
                client.handle(self.now, client::Input::Quit);
            }
        }
    }

    fn submission(&mut self, mail: usize) -> Option<(Transaction, Vec<u8>)> {
        if !self.submitted.insert(mail) {
            return None;
        }
        let mail = self.mails.get(mail)?;
        let recipients = (0u32..).zip(mail.to.iter().cloned()).collect();
        let transaction = Transaction {
            id: QueueId::from_bits(0),
            reverse_path: mail.from.clone(),
            recipients,
            size_octets: mail.content.len() as u64,
            body: BodyType::EightBitMime,
            eight_bit: eight_bit(&mail.content),
            utf8: Utf8::NotDeclared,
            header: EightBit::Absent,
            ret: None,
            envid: None,
            requests: Requests::default(),
        };
        Some((transaction, mail.content.clone()))
    }

    /// What is left of an attempt, as a transaction; `None` where nothing is.
    fn transaction(&mut self, relay: RelayId, id: JobId) -> Option<(Transaction, Vec<u8>)> {
        let node = self.nodes.get_mut(relay)?;
        let outbound = node.jobs.get(&id).filter(|outbound| !outbound.left.is_empty())?;
        let accepted = &outbound.job.message.accepted;
        let StoredBody::Bytes(body) = node.spool.read(accepted.id).ok()?.body else { return None };
        let mut content: Vec<u8> = accepted.edits.slices(&body).flatten().copied().collect();
        if self.mutant == Some(Mutant::Unstuffed) {
            content = undotted(&content);
        }
        let transaction = Transaction {
            id: accepted.id,
            reverse_path: accepted.envelope.reverse_path.clone(),
            recipients: outbound.left.clone(),
            size_octets: content.len() as u64,
            body: accepted.envelope.body,
            eight_bit: eight_bit(&content),
            utf8: accepted.envelope.utf8,
            header: EightBit::Absent,
            ret: None,
            envid: None,
            requests: accepted.envelope.requests.clone(),
        };
        Some((transaction, content))
    }

    fn results(&mut self, caller: Caller, results: TransactionResult) {
        match caller {
            Caller::Submitter { mail } => self.submitted(mail, &results.recipients),
            Caller::Relay { relay, job, .. } => {
                self.notice(relay, job, &results.recipients);
                self.attempted(relay, job, results);
            }
        }
    }

    fn submitted(&mut self, mail: usize, results: &[(u32, RecipientResult)]) {
        let Some(mail) = self.mails.get(mail) else { return };
        let mut taken = Vec::new();
        for (place, result) in results {
            let recipient = usize::try_from(*place).ok().and_then(|at| mail.to.get(at));
            match (result, recipient) {
                (RecipientResult::Delivered(_), Some(to)) => taken.push(to.path.to_string()),
                (RecipientResult::NotDelivered(found), _) => {
                    let is_too_large = matches!(&found.fact, Fact::Lacks(Need::Size))
                        || matches!(&found.fact, Fact::Replied(reply) if reply.code == 552);
                    let is_told = matches!(&found.fact, Fact::Replied(reply) if reply.code == 421);
                    if is_too_large {
                        self.ledger.marks.insert(Mark::TooLarge);
                    }
                    if is_told && mail.is_stalling {
                        self.ledger.marks.insert(Mark::SubmitterTimedOut);
                    }
                }
                (
                    RecipientResult::Delivered(_)
                    | RecipientResult::TryAgainHere
                    | RecipientResult::Verified,
                    _,
                ) => {}
            }
        }
        if !taken.is_empty() {
            self.ledger.acknowledged(self.now, 0, &mail.token, &taken);
        }
    }

    fn notice(&mut self, relay: RelayId, id: JobId, results: &[(u32, RecipientResult)]) {
        let outbound = self.nodes.get(relay).and_then(|node| node.jobs.get(&id));
        let token = outbound.and_then(|o| mails::token(&o.job.message.header));
        let marks = &mut self.ledger.marks;
        let mut is_ambiguous = false;
        for (_, result) in results {
            let found = match result {
                RecipientResult::Delivered(_) | RecipientResult::Verified => continue,
                RecipientResult::TryAgainHere => {
                    marks.insert(Mark::TooManyRecipients);
                    continue;
                }
                RecipientResult::NotDelivered(found) => found,
            };
            match (&found.fact, found.phase) {
                (Fact::Cut | Fact::TimedOut, Phase::EndOfData) => is_ambiguous = true,
                (Fact::Cut, Phase::Content) => drop(marks.insert(Mark::CutInContent)),
                (Fact::Cut, Phase::Mail | Phase::Recipient | Phase::Data) => {
                    marks.insert(Mark::CutBeforeContent);
                }
                (Fact::Protocol(_), _) => drop(marks.insert(Mark::ProtocolBroken)),
                _ => {}
            }
        }
        if is_ambiguous && let Some(token) = token {
            self.ledger.ambiguous(&token);
        }
        let is_via = outbound_is_via(results) && relay == 0;
        let is_relayed =
            self.nodes.get(relay).and_then(|node| node.jobs.get(&id)).is_some_and(|o| {
                o.job
                    .targets
                    .first()
                    .is_some_and(|t| t.endpoint.host() == plan::domain(&plan::relay_name(1)))
            });
        if is_via && is_relayed {
            self.ledger.marks.insert(Mark::TwoRelays);
        }
    }

    fn attempted(&mut self, relay: RelayId, id: JobId, results: TransactionResult) {
        let mutant = self.mutant;
        let Some(node) = self.nodes.get_mut(relay) else { return };
        let Some(outbound) = node.jobs.get_mut(&id) else { return };
        let is_last = outbound.target + 1 >= outbound.job.targets.len();
        let is_believed = mutant == Some(Mutant::SuccessUntold);
        let handover = Handover::of(Dialect::Smtp, results.is_dsn_offered || is_believed);
        for (place, result) in results.recipients {
            let finding = match result {
                RecipientResult::Delivered(reply) => Finding::Delivered(reply, handover),
                RecipientResult::TryAgainHere | RecipientResult::Verified => Finding::TryAgain,
                RecipientResult::NotDelivered(found) => {
                    if outcome::tries_next_host(&found) && !is_last {
                        outbound.last = Some(found);
                        continue;
                    }
                    bent(found, mutant)
                }
            };
            outbound.left.retain(|(other, _)| *other != place);
            outbound.findings.push((place, finding));
        }
    }

    /// A connection of ours has ended without a transaction.
    fn failed(&mut self, caller: Caller, found: Found) {
        if let Caller::Relay { relay, job, .. } = caller {
            match &found.fact {
                Fact::Cut => drop(self.ledger.marks.insert(Mark::CutBeforeContent)),
                Fact::Protocol(_) => drop(self.ledger.marks.insert(Mark::ProtocolBroken)),
                Fact::TimedOut => drop(self.ledger.marks.insert(Mark::PeerTimedOut)),
                Fact::Lacks(_)
                | Fact::NotConvertible(_)
                | Fact::Ourselves
                | Fact::Replied(_)
                | Fact::Tls(_)
                | Fact::Unreachable(_) => {}
            }
            let outbound = self.nodes.get_mut(relay).and_then(|node| node.jobs.get_mut(&job));
            if let Some(outbound) = outbound {
                outbound.last = Some(found);
            }
        }
    }

    /// A connection of ours is closed: the next host, or the end of the attempt.
    fn hung_up(&mut self, caller: Caller) {
        let Caller::Relay { relay, job, .. } = caller else { return };
        let Some(node) = self.nodes.get_mut(relay) else { return };
        let Some(outbound) = node.jobs.get_mut(&job) else { return };
        match outbound.last.take() {
            Some(found) if !outbound.left.is_empty() => self.next_target(relay, job, &found),
            _ => self.report(relay, job),
        }
    }

    fn next_target(&mut self, relay: RelayId, id: JobId, found: &Found) {
        let mutant = self.mutant;
        let Some(node) = self.nodes.get_mut(relay) else { return };
        let Some(outbound) = node.jobs.get_mut(&id) else { return };
        let is_last = outbound.target + 1 >= outbound.job.targets.len();
        if is_last || !outcome::tries_next_host(found) {
            for (place, _) in std::mem::take(&mut outbound.left) {
                outbound.findings.push((place, bent(found.clone(), mutant)));
            }
            return self.report(relay, id);
        }
        outbound.target += 1;
        self.call(relay, id);
    }

    fn report(&mut self, relay: RelayId, id: JobId) {
        let Some(node) = self.nodes.get_mut(relay) else { return };
        let Some(outbound) = node.jobs.remove(&id) else { return };
        let at = outbound.target.min(outbound.job.targets.len().saturating_sub(1));
        let path = outbound.job.targets.get(at).map(|target| EgressPath {
            source: "default".to_owned(),
            host: target.endpoint.host(),
            address: Remote::Ip(std::net::SocketAddr::new(
                target.address.unwrap_or(plan::relay_address(1)),
                25,
            )),
        });
        let host = path.is_some().then_some(0);
        let findings = outbound.findings.into_iter().map(|(place, finding)| (place, finding, host));
        let report = Report {
            began: outbound.began,
            terms: Terms::default(),
            tried: path.map(|path| Tried { path, tls: None, policy: None }).into_iter().collect(),
            findings: findings.collect(),
        };
        if let Some(core) = node.core.as_mut() {
            core.handle(self.now, Input::Finished(id, Box::new(report)));
        }
        self.later(self.now, Happening::Pump { relay });
    }
}

/// What the mutants make of a finding.
fn bent(found: Found, mutant: Option<Mutant>) -> Finding {
    let is_lost = matches!(found.fact, Fact::Cut | Fact::TimedOut) && found.phase >= Phase::Content;
    match (mutant, &found.fact) {
        (Some(Mutant::AmbiguousIsDelivered), _) if is_lost => {
            let reply = merpati_mail::Reply::new(250, (2, 0, 0), "surely");
            Finding::Delivered(reply, Handover::Relayed)
        }
        (Some(Mutant::TransientIsFinal), Fact::Replied(reply)) if reply.is_transient() => {
            let mut reply = reply.clone();
            reply.code += 100;
            Finding::NotDelivered(Found { phase: found.phase, fact: Fact::Replied(reply) })
        }
        _ => Finding::NotDelivered(found),
    }
}

fn outbound_is_via(results: &[(u32, RecipientResult)]) -> bool {
    results.iter().any(|(_, result)| matches!(result, RecipientResult::Delivered(_)))
}

fn callee(endpoint: &Endpoint) -> Option<Callee> {
    let name = endpoint.host().to_string();
    if let Some(relay) = (0..plan::RELAYS).find(|&relay| name == plan::relay_name(relay)) {
        return Some(Callee::Relay(relay));
    }
    let number = name.strip_prefix("mx")?.strip_suffix(".sim.example")?.parse().ok()?;
    plan::HOSTS.iter().any(|(other, ..)| *other == number).then_some(Callee::Host(number))
}

fn eight_bit(content: &[u8]) -> EightBit {
    if content.is_ascii() { EightBit::Absent } else { EightBit::Present }
}

/// Content whose lines have lost a leading dot.
fn undotted(content: &[u8]) -> Vec<u8> {
    let lines = content.split_inclusive(|&octet| octet == b'\n');
    lines.flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect()
}
