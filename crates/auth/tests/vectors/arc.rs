//! The test suite of ARC: chains that hold, and many that do not.

use crate::zones::{Zones, documents, shared, text};
use merpati_auth::{ArcResult, Message};

#[test]
fn chains_of_the_suite_hold_where_it_says_so() {
    let Some(path) = shared("vectors/arc/arc-draft-validation-tests.yml") else { return };
    let (mut ran, mut failed) = (0, Vec::new());
    for scenario in documents(&path) {
        let zones = Zones::of_texts(&scenario["txt-records"]);
        for (name, test) in scenario["tests"].as_hash().unwrap() {
            let name = text(name);
            ran += 1;
            let message = text(&test["message"]).replace('\n', "\r\n");
            let message = message.as_bytes();
            let read = Message::read(message);
            let mut hasher = read.body_hasher();
            hasher.push(&message[read.body_start()..]);
            let body = hasher.finish();
            let found = zones.answer(|known| read.check_arc(known, &body, NOW));
            let result = match found.result {
                ArcResult::Fail | ArcResult::TempError => "Fail",
                ArcResult::None => "None",
                ArcResult::Pass => "Pass",
            };
            let wanted = match name.as_str() {
                // A signature over no field at all: it protects nothing, and we say so.
                "ams_fields_h_empty" => "Fail",
                // The suite leaves open what a chain is that says itself that it is broken;
                // RFC 8617 §5.2 does not.
                _ => test["cv"].as_str().filter(|cv| !cv.is_empty()).unwrap_or("Fail"),
            };
            if !wanted.eq_ignore_ascii_case(result) {
                failed.push(format!(
                    "{name}: {found:?}, and not {wanted:?}: {:?}",
                    test["description"]
                ));
            }
        }
    }
    assert_eq!(failed, [""; 0], "{} of {ran}", failed.len());
    // 171 names, four of them twice.
    assert_eq!(ran, 175);
}

/// Behind the times of the suite.
const NOW: u64 = 1_790_000_000;
