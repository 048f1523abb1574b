//! How sessions and what is said in them read as JSON.
//!
//! Pure.

use serde::Serialize;

use crate::sessions::{SessionFacts, TapLine};

/// All sessions.
#[derive(Serialize)]
pub(crate) struct List {
    data: Vec<Session>,
}

impl List {
    pub(crate) fn of(all: &[SessionFacts]) -> Self {
        Self { data: all.iter().map(Session::of).collect() }
    }
}

#[derive(Serialize)]
struct Session {
    number: u64,
    direction: &'static str,
    /// The listener of a client, the route to a host.
    name: String,
    peer: Option<String>,
    host: String,
    credential: Option<String>,
    message: Option<String>,
    ms: u64,
    doing: String,
    doing_ms: u64,
    messages: u64,
}

impl Session {
    fn of(facts: &SessionFacts) -> Self {
        let ms = |wait: std::time::Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Self {
            number: facts.number,
            direction: facts.direction.word(),
            name: facts.name.clone(),
            peer: facts.peer.map(|peer| peer.to_string()),
            host: facts.host.clone(),
            credential: facts.credential.clone(),
            message: facts.message.map(|id| id.to_string()),
            ms: ms(facts.lasted),
            doing: facts.doing.clone(),
            doing_ms: ms(facts.doing_for),
            messages: facts.messages,
        }
    }
}

/// A line that was said.
#[derive(Serialize)]
struct Said<'a> {
    at: String,
    session: u64,
    direction: &'static str,
    name: &'a str,
    peer: Option<String>,
    host: &'a str,
    /// `C` or `S`.
    side: &'static str,
    line: &'a str,
}

/// One line of JSON, with its end.
pub(crate) fn said(line: &TapLine) -> String {
    let said = Said {
        at: line.at.to_string(),
        session: line.session,
        direction: line.direction.word(),
        name: &line.name,
        peer: line.peer.map(|peer| peer.to_string()),
        host: &line.host,
        side: if line.from_client { "C" } else { "S" },
        line: &line.line,
    };
    // Text and numbers cannot fail to be written.
    serde_json::to_string(&said).unwrap_or_default() + "\n"
}
