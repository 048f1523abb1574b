//! What others see of a session: who it is, what it does, and what is said.
//!
//! Invariant: neither content nor what proves a credential is shown, also where a tap begins in the
//! middle of either: whether somebody taps is looked at once for each turn, and the session says
//! what is secret. Not pure: shared with who looks.

use std::ops::Range;

use merpati_mail::Stage;

use super::Connection;
use crate::sessions::{Doing, client_line, lines, server_line};

/// What is to be told to who taps, of one turn.
#[derive(Debug, Default)]
pub(super) struct Tapped {
    /// Whether somebody taps.
    pub(super) is_on: bool,
    /// Whether the first line of the client belongs to an exchange of AUTH.
    is_secret: bool,
    /// What of the octets that were read is content.
    pub(super) contents: Vec<Range<usize>>,
    /// What we said meanwhile.
    pub(super) said: Vec<u8>,
}

impl Tapped {
    /// Begins a turn.
    pub(super) fn begin(&mut self, is_on: bool, is_secret: bool) {
        (self.is_on, self.is_secret) = (is_on, is_secret);
        self.contents.clear();
        self.said.clear();
    }
}

impl Connection<'_> {
    /// Shows others what is known of the client when it begins something.
    pub(super) fn show(&self, stage: &Stage) {
        self.shown.does(self.shared.clock.now(), Doing::Decides);
        match stage {
            Stage::Mail { .. } => {}
            Stage::Connect | Stage::Hello { .. } | Stage::Recipient { .. } => return,
        }
        let (hello, credential) = (&self.session.summary().hello, self.session.credential());
        self.shown.learns(|about| {
            about.peer = Some(self.peer);
            if hello.as_deref().is_some_and(|hello| hello != about.host) {
                about.host = hello.clone().unwrap_or_default();
            }
            if credential != about.credential.as_deref() {
                about.credential = credential.map(str::to_owned);
            }
        });
    }

    /// Tells those who tap what the client said, without content, and then what we said.
    pub(super) fn tap(&mut self, octets: &[u8]) {
        let Tapped { is_secret, contents, said, .. } = &mut self.tapped;
        let now = self.shared.clock.now();
        let (mut heard, mut from) = (Vec::new(), 0);
        // A session takes one line of an exchange at a time.
        let mut show = |line: String| client_line(&line, std::mem::take(is_secret));
        for content in contents.drain(..) {
            let before = octets.get(from..content.start).unwrap_or_default();
            heard.extend(lines(before).map(&mut show));
            heard.push(format!("({} octets of content)", content.len()));
            from = content.end;
        }
        let rest = octets.get(from..).unwrap_or_default();
        heard.extend(lines(rest).map(&mut show));
        self.shown.tell(now, true, heard);
        let answered = lines(said).map(|line| server_line(&line)).collect();
        self.shown.tell(now, false, answered);
    }
}
