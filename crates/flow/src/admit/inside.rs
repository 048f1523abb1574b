//! What stays inside: addresses that only our own people may write to, and people who may write to
//! nobody else.
//!
//! Invariant: nothing here lets in what relay control keeps out. The addresses of the postmaster
//! are reached by everybody (RFC 5321 §4.5.1). Pure.

use merpati_mail::{ForwardPath, Mailbox, Reply, Verdict};

use super::{Facts, ListenerKind, Policy, no_return, recipients};
use crate::alias::{Access, Aliases, Kind, Meaning};

/// The answer for a recipient that relay control lets pass, where aliases or what stays inside
/// decide it; `None` where they have nothing to say.
pub(super) fn decide(policy: &Policy, facts: &Facts<'_>, path: &ForwardPath) -> Option<Verdict> {
    match policy.kind {
        ListenerKind::Relay | ListenerKind::Submission => {}
        ListenerKind::Sandbox => return None,
    }
    let aliases = policy.aliases.as_deref();
    let confined = facts.credential.filter(|credential| policy.confined.contains(*credential));
    if let (Some(credential), Some(mailbox)) = (confined, path.mailbox())
        && !policy.local_domains.contains(mailbox.domain())
    {
        let text = format!("{credential} may not send to <{mailbox}>: {INSIDE_ONLY}");
        return Some(confined_to_inside(text));
    }
    let meaning = aliases.and_then(|aliases| aliases.meaning(path, facts.now));
    if let Some(Meaning { kind: Kind::Nobody(why), .. }) = &meaning {
        return Some(no_return(*why, path));
    }
    if !is_insider(policy, facts) && !path.mailbox().is_none_or(recipients::is_role) {
        let closed = closed(policy, path, meaning.as_ref());
        if closed.is_some() {
            return closed;
        }
    }
    if let (Some(credential), Some(aliases), Some(_)) = (confined, aliases, &meaning)
        && leads_outside(policy, facts, (aliases, path))
    {
        let text =
            format!("{credential} may not send to {path}, which leads outside: {INSIDE_ONLY}");
        return Some(confined_to_inside(text));
    }
    meaning.map(|meaning| match meaning.kind {
        Kind::Alias | Kind::Mailbox | Kind::Nobody(_) => Verdict::accept("alias"),
        Kind::Return => Verdict::accept("srs"),
    })
}

/// Why a stranger may not write to it; `None` where he may.
fn closed(policy: &Policy, path: &ForwardPath, meaning: Option<&Meaning>) -> Option<Verdict> {
    let named = path.mailbox()?;
    let is_internal = |mailbox: &Mailbox| policy.internal_domains.contains(mailbox.domain());
    let rule = if is_internal(named) || meaning.is_some_and(|it| is_internal(&it.mailbox)) {
        "internal-domain"
    } else if meaning.is_some_and(|it| it.access == Access::Insiders) {
        "internal-alias"
    } else {
        return None;
    };
    let text = format!("<{named}> takes mail from inside its organisation only");
    Some(Verdict::refuse(rule, Reply::with_text(550, (5, 7, 1), text)))
}

/// Whether an alias leads to an address that is not ours; where to is not said. One that cannot be
/// expanded may lead anywhere.
fn leads_outside(
    policy: &Policy,
    facts: &Facts<'_>,
    (aliases, path): (&Aliases, &ForwardPath),
) -> bool {
    let is_ours = |mailbox: &Mailbox| policy.local_domains.contains(mailbox.domain());
    match aliases.expand(path, facts.now) {
        Ok(Some(expansion)) => !expansion.targets.iter().all(|reached| is_ours(&reached.mailbox)),
        Ok(None) => false,
        Err(_) => true,
    }
}

fn confined_to_inside(text: String) -> Verdict {
    Verdict::refuse("internal-credential", Reply::with_text(550, (5, 7, 1), text))
}

/// Whether somebody vouches for the client with more than a list of strangers.
fn is_insider(policy: &Policy, facts: &Facts<'_>) -> bool {
    facts.credential.is_some() || policy.networks.iter().any(|it| it.contains(facts.peer))
}

const INSIDE_ONLY: &str = "this credential is for mail inside its organisation";
