//! The server: it moves octets between sockets, machines, the spool and the sinks.
//!
//! Invariant: loops, no decisions. Nothing here has an `if` about mail; what is accepted is decided
//! by `flow`, what is said by `smtp`, what survives by `spool`.
//!
//! In the order of the flow: what was configured ([`config`], [`cli`], [`import`]), how a
//! connection comes in ([`listen`], [`tls`], [`auth`]), who signs a message ([`domains`]), how it
//! becomes durable ([`committer`]), where it goes and what is demanded there ([`resolve`], [`sts`],
//! [`deliver`]), where captured mail is found again ([`store`]), who is told ([`sinks`], [`admin`],
//! [`doctor`]), what strangers may ask over the web ([`https`], [`mta_sts`]), where certificates
//! come from ([`acme`]), what the operating system gives and takes ([`process`]), and what joins
//! them ([`node`]).

pub mod acme;
pub mod admin;
pub mod auth;
pub mod certificates;
pub mod cli;
mod client_names;
pub mod clock;
pub mod committer;
pub mod conductor;
pub mod config;
pub mod conversation;
pub mod credential;
pub mod dane;
pub mod deliver;
pub mod doctor;
pub mod domains;
pub mod drop_box;
mod durable;
pub mod fresh;
pub mod health;
pub mod https;
pub mod import;
pub mod listen;
pub mod mta_sts;
pub mod node;
pub mod pressure;
pub mod process;
pub mod resolve;
#[cfg(test)]
mod samples;
mod self_signed;
pub mod sessions;
pub mod sinks;
mod srs;
pub mod store;
pub mod sts;
pub mod tls;
pub mod tls_reports;
mod web_client;
pub mod world;
