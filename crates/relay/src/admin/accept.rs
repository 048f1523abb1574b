//! Whether a mail would be accepted: makes the steps of a session without one.
//!
//! Invariant: what it says is decided by the code that decides for clients, and nothing is left
//! behind: no limit is spent, and the greylist is not asked, for who is asked about is noted there.
//! Not pure: asks DNS and next hops.

use std::sync::Arc;

use merpati_console::{
    AdminError,
    admin::bare,
    explain::{AcceptAnswer, AcceptQuestion, AcceptStep},
};
use merpati_flow::admit::{self, Answers, Facts, ListenerKind, Room, Step};
use merpati_mail::{
    Answer, BodyType, Question, Requests, ReversePath, Stage, Time, Verdict,
    envelope::Utf8,
    question::{GreylistAnswer, HostNameAnswer, ListedAnswer, MailDomainAnswer, RecipientAnswer},
    stage::Decision,
};

use super::Setup;
use crate::listen::{Plan, Sink};

impl Setup {
    /// What a client would be told.
    pub(super) async fn would_accept(
        &self,
        question: &AcceptQuestion,
        now: Time,
    ) -> Result<AcceptAnswer, AdminError> {
        let plan = self.plan(question.listener.as_deref())?;
        let answers = Answers::default();
        let mut asking = Asking { setup: self, plan: &plan, question, now, answers };
        let stages = [
            ("CONNECT", Stage::Connect),
            ("MAIL", mail(&question.reverse_path)),
            ("RCPT", Stage::Recipient { path: question.recipient.clone(), accepted_before: 0 }),
        ];
        let (mut steps, mut asked) = (Vec::new(), Vec::new());
        for (command, stage) in stages {
            let verdict = asking.decide(&stage, &mut asked).await;
            let refusal = match verdict.decision {
                Decision::Accept | Decision::AcceptLowered(_) => None,
                Decision::Disconnect(reply) | Decision::Refuse(reply) => Some(reply.one_line()),
            };
            let is_refused = refusal.is_some();
            steps.push(AcceptStep { command, rule: verdict.rule.into_owned(), refusal });
            if is_refused {
                break;
            }
        }
        let listener = plan.options.listener.clone();
        let sentence = sentence(question, &plan, &steps);
        Ok(AcceptAnswer { listener, steps, asked, sentence })
    }

    /// The listener of this name, or the one that is meant where none is named.
    fn plan(&self, named: Option<&str>) -> Result<Arc<Plan>, AdminError> {
        let delivers =
            |plan: &&Arc<Plan>| plan.sink == Sink::Queue && plan.policy.kind == ListenerKind::Relay;
        let found = match named {
            Some(name) => self.plans.iter().find(|plan| plan.options.listener == name),
            None => self.plans.iter().find(delivers).or_else(|| self.plans.first()),
        };
        let all: Vec<&str> = self.plans.iter().map(|plan| plan.options.listener.as_str()).collect();
        found.cloned().ok_or_else(|| {
            let named = named.unwrap_or_default();
            AdminError::Refused(format!(
                "no listener is called `{named}`; there are {}",
                all.join(", ")
            ))
        })
    }
}

fn mail(reverse_path: &ReversePath) -> Stage {
    Stage::Mail {
        reverse_path: reverse_path.clone(),
        size_bytes: None,
        body: BodyType::SevenBit,
        utf8: Utf8::NotDeclared,
        requests: Requests::default(),
    }
}

/// A session that is none.
struct Asking<'a> {
    setup: &'a Setup,
    plan: &'a Plan,
    question: &'a AcceptQuestion,
    now: Time,
    answers: Answers,
}

impl Asking<'_> {
    /// Asks what must be known, until it is decided.
    async fn decide(&mut self, stage: &Stage, told: &mut Vec<(String, String)>) -> Verdict {
        let facts = Facts {
            peer: self.question.client,
            credential: self.question.credential.as_deref(),
            room: Room::Roomy,
            reverse_path: match stage {
                Stage::Connect | Stage::Hello { .. } | Stage::Mail { .. } => None,
                Stage::Recipient { .. } => Some(&self.question.reverse_path),
            },
            now: self.now,
        };
        loop {
            let questions = match admit::step(&self.plan.policy, &facts, stage, &self.answers) {
                Step::Verdict(verdict) => return verdict,
                Step::Ask(questions) => questions,
            };
            let (greylist, others): (Vec<Question>, Vec<Question>) =
                questions.into_iter().partition(|one| matches!(one, Question::Greylist(_)));
            let mut answers = self.setup.world.ask(others).await;
            let unasked = |question| (question, Answer::Greylist(GreylistAnswer::Unknown));
            answers.extend(greylist.into_iter().map(unasked));
            told.extend(answers.iter().map(|(question, answer)| words(question, answer)));
            self.answers.add(answers);
        }
    }
}

fn sentence(question: &AcceptQuestion, plan: &Plan, steps: &[AcceptStep]) -> String {
    let (client, listener) = (question.client, &plan.options.listener);
    let from = match question.reverse_path.mailbox() {
        Some(mailbox) => mailbox.to_string(),
        None => "<>".to_owned(),
    };
    let to = bare(&question.recipient);
    let whom = question.credential.as_ref().map(|name| format!(" as {name}")).unwrap_or_default();
    let mail = format!("mail from {from} to {to}, brought by {client}{whom}");
    match steps.last() {
        Some(AcceptStep { command, rule, refusal: Some(reply) }) => {
            format!("Listener {listener} refuses {mail}, at {command} by rule {rule}: {reply}")
        }
        Some(AcceptStep { rule, refusal: None, .. }) => {
            let then = match plan.sink {
                Sink::Capture => ", and the sandbox keeps it",
                Sink::Discard => ", and forgets it at once",
                Sink::Queue => "",
            };
            format!("Listener {listener} accepts {mail}, by rule {rule}{then}.")
        }
        None => format!("Listener {listener} was not asked."),
    }
}

/// A question and its answer in words.
fn words(question: &Question, answer: &Answer) -> (String, String) {
    let asked = match question {
        Question::Credential(_) => "who is it?".to_owned(),
        Question::Greylist(_) => "has this first contact waited?".to_owned(),
        Question::HostName(address) => format!("what is the name of {address}?"),
        Question::Listed { zone, .. } => format!("is it in the list {zone}?"),
        Question::MailDomain(domain) => format!("is there mail for {domain}?"),
        Question::Mx(domain) => format!("which hosts take mail for {domain}?"),
        Question::Recipient(mailbox) => format!("would the next hop take mail for {mailbox}?"),
    };
    let told = match answer {
        Answer::Greylist(_) => "not asked, for it would be noted",
        Answer::HostName(HostNameAnswer::Confirmed(name)) => return (asked, name.to_string()),
        Answer::HostName(HostNameAnswer::None) => "it has none that leads back to it",
        Answer::Listed(ListedAnswer::No) | Answer::Recipient(RecipientAnswer::Refused) => "no",
        Answer::Listed(ListedAnswer::Yes { reason, .. }) => {
            let reason = reason.as_ref().map(|reason| format!(": {reason}"));
            return (asked, format!("yes{}", reason.unwrap_or_default()));
        }
        Answer::MailDomain(MailDomainAnswer::Exists)
        | Answer::Recipient(RecipientAnswer::Taken) => "yes",
        Answer::MailDomain(MailDomainAnswer::NoHost) => "no, it has no MX and no address",
        Answer::MailDomain(MailDomainAnswer::NoSuchDomain) => "no, it does not exist",
        Answer::MailDomain(MailDomainAnswer::NullMx) => "no, it says that it takes no mail",
        Answer::MailDomain(MailDomainAnswer::Trouble) => "its name servers are in trouble",
        Answer::Credential(_)
        | Answer::HostName(HostNameAnswer::Unknown)
        | Answer::Listed(ListedAnswer::Unknown)
        | Answer::MailDomain(MailDomainAnswer::Unknown)
        | Answer::Mx(_)
        | Answer::Recipient(RecipientAnswer::Unknown) => "nobody answered in time",
    };
    (asked, told.to_owned())
}
