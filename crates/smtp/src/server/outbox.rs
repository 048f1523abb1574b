//! In which order the shell learns what to do, and when replies are sent.
//!
//! Invariant: replies are one batch, given when nothing can go on without the peer: so a pipelined
//! group of commands costs one write (RFC 2920 §3.2). Pure.

use std::collections::VecDeque;

use merpati_mail::Reply;

use super::Output;

/// What waits for the shell.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    pub(super) outputs: VecDeque<Output>,
    replies: Vec<u8>,
    ending: Option<Ending>,
    /// Whether the machine waits for the peer, so that the replies must go.
    pub(super) is_flushing: bool,
}

/// What comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Close,
    StartTls,
}

impl Outbox {
    pub(super) fn reply(&mut self, reply: &Reply) {
        reply.write(&mut self.replies);
    }

    pub(super) const fn end(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    /// Forgets replies that nobody can read any more.
    pub(super) fn discard_replies(&mut self) {
        self.replies.clear();
    }

    /// Whether so many replies wait that the peer must take some first.
    pub(super) const fn is_full(&self) -> bool {
        self.replies.len() >= REPLY_OCTETS_MAX
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        let is_due = self.is_flushing || self.ending.is_some();
        if is_due && !self.replies.is_empty() {
            return Some(Output::Send(std::mem::take(&mut self.replies)));
        }
        match self.ending.take()? {
            Ending::Close => Some(Output::Close),
            Ending::StartTls => Some(Output::StartTls),
        }
    }
}

/// How many octets of replies are collected before the peer must take them.
const REPLY_OCTETS_MAX: usize = 65_536;
