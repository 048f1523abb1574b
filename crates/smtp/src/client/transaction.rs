//! What one mail transaction says, whom it still may reach, and what came of each recipient.
//!
//! Invariant: pipelining is two places in one list of steps, what was sent and what was answered;
//! replies are matched to steps strictly in order, and each recipient gets exactly one result.
//! Pure.

use std::{collections::BTreeSet, fmt::Write as _};

use merpati_mail::{
    BodyType, Mailbox, QueueId, Recipient, Reply, Requests, ReversePath, Time,
    envelope::{Notify, Ret, Utf8},
    outcome::{Fact, Finding, Need, Phase},
    xtext,
};

use super::{
    Capabilities, EightBitPolicy, Extension, Options,
    requests::{self, Remaining},
};
use crate::stuff::Stuffer;

/// One message for some of its recipients, as it is to be handed to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Which message; only carried through to the result.
    pub id: QueueId,
    /// The reverse-path.
    pub reverse_path: ReversePath,
    /// The recipients, each with its number in the envelope, which comes back with its result.
    pub recipients: Vec<(u32, Recipient)>,
    /// The octets of the content as it will be handed in, before dot-stuffing.
    pub size_octets: u64,
    /// The `BODY` parameter with which the message came.
    pub body: BodyType,
    /// Whether the content holds octets above 127.
    pub eight_bit: EightBit,
    /// Whether the message came with `SMTPUTF8`. Alone it obliges the peer to nothing: where
    /// addresses and header are ASCII the flag is dropped for a peer without the extension
    /// (RFC 6531 §3.2 allows it).
    pub utf8: Utf8,
    /// Whether its header holds octets above 127; it then needs SMTPUTF8, if it was declared.
    pub header: EightBit,
    /// What a DSN is to return; passed on where the peer offers DSN.
    pub ret: Option<Ret>,
    /// The envelope identifier in xtext; passed on where the peer offers DSN.
    pub envid: Option<String>,
    /// What else was asked for; passed on where the peer offers the extension. What it may not go
    /// without: [`Need::RequireTls`], and [`Need::DeliverBy`] where it is to be returned.
    pub requests: Requests,
}

/// Whether octets above 127 occur.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EightBit {
    /// They do not.
    #[default]
    Absent,
    /// They do.
    Present,
}

/// What came of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionResult {
    /// Which message.
    pub id: QueueId,
    /// Whether the connection had carried a transaction before, of which a command was sent.
    pub connection: ConnectionUse,
    /// Whether the peer offers DELIVERBY and has been given the time that is left (RFC 2852).
    pub is_deliver_by_offered: bool,
    /// Whether the peer offers DSN and has been given the parameters of the recipients, so that it
    /// tells the originator of what comes of them (RFC 3461 §5.2).
    pub is_dsn_offered: bool,
    /// Whether several commands were sent at once (RFC 2920).
    pub is_pipelined: bool,
    /// Each recipient of the [`Transaction`], in its order.
    pub recipients: Vec<(u32, RecipientResult)>,
}

/// Whether a transaction was the first of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionUse {
    /// It was.
    Fresh,
    /// Another one went before.
    Reused,
}

/// What came of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientResult {
    /// The peer took responsibility, and said so.
    Delivered(Reply),
    /// It did not, or nobody knows: a cut or time-out in [`Phase::EndOfData`] is ambiguous.
    NotDelivered(Finding),
    /// It did not fit into this transaction; another one, on this connection or the next, may
    /// carry it. Nothing is wrong with it.
    TryAgainHere,
    /// The peer would take a message for it; nothing was handed over, because nothing else was
    /// wanted ([`Input::Verify`](super::Input::Verify)).
    Verified,
}

/// How far a transaction is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// To the end of data.
    Deliver,
    /// To the replies to RCPT.
    Verify,
}

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) transaction: Transaction,
    pub(super) connection: ConnectionUse,
    /// When patience ends, up to the end of data.
    pub(super) deadline: Time,
    pub(super) stuffer: Stuffer,
    /// One for each recipient, in order.
    standings: Vec<Standing>,
    steps: Vec<Step>,
    sent: usize,
    answered: usize,
    is_pipelined: bool,
    is_mail_accepted: bool,
    /// What is left of the time for its delivery.
    remaining: Option<Remaining>,
}

/// How things stand for a recipient.
#[derive(Debug)]
enum Standing {
    Accepted,
    Known(RecipientResult),
    Waiting,
}

/// A command of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Data,
    Mail,
    /// RCPT for the recipient at this place of the transaction.
    Recipient(usize),
}

impl Run {
    /// Prepares the steps for what the peer offers. Recipients that it cannot take are known from
    /// the start; where that is all of them, there are no steps.
    pub(super) fn new(
        (transaction, goal): (Transaction, Goal),
        connection: ConnectionUse,
        (now, deadline): (Time, Time),
        (options, offered): (&Options, &Capabilities),
    ) -> Self {
        let remaining = transaction.requests.deliver_by.map(|by| Remaining::at(now, by));
        let standings = standings(&transaction, remaining, options, offered);
        let mut steps = vec![Step::Mail];
        let waiting = |(at, s): (usize, &Standing)| {
            matches!(s, Standing::Waiting).then_some(Step::Recipient(at))
        };
        steps.extend(standings.iter().enumerate().filter_map(waiting));
        if steps.len() == 1 {
            steps.clear();
        } else if goal == Goal::Deliver {
            steps.push(Step::Data);
        }
        Self {
            transaction,
            connection,
            deadline,
            stuffer: Stuffer::new(),
            standings,
            steps,
            sent: 0,
            answered: 0,
            is_pipelined: false,
            is_mail_accepted: false,
            remaining,
        }
    }

    /// The commands that go out next: all of them, or the one behind what was answered.
    pub(super) fn commands(&mut self, is_pipelined: bool, offered: &Capabilities) -> Vec<u8> {
        let end = if is_pipelined { self.steps.len() } else { self.answered + 1 };
        self.is_pipelined |= is_pipelined && !self.steps.is_empty();
        let mut text = String::new();
        for &step in self.steps.get(self.sent..end.min(self.steps.len())).unwrap_or_default() {
            match step {
                Step::Data => text.push_str("DATA"),
                Step::Mail => {
                    mail_command(&mut text, &self.transaction, offered);
                    let asked = &self.transaction.requests;
                    requests::add(&mut text, asked, self.remaining, offered);
                }
                Step::Recipient(at) => {
                    if let Some((_, recipient)) = self.transaction.recipients.get(at) {
                        recipient_command(&mut text, recipient, offered);
                    }
                }
            }
            text.push_str("\r\n");
            self.sent += 1;
        }
        text.into_bytes()
    }

    /// The step whose reply is awaited, or which is to be sent; `None` when all are answered.
    pub(super) fn awaited(&self) -> Option<Step> {
        self.steps.get(self.answered).copied()
    }

    /// Takes the awaited step as answered.
    pub(super) fn answer(&mut self) -> Option<Step> {
        let step = self.awaited();
        self.answered += 1;
        step
    }

    /// Whether a command that was sent is not yet answered.
    pub(super) fn is_waiting_for_reply(&self) -> bool {
        self.answered < self.sent
    }

    /// Whether the peer holds an open transaction.
    pub(super) const fn is_open(&self) -> bool {
        self.is_mail_accepted
    }

    /// Notes the reply to MAIL; `false` where it is no reply to it.
    pub(super) fn mail_answered(&mut self, reply: Reply) -> bool {
        if reply.is_intermediate() {
            return false;
        }
        self.is_mail_accepted = reply.is_positive();
        if !self.is_mail_accepted {
            self.settle(&Finding { phase: Phase::Mail, fact: Fact::Replied(reply) });
        }
        true
    }

    /// Notes the reply to RCPT for the recipient at this place; `false` where it is no reply to it.
    pub(super) fn recipient_answered(&mut self, at: usize, reply: Reply) -> bool {
        if reply.is_intermediate() {
            return false;
        }
        let has_room_again = is_too_many(&reply) && self.has_accepted();
        // Behind a refused MAIL the recipient has its result already.
        if let Some(standing @ Standing::Waiting) = self.standings.get_mut(at) {
            *standing = if reply.is_positive() {
                Standing::Accepted
            } else if has_room_again {
                Standing::Known(RecipientResult::TryAgainHere)
            } else {
                let finding = Finding { phase: Phase::Recipient, fact: Fact::Replied(reply) };
                Standing::Known(RecipientResult::NotDelivered(finding))
            };
        }
        true
    }

    /// Whether at least one recipient is accepted and has no result yet.
    pub(super) fn has_accepted(&self) -> bool {
        self.standings.iter().any(|s| matches!(s, Standing::Accepted))
    }

    /// Whether every recipient has its result.
    pub(super) fn is_settled(&self) -> bool {
        self.standings.iter().all(|s| matches!(s, Standing::Known(_)))
    }

    /// Gives this result to the first accepted recipient that has none.
    pub(super) fn settle_next(&mut self, result: RecipientResult) {
        let next = self.standings.iter_mut().find(|s| matches!(s, Standing::Accepted));
        if let Some(standing) = next {
            *standing = Standing::Known(result);
        }
    }

    /// Gives this result to every accepted recipient that has none.
    pub(super) fn settle_accepted(&mut self, result: &RecipientResult) {
        for standing in &mut self.standings {
            if matches!(standing, Standing::Accepted) {
                *standing = Standing::Known(result.clone());
            }
        }
    }

    /// Gives this finding to every recipient without a result.
    pub(super) fn settle(&mut self, finding: &Finding) {
        for standing in &mut self.standings {
            if !matches!(standing, Standing::Known(_)) {
                *standing = Standing::Known(RecipientResult::NotDelivered(finding.clone()));
            }
        }
    }

    /// The results. Whoever calls it has settled all recipients; one without a result may try
    /// again.
    pub(super) fn result(self, offered: &Capabilities) -> TransactionResult {
        let results = self.standings.into_iter().map(|standing| match standing {
            Standing::Known(result) => result,
            Standing::Accepted | Standing::Waiting => RecipientResult::TryAgainHere,
        });
        let numbers = self.transaction.recipients.iter().map(|(number, _)| *number);
        TransactionResult {
            id: self.transaction.id,
            connection: self.connection,
            is_deliver_by_offered: offered.offers(Extension::DeliverBy),
            is_dsn_offered: offered.offers(Extension::Dsn),
            is_pipelined: self.is_pipelined,
            recipients: numbers.zip(results).collect(),
        }
    }

    /// How far the commands have come.
    pub(super) fn phase(&self) -> Phase {
        match self.awaited() {
            Some(Step::Mail) => Phase::Mail,
            Some(Step::Recipient(_)) => Phase::Recipient,
            Some(Step::Data) | None => Phase::Data,
        }
    }
}

/// The same result for all recipients of a transaction that never began.
pub(super) fn refused(
    transaction: &Transaction,
    connection: ConnectionUse,
    result: &RecipientResult,
) -> TransactionResult {
    let all = transaction.recipients.iter().map(|(number, _)| (*number, result.clone()));
    TransactionResult {
        id: transaction.id,
        connection,
        is_deliver_by_offered: false,
        is_dsn_offered: false,
        is_pipelined: false,
        recipients: all.collect(),
    }
}

/// What is known of each recipient before a command is sent.
fn standings(
    transaction: &Transaction,
    remaining: Option<Remaining>,
    options: &Options,
    offered: &Capabilities,
) -> Vec<Standing> {
    let lacks = |phase, need| {
        let finding = Finding { phase, fact: Fact::Lacks(need) };
        Standing::Known(RecipientResult::NotDelivered(finding))
    };
    let recipients = &transaction.recipients;
    let lacking = message_lacks(transaction, options.eight_bit, offered)
        .or_else(|| requests::lacking(&transaction.requests, remaining, options.dialect, offered));
    if let Some(need) = lacking {
        return recipients.iter().map(|_| lacks(Phase::Mail, need)).collect();
    }
    let limit = |peers: Option<u32>| peers.and_then(|n| usize::try_from(n).ok());
    let peers_max = limit(offered.recipients_max).unwrap_or(usize::MAX);
    let recipients_max = options.recipients_max.max(1).min(peers_max);
    let domains_max = limit(offered.recipient_domains_max).unwrap_or(usize::MAX);
    let mut domains = BTreeSet::new();
    let mut waiting = 0;
    let standing = |(_, recipient): &(u32, Recipient)| {
        if needs_smtputf8(recipient) && !offered.offers(Extension::Smtputf8) {
            return lacks(Phase::Recipient, Need::Smtputf8);
        }
        let domain = recipient.path.mailbox().map(|mailbox| mailbox.domain().clone());
        let fits = domains.contains(&domain) || domains.len() < domains_max;
        if waiting >= recipients_max || !fits {
            return Standing::Known(RecipientResult::TryAgainHere);
        }
        domains.insert(domain);
        waiting += 1;
        Standing::Waiting
    };
    recipients.iter().map(standing).collect()
}

/// What the message as a whole needs and the peer does not offer.
fn message_lacks(
    transaction: &Transaction,
    policy: EightBitPolicy,
    offered: &Capabilities,
) -> Option<Need> {
    if offered.size_octets_max.is_some_and(|max| transaction.size_octets > max) {
        return Some(Need::Size);
    }
    // Before 8BITMIME, which whoever offers SMTPUTF8 offers too (RFC 6531 §3.1).
    let is_utf8_header =
        transaction.utf8 == Utf8::Declared && transaction.header == EightBit::Present;
    let is_utf8_sender = transaction.reverse_path.mailbox().is_some_and(Mailbox::needs_smtputf8);
    if (is_utf8_header || is_utf8_sender) && !offered.offers(Extension::Smtputf8) {
        return Some(Need::Smtputf8);
    }
    let is_eight_bit = transaction.eight_bit == EightBit::Present;
    if is_eight_bit && policy == EightBitPolicy::Refuse && !offered.offers(Extension::EightBitMime)
    {
        return Some(Need::EightBitMime);
    }
    None
}

fn needs_smtputf8(recipient: &Recipient) -> bool {
    recipient.path.mailbox().is_some_and(Mailbox::needs_smtputf8)
}

/// Whether a reply to RCPT means too many recipients (RFC 5321 §4.5.3.1.10, where 552 is to be
/// taken for 452). With an enhanced code of subject 2 it speaks of the mailbox: it is full.
fn is_too_many(reply: &Reply) -> bool {
    matches!(reply.code, 452 | 552) && reply.enhanced.is_none_or(|code| code.subject != 2)
}

fn mail_command(text: &mut String, transaction: &Transaction, offered: &Capabilities) {
    // Writing to a string cannot fail.
    let _ = write!(text, "MAIL FROM:{}", transaction.reverse_path);
    if offered.offers(Extension::Size) {
        let _ = write!(text, " SIZE={}", transaction.size_octets);
    }
    let is_eight_bit =
        transaction.body == BodyType::EightBitMime || transaction.eight_bit == EightBit::Present;
    if is_eight_bit && offered.offers(Extension::EightBitMime) {
        text.push_str(" BODY=8BITMIME");
    }
    let is_utf8 = transaction.utf8 == Utf8::Declared
        || transaction.reverse_path.mailbox().is_some_and(Mailbox::needs_smtputf8)
        || transaction.recipients.iter().any(|(_, recipient)| needs_smtputf8(recipient));
    if is_utf8 && offered.offers(Extension::Smtputf8) {
        text.push_str(" SMTPUTF8");
    }
    if offered.offers(Extension::Dsn) {
        text.push_str(match transaction.ret {
            None => "",
            Some(Ret::Full) => " RET=FULL",
            Some(Ret::Headers) => " RET=HDRS",
        });
        if let Some(envid) = transaction.envid.as_deref().filter(|value| is_esmtp_value(value)) {
            let _ = write!(text, " ENVID={envid}");
        }
    }
}

fn recipient_command(text: &mut String, recipient: &Recipient, offered: &Capabilities) {
    let _ = write!(text, "RCPT TO:{}", recipient.path);
    if !offered.offers(Extension::Dsn) {
        return;
    }
    match recipient.notify {
        None => {}
        Some(Notify::Never) => text.push_str(" NOTIFY=NEVER"),
        Some(Notify::On { delay, failure, success }) => {
            let wanted = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
            let names: Vec<&str> = wanted.iter().filter(|(on, _)| *on).map(|(_, n)| *n).collect();
            if !names.is_empty() {
                let _ = write!(text, " NOTIFY={}", names.join(","));
            }
        }
    }
    if let Some(orcpt) = original_recipient(recipient, offered).filter(|v| is_esmtp_value(v)) {
        let _ = write!(text, " ORCPT={orcpt}");
    }
}

/// The original recipient as it was given. Where it was not, it is the one that we know, so that a
/// report from behind an alias still names it (RFC 3461 §5.2.1 allows for it, and Postfix does it).
fn original_recipient(recipient: &Recipient, offered: &Capabilities) -> Option<String> {
    if let Some(given) = &recipient.orcpt {
        // RFC 6533 §3: characters beyond ASCII go as they are only to who takes them.
        return match given.split_once(';') {
            Some((kind, address)) if !given.is_ascii() && !offered.offers(Extension::Smtputf8) => {
                Some(format!("{kind};{}", xtext::encode_utf8(&xtext::decode_utf8(address)?)))
            }
            Some(_) | None => Some(given.clone()),
        };
    }
    // Nobody will be told of it.
    if recipient.notify == Some(Notify::Never) {
        return None;
    }
    let address = recipient.path.mailbox()?.to_string();
    Some(if address.is_ascii() {
        format!("rfc822;{}", xtext::encode(&address))
    } else {
        format!("utf-8;{}", xtext::encode_utf8(&address))
    })
}

/// RFC 5321 §4.1.2 `esmtp-value`, with `=` allowed, which peers let through. Whatever could end
/// the parameter or the command is not passed on.
fn is_esmtp_value(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|octet| octet.is_ascii_graphic() || !octet.is_ascii())
}
