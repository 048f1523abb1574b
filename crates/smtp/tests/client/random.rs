//! Whatever a server says, and however it is cut into segments.

use super::*;

/// Everything a session says when the server says `octets` in these pieces, without waiting.
fn answers(options: Options, octets: &[u8], cuts: &[usize]) -> String {
    let mut play = Play::new(options, transaction("a@us.example", &["b@x.example", "c@y.example"]));
    let mut start = 0;
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (octets.len() + 1)).collect();
    ends.push(octets.len());
    ends.sort_unstable();
    for end in ends {
        play.octets(&octets[start..end]);
        start = end;
        while let Some(output) = play.session.poll() {
            let input = match &output {
                Output::Ready => Some("start"),
                Output::NeedBody => Some("body a\\r\\n.b\\r\\n"),
                Output::StartTls => Some("tls-failed x"),
                Output::Close | Output::Failed(_) | Output::Results(_) | Output::Send(_) => None,
            };
            play.transcript.push_str(&shown(output));
            if let Some(input) = input {
                play.input(input);
            }
        }
    }
    play.transcript
}

/// Lines that lead deeper than random octets would.
fn server_line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => Just(b"250 ok\r\n".to_vec()),
        2 => Just(b"220 mx\r\n".to_vec()),
        2 => Just(b"250-mx\r\n250-SIZE 5000\r\n250 PIPELINING\r\n".to_vec()),
        1 => Just(b"250-mx\r\n250 STARTTLS\r\n".to_vec()),
        1 => Just(b"250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN SCRAM-SHA-256\r\n".to_vec()),
        1 => Just(b"334 eA==\r\n".to_vec()),
        2 => Just(b"354 go\r\n".to_vec()),
        1 => Just(b"452 many\n".to_vec()),
        1 => Just(b"550 5.1.1 no\r\n".to_vec()),
        1 => Just(b"421 bye\r\n".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    #[test]
    fn no_octets_of_a_server_make_a_session_panic(
        lines in proptest::collection::vec(server_line(), 0..20),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let options = Options { tls: TlsUse::Opportunistic, ..options() };
        let transcript = answers(options, &lines.concat(), &cuts);
        prop_assert!(transcript.matches("E: close").count() <= 1);
        let starts = transcript.matches("E: ready").count();
        let results = transcript.matches("E: results").count();
        prop_assert!(results == starts || results + 1 == starts, "{}", transcript);
    }

    #[test]
    fn in_the_clear_nothing_of_a_credential_is_said_whatever_the_server_says(
        lines in proptest::collection::vec(server_line(), 0..20),
        tls in prop_oneof![
            Just(TlsUse::Never), Just(TlsUse::Opportunistic), Just(TlsUse::Required)
        ],
    ) {
        let mut play = Play::new(Options { tls, ..scram_options() }, transaction("", &[]));
        let mut sent = String::new();
        for line in std::iter::once(b"220 mx\r\n".to_vec()).chain(lines) {
            play.octets(&line);
            while let Some(output) = play.session.poll() {
                let is_plea = matches!(output, Output::Ready | Output::NeedBody);
                prop_assert!(!is_plea, "ready without authentication");
                if let Output::Send(octets) = &output {
                    sent += std::str::from_utf8(octets).unwrap();
                }
            }
        }
        for line in sent.lines() {
            prop_assert!(["EHLO us.example", "STARTTLS", "QUIT"].contains(&line), "{}", line);
        }
    }

    #[test]
    fn the_segments_of_a_pipelined_conversation_make_no_difference(
        replies in proptest::collection::vec(
            prop_oneof![Just("250 ok"), Just("550 no"), Just("250-a\r\n250 b"), Just("452 x")], 3,
        ),
        cuts in proptest::collection::vec(any::<usize>(), 0..30),
    ) {
        let text = format!("{}\r\n354 go\r\n", replies.join("\r\n"));
        let play = |cuts: &[usize]| {
            let next = transaction("", &["b@x.example", "c@y.example"]);
            let mut play = Play::new(options(), next);
            for line in ["S: 220 mx", "s: 250-mx\\r\\n250 PIPELINING\\r\\n", "I: start"] {
                play.line(line);
            }
            play.transcript.clear();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
            ends.push(text.len());
            ends.sort_unstable();
            let mut start = 0;
            for end in ends {
                play.octets(&text.as_bytes()[start..end]);
                start = end;
                while let Some(output) = play.session.poll() {
                    play.transcript.push_str(&shown(output));
                }
            }
            play.transcript
        };
        prop_assert_eq!(play(&[]), play(&cuts));
    }

    #[test]
    fn what_is_stuffed_comes_back_and_holds_no_look_alike(
        lines in proptest::collection::vec("[.a]{0,4}", 0..20),
        is_complete in any::<bool>(),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let mut content = lines.join("\r\n").into_bytes();
        if is_complete {
            content.extend_from_slice(b"\r\n");
        }
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (content.len() + 1)).collect();
        ends.push(content.len());
        ends.sort_unstable();
        let (mut stuffer, mut out, mut start) = (Stuffer::new(), Vec::new(), 0);
        for end in ends {
            let piece = &content[start..end];
            stuffer.push(piece, &mut |slice| out.extend_from_slice(slice)).unwrap();
            start = end;
        }
        stuffer.end(&mut |slice| out.extend_from_slice(slice)).unwrap();
        let text = String::from_utf8(out).unwrap();
        let data = text.strip_suffix(".\r\n").unwrap();
        prop_assert!(!data.replace("\r\n", "").contains(['\r', '\n', '\0']));
        let mut back = String::new();
        for line in data.split_inclusive("\r\n") {
            prop_assert_ne!(line, ".\r\n");
            back.push_str(line.strip_prefix('.').unwrap_or(line));
        }
        let mut want = String::from_utf8(content).unwrap();
        if !want.is_empty() && !want.ends_with("\r\n") {
            want.push_str("\r\n");
        }
        prop_assert_eq!(back, want);
    }
}
