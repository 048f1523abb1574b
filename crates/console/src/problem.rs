//! How a request that failed is answered: problem details (RFC 9457).
//!
//! Invariant: each failure has one code, and each code one status, one title and one explanation;
//! `/errors/<code>` tells the explanation. Pure.

use std::fmt::Write as _;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{AdminError, NotReady, query::QueryError};

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which kind of failure.
    pub code: Code,
    /// What happened this time, one sentence.
    pub detail: String,
    /// What to do, one sentence each.
    pub advice: Vec<String>,
}

impl Problem {
    /// A failure without advice.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), advice: Vec::new() }
    }

    /// The same with one more sentence of advice.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice.push(advice.into());
        self
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Config(mistakes) => Self::new(Code::ConfigInvalid, mistakes)
                .advise("Mend the configuration and reload again; the relay goes on as it was."),
            AdminError::Recovering => {
                Self::new(Code::Recovering, error.to_string()).advise("Ask again in a moment.")
            }
            AdminError::Refused(why) => Self::new(Code::BadParameter, why),
            AdminError::Storage(why) => {
                Self::new(Code::StorageFailed, why).advise("Look into the log of the relay.")
            }
            AdminError::Unavailable(why) => Self::new(Code::NotReady, why),
        }
    }
}

impl From<NotReady> for Problem {
    fn from(state: NotReady) -> Self {
        Self { code: Code::NotReady, detail: state.reason, advice: state.advice }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        Self::new(Code::BadQuery, error.to_string()).advise(error.advice())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let body = Body {
            r#type: format!("/errors/{}", self.code.name()),
            title: self.code.title(),
            status: status.as_u16(),
            detail: self.detail,
            code: self.code.name(),
            advice: self.advice,
        };
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body.text()).into_response()
    }
}

/// The members of RFC 9457 §3.1, and two of ours.
#[derive(Serialize)]
struct Body {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'static str,
    advice: Vec<String>,
}

impl Body {
    fn text(&self) -> String {
        // Text, numbers and lists of text cannot fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Which kind of failure. The name of a code never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A parameter of the request is unknown or has a wrong value.
    BadParameter,
    /// The selection cannot be read.
    BadQuery,
    /// The configuration has mistakes.
    ConfigInvalid,
    /// The request came from a page of another host.
    ForeignOrigin,
    /// The request names a host that we are not.
    HostUnknown,
    /// The resource knows other methods only.
    MethodNotAllowed,
    /// There is no message of this name.
    NoSuchMessage,
    /// There is nothing at this path.
    NoSuchRoute,
    /// The relay takes no mail just now.
    NotReady,
    /// The relay still reads what its spool held when it started.
    Recovering,
    /// The spool could not read or write.
    StorageFailed,
    /// What was waited for did not come in time.
    WaitTimeout,
}

impl Code {
    /// All codes, in alphabetical order.
    pub const ALL: [Self; 12] = [
        Self::BadParameter,
        Self::BadQuery,
        Self::ConfigInvalid,
        Self::ForeignOrigin,
        Self::HostUnknown,
        Self::MethodNotAllowed,
        Self::NoSuchMessage,
        Self::NoSuchRoute,
        Self::NotReady,
        Self::Recovering,
        Self::StorageFailed,
        Self::WaitTimeout,
    ];

    /// The name by which programs know it.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The status of the response.
    pub const fn status(self) -> StatusCode {
        self.row().1
    }

    /// The same for every occurrence (RFC 9457 §3.1.3).
    pub const fn title(self) -> &'static str {
        self.row().2
    }

    /// What it means and what to do.
    pub const fn explanation(self) -> &'static str {
        self.row().3
    }

    const fn row(self) -> (&'static str, StatusCode, &'static str, &'static str) {
        match self {
            Self::BadParameter => {
                ("bad_parameter", StatusCode::BAD_REQUEST, "A parameter is wrong", BAD_PARAMETER)
            }
            Self::BadQuery => {
                ("bad_query", StatusCode::BAD_REQUEST, "The query cannot be read", GRAMMAR)
            }
            Self::ConfigInvalid => (
                "config_invalid",
                StatusCode::CONFLICT,
                "The configuration has mistakes",
                CONFIG_INVALID,
            ),
            Self::ForeignOrigin => (
                "foreign_origin",
                StatusCode::FORBIDDEN,
                "The request came from another site",
                FOREIGN_ORIGIN,
            ),
            Self::HostUnknown => (
                "host_unknown",
                StatusCode::MISDIRECTED_REQUEST,
                "The host is not ours",
                HOST_UNKNOWN,
            ),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "The method is not allowed",
                METHOD_NOT_ALLOWED,
            ),
            Self::NoSuchMessage => (
                "no_such_message",
                StatusCode::NOT_FOUND,
                "There is no such message",
                NO_SUCH_MESSAGE,
            ),
            Self::NoSuchRoute => (
                "no_such_route",
                StatusCode::NOT_FOUND,
                "There is nothing at this path",
                "The path is not one of the API's. The API begins with /v1.",
            ),
            Self::NotReady => (
                "not_ready",
                StatusCode::SERVICE_UNAVAILABLE,
                "The relay takes no mail just now",
                "The relay starts, drains, or cannot write. The detail says which.",
            ),
            Self::Recovering => (
                "recovering",
                StatusCode::SERVICE_UNAVAILABLE,
                "The relay still reads its spool",
                RECOVERING,
            ),
            Self::StorageFailed => (
                "storage_failed",
                StatusCode::INTERNAL_SERVER_ERROR,
                "The spool failed",
                "The disk could not be read or written. The log of the relay says more.",
            ),
            Self::WaitTimeout => {
                ("wait_timeout", StatusCode::REQUEST_TIMEOUT, "Nothing came in time", WAIT_TIMEOUT)
            }
        }
    }
}

const BAD_PARAMETER: &str = "A parameter of the request is unknown, repeated, or has a value that \
                             it cannot have. The detail names it; the advice says what it may be.";
const CONFIG_INVALID: &str = "The relay read its configuration again and found mistakes, which the \
                              detail names with their places. Nothing was changed.";
const FOREIGN_ORIGIN: &str = "A browser sent a request that changes something for a page of \
                              another host. Use the page of this host, or a program that sends no \
                              Origin.";
const HOST_UNKNOWN: &str = "The Host of the request is neither an address nor localhost nor the \
                            relay's own name. This stops pages that point a name of their own at \
                            this address (DNS rebinding). Use an address, or set server.hostname.";
const METHOD_NOT_ALLOWED: &str = "There is something at this path, but not for this method. The \
                                  Allow field of the response names the methods.";
const WAIT_TIMEOUT: &str = "No message that the query selects came before the time-out. Ask again, \
                            with the same `after`.";
const GRAMMAR: &str = "A key is unknown or a value wrong. The grammar: from: to: id: size> size< \
                       age> age< before: after:, words, \"phrases\", !; for captured mail also \
                       subject: message-id:; for the queue also domain: status: reason: \
                       credential: listener: attempts> attempts<.";

const NO_SUCH_MESSAGE: &str = "No captured message has this id: it may have been deleted, or the \
                               sandbox has dropped it for its age or for newer ones. Or no \
                               message in the queue has it: it may be delivered, failed or \
                               cancelled by now.";
const RECOVERING: &str = "The relay has started and takes mail, and still reads what its spool \
                          held. Ask again in a moment: GET /v1/status says how many segments are \
                          unread.";

/// The page of `docs/reference` that explains every code.
pub fn reference() -> String {
    let mut page = String::from(
        "# Problems of the HTTP API\n\n\
         Generated by `cargo run -p merpati-xtask -- docs`. A request that failed is answered\n\
         with `application/problem+json` (RFC 9457); `code` is one of these and never changes\n\
         its meaning.\n",
    );
    for code in Code::ALL {
        let (name, status, title) = (code.name(), code.status().as_u16(), code.title());
        // Writing into a string cannot fail.
        let _ = write!(page, "\n## `{name}`\n\n{status}: {title}. {}\n", code.explanation());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_alphabetical_order_and_differ() {
        let names = Code::ALL.map(Code::name);
        assert!(names.is_sorted());
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn the_reference_explains_every_code() {
        let page = reference();
        assert!(Code::ALL.iter().all(|code| page.contains(&format!("## `{}`", code.name()))));
    }
}
