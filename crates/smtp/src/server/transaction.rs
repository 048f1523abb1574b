//! How a mail transaction goes (RFC 5321 §3.3): MAIL, RCPT, DATA or BDAT, and the end of data.
//!
//! Invariants: an envelope is complete before anybody is asked about it; the octets of a chunk are
//! taken away whatever is wrong with the command, so they never run as commands. Pure.

use merpati_mail::envelope::{Utf8, without_repetitions};
use merpati_mail::{
    AddressError, Envelope, Origin, Peer, Protocol, Recipient, Reply, Requests, Stage, Time,
};

use super::content::{Content, ContentFault};
use super::{DataPhase, Discipline, HelloKind, MailNeeds, Output, Phase, Session, SessionEnd};
use crate::command::{MailCommand, address_reply};

/// A mail transaction after MAIL was accepted.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) mail: MailCommand,
    pub(super) requests: Requests,
    pub(super) started: Time,
    pub(super) recipients: Vec<Recipient>,
    /// Whether RCPT was tried at all.
    pub(super) has_tried: bool,
    /// The content as far as BDAT brought it; `None` before the first BDAT.
    pub(super) chunked: Option<Content>,
}

/// A chunk whose octets arrive.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) octets: u64,
    pub(super) remaining: u64,
    pub(super) is_last: bool,
    pub(super) started: Time,
    /// Octets that were thrown away.
    pub(super) swallowed: u64,
    /// What is wrong with the command; its octets are thrown away. `None` where they are content.
    pub(super) refusal: Option<Refusal>,
}

#[derive(Debug)]
pub(super) struct Refusal {
    rule: &'static str,
    reply: Reply,
}

impl Session {
    pub(super) fn mail(&mut self, now: Time, mail: MailCommand) {
        let limits = self.options.limits;
        if self.client.hello.is_none() {
            return self.out_of_sequence("Say EHLO first");
        }
        if self.transaction.is_some() {
            return self.out_of_sequence("A transaction is open already");
        }
        match self.options.mail_needs {
            MailNeeds::Tls if self.client.tls.is_none() => {
                let reply = Reply::new(530, (5, 7, 0), "STARTTLS is needed first");
                return self.refuse("tls-required", reply);
            }
            MailNeeds::Auth if self.client.credential.is_none() => {
                let reply = Reply::new(530, (5, 7, 0), "Authentication is needed first");
                return self.refuse("auth-required", reply);
            }
            MailNeeds::Auth | MailNeeds::Nothing | MailNeeds::Tls => {}
        }
        if self.transactions >= limits.transactions_max {
            let text = "Too many transactions on this connection";
            return self.dismiss("transactions", Reply::new(421, (4, 5, 3), text));
        }
        if mail.parameters.size_bytes.is_some_and(|size| size > limits.message_bytes_max) {
            return self.refuse("message-size", self.too_big());
        }
        let requests = match self.requests(now, &mail.parameters) {
            Ok(requests) => requests,
            Err(reply) => return self.refuse("request-limit", reply),
        };
        let stage = Stage::Mail {
            reverse_path: mail.reverse_path.clone(),
            size_bytes: mail.parameters.size_bytes,
            body: mail.parameters.body,
            utf8: mail.parameters.utf8,
            requests: requests.clone(),
        };
        self.outbox.outputs.push_back(Output::Ask(stage));
        self.phase = Phase::Mail(Box::new(Transaction {
            mail,
            requests,
            started: now,
            recipients: Vec::new(),
            has_tried: false,
            chunked: None,
        }));
    }

    pub(super) fn rcpt(&mut self, recipient: Recipient, is_utf8: bool) {
        let recipients_max = self.options.limits.recipients_max;
        let Some(transaction) = &mut self.transaction else {
            return self.out_of_sequence("Say MAIL first");
        };
        if transaction.chunked.is_some() {
            return self.out_of_sequence("The content has begun already");
        }
        transaction.has_tried = true;
        if is_utf8 && transaction.mail.parameters.utf8 == Utf8::NotDeclared {
            let reply = address_reply((5, 1, 3), AddressError::NeedsSmtputf8);
            return self.refuse_bad("address-syntax", reply);
        }
        let accepted_before = transaction.recipients.len();
        if accepted_before >= recipients_max {
            let reply = Reply::new(452, (4, 5, 3), "Too many recipients");
            return self.refuse("recipients", reply);
        }
        let stage = Stage::Recipient { path: recipient.path.clone(), accepted_before };
        self.outbox.outputs.push_back(Output::Ask(stage));
        self.phase = Phase::Recipient(recipient);
    }

    pub(super) fn data(&mut self, now: Time, has_more: bool) {
        let Some(transaction) = &self.transaction else {
            return self.out_of_sequence("Say MAIL first");
        };
        if transaction.chunked.is_some() {
            return self.out_of_sequence("BDAT has begun already");
        }
        if transaction.recipients.is_empty() {
            return self.no_recipients();
        }
        if self.is_improper(has_more) {
            return self.improper_pipelining();
        }
        self.outbox.reply(&Reply::bare(354, "End the content with <CRLF>.<CRLF>"));
        let content = Content::new(self.options.limits.message_bytes_max);
        self.phase = Phase::Data(DataPhase { content, started: now });
    }

    /// Takes octets of DATA; `None` when more are needed.
    pub(super) fn take_data(&mut self, now: Time, rest: &[u8], at: usize) -> Option<usize> {
        let Phase::Data(data) = &mut self.phase else { return None };
        let progress = data.content.read_lines(rest, at, &mut self.outbox.outputs);
        let (fault, size_bytes) = (data.content.fault(), data.content.size_bytes);
        if progress.octets > 0 {
            self.since = now;
        }
        if !progress.is_end {
            if self.is_beyond_draining(size_bytes) {
                self.dismiss("message-size", self.too_big());
                return Some(rest.len());
            }
            return Some(progress.octets).filter(|&octets| octets > 0);
        }
        match fault {
            Some(fault) => {
                self.transaction = None;
                self.phase = Phase::Command;
                self.refuse(fault.rule(), self.content_refusal(fault));
            }
            None => self.ask_for_commit(now),
        }
        Some(progress.octets)
    }

    pub(super) fn bdat(&mut self, now: Time, octets: u64, is_last: bool) {
        let refusal = self.chunk_refusal();
        // Nobody sends so much and then a command.
        if self.is_beyond_draining(octets) {
            self.dismiss("message-size", self.too_big());
            return;
        }
        if let (None, Some(transaction)) = (&refusal, &mut self.transaction) {
            let size_max = self.options.limits.message_bytes_max;
            transaction.chunked.get_or_insert_with(|| Content::new(size_max));
        }
        self.phase = Phase::Chunk(Chunk {
            octets,
            remaining: octets,
            is_last,
            started: now,
            swallowed: 0,
            refusal,
        });
    }

    fn chunk_refusal(&self) -> Option<Refusal> {
        let text = match (&self.client.hello, &self.transaction) {
            (None, _) => "Say EHLO first",
            (Some(hello), _) if hello.kind == HelloKind::Helo => "BDAT needs EHLO",
            (Some(_), None) => "Say MAIL first",
            (Some(_), Some(transaction)) if transaction.recipients.is_empty() => {
                "There is no recipient"
            }
            (Some(_), Some(_)) => return None,
        };
        Some(Refusal { rule: "sequence", reply: Reply::new(503, (5, 5, 1), text) })
    }

    /// Takes octets of a chunk; `None` when more are needed.
    pub(super) fn take_chunk(&mut self, now: Time, rest: &[u8], at: usize) -> Option<usize> {
        let Phase::Chunk(chunk) = &mut self.phase else { return None };
        let room = usize::try_from(chunk.remaining).unwrap_or(usize::MAX);
        let octets = rest.get(..room).unwrap_or(rest);
        chunk.remaining -= octets.len() as u64;
        let chunked = self.transaction.as_mut().and_then(|t| t.chunked.as_mut());
        match chunked.filter(|_| chunk.refusal.is_none()) {
            Some(content) => content.read_chunk(octets, at, &mut self.outbox.outputs),
            None => chunk.swallowed += octets.len() as u64,
        }
        let is_whole = chunk.remaining == 0;
        if !octets.is_empty() {
            self.since = now;
        }
        if is_whole {
            self.end_chunk(now);
            return Some(octets.len());
        }
        if self.is_beyond_draining(self.chunked_bytes()) {
            self.dismiss("message-size", self.too_big());
            return Some(rest.len());
        }
        Some(octets.len()).filter(|&octets| octets > 0)
    }

    fn end_chunk(&mut self, now: Time) {
        let Phase::Chunk(chunk) = std::mem::replace(&mut self.phase, Phase::Command) else {
            return;
        };
        self.since = now;
        if let Some(Refusal { rule, reply }) = chunk.refusal {
            return self.refuse_bad(rule, reply);
        }
        let chunked = self.transaction.as_mut().and_then(|t| t.chunked.as_mut());
        let fault = chunked.and_then(|content| {
            if chunk.is_last {
                content.end();
            }
            content.fault().map(|fault| (fault, content.drop_content()))
        });
        match fault {
            Some((fault, dropped)) => {
                self.outbox.outputs.extend(dropped);
                if chunk.is_last {
                    self.transaction = None;
                }
                self.refuse(fault.rule(), self.content_refusal(fault));
            }
            None if chunk.is_last => self.ask_for_commit(now),
            None => {
                let text = format!("{} octets received", chunk.octets);
                self.outbox.reply(&Reply::with_text(250, (2, 0, 0), text));
            }
        }
    }

    /// Asks the one question at the end of data.
    fn ask_for_commit(&mut self, now: Time) {
        self.phase = Phase::Command;
        let Some(transaction) = self.transaction.take() else { return };
        let Transaction { mail, requests, recipients, .. } = *transaction;
        let envelope = Envelope {
            reverse_path: mail.reverse_path,
            recipients: without_repetitions(recipients),
            body: mail.parameters.body,
            utf8: mail.parameters.utf8,
            ret: mail.parameters.ret,
            envid: mail.parameters.envid,
            requests,
            origin: Origin {
                listener: self.options.listener.clone(),
                peer: Some(Peer {
                    address: self.client.address,
                    hello: self.client.hello.as_ref().map(|h| h.name.clone()).unwrap_or_default(),
                    name: self.client.name.clone(),
                }),
                credential: self.client.credential.clone(),
                protocol: self.protocol(mail.parameters.utf8),
                tls: self.tls().cloned(),
                received_at: now,
            },
        };
        self.outbox.outputs.push_back(Output::BodyEnd(Box::new(envelope)));
        self.phase = Phase::EndOfData;
    }

    /// RFC 3848, RFC 6531 §4.3.
    fn protocol(&self, utf8: Utf8) -> Protocol {
        let is_esmtp = self.client.hello.as_ref().is_some_and(|h| h.kind == HelloKind::Ehlo);
        if !is_esmtp {
            return Protocol::Smtp;
        }
        match (utf8, self.client.tls.is_some(), self.client.credential.is_some()) {
            (Utf8::NotDeclared, false, false) => Protocol::Esmtp,
            (Utf8::NotDeclared, false, true) => Protocol::Esmtpa,
            (Utf8::NotDeclared, true, false) => Protocol::Esmtps,
            (Utf8::NotDeclared, true, true) => Protocol::Esmtpsa,
            (Utf8::Declared, false, false) => Protocol::Utf8Smtp,
            (Utf8::Declared, false, true) => Protocol::Utf8Smtpa,
            (Utf8::Declared, true, false) => Protocol::Utf8Smtps,
            (Utf8::Declared, true, true) => Protocol::Utf8Smtpsa,
        }
    }

    /// How many octets BDAT has brought in this transaction.
    pub(super) fn chunked_bytes(&self) -> u64 {
        let chunked = self.transaction.as_ref().and_then(|t| t.chunked.as_ref());
        chunked.map_or(0, |content| content.size_bytes)
    }

    pub(super) fn out_of_sequence(&mut self, text: &'static str) {
        self.refuse_bad("sequence", Reply::new(503, (5, 5, 1), text));
    }

    fn no_recipients(&mut self) {
        let has_tried = self.transaction.as_ref().is_some_and(|t| t.has_tried);
        if has_tried {
            // RFC 2920 §3.1: a client that pipelines learns only now that none was accepted.
            let reply = Reply::new(554, (5, 5, 1), "No recipient was accepted");
            self.refuse("no-recipient", reply);
        } else {
            self.out_of_sequence("Say RCPT first");
        }
    }

    /// Whether octets behind a command that must be the last of its group break our rule.
    pub(super) fn is_improper(&self, has_more: bool) -> bool {
        has_more
            && self.options.pipelining == Discipline::Enforced
            && self.client.credential.is_none()
    }

    pub(super) fn improper_pipelining(&mut self) {
        let reply = Reply::new(554, (5, 5, 0), "Improper pipelining (RFC 2920 3.1)");
        self.refuse("improper-pipelining", reply);
        self.close(SessionEnd::Refused);
    }

    fn is_beyond_draining(&self, size_bytes: u64) -> bool {
        let limits = &self.options.limits;
        size_bytes > limits.message_bytes_max.saturating_add(limits.drained_bytes_max)
    }

    pub(super) fn too_big(&self) -> Reply {
        let text = format!("The limit is {} octets", self.options.limits.message_bytes_max);
        Reply::with_text(552, (5, 3, 4), text)
    }

    fn content_refusal(&self, fault: ContentFault) -> Reply {
        match fault {
            ContentFault::BareCr => {
                Reply::new(550, (5, 6, 0), "The content holds a CR without LF (rule bare-cr)")
            }
            ContentFault::BareLf => {
                Reply::new(550, (5, 6, 0), "The content holds an LF without CR (rule bare-lf)")
            }
            ContentFault::Nul => Reply::new(550, (5, 6, 0), "The content holds a NUL (rule nul)"),
            ContentFault::Size => self.too_big(),
        }
    }
}
