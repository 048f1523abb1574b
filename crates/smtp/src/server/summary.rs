//! What happened in a session, told once when it ends: refusals are observed, never journaled.
//!
//! Invariant: bounded, whatever the client does. Pure.

use std::{borrow::Cow, collections::BTreeMap};

use merpati_mail::{ForwardPath, Reply, ReversePath};

/// What happened in a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// What the client last called itself; `None` where it never did.
    pub hello: Option<String>,
    /// Command lines that were read.
    pub commands: u64,
    /// Messages that were committed.
    pub accepted: u64,
    /// How often each rule refused, by its name; at most [`Self::RULES_MAX`] names, and `other`.
    pub refusals: BTreeMap<Cow<'static, str>, u64>,
    /// The last refusal: the rule and what the client was told.
    pub last_refusal: Option<(Cow<'static, str>, Reply)>,
    /// The first mail that was refused, at MAIL, at RCPT or at its end; at most
    /// [`Self::REFUSED_MAX`].
    pub refused_mail: Vec<RefusedMail>,
    /// How the session ended; `None` while it runs.
    pub end: Option<SessionEnd>,
}

/// Mail that was refused: from whom it would have been, for whom, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedMail {
    /// From whom.
    pub reverse_path: ReversePath,
    /// For whom, the first of them; `None` where it was refused before that was said.
    pub recipient: Option<ForwardPath>,
    /// The rule that refused it.
    pub rule: Cow<'static, str>,
    /// What the client was told.
    pub reply: Reply,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The client was gone without QUIT.
    Gone,
    /// QUIT.
    Quit,
    /// We ended it; the last refusal says why.
    Refused,
    /// We shut down.
    Shutdown,
    /// The client was too slow.
    Timeout,
}

impl Summary {
    /// The most rules that are counted by name.
    pub const RULES_MAX: usize = 32;
    /// How many refused mails are told one by one.
    pub const REFUSED_MAX: usize = 10;

    /// Takes note of the mail that the last refusal was about.
    pub(super) fn note_mail(
        &mut self,
        reverse_path: &ReversePath,
        recipient: Option<&ForwardPath>,
    ) {
        let Some((rule, reply)) = &self.last_refusal else { return };
        if self.refused_mail.len() < Self::REFUSED_MAX {
            self.refused_mail.push(RefusedMail {
                reverse_path: reverse_path.clone(),
                recipient: recipient.cloned(),
                rule: rule.clone(),
                reply: reply.clone(),
            });
        }
    }

    pub(super) fn refused(&mut self, rule: Cow<'static, str>, reply: Reply) {
        let is_known = self.refusals.contains_key(&rule);
        let name = if is_known || self.refusals.len() < Self::RULES_MAX {
            rule.clone()
        } else {
            Cow::Borrowed("other")
        };
        *self.refusals.entry(name).or_default() += 1;
        self.last_refusal = Some((rule, reply));
    }
}
