//! How a session learns who its client is (RFC 4954).
//!
//! Invariant: every exchange that ends in a yes or a no has asked first, so that whoever answers
//! can count; and every no has the same text, up to the last one, which ends the session. Pure.

use std::time::Duration;

use merpati_mail::question::{CredentialAnswer, Lock};
use merpati_mail::{Question, Reply, Time};

use super::auth::{self, Asked, Exchange, Step};
use super::{Auth, Channel, Mechanism, Output, Phase, Session, bearer};

impl Session {
    /// AUTH.
    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<&str>) {
        if self.options.auth == Auth::Off {
            let reply = Reply::new(502, (5, 5, 1), "The command is not implemented");
            return self.refuse_bad("not-implemented", reply);
        }
        if !self.may_authenticate() {
            let reply = Reply::new(538, (5, 7, 11), "Encryption is needed for authentication");
            return self.refuse("auth-in-clear", reply);
        }
        if !self.has_said_ehlo() {
            return self.out_of_sequence("Say EHLO first");
        }
        if self.client.credential.is_some() {
            return self.out_of_sequence("You have authenticated already");
        }
        if self.transaction.is_some() {
            return self.out_of_sequence("A transaction is open");
        }
        let known = self.usable_mechanisms().find(|m| mechanism.eq_ignore_ascii_case(m.name()));
        let Some(known) = known else {
            let reply = Reply::new(504, (5, 5, 4), "The mechanism is not known");
            return self.refuse_bad("auth-mechanism", reply);
        };
        let is_bindable = self.options.mechanisms.contains(&Mechanism::ScramSha256Plus);
        let exchange = auth::begin(known, self.client.tls.as_ref(), is_bindable);
        let step = match initial {
            Some(response) => exchange.respond(response.as_bytes()),
            None => exchange.challenge(),
        };
        self.take_step(step);
    }

    /// A line of an exchange.
    pub(super) fn take_response(&mut self, exchange: Exchange, line: &[u8]) {
        if line == b"*" {
            // The answer was no, and this is how some clients take it.
            if matches!(exchange, Exchange::BearerRefused { .. }) && self.has_failed_too_often() {
                return;
            }
            let reply = Reply::new(501, (5, 0, 0), "The authentication was cancelled");
            return self.refuse("auth-cancelled", reply);
        }
        self.take_step(exchange.respond(line));
    }

    /// The answer to what was asked.
    pub(super) fn take_credential(&mut self, now: Time, answer: CredentialAnswer) {
        if !matches!(self.phase, Phase::Credential(_)) {
            return;
        }
        let Phase::Credential(asked) = std::mem::replace(&mut self.phase, Phase::Command) else {
            return;
        };
        self.since = now;
        match (answer, asked) {
            (CredentialAnswer::Denied { wait }, Asked::Bearer(dialect)) => {
                let refusal = bearer::refusal(dialect).into();
                self.take_step(Step::Challenge(refusal, Exchange::BearerRefused { wait }));
            }
            (
                CredentialAnswer::Denied { wait },
                Asked::Proof { .. } | Asked::Verifier(_) | Asked::Whole,
            ) => self.deny(wait),
            (CredentialAnswer::Granted { credential }, Asked::Proof { signature }) => {
                let end = Exchange::ScramEnd { credential };
                self.take_step(Step::Challenge(signature.into(), end));
            }
            (CredentialAnswer::Granted { credential }, Asked::Bearer(_) | Asked::Whole) => {
                self.take_step(Step::Granted { credential });
            }
            (CredentialAnswer::Verifier(verifier), Asked::Verifier(first)) => {
                self.take_step(auth::scram_challenge(*first, verifier));
            }
            (CredentialAnswer::Locked(Lock::Address), _) => {
                let text = "Too many failed authentications, try again later";
                self.dismiss("auth-locked-address", Reply::new(421, (4, 7, 0), text));
            }
            (CredentialAnswer::Locked(Lock::User), _) => {
                if self.has_failed_too_often() {
                    return;
                }
                let text = "Too many failed authentications, try again later";
                self.refuse("auth-locked-user", Reply::new(454, (4, 7, 0), text));
            }
            // The last two are answers to another question: ours is as good as not answered.
            (CredentialAnswer::Unavailable, _)
            | (CredentialAnswer::Granted { .. }, Asked::Verifier(_))
            | (
                CredentialAnswer::Verifier(_),
                Asked::Bearer(_) | Asked::Proof { .. } | Asked::Whole,
            ) => {
                let text = "The credentials cannot be checked just now";
                self.refuse("auth-unavailable", Reply::new(454, (4, 7, 0), text));
            }
        }
    }

    /// The time is over that a client had to wait.
    pub(super) fn end_pause(&mut self, now: Time) {
        self.since = now;
        self.phase = Phase::Command;
        self.say_denied();
    }

    pub(super) fn may_authenticate(&self) -> bool {
        match self.options.auth {
            Auth::Anywhere => true,
            Auth::Off => false,
            Auth::OverTls => self.client.tls.is_some(),
        }
    }

    /// The mechanisms that a client is told.
    pub(super) fn offered_mechanisms(&self) -> impl Iterator<Item = Mechanism> {
        let names = self.client.tls.as_ref().and_then(|channel| channel.names.as_ref());
        let has_names = names.is_some_and(|names| !names.is_empty());
        let is_open = self.may_authenticate();
        self.usable_mechanisms()
            .filter(move |m| is_open && (*m != Mechanism::External || has_names))
    }

    /// The mechanisms that a client may try.
    fn usable_mechanisms(&self) -> impl Iterator<Item = Mechanism> {
        let binds = self.client.tls.as_ref().is_some_and(Channel::is_bindable);
        let all = self.options.mechanisms.iter().copied();
        all.filter(move |mechanism| *mechanism != Mechanism::ScramSha256Plus || binds)
    }

    fn take_step(&mut self, step: Step) {
        match step {
            Step::Ask(claim, asked) => {
                self.outbox.outputs.push_back(Output::Question(Question::Credential(claim)));
                self.phase = Phase::Credential(asked);
            }
            Step::Challenge(challenge, exchange) => {
                self.outbox.reply(&Reply::bare(334, challenge));
                self.phase = Phase::Auth(exchange);
            }
            Step::Denied { wait } => self.deny(wait),
            Step::Granted { credential } => {
                self.client.credential = Some(credential);
                self.outbox.reply(&Reply::new(235, (2, 7, 0), "You are authenticated"));
            }
            Step::Malformed => {
                let reply = Reply::new(501, (5, 5, 2), "The response cannot be read");
                self.refuse_bad("auth-syntax", reply);
            }
        }
    }

    /// No, after this time: guessing is slow, whatever the machines can do.
    fn deny(&mut self, wait: Duration) {
        if wait.is_zero() {
            self.say_denied();
        } else {
            self.phase = Phase::Paused(wait);
        }
    }

    /// RFC 4954 §6: one text for all, so that nobody learns which names exist.
    fn say_denied(&mut self) {
        if !self.has_failed_too_often() {
            let text = "The credentials are not valid";
            self.refuse("auth-denied", Reply::new(535, (5, 7, 8), text));
        }
    }

    /// Counts a failure; whether it was one too many, which ends the session.
    fn has_failed_too_often(&mut self) -> bool {
        self.auth_failures += 1;
        let is_too_often = self.auth_failures >= self.options.limits.auth_failures_max;
        if is_too_often {
            let text = "Too many failed authentications";
            self.dismiss("auth-failures", Reply::new(421, (4, 7, 0), text));
        }
        is_too_often
    }
}
