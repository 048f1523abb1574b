//! Which messages an operator means: the one selection grammar, and what it selects among captured
//! mail.
//!
//! `from: to: subject: id: message-id:` with a word or a "phrase", `size> size<`, `age> age<`,
//! `before: after:`, bare words and "phrases"; all of them must hold; `!` turns one round. Texts
//! are contained, without regard to case. [`crate::Selection`] reads the same grammar with the keys
//! of the queue. Pure.

use std::{fmt, time::Duration};

use merpati_mail::Time;

use crate::{Summary, near::nearest, quantity};

/// A selection; the empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    terms: Vec<Term<Test>>,
}

impl Query {
    /// Reads a selection, such as `from:shop subject:"your code" !to:test age<5m`.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let terms = terms(text, &Grammar { keys: &KEYS, keyed: test, word: Test::Word })?;
        Ok(Self { terms })
    }

    /// Whether it selects this message at this time.
    pub fn matches(&self, message: &Summary, now: Time) -> bool {
        self.terms.iter().all(|term| term.test.holds(message, now) != term.is_negated)
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }
}

/// Why a text is not a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// A key that is not known.
    Key {
        /// What was written, with the sign that ends it.
        word: String,
        /// The nearest known one.
        near: Option<&'static str>,
        /// All that are known here.
        known: &'static [&'static str],
    },
    /// The text is longer than 2,048 octets.
    Long,
    /// A phrase has no closing quotation mark.
    Open,
    /// The value of this key is not what it wants: the key, and why.
    Value(&'static str, String),
}

impl QueryError {
    /// What to do, one sentence.
    pub fn advice(&self) -> String {
        match self {
            Self::Key { near: Some(near), .. } => format!("Did you mean `{near}`?"),
            Self::Key { word, near: None, known } => format!(
                "Known keys are {}; to look for the text itself, quote it: \"{word}\".",
                known.join(" ")
            ),
            Self::Long => "Use fewer words.".to_owned(),
            Self::Open => "Close the phrase with a quotation mark.".to_owned(),
            Self::Value(key, _) => match *key {
                "before:" | "after:" => {
                    format!("Write {key}2026-11-23 or {key}2026-11-23T20:50:00Z.")
                }
                "age>" | "age<" => format!("Write {key}5m, {key}2h or {key}3d."),
                "size>" | "size<" => format!("Write {key}10k or {key}2MiB."),
                "attempts>" | "attempts<" => format!("Write {key}3."),
                "id:" => "Write id:028T5CY4TQKFF, or more ids with commas.".to_owned(),
                "status:" => format!("Write {key}waiting, {key}attempting or {key}held."),
                _ => format!("Write {key}word or {key}\"some words\"."),
            },
        }
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { word, .. } => write!(f, "`{word}` is not a key of the query"),
            Self::Long => write!(f, "the query is longer than {QUERY_OCTETS_MAX} octets"),
            Self::Open => f.write_str("a phrase is not closed"),
            Self::Value(key, why) => write!(f, "the value of `{key}`: {why}"),
        }
    }
}

impl std::error::Error for QueryError {}

/// A condition, or its opposite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term<T> {
    pub(crate) test: T,
    pub(crate) is_negated: bool,
}

/// What one kind of query knows beyond the grammar.
pub(crate) struct Grammar<T> {
    /// Its keys, each with the sign that ends it.
    pub(crate) keys: &'static [&'static str],
    /// The condition that a key and its value mean; the value is never empty.
    pub(crate) keyed: fn(&'static str, &str) -> Result<T, QueryError>,
    /// The condition that a bare word means; it is in lower case.
    pub(crate) word: fn(String) -> T,
}

/// One condition; texts are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    After(Time),
    Before(Time),
    From(String),
    Id(String),
    Larger(u64),
    MessageId(String),
    Older(Duration),
    Smaller(u64),
    Subject(String),
    To(String),
    Word(String),
    Younger(Duration),
}

impl Test {
    fn holds(&self, message: &Summary, now: Time) -> bool {
        let has = |text: &str, part: &String| text.to_lowercase().contains(part.as_str());
        let from = |part| has(&message.from, part) || has(&message.reverse_path, part);
        let to = |part| {
            has(&message.to, part)
                || has(&message.cc, part)
                || message.recipients.iter().any(|recipient| has(recipient, part))
        };
        match self {
            Self::After(time) => message.received_at >= *time,
            Self::Before(time) => message.received_at < *time,
            Self::From(part) => from(part),
            Self::Id(part) => message.id.to_string().to_lowercase().starts_with(part.as_str()),
            Self::Larger(bytes) => message.size_bytes > *bytes,
            Self::MessageId(part) => has(&message.message_id, part),
            Self::Older(age) => now.since(message.received_at) > *age,
            Self::Smaller(bytes) => message.size_bytes < *bytes,
            Self::Subject(part) => has(&message.subject, part),
            Self::To(part) => to(part),
            Self::Word(part) => {
                has(&message.subject, part)
                    || from(part)
                    || to(part)
                    || has(&message.message_id, part)
            }
            Self::Younger(age) => now.since(message.received_at) < *age,
        }
    }
}

/// Reads all terms of a query.
pub(crate) fn terms<T>(text: &str, grammar: &Grammar<T>) -> Result<Vec<Term<T>>, QueryError> {
    if text.len() > QUERY_OCTETS_MAX {
        return Err(QueryError::Long);
    }
    let mut terms = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (term, tail) = term(rest, grammar)?;
        terms.push(term);
        rest = tail.trim_start();
    }
    Ok(terms)
}

/// Reads one term from the beginning of `text`, which is not empty and does not begin with a space.
fn term<'a, T>(text: &'a str, grammar: &Grammar<T>) -> Result<(Term<T>, &'a str), QueryError> {
    let (is_negated, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
    // `Subject:` is as good as `subject:`.
    let key = grammar
        .keys
        .iter()
        .copied()
        .find(|key| text.get(..key.len()).is_some_and(|start| start.eq_ignore_ascii_case(key)));
    if let Some(key) = key {
        let (value, rest) = word(text.get(key.len()..).unwrap_or_default())?;
        if value.is_empty() {
            return Err(QueryError::Value(key, "it is empty".to_owned()));
        }
        return Ok((Term { test: (grammar.keyed)(key, &value)?, is_negated }, rest));
    }
    // No key begins so, but an address or a Message-ID may.
    let is_phrase = text.starts_with(['"', '<']);
    let (value, rest) = word(text)?;
    if value.is_empty() {
        return Err(QueryError::Value("!", "no word follows".to_owned()));
    }
    if let Some(end) = value.find([':', '<', '>']).filter(|_| !is_phrase) {
        let word = value.get(..=end).unwrap_or_default().to_owned();
        let near = nearest(&word.to_lowercase(), grammar.keys.iter().copied());
        return Err(QueryError::Key { word, near, known: grammar.keys });
    }
    Ok((Term { test: (grammar.word)(value.to_lowercase()), is_negated }, rest))
}

/// A phrase in quotation marks, or everything up to the next space.
fn word(text: &str) -> Result<(String, &str), QueryError> {
    if let Some(phrase) = text.strip_prefix('"') {
        let (phrase, rest) = phrase.split_once('"').ok_or(QueryError::Open)?;
        return Ok((phrase.to_owned(), rest));
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    Ok((word.to_owned(), rest))
}

fn test(key: &'static str, value: &str) -> Result<Test, QueryError> {
    let text = value.to_lowercase();
    Ok(match key {
        "after:" => Test::After(time(key, value)?),
        "age<" => Test::Younger(age(key, value)?),
        "age>" => Test::Older(age(key, value)?),
        "before:" => Test::Before(time(key, value)?),
        "from:" => Test::From(text),
        "id:" => Test::Id(text),
        "message-id:" => Test::MessageId(text.trim_matches(['<', '>']).to_owned()),
        "size<" => Test::Smaller(size(key, value)?),
        "size>" => Test::Larger(size(key, value)?),
        "subject:" => Test::Subject(text),
        _ => Test::To(text),
    })
}

/// The value of a key that wants a date.
pub(crate) fn time(key: &'static str, value: &str) -> Result<Time, QueryError> {
    date_time(value).ok_or_else(|| QueryError::Value(key, "a date is wanted".to_owned()))
}

/// The value of a key that wants an age.
pub(crate) fn age(key: &'static str, value: &str) -> Result<Duration, QueryError> {
    quantity::duration(value).map_err(|why| QueryError::Value(key, why.to_string()))
}

/// The value of a key that wants a number of octets.
pub(crate) fn size(key: &'static str, value: &str) -> Result<u64, QueryError> {
    quantity::bytes(value).map_err(|why| QueryError::Value(key, why.to_string()))
}

/// Whether the address is at this domain or at one below it.
pub(crate) fn is_at(address: &str, domain: &str) -> bool {
    let at = address.rsplit_once('@').map(|(_, at)| at.to_lowercase()).unwrap_or_default();
    let before = at.strip_suffix(domain);
    before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// A date, or a date and a time, in UTC: `2026-11-23`, `2026-11-23T20:50Z`, `2026-11-23T20:50:00Z`.
fn date_time(text: &str) -> Option<Time> {
    let (date, clock) = text.split_once(['T', 't']).unwrap_or((text, "0:0:0"));
    let numbers = |text: &str, mark: char| -> Option<Vec<u64>> {
        text.split(mark)
            .map(|part| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?)
            .collect()
    };
    let date = numbers(date, '-')?;
    let clock = numbers(clock.trim_end_matches(['Z', 'z']), ':')?;
    let &[year, month, day] = date.as_slice() else { return None };
    let (hour, minute, second) = match *clock.as_slice() {
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    if !(1970..=9999).contains(&year) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // The calendar knows days only forwards: find the day on which it says what was written.
    let first = (year - 1970) * 365 + (year - 1969) / 4 - (year - 1901) / 100 + (year - 1601) / 400;
    let written = (year, month, day);
    let days = (first..first + 366).find(|days| {
        let civil = Time::from_secs(days * 86_400).civil();
        (civil.year, civil.month, civil.day) == written
    })?;
    Some(Time::from_secs(days * 86_400 + hour * 3_600 + minute * 60 + second))
}

/// All keys, with the sign that ends them.
const KEYS: [&str; 11] = [
    "after:",
    "age<",
    "age>",
    "before:",
    "from:",
    "id:",
    "message-id:",
    "size<",
    "size>",
    "subject:",
    "to:",
];

const QUERY_OCTETS_MAX: usize = 2_048;

#[cfg(test)]
mod tests {
    use merpati_mail::QueueId;

    use super::*;

    fn message() -> Summary {
        Summary {
            id: QueueId::from_bits(0x0123_4567_89AB_CDEF),
            received_at: Time::from_secs(1_795_467_000), // 2026-11-23T20:50:00Z
            size_bytes: 10_240,
            reverse_path: "bounces@shop.example".to_owned(),
            recipients: vec!["ani@example.id".to_owned(), "hidden@example.id".to_owned()],
            from: "Toko Ünik <order@shop.example>".to_owned(),
            to: "Ani <ani@example.id>".to_owned(),
            cc: "budi@example.id".to_owned(),
            subject: "Your code is 4711".to_owned(),
            message_id: "1@shop.example".to_owned(),
        }
    }

    #[test]
    fn a_message_is_selected_when_every_term_holds() {
        let now = Time::from_secs(1_795_467_000 + 600);
        for (query, want) in [
            ("", true),
            ("  ", true),
            ("from:order", true),
            ("from:BOUNCES@", true),
            ("from:ünik", true),
            ("FROM:order", true),
            ("to:hidden", true),
            ("to:budi", true),
            ("to:nobody", false),
            ("!to:nobody", true),
            ("subject:\"code is\"", true),
            ("subject:\"is code\"", false),
            ("code 4711", true),
            ("code 4712", false),
            ("\"your code\"", true),
            ("!\"your code\"", false),
            ("id:028t5cy4tqkff", true),
            ("id:028T5", true),
            ("id:28T5", false),
            ("message-id:<1@shop.example>", true),
            ("size>10k", false),
            ("size>10239", true),
            ("size<10MiB", true),
            ("age>5m", true),
            ("age<5m", false),
            ("age<1h from:shop", true),
            ("after:2026-11-23", true),
            ("before:2026-11-23", false),
            ("before:2026-11-24", true),
            ("after:2026-11-23T20:50:00Z", true),
            ("after:2026-11-23T20:50:01Z", false),
            ("\"age<1h\"", false),
        ] {
            let parsed = Query::parse(query).unwrap();
            assert_eq!(parsed.matches(&message(), now), want, "{query}");
        }
    }

    #[test]
    fn what_is_not_a_query_says_why_and_what_to_do() {
        for (query, want, advice) in [
            ("form:x", "`form:` is not a key of the query", "Did you mean `from:`?"),
            ("Subjet:x", "`Subjet:` is not a key of the query", "Did you mean `subject:`?"),
            ("size:5", "`size:` is not a key of the query", "Did you mean `size<`?"),
            ("subject:\"x", "a phrase is not closed", "Close the phrase with a quotation mark."),
            (
                "from:",
                "the value of `from:`: it is empty",
                "Write from:word or from:\"some words\".",
            ),
            ("!", "the value of `!`: no word follows", "Write !word or !\"some words\"."),
            (
                "age>5",
                "the value of `age>`: a unit is missing, as in `30 s` or `5 min`",
                "Write age>5m, age>2h or age>3d.",
            ),
            (
                "before:tomorrow",
                "the value of `before:`: a date is wanted",
                "Write before:2026-11-23 or before:2026-11-23T20:50:00Z.",
            ),
            (
                "size>big",
                "the value of `size>`: a whole number with a unit is wanted",
                "Write size>10k or size>2MiB.",
            ),
        ] {
            let error = Query::parse(query).unwrap_err();
            assert_eq!(error.to_string(), want, "{query}");
            assert_eq!(error.advice(), advice, "{query}");
        }
        assert_eq!(Query::parse(&"x".repeat(3_000)), Err(QueryError::Long));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (text, want) in [
            ("1970-01-01", Some("1970-01-01T00:00:00.000Z")),
            ("2000-02-29", Some("2000-02-29T00:00:00.000Z")),
            ("2100-02-29", None),
            ("2026-12-31T23:59", Some("2026-12-31T23:59:00.000Z")),
            ("9999-12-31T23:59:59Z", Some("9999-12-31T23:59:59.000Z")),
            ("2026-13-01", None),
            ("2026-11", None),
            ("2026-11-23T24:00", None),
            ("+26-11-23", None),
        ] {
            let time = date_time(text).map(|time| time.to_string());
            assert_eq!(time.as_deref(), want, "{text}");
        }
    }
}
