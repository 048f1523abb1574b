//! What became of mail: the story of a message from its acceptance to its end, and mail that was
//! refused.
//!
//! The grammar of what is looked for is that of [`crate::Query`], with these keys: `from: to:
//! domain: id: message-id:`, `age> age<`, `before: after:`, bare words and "phrases". A bare word
//! is looked for in ids, senders and recipients.
//!
//! Invariant: every recipient of a story has one state and one sentence, whatever of the history is
//! missing. Pure.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use merpati_mail::{Class, QueueId, Time, TlsPolicy};

use crate::{
    advice::{self, advice},
    query::{self, Grammar, QueryError, Term},
    queue::Delivery,
};

/// Which mail is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceQuery {
    terms: Vec<Term<Test>>,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// Messages, the newest first.
    pub stories: Vec<Story>,
    /// Mail that was refused, the newest first.
    pub refused: Vec<RefusedMail>,
    /// Whether more was found than is told.
    pub has_more: bool,
    /// Since when the history tells everything; `None` where there is none.
    pub since: Option<Time>,
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Our name for it.
    pub id: QueueId,
    /// How it was taken; `None` where the history does not reach back so far.
    pub taken: Option<Taken>,
    /// What happened to it then, in order.
    pub steps: Vec<Step>,
    /// What of it still waits.
    pub living: Vec<Delivery>,
}

/// How a message was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// When.
    pub at: Time,
    /// Whether the sandbox took it: it goes nowhere.
    pub is_captured: bool,
    /// The listener that took it.
    pub listener: String,
    /// The client; `None` where the relay made it.
    pub peer: Option<SocketAddr>,
    /// What the client called itself; empty where it did not.
    pub hello: String,
    /// How it was spoken, as in the Received field.
    pub protocol: String,
    /// The version of TLS; `None` in the clear.
    pub tls: Option<String>,
    /// Which credential authenticated; `None` where none did.
    pub credential: Option<String>,
    /// The reverse-path without brackets; empty for the null reverse-path.
    pub reverse_path: String,
    /// Who sent it, where the reverse-path is an address of ours that stands for him; `None` where
    /// it is his own.
    pub originator: Option<String>,
    /// The first forward-paths without brackets, in the order of the envelope.
    pub recipients: Vec<String>,
    /// The addresses that were named for some of these: aliases.
    pub via: Vec<String>,
    /// How many recipients there are.
    pub recipients_count: u32,
    /// The `Message-ID` without brackets; `None` where there was none.
    pub message_id: Option<String>,
    /// Octets of its content.
    pub size_bytes: u64,
}

/// Something that happened to some deliveries of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Time,
    /// To which: the places of their recipients in the envelope; none: to the message as a whole.
    pub recipients: Vec<u32>,
    /// What.
    pub what: Happened,
}

/// What may happen to a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// An operator gave it up.
    Cancelled,
    /// It was not delivered, and is tried again.
    Deferred {
        /// Why.
        trouble: Trouble,
        /// When it is tried again.
        until: Time,
        /// How it was tried.
        attempt: Attempt,
    },
    /// Its originator was told that it is delayed.
    Delayed,
    /// The next hop took it.
    Delivered {
        /// How it said so.
        reply: String,
        /// How it was tried.
        attempt: Attempt,
    },
    /// It waited too long.
    Expired(Trouble),
    /// It failed, and its originator was told where he wanted to be.
    Failed {
        /// Why.
        trouble: Trouble,
        /// How it was tried.
        attempt: Attempt,
    },
    /// It waits until somebody or something lets it go.
    Held {
        /// By whom or what.
        limit: String,
        /// Why, in words.
        value: String,
    },
    /// It was let go.
    Released {
        /// When it is tried.
        until: Time,
    },
    /// An operator led it another way.
    Rerouted {
        /// The rule that decides since then; `None`: the first that matches.
        rule: Option<String>,
    },
}

/// How a delivery was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// The host; `None` where none was chosen.
    pub host: Option<String>,
    /// Its address; `None` where none was chosen.
    pub address: Option<String>,
    /// The version of TLS; `None` in the clear.
    pub tls: Option<String>,
    /// How the connection had to be protected; `None` where it is not known.
    pub policy: Option<TlsPolicy>,
    /// How long it took.
    pub took: Duration,
    /// What was said, line by line: `C:` ours, `S:` the next hop's. Empty where all went well.
    pub transcript: Vec<String>,
}

/// Why something was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What kind of trouble.
    pub class: Class,
    /// What the next hop said, or what we would say.
    pub reply: String,
}

/// Mail that was refused before it was ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedMail {
    /// When its session ended.
    pub at: Time,
    /// The listener that refused it.
    pub listener: String,
    /// The client.
    pub peer: Option<SocketAddr>,
    /// What the client called itself; empty where it did not.
    pub hello: String,
    /// From whom it would have been.
    pub reverse_path: String,
    /// For whom; `None` where it was refused before that was said.
    pub recipient: Option<String>,
    /// The rule that refused it.
    pub rule: String,
    /// What the client was told.
    pub reply: String,
}

/// How one recipient of a message stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The place in the envelope.
    pub number: u32,
    /// The address; `None` where the history does not tell.
    pub recipient: Option<String>,
    /// The word for it.
    pub state: State,
    /// Since when; `None` where that is not known.
    pub at: Option<Time>,
    /// What is so, one sentence or two.
    pub sentence: String,
    /// What a person should do, one sentence.
    pub advice: String,
    /// When something happens by itself; `None` where nothing will.
    pub next: Option<Time>,
}

/// The states of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// An attempt goes on.
    Attempting,
    /// An operator gave it up.
    Cancelled,
    /// The sandbox has it.
    Captured,
    /// The next hop has it.
    Delivered,
    /// It waited too long.
    Expired,
    /// It was refused for good.
    Failed,
    /// Somebody or something holds it.
    Held,
    /// It has ended, and the history does not tell how.
    Unknown,
    /// It waits for its next attempt.
    Waiting,
}

impl State {
    /// The word by which the API knows it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Attempting => "attempting",
            Self::Cancelled => "cancelled",
            Self::Captured => "captured",
            Self::Delivered => "delivered",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Unknown => "unknown",
            Self::Waiting => "waiting",
        }
    }
}

impl TraceQuery {
    /// Reads what is looked for, such as `ani@example.org` or `from:shop age<1h`.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let grammar = Grammar { keys: &KEYS, keyed: test, word };
        Ok(Self { terms: query::terms(text, &grammar)? })
    }

    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The one message of which it speaks; `None` where there may be others.
    pub fn named(&self) -> Option<QueueId> {
        let [term] = self.terms.as_slice() else { return None };
        if term.is_negated {
            return None;
        }
        match &term.test {
            Test::Id(text) | Test::Word(text) => whole_id(text),
            Test::After(_)
            | Test::Before(_)
            | Test::Domain(_)
            | Test::From(_)
            | Test::MessageId(_)
            | Test::Older(_)
            | Test::To(_)
            | Test::Younger(_) => None,
        }
    }

    /// Whether it means this message.
    pub fn means(&self, id: QueueId, taken: &Taken, now: Time) -> bool {
        let subject = Subject {
            id: Some(id),
            at: taken.at,
            from: &taken.reverse_path,
            originator: taken.originator.as_deref(),
            to: &taken.recipients,
            via: &taken.via,
            message_id: taken.message_id.as_deref(),
        };
        self.terms.iter().all(|term| term.test.holds(&subject, now) != term.is_negated)
    }

    /// Whether it means this mail that was refused.
    pub fn means_refused(&self, mail: &RefusedMail, now: Time) -> bool {
        let to: Vec<String> = mail.recipient.iter().cloned().collect();
        let from = &mail.reverse_path;
        let (at, via) = (mail.at, &[]);
        let subject =
            Subject { id: None, at, from, originator: None, to: &to, via, message_id: None };
        self.terms.iter().all(|term| term.test.holds(&subject, now) != term.is_negated)
    }
}

/// A queue id, or the name of a delivery of it.
fn whole_id(text: &str) -> Option<QueueId> {
    let id = text.split_once('.').map_or(text, |(message, _)| message);
    id.bytes().any(|octet| octet.is_ascii_digit()).then(|| id.parse().ok())?
}

/// What a query looks at.
struct Subject<'a> {
    id: Option<QueueId>,
    at: Time,
    from: &'a str,
    originator: Option<&'a str>,
    to: &'a [String],
    via: &'a [String],
    message_id: Option<&'a str>,
}

/// One condition; texts are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    After(Time),
    Before(Time),
    Domain(String),
    From(String),
    Id(String),
    MessageId(String),
    Older(Duration),
    To(String),
    Word(String),
    Younger(Duration),
}

impl Test {
    fn holds(&self, mail: &Subject<'_>, now: Time) -> bool {
        let has = |text: &str, part: &str| text.to_lowercase().contains(part);
        let is_id = |part: &str| {
            let start = part.split_once('.').map_or(part, |(message, _)| message);
            let id = mail.id.map(|id| id.to_string().to_lowercase());
            !start.is_empty() && id.is_some_and(|id| id.starts_with(start))
        };
        let from = |part: &str| {
            [Some(mail.from), mail.originator].into_iter().flatten().any(|it| has(it, part))
        };
        let named = || mail.to.iter().chain(mail.via);
        let to = |part: &str| named().any(|one| has(one, part));
        let message_id = |part: &str| mail.message_id.is_some_and(|id| has(id, part));
        match self {
            Self::After(time) => mail.at >= *time,
            Self::Before(time) => mail.at < *time,
            Self::Domain(domain) => named().any(|one| query::is_at(one, domain)),
            Self::From(part) => from(part),
            Self::Id(part) => is_id(part),
            Self::MessageId(part) => message_id(part),
            Self::Older(age) => now.since(mail.at) > *age,
            Self::To(part) => to(part),
            Self::Word(part) => is_id(part) || from(part) || to(part) || message_id(part),
            Self::Younger(age) => now.since(mail.at) < *age,
        }
    }
}

/// A Message-ID is often written with its brackets.
#[expect(clippy::needless_pass_by_value, reason = "it is what the grammar hands over")]
fn word(text: String) -> Test {
    Test::Word(text.trim_matches(['<', '>']).to_owned())
}

fn test(key: &'static str, value: &str) -> Result<Test, QueryError> {
    let text = value.to_lowercase();
    Ok(match key {
        "after:" => Test::After(query::time(key, value)?),
        "age<" => Test::Younger(query::age(key, value)?),
        "age>" => Test::Older(query::age(key, value)?),
        "before:" => Test::Before(query::time(key, value)?),
        "domain:" => Test::Domain(text.trim_start_matches('@').to_owned()),
        "from:" => Test::From(text.trim_matches(['<', '>']).to_owned()),
        "id:" => Test::Id(text),
        "message-id:" => Test::MessageId(text.trim_matches(['<', '>']).to_owned()),
        _ => Test::To(text.trim_matches(['<', '>']).to_owned()),
    })
}

impl Story {
    /// How each recipient stands, in the order of the envelope.
    pub fn standings(&self, now: Time) -> Vec<Standing> {
        let mut last: BTreeMap<u32, (Time, &Happened)> = BTreeMap::new();
        for step in &self.steps {
            // A delay that was told says less than why.
            if step.what == Happened::Delayed {
                continue;
            }
            for &number in &step.recipients {
                last.insert(number, (step.at, &step.what));
            }
        }
        let named = self.taken.as_ref().map_or(0, |taken| taken.recipients_count);
        let mut numbers: Vec<u32> = (0..named.min(RECIPIENTS_TOLD_MAX)).collect();
        numbers.extend(last.keys().chain(self.living.iter().map(|d| &d.id.recipient)));
        numbers.sort_unstable();
        numbers.dedup();
        numbers.truncate(usize::try_from(RECIPIENTS_TOLD_MAX).unwrap_or(usize::MAX));
        numbers.into_iter().map(|number| self.standing(number, last.get(&number), now)).collect()
    }

    fn standing(&self, number: u32, last: Option<&(Time, &Happened)>, now: Time) -> Standing {
        let name = |taken: &Taken| {
            taken.recipients.get(usize::try_from(number).unwrap_or(usize::MAX)).cloned()
        };
        let recipient = self.taken.as_ref().and_then(name);
        if let Some(living) = self.living.iter().find(|d| d.id.recipient == number) {
            return self.of_living(living, recipient, last, now);
        }
        let done = |state, sentence: String, advice: &str| Standing {
            number,
            recipient: recipient.clone(),
            state,
            at: last.map(|(at, _)| *at),
            sentence,
            advice: advice.to_owned(),
            next: None,
        };
        match (last.map(|(_, what)| *what), &self.taken) {
            (Some(what @ Happened::Delivered { .. }), _) => {
                done(State::Delivered, what.sentence(), "Nothing to do.")
            }
            (Some(what @ Happened::Expired(trouble)), _) => {
                done(State::Expired, what.sentence(), advice(trouble.class).to_do)
            }
            (Some(what @ Happened::Failed { trouble, .. }), _) => {
                done(State::Failed, what.sentence(), advice(trouble.class).to_do)
            }
            (Some(Happened::Cancelled), _) => {
                let sentence = Happened::Cancelled.sentence();
                done(State::Cancelled, sentence, "Nothing to do; nobody was told.")
            }
            (None, Some(taken)) if taken.is_captured => {
                let sentence = "The sandbox keeps it; nothing leaves from there.".to_owned();
                Standing { at: Some(taken.at), ..done(State::Captured, sentence, LOOK_IN_SANDBOX) }
            }
            (
                Some(
                    Happened::Deferred { .. }
                    | Happened::Delayed
                    | Happened::Held { .. }
                    | Happened::Released { .. }
                    | Happened::Rerouted { .. },
                )
                | None,
                _,
            ) => {
                let sentence = "It has left the queue; the history does not tell how.".to_owned();
                done(State::Unknown, sentence, "Look into the mail log.")
            }
        }
    }

    /// What still waits says best itself why.
    fn of_living(
        &self,
        living: &Delivery,
        recipient: Option<String>,
        last: Option<&(Time, &Happened)>,
        now: Time,
    ) -> Standing {
        let reason = living.reason(now);
        let mut sentence = reason.sentence;
        if let Some((_, Happened::Deferred { trouble, attempt, .. })) = last {
            let host = attempt.host.as_ref().map_or("It was told", |host| host.as_str());
            let said = if attempt.host.is_some() { " said" } else { "" };
            sentence = format!("{sentence} {host}{said}: {}", trouble.reply);
        }
        let envelope = living.envelope.as_ref();
        Standing {
            number: living.id.recipient,
            recipient: recipient.or_else(|| envelope.map(|envelope| envelope.recipient.clone())),
            state: match living.standing {
                crate::queue::Standing::Attempting => State::Attempting,
                crate::queue::Standing::Held => State::Held,
                crate::queue::Standing::Waiting => State::Waiting,
            },
            at: last.map(|(at, _)| *at).or_else(|| self.taken.as_ref().map(|taken| taken.at)),
            sentence,
            advice: reason.advice.to_owned(),
            next: living.next,
        }
    }

    /// The addresses of these recipients, as far as they are known.
    pub fn names(&self, recipients: &[u32]) -> Vec<String> {
        let known =
            self.taken.as_ref().map(|taken| taken.recipients.as_slice()).unwrap_or_default();
        let name = |number: &u32| {
            let place = usize::try_from(*number).unwrap_or(usize::MAX);
            known.get(place).cloned().unwrap_or_else(|| format!("recipient {number}"))
        };
        recipients.iter().map(name).collect()
    }
}

impl Taken {
    /// How it came, one sentence.
    pub fn sentence(&self) -> String {
        let how = if self.is_captured { "Captured" } else { "Accepted" };
        let from = match (self.peer, self.hello.as_str()) {
            (None, _) => "from the relay itself".to_owned(),
            (Some(peer), "") => format!("from {}", peer.ip()),
            (Some(peer), hello) => format!("from {hello} [{}]", peer.ip()),
        };
        let whom = self.credential.as_ref().map(|name| format!(" as {name}")).unwrap_or_default();
        let tls = self.tls.as_ref().map(|tls| format!(" over {tls}")).unwrap_or_default();
        let via = match self.via.as_slice() {
            [] => String::new(),
            named => format!(" by way of {}", named.join(", ")),
        };
        let originator = match &self.originator {
            None => String::new(),
            Some(originator) => format!(", forwarded for {originator}"),
        };
        let many = match self.recipients_count {
            1 => "1 recipient".to_owned(),
            count => format!("{count} recipients"),
        };
        let (listener, protocol, size) = (&self.listener, &self.protocol, self.size_bytes);
        format!(
            "{how} {from}{whom} by listener {listener} ({protocol}{tls}): {size} octets for \
             {many}{via}{originator}."
        )
    }
}

impl Happened {
    /// The word by which the API knows it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Deferred { .. } => "deferred",
            Self::Delayed => "delayed",
            Self::Delivered { .. } => "delivered",
            Self::Expired(_) => "expired",
            Self::Failed { .. } => "failed",
            Self::Held { .. } => "held",
            Self::Released { .. } => "released",
            Self::Rerouted { .. } => "rerouted",
        }
    }

    /// What happened, one sentence or two.
    pub fn sentence(&self) -> String {
        match self {
            Self::Cancelled => advice::CANCELLED.to_owned(),
            Self::Deferred { trouble, attempt, until } => {
                let why = trouble.sentence(attempt);
                format!("Not delivered yet. {why} Tried again at {}.", whole_seconds(*until))
            }
            Self::Delayed => advice::DELAYED.to_owned(),
            Self::Delivered { reply, attempt } => {
                let Attempt { host, address, tls, policy, took, .. } = attempt;
                let host = host.as_deref().unwrap_or("the next hop");
                let address = address.as_ref().map(|at| format!(" [{at}]")).unwrap_or_default();
                let tls = tls.as_deref().unwrap_or("without TLS");
                let because = policy.and_then(TlsPolicy::because);
                let because = because.map(|why| format!(", {why}")).unwrap_or_default();
                let took = took.as_millis();
                format!("Delivered to {host}{address} ({tls}{because}, {took} ms): {reply}")
            }
            Self::Expired(trouble) => {
                let why = trouble.sentence(&Attempt::default());
                format!("It waited for as long as the retry plan allows, and failed. {why}")
            }
            Self::Failed { trouble, attempt } => {
                format!("Failed for good. {}", trouble.sentence(attempt))
            }
            Self::Held { limit, value } => advice::held(limit, value),
            Self::Released { until } => advice::released(*until),
            Self::Rerouted { rule } => advice::rerouted(rule.as_deref()),
        }
    }

    /// How it was tried; `None` where it was not.
    pub const fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::Deferred { attempt, .. }
            | Self::Delivered { attempt, .. }
            | Self::Failed { attempt, .. } => Some(attempt),
            Self::Cancelled
            | Self::Delayed
            | Self::Expired(_)
            | Self::Held { .. }
            | Self::Released { .. }
            | Self::Rerouted { .. } => None,
        }
    }

    /// What kind of trouble it was; `None` where it was none.
    pub const fn class(&self) -> Option<Class> {
        match self {
            Self::Deferred { trouble, .. }
            | Self::Failed { trouble, .. }
            | Self::Expired(trouble) => Some(trouble.class),
            Self::Cancelled
            | Self::Delayed
            | Self::Delivered { .. }
            | Self::Held { .. }
            | Self::Released { .. }
            | Self::Rerouted { .. } => None,
        }
    }
}

impl Trouble {
    fn sentence(&self, attempt: &Attempt) -> String {
        let is_so = advice(self.class).is_so;
        let asks = attempt.policy.filter(|_| self.class == Class::Tls).and_then(TlsPolicy::asks);
        let asks = asks.map(|who| format!(" Asked for by {who}.")).unwrap_or_default();
        match &attempt.host {
            Some(host) => format!("{is_so} {host} said: {}{asks}", self.reply),
            None => format!("{is_so} ({})", self.reply),
        }
    }
}

impl RefusedMail {
    /// What was so, one sentence.
    pub fn sentence(&self) -> String {
        let hello = if self.hello.is_empty() { "a client" } else { &self.hello };
        let peer = self.peer.map(|peer| format!(" [{}]", peer.ip())).unwrap_or_default();
        let (listener, rule, reply) = (&self.listener, &self.rule, &self.reply);
        format!("Refused to {hello}{peer} by listener {listener}, rule {rule}: {reply}")
    }
}

fn whole_seconds(time: Time) -> Time {
    Time::from_secs(time.as_secs())
}

const LOOK_IN_SANDBOX: &str = "See it with `merpati sandbox show`.";

/// Recipients of one message that are told one by one.
const RECIPIENTS_TOLD_MAX: u32 = 1_000;

/// All keys, with the sign that ends them.
const KEYS: [&str; 9] =
    ["after:", "age<", "age>", "before:", "domain:", "from:", "id:", "message-id:", "to:"];

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
