//! The API from outside: requests as octets over a Unix socket, against a relay made of a vector.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use merpati_console::{
    Admin, AdminError, Captured, Guard, Listing, NotReady, Page, Query, Status, Summary,
    admin::{Listener, SandboxFacts, SpoolFacts},
    router,
};
use merpati_mail::{
    BodyType, Envelope, ForwardPath, Mailbox, NodeId, Origin, Peer, Protocol, QueueId, Recipient,
    ReversePath, Time, TlsFacts, envelope::Utf8,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const START: u64 = 1_795_467_000; // 2026-11-23T20:50:00Z

fn id(number: u32) -> QueueId {
    QueueId::new(NodeId::default(), 1, number)
}

fn captured(number: u32, content: &str) -> Captured {
    let mailbox = |text| Mailbox::parse(text).unwrap();
    let to = ["ani@example.id", "hidden@example.id"];
    let recipients = to.map(|to| Recipient::new(ForwardPath::Mailbox(mailbox(to))));
    let envelope = Envelope {
        reverse_path: ReversePath(Some(mailbox("bounces@shop.example"))),
        recipients: recipients.to_vec(),
        body: BodyType::SevenBit,
        utf8: Utf8::NotDeclared,
        ret: None,
        envid: None,
        origin: Origin {
            listener: "sandbox".to_owned(),
            peer: Some(Peer {
                address: "127.0.0.1:5000".parse().unwrap(),
                hello: "client.example".to_owned(),
            }),
            credential: Some("shop".to_owned()),
            protocol: Protocol::Esmtpsa,
            tls: Some(TlsFacts { version: "TLSv1.3".into(), cipher: "X".into() }),
            received_at: Time::from_secs(START + u64::from(number)),
        },
    };
    Captured { id: id(number), envelope, content: Bytes::from(content.to_owned()) }
}

#[derive(Default)]
struct Fake {
    messages: Mutex<Vec<Captured>>,
    drains: AtomicBool,
    is_broken: bool,
}

impl Fake {
    fn selected(&self, query: &Query) -> Vec<Summary> {
        let messages = self.messages.lock().unwrap();
        let summaries = messages.iter().map(|m| Summary::of(m.id, &m.envelope, &m.content));
        summaries.filter(|summary| query.matches(summary, self.now())).collect()
    }
}

impl Admin for Fake {
    fn now(&self) -> Time {
        Time::from_secs(START + 60)
    }

    fn readiness(&self) -> Result<(), NotReady> {
        if self.drains.load(Ordering::SeqCst) {
            return Err(NotReady { reason: "the relay drains".into(), advice: vec![] });
        }
        Ok(())
    }

    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }

    fn status(&self) -> Status {
        Status {
            version: "0.1.0".into(),
            started_at: Time::from_secs(START),
            listeners: vec![Listener {
                name: "sandbox".into(),
                kind: "sandbox".into(),
                address: "127.0.0.1:1025".parse().unwrap(),
                connections: 2,
            }],
            spool: SpoolFacts { directory: "var".into(), ..SpoolFacts::default() },
            sandbox: SandboxFacts { messages: 3, size_bytes: 9, captured: 4 },
        }
    }

    fn drain(&self) {
        self.drains.store(true, Ordering::SeqCst);
    }

    async fn list(&self, query: &Query, page: Page) -> Result<Listing, AdminError> {
        if self.is_broken {
            return Err(AdminError::Storage("the disk is gone".into()));
        }
        let mut messages = self.selected(query);
        messages.reverse();
        messages.retain(|message| page.older_than.is_none_or(|cursor| message.id < cursor));
        let has_more = messages.len() > page.limit;
        messages.truncate(page.limit);
        Ok(Listing { messages, has_more })
    }

    async fn wait(
        &self,
        query: &Query,
        after: Option<QueueId>,
        _timeout: Duration,
    ) -> Result<Option<Summary>, AdminError> {
        let mut messages = self.selected(query);
        messages.retain(|message| after.is_none_or(|cursor| message.id > cursor));
        Ok(messages.into_iter().next())
    }

    async fn message(&self, id: QueueId) -> Result<Option<Captured>, AdminError> {
        let messages = self.messages.lock().unwrap();
        Ok(messages.iter().find(|message| message.id == id).cloned())
    }

    async fn forget(&self, id: QueueId) -> Result<bool, AdminError> {
        let mut messages = self.messages.lock().unwrap();
        let before = messages.len();
        messages.retain(|message| message.id != id);
        Ok(messages.len() < before)
    }

    async fn clear(&self, query: &Query) -> Result<u64, AdminError> {
        let gone = self.selected(query);
        let mut messages = self.messages.lock().unwrap();
        messages.retain(|message| gone.iter().all(|summary| summary.id != message.id));
        Ok(gone.len() as u64)
    }
}

fn three() -> Arc<Fake> {
    let messages = vec![
        captured(1, "From: Toko <o@shop.example>\r\nSubject: One\r\n\r\nfirst\r\n"),
        captured(2, "Subject: =?utf-8?q?Tw=C3=B6?=\r\nTo: Ani <ani@example.id>\r\n\r\nsecond\r\n"),
        captured(3, "Subject: Three\r\n folded\r\nMessage-ID: <3@x>\r\n\r\nthird\r\n"),
    ];
    Arc::new(Fake { messages: Mutex::new(messages), ..Fake::default() })
}

/// Sends requests one after the other and gives back status line with header, and body, of each.
fn ask(fake: &Arc<Fake>, guard: Guard, requests: &[&str]) -> Vec<(String, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let service = router(Arc::clone(fake), guard);
        let server = tokio::spawn(async move { axum::serve(listener, service).await });
        let mut answers = Vec::new();
        for request in requests {
            let (line, fields) = request.split_once('\n').unwrap_or((request, ""));
            let host = if fields.contains("Host:") { "" } else { "Host: localhost\r\n" };
            let fields: String = fields.lines().flat_map(|field| [field, "\r\n"]).collect();
            let text = format!("{line} HTTP/1.1\r\n{host}Connection: close\r\n{fields}\r\n");
            let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            answers.push((head.to_owned(), body.to_owned()));
        }
        server.abort();
        answers
    })
}

#[track_caller]
fn check(fake: &Arc<Fake>, guard: &Guard, table: &[(&str, u16, &str)]) {
    let requests: Vec<&str> = table.iter().map(|row| row.0).collect();
    let answers = ask(fake, guard.clone(), &requests);
    for ((request, status, part), (head, body)) in table.iter().zip(answers) {
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\n{head}\n{body}");
        assert!(body.contains(part), "{request}\n{body}\nlacks {part}");
        assert!(head.contains("x-content-type-options: nosniff"), "{request}\n{head}");
        assert!(head.contains("content-security-policy: default-src 'none'"), "{request}\n{head}");
        let is_problem = head.contains("content-type: application/problem+json");
        assert_eq!(is_problem, *status >= 400, "{request}\n{head}");
    }
}

#[test]
fn each_request_means_one_verb() {
    let (first, second, third) = (id(1), id(2), id(3));
    let show = format!("GET /v1/sandbox/messages/{second}");
    let page = format!("GET /v1/sandbox/messages?limit=1&after={third}");
    let wait = format!("GET /v1/sandbox/messages/wait?after={first}&timeout=1");
    let next = format!("\"page\":{{\"next\":\"{third}\",\"has_more\":true}}");
    let found = format!("{{\"id\":\"{second}\"");
    check(
        &three(),
        &Guard::Socket,
        &[
            ("GET /healthz", 200, "ok"),
            ("GET /readyz", 200, "ready"),
            ("GET /metrics", 200, "# EOF"),
            ("GET /v1/status", 200, "\"uptime_seconds\":60,\"ready\":true,\"reason\":null"),
            ("GET /errors/bad_query", 200, "The query cannot be read"),
            ("GET /v1/sandbox/messages", 200, "\"subject\":\"Three folded\""),
            ("GET /v1/sandbox/messages?limit=1", 200, &next),
            (&page, 200, "\"subject\":\"Twö\""),
            ("GET /v1/sandbox/messages?query=subject:one", 200, "\"next\":null,\"has_more\":false"),
            ("GET /v1/sandbox/messages?query=subject:four", 200, "{\"data\":[],"),
            (&show, 200, "\"hidden\":[\"hidden@example.id\"]"),
            (&show, 200, "\"protocol\":\"ESMTPSA\""),
            (&show, 200, "{\"name\":\"Subject\",\"value\":\"=?utf-8?q?Tw=C3=B6?=\"}"),
            (&show, 200, "\"body\":\"second\\r\\n\""),
            (&wait, 200, &found),
        ],
    );
}

#[test]
fn a_message_comes_out_octet_for_octet() {
    let raw = format!("GET /v1/sandbox/messages/{}/raw", id(3));
    let answers = ask(&three(), Guard::Socket, &[&raw]);
    assert!(answers[0].0.contains("content-type: message/rfc822"), "{}", answers[0].0);
    let want = "Subject: Three\r\n folded\r\nMessage-ID: <3@x>\r\n\r\nthird\r\n";
    assert_eq!(answers[0].1, want);
}

#[test]
fn what_is_deleted_is_gone_and_what_drains_is_not_ready() {
    let forget = format!("DELETE /v1/sandbox/messages/{}", id(1));
    check(
        &three(),
        &Guard::Socket,
        &[
            (&forget, 204, ""),
            (&forget, 404, "\"code\":\"no_such_message\""),
            ("DELETE /v1/sandbox/messages?query=subject:three", 200, "{\"deleted\":1}"),
            ("DELETE /v1/sandbox/messages", 200, "{\"deleted\":1}"),
            ("GET /v1/sandbox/messages", 200, "{\"data\":[],"),
            ("POST /v1/drain", 202, "{\"state\":\"draining\"}"),
            ("GET /readyz", 503, "\"detail\":\"the relay drains\""),
            ("GET /v1/status", 200, "\"ready\":false,\"reason\":\"the relay drains\""),
        ],
    );
}

#[test]
fn a_refusal_is_a_problem_with_advice() {
    check(
        &three(),
        &Guard::Socket,
        &[
            ("GET /v1/sandbox/mesages", 404, "Did you mean `/v1/sandbox/messages`?"),
            ("PUT /v1/sandbox/messages", 405, "\"code\":\"method_not_allowed\""),
            ("GET /v1/drain", 405, "\"status\":405"),
            ("GET /v1/sandbox/messages?query=form:x", 400, "Did you mean `from:`?"),
            ("GET /v1/sandbox/messages?qurey=x", 400, "Did you mean `query`?"),
            ("GET /v1/sandbox/messages?query=a&query=b", 400, "`query` is given twice"),
            ("GET /v1/sandbox/messages?limit=0", 400, "a number from 1 to 500 is wanted"),
            ("GET /v1/sandbox/messages?after=x", 400, "a queue id has 13 letters and digits"),
            ("GET /v1/sandbox/messages/nonsense", 404, "\"code\":\"no_such_message\""),
            ("GET /v1/sandbox/messages/wait?timeout=301", 400, "at most 300 seconds"),
            ("GET /v1/sandbox/messages/wait?query=nobody", 408, "\"code\":\"wait_timeout\""),
            ("GET /errors/bad_qurey", 404, "Did you mean `bad_query`?"),
        ],
    );
    let broken = Arc::new(Fake { is_broken: true, ..Fake::default() });
    check(
        &broken,
        &Guard::Socket,
        &[(
            "GET /v1/sandbox/messages",
            500,
            "{\"type\":\"/errors/storage_failed\",\"title\":\"The spool failed\",\"status\":500,\
         \"detail\":\"the disk is gone\",\"code\":\"storage_failed\",\
         \"advice\":[\"Look into the log of the relay.\"]}",
        )],
    );
}

#[test]
fn over_tcp_foreign_hosts_and_foreign_origins_are_refused() {
    let guard = Guard::Network { names: vec!["mx.example.org".into()] };
    check(
        &three(),
        &guard,
        &[
            ("GET /healthz\nHost: localhost:8025", 200, ""),
            ("GET /healthz\nHost: 127.0.0.1:8025", 200, ""),
            ("GET /healthz\nHost: [::1]:8025", 200, ""),
            ("GET /healthz\nHost: MX.example.org", 200, ""),
            ("GET /healthz\nHost: rebound.example", 421, "\"code\":\"host_unknown\""),
            ("GET /healthz\nHost: localhost.example", 421, ""),
            ("GET http://rebound.example/healthz\nHost: localhost", 421, ""),
            ("GET /healthz\nHost: localhost\nOrigin: http://evil.example", 200, ""),
            ("DELETE /v1/sandbox/messages\nHost: localhost\nOrigin: http://evil.example", 403, ""),
            ("DELETE /v1/sandbox/messages\nHost: localhost\nOrigin: null", 403, "foreign_origin"),
            ("POST /v1/drain\nHost: localhost:1\nOrigin: http://localhost:2", 403, ""),
            ("POST /v1/drain\nHost: localhost:1\nOrigin: http://localhost:1", 202, ""),
            ("POST /v1/drain\nHost: 127.0.0.1", 202, ""),
        ],
    );
}
