//! The test suite of RFC 7208.

use crate::zones::{Zones, documents, shared, text, texts};
use merpati_auth::spf::{self, Client, SpfFinding};
use yaml_rust2::Yaml;

#[test]
fn the_suite_of_rfc_7208_passes_whole() {
    let Some(path) = shared("vectors/spf/rfc7208-tests.yml") else { return };
    let (mut ran, mut failed) = (0, Vec::new());
    for scenario in documents(&path) {
        let zones = Zones::of(&scenario["zonedata"]);
        for (name, test) in scenario["tests"].as_hash().unwrap() {
            let name = text(name);
            ran += 1;
            let found = run(&zones, test);
            let wanted = texts(&test["result"]);
            let explanation = test["explanation"].as_str();
            let said = found.explanation.as_deref().unwrap_or("DEFAULT");
            let is_said =
                explanation.is_none_or(|want| want == said || found.result.as_str() != "fail");
            if !wanted.contains(&found.result.to_string()) || !is_said {
                failed.push(format!("{name}: {found:?}, and not {wanted:?} {explanation:?}"));
            }
        }
    }
    assert_eq!(failed, [""; 0], "of {ran}");
    assert_eq!(ran, 203);
}

fn run(zones: &Zones, test: &Yaml) -> SpfFinding {
    let (helo, sender) = (text(&test["helo"]), text(&test["mailfrom"]));
    let address = text(&test["host"]).parse().unwrap();
    let client = Client { address, helo: &helo, receiver: "us.example", now: 1_700_000_000 };
    let sender = (!sender.is_empty()).then_some(sender);
    zones.answer(|known| spf::check(known, &client, sender.as_deref()))
}
