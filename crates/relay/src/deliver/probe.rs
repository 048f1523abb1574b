//! How a next hop is asked whether it would take mail for a recipient: an attempt that ends before
//! DATA, over the connections of the others.
//!
//! Invariant: nothing is handed over. Not pure: sockets and time.

use std::collections::HashMap;

use bytes::Bytes;
use merpati_flow::{Finding, Job, admit::recipients::answer_of, attempt::Progress};
use merpati_mail::question::RecipientAnswer;

use super::{Content, Deliverer, Outgoing, Run};

/// What an attempt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// To hand a message over.
    Deliver,
    /// To learn whether it would be taken.
    Verify,
}

impl Deliverer {
    /// Whether the next hop would take mail for the one recipient of this job
    /// ([`Job::verification`]).
    pub async fn verify(&self, job: Job) -> RecipientAnswer {
        let shared = &*self.shared;
        let (profiles, connectors) = (&shared.options.profiles, &shared.connectors);
        let (Some(profile), Some(connector)) = (profiles.get(&job.rule), connectors.get(&job.rule))
        else {
            return RecipientAnswer::Unknown;
        };
        let content = Content::Bytes(Bytes::new());
        let Ok(nothing) = Outgoing::new(content, &job.message.accepted.edits).await else {
            return RecipientAnswer::Unknown;
        };
        let terms = profile.terms(&job);
        let progress = Progress::new(terms, job.recipients.clone());
        let mut run = Run {
            shared,
            job: &job,
            began: shared.clock.now(),
            progress,
            tried: Vec::new(),
            guards: HashMap::new(),
            sts: None,
            has_failed_sts: false,
            goal: Goal::Verify,
            is_verified: false,
        };
        run.go(profile, connector, &nothing).await;
        if run.is_verified {
            return RecipientAnswer::Taken;
        }
        match run.report(terms).findings.pop() {
            Some((_, Finding::NotDelivered(found), _)) => answer_of(&found),
            Some((_, Finding::Delivered(..) | Finding::TryAgain, _)) | None => {
                RecipientAnswer::Unknown
            }
        }
    }
}
