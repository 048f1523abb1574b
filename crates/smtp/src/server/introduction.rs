//! What a session makes of XCLIENT: it begins anew, with another client.
//!
//! Invariant: only who connected can be an introducer, and he stays one; nothing that is known of
//! him is believed of the client that he introduces, but that its mail came over TLS. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use merpati_mail::{Reply, Stage};

use super::{Auth, Hello, HelloKind, Output, Phase, Session, Standing};
use crate::xclient::{Introduction, Protocol, Told};

impl Session {
    pub(super) fn xclient(&mut self, attributes: &str) {
        if self.standing != Standing::Introducer {
            let text = "You may not introduce others";
            return self.refuse_bad("xclient-denied", Reply::new(550, (5, 7, 1), text));
        }
        if self.transaction.is_some() {
            return self.out_of_sequence("A transaction is open");
        }
        let introduction = match Introduction::parse(attributes) {
            Ok(introduction) => introduction,
            Err(text) => {
                return self.refuse_bad("xclient-syntax", Reply::new(501, (5, 5, 4), text));
            }
        };
        if matches!(introduction.login, Some(Told::Known(_))) && self.options.auth == Auth::Off {
            // Where nobody can authenticate, nobody is let in by a name.
            let text = "LOGIN= needs a listener with AUTH";
            return self.refuse_bad("xclient-login", Reply::new(501, (5, 5, 4), text));
        }
        self.introduce(introduction);
        self.phase = Phase::Connect;
        self.outbox.outputs.push_back(Output::Ask(Stage::Connect));
    }

    fn introduce(&mut self, introduction: Introduction) {
        let Introduction { address, port, name, hello, protocol, login } = introduction;
        let client = &mut self.client;
        let is_first = !std::mem::replace(&mut client.is_introduced, true);
        if address.is_some() || is_first {
            // Never the introducer's own: his networks may send where strangers may not.
            let told = address.and_then(Told::known);
            let ip = told.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            client.address = SocketAddr::new(ip, 0);
            client.name = None;
        }
        // His certificate is not the client's either, and nobody else could bind to his session.
        if let Some(channel) = &mut client.tls {
            (channel.names, channel.binding) = (None, None);
        }
        if let Some(told) = port {
            client.address.set_port(told.known().unwrap_or(0));
        }
        if let Some(told) = name {
            client.name = told.known();
        }
        let kind = match protocol {
            Some(Protocol::Smtp) => HelloKind::Helo,
            Some(Protocol::Esmtp) | None => HelloKind::Ehlo,
        };
        client.hello = hello.and_then(Told::known).map(|name| Hello { name, kind });
        client.credential = login.and_then(Told::known);
        self.summary.hello = client.hello.as_ref().map(|hello| hello.name.clone());
    }
}
