//! Signed messages of two other implementations, and keys that must not be used.

use std::{fs, path::Path};

use merpati_auth::{DkimFinding, DkimResult, Message};

use crate::zones::{Zones, shared};

/// What becomes of the signatures of a message with lone line feeds.
fn check(message: &str, zones: &Zones) -> Vec<DkimFinding> {
    let message = message.replace("\r\n", "\n").replace('\n', "\r\n");
    let read = Message::read(message.as_bytes());
    let mut hasher = read.body_hasher();
    hasher.push(&message.as_bytes()[read.body_start()..]);
    let body = hasher.finish();
    zones.answer(|known| read.check_dkim(known, &body, NOW))
}

fn results(findings: &[DkimFinding]) -> Vec<DkimResult> {
    findings.iter().map(|finding| finding.result).collect()
}

#[test]
fn signed_messages_of_mail_auth_pass() {
    let Some(folder) = shared("vectors/mail-auth/resources/dkim") else { return };
    let mut ran = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).replace("\r\n", "\n");
        let (records, message) = text.split_once("\n\n").unwrap();
        let records = records.lines().filter_map(|line| line.split_once(' '));
        let found = check(message, &Zones::of_pairs(records));
        // Two of them are signed twice, and one with SHA-1, which proves nothing any more.
        let is_good = |finding: &DkimFinding| {
            finding.result == DkimResult::Pass
                || finding.why.as_deref() == Some("SHA-1 proves nothing any more")
        };
        assert!(found.iter().all(is_good) && !found.is_empty(), "{}: {found:#?}", path.display());
        ran += 1;
    }
    assert_eq!(ran, 6);
}

#[test]
fn the_message_of_rfc_8463_passes_with_both_keys() {
    let Some(folder) = shared("vectors/dkim/dkimpy/dkim/tests/data") else { return };
    let message = read(&folder, "rfc6376.signed.msg");
    let brisbane = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let of = |rsa: &str| {
        let rsa = read(&folder, rsa);
        let names = ["brisbane", "test"].map(|it| format!("{it}._domainkey.football.example.com"));
        let [ed25519, test] = names;
        let zones = [(ed25519.as_str(), brisbane), (test.as_str(), rsa.trim_end())];
        check(&message, &Zones::of_pairs(zones))
    };
    for (key, want, why) in [
        ("test.txt", DkimResult::Pass, ""),
        ("test2.txt", DkimResult::Pass, ""),
        ("badversion.txt", DkimResult::PermError, "another version"),
        ("badk.txt", DkimResult::PermError, "another algorithm"),
        ("test_bad.txt", DkimResult::PermError, "no RSA key"),
        ("test_tlsrpt.txt", DkimResult::PermError, "not for mail"),
    ] {
        let found = of(key);
        assert_eq!(results(&found), [DkimResult::Pass, want], "{key}: {found:#?}");
        let said = found[1].why.clone().unwrap_or_default();
        assert!(said.contains(why), "{key}: {said}");
    }
    let changed = message.replace("We lost", "We won");
    let zones = [("brisbane._domainkey.football.example.com", brisbane)];
    let found = check(&changed, &Zones::of_pairs(zones));
    assert_eq!(results(&found), [DkimResult::Fail, DkimResult::Fail], "{found:#?}");
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

/// Before the messages expire.
const NOW: u64 = 1_600_000_000;
