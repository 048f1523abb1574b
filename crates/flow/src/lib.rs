//! The decisions about mail, in the order of the flow.
//!
//! Who may hand what over ([`admit`]) and how often ([`rate`]), what an address of ours stands for
//! ([`alias`]) and from whom mail for it goes on ([`srs`]), who may not try again just now
//! ([`lockout`]), which contents are taken ([`content`]) and from whom ([`provenance`],
//! [`verified`]), what is mended in them ([`repair`], [`submission`]), what we write on top
//! ([`trace`]), where a message waits ([`queue`]), where it goes ([`route`]) and how protected
//! ([`protect`]), what a reply means ([`outcome`]), when it is tried again ([`retry`]), what its
//! originator is told ([`report`]); [`Core`] joins them.
//!
//! Invariants: nothing here knows SMTP verbs, octets on a wire, sockets or the spool; time,
//! randomness and answers are arguments. Decide → commit → apply: the queue changes only by
//! [`queue::Queue::apply`], with an event that is already in the journal. Pure.

pub mod admit;
pub mod alias;
pub mod attempt;
pub mod content;
mod core;
pub mod greylist;
pub mod lockout;
pub mod outcome;
pub mod protect;
pub mod provenance;
pub mod queue;
pub mod rate;
pub mod repair;
pub mod report;
pub mod retry;
pub mod route;
pub mod srs;
pub mod submission;
pub mod trace;
pub mod verified;

pub use self::core::{
    ByMx, Core, Dialect, Finding, Group, Handover, Input, Job, JobId, Loaded, Options, Output,
    Protection, Report, Token, Tried,
};
