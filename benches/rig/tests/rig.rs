//! Load, sink and check in one process: what is sent comes, and what is lost is noticed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

use std::{fs, path::PathBuf};

use merpati_rig::{
    check::{self, Balance},
    load,
    sink::{self, Sink},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

/// What load, sink and check said.
struct Run {
    load: Value,
    sink: Value,
    balance: Balance,
}

/// The options of a command line.
fn options<T: clap::Args>(line: &str) -> T {
    let command = T::augment_args(clap::Command::new("test"));
    let words = ["test"].into_iter().chain(line.split_ascii_whitespace());
    T::from_arg_matches(&command.get_matches_from(words)).unwrap()
}

fn files(directory: &TempDir) -> (PathBuf, PathBuf) {
    (directory.path().join("sent"), directory.path().join("received"))
}

/// A load straight to a sink on a free port.
fn run(load: &str, sink: &str) -> Run {
    let directory = tempfile::tempdir().unwrap();
    let (sent, received) = files(&directory);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (load, sink) = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let line = format!("--listen 127.0.0.1:0 --ids {} {sink}", received.display());
        let sink = Sink::bind(options::<sink::Options>(&line)).await.unwrap();
        let port = sink.addresses().unwrap()[0];
        let line = format!("--to {port} --ids {} {load}", sent.display());
        let sending = async {
            let figures = load::run(options(&line), stopped.clone()).await.unwrap();
            stop.send_replace(true);
            figures
        };
        let (load, sink) = tokio::join!(sending, sink.run(stopped.clone()));
        (load, sink.unwrap())
    });
    let line = format!("--sent {} --received {}", sent.display(), received.display());
    Run { load, sink, balance: check::run(&options(&line)).unwrap() }
}

/// Everything is acknowledged and came once.
#[track_caller]
fn check_all_came(load: &str, sink: &str, messages: u64, deliveries: u64) -> Run {
    let run = run(load, sink);
    assert_eq!(run.load["acked"], messages, "{}", run.load);
    assert_eq!(run.load["errors"], serde_json::json!({}));
    assert_eq!(run.sink["deliveries"], deliveries, "{}", run.sink);
    let want = Balance { acknowledged: deliveries, received: deliveries, ..Balance::default() };
    assert_eq!(run.balance, want);
    assert!(run.balance.is_right(Some(0)));
    run
}

#[test]
fn what_a_load_sends_comes_once_and_whole() {
    for load in [
        "--messages 50 --size 10240 --sessions 5",
        "--messages 50 --size 10240 --sessions 5 --pipelining",
        "--messages 50 --size 100 --sessions 50 --pipelining",
        "--messages 50 --size 200000 --sessions 2 --pipelining",
    ] {
        check_all_came(load, "", 50, 50);
    }
    let load = "--messages 20 --sessions 3 --pipelining --starttls";
    check_all_came(load, "--starttls", 20, 20);
    check_all_came("--messages 20 --sessions 3 --pipelining", "--no-pipelining", 20, 20);
    check_all_came("--messages 3 --rcpts 2", "--latency-ms 1", 3, 6);
}

#[test]
fn every_recipient_of_a_thousand_counts() {
    for load in ["--messages 3 --rcpts 1000 --pipelining", "--messages 3 --rcpts 1000"] {
        check_all_came(load, "", 3, 3_000);
    }
}

#[test]
fn a_given_content_comes_as_it_is_and_its_header_is_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let (content, kept) = files(&directory);
    let given = "Subject: x\r\nX-Sign: yes\r\n\r\n.\r\n..two\r\nX-Body: yes\r\n";
    fs::write(&content, given).unwrap();
    let load = format!("--messages 9 --sessions 3 --content {}", content.display());
    let keep = kept.display();
    let sink = format!("--header X-Sign: --header X-Body: --header X-Rig-Id: --keep {keep}");
    let run = check_all_came(&load, &sink, 9, 9);
    let want = serde_json::json!({"X-Sign:": 9, "X-Body:": 0, "X-Rig-Id:": 9});
    assert_eq!(run.sink["headers"], want);
    let came = fs::read_to_string(&kept).unwrap();
    assert!(came.starts_with("X-Rig-Id: load-0000000") && came.ends_with(given), "{came}");
}

#[test]
fn a_connection_carries_as_many_messages_as_it_may() {
    let run = check_all_came("--messages 60 --sessions 2 --per-session 10", "", 60, 60);
    assert!(run.load["connects"].as_u64() >= Some(6), "{}", run.load);
    assert_eq!(run.sink["messages_per_connection"]["most_of_the_ended"], 10);
    assert!(run.sink["connections_most"].as_u64() <= Some(3), "{}", run.sink);
}

#[test]
fn a_refusal_ends_a_session_unless_it_may_connect_again() {
    let run = run("--messages 100 --sessions 4", "--defer end=100");
    assert_eq!((&run.load["acked"], &run.load["refused"]), (&0.into(), &4.into()));
    assert_eq!(run.load["errors"]["refused: 450 not now"], 4);
    assert!(run.balance.is_right(Some(0)) && run.balance.received == 0);
    for stage in ["mail", "rcpt", "data", "end"] {
        check_some_refused(&format!("--defer {stage}=30"), "deferred");
        check_some_refused(&format!("--fail {stage}=30"), "failed");
    }
}

#[track_caller]
fn check_some_refused(fault: &str, counter: &str) {
    let run = run("--messages 60 --sessions 3 --pipelining --retry-connect", fault);
    let refused = run.load["refused"].as_u64().unwrap();
    assert!((5..40).contains(&refused), "{fault}: {}", run.load);
    assert_eq!(run.load["acked"], 60 - refused, "{fault}");
    assert_eq!(run.sink[counter], refused, "{fault}");
    assert_eq!((run.balance.acknowledged, run.balance.refused), (60 - refused, refused));
    assert!(run.balance.is_right(Some(0)), "{fault}: {:?}", run.balance);
}

#[test]
fn a_cut_leaves_the_fate_of_a_message_unknown_and_loses_none() {
    for (cut, came_though_unknown) in [("content", false), ("before", true)] {
        let run = run("--messages 80 --sessions 4 --retry-connect", &format!("--cut {cut}=30"));
        let (acked, unknown) = (run.balance.acknowledged, run.balance.unknown);
        assert_eq!(acked + unknown, 80, "{cut}: {}", run.load);
        assert!(unknown > 5, "{cut}: {}", run.load);
        assert_eq!(run.balance.received, if came_though_unknown { 80 } else { acked }, "{cut}");
        assert!(run.balance.is_right(Some(0)), "{cut}: {:?}", run.balance);
    }
    let run = run("--messages 80 --sessions 4 --retry-connect", "--cut after=30");
    // The next envelope finds the connection gone, and its message was never sent.
    let lost = run.load["lost_connections"].as_u64().unwrap();
    assert_eq!((run.balance.acknowledged, run.balance.unknown), (80 - lost, 0));
    assert_eq!(run.balance.received, 80 - lost);
    assert!(run.sink["cut"].as_u64() > Some(5) && lost > 5, "{}", run.load);
}

#[test]
fn connections_above_the_most_are_answered_421() {
    let run = run("--messages 30 --sessions 3", "--max-conns 1");
    assert_eq!(run.load["acked"], 30);
    assert_eq!(run.load["errors"]["refused: 421 sink.test has too many connections"], 2);
    assert_eq!(run.sink["connections_most"], 1);
}

#[test]
fn a_delivery_that_is_missing_from_the_file_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (sent, received) = files(&directory);
    fs::write(&sent, "k-1 2 A 1.0 5\nk-2 1 A 1.0 5\n").unwrap();
    fs::write(&received, "k-1 0 1.0 400 1\nk-2 0 1.0 400 1\n").unwrap();
    let line = format!("--sent {} --received {}", sent.display(), received.display());
    let balance = check::run(&options(&line)).unwrap();
    assert_eq!(balance.lost, [("k-1".to_owned(), 1)].into());
    assert!(!balance.is_right(None));
}
