//! Which deliveries of the queue an operator means.
//!
//! The grammar is that of [`crate::Query`], with the keys of the queue: `from: to: domain: id:
//! status: reason: credential: listener:`, `size> size<`, `age> age<`, `attempts> attempts<`,
//! `before: after:`, bare words and "phrases"; all must hold, `!` turns one round.
//!
//! Invariant: a term about the envelope never decides while the envelope is not read, and a
//! delivery whose envelope cannot be read is selected by no such term, nor by its opposite. Pure.

use std::time::Duration;

use merpati_mail::{DeliveryId, QueueId, Time};

use crate::{
    near::nearest,
    query::{self, Grammar, QueryError, Term},
    queue::{Delivery, Standing},
};

/// A selection of deliveries; the empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    terms: Vec<Term<Test>>,
}

impl Selection {
    /// Reads a selection, such as `domain:example.org reason:throttled age>1h`.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let grammar = Grammar { keys: &KEYS, keyed: test, word: Test::Word };
        Ok(Self { terms: query::terms(text, &grammar)? })
    }

    /// Whether it selects this delivery at this time; false where that hangs on an envelope that
    /// is not there.
    pub fn selects(&self, delivery: &Delivery, now: Time) -> bool {
        self.holds(delivery, now, false)
    }

    /// The same, but true where it hangs on an envelope that is not there.
    pub fn may_select(&self, delivery: &Delivery, now: Time) -> bool {
        self.holds(delivery, now, true)
    }

    /// Whether it asks for something that stands in the envelope only, and must be read.
    pub fn reads_envelopes(&self) -> bool {
        self.terms.iter().any(|term| term.test.reads_envelope())
    }

    /// The messages outside of which it selects nothing, in the order of their acceptance; `None`
    /// where it does not name whole ids.
    pub fn named(&self) -> Option<Vec<QueueId>> {
        self.terms.iter().filter(|term| !term.is_negated).find_map(|term| {
            let Test::Id(names) = &term.test else { return None };
            let mut ids: Vec<QueueId> = names.iter().map(Name::message).collect::<Option<_>>()?;
            ids.sort_unstable();
            ids.dedup();
            Some(ids)
        })
    }

    fn holds(&self, delivery: &Delivery, now: Time, in_doubt: bool) -> bool {
        self.terms.iter().all(|term| match term.test.holds(delivery, now) {
            Some(holds) => holds != term.is_negated,
            None => in_doubt,
        })
    }
}

/// One condition; texts are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    After(Time),
    Before(Time),
    Credential(String),
    Domain(String),
    From(String),
    Id(Vec<Name>),
    Larger(u64),
    LessTried(u32),
    Listener(String),
    MoreTried(u32),
    Older(Duration),
    Reason(String),
    Smaller(u64),
    Status(Standing),
    To(String),
    Word(String),
    Younger(Duration),
}

impl Test {
    const fn reads_envelope(&self) -> bool {
        match self {
            Self::Credential(_)
            | Self::Domain(_)
            | Self::From(_)
            | Self::Larger(_)
            | Self::Listener(_)
            | Self::Smaller(_)
            | Self::To(_)
            | Self::Word(_) => true,
            Self::After(_)
            | Self::Before(_)
            | Self::Id(_)
            | Self::LessTried(_)
            | Self::MoreTried(_)
            | Self::Older(_)
            | Self::Reason(_)
            | Self::Status(_)
            | Self::Younger(_) => false,
        }
    }

    /// `None` where it hangs on an envelope that is not there.
    fn holds(&self, delivery: &Delivery, now: Time) -> Option<bool> {
        let has = |text: &str, part: &str| text.to_lowercase().contains(part);
        let envelope = delivery.envelope.as_ref();
        Some(match self {
            Self::After(time) => delivery.accepted_at >= *time,
            Self::Before(time) => delivery.accepted_at < *time,
            Self::Credential(name) => {
                let credential = envelope?.credential.as_deref();
                credential.is_some_and(|credential| credential.to_lowercase() == *name)
            }
            Self::Domain(domain) => query::is_at(&envelope?.recipient, domain),
            Self::From(part) => has(&envelope?.reverse_path, part),
            Self::Id(names) => names.iter().any(|name| name.fits(delivery.id)),
            Self::Larger(bytes) => envelope?.size_bytes > *bytes,
            Self::LessTried(attempts) => delivery.attempts < *attempts,
            Self::Listener(name) => envelope?.listener.to_lowercase() == *name,
            Self::MoreTried(attempts) => delivery.attempts > *attempts,
            Self::Older(age) => now.since(delivery.accepted_at) > *age,
            Self::Reason(part) => has(delivery.reason(now).id, part),
            Self::Smaller(bytes) => envelope?.size_bytes < *bytes,
            Self::Status(standing) => delivery.standing == *standing,
            Self::To(part) => has(&envelope?.recipient, part),
            Self::Word(part) => {
                let envelope = envelope?;
                has(&envelope.reverse_path, part) || has(&envelope.recipient, part)
            }
            Self::Younger(age) => now.since(delivery.accepted_at) < *age,
        })
    }
}

/// What stands behind `id:`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    /// This delivery and no other, though the name of one may begin that of another.
    Delivery(DeliveryId),
    /// All deliveries of this message.
    Message(QueueId),
    /// All deliveries of messages that begin so; in lower case.
    Prefix(String),
}

impl Name {
    fn read(text: &str) -> Result<Self, QueryError> {
        let wrong = |why: String| QueryError::Value("id:", why);
        if let Some((message, recipient)) = text.split_once('.') {
            let message = message.parse().map_err(|why| wrong(format!("{why}")))?;
            let recipient = recipient
                .parse()
                .map_err(|_| wrong(format!("`{recipient}` is not the number of a recipient")))?;
            return Ok(Self::Delivery(DeliveryId { message, recipient }));
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Message(id));
        }
        if text.is_empty() || text.len() > 12 || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(wrong("a queue id, or the beginning of one, is wanted".to_owned()));
        }
        Ok(Self::Prefix(text.to_lowercase()))
    }

    const fn message(&self) -> Option<QueueId> {
        match self {
            Self::Delivery(id) => Some(id.message),
            Self::Message(id) => Some(*id),
            Self::Prefix(_) => None,
        }
    }

    fn fits(&self, id: DeliveryId) -> bool {
        match self {
            Self::Delivery(own) => *own == id,
            Self::Message(own) => *own == id.message,
            Self::Prefix(start) => id.message.to_string().to_lowercase().starts_with(start),
        }
    }
}

fn test(key: &'static str, value: &str) -> Result<Test, QueryError> {
    let text = value.to_lowercase();
    Ok(match key {
        "after:" => Test::After(query::time(key, value)?),
        "age<" => Test::Younger(query::age(key, value)?),
        "age>" => Test::Older(query::age(key, value)?),
        "attempts<" => Test::LessTried(number(key, value)?),
        "attempts>" => Test::MoreTried(number(key, value)?),
        "before:" => Test::Before(query::time(key, value)?),
        "credential:" => Test::Credential(text),
        "domain:" => Test::Domain(text.trim_start_matches('@').to_owned()),
        "from:" => Test::From(text),
        "id:" => Test::Id(value.split(',').map(Name::read).collect::<Result<_, _>>()?),
        "listener:" => Test::Listener(text),
        "reason:" => Test::Reason(text),
        "size<" => Test::Smaller(query::size(key, value)?),
        "size>" => Test::Larger(query::size(key, value)?),
        "status:" => Test::Status(standing(key, &text)?),
        _ => Test::To(text),
    })
}

fn number(key: &'static str, value: &str) -> Result<u32, QueryError> {
    value.parse().map_err(|_| QueryError::Value(key, "a whole number is wanted".to_owned()))
}

fn standing(key: &'static str, text: &str) -> Result<Standing, QueryError> {
    let known = Standing::ALL.into_iter().find(|standing| standing.word() == text);
    known.ok_or_else(|| {
        let near = nearest(text, Standing::ALL.map(Standing::word));
        let meant = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        QueryError::Value(key, format!("`{text}` is not a status{meant}"))
    })
}

/// All keys, with the sign that ends them.
const KEYS: [&str; 16] = [
    "after:",
    "age<",
    "age>",
    "attempts<",
    "attempts>",
    "before:",
    "credential:",
    "domain:",
    "from:",
    "id:",
    "listener:",
    "reason:",
    "size<",
    "size>",
    "status:",
    "to:",
];

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
