use super::*;
use crate::{
    ArcFinding, KeyKind, PrivateKey,
    dns::{Answer, Known, Question},
};

const NOW: u64 = 1_790_000_000;
const MESSAGE: &str = "DKIM-Signature: v=1; a=rsa-sha256; d=x.example; s=s; h=From; bh=; b=\r\n\
                       From: A <a@example.org>\r\nTo: b@example.net\r\nSubject: One\r\n two\r\n\
                       \r\nHello  world \r\n.\r\n\r\n";

fn signer(kind: KeyKind, selector: &str) -> Signer {
    let key = PrivateKey::read(&PrivateKey::draw(kind).unwrap()).unwrap();
    Signer { domain: "example.org".to_owned(), selector: selector.to_owned(), key }
}

fn check(message: &str, signers: &[Signer]) -> ArcFinding {
    let read = Message::read(message.as_bytes());
    let mut hasher = read.body_hasher();
    hasher.push(&message.as_bytes()[read.body_start()..]);
    let mut known = Known::default();
    for signer in signers {
        let name = format!("{}._domainkey.{}", signer.selector, signer.domain);
        let texts = vec![signer.key.record().into_bytes()];
        known.tell(Question::Txt(name), Answer::Texts(texts));
    }
    read.check_arc(&known, &hasher.finish(), NOW).unwrap()
}

/// The message with a set of this sealer on top; `None` where it makes none.
fn sealed(message: &str, sealer: &Signer, chain: ArcResult) -> Option<String> {
    let read = Message::read(message.as_bytes());
    let mut hasher = Message::signing_hasher();
    hasher.push(&message.as_bytes()[read.body_start()..]);
    let body = hasher.finish().signing().unwrap();
    let results = "mx.example.org;\r\n\tspf=pass smtp.mailfrom=a@example.org";
    let sealing = Sealing { chain, results, now: NOW };
    let names = sealed_names(&read).unwrap();
    let set = sealer.seal(&read, body, &names, &sealing)?;
    assert!(set.split("\r\n").all(|line| line.len() <= 998), "{set}");
    Some(set + message)
}

#[test]
fn chains_of_ours_hold_until_somebody_changes_the_message() {
    let signers =
        [signer(KeyKind::Rsa, "s1"), signer(KeyKind::Ed25519, "s2"), signer(KeyKind::Rsa, "s3")];
    let (mut message, mut found) = (MESSAGE.to_owned(), ArcResult::None);
    for signer in &signers {
        // Who forwards may put more on top.
        message = format!("Received: by x.example\r\n{message}");
        message = sealed(&message, signer, found).unwrap();
        found = check(&message, &signers).result;
        assert_eq!(found, ArcResult::Pass, "{message}");
    }
    assert_eq!(check(&message, &signers).sealers, ["example.org"; 3]);
    for (from, to) in [
        ("Hello", "Hallo"),
        ("Subject: One", "Subject: Two"),
        ("To: b", "Cc: c@example.net\r\nTo: b"),
        ("spf=pass", "spf=fail"),
        ("d=x.example", "d=y.example"),
    ] {
        let changed = message.replacen(from, to, 1);
        assert_ne!(changed, message);
        assert_eq!(check(&changed, &signers).result, ArcResult::Fail, "{changed}");
    }
}

#[test]
fn a_broken_chain_is_said_to_be_broken_once() {
    let signer = signer(KeyKind::Rsa, "s1");
    let good = sealed(MESSAGE, &signer, ArcResult::None).unwrap();
    let broken = good.replace("Hello", "Hallo");
    let said = sealed(&broken, &signer, ArcResult::Fail).unwrap();
    assert!(said.contains("i=2") && said.contains("cv=fail"), "{said}");
    assert_eq!(check(&said, std::slice::from_ref(&signer)).result, ArcResult::Fail);
    for chain in [ArcResult::Fail, ArcResult::Pass, ArcResult::None] {
        assert_eq!(sealed(&said, &signer, chain), None);
    }
    assert_eq!(sealed(&good, &signer, ArcResult::TempError), None);
    let longest = MESSAGE.replace("To:", "ARC-Seal: i=50; cv=pass\r\nTo:");
    assert_eq!(sealed(&longest, &signer, ArcResult::Fail), None);
}
