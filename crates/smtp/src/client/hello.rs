//! How a connection becomes ready for mail: greeting, EHLO, STARTTLS, and then AUTH.
//!
//! Invariant: a session that must be protected becomes ready in no other way. Pure.

use merpati_mail::{
    Domain, Reply, Time, TlsFacts,
    outcome::{Fact, Finding, Need, Phase},
};

use super::{
    CLEAR_BEHIND_STARTTLS, Capabilities, Channel, Dialect, Extension, Output, Session, State,
    TlsUse,
};

/// The verb with which we named ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeter {
    Ehlo,
    Helo,
    Lhlo,
}

impl Session {
    pub(super) fn greeted(&mut self, now: Time, reply: Reply) -> State {
        if reply.is_positive() {
            // Also where the greeting does not say ESMTP: RFC 5321 §3.2 has EHLO tried first.
            return self.say_hello(now);
        }
        self.fail(now, Finding { phase: Phase::Greeting, fact: judged(reply) })
    }

    pub(super) fn hello_answered(&mut self, now: Time, greeter: Greeter, reply: Reply) -> State {
        if reply.is_positive() {
            if self.is_ourselves(&reply) {
                return self.fail(now, Finding { phase: Phase::Hello, fact: Fact::Ourselves });
            }
            self.capabilities = match greeter {
                Greeter::Ehlo | Greeter::Lhlo => Capabilities::parse(&reply),
                Greeter::Helo => Capabilities::default(),
            };
            return self.secure(now);
        }
        if reply.is_permanent() && greeter == Greeter::Ehlo {
            if self.may_do_without_esmtp() {
                return self.name_ourselves(now, Greeter::Helo);
            }
            if is_not_known(&reply) {
                return self.fail(now, self.esmtp_is_missed());
            }
        }
        // The operator named this host, and will mend that.
        if greeter == Greeter::Lhlo && is_not_known(&reply) {
            let fact = Fact::Protocol(NO_LHLO.to_owned());
            return self.fail(now, Finding { phase: Phase::Hello, fact });
        }
        self.fail(now, Finding { phase: Phase::Hello, fact: judged(reply) })
    }

    pub(super) fn starttls_answered(&mut self, now: Time, reply: Reply, rest: &[u8]) -> State {
        if reply.is_positive() {
            if !rest.is_empty() {
                let fact = Fact::Protocol(CLEAR_BEHIND_STARTTLS.to_owned());
                return self.end(Finding { phase: Phase::StartTls, fact });
            }
            self.deadline = Some(now + self.options.timeouts.tls);
            self.outputs.push_back(Output::StartTls);
            return State::Handshake;
        }
        let is_refusal = reply.is_transient() || reply.is_permanent();
        if is_refusal && self.options.tls == TlsUse::Opportunistic {
            self.capabilities.forget_starttls();
            return self.authenticate(now);
        }
        self.fail(now, Finding { phase: Phase::StartTls, fact: judged(reply) })
    }

    /// The handshake is done. RFC 3207 §4.2: what was learned in the clear is forgotten.
    pub(super) fn protected(&mut self, now: Time, facts: TlsFacts) {
        if !matches!(self.state, State::Handshake) {
            return;
        }
        self.capabilities = Capabilities::default();
        self.channel = Channel::Tls(Some(facts));
        self.state = self.say_hello(now);
    }

    fn say_hello(&mut self, now: Time) -> State {
        let greeter = match self.options.dialect {
            Dialect::Lmtp => Greeter::Lhlo,
            Dialect::Smtp => Greeter::Ehlo,
        };
        self.name_ourselves(now, greeter)
    }

    fn name_ourselves(&mut self, now: Time, greeter: Greeter) -> State {
        let verb = match greeter {
            Greeter::Ehlo => "EHLO",
            Greeter::Helo => "HELO",
            Greeter::Lhlo => "LHLO",
        };
        let line = format!("{verb} {}\r\n", self.options.hello);
        self.send(now, line.into_bytes(), self.options.timeouts.hello);
        State::Hello(greeter)
    }

    /// Whether a peer that says this has our name: RFC 5321 §4.1.1.1 has it give its own as the
    /// first word.
    fn is_ourselves(&self, reply: &Reply) -> bool {
        let name = reply.text.split_ascii_whitespace().next();
        let (Some(name), Some(ours)) = (name, &self.options.ourselves) else { return false };
        Domain::parse(name).is_ok_and(|name| name == *ours)
    }

    /// Whether HELO would do: it offers neither STARTTLS nor AUTH.
    fn may_do_without_esmtp(&self) -> bool {
        let is_in_clear = matches!(self.channel, Channel::Clear);
        let needs_starttls = is_in_clear && self.options.tls == TlsUse::Required;
        !needs_starttls && self.options.credential.is_none()
    }

    /// What a peer lacks that does not know EHLO, where HELO would not do.
    fn esmtp_is_missed(&self) -> Finding {
        if matches!(self.channel, Channel::Clear) && self.options.tls == TlsUse::Required {
            return Finding { phase: Phase::StartTls, fact: Fact::Lacks(Need::StartTls) };
        }
        Finding { phase: Phase::Auth, fact: Fact::Protocol(NO_EHLO.to_owned()) }
    }

    /// STARTTLS, if it is to be and is not yet.
    fn secure(&mut self, now: Time) -> State {
        let wants_tls = match (&self.channel, self.options.tls) {
            (Channel::Tls(_), _) | (Channel::Clear, TlsUse::Never | TlsUse::Implicit) => false,
            (Channel::Clear, TlsUse::Opportunistic | TlsUse::Required) => true,
        };
        if !wants_tls {
            return self.authenticate(now);
        }
        if self.capabilities.offers(Extension::StartTls) {
            self.send(now, b"STARTTLS\r\n".to_vec(), self.options.timeouts.tls);
            return State::StartTls;
        }
        if self.options.tls == TlsUse::Required {
            let fact = Fact::Lacks(Need::StartTls);
            return self.fail(now, Finding { phase: Phase::StartTls, fact });
        }
        self.authenticate(now)
    }
}

/// Whether a command is not known or not understood, rather than refused (RFC 5321 §4.2.4).
const fn is_not_known(reply: &Reply) -> bool {
    matches!(reply.code, 500 | 501 | 502 | 504)
}

/// What a reply other than the hoped-for one means: a refusal, or nonsense.
pub(super) fn judged(reply: Reply) -> Fact {
    if reply.is_transient() || reply.is_permanent() {
        Fact::Replied(reply)
    } else {
        let reply = reply.shortened();
        Fact::Protocol(format!("this reply makes no sense here: {reply}"))
    }
}

const NO_EHLO: &str = "EHLO is not known, and so there is no AUTH";
const NO_LHLO: &str = "LHLO is not known: this is no server for LMTP";
