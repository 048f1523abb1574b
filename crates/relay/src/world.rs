//! Who answers the questions that admission asks about clients, senders and recipients.
//!
//! Invariant: every question is answered by its deadline, if only by "unknown"; what is asked of
//! strangers' zones is bounded and kept for a while. What an answer means is decided by
//! [`merpati_flow::admit`]. Not pure: DNS, next hops, a file.

mod greylist;
mod lists;
mod provenance;
mod verifier;

use std::{sync::Arc, time::Duration};

use merpati_mail::{
    Answer, Question,
    question::{
        CredentialAnswer, GreylistAnswer, HostNameAnswer, ListedAnswer, MailDomainAnswer, MxAnswer,
        RecipientAnswer,
    },
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout_at},
};

pub(crate) use self::provenance::authors;
pub use self::provenance::{Chain, Looked};
pub use self::{
    greylist::Memory,
    lists::{ListOptions, Lists},
    verifier::{Verifier, VerifierOptions},
};
use crate::resolve::Resolver;

/// Answers questions; cheap to clone. The default one knows nothing.
#[derive(Clone, Debug, Default)]
pub struct World(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    resolver: Resolver,
    lists: Lists,
    greylist: Option<Arc<Memory>>,
    verifier: Verifier,
    waits: Waits,
}

/// Answers that are under way.
pub type Ahead = JoinHandle<Vec<(Question, Answer)>>;

/// How long for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// How long the questions of one command may take in all.
    pub questions: Duration,
    /// How long all questions about who sent a message may take.
    pub provenance: Duration,
    /// How long a next hop may take to say whether it knows a recipient.
    pub recipients: Duration,
}

impl World {
    /// Answers by these; `greylist` is `None` where nobody waits.
    pub fn new(
        resolver: Resolver,
        lists: Lists,
        greylist: Option<Arc<Memory>>,
        verifier: Verifier,
        waits: Waits,
    ) -> Self {
        Self(Some(Arc::new(Shared { resolver, lists, greylist, verifier, waits })))
    }

    /// Answers these, all at once; each by its deadline.
    pub async fn ask(&self, questions: Vec<Question>) -> Vec<(Question, Answer)> {
        let began = Instant::now();
        let mut asked = JoinSet::new();
        for question in questions.iter().cloned() {
            let Some(shared) = self.0.clone() else { break };
            asked.spawn(async move {
                let deadline = began + shared.wait_for(&question);
                let answer = timeout_at(deadline, shared.answer(&question));
                let answer = answer.await.unwrap_or_else(|_| unknown(&question));
                (question, answer)
            });
        }
        let mut answers = Vec::with_capacity(questions.len());
        while let Some(joined) = asked.join_next().await {
            answers.extend(joined.ok());
        }
        // What panicked gave no answer, nor does a world that knows nothing; and one is owed.
        let is_missing = |question: &Question| !answers.iter().any(|(it, _)| it == question);
        let missing: Vec<_> = questions.into_iter().filter(is_missing).collect();
        answers.extend(missing.into_iter().map(|question| {
            let answer = unknown(&question);
            (question, answer)
        }));
        answers
    }

    /// Begins to ask, so that the answers are there when they are needed; `None` where there is
    /// nothing to ask.
    pub fn ask_ahead(&self, questions: Vec<Question>) -> Option<Ahead> {
        let world = self.clone();
        let is_needed = !questions.is_empty();
        is_needed.then(|| tokio::spawn(async move { world.ask(questions).await }))
    }
}

impl Shared {
    const fn wait_for(&self, question: &Question) -> Duration {
        match question {
            Question::Recipient(_) => self.waits.recipients,
            Question::Greylist(_)
            | Question::HostName(_)
            | Question::Listed { .. }
            | Question::MailDomain(_)
            | Question::Mx(_)
            | Question::Credential(_) => self.waits.questions,
        }
    }

    async fn answer(&self, question: &Question) -> Answer {
        match question {
            Question::Greylist(triplet) => Answer::Greylist(match &self.greylist {
                Some(memory) => memory.ask(triplet),
                None => GreylistAnswer::Unknown,
            }),
            Question::HostName(address) => {
                Answer::HostName(self.resolver.host_name(*address).await)
            }
            Question::Listed { zone, entry } => {
                Answer::Listed(self.lists.ask(&self.resolver, zone, entry).await)
            }
            Question::MailDomain(domain) => {
                let answer = self.resolver.mail_domain(domain).await;
                Answer::MailDomain(answer.unwrap_or(MailDomainAnswer::Unknown))
            }
            Question::Recipient(mailbox) => Answer::Recipient(self.verifier.ask(mailbox).await),
            // They are asked elsewhere.
            Question::Credential(_) | Question::Mx(_) => unknown(question),
        }
    }
}

/// That nothing is known.
fn unknown(question: &Question) -> Answer {
    match question {
        Question::Greylist(_) => Answer::Greylist(GreylistAnswer::Unknown),
        Question::HostName(_) => Answer::HostName(HostNameAnswer::Unknown),
        Question::Listed { .. } => Answer::Listed(ListedAnswer::Unknown),
        Question::MailDomain(_) => Answer::MailDomain(MailDomainAnswer::Unknown),
        Question::Mx(_) => {
            Answer::Mx(MxAnswer::Unknown { why: "nobody was asked in time".to_owned() })
        }
        Question::Credential(_) => Answer::Credential(CredentialAnswer::Unavailable),
        Question::Recipient(_) => Answer::Recipient(RecipientAnswer::Unknown),
    }
}
