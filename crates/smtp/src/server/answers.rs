//! How a session goes on when a question is answered, or nobody came.
//!
//! Invariant: an answer that does not fit the open question changes nothing, and a refusal without
//! a refusing reply is still a refusal. Pure.

use merpati_mail::stage::Decision;
use merpati_mail::{Priority, QueueId, Recipient, Reply, Time, Verdict};

use super::transaction::Transaction;
use super::{Channel, Discipline, Hello, HelloKind, Phase, Session, SessionEnd, Standing};

impl Session {
    pub(super) fn take_verdict(&mut self, now: Time, verdict: Verdict) {
        match std::mem::replace(&mut self.phase, Phase::Command) {
            Phase::Connect => {
                self.since = now;
                self.after_connect(verdict);
            }
            Phase::EndOfData => {
                self.since = now;
                // RFC 5321 §6.1: only a commit makes a message ours.
                if !self.has_refused(verdict) {
                    self.refuse("not-committed", unable());
                }
            }
            Phase::Hello(hello) => {
                self.since = now;
                if !self.has_refused(verdict) {
                    self.after_hello(now, hello);
                }
            }
            Phase::Mail(transaction) => {
                self.since = now;
                let lowered = match verdict.decision {
                    Decision::AcceptLowered(priority) => Some(priority),
                    Decision::Accept | Decision::Disconnect(_) | Decision::Refuse(_) => None,
                };
                if self.has_refused(verdict) {
                    self.summary.note_mail(&transaction.mail.reverse_path, None);
                } else {
                    self.after_mail(transaction, lowered);
                }
            }
            Phase::Recipient(recipient) => {
                self.since = now;
                if self.has_refused(verdict) {
                    if let Some(transaction) = &self.transaction {
                        let from = &transaction.mail.reverse_path;
                        self.summary.note_mail(from, Some(&recipient.path));
                    }
                } else {
                    self.after_recipient(recipient);
                }
            }
            other @ (Phase::Auth(_)
            | Phase::Chunk(_)
            | Phase::Closed
            | Phase::Command
            | Phase::Credential(_)
            | Phase::Data(_)
            | Phase::Greeting
            | Phase::Handshake
            | Phase::Paused(_)) => self.phase = other,
        }
    }

    pub(super) fn take_commit(&mut self, now: Time, id: QueueId) {
        if matches!(self.phase, Phase::EndOfData) {
            self.since = now;
            self.phase = Phase::Command;
            self.summary.accepted += 1;
            self.outbox.reply(&Reply::with_text(250, (2, 0, 0), format!("queued as {id}")));
        }
    }

    pub(super) fn take_tls(&mut self, now: Time, channel: Channel) {
        if matches!(self.phase, Phase::Handshake) {
            self.since = now;
            self.phase = Phase::Command;
            self.client.tls = Some(channel);
        }
    }

    pub(super) fn take_timeout(&mut self, now: Time) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        if matches!(self.phase, Phase::Greeting) {
            self.since = now;
            self.phase = Phase::Command;
            return self.greet();
        }
        if matches!(self.phase, Phase::Paused(_)) {
            return self.end_pause(now);
        }
        let reply = self.closing_reply((4, 4, 2), "waited too long");
        self.refuse("timeout", reply);
        self.close(SessionEnd::Timeout);
    }

    fn after_connect(&mut self, verdict: Verdict) {
        match verdict.decision {
            // RFC 5321 §3.1 lets a refused client stay; there is nothing for it to do here.
            Decision::Disconnect(reply) | Decision::Refuse(reply) => {
                self.dismiss(verdict.rule, refusing(reply));
            }
            // Whom we know need not prove that he can wait.
            Decision::Accept | Decision::AcceptLowered(_)
                if self.standing != Standing::Stranger =>
            {
                self.greet();
            }
            Decision::Accept | Decision::AcceptLowered(_) if self.has_talked_early => {
                match self.options.early_talkers {
                    Discipline::Enforced => self.dismiss_early_talker(),
                    Discipline::Tolerated => self.greet(),
                }
            }
            Decision::Accept | Decision::AcceptLowered(_)
                if self.options.waits.greeting_wait.is_zero() =>
            {
                self.greet();
            }
            Decision::Accept | Decision::AcceptLowered(_) => self.phase = Phase::Greeting,
        }
    }

    /// Takes what came before the greeting, where we let the client wait for it.
    pub(super) fn take_early(&mut self, octets: &[u8]) -> Option<usize> {
        if octets.is_empty() || self.options.early_talkers == Discipline::Tolerated {
            return None;
        }
        self.dismiss_early_talker();
        Some(octets.len())
    }

    fn dismiss_early_talker(&mut self) {
        let text = "You talked before the greeting";
        self.dismiss("early-talker", Reply::new(554, (5, 5, 1), text));
    }

    fn greet(&mut self) {
        // Where we shut down, the 421 that follows is the greeting.
        if !self.is_shutting_down {
            let text = format!("{} {}", self.options.hostname, self.options.greeting);
            self.outbox.reply(&Reply::bare(220, text));
        }
    }

    fn after_hello(&mut self, now: Time, hello: Hello) {
        // RFC 5321 §4.1.4: EHLO in a transaction is RSET.
        self.drop_transaction();
        self.summary.hello = Some(hello.name.clone());
        let kind = hello.kind;
        self.client.hello = Some(hello);
        let reply = match kind {
            HelloKind::Ehlo => self.ehlo_reply(now),
            HelloKind::Helo => Reply::bare(250, self.options.hostname.clone()),
        };
        self.outbox.reply(&reply);
    }

    fn after_mail(&mut self, mut transaction: Box<Transaction>, lowered: Option<Priority>) {
        self.transactions += 1;
        // RFC 6710 §5: the text begins with the priority that is granted.
        let reply = match lowered {
            Some(priority) => {
                transaction.requests.priority = Some(priority);
                let text = format!("{priority} is the priority that it gets");
                Reply::with_text(250, (2, 3, 6), text)
            }
            None => Reply::new(250, (2, 1, 0), "Sender OK"),
        };
        self.transaction = Some(transaction);
        self.outbox.reply(&reply);
    }

    fn after_recipient(&mut self, recipient: Recipient) {
        if let Some(transaction) = &mut self.transaction {
            transaction.recipients.push(recipient);
        }
        self.outbox.reply(&Reply::new(250, (2, 1, 5), "Recipient OK"));
    }

    /// Carries out a refusal; false where the verdict is to go on.
    fn has_refused(&mut self, verdict: Verdict) -> bool {
        match verdict.decision {
            Decision::Accept | Decision::AcceptLowered(_) => false,
            Decision::Disconnect(reply) => {
                self.dismiss(verdict.rule, refusing(reply));
                true
            }
            Decision::Refuse(reply) => {
                self.refuse(verdict.rule, refusing(reply));
                true
            }
        }
    }
}

/// The reply itself where it says no; a temporary no where it says yes, which would be a lie.
fn refusing(reply: Reply) -> Reply {
    if reply.is_transient() || reply.is_permanent() { reply } else { unable() }
}

fn unable() -> Reply {
    Reply::new(451, (4, 3, 0), "The message cannot be taken just now")
}
