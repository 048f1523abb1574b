//! Hostile headers and contents cost time in proportion to their octets, wherever they are read.
//!
//! Sixteen times the octets may take sixty-four times the time: quadratic work would take 256 times
//! as long. The least of several runs counts, so that a busy machine does not matter.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use merpati_flow::{
    repair,
    submission::{self, Submitted},
};
use merpati_mail::{
    Domain, ForwardPath, Mailbox, ReversePath, Time, address,
    header::{self, Breaks},
    seven_bit,
    transfer::short_lines,
};

type Works<'a, const N: usize> = [(&'static str, &'a dyn Fn(&[u8])); N];
type Makes<'a, const N: usize> = [(&'static str, &'a dyn Fn(usize) -> String); N];

fn done<T>(_: T) {}

const GROWTH: usize = 16;
/// What is smaller cannot be measured.
const LEAST: Duration = Duration::from_micros(50);

fn least_of_runs(octets: &[u8], work: &dyn Fn(&[u8])) -> Duration {
    let run = |_| {
        let began = Instant::now();
        work(black_box(octets));
        began.elapsed()
    };
    (0..4).map(run).min().unwrap().max(LEAST)
}

#[track_caller]
fn check(name: &str, make: &dyn Fn(usize) -> String, work: &dyn Fn(&[u8])) {
    let (small, large) = (make(1), make(GROWTH));
    assert!(large.len() >= small.len() * GROWTH / 2, "{name}");
    // A burst of other work may hit the few milliseconds of one measurement.
    let is_linear = || {
        let before = least_of_runs(small.as_bytes(), work);
        let after = least_of_runs(large.as_bytes(), work);
        after < before * 4 * u32::try_from(GROWTH).unwrap()
    };
    assert!(is_linear() || is_linear() || is_linear(), "{name}");
}

/// Values of fields, a thousandth of what is checked at most.
fn values() -> Vec<(&'static str, &'static str)> {
    vec![
        ("open comments", "("),
        ("closed comments", "()"),
        ("escapes in a comment", "(\\("),
        ("quotes", "\""),
        ("escaped quotes", "\\\""),
        ("angles", "<"),
        ("angled", "<>"),
        ("routes", "<@a,@b:"),
        ("groups", "g:"),
        ("members", "a@b.example,"),
        ("dots", "a."),
        ("ats", "a@"),
        ("encoded words", "=?utf-8?q?"),
        ("whole words", "=?utf-8?q?a=40b.example?= "),
        ("marks", "=?"),
        ("folds", "\r\n "),
        ("blanks", " "),
        ("semicolons", ";"),
        ("letters", "x"),
        ("literals", "@["),
    ]
}

#[test]
fn values_of_fields_are_read_in_linear_time() {
    let ours = Domain::parse("mx.ours.example").unwrap();
    let works: Works<8> = [
        ("list", &|v| done(black_box(address::parse_header_list(v)))),
        ("group", &|v| done(black_box(address::holds_group(v)))),
        ("words", &|v| done(black_box(header::decode_words(&String::from_utf8_lossy(v))))),
        ("date", &|v| done(black_box(header::is_date(v)))),
        ("message id", &|v| done(black_box(header::is_message_id(v)))),
        ("results", &|v| done(black_box(header::speaks_for(v, &ours)))),
        ("fold", &|v| {
            let field = [&b"To: "[..], v, b"\r\n"].concat();
            done(black_box(header::refolded(&field, Breaks::BlanksAndCommas)));
        }),
        ("unfolded", &|v| {
            let field = [&b"To: "[..], v, b"\r\n"].concat();
            done(black_box(header::first(&field, "To").map(|field| field.unfolded())));
        }),
    ];
    for (value, piece) in values() {
        for (name, work) in works {
            check(&format!("{name} of {value}"), &|n| piece.repeat(n * 500), work);
        }
    }
}

#[test]
fn headers_are_read_and_mended_in_linear_time() {
    let hostname = Domain::parse("mx.ours.example").unwrap();
    let reverse_path = ReversePath(Mailbox::parse("a@b.example").ok());
    let by = Submitted {
        id: "0000000000001".parse().unwrap(),
        hostname: &hostname,
        reverse_path: &reverse_path,
        at: Time::EPOCH,
    };
    let target = ForwardPath::Mailbox(Mailbox::parse("a@b.example").unwrap());
    let works: Works<4> = [
        ("fields", &|h| done(black_box(header::fields(h).count()))),
        ("submission", &|h| done(black_box(submission::edits(h, &by)))),
        ("repair", &|h| done(black_box(repair::repaired(h)))),
        ("targets", &|h| done(black_box(merpati_flow::content::was_delivered(h, &target)))),
    ];
    let long = format!("X: {}\r\n", "y ".repeat(600));
    for field in [
        "X: y\r\n",
        "To: a@b.example\r\n",
        "Cc:\r\n",
        "Bcc: a@b.example\r\n",
        "References: <a@b>\r\n",
        "Resent-To: a@b.example\r\n",
        "Delivered-To: a@b.example\r\n",
        "no field\r\n",
        ": x\r\n",
        " fold\r\n",
        long.as_str(),
    ] {
        for (name, work) in works {
            let make = |n: usize| format!("From: a@b.example\r\n{}\r\n", field.repeat(n * 100));
            check(&format!("{name} of {field:.9}"), &make, work);
        }
    }
}

#[test]
fn contents_are_looked_through_in_linear_time() {
    let (long, eight_bit) = ("x".repeat(1_200), "\u{e9}".repeat(600));
    let works: Works<2> = [
        ("seven bit", &|c| done(black_box(seven_bit(c)))),
        ("short lines", &|c| done(black_box(short_lines(c)))),
    ];
    for text in [&long, &eight_bit] {
        let makes: Makes<6> = [
            ("parts", &|n| multipart("b", &format!("--b\r\n\r\n{text}\r\n").repeat(n * 20))),
            ("empty parts", &|n| {
                multipart("b", &("--b\r\n\r\n".repeat(n * 500) + &format!("--b\r\n\r\n{text}\r\n")))
            }),
            ("dashes", &|n| multipart("-", &"--".repeat(n * 2_000))),
            ("near boundaries", &|n| multipart("bb", &format!("--b\r\n{text}\r\n").repeat(n * 20))),
            ("parameters", &|n| {
                let all = " name*0=x;\r\n".repeat(n * 500);
                format!("Content-Type: text/plain;\r\n{all} a=b\r\n\r\n{text}\r\n")
            }),
            ("depth", &|n| "Content-Type: message/rfc822\r\n\r\n".repeat(n * 50) + text + "\r\n"),
        ];
        for (shape, make) in makes {
            for (name, work) in works {
                check(&format!("{name} of {shape}"), make, work);
            }
        }
    }
}

fn multipart(boundary: &str, body: &str) -> String {
    format!(
        "Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n{body}--{boundary}--\r\n"
    )
}
