//! How a transaction goes: MAIL, RCPT, DATA, content, and who has it in the end.
//!
//! Invariant: `Delivered` is said only for a positive reply that arrived after the end of data was
//! handed out, for a recipient that was accepted. Pure.

use merpati_mail::{
    Reply, Time,
    outcome::{Fact, Finding, Phase},
};

use super::{
    Dialect, EARLY_REPLY, Extension, Output, Pipelining, Session, State,
    transaction::{
        ConnectionUse, Goal, RecipientResult, Run, Step, Transaction, TransactionResult, refused,
    },
};

impl Session {
    pub(super) fn start(&mut self, now: Time, transaction: Transaction, goal: Goal) {
        let connection =
            if self.transactions == 0 { ConnectionUse::Fresh } else { ConnectionUse::Reused };
        let refusal = match &self.state {
            State::Ready => None,
            State::Over(finding) | State::Quit(finding) => {
                Some(RecipientResult::NotDelivered(finding.clone()))
            }
            State::Auth(_)
            | State::Commands(_)
            | State::Content(_)
            | State::EndOfData(_)
            | State::Greeting
            | State::Handshake
            | State::Hello(_)
            | State::LoneDot
            | State::Reset
            | State::StartTls => Some(RecipientResult::TryAgainHere),
        };
        if let Some(result) = refusal {
            let results = refused(&transaction, connection, &result);
            return self.outputs.push_back(Output::Results(results));
        }
        let deadline = now + self.options.timeouts.transaction;
        let world = (&self.options, &self.capabilities);
        let run = Box::new(Run::new((transaction, goal), connection, (now, deadline), world));
        self.state = if !self.reader.is_idle() {
            let fact = Fact::Protocol(EARLY_REPLY.to_owned());
            self.end_run(*run, Finding { phase: Phase::Mail, fact })
        } else if run.is_settled() {
            self.outputs.push_back(Output::Results(run.result(&self.capabilities)));
            self.become_ready(now)
        } else {
            self.transactions = self.transactions.saturating_add(1);
            self.command(now, run)
        };
    }

    /// Notes the reply to the awaited command of the transaction.
    pub(super) fn command_answered(&mut self, now: Time, mut run: Box<Run>, reply: Reply) -> State {
        let phase = run.phase();
        let nonsense = format!("this reply makes no sense here: {reply}");
        let makes_sense = match run.answer() {
            Some(Step::Mail) => run.mail_answered(reply),
            Some(Step::Recipient(at)) => run.recipient_answered(at, reply),
            Some(Step::Data) if !reply.is_positive() => return self.data_answered(now, run, reply),
            Some(Step::Data) | None => false,
        };
        if !makes_sense {
            let finding = Finding { phase, fact: Fact::Protocol(nonsense) };
            return self.end_run(*run, finding);
        }
        if run.is_waiting_for_reply() {
            self.await_command(now, &run);
            return State::Commands(run);
        }
        if run.awaited().is_none() {
            run.settle_accepted(&RecipientResult::Verified);
        }
        // In lock-step nothing more is said for a message that nobody can get.
        let is_for_nobody = run.awaited() == Some(Step::Data) && !run.has_accepted();
        if run.is_settled() || is_for_nobody {
            return self.abandon(now, *run);
        }
        self.command(now, run)
    }

    /// 354, or a refusal of DATA.
    fn data_answered(&mut self, now: Time, mut run: Box<Run>, reply: Reply) -> State {
        if !reply.is_intermediate() {
            run.settle(&Finding { phase: Phase::Data, fact: Fact::Replied(reply) });
            return self.abandon(now, *run);
        }
        if run.has_accepted() {
            self.deadline = Some((now + self.options.timeouts.data_block).min(run.deadline));
            self.outputs.push_back(Output::NeedBody);
            return State::Content(run);
        }
        match self.options.dialect {
            // RFC 2920 §3.1: the message that nobody is to get is empty.
            Dialect::Smtp => {
                self.outputs.push_back(Output::Results(run.result(&self.capabilities)));
                self.send(now, b".\r\n".to_vec(), self.options.timeouts.end_of_data);
                State::LoneDot
            }
            // RFC 2033 §4.2 has one reply for each accepted recipient, so none here, but for such a
            // message 503 and not 354. Nobody can tell how many replies this peer will send.
            Dialect::Lmtp => {
                let fact = Fact::Protocol("content is wanted for nobody".to_owned());
                self.end_run(*run, Finding { phase: Phase::Data, fact })
            }
        }
    }

    /// The convenient way of content: stuffed into one output.
    pub(super) fn body_copied(&mut self, now: Time, piece: &[u8]) {
        let mut octets = Vec::with_capacity(piece.len());
        self.body(now, piece, &mut |slice| octets.extend_from_slice(slice));
        if matches!(self.state, State::Content(_)) && !octets.is_empty() {
            self.outputs.push_back(Output::Send(octets));
        }
    }

    pub(super) fn body_end(&mut self, now: Time) {
        if !matches!(self.state, State::Content(_)) {
            return;
        }
        // K16: what is there before the end of data goes out cannot be the reply to it.
        if !self.reader.is_idle() {
            return self.give_up(Fact::Protocol(EARLY_REPLY.to_owned()));
        }
        let State::Content(run) = self.take_state() else { return };
        let mut octets = Vec::new();
        self.state = match run.stuffer.end(&mut |slice| octets.extend_from_slice(slice)) {
            Ok(()) => {
                self.send(now, octets, self.options.timeouts.end_of_data);
                State::EndOfData(run)
            }
            Err(error) => {
                let fact = Fact::Protocol(error.to_string());
                self.end_run(*run, Finding { phase: Phase::Content, fact })
            }
        };
    }

    pub(super) fn end_of_data_answered(
        &mut self,
        now: Time,
        mut run: Box<Run>,
        reply: Reply,
    ) -> State {
        let phase = Phase::EndOfData;
        let result = if reply.is_positive() {
            RecipientResult::Delivered(reply)
        } else if reply.is_intermediate() {
            let fact = Fact::Protocol(format!("this reply makes no sense here: {reply}"));
            return self.end_run(*run, Finding { phase, fact });
        } else {
            RecipientResult::NotDelivered(Finding { phase, fact: Fact::Replied(reply) })
        };
        match self.options.dialect {
            Dialect::Lmtp => run.settle_next(result),
            Dialect::Smtp => run.settle_accepted(&result),
        }
        if run.has_accepted() {
            self.deadline = Some(now + self.options.timeouts.end_of_data);
            return State::EndOfData(run);
        }
        self.report(run.result(&self.capabilities));
        self.become_ready(now)
    }

    /// Sends the next commands of the transaction.
    fn command(&mut self, now: Time, mut run: Box<Run>) -> State {
        let is_pipelined = self.options.pipelining == Pipelining::WhereOffered
            && self.capabilities.offers(Extension::Pipelining);
        let octets = run.commands(is_pipelined, &self.capabilities);
        self.send(now, octets, self.options.timeouts.mail);
        self.await_command(now, &run);
        State::Commands(run)
    }

    fn await_command(&mut self, now: Time, run: &Run) {
        let timeouts = &self.options.timeouts;
        let wait = match run.awaited() {
            Some(Step::Mail) => timeouts.mail,
            Some(Step::Recipient(_)) => timeouts.recipient,
            Some(Step::Data) | None => timeouts.data_init,
        };
        self.deadline = Some((now + wait).min(run.deadline));
    }

    /// Ends a transaction before its content; the peer forgets it where it had begun.
    fn abandon(&mut self, now: Time, run: Run) -> State {
        let is_open = run.is_open();
        self.report(run.result(&self.capabilities));
        if is_open {
            self.send(now, b"RSET\r\n".to_vec(), self.options.timeouts.hello);
            State::Reset
        } else {
            self.become_ready(now)
        }
    }

    fn report(&mut self, result: TransactionResult) {
        self.outputs.push_back(Output::Results(result));
    }
}
