use super::*;

fn sample(at: Instant, started: &str, metrics: &str) -> Sample {
    let status = json!({
        "version": "1", "now": "then", "started_at": started, "uptime_seconds": 130,
        "ready": true, "spool": { "segments_unread": 0 },
    });
    let rows = (1..=12).map(|n| (format!("r{n}"), 13 - n)).collect();
    Sample {
        at,
        took: Duration::ZERO,
        status,
        metrics: super::metrics(metrics),
        reasons: Groups { rows, is_part: false },
        hops: Groups { rows: Vec::new(), is_part: true },
    }
}

const BEFORE: &str = "# HELP merpati_events_total x\n\
    merpati_events_total{event=\"Accepted\"} 10\n\
    merpati_events_total{event=\"Attempted\"} 999\n\
    merpati_outcomes_total{outcome=\"Delivered\"} 3\n";
const AFTER: &str = "merpati_events_total{event=\"Accepted\"} 14\n\
    merpati_events_total{event=\"Captured\"} 1\n\
    merpati_events_total{event=\"Attempted\"} 5000\n\
    merpati_outcomes_total{outcome=\"Delivered\"} 3\n\
    merpati_load_level{resource=\"memory\"} 1\n\
    merpati_load_level{resource=\"disk\"} 2\n\
    merpati_sessions_open{listener=\"mx\"} 2\n\
    merpati_sessions_open{listener=\"submission\"} 3\n\
    merpati_memory_resident_bytes 10485760\n";

#[test]
fn rates_are_of_the_time_between_two_samples_and_of_one_process() {
    let at = Instant::now();
    let before = sample(at, "a", BEFORE);
    let after = sample(at + Duration::from_secs(2), "a", AFTER);
    let [taken, delivered, ..] = RATES;
    assert_eq!(after.rate(Some(&before), taken.1), Some(2.5));
    assert_eq!(after.rate(Some(&before), delivered.1), Some(0.0));
    assert_eq!(after.rate(None, taken.1), None);
    let anew = sample(at + Duration::from_secs(2), "b", AFTER);
    assert_eq!(anew.rate(Some(&before), taken.1), None, "it counts from nothing again");
}

#[test]
fn the_lines_tell_rates_loads_and_the_largest_groups() {
    let at = Instant::now();
    let before = sample(at, "a", BEFORE);
    let lines = sample(at + Duration::from_secs(2), "a", AFTER).lines(Some(&before), "q: end");
    let text = lines.join("\n");
    for part in [
        "merpati 1, up 2 min, then: ready  q: end\n",
        "taken 2.5   delivered 0.0   deferred 0.0   failed 0.0   refused 0.0\n",
        "connections 5   attempts 0   waiting 0\n           memory 10 MiB",
        "\nshort of disk: new mail is refused\nshort of memory: reads are slow\n",
        "DELIVERIES  WHY IT WAITS\n        12  r1\n",
        "         3  r10\n            and 2 more\n",
        "DELIVERIES  WHERE IT GOES (of the oldest)\n         0  nothing waits",
    ] {
        assert!(text.contains(part), "{text}\nlacks {part}");
    }
    let first = sample(at, "a", BEFORE).lines(None, "").join("\n");
    assert!(first.contains("taken -   delivered -"), "{first}");
}

#[test]
fn a_line_of_json_has_the_same() {
    let at = Instant::now();
    let before = sample(at, "a", BEFORE);
    let told = sample(at + Duration::from_secs(2), "a", AFTER).json(Some(&before));
    assert_eq!(told["taken_per_second"], 2.5);
    assert_eq!(told["connections"], 5.0);
    assert_eq!(told["reasons"]["r1"], 12);
    assert_eq!(told["ready"], true);
}
