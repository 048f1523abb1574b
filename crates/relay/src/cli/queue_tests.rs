use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    http::{StatusCode, Uri},
    routing::{get, post},
};
use clap::Parser;

use super::*;

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: QueueCommand,
}

const DELIVERY: &str = r#"{"id":"028T5CY4TQKFF.0","message":"028T5CY4TQKFF","age_seconds":7300,
    "status":"waiting","reason":{"id":"connection","code":421,"sentence":"No \u001b.",
    "advice":"Wait."},"next_at":"2026-11-23T20:51:30.250Z","next_in_seconds":300,"attempts":2,
    "envelope_from":"","envelope_to":"ani@example.id","size_bytes":7,
    "route":{"rule":"all","next_hop":"mx"}}"#;

/// Two pages of one delivery each; the second one is held.
async fn list(uri: Uri) -> String {
    let query = uri.query().unwrap_or_default();
    if query.contains("nobody") {
        return r#"{"data":[],"page":{"next":null,"has_more":false}}"#.to_owned();
    }
    if query.contains("after=028T5CY4TQKFF.0") {
        let held = DELIVERY
            .replace("TQKFF.0", "TQKFF.1")
            .replace("\"waiting\"", "\"held\"")
            .replace("\"2026-11-23T20:51:30.250Z\",\"next_in_seconds\":300", "null")
            .replace("421", "null");
        return format!(r#"{{"data":[{held}],"page":{{"next":null,"has_more":false}}}}"#);
    }
    let next = r#"{"next":"028T5CY4TQKFF.0","has_more":true}"#;
    format!(r#"{{"data":[{DELIVERY}],"page":{next}}}"#)
}

async fn show() -> String {
    let head =
        r#""id":"028T5CY4TQKFF","received_at":"then","subject":"Hi","envelope":{"from":"a@b"}"#;
    format!(r#"{{{head},"deliveries":[{DELIVERY}],"finished":["budi@example.id"]}}"#)
}

/// Two parts of one message each; the first one tells what was asked as missing.
async fn operate(uri: Uri) -> (StatusCode, String) {
    let query = uri.query().unwrap_or_default();
    if query.contains("id%3a0000000000009") {
        return (StatusCode::NOT_FOUND, r#"{"detail":"gone"}"#.to_owned());
    }
    let tail = if query.contains("after=A") || query.contains("one") {
        r#""missing":[],"page":{"next":null}"#.to_owned()
    } else {
        let asked = query.split("&after").next().unwrap_or_default();
        format!(r#""missing":["{asked}"],"page":{{"next":"A"}}"#)
    };
    let done = format!(r#"{{"messages":1,"deliveries":2,"passed_over":1,{tail}}}"#);
    (StatusCode::OK, done)
}

/// Runs commands against a router of canned answers; gives back what each says.
fn say(lines: &[&str]) -> Vec<Result<String, String>> {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let router = Router::new()
        .route("/v1/queue", get(list))
        .route("/v1/queue/028T5CY4TQKFF", get(show))
        .route("/v1/queue/{verb}", post(operate));
    let listener = {
        let _inside = runtime.enter();
        tokio::net::UnixListener::bind(&socket).unwrap()
    };
    runtime.spawn(async move { axum::serve(listener, router).await });
    let client = Client::new(Some(socket));
    let answer = |line: &&str| {
        let words = std::iter::once("queue").chain(line.split(' '));
        let (page, complaints) = (Page::default(), Page::default());
        let mut output = Output::both(Box::new(page.clone()), Box::new(complaints.clone()));
        let ended = run(&Line::parse_from(words).command, &client, &mut output);
        let text = |page: &Page| String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        ended.map(|_| text(&page) + &text(&complaints)).map_err(|failure| failure.to_string())
    };
    lines.iter().map(answer).collect()
}

#[track_caller]
fn check(table: &[(&str, Result<&str, &str>)]) {
    let lines: Vec<&str> = table.iter().map(|row| row.0).collect();
    for ((line, want), said) in table.iter().zip(say(&lines)) {
        assert_eq!(said.as_deref().map_err(String::as_str), *want, "{line}");
    }
}

#[test]
fn a_list_shows_the_reason_and_the_next_time_of_each_delivery() {
    let heading = "ID               AGE  OCTETS  FROM  TO              STATUS   REASON            \
                   NEXT                             ATTEMPTS\n";
    let first = "028T5CY4TQKFF.0  2 h  7       <>    ani@example.id  waiting  connection (421)  \
                 2026-11-23T20:51:30Z (in 5 min)  2\n";
    let both = "ID               AGE  OCTETS  FROM  TO              STATUS   REASON            NEXT\
                \x20                            ATTEMPTS\n\
                028T5CY4TQKFF.0  2 h  7       <>    ani@example.id  waiting  connection (421)  \
                2026-11-23T20:51:30Z (in 5 min)  2\n\
                028T5CY4TQKFF.1  2 h  7       <>    ani@example.id  held     connection        \
                when somebody acts               2\n";
    check(&[
        ("ls", Ok(both)),
        ("ls -n 1", Ok(&format!("{heading}{first}1 shown, more follow; see --limit\n"))),
        ("ls to:nobody", Ok("nothing is selected\n")),
    ]);
}

#[test]
fn a_message_is_shown_with_what_to_do_about_each_delivery() {
    let said = say(&["show 028T5CY4TQKFF", "show 028t", "show 028T5CY4TQKFF.7", "show nobody"]);
    let whole = said[0].as_ref().unwrap();
    for part in [
        "Subject        Hi\n",
        "\n028T5CY4TQKFF.0  to ani@example.id\n",
        "  reason    connection (421): No \u{fffd}.\n",
        "  to do     Wait.\n",
        "  next      2026-11-23T20:51:30Z (in 5 min)\n",
        "  route     mx (rule all)\n",
        "\nfinished: budi@example.id\n",
    ] {
        assert!(whole.contains(part), "{whole}\nlacks {part}");
    }
    assert_eq!(&said[1], &said[0], "the beginning of an id is enough");
    assert_eq!(&said[2], &said[0]);
    assert_eq!(said[3], Err("no message in the queue is called `nobody`".to_owned()));
}

#[test]
fn a_verb_goes_on_to_the_end_of_the_queue_and_tells_what_was_missing() {
    check(&[
        (
            "retry 028T5CY4TQKFF 028T5CY4TQKFG from:x",
            Ok("4 deliveries of 2 messages tried now; 2 passed over: held, or being tried\n\
                no message in the queue is called `query=id%3a028T5CY4TQKFF%2c028T5CY4TQKFG\
                %20from%3ax&dry_run=false`\n"),
        ),
        (
            "release to:one --dry-run",
            Ok("would release 2 deliveries of 1 message; 1 passed over: not held\n"),
        ),
        (
            "hold to:one --why odd",
            Ok("held 2 deliveries of 1 message; 1 passed over: held already\n"),
        ),
        (
            "reroute to:one --to backup",
            Ok("2 deliveries of 1 message led by the route backup; 1 passed over: being tried, \
                or at their end\n"),
        ),
        (
            "reroute to:one --by-rules",
            Ok("2 deliveries of 1 message led by the rules; 1 passed over: being tried, or at \
                their end\n"),
        ),
        (
            "reroute 028T5CY4TQKFF --to b",
            Ok("4 deliveries of 2 messages led by the route b; 2 passed over: being tried, or at \
                their end\nno message in the queue is called \
                `query=id%3a028T5CY4TQKFF&dry_run=false&route=b`\n"),
        ),
        ("retry 0000000000009", Err("gone")),
    ]);
}

#[test]
fn more_than_one_message_is_cancelled_only_with_a_word() {
    check(&[
        (
            "cancel to:one",
            Ok("cancelled 2 deliveries of 1 message; no DSN is sent; 1 passed over: held, or \
                being tried\n"),
        ),
        (
            "cancel --all",
            Err("would cancel 4 deliveries of 2 messages; 2 passed over: held, or being tried\n\
                 help: say --yes to do it"),
        ),
        (
            "cancel --all --yes",
            Ok("cancelled 4 deliveries of 2 messages; no DSN is sent; 2 passed over: held, or \
                being tried\nno message in the queue is called `query=&dry_run=false`\n"),
        ),
    ]);
}

#[test]
fn ids_are_meant_one_or_the_other_and_terms_together() {
    for (words, want) in [
        ("", ""),
        ("from:x age>1h", "from:x age>1h"),
        ("from:x 028T5CY4TQKFF 028t5cy4tqkfg.3", "id:028T5CY4TQKFF,028t5cy4tqkfg.3 from:x"),
        ("international", "international"),
        ("028T5CY4TQKFF.x", "028T5CY4TQKFF.x"),
    ] {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        assert_eq!(query(&words), want);
    }
}

#[test]
fn seconds_are_told_in_the_unit_in_which_a_person_counts() {
    for (seconds, want) in
        [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (172_800, "2 d")]
    {
        assert_eq!(coarse(Some(&Value::from(seconds))), want);
    }
    assert_eq!(coarse(None), "-");
}
