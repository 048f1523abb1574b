//! How the story of a message reads as JSON.
//!
//! Pure.

use merpati_mail::Time;
use serde::Serialize;

use super::PageFacts;
use crate::trace::{self, Standing, Step, Story, Taken, Traced};

/// Everything that was found.
#[derive(Serialize)]
pub(crate) struct Found {
    data: Vec<Became>,
    refused: Vec<Refused>,
    /// Since when the history tells everything; `None` where there is none.
    history_since: Option<String>,
    page: PageFacts,
}

impl Found {
    pub(crate) fn of(traced: &Traced, now: Time) -> Self {
        Self {
            data: traced.stories.iter().map(|story| Became::of(story, now)).collect(),
            refused: traced.refused.iter().map(Refused::of).collect(),
            history_since: traced.since.map(|since| since.to_string()),
            page: PageFacts { next: None, has_more: traced.has_more },
        }
    }
}

/// What became of a message.
#[derive(Serialize)]
struct Became {
    id: String,
    /// These are null or empty where the history does not reach back so far.
    accepted_at: Option<String>,
    sentence: Option<String>,
    listener: Option<String>,
    peer: Option<String>,
    hello: Option<String>,
    protocol: Option<String>,
    tls: Option<String>,
    credential: Option<String>,
    message_id: Option<String>,
    envelope_from: Option<String>,
    /// Who sent it, where `envelope_from` is an address of ours that stands for him.
    originator: Option<String>,
    envelope_to: Vec<String>,
    size_bytes: Option<u64>,
    recipients: Vec<Stands>,
    steps: Vec<Happened>,
}

impl Became {
    fn of(story: &Story, now: Time) -> Self {
        let taken = story.taken.as_ref();
        Self {
            id: story.id.to_string(),
            accepted_at: taken.map(|taken| taken.at.to_string()),
            sentence: taken.map(Taken::sentence),
            listener: taken.map(|taken| taken.listener.clone()),
            peer: taken.and_then(|taken| taken.peer).map(|peer| peer.to_string()),
            hello: taken.map(|taken| taken.hello.clone()),
            protocol: taken.map(|taken| taken.protocol.clone()),
            tls: taken.and_then(|taken| taken.tls.clone()),
            credential: taken.and_then(|taken| taken.credential.clone()),
            message_id: taken.and_then(|taken| taken.message_id.clone()),
            envelope_from: taken.map(|taken| taken.reverse_path.clone()),
            originator: taken.and_then(|taken| taken.originator.clone()),
            envelope_to: taken.map(|taken| taken.recipients.clone()).unwrap_or_default(),
            size_bytes: taken.map(|taken| taken.size_bytes),
            recipients: story.standings(now).iter().map(|one| Stands::of(one, now)).collect(),
            steps: story.steps.iter().map(|step| Happened::of(step, story)).collect(),
        }
    }
}

/// How a recipient stands.
#[derive(Serialize)]
struct Stands {
    number: u32,
    recipient: Option<String>,
    state: &'static str,
    at: Option<String>,
    sentence: String,
    advice: String,
    next_at: Option<String>,
    /// 0 where it is due.
    next_in_seconds: Option<u64>,
}

impl Stands {
    fn of(standing: &Standing, now: Time) -> Self {
        Self {
            number: standing.number,
            recipient: standing.recipient.clone(),
            state: standing.state.word(),
            at: standing.at.map(|at| at.to_string()),
            sentence: standing.sentence.clone(),
            advice: standing.advice.clone(),
            next_at: standing.next.map(|next| next.to_string()),
            next_in_seconds: standing.next.map(|next| next.since(now).as_secs()),
        }
    }
}

/// Something that happened.
#[derive(Serialize)]
struct Happened {
    at: String,
    event: &'static str,
    /// The addresses, as far as they are known.
    recipients: Vec<String>,
    sentence: String,
    /// An id of `docs/reference/advice.md`; `None` where it is no trouble.
    reason: Option<&'static str>,
    host: Option<String>,
    address: Option<String>,
    /// The version of TLS; `None` in the clear.
    tls: Option<String>,
    tls_demand: Option<&'static str>,
    tls_source: Option<&'static str>,
    ms: Option<u64>,
    /// What was said, where it went wrong.
    transcript: Vec<String>,
}

impl Happened {
    fn of(step: &Step, story: &Story) -> Self {
        let attempt = step.what.attempt();
        let millis = |attempt: &trace::Attempt| u64::try_from(attempt.took.as_millis()).ok();
        Self {
            at: step.at.to_string(),
            event: step.what.word(),
            recipients: story.names(&step.recipients),
            sentence: step.what.sentence(),
            reason: step.what.class().map(merpati_mail::Class::advice_id),
            host: attempt.and_then(|attempt| attempt.host.clone()),
            address: attempt.and_then(|attempt| attempt.address.clone()),
            tls: attempt.and_then(|attempt| attempt.tls.clone()),
            tls_demand: attempt.and_then(|it| Some(it.policy?.demand.word())),
            tls_source: attempt.and_then(|it| Some(it.policy?.source.word())),
            ms: attempt.and_then(millis),
            transcript: attempt.map(|attempt| attempt.transcript.clone()).unwrap_or_default(),
        }
    }
}

/// Mail that was refused.
#[derive(Serialize)]
struct Refused {
    at: String,
    listener: String,
    peer: Option<String>,
    hello: String,
    envelope_from: String,
    envelope_to: Option<String>,
    rule: String,
    reply: String,
    sentence: String,
}

impl Refused {
    fn of(mail: &trace::RefusedMail) -> Self {
        Self {
            at: mail.at.to_string(),
            listener: mail.listener.clone(),
            peer: mail.peer.map(|peer| peer.to_string()),
            hello: mail.hello.clone(),
            envelope_from: mail.reverse_path.clone(),
            envelope_to: mail.recipient.clone(),
            rule: mail.rule.clone(),
            reply: mail.reply.clone(),
            sentence: mail.sentence(),
        }
    }
}
