//! What a session and its shell say to each other.
//!
//! Invariant: every question has exactly one kind of answer. Pure.

use std::{fmt, ops::Range};

use merpati_mail::question::CredentialAnswer;
use merpati_mail::{Envelope, Question, QueueId, Stage, Verdict};

use super::Channel;

/// What the world tells a session.
pub enum Input<'a> {
    /// The client is gone; nothing more can be sent.
    Closed,
    /// The message of [`Output::BodyEnd`] is ours and durable.
    Committed(QueueId),
    /// The answer to [`Output::Question`].
    Credential(CredentialAnswer),
    /// All octets that came and were not consumed yet.
    Octets(&'a [u8]),
    /// We want to end; the session does so between two commands.
    Shutdown,
    /// [`Session::deadline`](super::Session::deadline) has passed.
    Timeout,
    /// The handshake that [`Output::StartTls`] asked for succeeded. Where it failed: `Closed`.
    TlsReady(Channel),
    /// The answer to [`Output::Ask`], or a no to [`Output::BodyEnd`].
    Verdict(Verdict),
}

impl fmt::Debug for Input<'_> {
    /// Shows how many octets came, not which: they may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("Closed"),
            Self::Committed(id) => write!(f, "Committed({id})"),
            Self::Credential(answer) => write!(f, "Credential({answer:?})"),
            Self::Octets(octets) => write!(f, "Octets({})", octets.len()),
            Self::Shutdown => f.write_str("Shutdown"),
            Self::Timeout => f.write_str("Timeout"),
            Self::TlsReady(channel) => write!(f, "TlsReady({:?})", channel.facts),
            Self::Verdict(verdict) => write!(f, "Verdict({verdict:?})"),
        }
    }
}

/// What a session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Decide; the answer is [`Input::Verdict`].
    Ask(Stage),
    /// These octets of what was handed in are content, in order.
    Body(Range<usize>),
    /// The content of this message that was collected so far is void.
    BodyDropped,
    /// The content is complete and may be taken: the answer is [`Input::Committed`], or
    /// [`Input::Verdict`] with a refusal, after which the content is void.
    BodyEnd(Box<Envelope>),
    /// Close the connection after everything was sent; nothing comes after it.
    Close,
    /// Find out; always [`Question::Credential`], and the answer is [`Input::Credential`].
    Question(Question),
    /// Send these octets: whole replies.
    Send(Vec<u8>),
    /// Begin a TLS handshake after everything was sent. What was read before it is forgotten.
    StartTls,
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// An answer, the TLS handshake, or that time goes by; octets may be read but are not taken.
    Answer,
    /// Command lines: short reads.
    Commands,
    /// Content: long reads.
    Content {
        /// How many octets of it certainly follow: the rest of a BDAT chunk; `None` for DATA.
        octets: Option<u64>,
    },
    /// Nothing: the session is over.
    Nothing,
}
