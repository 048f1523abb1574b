//! Load, sink and loss accounting: the tools that judge a relay from outside.
//!
//! Invariant: nothing here is shared with Merpati, so that a mistake of its parsers or machines is
//! not repeated by the judge. One thread per process, so that a relay between a load and a sink on
//! a small machine keeps most of it.
//!
//! In the order of the flow: [`load`] sends messages of [`message`], [`sink`] takes them, and
//! [`check`] compares what they wrote down in the form of [`record`].

/// What was acknowledged and never came.
pub mod check;
/// Random numbers from a seed.
pub mod draw;
/// The generator.
pub mod load;
/// What a message of the load looks like, and whether it is whole.
pub mod message;
/// Lines of the files of ids.
pub mod record;
/// The receiver.
pub mod sink;
/// Sockets, in the clear or under TLS.
pub mod stream;
/// Certificates that are made here, and those that are accepted.
pub mod tls;
