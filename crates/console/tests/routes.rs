//! The API from outside: requests as octets over a Unix socket, against a relay made of a vector.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use merpati_console::{
    Admin, AdminError, Captured, Guard, Listing, NotReady, Page, Query, Selection, Status, Summary,
    admin::{Listener, Reloaded, SandboxFacts, SpoolFacts},
    explain::{
        AcceptAnswer, AcceptQuestion, AcceptStep, HostFacts, RouteAnswer, RouteQuestion, RuleFacts,
        Trouble,
    },
    explain_tls::{DnssecFacts, StsFacts, StsPolicy, TlsAnswer, TlsHost},
    health::{Examined, Finding, Grade},
    queue::{
        Delivery, EnvelopeFacts, Grouping, Mode, Operated, QueueListing, QueuePage, Queued, Shape,
        Standing, Verb,
    },
    router,
    sessions::{Direction, SessionFacts, TapLine},
    spool::BackedUp,
    trace::{Story, TraceQuery, Traced},
};
use merpati_mail::{
    BodyType, Class, DeliveryId, Domain, Envelope, ForwardPath, Hold, Mailbox, NextHop, NodeId,
    Origin, Peer, Protocol, QueueId, Recipient, Requests, ReversePath, Route, Time, TlsDemand,
    TlsFacts, TlsPolicy, TlsSource, envelope::Utf8,
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
        requests: Requests::default(),
        origin: Origin {
            listener: "sandbox".to_owned(),
            peer: Some(Peer {
                address: "127.0.0.1:5000".parse().unwrap(),
                hello: "client.example".to_owned(),
                name: None,
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
    queue: Mutex<Vec<Delivery>>,
    verbs: Mutex<Vec<Verb>>,
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
                is_self_signed: false,
            }],
            spool: SpoolFacts { directory: "var".into(), ..SpoolFacts::default() },
            sandbox: SandboxFacts { messages: 3, size_bytes: 9, captured: 4 },
        }
    }

    async fn health(&self) -> Examined {
        let clock = Finding::new("clock", "time.example", Grade::Good, "+0.001 s");
        let source = Finding::new("source", "192.0.2.1", Grade::Bad, "no PTR record");
        let findings = Arc::new(vec![clock, source.fix("ask for one")]);
        Examined { at: self.now(), findings }
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

    async fn queue(
        &self,
        selection: &Selection,
        page: QueuePage,
    ) -> Result<QueueListing, AdminError> {
        let queue = self.queue.lock().unwrap();
        let behind = |d: &&Delivery| page.after.is_none_or(|after| d.id > after);
        let all: Vec<Delivery> = queue.iter().filter(behind).cloned().collect();
        let selected = all.into_iter().filter(|d| selection.selects(d, self.now()));
        let mut deliveries: Vec<Delivery> = selected.collect();
        let has_more = deliveries.len() > page.limit;
        deliveries.truncate(page.limit);
        let next = deliveries.last().filter(|_| has_more).map(|last| last.id);
        Ok(QueueListing { deliveries, next })
    }

    async fn queued(&self, id: QueueId) -> Result<Option<Queued>, AdminError> {
        let queue = self.queue.lock().unwrap();
        let deliveries: Vec<Delivery> =
            queue.iter().filter(|d| d.id.message == id).cloned().collect();
        if deliveries.is_empty() {
            return Ok(None);
        }
        let message = captured(1, "Subject: Waits\r\nDate: today\r\n\r\nx\r\n");
        let summary = Summary::of(id, &message.envelope, &message.content);
        let date = Some("today".to_owned());
        let envelope = message.envelope;
        Ok(Some(Queued { summary, date, content_error: None, envelope, deliveries }))
    }

    async fn operate(
        &self,
        selection: &Selection,
        verb: &Verb,
        after: Option<QueueId>,
        mode: Mode,
    ) -> Result<Operated, AdminError> {
        let page = QueuePage { after: None, limit: 1_000 };
        let selected = self.queue(selection, page).await?.deliveries;
        let lives = |id: &QueueId| selected.iter().any(|d| d.id.message == *id);
        let missing = selection.named().unwrap_or_default();
        let missing = missing.into_iter().filter(|id| !lives(id)).collect();
        let behind = |d: &&Delivery| after.is_none_or(|after| d.id.message > after);
        let deliveries = selected.iter().filter(behind);
        let concerned = deliveries.filter(|d| verb.concerns(d.standing)).count() as u64;
        if mode == Mode::Real {
            self.verbs.lock().unwrap().push(verb.clone());
        }
        Ok(Operated {
            messages: concerned.min(1),
            deliveries: concerned,
            passed_over: selected.len() as u64 - concerned,
            missing,
            next: None,
        })
    }

    async fn back_up(&self, directory: PathBuf) -> Result<BackedUp, AdminError> {
        let directory = directory.display().to_string();
        if directory == "/full" {
            return Err(AdminError::Refused("it is not empty".to_owned()));
        }
        let unreadable = vec![(id(7), "the checksum is wrong".to_owned())];
        Ok(BackedUp { directory, messages: 2, octets: 9, unreadable })
    }

    async fn explain_route(&self, question: &RouteQuestion) -> Result<RouteAnswer, AdminError> {
        let is_covered = question.credential.is_some();
        let rule = RuleFacts {
            name: "shop".to_owned(),
            conditions: vec![("credential is shop".to_owned(), is_covered)],
        };
        let route = Route { rule: "shop".into(), next_hop: NextHop::Mx };
        let trouble = Trouble { class: Class::NoRoute, why: "no rule covers it".to_owned() };
        let host = HostFacts {
            preference: Some(10),
            name: "mx.example.id".to_owned(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            why_not: None,
        };
        Ok(RouteAnswer {
            domain: Domain::parse("example.id").unwrap(),
            aliases: vec![],
            rules: vec![rule],
            route: is_covered.then_some(route),
            tls: None,
            egress: None,
            hosts: if is_covered { vec![host] } else { vec![] },
            trouble: (!is_covered).then_some(trouble),
            sentence: format!("From {}.", question.reverse_path),
        })
    }

    async fn explain_tls(&self, domain: &Domain) -> Result<TlsAnswer, AdminError> {
        let policy = TlsPolicy { demand: TlsDemand::Dane, source: TlsSource::Dane };
        let host = |name: &str, policy| TlsHost {
            name: name.to_owned(),
            records: vec!["3 1 1 00".to_owned()],
            records_at: Some("_25._tcp.mx.example.id".to_owned()),
            policy,
        };
        let policy = Ok(policy);
        let sts = StsPolicy {
            mode: "enforce".to_owned(),
            mx: vec!["mx.example.id".to_owned()],
            id: "1".to_owned(),
            fetched_at: Time::EPOCH,
            expires_at: Time::from_secs(60),
        };
        Ok(TlsAnswer {
            domain: domain.clone(),
            rule: Some("shop".to_owned()),
            tls: None,
            dnssec: DnssecFacts::Proven,
            sts: Some(StsFacts { record: "id=1".to_owned(), policy: Some(sts), trouble: None }),
            hosts: vec![host("mx.example.id:25", policy), host("b:25", Err("no".to_owned()))],
            sentence: "So it is.".to_owned(),
        })
    }

    async fn explain_accept(&self, question: &AcceptQuestion) -> Result<AcceptAnswer, AdminError> {
        let refusal = question.credential.is_none().then(|| "550 5.7.1 no".to_owned());
        let rule = "relay-denied".to_owned();
        let steps = vec![AcceptStep { command: "RCPT", rule, refusal }];
        let asked = vec![("is it?".to_owned(), "no".to_owned())];
        let sentence = format!("Client {}.", question.client);
        Ok(AcceptAnswer { listener: "mx".to_owned(), steps, asked, sentence })
    }

    async fn trace(&self, query: &TraceQuery, _limit: usize) -> Result<Traced, AdminError> {
        let living = self.queue.lock().unwrap().clone();
        let story = Story { id: id(1), taken: None, steps: Vec::new(), living };
        let named = query.named().is_some();
        Ok(Traced { stories: if named { vec![story] } else { vec![] }, ..Traced::default() })
    }

    async fn shape(
        &self,
        selection: &Selection,
        by: Grouping,
        _after: Option<QueueId>,
    ) -> Result<Shape, AdminError> {
        let page = QueuePage { after: None, limit: 1_000 };
        let mut shape = Shape::default();
        for delivery in self.queue(selection, page).await?.deliveries {
            let group = by.name(&delivery, None, self.now());
            shape.count(group, self.now().since(delivery.accepted_at), true);
        }
        Ok(shape)
    }

    async fn queued_content(&self, wanted: QueueId) -> Result<Option<Bytes>, AdminError> {
        Ok((wanted == id(1)).then(|| Bytes::from_static(b"Subject: x\r\n\r\n")))
    }

    fn sessions(&self) -> Vec<SessionFacts> {
        vec![SessionFacts {
            number: 7,
            direction: Direction::In,
            name: "mx".to_owned(),
            peer: Some("192.0.2.1:5000".parse().unwrap()),
            host: "client.example".to_owned(),
            credential: None,
            message: None,
            lasted: Duration::from_secs(5),
            doing: "content".to_owned(),
            doing_for: Duration::from_millis(1_500),
            messages: 2,
        }]
    }

    fn tap(&self) -> BoxStream<'static, TapLine> {
        let line = |direction, line: &str| TapLine {
            at: Time::from_secs(START),
            session: 7,
            direction,
            name: "mx".to_owned(),
            peer: Some("192.0.2.1:5000".parse().unwrap()),
            host: "client.example".to_owned(),
            from_client: true,
            line: line.to_owned(),
        };
        stream::iter([line(Direction::In, "EHLO x"), line(Direction::Out, "QUIT")]).boxed()
    }

    async fn reload(&self) -> Result<Reloaded, AdminError> {
        if self.is_broken {
            return Err(AdminError::Config("merpati.toml:3: no such option".to_owned()));
        }
        let (changed, at_restart) = (vec!["log.to".to_owned()], vec!["spool.sync".to_owned()]);
        Ok(Reloaded { changed, at_restart })
    }
}

#[test]
fn what_is_told_of_the_queue_and_of_sessions_is_told_over_http() {
    let raw = format!("GET /v1/queue/{}/raw", id(1));
    let none = format!("GET /v1/queue/{}/raw", id(9));
    let trace = format!("GET /v1/trace?query={}", id(1));
    let accept = "GET /v1/explain/accept?ip=192.0.2.1&rcpt=a@b.example";
    check(
        &waiting(),
        &Guard::Socket,
        &[
            (&raw, 200, "Subject: x\r\n"),
            (&none, 404, "\"code\":\"no_such_message\""),
            (
                &trace,
                200,
                "\"state\":\"held\",\"at\":null,\"sentence\":\"Held by operator: looks odd.",
            ),
            ("GET /v1/trace?query=nobody", 200, "{\"data\":[],\"refused\":[]"),
            ("GET /v1/trace", 400, "`query` is missing"),
            ("GET /v1/trace?query=form:x", 400, "Did you mean `from:`?"),
            ("GET /v1/queue/shape?by=status", 200, "\"group\":\"held\",\"deliveries\":1,"),
            (
                "GET /v1/queue/shape?by=sender-domain",
                200,
                "{\"group\":\"shop.example\",\"deliveries\":2",
            ),
            ("GET /v1/queue/shape?query=status:held&by=reason", 200, "\"bounds_minutes\":[5,10,"),
            ("GET /v1/queue/shape?by=domian", 400, "Did you mean `domain`?"),
            (accept, 200, "{\"accepted\":false,\"sentence\":\"Client 192.0.2.1.\""),
            (&format!("{accept}&credential=shop"), 200, "\"accepted\":true"),
            ("GET /v1/explain/accept?rcpt=a@b.example", 400, "`ip` is missing"),
            ("GET /v1/explain/accept?ip=here&rcpt=a@b.example", 400, "`ip=here`"),
            ("GET /v1/sessions", 200, "\"doing\":\"content\",\"doing_ms\":1500"),
            ("GET /v1/tap?direction=in", 200, "\"side\":\"C\",\"line\":\"EHLO x\"}\n"),
            ("GET /v1/tap?direction=out&host=CLIENT", 200, "QUIT"),
            ("GET /v1/tap?direction=up", 400, "`in` or `out` is wanted"),
            ("POST /v1/reload", 200, "{\"changed\":[\"log.to\"],\"at_restart\":[\"spool.sync\"]}"),
        ],
    );
    let broken = Arc::new(Fake { is_broken: true, ..Fake::default() });
    let told = "merpati.toml:3: no such option";
    check(&broken, &Guard::Socket, &[("POST /v1/reload", 409, told)]);
    // These are for the machine of the relay alone.
    let network = Guard::Network { names: Vec::new() };
    let closed = [
        "GET /v1/tap",
        "GET /v1/sessions",
        "GET /v1/trace?query=a",
        "POST /v1/reload",
        raw.as_str(),
    ];
    check(
        &waiting(),
        &network,
        &closed.map(|request| (request, 404, "\"code\":\"no_such_route\"")),
    );
}

/// Two recipients of one message, the second one held, and one of another that cannot be read.
fn waiting() -> Arc<Fake> {
    let hold = Hold {
        limit: "operator".to_owned(),
        value: "looks odd".to_owned(),
        source: "control plane".to_owned(),
        until: None,
    };
    let first = Delivery {
        id: DeliveryId { message: id(1), recipient: 0 },
        accepted_at: Time::from_secs(START),
        standing: Standing::Waiting,
        class: Class::Connection,
        code: Some(421),
        next: Some(Time::from_secs(START + 90)),
        attempts: 2,
        hold: None,
        envelope: Some(EnvelopeFacts {
            reverse_path: "bounces@shop.example".to_owned(),
            recipient: "ani@example.id".to_owned(),
            via: Some("info@example.id".to_owned()),
            size_bytes: 7,
            listener: "submission".to_owned(),
            credential: Some("shop".to_owned()),
            route: Some(Route { rule: "all".into(), next_hop: NextHop::Mx }),
            is_rerouted: true,
        }),
    };
    let second = Delivery {
        id: DeliveryId { message: id(1), recipient: 1 },
        standing: Standing::Held,
        class: Class::Held,
        next: None,
        hold: Some(hold),
        ..first.clone()
    };
    let third = Delivery {
        id: DeliveryId { message: id(2), recipient: 0 },
        envelope: None,
        ..first.clone()
    };
    Arc::new(Fake { queue: Mutex::new(vec![first, second, third]), ..Fake::default() })
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
            ("GET /metrics", 200, ""),
            ("GET /metrics\nAccept: application/openmetrics-text; version=1.0.0", 200, "# EOF"),
            ("GET /v1/health", 200, "\"grade\":\"bad\",\"findings\":[{\"check\":\"clock\""),
            ("GET /v1/health", 200, "\"fix\":\"ask for one\""),
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

#[test]
fn every_delivery_of_the_queue_shows_its_reason_and_its_next_time() {
    let (first, second) = (id(1), id(2));
    let page = format!("GET /v1/queue?limit=1&after={first}.0");
    let next = format!("\"page\":{{\"next\":\"{first}.0\",\"has_more\":true}}");
    let show = format!("GET /v1/queue/{first}");
    let named = format!("GET /v1/queue?query=id:{second}");
    check(
        &waiting(),
        &Guard::Socket,
        &[
            (
                "GET /v1/queue?query=to:ani%20status:waiting",
                200,
                "\"age_seconds\":60,\"status\":\"waiting\",\"reason\":{\"id\":\"connection\",\
                 \"code\":421,\"sentence\":\"No connection to the next hop could be made, or it \
                 was lost.\",\"advice\":",
            ),
            (
                "GET /v1/queue",
                200,
                "\"next_at\":\"2026-11-23T20:51:30.000Z\",\"next_in_seconds\":30,\"attempts\":2",
            ),
            (
                "GET /v1/queue",
                200,
                "\"route\":{\"rule\":\"all\",\"next_hop\":\"mx\"},\"is_rerouted\":true",
            ),
            (
                "GET /v1/queue?query=status:held",
                200,
                "\"sentence\":\"Held by operator: looks odd.\"",
            ),
            ("GET /v1/queue?query=status:held", 200, "\"next_at\":null,\"next_in_seconds\":null"),
            ("GET /v1/queue?query=from:nobody", 200, "{\"data\":[],"),
            ("GET /v1/queue?limit=1", 200, &next),
            (&page, 200, "\"recipient_number\":1"),
            (&named, 200, "\"envelope_from\":null"),
            (&show, 200, "\"subject\":\"Waits\""),
            (&show, 200, "\"date\":\"today\""),
            (&show, 200, "\"finished\":[]"),
        ],
    );
}

#[test]
fn a_verb_concerns_what_it_can_change_and_says_how_many() {
    let (first, gone) = (id(1), id(9));
    let fake = waiting();
    let cancel = format!("POST /v1/queue/cancel?query=id:{first}&dry_run=true");
    let release = format!("POST /v1/queue/release?query=id:{first}.0");
    let partly = format!("POST /v1/queue/retry?query=id:{gone},{first}");
    let partly_said = format!("\"missing\":[\"{gone}\"]");
    let missing = format!("POST /v1/queue/retry?query=id:{gone}");
    check(
        &fake,
        &Guard::Socket,
        &[
            (
                &cancel,
                200,
                "{\"verb\":\"cancel\",\"dry_run\":true,\"messages\":1,\"deliveries\":2,\
                 \"passed_over\":0,\"missing\":[],\"page\":{\"next\":null,\"has_more\":false}}",
            ),
            (
                "POST /v1/queue/hold?query=&why=looks%20odd",
                200,
                "\"deliveries\":2,\"passed_over\":1",
            ),
            (&release, 200, "\"deliveries\":0,\"passed_over\":1"),
            (&partly, 200, &partly_said),
            (&missing, 404, "\"code\":\"no_such_message\""),
            ("POST /v1/queue/reroute?query=&route=b", 200, "\"deliveries\":3,\"passed_over\":0"),
            ("POST /v1/queue/reroute?query=&route=", 200, "\"verb\":\"reroute\""),
            ("POST /v1/queue/reroute?query=", 400, "`route` is missing"),
            ("POST /v1/queue/retry", 400, "`query` is missing"),
            ("POST /v1/queue/retry?query=&dry_run=maybe", 400, "`true` or `false` is wanted"),
            ("POST /v1/queue/hold?query=&why=a%0ab", 400, "one line of at most 200 octets"),
            ("GET /v1/queue/retry", 405, ""),
        ],
    );
    let verbs = fake.verbs.lock().unwrap();
    let words: Vec<&str> = verbs.iter().map(Verb::word).collect();
    assert_eq!(
        words,
        ["hold", "release", "retry", "retry", "reroute", "reroute"],
        "a dry run does nothing"
    );
    assert!(matches!(&verbs[0], Verb::Hold(hold) if hold.value == "looks odd"), "{verbs:?}");
    let ways = [Verb::Reroute(Some("b".to_owned())), Verb::Reroute(None)];
    assert_eq!(verbs[4..], ways, "an empty name is none");
}

#[test]
fn a_wrong_question_about_the_queue_says_what_is_right() {
    check(
        &waiting(),
        &Guard::Socket,
        &[
            ("GET /v1/queue?query=reson:x", 400, "Did you mean `reason:`?"),
            ("GET /v1/queue?query=subject:x", 400, "Known keys are"),
            ("GET /v1/queue?limit=1001", 400, "a number from 1 to 1000 is wanted"),
            ("GET /v1/queue?after=0000000000001", 400, "the number of a recipient is missing"),
            ("GET /v1/queue/nonsense", 404, "no message in the queue is called `nonsense`"),
            ("GET /v1/queu", 404, "Did you mean `/v1/queue`?"),
            ("GET /v1/explain/route", 400, "Write an address, such as ani@example.org."),
            ("GET /v1/explain/route?address=ani@example.id&from=x", 400, "`from=x`"),
        ],
    );
}

#[test]
fn a_route_is_explained_with_its_rules_and_hosts() {
    let covered = "GET /v1/explain/route?address=ani@example.id&from=a@b.example&credential=shop";
    let postmaster = "GET /v1/explain/route?address=Postmaster";
    check(
        &waiting(),
        &Guard::Socket,
        &[
            (covered, 200, "\"sentence\":\"From <a@b.example>.\""),
            (covered, 200, "\"route\":{\"rule\":\"shop\",\"next_hop\":\"mx\"}"),
            (
                covered,
                200,
                "\"hosts\":[{\"name\":\"mx.example.id\",\"preference\":10,\
                 \"addresses\":[\"192.0.2.1\"],\"is_tried\":true,\"why_not\":null}]",
            ),
            (covered, 200, "\"conditions\":[{\"text\":\"credential is shop\",\"holds\":true}]"),
            (postmaster, 200, "\"address\":\"postmaster\",\"from\":\"\""),
            (postmaster, 200, "\"trouble\":{\"id\":\"no-route\",\"why\":\"no rule covers it\""),
        ],
    );
}

#[test]
fn the_protection_of_mail_to_a_domain_is_explained() {
    let asked = "GET /v1/explain/tls?domain=example.id";
    check(
        &waiting(),
        &Guard::Socket,
        &[
            (asked, 200, "\"dnssec\":\"proven\",\"mta_sts\":{\"record\":\"id=1\""),
            (asked, 200, "\"mode\":\"enforce\",\"mx\":[\"mx.example.id\"],\"id\":\"1\""),
            (asked, 200, "\"demand\":\"dane\",\"source\":\"dane\",\"why_not\":null"),
            (asked, 200, "\"demand\":null,\"source\":null,\"why_not\":\"no\""),
            ("GET /v1/explain/tls", 400, "`domain` is missing"),
            ("GET /v1/explain/tls?domain=a..b", 400, "`domain=a..b`"),
        ],
    );
}

#[test]
fn a_backup_is_asked_for_at_the_socket_only() {
    let done = "{\"directory\":\"/var/copy\",\"messages\":2,\"size_bytes\":9,\
                \"unreadable\":[{\"id\":";
    check(
        &three(),
        &Guard::Socket,
        &[
            ("POST /v1/spool/backup?directory=/var/copy", 200, done),
            ("POST /v1/spool/backup?directory=%2Ffull", 400, "it is not empty"),
            ("POST /v1/spool/backup?directory=copy", 400, "a path from the root is wanted"),
            ("POST /v1/spool/backup", 400, "where shall the copy go?"),
            ("GET /v1/spool/backup?directory=/var/copy", 405, "method_not_allowed"),
        ],
    );
    check(
        &three(),
        &Guard::Network { names: vec![] },
        &[("POST /v1/spool/backup?directory=/var/copy", 404, "at the control socket only")],
    );
}
