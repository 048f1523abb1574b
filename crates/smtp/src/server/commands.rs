//! What each command does in the present state (RFC 5321 §4.1.4).
//!
//! Invariant: every command is answered exactly once, here or when its question is answered. Pure.

use merpati_mail::{Reply, Stage, Time};

use super::outbox::Ending;
use super::{Client, Hello, HelloKind, Output, Phase, Session, SessionEnd, StartTls, Vrfy};
use crate::command::Command;

impl Session {
    /// Takes a line; `has_more` tells whether octets behind it were there already.
    pub(super) fn take_command(&mut self, now: Time, line: &[u8], has_more: bool) {
        self.summary.commands += 1;
        if let Phase::Auth(exchange) = std::mem::replace(&mut self.phase, Phase::Command) {
            return self.take_response(exchange, line);
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

    fn hello(&mut self, name: &str, kind: HelloKind, has_more: bool) {
        if self.is_improper(has_more) {
            return self.improper_pipelining();
        }
        let stage = Stage::Hello { name: name.to_owned() };
        self.outbox.outputs.push_back(Output::Ask(stage));
        self.phase = Phase::Hello(Hello { name: name.to_owned(), kind });
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

    pub(super) fn has_said_ehlo(&self) -> bool {
        self.client.hello.as_ref().is_some_and(|hello| hello.kind == HelloKind::Ehlo)
    }
}
