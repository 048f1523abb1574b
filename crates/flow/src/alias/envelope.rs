//! What a message is delivered as, where a recipient of it stands for others.
//!
//! Invariant: nobody gets it twice, and whoever named a recipient is told of it as he named it: the
//! original recipient of each that stands for it is the one that the client gave (RFC 3461 §4.2,
//! §5.2.7). Pure.

use std::{collections::BTreeSet, sync::Arc};

use merpati_mail::{
    Envelope, ForwardPath, Mailbox, Recipient, Reply, ReversePath, Stage, Time, Verdict,
    envelope::Notify, xtext,
};

use super::{Aliases, Expansion, Leaves, NotExpanded, TARGETS_MAX};
use crate::{
    admit::{Policy, no_return},
    report::{Item, News},
};

/// What a message is delivered as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// Its envelopes, at least one: that of its originator first, then that of the address of ours
    /// from which it is forwarded for him, and one for each owner of a list. All of them have the
    /// same content.
    pub envelopes: Vec<Envelope>,
    /// What the originator is told now, if he asked for it, of the recipients as he named them.
    pub news: Vec<Item>,
}

/// What becomes of a message for this envelope; `None` where no recipient of it stands for others.
/// Errs where an alias leads to more than may be, which only an extension in an address can do, and
/// where an address for reports leads to nobody any more.
///
/// `now` is wall time.
pub fn rewritten(
    policy: &Policy,
    envelope: &Envelope,
    now: Time,
) -> Result<Option<Rewritten>, Verdict> {
    let Some(aliases) = policy.aliases.as_deref() else { return Ok(None) };
    let expand = |recipient: &Recipient| {
        aliases.expand(&recipient.path, now).map_err(|why| match why {
            NotExpanded::Nobody(why) => no_return(why, &recipient.path),
            NotExpanded::TooMany => too_many(),
        })
    };
    let expansions: Result<Vec<Option<Expansion>>, Verdict> =
        envelope.recipients.iter().map(expand).collect();
    let expansions = expansions?;
    if expansions.iter().all(Option::is_none) {
        return Ok(None);
    }
    let mut sorting = Sorting {
        aliases,
        reverse_path: &envelope.reverse_path,
        now,
        seen: BTreeSet::new(),
        own: Vec::new(),
        forwarded: None,
        lists: Vec::new(),
    };
    let mut news = Vec::new();
    for (number, (recipient, expansion)) in (0..).zip(envelope.recipients.iter().zip(&expansions)) {
        match expansion {
            Some(expansion) => {
                let told = sorting.expand(recipient, expansion);
                news.extend(told.map(|news| Item { recipient: number, news, at: now }));
            }
            None => sorting.keep(recipient),
        }
    }
    Ok(Some(Rewritten { envelopes: sorting.envelopes(envelope), news }))
}

/// Who gets a report that is for this address at this wall time.
pub fn report_recipients(aliases: Option<&Aliases>, to: ForwardPath, now: Time) -> Vec<Recipient> {
    let never = |path| Recipient { notify: Some(Notify::Never), ..Recipient::new(path) };
    // What cannot be expanded goes where it was sent: a report is never lost for an alias.
    let expansion = aliases.and_then(|aliases| aliases.expand(&to, now).ok().flatten());
    let Some(expansion) = expansion else { return vec![never(to)] };
    let orcpt = original(&to);
    let targets = expansion.targets.into_iter().map(|reached| Recipient {
        orcpt: Some(orcpt.clone()),
        ..never(ForwardPath::Mailbox(reached.mailbox))
    });
    targets.collect()
}

/// How many recipients a transaction has, each counted with all that it stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally(usize);

impl Tally {
    /// Counts what was accepted at a stage; a refusal where it is too much for one message. The
    /// first recipient never is.
    pub fn take(&mut self, policy: &Policy, stage: &Stage, now: Time) -> Option<Verdict> {
        let aliases = policy.aliases.as_deref()?;
        match stage {
            Stage::Connect | Stage::Hello { .. } => {}
            Stage::Mail { .. } => self.0 = 0,
            Stage::Recipient { path, accepted_before: _ } => {
                let size = aliases.meaning(path, now).map_or(1, |meaning| meaning.size);
                let all = self.0.saturating_add(size);
                if self.0 > 0 && all > TARGETS_MAX {
                    return Some(too_many());
                }
                self.0 = all;
            }
        }
        None
    }
}

fn too_many() -> Verdict {
    let text = format!("with aliases, more than {TARGETS_MAX} recipients");
    Verdict::refuse("alias-limit", Reply::with_text(452, (4, 5, 3), text))
}

/// Recipients on their way into envelopes.
struct Sorting<'a> {
    aliases: &'a Aliases,
    reverse_path: &'a ReversePath,
    now: Time,
    seen: BTreeSet<ForwardPath>,
    own: Vec<Recipient>,
    /// Those to whom it is forwarded from an address of ours.
    forwarded: Option<(Mailbox, Vec<Recipient>)>,
    lists: Vec<(Arc<Mailbox>, Vec<Recipient>)>,
}

impl Sorting<'_> {
    /// Takes a recipient as it is.
    fn keep(&mut self, recipient: &Recipient) {
        if self.is_first(&recipient.path) {
            self.own.push(recipient.clone());
        }
    }

    /// Takes what a recipient stands for; what is told of that.
    fn expand(&mut self, recipient: &Recipient, expansion: &Expansion) -> Option<News> {
        let is_one = expansion.targets.len() == 1;
        let mut has_own = false;
        for reached in &expansion.targets {
            let path = ForwardPath::Mailbox(reached.mailbox.clone());
            let leaves = self.aliases.leaves(self.reverse_path, reached, self.now);
            has_own |= !matches!(leaves, Leaves::Owner(_));
            if !self.is_first(&path) {
                continue;
            }
            let of_originator = || {
                let notify = if is_one { recipient.notify } else { unsuccessful(recipient.notify) };
                let named = (path != recipient.path).then(|| original(&recipient.path));
                let orcpt = recipient.orcpt.clone().or(named);
                Recipient { path: path.clone(), notify, orcpt }
            };
            match leaves {
                Leaves::Owner(owner) => self.list(owner, recipient, path),
                Leaves::Rewritten(from) => {
                    let (_, recipients) = self.forwarded.get_or_insert((from, Vec::new()));
                    recipients.push(of_originator());
                }
                Leaves::Same | Leaves::TooLong => self.own.push(of_originator()),
            }
        }
        match (has_own, is_one) {
            (true, true) => None,
            (true, false) => Some(News::Expanded),
            (false, _) => {
                let reply = Reply::new(250, (2, 0, 0), "it is on its way to a mailing list");
                Some(News::Delivered { reply, remote: None })
            }
        }
    }

    /// Takes somebody on a list that `named` stands for.
    fn list(&mut self, owner: Arc<Mailbox>, named: &Recipient, path: ForwardPath) {
        // RFC 3461 §5.2.7.1: what was asked for with the message ends at the list.
        let recipient = Recipient { path, notify: None, orcpt: Some(original(&named.path)) };
        match self.lists.iter_mut().find(|(other, _)| *other == owner) {
            Some((_, recipients)) => recipients.push(recipient),
            None => self.lists.push((owner, vec![recipient])),
        }
    }

    fn is_first(&mut self, path: &ForwardPath) -> bool {
        let folded = path.mailbox().map(|mailbox| self.aliases.folded(mailbox));
        self.seen.insert(folded.map_or_else(|| path.clone(), ForwardPath::Mailbox))
    }

    fn envelopes(self, given: &Envelope) -> Vec<Envelope> {
        let mut envelopes = Vec::with_capacity(2 + self.lists.len());
        if !self.own.is_empty() {
            envelopes.push(Envelope { recipients: self.own, ..given.clone() });
        }
        envelopes.extend(self.forwarded.map(|(from, recipients)| Envelope {
            reverse_path: ReversePath(Some(from)),
            recipients,
            ..given.clone()
        }));
        envelopes.extend(self.lists.into_iter().map(|(owner, recipients)| Envelope {
            // RFC 5321 §3.9.2: who sent it can do nothing about what fails behind a list.
            reverse_path: ReversePath(Some(Mailbox::clone(&owner))),
            recipients,
            ret: None,
            envid: None,
            ..given.clone()
        }));
        envelopes
    }
}

/// The same without success, of which is told at once (RFC 3461 §5.2.7.3).
const fn unsuccessful(notify: Option<Notify>) -> Option<Notify> {
    match notify {
        Some(Notify::On { delay: false, failure: false, success: _ }) => Some(Notify::Never),
        Some(Notify::On { delay, failure, success: _ }) => {
            Some(Notify::On { delay, failure, success: false })
        }
        None | Some(Notify::Never) => notify,
    }
}

/// The original recipient for what a client named without one (RFC 3461 §4.2).
fn original(path: &ForwardPath) -> String {
    let address = match path {
        ForwardPath::Mailbox(mailbox) => mailbox.to_string(),
        ForwardPath::Postmaster => "postmaster".to_owned(),
    };
    if address.is_ascii() {
        format!("rfc822;{}", xtext::encode(&address))
    } else {
        format!("utf-8;{}", xtext::encode_utf8(&address))
    }
}
