//! What others see of a session: who it is, what it does, and what is said.
//!
//! Invariant: neither content nor what proves a credential is shown. Not pure: shared with who
//! looks.

use std::ops::Range;

use merpati_mail::Stage;

use super::Connection;
use crate::sessions::{Doing, Redactor, lines};

/// What is to be told to who taps.
#[derive(Debug, Default)]
pub(super) struct Tapped {
    redactor: Redactor,
    /// What of the octets that were read is content.
    pub(super) contents: Vec<Range<usize>>,
    /// What we said meanwhile.
    pub(super) said: Vec<u8>,
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
        let Tapped { redactor, contents, said } = &mut self.tapped;
        let now = self.shared.clock.now();
        let (mut heard, mut from) = (Vec::new(), 0);
        for content in contents.drain(..) {
            let before = octets.get(from..content.start).unwrap_or_default();
            heard.extend(lines(before).map(|line| redactor.client(&line)));
            heard.push(format!("({} octets of content)", content.len()));
            from = content.end;
        }
        let rest = octets.get(from..).unwrap_or_default();
        heard.extend(lines(rest).map(|line| redactor.client(&line)));
        self.shown.tell(now, true, heard);
        let answered = lines(said).map(|line| redactor.server(&line)).collect();
        said.clear();
        self.shown.tell(now, false, answered);
    }
}
