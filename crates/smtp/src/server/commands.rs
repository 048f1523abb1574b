//! What each command does in the present state (RFC 5321 §4.1.4).
//!
//! Invariant: every command is answered exactly once, here or when its question is answered. Pure.

use merpati_mail::{Question, Reply, Stage, Time};

use super::auth::{self, Step};
use super::outbox::Ending;
use super::{Auth, Client, Hello, HelloKind, Output, Phase, Session, SessionEnd, StartTls, Vrfy};
use crate::command::Command;

impl Session {
    /// Takes a line; `has_more` tells whether octets behind it were there already.
    pub(super) fn take_command(&mut self, now: Time, line: &[u8], has_more: bool) {
        self.summary.commands += 1;
        if let Phase::Auth(exchange) = std::mem::replace(&mut self.phase, Phase::Command) {
            if line == b"*" {
                let reply = Reply::new(501, (5, 0, 0), "The authentication was cancelled");
                return self.refuse("auth-cancelled", reply);
            }
            return self.take_step(exchange.respond(line));
        }
        let command = match Command::parse(line, self.offered()) {
            Ok(command) => command,
            Err(fault) if fault.ends_session() => return self.dismiss(fault.rule(), fault.reply()),
            Err(fault) => return self.refuse_bad(fault.rule(), fault.reply()),
        };
        match command {
            Command::Auth { mechanism, initial } => self.auth(mechanism, initial),
            Command::Bdat { octets, is_last } => self.bdat(now, octets, is_last),
            Command::Data => self.data(now, has_more),
            Command::Ehlo(name) => self.hello(name, HelloKind::Ehlo, has_more),
            Command::Helo(name) => self.hello(name, HelloKind::Helo, has_more),
            Command::Help => self.help(),
            Command::Mail(mail) => self.mail(now, mail),
            Command::Noop => self.outbox.reply(&Reply::new(250, (2, 0, 0), "OK")),
            Command::Quit => {
                let text = format!("{} bye", self.options.hostname);
                self.outbox.reply(&Reply::with_text(221, (2, 0, 0), text));
                self.close(SessionEnd::Quit);
            }
            Command::Rcpt { recipient, is_utf8 } => self.rcpt(recipient, is_utf8),
            Command::Rset => {
                self.drop_transaction();
                self.outbox.reply(&Reply::new(250, (2, 0, 0), "OK"));
            }
            Command::StartTls => self.starttls(),
            Command::Vrfy => self.vrfy(),
            Command::Xclient(attributes) => self.xclient(attributes),
        }
    }

    fn vrfy(&mut self) {
        match self.options.vrfy {
            Vrfy::CannotVerify => {
                let text = "Send some mail, and we will try to deliver it";
                self.outbox.reply(&Reply::new(252, (2, 0, 0), text));
            }
            Vrfy::Off => {
                let reply = Reply::new(502, (5, 5, 1), "The command is not implemented");
                self.refuse_bad("not-implemented", reply);
            }
        }
    }

    /// Goes on with an authentication.
    fn take_step(&mut self, step: Step) {
        match step {
            Step::Challenge(challenge, exchange) => {
                self.outbox.reply(&Reply::bare(334, challenge));
                self.phase = Phase::Auth(exchange);
            }
            Step::Check { user, password } => {
                let question = Question::Password { user, password };
                self.outbox.outputs.push_back(Output::Question(question));
                self.phase = Phase::Password;
            }
            Step::Denied => self.deny_password(),
            Step::Malformed => {
                let reply = Reply::new(501, (5, 5, 2), "The response cannot be read");
                self.refuse_bad("auth-syntax", reply);
            }
        }
    }

    /// RFC 4954 §6: one text for all, so that nobody learns which names exist.
    pub(super) fn deny_password(&mut self) {
        self.auth_failures += 1;
        if self.auth_failures >= self.options.limits.auth_failures_max {
            let text = "Too many failed authentications";
            return self.dismiss("auth-failures", Reply::new(421, (4, 7, 0), text));
        }
        self.refuse("auth-denied", Reply::new(535, (5, 7, 8), "The credentials are not valid"));
    }

    fn hello(&mut self, name: &str, kind: HelloKind, has_more: bool) {
        if self.is_improper(has_more) {
            return self.improper_pipelining();
        }
        let stage = Stage::Hello { name: name.to_owned() };
        self.outbox.outputs.push_back(Output::Ask(stage));
        self.phase = Phase::Hello(Hello { name: name.to_owned(), kind });
    }

    fn auth(&mut self, mechanism: &str, initial: Option<&str>) {
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
        let Some(exchange) = auth::begin(mechanism) else {
            let reply = Reply::new(504, (5, 5, 4), "The mechanism is not known");
            return self.refuse_bad("auth-mechanism", reply);
        };
        let step = match initial {
            Some(response) => exchange.respond(response.as_bytes()),
            None => exchange.challenge(),
        };
        self.take_step(step);
    }

    fn starttls(&mut self) {
        match self.options.starttls {
            StartTls::Absent => {
                let reply = Reply::new(502, (5, 5, 1), "The command is not implemented");
                self.refuse_bad("not-implemented", reply);
            }
            StartTls::Offered | StartTls::Unavailable if self.client.tls.is_some() => {
                self.out_of_sequence("TLS runs already");
            }
            StartTls::Offered | StartTls::Unavailable if !self.has_said_ehlo() => {
                self.out_of_sequence("Say EHLO first");
            }
            StartTls::Offered => {
                self.outbox.reply(&Reply::new(220, (2, 0, 0), "Begin TLS"));
                self.drop_transaction();
                // RFC 3207 §4.2: whatever was said in the clear may have been said by anybody.
                self.client = Client::at(self.client.address);
                self.phase = Phase::Handshake;
                self.outbox.end(Ending::StartTls);
            }
            StartTls::Unavailable => {
                let reply = Reply::new(454, (4, 7, 0), "TLS is not available just now");
                self.refuse("tls-unavailable", reply);
            }
        }
    }

    fn help(&mut self) {
        let text = "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\n\
                    See RFC 5321; questions go to the postmaster";
        self.outbox.reply(&Reply::new(214, (2, 0, 0), text));
    }

    pub(super) fn may_authenticate(&self) -> bool {
        match self.options.auth {
            Auth::Anywhere => true,
            Auth::Off => false,
            Auth::OverTls => self.client.tls.is_some(),
        }
    }

    fn has_said_ehlo(&self) -> bool {
        self.client.hello.as_ref().is_some_and(|hello| hello.kind == HelloKind::Ehlo)
    }
}
