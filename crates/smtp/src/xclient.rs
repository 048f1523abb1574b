//! What a client that we trust says about the client it speaks for: XCLIENT, as Postfix has it.
//!
//! Invariant: an [`Introduction`] that exists is well-formed. What is not known of a client is
//! never filled in with what is known of who speaks for it. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use merpati_mail::Domain;

/// What XCLIENT says. The attributes that are not here change nothing of what was said before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    /// `ADDR`: the address of the client.
    pub address: Option<Told<IpAddr>>,
    /// `PORT`: its port.
    pub port: Option<Told<u16>>,
    /// `NAME`: what the introducer found as the name of that address.
    pub name: Option<Told<Domain>>,
    /// `HELO`: the name that the client gave in HELO or EHLO.
    pub hello: Option<Told<String>>,
    /// `PROTO`: whether it said EHLO.
    pub protocol: Option<Protocol>,
    /// `LOGIN`: the credential that authenticated to the introducer.
    pub login: Option<Told<String>>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T> {
    /// This.
    Known(T),
    /// `[UNAVAILABLE]` or `[TEMPUNAVAIL]`: nobody knows.
    Unknown,
}

/// How the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// It said EHLO.
    Esmtp,
    /// It said HELO.
    Smtp,
}

/// The names of the attributes, as EHLO lists them.
pub const ATTRIBUTES: &str = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";

impl<T> Told<T> {
    /// The value; `None` where nobody knows.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown => None,
        }
    }

    fn of(value: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<Self> {
        if value.eq_ignore_ascii_case("[UNAVAILABLE]")
            || value.eq_ignore_ascii_case("[TEMPUNAVAIL]")
        {
            return Some(Self::Unknown);
        }
        read(value).map(Self::Known)
    }
}

impl Introduction {
    /// Reads what stands behind the verb; the error is what the client is told.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut introduction = Self::default();
        let mut words = text.split(' ').filter(|word| !word.is_empty()).peekable();
        if words.peek().is_none() {
            return Err("XCLIENT takes attributes such as ADDR=192.0.2.1");
        }
        for word in words {
            let (name, value) =
                word.split_once('=').ok_or("An attribute has a name and a value")?;
            let value = decoded(value).ok_or("A value must be xtext of a line of text")?;
            introduction.add(name, &value)?;
        }
        Ok(introduction)
    }

    fn add(&mut self, attribute: &str, value: &str) -> Result<(), &'static str> {
        let is = |known: &str| attribute.eq_ignore_ascii_case(known);
        if is("ADDR") {
            self.address = Some(Told::of(value, address).ok_or("ADDR= takes an IP address")?);
        } else if is("PORT") {
            self.port = Some(Told::of(value, port).ok_or("PORT= takes a port")?);
        } else if is("NAME") {
            // A name that is no domain, such as one with underscores, is as good as none.
            let told = Told::of(value, name).ok_or("NAME= takes a host name")?;
            let domain = told.known().and_then(|name| Domain::parse(&name).ok());
            self.name = Some(domain.map_or(Told::Unknown, Told::Known));
        } else if is("HELO") {
            self.hello = Some(Told::of(value, name).ok_or("HELO= takes a name")?);
        } else if is("LOGIN") {
            // An empty name is what some introducers write for a client that did not log in.
            let told = Told::of(value, |text| (!text.is_empty()).then(|| text.to_owned()));
            self.login = Some(told.unwrap_or(Told::Unknown));
        } else if is("PROTO") {
            self.protocol = Some(protocol(value).ok_or("PROTO= takes SMTP or ESMTP")?);
        } else if is("DESTADDR") {
            // Where the client connected to decides nothing here, so it is checked and forgotten.
            Told::of(value, address).ok_or("DESTADDR= takes an IP address")?;
        } else if is("DESTPORT") {
            Told::of(value, port).ok_or("DESTPORT= takes a port")?;
        } else {
            return Err("The attribute is not known");
        }
        Ok(())
    }
}

/// An IPv4 address, or an IPv6 address behind `IPV6:`.
fn address(text: &str) -> Option<IpAddr> {
    let is_tagged = text.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPV6:"));
    match text.get(5..).filter(|_| is_tagged) {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn port(digits: &str) -> Option<u16> {
    digits.bytes().all(|octet| octet.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn protocol(word: &str) -> Option<Protocol> {
    if word.eq_ignore_ascii_case("ESMTP") {
        Some(Protocol::Esmtp)
    } else {
        word.eq_ignore_ascii_case("SMTP").then_some(Protocol::Smtp)
    }
}

/// Clients call themselves many things; this one was let through by who introduces it.
fn name(text: &str) -> Option<String> {
    let is_name = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_graphic());
    is_name.then(|| text.to_owned())
}

/// The text of xtext (RFC 3461 §4); `None` where it is none, too long or holds a control.
fn decoded(xtext: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(xtext.len());
    let mut rest = xtext.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => {
                let (high, low) = (hexadecimal(rest.next()?)?, hexadecimal(rest.next()?)?);
                high << 4 | low
            }
            other => other,
        });
    }
    let text = String::from_utf8(octets).ok()?;
    (text.len() <= VALUE_OCTETS_MAX && !text.chars().any(char::is_control)).then_some(text)
}

fn hexadecimal(digit: u8) -> Option<u8> {
    u8::try_from(char::from(digit).to_digit(16)?).ok()
}

/// The longest value in octets: a domain (RFC 5321 §4.5.3.1.2).
const VALUE_OCTETS_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attribute_is_read() {
        let text = "NAME=spike.example ADDR=192.0.2.7 PORT=4711 PROTO=esmtp HELO=[192.0.2.7] \
                    LOGIN=ani+20w+2B1@shop.example destaddr=IPv6:2001:db8::1 DESTPORT=25";
        let want = Introduction {
            address: Some(Told::Known("192.0.2.7".parse().unwrap())),
            port: Some(Told::Known(4_711)),
            name: Some(Told::Known(Domain::parse("spike.example").unwrap())),
            hello: Some(Told::Known("[192.0.2.7]".to_owned())),
            protocol: Some(Protocol::Esmtp),
            login: Some(Told::Known("ani w+1@shop.example".to_owned())),
        };
        assert_eq!(Introduction::parse(text), Ok(want));
    }

    #[test]
    fn what_nobody_knows_is_told_as_such() {
        let text = "ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] NAME=[TEMPUNAVAIL] HELO=[UNAVAILABLE] \
                    LOGIN= DESTADDR=[UNAVAILABLE]";
        let told = Introduction::parse(text).unwrap();
        assert_eq!(told.address, Some(Told::Unknown));
        assert_eq!(told.port, Some(Told::Unknown));
        assert_eq!(told.name, Some(Told::Unknown));
        assert_eq!(told.hello, Some(Told::Unknown));
        assert_eq!(told.login, Some(Told::Unknown));
        assert_eq!(Introduction::parse("PORT=1").unwrap().address, None);
        assert_eq!(Introduction::parse("NAME=a..b").unwrap().name, Some(Told::Unknown));
    }

    #[test]
    fn what_is_not_right_is_refused() {
        for text in [
            "",
            "ADDR",
            "ADDR=",
            "ADDR=localhost",
            "ADDR=2001:db8::1",
            "ADDR=IPV6:192.0.2.1",
            "ADDR=[GONE]",
            "ADDR=192.0.2.7 COLOUR=red",
            "PORT=65536",
            "PORT=+1",
            "PROTO=LMTP",
            "NAME=",
            "HELO=",
            "HELO=a+0D+0Ab",
            "LOGIN=a+0",
            "LOGIN=a+zz",
            "LOGIN=a+00b",
        ] {
            assert!(Introduction::parse(text).is_err(), "{text}");
        }
        let long = format!("LOGIN={}", "a".repeat(256));
        assert!(Introduction::parse(&long).is_err());
    }
}
