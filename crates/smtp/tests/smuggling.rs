#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr, clippy::naive_bytecount, dead_code, missing_docs, unreachable_pub)]

mod common;

use std::path::PathBuf;

use common::{World, play, send};
use merpati_smtp::server::{Auth, Options, StartTls};
use proptest::prelude::*;

const ENVELOPE: &str = "
    S: 220
    E: a.example
    C: MAIL FROM:<a@a.example>
    S: 250
    C: RCPT TO:<b@b.example>
    S: 250
    C: DATA
    S: 354";

/// Octets between a line of content and commands that must stay content.
const SEQUENCES: [&[u8]; 28] = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r.\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\r\n.\r\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\0\n.\r\n",
    b"\r\n.\r\0\n",
    b"\n\n.\n",
    b"\r\n. \r\n",
    b"\r\n .\r\n",
    b"\r\n..\r\n",
    b"\r\n\n.\n",
    b"\x0b.\x0b",
    b"\x0c.\x0c",
    "\u{85}.\u{85}".as_bytes(),
    "\u{2028}.\u{2028}".as_bytes(),
    b"\x8d\x8a.\x8d\x8a",
    b"\r\n\n.\r\n",
    b"\r\n.\n\r",
    b"\r\n.\r\r",
];

const SMUGGLED: &[u8] = b"MAIL FROM:<smuggled@a.example>\r\nRCPT TO:<c@b.example>\r\nDATA\r\n\
    smuggled\r\n.\r\n";

/// The content may be taken or refused, but it has one reply and nothing in it runs.
fn check(name: &str, sequence: &[u8]) {
    for step in [usize::MAX, 1, 2, 5] {
        let mut world = World::new(Options::new("test", "mx.example"));
        play(&mut world, ENVELOPE, usize::MAX);
        send(&mut world, &[b"x", sequence, SMUGGLED].concat(), step);
        let reply = String::from_utf8(std::mem::take(&mut world.sent)).unwrap();
        assert_eq!(reply.matches("\r\n").count(), 1, "{name}: {reply}");
        let is_clean = reply.starts_with("250 2.0.0 queued");
        assert!(is_clean || reply.starts_with("550 5.6.0"), "{name}: {reply}");
        assert_eq!(world.messages.len(), usize::from(is_clean), "{name}");
        for (_, body) in &world.messages {
            let lines = body.split(|&o| o == b'\n').count() - 1;
            let ends = body.windows(2).filter(|w| w == b"\r\n").count();
            let returns = body.iter().filter(|&&o| o == b'\r').count();
            assert!(lines == ends && returns == ends && !body.contains(&0), "{name}");
        }
        assert_eq!(world.questions.iter().filter(|q| *q == "mail").count(), 1, "{name}");
        play(&mut world, "C: NOOP\nS: 250 2.0.0", step);
    }
}

#[test]
fn no_sequence_but_the_true_one_ends_the_content() {
    for sequence in SEQUENCES {
        check(&sequence.escape_ascii().to_string(), sequence);
    }
}

#[test]
fn no_sequence_of_the_shared_vectors_ends_the_content() {
    let root = std::env::var_os("MERPATI_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = root.join("vectors/smuggling/eod-sequences.yaml");
    let Ok(text) = std::fs::read_to_string(&path) else {
        assert!(std::env::var_os("MERPATI_REQUIRE_SHARED").is_none(), "no {}", path.display());
        eprintln!("skipped: no ../shared");
        return;
    };
    let mut count = 0;
    for line in text.lines().filter(|line| line.starts_with("- {name:")) {
        let hex = line.split("hex: \"").nth(1).unwrap().split('"').next().unwrap();
        let sequence: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        check(line, &sequence);
        count += 1;
    }
    assert!(count >= 19, "{count}");
}

#[test]
fn the_true_sequence_ends_the_content_also_beside_a_nul() {
    for step in [usize::MAX, 1] {
        let mut world = World::new(Options::new("test", "mx.example"));
        play(&mut world, ENVELOPE, usize::MAX);
        let transcript = "
            C: x\\0
            C: .
            S: 550 5.6.0
            C: MAIL FROM:<a@a.example>
            S: 250
            C: RCPT TO:<b@b.example>
            S: 250
            C: DATA
            S: 354
            C+ x
            C+ .
            C: \\0
            S: 250 2.0.0
            S: 500 5.5.2
            M: 1";
        play(&mut world, transcript, step);
    }
}

#[test]
fn a_long_line_with_dots_in_it_is_one_message() {
    let mut line = vec![b'x'; 100_000];
    for at in [510, 511, 512, 998, 1_000, 4_095, 4_096, 16_384, 65_535, 65_536] {
        line[at] = b'.';
    }
    for step in [usize::MAX, 512, 4_096, 16_384, 65_536] {
        let mut world = World::new(Options::new("test", "mx.example"));
        play(&mut world, ENVELOPE, usize::MAX);
        send(&mut world, &[&line[..], b"\r\n.\r\n"].concat(), step);
        play(&mut world, "S: 250 2.0.0\nM: 1", step);
        assert_eq!(world.messages[0].1, [&line[..], b"\r\n"].concat());
    }
}

fn options() -> Options {
    let mut options = Options::new("test", "mx.example");
    options.auth = Auth::Anywhere;
    options.limits.message_bytes_max = 200;
    options
}

/// What the client saw and what was committed.
fn outcome(octets: &[u8], cuts: &[usize]) -> (String, Vec<Vec<u8>>, bool) {
    let mut world = World::new(options());
    world.run();
    let mut rest = octets;
    for &cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at(cut.clamp(1, rest.len()));
        send(&mut world, piece, usize::MAX);
        rest = behind;
    }
    let bodies = world.messages.into_iter().map(|message| message.1).collect();
    (String::from_utf8(world.sent).unwrap(), bodies, world.is_closed)
}

/// Pieces of sessions, right and wrong.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&[u8]> = vec![
        b"EHLO x\r\n",
        b"MAIL FROM:<a@a.example>\r\n",
        b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n",
        b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nBDAT 5\r\n",
        b"RCPT TO:<b@b.example>\r\n",
        b"DATA\r\n",
        b"BDAT 7\r\n",
        b"BDAT 3 LAST\r\n",
        b"BDAT 0 LAST\r\n",
        b"RSET\r\n",
        b"AUTH PLAIN\r\n",
        b"AUTH LOGIN dQ==\r\n",
        b"c2VjcmV0\r\n",
        b"text\r\n",
        b"..\r\n",
        b".x",
        b".\r\n",
        b"\r\n.\r\n",
        b"\r",
        b"\n",
        b"\0",
        b"\xff",
        b"abc",
    ];
    prop_oneof![
        8 => proptest::sample::select(pieces).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => (1usize..3_000).prop_map(|len| vec![b'x'; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn how_the_octets_are_cut_makes_no_difference(
        pieces in proptest::collection::vec(piece(), 0..25),
        cuts in proptest::collection::vec(1usize..60, 1..20),
    ) {
        let octets = [b"EHLO x\r\n".to_vec(), pieces.concat()].concat();
        let whole = outcome(&octets, &[usize::MAX]);
        prop_assert_eq!(&outcome(&octets, &cuts), &whole);
        prop_assert_eq!(&outcome(&octets, &[1]), &whole);
    }

    #[test]
    fn no_octets_make_a_session_panic(
        octets in proptest::collection::vec(any::<u8>(), 0..2_000),
        cuts in proptest::collection::vec(1usize..200, 1..10),
    ) {
        let mut options = options();
        options.starttls = StartTls::Offered;
        let mut world = World::new(options);
        for &cut in &cuts {
            send(&mut world, &octets, cut);
        }
        prop_assert!(world.sent.is_empty() || world.sent.ends_with(b"\r\n"));
    }
}
