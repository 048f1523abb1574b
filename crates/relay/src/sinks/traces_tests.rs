use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::mpsc,
};

use merpati_mail::{
    Attempt, Cause, Class, DeliveryId, Domain, EgressPath, Lsn, NodeId, Reply, Scope, route::Remote,
};

use super::*;
use crate::samples;

fn record(lsn: u64, event: Event) -> Record {
    let at = Time::from_secs(1_795_467_060 + lsn);
    Record { lsn: Lsn(lsn), at, node: NodeId::default(), event }
}

fn traces(hostname: &str) -> Traces {
    Traces { hostname: hostname.to_owned(), spans: None, sending: None, lost: Arc::default() }
}

fn accepted() -> Accepted {
    samples::accepted(QueueId::new(NodeId::default(), 1, 7))
}

fn cause() -> Cause {
    Cause {
        class: Class::Connection,
        scope: Scope::Host,
        reply: Reply::new(421, (4, 4, 1), "cannot connect"),
        remote: None,
    }
}

fn attempted(outcomes: Vec<(u32, Outcome)>) -> Event {
    let path = EgressPath {
        source: "default".to_owned(),
        host: Domain::parse("mx.there.example").unwrap(),
        address: Remote::Ip("192.0.2.1:25".parse().unwrap()),
    };
    let (began, ended) = (Time::from_secs(1), Time::from_secs(3));
    let attempt = Attempt { number: 2, path: Some(path), began, ended, tls: None, policy: None };
    Event::Attempted(Box::new(Attempted { message: accepted().id, attempt, outcomes }))
}

fn value(span: &SpanData, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|one| one.key.as_str() == key);
    found.map(|one| one.value.to_string())
}

#[test]
fn what_happens_to_a_message_is_one_trace_that_begins_with_how_it_came() {
    let traces = traces("mx.a.example");
    let first = traces.span(&record(1, Event::Accepted(Box::new(accepted())))).unwrap();
    let until = Time::from_secs(9);
    let outcomes = vec![
        (0, Outcome::Delivered { reply: Reply::new(250, (2, 0, 0), "ok") }),
        (1, Outcome::Deferred { cause: cause(), until }),
    ];
    let second = traces.span(&record(2, attempted(outcomes))).unwrap();
    let delivery = DeliveryId { message: accepted().id, recipient: 1 };
    let third = traces.span(&record(3, Event::Expired { delivery, cause: cause() })).unwrap();
    assert_eq!(first.parent_span_id, SpanId::INVALID);
    for later in [&second, &third] {
        assert_eq!(later.parent_span_id, first.span_context.span_id());
        assert_eq!(later.span_context.trace_id(), first.span_context.trace_id());
    }
    assert_ne!(second.span_context.span_id(), third.span_context.span_id());
    assert_eq!(second.name, "deliver");
    for (key, want) in [
        ("merpati.id", &*accepted().id.to_string()),
        ("merpati.attempt", "2"),
        ("merpati.delivered", "1"),
        ("merpati.deferred", "1"),
        ("merpati.failed", "0"),
        ("server.address", "mx.there.example"),
        ("error.type", "connection"),
    ] {
        assert_eq!(value(&second, key).as_deref(), Some(want), "{key}");
    }
    assert_eq!(second.status, Status::error("connection"));
    assert_eq!(second.end_time.duration_since(second.start_time).unwrap().as_secs(), 2);
    let fine = vec![(0, Outcome::Delivered { reply: Reply::new(250, (2, 0, 0), "ok") })];
    assert_eq!(traces.span(&record(4, attempted(fine))).unwrap().status, Status::Ok);
    // Another relay gives the same names to other messages.
    let other =
        self::traces("mx.b.example").span(&record(1, Event::Accepted(Box::new(accepted()))));
    assert_ne!(other.unwrap().span_context.trace_id(), first.span_context.trace_id());
    assert!(traces.span(&record(5, Event::Retired(accepted().id))).is_none());
}

/// Answers what is posted there, and tells of it.
fn collector() -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (sender, posted) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut octets = Vec::new();
        let head = loop {
            let mut more = [0; 4_096];
            let count = stream.read(&mut more).unwrap();
            octets.extend_from_slice(&more[..count]);
            let end = octets.windows(4).position(|four| four == b"\r\n\r\n");
            let Some(end) = end.filter(|_| count > 0) else { continue };
            let head = String::from_utf8(octets[..end].to_vec()).unwrap().to_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            if octets.len() >= end + 4 + length {
                octets.drain(..end + 4);
                break head;
            }
        };
        sender.send((head, octets)).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    (url, posted)
}

#[test]
fn a_collector_is_told_and_one_that_is_not_there_holds_nobody_up() {
    let (url, posted) = collector();
    let traces = Traces::start(&url, "mx.a.example").unwrap();
    let notice = |record| Notice::Record(Arc::new(record), None);
    traces.tell(&notice(record(1, Event::Accepted(Box::new(accepted())))));
    traces.tell(&notice(record(2, attempted(Vec::new()))));
    drop(traces);
    let (head, body) = posted.recv().unwrap();
    assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    for part in ["accept", "deliver", "mx.there.example", "service.name", "mx.a.example"] {
        assert!(body.windows(part.len()).any(|octets| octets == part.as_bytes()), "{part}");
    }
    // What nobody takes waits, up to a limit, and then is counted.
    let (spans, taken) = sync_channel(1);
    let mut traces = self::traces("mx.a.example");
    traces.spans = Some(spans);
    for lsn in 0..3 {
        traces.tell(&notice(record(lsn, attempted(Vec::new()))));
    }
    let lost = || traces.lost.load(Ordering::Relaxed);
    assert_eq!(lost(), 2);
    taken.recv().unwrap();
    traces.tell(&notice(record(9, attempted(Vec::new()))));
    assert_eq!(lost(), 2, "there is room again");
    let absent = Traces::start("http://127.0.0.1:1/v1/traces", "mx.a.example").unwrap();
    absent.tell(&notice(record(1, attempted(Vec::new()))));
    drop(absent);
    // What came before the end is sent, whole, and what fails is counted.
    let (spans, taken) = sync_channel(2_000);
    for lsn in 0..1_000 {
        spans.send(self::traces("a").span(&record(lsn, attempted(Vec::new()))).unwrap()).unwrap();
    }
    drop(spans);
    let (sent, lost) = (std::cell::RefCell::new(Vec::new()), AtomicU64::new(0));
    send_all(&taken, &lost, |batch: Vec<SpanData>| {
        sent.borrow_mut().push(batch.len());
        Ok(())
    });
    assert_eq!((&*sent.borrow(), lost.load(Ordering::Relaxed)), (&vec![512, 488], 0));
}
