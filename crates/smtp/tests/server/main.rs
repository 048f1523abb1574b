#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr, clippy::format_push_string, missing_docs, unreachable_pub)]

mod abuse;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod content;
mod envelope;
mod pipelining;
mod protection;

use std::time::Duration;

use common::{World, play, tls, unescape};
use merpati_mail::{
    Protocol, ReversePath,
    envelope::{Notify, Ret},
};
use merpati_smtp::server::{
    Auth, Discipline, Input, MailNeeds, Options, SessionEnd, StartTls, Vrfy, Wants,
};

const ENVELOPE: &str = "
    S: 220 mx.example
    E: a.example
    C: MAIL FROM:<a@a.example>
    S: 250 2.1.0
    C: RCPT TO:<b@b.example>
    S: 250 2.1.5";

fn options() -> Options {
    Options::new("test", "mx.example")
}

fn submission() -> Options {
    let mut options = options();
    options.auth = Auth::OverTls;
    options.mail_needs = MailNeeds::Auth;
    options.starttls = StartTls::Offered;
    options
}

fn strict() -> Options {
    let mut options = options();
    options.pipelining = Discipline::Enforced;
    options.early_talkers = Discipline::Enforced;
    options
}

/// Plays it with whole segments and octet by octet.
fn check(options: &Options, transcript: &str) {
    for step in [usize::MAX, 1, 3] {
        play(&mut World::new(options.clone()), transcript, step);
    }
}

/// Plays it behind an accepted recipient.
fn check_transaction(options: &Options, transcript: &str) {
    check(options, &format!("{ENVELOPE}\n{transcript}"));
}

/// Plays it with whole segments only: it is about what came together.
fn check_segments(options: &Options, transcript: &str) {
    play(&mut World::new(options.clone()), transcript, usize::MAX);
}
