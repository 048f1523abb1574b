//! How envelopes, attempts and outcomes lie on disk: the parts of `docs/format.md` §5.
//!
//! Invariant: addresses are checked again when they are read, so what comes from disk is as valid
//! as what comes from the network. Pure.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use merpati_mail::{
    Attempt, BodyType, ByMode, Cause, DeliverBy, Domain, EgressPath, EnhancedCode, Envelope,
    ForwardPath, Hold, Mailbox, Origin, Outcome, Peer, Priority, Protocol, Recipient, Reply,
    Requests, ReversePath, Scope, TlsDemand, TlsFacts, TlsPolicy, TlsRequest, TlsSource,
    address::DomainName,
    envelope::{Notify, Ret, Utf8},
    route::Remote,
};

use crate::{
    codec::{read_class, read_time},
    wire::{CodecError, Reader, put_list, put_option, put_text, put_u16, put_u32, put_u64},
};

/// The version of the event in which an envelope is written: 0, unless it holds what that has no
/// place for.
pub(crate) fn envelope_version(envelope: &Envelope) -> u8 {
    let has_name = envelope.origin.peer.as_ref().is_some_and(|peer| peer.name.is_some());
    u8::from(has_name || !envelope.requests.are_none())
}

pub(crate) fn put_envelope(out: &mut Vec<u8>, envelope: &Envelope, version: u8) {
    put_option(out, envelope.reverse_path.mailbox(), put_mailbox);
    put_list(out, &envelope.recipients, put_recipient);
    out.push(match envelope.body {
        BodyType::EightBitMime => 0,
        BodyType::SevenBit => 1,
    });
    out.push(match envelope.utf8 {
        Utf8::Declared => 0,
        Utf8::NotDeclared => 1,
    });
    out.push(match envelope.ret {
        None => 0,
        Some(Ret::Full) => 1,
        Some(Ret::Headers) => 2,
    });
    put_option(out, envelope.envid.as_ref(), |out, text| put_text(out, text));
    put_origin(out, &envelope.origin, version);
    if version > 0 {
        put_requests(out, &envelope.requests);
    }
}

pub(crate) fn read_envelope(from: &mut Reader<'_>, version: u8) -> Result<Envelope, CodecError> {
    Ok(Envelope {
        reverse_path: ReversePath(from.option(read_mailbox)?),
        recipients: from.list(3, read_recipient)?,
        body: match from.u8()? {
            0 => BodyType::EightBitMime,
            1 => BodyType::SevenBit,
            _ => return Err(CodecError::new("the body type is unknown")),
        },
        utf8: match from.u8()? {
            0 => Utf8::Declared,
            1 => Utf8::NotDeclared,
            _ => return Err(CodecError::new("SMTPUTF8 is neither declared nor not")),
        },
        ret: match from.u8()? {
            0 => None,
            1 => Some(Ret::Full),
            2 => Some(Ret::Headers),
            _ => return Err(CodecError::new("RET is unknown")),
        },
        envid: from.option(Reader::string)?,
        origin: read_origin(from, version)?,
        requests: if version > 0 { read_requests(from)? } else { Requests::default() },
    })
}

fn put_requests(out: &mut Vec<u8>, requests: &Requests) {
    put_option(out, requests.deliver_by.as_ref(), |out, by| {
        put_u64(out, by.deadline.as_micros());
        out.push(match by.mode {
            ByMode::Notify => 0,
            ByMode::Return => 1,
        });
        out.push(u8::from(by.is_traced));
    });
    put_option(out, requests.priority.as_ref(), |out, priority| {
        out.push(priority.value().wrapping_add(PRIORITY_ZERO).cast_unsigned());
    });
    put_option(out, requests.release_at.as_ref(), |out, time| put_u64(out, time.as_micros()));
    out.push(match requests.tls {
        TlsRequest::AsRouted => 0,
        TlsRequest::Required => 1,
    });
}

fn read_requests(from: &mut Reader<'_>) -> Result<Requests, CodecError> {
    Ok(Requests {
        deliver_by: from.option(read_deliver_by)?,
        priority: from.option(|from| {
            let value = from.u8()?.cast_signed().wrapping_sub(PRIORITY_ZERO);
            Priority::new(value).ok_or_else(|| CodecError::new("the priority is none"))
        })?,
        release_at: from.option(read_time)?,
        tls: match from.u8()? {
            0 => TlsRequest::AsRouted,
            1 => TlsRequest::Required,
            _ => return Err(CodecError::new("what is asked of TLS is unknown")),
        },
    })
}

fn read_deliver_by(from: &mut Reader<'_>) -> Result<DeliverBy, CodecError> {
    Ok(DeliverBy {
        deadline: read_time(from)?,
        mode: match from.u8()? {
            0 => ByMode::Notify,
            1 => ByMode::Return,
            _ => return Err(CodecError::new("the by-mode is unknown")),
        },
        is_traced: match from.u8()? {
            0 => false,
            1 => true,
            _ => return Err(CodecError::new("the by-trace is unknown")),
        },
    })
}

fn put_recipient(out: &mut Vec<u8>, recipient: &Recipient) {
    match &recipient.path {
        ForwardPath::Postmaster => out.push(0),
        ForwardPath::Mailbox(mailbox) => {
            out.push(1);
            put_mailbox(out, mailbox);
        }
    }
    out.push(match recipient.notify {
        None => 0,
        Some(Notify::Never) => 1,
        Some(Notify::On { delay, failure, success }) => {
            8 + u8::from(delay) + 2 * u8::from(failure) + 4 * u8::from(success)
        }
    });
    put_option(out, recipient.orcpt.as_ref(), |out, text| put_text(out, text));
}

fn read_recipient(from: &mut Reader<'_>) -> Result<Recipient, CodecError> {
    Ok(Recipient {
        path: match from.u8()? {
            0 => ForwardPath::Postmaster,
            1 => ForwardPath::Mailbox(read_mailbox(from)?),
            _ => return Err(CodecError::new("the forward-path is of an unknown kind")),
        },
        notify: match from.u8()? {
            0 => None,
            1 => Some(Notify::Never),
            bits @ 8..=15 => Some(Notify::On {
                delay: bits & 1 != 0,
                failure: bits & 2 != 0,
                success: bits & 4 != 0,
            }),
            _ => return Err(CodecError::new("NOTIFY is unknown")),
        },
        orcpt: from.option(Reader::string)?,
    })
}

fn put_origin(out: &mut Vec<u8>, origin: &Origin, version: u8) {
    put_text(out, &origin.listener);
    put_option(out, origin.peer.as_ref(), |out, peer| {
        put_address(out, peer.address);
        put_text(out, &peer.hello);
        if version > 0 {
            put_option(out, peer.name.as_ref(), put_domain);
        }
    });
    put_option(out, origin.credential.as_ref(), |out, text| put_text(out, text));
    out.push(match origin.protocol {
        Protocol::Esmtp => 0,
        Protocol::Esmtpa => 1,
        Protocol::Esmtps => 2,
        Protocol::Esmtpsa => 3,
        Protocol::Internal => 4,
        Protocol::Smtp => 5,
        Protocol::Utf8Smtp => 6,
        Protocol::Utf8Smtpa => 7,
        Protocol::Utf8Smtps => 8,
        Protocol::Utf8Smtpsa => 9,
    });
    put_option(out, origin.tls.as_ref(), put_tls);
    put_u64(out, origin.received_at.as_micros());
}

fn read_origin(from: &mut Reader<'_>, version: u8) -> Result<Origin, CodecError> {
    Ok(Origin {
        listener: from.string()?,
        peer: from.option(|from| {
            Ok(Peer {
                address: read_address(from)?,
                hello: from.string()?,
                name: if version > 0 { from.option(read_domain)? } else { None },
            })
        })?,
        credential: from.option(Reader::string)?,
        protocol: match from.u8()? {
            0 => Protocol::Esmtp,
            1 => Protocol::Esmtpa,
            2 => Protocol::Esmtps,
            3 => Protocol::Esmtpsa,
            4 => Protocol::Internal,
            5 => Protocol::Smtp,
            6 => Protocol::Utf8Smtp,
            7 => Protocol::Utf8Smtpa,
            8 => Protocol::Utf8Smtps,
            9 => Protocol::Utf8Smtpsa,
            _ => return Err(CodecError::new("the protocol is unknown")),
        },
        tls: from.option(read_tls)?,
        received_at: read_time(from)?,
    })
}

fn put_tls(out: &mut Vec<u8>, tls: &TlsFacts) {
    put_text(out, &tls.version);
    put_text(out, &tls.cipher);
}

fn read_tls(from: &mut Reader<'_>) -> Result<TlsFacts, CodecError> {
    Ok(TlsFacts { version: from.string()?, cipher: from.string()? })
}

fn put_mailbox(out: &mut Vec<u8>, mailbox: &Mailbox) {
    put_text(out, mailbox.local());
    put_domain(out, mailbox.domain());
}

fn read_mailbox(from: &mut Reader<'_>) -> Result<Mailbox, CodecError> {
    let local = from.text()?;
    let domain = read_domain(from)?;
    Mailbox::new(local, domain).map_err(|why| CodecError(why.to_string()))
}

fn put_domain(out: &mut Vec<u8>, domain: &Domain) {
    match domain {
        Domain::Name(name) => {
            out.push(0);
            put_text(out, name.as_str());
        }
        Domain::Literal(IpAddr::V4(address)) => {
            out.push(1);
            out.extend_from_slice(&address.octets());
        }
        Domain::Literal(IpAddr::V6(address)) => {
            out.push(2);
            out.extend_from_slice(&address.octets());
        }
    }
}

fn read_domain(from: &mut Reader<'_>) -> Result<Domain, CodecError> {
    match from.u8()? {
        0 => DomainName::parse(from.text()?)
            .map(Domain::Name)
            .map_err(|why| CodecError(why.to_string())),
        1 => from.ipv4().map(Domain::Literal),
        2 => from.ipv6().map(|address| Domain::Literal(IpAddr::V6(address))),
        _ => Err(CodecError::new("the domain is of an unknown kind")),
    }
}

fn put_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(v4) => {
            out.push(1);
            out.extend_from_slice(&v4.ip().octets());
            put_u16(out, v4.port());
        }
        SocketAddr::V6(v6) => {
            out.push(2);
            out.extend_from_slice(&v6.ip().octets());
            put_u16(out, v6.port());
            put_u32(out, v6.flowinfo());
            put_u32(out, v6.scope_id());
        }
    }
}

fn put_remote(out: &mut Vec<u8>, remote: &Remote) {
    match remote {
        Remote::Ip(address) => put_address(out, *address),
        Remote::Unix(path) => {
            out.push(3);
            put_text(out, path);
        }
    }
}

fn read_remote(from: &mut Reader<'_>) -> Result<Remote, CodecError> {
    if from.peek() == Some(3) {
        from.u8()?;
        return from.string().map(Remote::Unix);
    }
    read_address(from).map(Remote::Ip)
}

fn read_address(from: &mut Reader<'_>) -> Result<SocketAddr, CodecError> {
    match from.u8()? {
        1 => {
            let octets: [u8; 4] = from.array()?;
            Ok(SocketAddr::V4(SocketAddrV4::new(octets.into(), from.u16()?)))
        }
        2 => {
            let ip = from.ipv6()?;
            let port = from.u16()?;
            Ok(SocketAddr::V6(SocketAddrV6::new(ip, port, from.u32()?, from.u32()?)))
        }
        _ => Err(CodecError::new("the address is of an unknown family")),
    }
}

pub(crate) fn put_attempt(out: &mut Vec<u8>, attempt: &Attempt, version: u8) {
    put_u32(out, attempt.number);
    put_option(out, attempt.path.as_ref(), |out, path| {
        put_text(out, &path.source);
        put_domain(out, &path.host);
        put_remote(out, &path.address);
    });
    put_u64(out, attempt.began.as_micros());
    put_u64(out, attempt.ended.as_micros());
    put_option(out, attempt.tls.as_ref(), put_tls);
    if version > 0 {
        put_option(out, attempt.policy.as_ref(), |out, policy| {
            out.extend_from_slice(&[policy.demand.number(), policy.source.number()]);
        });
    }
}

/// The version in which an attempt is written: the oldest that can hold it.
pub(crate) fn attempt_version(attempt: &Attempt) -> u8 {
    u8::from(attempt.policy.is_some())
}

pub(crate) fn read_attempt(from: &mut Reader<'_>, version: u8) -> Result<Attempt, CodecError> {
    Ok(Attempt {
        number: from.u32()?,
        path: from.option(|from| {
            Ok(EgressPath {
                source: from.string()?,
                host: read_domain(from)?,
                address: read_remote(from)?,
            })
        })?,
        began: read_time(from)?,
        ended: read_time(from)?,
        tls: from.option(read_tls)?,
        policy: if version > 0 { from.option(read_policy)? } else { None },
    })
}

fn read_policy(from: &mut Reader<'_>) -> Result<TlsPolicy, CodecError> {
    let (demand, source) = (from.u8()?, from.u8()?);
    let unknown = || CodecError::new("the protection that a connection needed is unknown");
    Ok(TlsPolicy {
        demand: TlsDemand::from_number(demand).ok_or_else(unknown)?,
        source: TlsSource::from_number(source).ok_or_else(unknown)?,
    })
}

pub(crate) fn put_outcome(out: &mut Vec<u8>, outcome: &Outcome) {
    match outcome {
        Outcome::Deferred { cause, until } => {
            out.push(1);
            put_cause(out, cause);
            put_u64(out, until.as_micros());
        }
        Outcome::Delivered { reply } => {
            out.push(2);
            put_reply(out, reply);
        }
        Outcome::Failed { cause } => {
            out.push(3);
            put_cause(out, cause);
        }
    }
}

pub(crate) fn read_outcome(from: &mut Reader<'_>) -> Result<Outcome, CodecError> {
    match from.u8()? {
        1 => Ok(Outcome::Deferred { cause: read_cause(from)?, until: read_time(from)? }),
        2 => Ok(Outcome::Delivered { reply: read_reply(from)? }),
        3 => Ok(Outcome::Failed { cause: read_cause(from)? }),
        _ => Err(CodecError::new("the outcome is unknown")),
    }
}

pub(crate) fn put_cause(out: &mut Vec<u8>, cause: &Cause) {
    out.push(cause.class.number());
    out.push(match cause.scope {
        Scope::Host => 1,
        Scope::Message => 2,
        Scope::NextHop => 3,
        Scope::Path => 4,
        Scope::Recipient => 5,
        Scope::SenderDomain => 6,
        Scope::Us => 7,
    });
    put_reply(out, &cause.reply);
    put_option(out, cause.remote.as_ref(), put_domain);
}

pub(crate) fn read_cause(from: &mut Reader<'_>) -> Result<Cause, CodecError> {
    Ok(Cause {
        class: read_class(from)?,
        scope: match from.u8()? {
            1 => Scope::Host,
            2 => Scope::Message,
            3 => Scope::NextHop,
            4 => Scope::Path,
            5 => Scope::Recipient,
            6 => Scope::SenderDomain,
            7 => Scope::Us,
            _ => return Err(CodecError::new("the scope is unknown")),
        },
        reply: read_reply(from)?,
        remote: from.option(read_domain)?,
    })
}

fn put_reply(out: &mut Vec<u8>, reply: &Reply) {
    put_u16(out, reply.code);
    put_option(out, reply.enhanced.as_ref(), |out, code| {
        out.push(code.class);
        put_u16(out, code.subject);
        put_u16(out, code.detail);
    });
    put_text(out, &reply.text);
}

fn read_reply(from: &mut Reader<'_>) -> Result<Reply, CodecError> {
    Ok(Reply {
        code: from.u16()?,
        enhanced: from.option(|from| {
            Ok(EnhancedCode { class: from.u8()?, subject: from.u16()?, detail: from.u16()? })
        })?,
        text: from.string()?.into(),
    })
}

pub(crate) fn put_hold(out: &mut Vec<u8>, hold: &Hold) {
    put_text(out, &hold.limit);
    put_text(out, &hold.value);
    put_text(out, &hold.source);
    put_option(out, hold.until.as_ref(), |out, until| put_u64(out, until.as_micros()));
}

pub(crate) fn read_hold(from: &mut Reader<'_>) -> Result<Hold, CodecError> {
    Ok(Hold {
        limit: from.string()?,
        value: from.string()?,
        source: from.string()?,
        until: from.option(read_time)?,
    })
}

/// A priority is written so much higher, which makes the lowest one 0.
const PRIORITY_ZERO: i8 = 9;
