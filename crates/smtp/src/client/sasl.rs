//! How we authenticate: which mechanism, and what it says (RFC 4954).
//!
//! Invariants: with a credential a session becomes ready only behind a 235 to the last word of a
//! mechanism, and with SCRAM only when the server has shown that it knows the password; nothing of
//! the credential is said in the clear unless it allows that. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use merpati_mail::{
    Reply, Time,
    outcome::{Fact, Finding, Need, Phase},
};

use super::{
    Channel, Credential, Exposure, Mechanism, Session, State,
    hello::judged,
    scram::{Breach, Exchange, Expected},
};

/// What of AUTH was sent last.
#[derive(Debug)]
pub(super) enum AuthStep {
    /// `*`: what the peer had said is not to be believed, for this reason.
    Cancelled(Finding),
    /// `AUTH LOGIN`.
    Login,
    /// The password of LOGIN.
    LoginPassword,
    /// The name of LOGIN.
    LoginUser,
    /// The one message of PLAIN.
    Plain,
    /// Nothing, to the signature of the server, which was right.
    ScramEnd,
    /// The first message of SCRAM.
    ScramFirst(Exchange),
    /// The last message of SCRAM, to which the server has to answer with this.
    ScramLast(Expected),
    /// `AUTH` without the first message, which would not fit into the line; it is to be sent, and
    /// leads to this step.
    Withheld(String, Box<Self>),
}

impl Session {
    /// AUTH, if there is somebody to be.
    pub(super) fn authenticate(&mut self, now: Time) -> State {
        let Some(credential) = &self.options.credential else {
            return self.become_ready(now);
        };
        if matches!(self.channel, Channel::Clear) && credential.exposure == Exposure::OverTlsOnly {
            let fact = Fact::Lacks(Need::StartTls);
            return self.fail(now, Finding { phase: Phase::Auth, fact });
        }
        let offers = |mechanism| self.capabilities.offers_auth(mechanism);
        let scram = self.options.nonce.as_ref().filter(|_| offers(Mechanism::ScramSha256));
        let (line, step) = if let Some(nonce) = scram {
            let exchange = Exchange::new(&credential.user, nonce);
            begun("SCRAM-SHA-256", &exchange.first(), AuthStep::ScramFirst(exchange))
        } else if offers(Mechanism::Plain) {
            let Credential { user, password, .. } = credential;
            begun("PLAIN", &format!("\0{user}\0{password}"), AuthStep::Plain)
        } else if offers(Mechanism::Login) {
            ("AUTH LOGIN\r\n".to_owned(), AuthStep::Login)
        } else {
            let fact = Fact::Protocol(NO_MECHANISM.to_owned());
            return self.fail(now, Finding { phase: Phase::Auth, fact });
        };
        self.send(now, line.into_bytes(), self.options.timeouts.hello);
        State::Auth(step)
    }

    pub(super) fn auth_answered(&mut self, now: Time, step: AuthStep, reply: Reply) -> State {
        match step {
            AuthStep::Cancelled(found) => return self.fail(now, found),
            AuthStep::Login
            | AuthStep::LoginPassword
            | AuthStep::LoginUser
            | AuthStep::Plain
            | AuthStep::ScramEnd
            | AuthStep::ScramFirst(_)
            | AuthStep::ScramLast(_)
            | AuthStep::Withheld(..) => {}
        }
        if reply.is_intermediate() {
            return self.challenged(now, step, reply);
        }
        let finding = Finding { phase: Phase::Auth, fact: judged(reply.clone()) };
        if !reply.is_positive() {
            return self.fail(now, finding);
        }
        match step {
            AuthStep::LoginPassword | AuthStep::Plain | AuthStep::ScramEnd => {
                self.become_ready(now)
            }
            // RFC 5802 §5: who agrees without a signature may be anybody.
            AuthStep::ScramFirst(_) | AuthStep::ScramLast(_) => {
                let fact = Fact::Protocol(UNSIGNED.to_owned());
                self.end(Finding { phase: Phase::Auth, fact })
            }
            // A peer that agrees at the wrong place is not in step with us.
            AuthStep::Cancelled(_)
            | AuthStep::Login
            | AuthStep::LoginUser
            | AuthStep::Withheld(..) => self.end(finding),
        }
    }

    /// The peer wants to hear more.
    fn challenged(&mut self, now: Time, step: AuthStep, reply: Reply) -> State {
        let Some(credential) = &self.options.credential else {
            return self.end(Finding { phase: Phase::Auth, fact: judged(reply) });
        };
        let answer = match step {
            AuthStep::Login => Ok((STANDARD.encode(&credential.user), AuthStep::LoginUser)),
            AuthStep::LoginUser => {
                Ok((STANDARD.encode(&credential.password), AuthStep::LoginPassword))
            }
            AuthStep::ScramFirst(exchange) => {
                let last = exchange.last(&reply.text, &credential.password);
                last.map(|(last, expected)| (STANDARD.encode(last), AuthStep::ScramLast(expected)))
            }
            // RFC 4954 §4: what comes with success comes as a challenge, and nothing is the answer.
            AuthStep::ScramLast(expected) => {
                expected.check(&reply.text).map(|()| (String::new(), AuthStep::ScramEnd))
            }
            AuthStep::Withheld(message, next) => Ok((message, *next)),
            // A peer that asks when all is said is not in step with us.
            AuthStep::Cancelled(_)
            | AuthStep::LoginPassword
            | AuthStep::Plain
            | AuthStep::ScramEnd => {
                return self.end(Finding { phase: Phase::Auth, fact: judged(reply) });
            }
        };
        let (line, next) = answer.unwrap_or_else(cancelled);
        self.send(now, format!("{line}\r\n").into_bytes(), self.options.timeouts.hello);
        State::Auth(next)
    }
}

/// The command with its first message, if that fits into the line: RFC 4954 §4 has it sent behind
/// a 334 otherwise.
fn begun(mechanism: &str, message: &str, next: AuthStep) -> (String, AuthStep) {
    let message = STANDARD.encode(message);
    let line = format!("AUTH {mechanism} {message}\r\n");
    if line.len() <= COMMAND_OCTETS_MAX {
        (line, next)
    } else {
        (format!("AUTH {mechanism}\r\n"), AuthStep::Withheld(message, Box::new(next)))
    }
}

/// RFC 4954 §4: `*` ends an exchange that we do not want to go on with.
fn cancelled(breach: Breach) -> (String, AuthStep) {
    let fact = Fact::Protocol(breach.to_string());
    ("*".to_owned(), AuthStep::Cancelled(Finding { phase: Phase::Auth, fact }))
}

/// RFC 5321 §4.5.3.1.4, with the CRLF.
const COMMAND_OCTETS_MAX: usize = 512;
const NO_MECHANISM: &str = "none of AUTH SCRAM-SHA-256, PLAIN and LOGIN is offered";
const UNSIGNED: &str = "SCRAM: the server agrees without having shown that it knows the password";
