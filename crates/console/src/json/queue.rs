//! How the queue and its routes read as JSON.
//!
//! Pure.

use merpati_mail::{Hold as MailHold, Time};
use serde::Serialize;

use super::{Envelope, PageFacts, Received};
use crate::{
    explain::{self, RouteAnswer},
    queue::{self, Operated, QueueListing, Queued, Verb},
};

/// A page of the queue.
#[derive(Serialize)]
pub(crate) struct List {
    data: Vec<Delivery>,
    page: PageFacts,
}

impl List {
    pub(crate) fn of(listing: &QueueListing, now: Time) -> Self {
        let data = listing.deliveries.iter().map(|delivery| Delivery::of(delivery, now));
        let next = listing.next.map(|next| next.to_string());
        Self { data: data.collect(), page: PageFacts { has_more: next.is_some(), next } }
    }
}

/// How much waits.
#[derive(Serialize)]
pub(crate) struct Shape {
    data: Vec<Part>,
    /// The ages that part the counts of each group, in minutes.
    bounds_minutes: [u64; queue::AGES_MINUTES.len()],
    page: PageFacts,
}

#[derive(Serialize)]
struct Part {
    group: String,
    deliveries: u64,
    messages: u64,
    /// Up to each bound, and above the last one.
    ages: Vec<u64>,
}

impl Shape {
    pub(crate) fn of(shape: &queue::Shape) -> Self {
        let next = shape.next.map(|next| next.to_string());
        let group = |(name, facts): (&String, &queue::GroupFacts)| Part {
            group: name.clone(),
            deliveries: facts.deliveries,
            messages: facts.messages,
            ages: facts.ages.to_vec(),
        };
        Self {
            data: shape.groups.iter().map(group).collect(),
            bounds_minutes: queue::AGES_MINUTES,
            page: PageFacts { has_more: next.is_some(), next },
        }
    }
}

/// A living delivery.
#[derive(Serialize)]
pub(crate) struct Delivery {
    /// The id of the message, a dot, and the number of the recipient.
    id: String,
    message: String,
    recipient_number: u32,
    accepted_at: String,
    age_seconds: u64,
    status: &'static str,
    reason: Reason,
    /// `None` where somebody must act.
    next_at: Option<String>,
    /// 0 where it is due.
    next_in_seconds: Option<u64>,
    attempts: u32,
    hold: Option<Hold>,
    /// These are all null where the message cannot be read.
    envelope_from: Option<String>,
    envelope_to: Option<String>,
    /// The address that was named, where this one stands for it.
    envelope_via: Option<String>,
    size_bytes: Option<u64>,
    listener: Option<String>,
    credential: Option<String>,
    route: Option<Route>,
    /// Whether an operator chose the rule of the route.
    is_rerouted: bool,
}

impl Delivery {
    fn of(delivery: &queue::Delivery, now: Time) -> Self {
        let reason = delivery.reason(now);
        let envelope = delivery.envelope.as_ref();
        let route = envelope.and_then(|envelope| envelope.route.as_ref());
        Self {
            id: delivery.id.to_string(),
            message: delivery.id.message.to_string(),
            recipient_number: delivery.id.recipient,
            accepted_at: delivery.accepted_at.to_string(),
            age_seconds: now.since(delivery.accepted_at).as_secs(),
            status: delivery.standing.word(),
            next_at: delivery.next.map(|next| next.to_string()),
            next_in_seconds: delivery.next.map(|next| next.since(now).as_secs()),
            attempts: delivery.attempts,
            hold: delivery.hold.as_ref().map(Hold::from),
            envelope_from: envelope.map(|envelope| envelope.reverse_path.clone()),
            envelope_to: envelope.map(|envelope| envelope.recipient.clone()),
            envelope_via: envelope.and_then(|envelope| envelope.via.clone()),
            size_bytes: envelope.map(|envelope| envelope.size_bytes),
            listener: envelope.map(|envelope| envelope.listener.clone()),
            credential: envelope.and_then(|envelope| envelope.credential.clone()),
            route: route.map(Route::from),
            is_rerouted: envelope.is_some_and(|envelope| envelope.is_rerouted),
            reason: Reason {
                id: reason.id.to_owned(),
                code: delivery.code,
                sentence: reason.sentence,
                advice: reason.advice,
            },
        }
    }
}

#[derive(Serialize)]
struct Reason {
    /// An id of `docs/reference/advice.md`, or the name of a limit.
    id: String,
    /// The code of the last reply; `None` before the first attempt.
    code: Option<u16>,
    sentence: String,
    advice: &'static str,
}

#[derive(Serialize)]
pub(super) struct Hold {
    limit: String,
    value: String,
    source: String,
    until: Option<String>,
}

impl From<&MailHold> for Hold {
    fn from(hold: &MailHold) -> Self {
        Self {
            limit: hold.limit.clone(),
            value: hold.value.clone(),
            source: hold.source.clone(),
            until: hold.until.map(|until| until.to_string()),
        }
    }
}

#[derive(Serialize)]
struct Route {
    rule: String,
    next_hop: String,
}

impl From<&merpati_mail::Route> for Route {
    fn from(route: &merpati_mail::Route) -> Self {
        Self { rule: route.rule.to_string(), next_hop: explain::next_hop(&route.next_hop) }
    }
}

/// A message of the queue.
#[derive(Serialize)]
pub(crate) struct Message {
    #[serde(flatten)]
    summary: super::MessageSummary,
    date: Option<String>,
    /// Only where the content cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_error: Option<String>,
    envelope: Envelope,
    received: Received,
    deliveries: Vec<Delivery>,
    /// Recipients of the envelope that are delivered, failed or given up.
    finished: Vec<String>,
}

impl Message {
    pub(crate) fn of(message: &Queued, now: Time) -> Self {
        let lives = |number: u32| message.deliveries.iter().any(|d| d.id.recipient == number);
        let recipients = (0u32..).zip(&message.envelope.recipients);
        let finished = recipients
            .filter(|(number, _)| !lives(*number))
            .map(|(_, recipient)| crate::admin::bare(&recipient.path));
        Self {
            finished: finished.collect(),
            summary: (&message.summary).into(),
            date: message.date.clone(),
            content_error: message.content_error.clone(),
            envelope: Envelope::from(&message.envelope),
            received: Received::from(&message.envelope.origin),
            deliveries: message.deliveries.iter().map(|d| Delivery::of(d, now)).collect(),
        }
    }
}

/// What came of a verb on a part of the queue.
#[derive(Serialize)]
pub(crate) struct Done {
    verb: &'static str,
    dry_run: bool,
    messages: u64,
    deliveries: u64,
    /// Selected, but for these it changes nothing.
    passed_over: u64,
    /// Named, but not in the queue.
    missing: Vec<String>,
    page: PageFacts,
}

impl Done {
    pub(crate) fn of(verb: &Verb, mode: queue::Mode, done: &Operated) -> Self {
        let next = done.next.map(|next| next.to_string());
        Self {
            verb: verb.word(),
            dry_run: mode == queue::Mode::DryRun,
            messages: done.messages,
            deliveries: done.deliveries,
            passed_over: done.passed_over,
            missing: done.missing.iter().map(ToString::to_string).collect(),
            page: PageFacts { has_more: next.is_some(), next },
        }
    }
}

/// Whether a mail would be accepted.
#[derive(Serialize)]
pub(crate) struct WouldAccept {
    accepted: bool,
    sentence: String,
    listener: String,
    steps: Vec<Said>,
    asked: Vec<Asked>,
}

#[derive(Serialize)]
struct Said {
    command: &'static str,
    accepted: bool,
    rule: String,
    reply: Option<String>,
}

#[derive(Serialize)]
struct Asked {
    question: String,
    answer: String,
}

impl WouldAccept {
    pub(crate) fn of(answer: &explain::AcceptAnswer) -> Self {
        let said = |step: &explain::AcceptStep| Said {
            command: step.command,
            accepted: step.refusal.is_none(),
            rule: step.rule.clone(),
            reply: step.refusal.clone(),
        };
        let asked = |(question, answer): &(String, String)| Asked {
            question: question.clone(),
            answer: answer.clone(),
        };
        Self {
            accepted: answer.is_accepted(),
            sentence: answer.sentence.clone(),
            listener: answer.listener.clone(),
            steps: answer.steps.iter().map(said).collect(),
            asked: answer.asked.iter().map(asked).collect(),
        }
    }
}

/// Where mail for an address would go.
#[derive(Serialize)]
pub(crate) struct Explained {
    address: String,
    from: String,
    credential: Option<String>,
    domain: String,
    sentence: String,
    aliases: Vec<Alias>,
    route: Option<Route>,
    tls: Option<String>,
    egress: Option<String>,
    trouble: Option<Trouble>,
    hosts: Vec<Host>,
    rules: Vec<Rule>,
}

impl Explained {
    pub(crate) fn of(question: &explain::RouteQuestion, answer: &RouteAnswer) -> Self {
        let from = question.reverse_path.mailbox().map(ToString::to_string);
        Self {
            address: crate::admin::bare(&question.recipient),
            from: from.unwrap_or_default(),
            credential: question.credential.clone(),
            domain: answer.domain.to_string(),
            sentence: answer.sentence.clone(),
            aliases: answer.aliases.iter().map(Alias::from).collect(),
            route: answer.route.as_ref().map(Route::from),
            tls: answer.tls.clone(),
            egress: answer.egress.clone(),
            trouble: answer.trouble.as_ref().map(Trouble::from),
            hosts: answer.hosts.iter().map(Host::from).collect(),
            rules: answer.rules.iter().map(Rule::from).collect(),
        }
    }
}

#[derive(Serialize)]
struct Alias {
    address: String,
    origin: String,
    to: Vec<String>,
}

impl From<&explain::AliasFacts> for Alias {
    fn from(alias: &explain::AliasFacts) -> Self {
        let explain::AliasFacts { address, origin, to } = alias.clone();
        Self { address, origin, to }
    }
}

#[derive(Serialize)]
struct Trouble {
    id: &'static str,
    why: String,
    advice: &'static str,
}

impl From<&explain::Trouble> for Trouble {
    fn from(trouble: &explain::Trouble) -> Self {
        Self {
            id: trouble.class.advice_id(),
            why: trouble.why.clone(),
            advice: crate::advice::advice(trouble.class).to_do,
        }
    }
}

#[derive(Serialize)]
struct Host {
    name: String,
    preference: Option<u16>,
    addresses: Vec<String>,
    is_tried: bool,
    why_not: Option<String>,
}

impl From<&explain::HostFacts> for Host {
    fn from(host: &explain::HostFacts) -> Self {
        Self {
            name: host.name.clone(),
            preference: host.preference,
            addresses: host.addresses.iter().map(ToString::to_string).collect(),
            is_tried: host.why_not.is_none(),
            why_not: host.why_not.clone(),
        }
    }
}

#[derive(Serialize)]
struct Rule {
    name: String,
    covers: bool,
    conditions: Vec<Condition>,
}

impl From<&explain::RuleFacts> for Rule {
    fn from(rule: &explain::RuleFacts) -> Self {
        let condition =
            |(text, holds): &(String, bool)| Condition { text: text.clone(), holds: *holds };
        Self {
            name: rule.name.clone(),
            covers: rule.covers(),
            conditions: rule.conditions.iter().map(condition).collect(),
        }
    }
}

#[derive(Serialize)]
struct Condition {
    text: String,
    holds: bool,
}
