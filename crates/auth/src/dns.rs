//! What has to be known from the DNS, and what it says.
//!
//! Invariant: nothing here asks. A check is made again with what became known, until nothing is
//! missing (ADR 0024, ADR 0043): so a table of answers tests every rule. Pure.

use std::{collections::BTreeMap, fmt, net::IpAddr};

/// A question to the DNS. Names are in lower case and have no dot at their end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// The IPv4 addresses of a name.
    A(String),
    /// The IPv6 addresses of a name.
    Aaaa(String),
    /// The MX records of a name.
    Mx(String),
    /// The names of an address.
    Ptr(IpAddr),
    /// The TXT records of a name.
    Txt(String),
}

impl Question {
    /// The addresses of a name, of the family of this one.
    pub(crate) fn address(name: &str, family: IpAddr) -> Self {
        match family {
            IpAddr::V4(_) => Self::A(normal(name)),
            IpAddr::V6(_) => Self::Aaaa(normal(name)),
        }
    }

    pub(crate) fn a(name: &str) -> Self {
        Self::A(normal(name))
    }

    pub(crate) fn mx(name: &str) -> Self {
        Self::Mx(normal(name))
    }

    pub(crate) fn txt(name: &str) -> Self {
        Self::Txt(normal(name))
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(name) => write!(f, "A {name}"),
            Self::Aaaa(name) => write!(f, "AAAA {name}"),
            Self::Mx(name) => write!(f, "MX {name}"),
            Self::Ptr(address) => write!(f, "PTR of {address}"),
            Self::Txt(name) => write!(f, "TXT {name}"),
        }
    }
}

/// What the DNS says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::A`] and [`Question::Aaaa`]; never empty.
    Addresses(Vec<IpAddr>),
    /// To [`Question::Mx`]: preference and host; never empty.
    Exchanges(Vec<(u16, String)>),
    /// To [`Question::Ptr`]; never empty.
    Names(Vec<String>),
    /// The name does not exist (NXDOMAIN).
    NoName,
    /// The name exists, but holds nothing of that kind.
    Nothing,
    /// To [`Question::Txt`]: a text for each record, its strings joined; never empty.
    Texts(Vec<Vec<u8>>),
    /// It could not be found out just now: a time-out, SERVFAIL, a bogus signature.
    Unknown,
}

/// What is known so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(BTreeMap<Question, Answer>);

impl Known {
    /// Adds an answer. Names in it get the form that those of questions have, and an empty list
    /// becomes [`Answer::Nothing`].
    pub fn tell(&mut self, question: Question, answer: Answer) {
        let answer = match answer {
            Answer::Exchanges(hosts) => Answer::Exchanges(
                hosts.into_iter().map(|(preference, host)| (preference, normal(&host))).collect(),
            ),
            Answer::Names(names) => Answer::Names(names.iter().map(|name| normal(name)).collect()),
            other @ (Answer::Addresses(_)
            | Answer::NoName
            | Answer::Nothing
            | Answer::Texts(_)
            | Answer::Unknown) => other,
        };
        let is_empty = match &answer {
            Answer::Addresses(list) => list.is_empty(),
            Answer::Exchanges(list) => list.is_empty(),
            Answer::Names(list) => list.is_empty(),
            Answer::Texts(list) => list.is_empty(),
            Answer::NoName | Answer::Nothing | Answer::Unknown => false,
        };
        self.0.insert(question, if is_empty { Answer::Nothing } else { answer });
    }

    /// How many answers there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The answer to a question, or the question.
    pub fn get(&self, question: Question) -> Result<&Answer, Missing> {
        self.0.get(&question).ok_or_else(|| Missing(vec![question]))
    }
}

impl Extend<(Question, Answer)> for Known {
    fn extend<T: IntoIterator<Item = (Question, Answer)>>(&mut self, answers: T) {
        for (question, answer) in answers {
            self.tell(question, answer);
        }
    }
}

/// Questions without whose answers a check cannot go on; none of them twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing(Vec<Question>);

impl Missing {
    /// Those of several checks that can go on side by side; `None` where none misses anything.
    pub(crate) fn join(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut questions: Vec<_> = all.into_iter().flat_map(|missing| missing.0).collect();
        questions.sort();
        questions.dedup();
        (!questions.is_empty()).then_some(Self(questions))
    }

    /// They.
    pub fn into_questions(self) -> Vec<Question> {
        self.0
    }
}

/// A name as it is asked for.
fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_lowercase()
}
