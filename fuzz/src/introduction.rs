//! Whether those who speak for others can say only what is well-formed.
//!
//! Properties: no octet behind a PROXY header is taken, and the pieces make no difference; what
//! XCLIENT says comes back when it is said again. Pure.

use std::net::{IpAddr, SocketAddr};

use merpati_smtp::{
    proxy::{Client, Fault, HEADER_OCTETS_MAX, Reader},
    xclient::{Introduction, Protocol, Told},
};

use crate::plan::{draw_from, pieces};

/// A header of the PROXY protocol and what comes behind it.
pub fn proxy(octets: &[u8]) {
    let whole = read(&[octets.to_vec()]);
    let mut draw = draw_from(octets);
    for longest in [1, 7, 40] {
        let cut = read(&pieces(octets, longest, &mut draw));
        assert_eq!(whole, cut, "what a header says depends on the pieces");
    }
    let Ok((taken, Some(client))) = whole else { return };
    assert!(taken <= octets.len().min(HEADER_OCTETS_MAX), "{taken} octets");
    let header = &octets[..taken];
    assert_eq!(read(&[header.to_vec()]), whole, "what stands behind a header changes it");
    assert_eq!(read(&[header[..taken - 1].to_vec()]), Ok((taken - 1, None)), "it was whole before");
    if header.starts_with(b"PROXY ") {
        assert!(header.ends_with(b"\r\n") && taken <= 107, "{}", header.escape_ascii());
    }
    if let Client::At(address) = client {
        let again = match address {
            SocketAddr::V4(_) => {
                format!("PROXY TCP4 {} 192.0.2.1 {} 25\r\n", address.ip(), address.port())
            }
            SocketAddr::V6(_) => {
                format!("PROXY TCP6 {} 2001:db8::1 {} 25\r\n", address.ip(), address.port())
            }
        };
        let want = Ok((again.len(), Some(client)));
        assert_eq!(read(&[again.clone().into_bytes()]), want, "{again}");
    }
}

/// What stands behind `XCLIENT `.
pub fn xclient(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let Ok(introduction) = Introduction::parse(text) else { return };
    let said = words(&introduction);
    if said.is_empty() {
        return;
    }
    assert_eq!(Introduction::parse(&said), Ok(introduction), "{said}");
}

/// How many octets belong to the header, and whom it names.
fn read(pieces: &[Vec<u8>]) -> Result<(usize, Option<Client>), Fault> {
    let (mut reader, mut octets) = (Reader::default(), 0);
    for piece in pieces {
        let taken = reader.take(piece)?;
        octets += taken.octets;
        if taken.client.is_some() {
            return Ok((octets, taken.client));
        }
        assert_eq!(taken.octets, piece.len(), "octets are left over before the end");
    }
    Ok((octets, None))
}

/// The attributes as an introducer writes them.
fn words(introduction: &Introduction) -> String {
    let Introduction { address, port, name, hello, protocol, login } = introduction;
    let address = address.as_ref().map(|told| {
        value("ADDR", told, |ip| match ip {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("IPV6:{v6}"),
        })
    });
    let port = port.as_ref().map(|told| value("PORT", told, u16::to_string));
    let name = name.as_ref().map(|told| value("NAME", told, ToString::to_string));
    let hello = hello.as_ref().map(|told| value("HELO", told, Clone::clone));
    let login = login.as_ref().map(|told| value("LOGIN", told, Clone::clone));
    let protocol = protocol.as_ref().map(|protocol| match protocol {
        Protocol::Esmtp => "PROTO=ESMTP".to_owned(),
        Protocol::Smtp => "PROTO=SMTP".to_owned(),
    });
    let all = [address, port, name, hello, protocol, login];
    all.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn value<T>(attribute: &str, told: &Told<T>, write: impl Fn(&T) -> String) -> String {
    match told {
        Told::Known(value) => format!("{attribute}={}", xtext(&write(value))),
        Told::Unknown => format!("{attribute}=[UNAVAILABLE]"),
    }
}

/// RFC 3461 §4.
fn xtext(text: &str) -> String {
    let encode = |octet: u8| match octet {
        b'!'..=b'~' if !matches!(octet, b'+' | b'=') => char::from(octet).to_string(),
        _ => format!("+{octet:02X}"),
    };
    text.bytes().map(encode).collect()
}
