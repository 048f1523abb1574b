//! Both ends of an SMTP or LMTP connection as machines without sockets.
//!
//! Invariant: no byte of the protocol is looked at outside this crate, and this crate knows of no
//! queue. Pure: octets, answers and the time go in; octets, ranges and questions come out.
//!
//! In the order of the flow: who a client is ([`proxy`], [`xclient`]), what it says ([`command`],
//! [`parameters`], [`lines`]) and how it is answered ([`server`]); and the other end ([`client`],
//! [`reply_reader`], [`stuff`]). Both ends share the arithmetic of SCRAM.

pub mod client;
pub mod command;
mod dsn;
pub mod lines;
pub mod parameters;
pub mod proxy;
pub mod reply_reader;
mod scram;
pub mod server;
pub mod stuff;
pub mod xclient;
