use merpati_mail::EnhancedCode;

use super::*;

fn parse(line: &str) -> Reply {
    let (code, text) = line.split_once(' ').unwrap_or((line, ""));
    let (enhanced, text) = match EnhancedCode::parse_prefix(text) {
        Some((enhanced, rest)) => (Some(enhanced), rest),
        None => (None, text),
    };
    Reply { code: code.parse().unwrap(), enhanced, text: text.to_owned().into() }
}

fn terms(name: &str) -> (Terms, &str) {
    let terms = Terms::default();
    match name.split_once(' ') {
        Some(("lmtp", stage)) => (Terms { dialect: Dialect::Lmtp, ..terms }, stage),
        Some(("login", stage)) => (Terms { login: Login::Given, ..terms }, stage),
        _ => (terms, name),
    }
}

fn phase(name: &str) -> Phase {
    match name {
        "greeting" => Phase::Greeting,
        "hello" => Phase::Hello,
        "starttls" => Phase::StartTls,
        "auth" => Phase::Auth,
        "mail" => Phase::Mail,
        "rcpt" => Phase::Recipient,
        "data" => Phase::Data,
        "end" => Phase::EndOfData,
        other => panic!("phase {other}"),
    }
}

/// `phase | class | scope | fate | reply`, one a line; `lmtp end` and `login mail` are on other
/// terms.
#[test]
fn replies_of_the_world_mean_what_the_table_of_replies_says() {
    let (mut count, mut wrong) = (0, Vec::new());
    for line in include_str!("replies.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let columns: Vec<&str> = line.splitn(5, '|').map(str::trim).collect();
        let (terms, stage) = terms(columns[0]);
        let finding = Finding { phase: phase(stage), fact: Fact::Replied(parse(columns[4])) };
        let (cause, fate) = classify_on(terms, &finding, None);
        let got = (
            cause.class.advice_id(),
            format!("{:?}", cause.scope),
            format!("{fate:?}").to_lowercase(),
        );
        let want = (columns[1], columns[2].to_owned(), columns[3].to_owned());
        if got != want {
            wrong.push(format!("{line}\n   is {got:?}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 60, "{count}");
}

/// So that no line or word of it is idle, or hidden by one above it.
#[test]
fn each_line_of_the_table_is_the_first_that_fits_each_of_its_words_and_codes() {
    for line in TABLE {
        let phase = line.phase.unwrap_or(Phase::EndOfData);
        let mut replies: Vec<Reply> =
            line.words.iter().map(|word| Reply::bare(550, *word)).collect();
        replies.extend(line.codes.iter().map(|code| Reply::bare(*code, "so it is")));
        replies.extend(line.enhanced.iter().map(|&(subject, detail)| Reply {
            code: 550,
            enhanced: Some(EnhancedCode { class: 5, subject, detail }),
            text: "so it is".into(),
        }));
        if replies.is_empty() {
            replies.push(Reply::bare(550, "so it is"));
        }
        for reply in &replies {
            let first = TABLE.iter().find(|it| it.fits(phase, reply, &reply.text));
            assert!(std::ptr::eq(first.unwrap(), line), "{phase:?} {reply}");
        }
    }
}

#[test]
fn what_no_line_fits_is_unknown_and_lasts_as_its_first_digit_says() {
    for (code, class, fate) in [
        (450, Class::UnknownTransient, Fate::Passing),
        (499, Class::UnknownTransient, Fate::Passing),
        (500, Class::UnknownPermanent, Fate::Final),
        (571, Class::UnknownPermanent, Fate::Final),
        (599, Class::UnknownPermanent, Fate::Final),
    ] {
        let fact = Fact::Replied(Reply::bare(code, "so it is"));
        let (cause, got) = classify(&Finding { phase: Phase::Data, fact }, None);
        assert_eq!((cause.class, cause.scope, got), (class, Scope::Message, fate), "{code}");
    }
}

/// K6: at each stage the first digit decides, but where RFC 5321 or practice say otherwise.
#[test]
fn a_refusal_is_for_ever_or_for_now_by_its_first_digit_at_each_stage() {
    let stages = ["greeting", "hello", "starttls", "auth", "mail", "rcpt", "data", "end"];
    for (stage, code) in stages.into_iter().flat_map(|s| (400..600).map(move |c| (s, c))) {
        let phase = phase(stage);
        let fact = Fact::Replied(Reply::bare(code, "so it is"));
        let (_, fate) = classify(&Finding { phase, fact }, None);
        let is_passing = code < 500
            || matches!(phase, Phase::StartTls)
            || (phase == Phase::Recipient && code == 552);
        assert_eq!(fate == Fate::Passing, is_passing, "{code} at {stage}");
    }
}

#[test]
fn what_we_find_ourselves_is_told_in_a_reply_of_its_own() {
    let phases = [
        Phase::Resolve,
        Phase::Connect,
        Phase::Greeting,
        Phase::Hello,
        Phase::StartTls,
        Phase::Auth,
        Phase::Mail,
        Phase::Recipient,
        Phase::Data,
        Phase::Content,
        Phase::EndOfData,
    ];
    let why = || "x".to_owned();
    let mut all: Vec<(Phase, Fact)> = phases.map(|phase| (phase, Fact::Cut)).into();
    all.extend([
        (Phase::Mail, Fact::TimedOut),
        (Phase::EndOfData, Fact::TimedOut),
        (Phase::Connect, Fact::Unreachable(why())),
        (Phase::StartTls, Fact::Tls(why())),
        (Phase::Auth, Fact::Protocol(why())),
        (Phase::StartTls, Fact::Protocol(why())),
        (Phase::EndOfData, Fact::Protocol(why())),
        (Phase::Mail, Fact::Lacks(Need::EightBitMime)),
        (Phase::Mail, Fact::NotConvertible(NotConvertible::Signed)),
        (Phase::Mail, Fact::Lacks(Need::Size)),
        (Phase::Mail, Fact::Lacks(Need::Smtputf8)),
        (Phase::StartTls, Fact::Lacks(Need::StartTls)),
        (Phase::Hello, Fact::Ourselves),
    ]);
    let all = all.into_iter().map(|(phase, fact)| classify(&Finding { phase, fact }, None));
    let before = [
        Before::BadAddress,
        Before::Dns,
        Before::DomainUnknown,
        Before::Loop,
        Before::NoRoute,
        Before::NullMx,
    ];
    let told = all.chain(before.map(own)).map(|(cause, fate)| {
        assert_eq!(cause.remote, None);
        let class = cause.class.advice_id();
        format!("{class} {:?} {fate:?} {}", cause.scope, cause.reply)
    });
    let told: Vec<String> = told.collect();
    let want: Vec<&str> = FINDINGS.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(told, want);
}

const FINDINGS: &str = "
    connection Host Passing 421 4.4.2 connection lost while looking up the host
    connection Host Passing 421 4.4.2 connection lost while connecting
    connection Host Passing 421 4.4.2 connection lost before the greeting
    connection Host Passing 421 4.4.2 connection lost after EHLO
    tls Host Passing 421 4.7.5 TLS failed: connection lost
    connection Host Passing 421 4.4.2 connection lost during AUTH
    connection Host Passing 421 4.4.2 connection lost after MAIL
    connection Host Passing 421 4.4.2 connection lost after RCPT
    connection Host Passing 421 4.4.2 connection lost after DATA
    connection Host Passing 421 4.4.2 connection lost while sending the content
    ambiguous-end-of-data Message Passing 451 4.4.2 no reply to the end of data; \
    it may have been delivered
    timed-out Host Passing 421 4.4.2 no reply in time after MAIL
    ambiguous-end-of-data Message Passing 451 4.4.2 no reply to the end of data; \
    it may have been delivered
    connection Host Passing 421 4.4.1 cannot connect: x
    tls Host Passing 421 4.7.5 TLS failed: x
    authentication Us Passing 421 4.7.0 cannot authenticate: x
    tls Host Passing 421 4.7.5 TLS failed: x
    protocol Host Passing 421 4.5.0 protocol broken: x
    missing-extension Message Final 550 5.6.3 the next hop does not take 8-bit content
    missing-extension Message Final 550 5.6.3 the next hop does not take 8-bit content, and \
    8-bit octets are signed or encrypted
    too-large Message Final 552 5.3.4 the message is larger than the next hop takes
    missing-extension Message Final 550 5.6.7 the next hop does not take internationalised mail
    tls Host Passing 421 4.7.4 TLS is required and the next hop does not offer it
    loop NextHop Final 554 5.4.6 mail loops back: the next hop has our own name
    domain-unknown NextHop Final 550 5.4.4 the hosts of the recipient's domain have no usable \
    address
    dns NextHop Passing 451 4.4.3 DNS cannot say now where this goes
    domain-unknown NextHop Final 550 5.1.2 the recipient's domain does not exist or has no host
    loop NextHop Final 554 5.4.6 mail for this domain loops back to us
    no-route Us Passing 451 4.4.4 no rule says where this goes
    null-mx NextHop Final 556 5.1.10 the recipient's domain takes no mail (null MX)";

#[test]
fn a_word_begins_where_no_letter_or_digit_is_before_it() {
    for (text, word, want) in [
        ("rbl", "rbl", true),
        ("marble", "rbl", false),
        ("marble rbl", "rbl", true),
        ("see bl.rbl.example", "rbl", true),
        ("9rbl", "rbl", false),
        ("\u{e9}rbl", "rbl", false),
        ("rb", "rbl", false),
        ("throttled", "throttl", true),
    ] {
        assert_eq!(has_word(text, word), want, "{text}");
    }
    assert_eq!(own_words("<spf@d.example>: User\n Unknown  a@b"), "user unknown");
}

#[test]
fn what_is_ambiguous_is_kept_and_no_other_host_is_tried() {
    for fact in [Fact::Cut, Fact::TimedOut] {
        let finding = Finding { phase: Phase::EndOfData, fact };
        let (cause, fate) = classify(&finding, None);
        assert_eq!((cause.class, fate), (Class::Ambiguous, Fate::Passing));
        assert!(!tries_next_host(&finding));
    }
}

#[test]
fn what_must_not_go_without_tls_is_returned_where_a_host_cannot_protect_it() {
    use Protection::{AsRouted, Verified};
    for (protection, phase, fact, want) in [
        (Verified, Phase::Mail, Fact::Lacks(Need::RequireTls), ("5.7.30", Fate::Final)),
        (Verified, Phase::StartTls, Fact::Lacks(Need::StartTls), ("5.7.10", Fate::Final)),
        (Verified, Phase::StartTls, Fact::Tls("bad".to_owned()), ("5.7.10", Fate::Final)),
        (Verified, Phase::StartTls, Fact::Cut, ("4.7.5", Fate::Passing)),
        (Verified, Phase::StartTls, Fact::TimedOut, ("4.7.5", Fate::Passing)),
        (Verified, Phase::StartTls, Fact::Replied(parse("454 4.7.0 x")), ("4.7.0", Fate::Passing)),
        (AsRouted, Phase::StartTls, Fact::Lacks(Need::StartTls), ("4.7.4", Fate::Passing)),
        (AsRouted, Phase::StartTls, Fact::Tls("bad".to_owned()), ("4.7.5", Fate::Passing)),
        (AsRouted, Phase::Mail, Fact::Lacks(Need::DeliverBy), ("5.3.3", Fate::Final)),
    ] {
        let finding = Finding { phase, fact };
        let (cause, fate) = classify_on(Terms { protection, ..Terms::default() }, &finding, None);
        let code = cause.reply.enhanced.unwrap().to_string();
        assert_eq!((code.as_str(), fate), want, "{protection:?} {finding:?}");
        assert!(matches!(
            cause.class,
            Class::Tls | Class::Lacks | Class::Connection | Class::TimedOut
        ));
        assert!(tries_next_host(&finding), "another host may do better");
    }
}

#[test]
fn another_host_is_tried_when_a_host_and_not_a_recipient_says_no() {
    for (phase, fact, want) in [
        (Phase::Connect, Fact::Unreachable("refused".to_owned()), true),
        (Phase::Greeting, Fact::Replied(parse("554 5.7.1 go away")), true),
        (Phase::Greeting, Fact::Replied(parse("421 4.3.2 busy")), true),
        (Phase::Content, Fact::Cut, true),
        (Phase::Mail, Fact::Replied(parse("421 4.3.2 shutting down")), true),
        (Phase::Recipient, Fact::Replied(parse("550 5.1.1 who")), false),
        (Phase::Recipient, Fact::Replied(parse("450 4.2.0 greylisted")), false),
        (Phase::EndOfData, Fact::Replied(parse("421 4.3.2 shutting down")), false),
        (Phase::EndOfData, Fact::Replied(parse("452 4.3.1 full")), false),
        (Phase::Mail, Fact::Replied(parse("452 4.3.1 full")), true),
        (Phase::Recipient, Fact::Replied(parse("451 local error")), true),
        (Phase::Recipient, Fact::Replied(parse("452 4.2.2 mailbox full")), false),
        (Phase::Data, Fact::Replied(parse("451 4.7.1 rate limit")), false),
        (Phase::Mail, Fact::Replied(parse("550 5.3.2 not now")), false),
        (Phase::Mail, Fact::Lacks(Need::Size), true),
        (Phase::Mail, Fact::Lacks(Need::StartTls), true),
        (Phase::Mail, Fact::NotConvertible(NotConvertible::Signed), true),
        (Phase::Hello, Fact::Ourselves, false),
    ] {
        assert_eq!(tries_next_host(&Finding { phase, fact: fact.clone() }), want, "{fact:?}");
    }
}
