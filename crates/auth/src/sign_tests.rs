use mail_auth::common::crypto::Algorithm;

use super::*;
use crate::{
    BodyHasher, DkimFinding, DkimResult,
    dns::{Answer, Known, Question},
};

const NOW: u64 = 1_790_000_000;
const MESSAGE: &str = "From: A <a@example.org>\r\nTo: b@example.net\r\nSubject: One\r\n two\r\n\
                       Date: Mon, 30 Nov 2026 12:00:00 +0000\r\n\r\nHello  world \r\n.\r\n\r\n";

fn signer(kind: KeyKind) -> Signer {
    let key = PrivateKey::read(&PrivateKey::draw(kind).unwrap()).unwrap();
    Signer { domain: "example.org".to_owned(), selector: "s1".to_owned(), key }
}

fn signed(signer: &Signer, message: &str) -> String {
    let read = Message::read(message.as_bytes());
    let mut hasher = Message::signing_hasher();
    hasher.push(&message.as_bytes()[read.body_start()..]);
    let body = hasher.finish().signing().unwrap();
    let field = signer.sign(&read, body, NOW, None).unwrap();
    assert!(field.split("\r\n").all(|line| line.len() <= 78), "{field}");
    format!("{field}{message}")
}

/// What becomes of the signatures of a message; the key of `s1._domainkey.example.org` is given.
fn check(message: &str, key: Answer) -> Vec<DkimFinding> {
    let read = Message::read(message.as_bytes());
    let mut hasher = read.body_hasher();
    hasher.push(&message.as_bytes()[read.body_start()..]);
    let body = hasher.finish();
    let mut known = Known::default();
    known.tell(Question::Txt("s1._domainkey.example.org".to_owned()), key);
    read.check_dkim(&known, &body, NOW).unwrap()
}

fn text(record: &str) -> Answer {
    Answer::Texts(vec![record.as_bytes().to_vec()])
}

fn results(findings: &[DkimFinding]) -> Vec<DkimResult> {
    findings.iter().map(|finding| finding.result).collect()
}

#[test]
fn what_we_sign_passes_with_either_key() {
    for kind in [KeyKind::Rsa, KeyKind::Ed25519] {
        let signer = signer(kind);
        let message = signed(&signer, MESSAGE);
        let found = check(&message, text(&signer.key.record()));
        assert_eq!(results(&found), [DkimResult::Pass], "{found:?}");
        assert_eq!(found[0].rsa_bits, (kind == KeyKind::Rsa).then_some(2_048));
        assert!(message.contains(&format!("b={}", found[0].start)), "{message}");
    }
}

#[test]
fn whoever_changes_or_adds_what_is_seen_breaks_the_signature() {
    let signer = signer(KeyKind::Ed25519);
    let message = signed(&signer, MESSAGE);
    let fails = |message: String| {
        let found = check(&message, text(&signer.key.record()));
        assert_eq!(results(&found), [DkimResult::Fail], "{message}: {found:?}");
    };
    for (from, to) in [
        ("Subject: One", "Subject: Two"),
        ("Hello", "Hallo"),
        ("world", "world\r\nmore"),
        ("To: b@", "To: c@"),
    ] {
        fails(message.replace(from, to));
    }
    for name in ALWAYS {
        fails(format!("{name}: x\r\n{message}"));
        fails(format!("{name} \t: x\r\n{message}"));
    }
    // What only forwarders add does no harm, nor do blanks.
    for harmless in [
        format!("Received: by x\r\n{message}"),
        format!("List-Id: <x>\r\n{message}"),
        message.replace("Hello  world ", "Hello world\t").replace(".\r\n\r\n", ".\r\n \r\n\t\r\n"),
        message.replace("Subject: One\r\n two", "SUBJECT:  One two"),
    ] {
        let found = check(&harmless, text(&signer.key.record()));
        assert_eq!(results(&found), [DkimResult::Pass], "{harmless}: {found:?}");
    }
}

#[test]
fn a_key_must_be_one_that_may_be_used() {
    let signer = signer(KeyKind::Rsa);
    let message = signed(&signer, MESSAGE);
    let record = signer.key.record();
    let with = |tag: &str| text(&record.replace("; p=", &format!("; {tag}; p=")));
    let key = |text: &str| Answer::Texts(vec![text.as_bytes().to_vec(), record.clone().into()]);
    // A modulus of 512 bits.
    let short = "v=DKIM1; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALVI635dLK4cJJAH3Lx6upo3X/Lm1tQz3m\
                 lcWTA3BUTfQRZv6eeX0iY2G2aEa3Wnb2uv2GGuDSZF5rjn4uKJUsUCAwEAAQ==";
    for (answer, want, why) in [
        (text(&record), DkimResult::Pass, ""),
        (with("h=sha1:sha256"), DkimResult::Pass, ""),
        (with("s=email:foo"), DkimResult::Pass, ""),
        (with("t=y"), DkimResult::Pass, ""),
        (with("foo=bar"), DkimResult::Pass, ""),
        (key("v=spf1 -all"), DkimResult::Pass, ""),
        (with("h=sha1"), DkimResult::Fail, "SHA-256"),
        (with("s=tlsrpt"), DkimResult::PermError, "not for mail"),
        (text(&record.replace("k=rsa", "k=ed25519")), DkimResult::PermError, "another algorithm"),
        (text("v=DKIM1; p="), DkimResult::PermError, "revoked"),
        (text("v=DKIM1; k=rsa"), DkimResult::PermError, "no key"),
        (text("v=DKIM2; p=abc"), DkimResult::PermError, "another version"),
        (text("v=DKIM1; p=%"), DkimResult::PermError, "cannot be read"),
        (text("v=DKIM1; p=AAAA"), DkimResult::PermError, "too short"),
        (text(short), DkimResult::PermError, "too short"),
        (text("\u{1}"), DkimResult::PermError, "cannot be read"),
        (Answer::NoName, DkimResult::PermError, "no key"),
        (Answer::Nothing, DkimResult::PermError, "no key"),
        (Answer::Unknown, DkimResult::TempError, "does not answer"),
    ] {
        let found = check(&message, answer.clone());
        assert_eq!(results(&found), [want], "{answer:?}: {found:?}");
        let said = found[0].why.clone().unwrap_or_default();
        assert!(said.contains(why) && said.is_empty() == why.is_empty(), "{answer:?}: {said}");
    }
    let broken = message.replace("One", "Two");
    let found = check(&broken, with("t=y"));
    assert_eq!(results(&found), [DkimResult::Neutral], "only a test: {found:?}");
}

/// A signature over MESSAGE with a template of ours, as others make them.
fn signed_as(
    signer: &Signer,
    change: impl Fn(&mut Signature),
    message: &str,
    body: &str,
) -> String {
    let read = Message::read(message.as_bytes());
    let mut signature = Signature {
        v: 1,
        a: signer.key.key.algorithm(),
        d: "example.org".to_owned(),
        s: "s1".to_owned(),
        h: ["from", "subject"].map(str::to_owned).to_vec(),
        t: NOW - 10,
        ..Signature::default()
    };
    change(&mut signature);
    let form = (crate::message::ours(signature.cb), None);
    let mut hasher = BodyHasher::new([form]);
    hasher.push(body.as_bytes());
    signature.bh = hasher.finish().get(form).unwrap().hash.to_vec();
    // Twice, because what is signed is the field itself without what it says.
    let mut field = Vec::new();
    signature.write(&mut field, true);
    let value = &field[b"DKIM-Signature:".len()..];
    let name: &[u8] = b"DKIM-Signature";
    let octets =
        read.fields.signed(&signature.h, (name, value), crate::message::ours(signature.ch));
    signature.b = signer.key.key.sign(octets.as_slice()).unwrap();
    // The library wraps what is long: only what is signed in the relaxed form bears that.
    let b = STANDARD.encode(&signature.b);
    let field = String::from_utf8(field).unwrap();
    format!("{}{message}", field.replace("; b=;", &format!("; b={b};")))
}

/// What another signer does otherwise.
type Change = Box<dyn Fn(&mut Signature)>;

#[test]
fn signatures_of_others_are_judged_by_the_rules() {
    let signer = signer(KeyKind::Ed25519);
    let body = &MESSAGE[Message::read(MESSAGE.as_bytes()).body_start()..];
    let key = || text(&signer.key.record());
    let relaxed = Canonicalization::Relaxed;
    let simple = Canonicalization::Simple;
    let cases: Vec<(&str, Change, DkimResult)> = vec![
        ("c=", Box::new(move |s| (s.ch, s.cb) = (relaxed, relaxed)), DkimResult::Pass),
        ("c=", Box::new(move |s| (s.ch, s.cb) = (simple, relaxed)), DkimResult::Pass),
        ("c=", Box::new(move |s| (s.ch, s.cb) = (relaxed, simple)), DkimResult::Pass),
        ("c=", Box::new(move |s| (s.ch, s.cb) = (simple, simple)), DkimResult::Pass),
        ("x=", Box::new(|s| s.x = NOW + 1), DkimResult::Pass),
        ("x=", Box::new(|s| s.x = NOW), DkimResult::Fail),
        ("x=", Box::new(|s| s.x = NOW - 11), DkimResult::PermError),
        ("i=", Box::new(|s| s.i = "@a.example.org".to_owned()), DkimResult::Pass),
        ("i=", Box::new(|s| s.i = "x@EXAMPLE.org".to_owned()), DkimResult::Pass),
        ("i=", Box::new(|s| s.i = "@badexample.org".to_owned()), DkimResult::PermError),
        ("i=", Box::new(|s| s.i = "@org".to_owned()), DkimResult::PermError),
        ("h=", Box::new(|s| s.h = vec!["subject".to_owned()]), DkimResult::PermError),
        ("l=", Box::new(|s| s.l = 3), DkimResult::Fail),
        ("a=", Box::new(|s| s.a = Algorithm::RsaSha1), DkimResult::Fail),
        ("a=", Box::new(|s| s.a = Algorithm::RsaSha256), DkimResult::PermError),
        ("d=", Box::new(|s| s.d = "Example.ORG".to_owned()), DkimResult::Pass),
    ];
    for (what, change, want) in cases {
        let found = check(&signed_as(&signer, change, MESSAGE, body), key());
        assert_eq!(results(&found), [want], "{what}: {found:?}");
    }
    let strict = text(&signer.key.record().replace("; p=", "; t=s; p="));
    let sub = |s: &mut Signature| s.i = "@a.example.org".to_owned();
    let found = check(&signed_as(&signer, sub, MESSAGE, body), strict);
    assert_eq!(results(&found), [DkimResult::Fail], "{found:?}");
}

#[test]
fn what_is_added_behind_a_limit_is_not_vouched_for() {
    let signer = signer(KeyKind::Ed25519);
    let octets = "Hello world\r\n.\r\n".len() as u64;
    let body = &MESSAGE[Message::read(MESSAGE.as_bytes()).body_start()..];
    let limited = |l| {
        let change = move |s: &mut Signature| {
            (s.l, s.ch, s.cb) = (l, Canonicalization::Relaxed, Canonicalization::Relaxed);
        };
        signed_as(&signer, change, MESSAGE, body)
    };
    let check = |message: &str| results(&check(message, text(&signer.key.record())));
    assert_eq!(check(&limited(octets)), [DkimResult::Pass]);
    assert_eq!(check(&format!("{}more\r\n", limited(octets))), [DkimResult::Policy]);
    assert_eq!(check(&limited(octets + 1)), [DkimResult::PermError]);
}

#[test]
fn a_signature_that_cannot_be_read_is_told() {
    for (field, why) in [
        ("v=1", "lacks a tag"),
        ("v=2; a=rsa-sha256; b=aa; bh=aa; d=x.org; h=from; s=s", "another version"),
        ("a=rsa-sha256; b=aaaa; bh=aaaa; d=x.org; h=from; s=s", "another version"),
        ("v=1; a=rsa-sha256; b=aaaa; bh=aaaa; d=x.org; h=from; s=s; s=t", "cannot be read"),
        ("v=1; a=rsa-sha256; b=aaaa; bh=aaaa; d=x.org; h=from", "lacks a tag"),
        ("v=1; a=rsa-sha256; b=; bh=aaaa; d=x.org; h=from; s=s", "lacks a tag"),
        ("v=1; a=rsa-sha256; b=a!; bh=aaaa; d=x.org; h=from; s=s", "base64"),
        ("v=1; a=foo; b=aaaa; bh=aaaa; d=x.org; h=from; s=s", "not known"),
        ("v=1; a=rsa-sha256; b=aaaa; bh=aaaa; d=x.org; h=from; s=s; q=foo", "nowhere"),
        ("v=1; a=rsa-sha256; b=aaaa; bh=aaaa; d=x.org; h=from; s=s; t=x", "no number"),
        ("nonsense", "cannot be read"),
        ("", "cannot be read"),
    ] {
        let message = format!("DKIM-Signature: {field}\r\n{MESSAGE}");
        let found = check(&message, Answer::NoName);
        assert_eq!(results(&found), [DkimResult::PermError], "{field}");
        let said = found[0].why.clone().unwrap();
        assert!(said.contains(why), "{field}: {said}");
    }
}

#[test]
fn only_so_many_signatures_are_looked_at() {
    let signer = signer(KeyKind::Ed25519);
    let message = signed(&signer, MESSAGE);
    let field = &message[..message.len() - MESSAGE.len()];
    let found = check(&format!("{}{MESSAGE}", field.repeat(100)), text(&signer.key.record()));
    assert_eq!(found.len(), crate::SIGNATURES_MAX);
}

#[test]
fn a_file_that_is_no_key_is_refused() {
    for octets in [&b""[..], b"x", &[0; 1_000]] {
        assert_eq!(PrivateKey::read(octets).map(drop), Err(KeyError::Unreadable));
    }
}
