#[path = "core/deadline_tests.rs"]
mod deadlines;
#[path = "core/reconfigure_tests.rs"]
mod reconfigured;
#[path = "core/site_tests.rs"]
mod sites;

use merpati_mail::{
    BodyType, ByMode, DeliverBy, Envelope, ForwardPath, Mailbox, Origin, Outcome, Overlay,
    Protocol, Requests, ReversePath,
    envelope::{Notify, Utf8},
    outcome::{Fact, Phase},
    question::{Addresses, MxHost},
    route::{HostPort, Remote},
};

use super::*;
use crate::route::{Condition, Rule};

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

/// In the clear.
fn tried(path: EgressPath) -> Tried {
    Tried { path, tls: None, policy: None }
}

/// A core, its clock, and a world that does what a test says.
struct World {
    core: Core,
    now: Time,
    log: Vec<String>,
    messages: BTreeMap<QueueId, Accepted>,
    reports: Vec<String>,
}

impl World {
    fn new() -> Self {
        let router = Router {
            rules: vec![Rule {
                name: "direct".into(),
                when: vec![Condition::RecipientBelow(domain("example"))],
                then: NextHop::Mx,
                attempts_max: None,
            }],
        };
        let mut options = Options::new(domain("mx.ours.example"), router);
        options.jobs_per_lane_max = 1;
        let core = Core::new(options, NodeId::default(), 1, 42);
        Self {
            core,
            now: Time::from_secs(1_000),
            log: Vec::new(),
            messages: BTreeMap::new(),
            reports: Vec::new(),
        }
    }

    fn accept(&mut self, counter: u32, from: &str, to: &[&str]) -> QueueId {
        self.accept_with(counter, from, to, Requests::default())
    }

    fn accept_with(
        &mut self,
        counter: u32,
        from: &str,
        to: &[&str],
        requests: Requests,
    ) -> QueueId {
        self.accept_asking((counter, requests), from, to, |_| {})
    }

    fn accept_asking(
        &mut self,
        (counter, requests): (u32, Requests),
        from: &str,
        to: &[&str],
        change: impl Fn(&mut Recipient),
    ) -> QueueId {
        let id = QueueId::new(NodeId::default(), 1, counter);
        let recipient = |a: &&str| {
            let mut to = Recipient::new(ForwardPath::Mailbox(Mailbox::parse(a).unwrap()));
            change(&mut to);
            to
        };
        let accepted = Accepted {
            id,
            envelope: Envelope {
                reverse_path: ReversePath(Mailbox::parse(from).ok()),
                recipients: to.iter().map(recipient).collect(),
                body: BodyType::SevenBit,
                utf8: Utf8::NotDeclared,
                ret: None,
                envid: None,
                requests,
                origin: Origin {
                    listener: "mx".to_owned(),
                    peer: None,
                    credential: None,
                    protocol: Protocol::Esmtp,
                    tls: None,
                    received_at: self.now,
                },
            },
            edits: Overlay::default(),
            size_bytes: 1,
        };
        self.messages.insert(id, accepted.clone());
        let event = Event::Accepted(Box::new(accepted));
        self.core.durable(self.now, &event);
        id
    }

    /// Does all that the core wants now; attempts end as `peer` says.
    fn run(&mut self, mx: &MxAnswer, peer: &dyn Fn(&ForwardPath) -> Finding) {
        self.work(mx, peer, &mut Self::commit);
    }

    /// The same, but for commits: gives what there is to commit.
    fn run_uncommitted(&mut self, peer: &dyn Fn(&ForwardPath) -> Finding) -> Vec<(Token, Group)> {
        let mut groups = Vec::new();
        self.work(&one_host(), peer, &mut |_, token, group| groups.push((token, group.clone())));
        groups
    }

    fn work(
        &mut self,
        mx: &MxAnswer,
        peer: &dyn Fn(&ForwardPath) -> Finding,
        commit: &mut dyn FnMut(&mut Self, Token, &Group),
    ) {
        while let Some(output) = self.core.poll(self.now) {
            match output {
                Output::Ask(question) => {
                    self.log.push(format!("ask {question:?}"));
                    let answer = Answer::Mx(mx.clone());
                    self.core.handle(self.now, Input::Answered(question, answer));
                }
                Output::Load(job, id) => {
                    let accepted = self.messages[&id].clone();
                    let loaded =
                        Loaded { accepted, header: Bytes::from_static(b"Subject: x\r\n\r\n") };
                    self.core.handle(self.now, Input::Loaded(job, Some(Arc::new(loaded))));
                }
                Output::Attempt(job) => self.attempt(&job, peer),
                Output::Commit(token, group) => commit(self, token, &group),
            }
        }
    }

    fn attempt(&mut self, job: &Job, peer: &dyn Fn(&ForwardPath) -> Finding) {
        self.log.push(format!("attempt {} for {}", job.targets[0].endpoint, job.recipients.len()));
        let path = EgressPath {
            source: "default".to_owned(),
            host: job.targets[0].endpoint.host(),
            address: Remote::Ip("192.0.2.1:25".parse().unwrap()),
        };
        let findings = job.recipients.iter().map(|(n, r)| (*n, peer(&r.path), Some(0))).collect();
        let terms = Terms { protection: job.protection, ..Terms::default() };
        let report = Report { began: self.now, terms, tried: vec![tried(path)], findings };
        self.core.handle(self.now, Input::Finished(job.id, Box::new(report)));
    }

    fn commit(&mut self, token: Token, group: &Group) {
        let names: Vec<&str> = group.events.iter().map(|(event, _)| event.name()).collect();
        self.log.push(names.join("+"));
        for (event, content) in &group.events {
            if let Event::Accepted(accepted) = event {
                self.messages.insert(accepted.id, (**accepted).clone());
                let text = content.clone().unwrap_or_default();
                self.reports.push(String::from_utf8(text).unwrap());
            }
        }
        self.core.handle(self.now, Input::Committed(token));
    }

    fn log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }
}

fn one_host() -> MxAnswer {
    MxAnswer::Hosts {
        hosts: vec![MxHost {
            preference: 10,
            name: domain("mx.there.example"),
            addresses: Addresses::Known(vec!["192.0.2.1".parse().unwrap()]),
        }],
        valid_until: Time::from_secs(u64::MAX / 2_000_000),
        is_proven: false,
    }
}

/// A host that no other domain has.
fn own_host(question: &Question) -> MxAnswer {
    let mut answer = one_host();
    if let (MxAnswer::Hosts { hosts, .. }, Question::Mx(of)) = (&mut answer, question) {
        hosts[0].name = domain(&format!("mx.{of}"));
    }
    answer
}

fn says(code: u16, enhanced: (u8, u16, u16)) -> Finding {
    let reply = Reply::new(code, enhanced, "said");
    if code == 250 {
        Finding::Delivered(reply, Handover::Relayed)
    } else {
        let fact = Fact::Replied(reply);
        Finding::NotDelivered(Found { phase: Phase::Recipient, fact })
    }
}

#[test]
fn a_delivery_retires_its_message_in_the_same_group() {
    let mut world = World::new();
    world.accept(1, "a@ours.example", &["u@there.example", "v@there.example"]);
    world.run(&one_host(), &|_| says(250, (2, 0, 0)));
    assert_eq!(
        world.log(),
        ["ask Mx(there.example)", "attempt mx.there.example:25 for 2", "Attempted+Retired"]
            .map(|l| l.replace("Mx(there.example)", &format!("Mx({:?})", domain("there.example"))))
    );
    assert!(world.core.queue().is_empty());
    assert_eq!(world.core.deadline(), None);
}

#[test]
fn a_failure_and_its_report_are_one_group_and_a_report_never_bounces() {
    let mut world = World::new();
    world.accept(1, "a@ours.example", &["u@there.example", "v@there.example"]);
    world.run(&one_host(), &|path| match path.to_string().as_str() {
        "<u@there.example>" => says(250, (2, 0, 0)),
        _ => says(550, (5, 1, 1)),
    });
    let log = world.log();
    assert_eq!(log[2], "Attempted+Accepted+Retired");
    // The report to ours.example is refused as well; nothing answers that.
    assert_eq!(log.last().unwrap(), "Attempted+Retired");
    assert!(world.core.queue().is_empty());
}

#[test]
fn a_deferral_is_tried_again_and_given_up_after_five_days_with_one_report() {
    let mut world = World::new();
    world.core.options.delay_report_after = None;
    let id = world.accept(1, "a@ours.example", &["u@there.example"]);
    let began = world.now;
    let mut attempts = 0;
    while world.core.queue().accepted_at(id).is_some() {
        world.run(&one_host(), &|_| says(450, (4, 2, 0)));
        attempts += 1;
        match world.core.deadline() {
            Some(next) => world.now = next,
            None => break,
        }
    }
    let log = world.log();
    assert!((30..60).contains(&attempts), "{attempts}");
    let ends: Vec<&String> = log.iter().filter(|l| l.contains("Expired")).collect();
    // The report itself waits for its own five days, and is then gone without another report.
    assert_eq!(ends[0], "Attempted+Expired+Accepted+Retired");
    assert!(world.now.since(began) > Duration::from_hours(4 * 24));
}

#[test]
fn what_dns_says_decides_before_any_host_is_asked() {
    let unknown = MxAnswer::Unknown { why: "SERVFAIL".to_owned() };
    for (answer, group, class) in [
        (MxAnswer::NullMx, "Attempted+Accepted+Retired", None),
        (MxAnswer::NoSuchDomain, "Attempted+Accepted+Retired", None),
        (unknown, "Attempted", Some(Class::Dns)),
    ] {
        let mut world = World::new();
        let id = world.accept(1, "a@ours.example", &["u@there.example"]);
        world.run(&answer, &|_| panic!("no host is asked"));
        assert_eq!(world.log()[1], group, "{answer:?}");
        let view = world.core.views().find(|v| v.delivery.message == id);
        assert_eq!(view.map(|v| v.class), class, "{answer:?}");
    }
}

#[test]
fn an_answer_of_dns_is_used_until_it_ends_and_asked_for_again_then() {
    let mut world = World::new();
    let MxAnswer::Hosts { hosts, .. } = one_host() else { panic!("there is a host") };
    let valid_until = world.now + Duration::from_secs(30);
    let answer = MxAnswer::Hosts { hosts, valid_until, is_proven: false };
    for (counter, wait, asked) in [(1, 0, 1), (2, 29, 0), (3, 1, 1), (4, 0, 1)] {
        world.now = world.now + Duration::from_secs(wait);
        world.accept(counter, "a@ours.example", &["x@there.example"]);
        world.run(&answer, &|_| says(250, (2, 0, 0)));
        let log = world.log();
        let questions = log.iter().filter(|line| line.starts_with("ask ")).count();
        // The last two answers have ended when they come: they serve who asked and nobody else.
        assert_eq!(questions, asked, "{log:?}");
    }
}

#[test]
fn an_unknown_route_waits_and_never_goes_direct() {
    let mut world = World::new();
    world.accept(1, "a@ours.example", &["u@elsewhere.test"]);
    world.run(&one_host(), &|_| panic!("no host is asked"));
    assert_eq!(world.log(), ["Attempted"]);
    let view = world.core.views().next().unwrap();
    assert_eq!(view.class, Class::NoRoute);
    assert!(view.next > Some(world.now));
}

#[test]
fn a_message_is_carried_only_while_nothing_about_it_is_proposed() {
    let mut world = World::new();
    let id = world.accept(1, "a@ours.example", &["u@elsewhere.test"]);
    let accepted = world.messages[&id].clone();
    assert!(world.core.carry(&accepted).is_some());
    let hold = Hold {
        limit: "operator".to_owned(),
        value: "by hand".to_owned(),
        source: "test".to_owned(),
        until: None,
    };
    let delivery = DeliveryId { message: id, recipient: 0 };
    world.core.handle(world.now, Input::Hold(delivery, Box::new(hold)));
    assert_eq!(world.core.carry(&accepted), None);
    world.run(&one_host(), &|_| panic!("it is held"));
    assert!(world.core.carry(&accepted).is_some());
    world.core.handle(world.now, Input::Cancel(delivery));
    world.run(&one_host(), &|_| panic!("it is cancelled"));
    assert_eq!(world.core.carry(&accepted), None);
    assert!(world.core.queue().is_empty());
}

#[test]
fn recipients_that_did_not_fit_go_at_once_in_another_transaction() {
    let mut world = World::new();
    world.accept(1, "a@ours.example", &["u@there.example", "v@there.example"]);
    let first = std::cell::Cell::new(true);
    world.run(&one_host(), &|path| {
        if path.to_string() == "<v@there.example>" && first.replace(false) {
            Finding::TryAgain
        } else {
            says(250, (2, 0, 0))
        }
    });
    let log = world.log();
    assert_eq!(
        log[1..],
        [
            "attempt mx.there.example:25 for 2",
            "Attempted",
            "attempt mx.there.example:25 for 1",
            "Attempted+Retired"
        ]
    );
}

#[test]
fn one_lane_never_has_more_attempts_than_its_limit() {
    let mut world = World::new();
    for counter in 1..=3 {
        world.accept(counter, "a@ours.example", &["u@there.example"]);
    }
    let mut loads = 0;
    while let Some(output) = world.core.poll(world.now) {
        assert!(matches!(output, Output::Load(..)));
        loads += 1;
    }
    assert_eq!((loads, world.core.jobs()), (1, 1));
    let parked = world.core.views().filter(|v| v.hold.is_some()).count();
    assert_eq!(parked, 2);
}

#[test]
fn while_nothing_can_be_committed_attempts_come_to_an_end() {
    let mut world = World::new();
    let total = u32::try_from(PROPOSED_MAX).unwrap() + 10;
    for counter in 1..=total {
        world.accept(counter, "a@ours.example", &["u@there.example"]);
    }
    let groups = world.run_uncommitted(&|_| says(250, (2, 0, 0)));
    assert_eq!((groups.len(), world.core.deadline()), (PROPOSED_MAX, None));
    for (token, group) in groups {
        world.commit(token, &group);
    }
    world.run(&one_host(), &|_| says(250, (2, 0, 0)));
    assert!(world.core.queue().is_empty());
}

#[test]
fn a_smart_host_takes_all_domains_of_a_message_in_one_transaction() {
    let mut world = World::new();
    let smart = HostPort { host: domain("smart.example"), port: 587 };
    let rules = vec![Rule {
        name: "all".into(),
        when: Vec::new(),
        then: NextHop::Hosts(vec![smart]),
        attempts_max: None,
    }];
    let options = Options::new(domain("mx.ours.example"), Router { rules });
    world.core = Core::new(options, NodeId::default(), 1, 42);
    world.accept(1, "a@ours.example", &["u@x.test", "v@y.test"]);
    world.run(&one_host(), &|_| says(250, (2, 0, 0)));
    assert_eq!(world.log(), ["attempt smart.example:587 for 2", "Attempted+Retired"]);
}

#[test]
fn a_message_ends_once_though_its_last_two_deliveries_end_together() {
    let mut world = World::new();
    let id = world.accept(1, "a@ours.example", &["u@there.example", "v@elsewhere.example"]);
    // Nothing is committed before both attempts are over.
    let groups = world.run_uncommitted(&|_| says(250, (2, 0, 0)));
    assert_eq!(groups.len(), 2);
    for (token, group) in groups {
        world.commit(token, &group);
    }
    let log = world.log();
    assert_eq!(log[log.len() - 2..], ["Attempted", "Attempted+Retired"]);
    assert_eq!(world.core.queue().accepted_at(id), None);
}

#[test]
fn what_the_spool_cannot_give_waits_with_its_reason_however_old_it_is() {
    let mut world = World::new();
    let began = world.now;
    let id = world.accept(1, "a@ours.example", &["u@there.example"]);
    while world.now.since(began) < Duration::from_hours(10 * 24) {
        while let Some(output) = world.core.poll(world.now) {
            match output {
                Output::Load(job, _) => world.core.handle(world.now, Input::Loaded(job, None)),
                Output::Commit(token, group) => world.commit(token, &group),
                other @ (Output::Ask(_) | Output::Attempt(_)) => panic!("{other:?}"),
            }
        }
        let view = world.core.views().next().unwrap();
        assert_eq!((view.class, view.is_taken), (Class::Unreadable, false));
        world.now = world.core.deadline().unwrap();
    }
    let attempts = world.core.views().next().unwrap().attempts;
    assert!((60..80).contains(&attempts), "{attempts}");
    world.core.handle(world.now, Input::Cancel(DeliveryId { message: id, recipient: 0 }));
    world.run(&one_host(), &|_| panic!("it is given up"));
    assert!(world.core.queue().is_empty());
}

#[test]
fn what_was_asked_of_tls_reaches_who_connects() {
    let required = || Requests { tls: TlsRequest::Required, ..Requests::default() };
    for (dialect, then, want) in [
        (
            Dialect::Smtp,
            NextHop::Hosts(vec![HostPort { host: domain("smart.example"), port: 587 }]),
            Protection::Verified,
        ),
        (
            Dialect::Lmtp,
            NextHop::Lmtp(Endpoint::Tcp(HostPort { host: domain("store.example"), port: 24 })),
            Protection::AsRouted,
        ),
    ] {
        let mut world = World::new();
        let rule = Rule { name: "all".into(), when: Vec::new(), then, attempts_max: None };
        let options = Options::new(domain("mx.ours.example"), Router { rules: vec![rule] });
        world.core = Core::new(options, NodeId::default(), 1, 42);
        world.accept_with(1, "a@ours.example", &["u@x.test"], required());
        let Some(Output::Load(job, id)) = world.core.poll(world.now) else { panic!("it is due") };
        let loaded = Loaded { accepted: world.messages[&id].clone(), header: Bytes::new() };
        world.core.handle(world.now, Input::Loaded(job, Some(Arc::new(loaded))));
        let Some(Output::Attempt(job)) = world.core.poll(world.now) else { panic!("it tries") };
        assert_eq!((job.dialect, job.protection), (dialect, want));
    }
}

/// The originator wants to hear of all of it.
fn wants_all(world: &mut World, counter: u32, to: &[&str]) -> QueueId {
    let asked = (counter, Requests::default());
    world.accept_asking(asked, "a@ours.example", to, |recipient| {
        recipient.notify = Some(Notify::On { delay: true, failure: true, success: true });
    })
}

#[test]
fn success_and_its_report_are_one_group_unless_the_next_hop_reports() {
    let reply = || Reply::new(250, (2, 0, 0), "ok");
    for (handover, action, group) in [
        (Handover::Final, "Action: delivered\r\n", "Attempted+Accepted+Retired"),
        (Handover::Relayed, "Action: relayed\r\n", "Attempted+Accepted+Retired"),
        (Handover::Reporting, "", "Attempted+Retired"),
    ] {
        let mut world = World::new();
        wants_all(&mut world, 1, &["u@there.example"]);
        world.run(&one_host(), &|path| match path.to_string().as_str() {
            "<u@there.example>" => Finding::Delivered(reply(), handover),
            _ => Finding::Delivered(reply(), Handover::Relayed),
        });
        assert_eq!(world.log()[2], group, "{handover:?}");
        assert_eq!(world.reports.len(), usize::from(!action.is_empty()));
        assert!(world.reports.iter().all(|text| text.contains(action)));
    }
}

#[test]
fn a_delay_is_told_once_also_after_a_restart() {
    let mut world = World::new();
    let id = wants_all(&mut world, 1, &["u@there.example"]);
    let began = world.now;
    let mut told = Vec::new();
    for round in 0..12 {
        world.run(&one_host(), &|path| match path.to_string().as_str() {
            "<u@there.example>" => says(450, (4, 2, 0)),
            _ => says(250, (2, 0, 0)),
        });
        told.extend(world.log().iter().any(|l| l.contains("Delayed")).then_some(world.now));
        if round == 8 {
            // All that is known of it is written anew, and read by another life.
            let carried = world.core.carry(&world.messages[&id]).unwrap();
            assert!(carried.deliveries[0].1.is_delay_told);
            world.core = Core::new(world.core.options.clone(), NodeId::default(), 2, 43);
            world.core.durable(world.now, &Event::Carried(Box::new(carried)));
        }
        world.now = world.core.deadline().unwrap();
    }
    assert_eq!(told.len(), 1);
    let age = told[0].since(began);
    assert!(age >= Duration::from_hours(4) && age < Duration::from_hours(8), "{age:?}");
    let text = &world.reports[0];
    assert!(text.contains("Action: delayed\r\nStatus: 4.2.0\r\n"), "{text}");
    assert!(text.contains("\r\nWill-Retry-Until: "), "{text}");
}

#[test]
fn nobody_is_told_of_a_delay_who_did_not_ask_or_where_it_is_off() {
    for (notify, after, want) in [
        (Some(Notify::Never), Some(Duration::from_hours(4)), 0),
        (None, Some(Duration::from_hours(4)), 1),
        (None, None, 0),
    ] {
        let mut world = World::new();
        world.core.options.delay_report_after = after;
        let asked = (1, Requests::default());
        world.accept_asking(asked, "a@ours.example", &["u@there.example"], |r| r.notify = notify);
        for _ in 0..10 {
            world.run(&one_host(), &|path| match path.to_string().as_str() {
                "<u@there.example>" => says(450, (4, 2, 0)),
                _ => says(250, (2, 0, 0)),
            });
            world.now = world.core.deadline().unwrap();
        }
        assert_eq!(world.reports.len(), want, "{notify:?} {after:?}");
    }
}

/// I17: whoever writes to a thousand people that are not there gets one report.
#[test]
fn failures_in_many_attempts_at_once_share_one_report() {
    let mut world = World::new();
    world.core.options.jobs_per_lane_max = 3;
    let to: Vec<String> = (0..1_000).map(|n| format!("u{n}@there.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let id = world.accept(1, "a@ours.example", &to);
    world.run(&one_host(), &|path| match path.to_string().as_str() {
        "<u7@there.example>" | "<a@ours.example>" => says(250, (2, 0, 0)),
        _ => says(550, (5, 1, 1)),
    });
    assert_eq!(world.reports.len(), 1);
    assert_eq!(world.reports[0].matches("Action: failed\r\n").count(), 999);
    let log = world.log();
    let all = "Attempted+".repeat(10) + "Accepted+Retired";
    assert_eq!(log.iter().filter(|line| line.contains("Accepted")).collect::<Vec<_>>(), [&all]);
    assert_eq!(world.core.queue().accepted_at(id), None);
}

#[test]
fn failures_wait_for_half_a_minute_at_most_and_not_at_all_at_the_end() {
    for is_draining in [false, true] {
        let mut world = World::new();
        let id = world.accept(1, "a@ours.example", &["u@there.example", "v@slow.example"]);
        let mut open = Vec::new();
        let mut groups = Vec::new();
        while let Some(output) = world.core.poll(world.now) {
            match output {
                Output::Attempt(job) if open.is_empty() => open.push(job),
                Output::Attempt(job) => world.attempt(&job, &|_| says(550, (5, 1, 1))),
                Output::Commit(_, group) => groups.push(group),
                Output::Load(job, id) => {
                    let accepted = world.messages[&id].clone();
                    let loaded = Arc::new(Loaded { accepted, header: Bytes::new() });
                    world.core.handle(world.now, Input::Loaded(job, Some(loaded)));
                }
                Output::Ask(question) => {
                    let answer = Answer::Mx(own_host(&question));
                    world.core.handle(world.now, Input::Answered(question, answer));
                }
            }
        }
        assert_eq!((open.len(), groups.len()), (1, 0), "the failure waits");
        let late = world.now + Duration::from_secs(30);
        assert_eq!(world.core.deadline(), Some(late));
        if is_draining {
            world.core.drain();
        } else {
            world.now = late;
        }
        let Some(Output::Commit(token, group)) = world.core.poll(world.now) else {
            panic!("it is told");
        };
        world.commit(token, &group);
        assert_eq!(world.log().last().unwrap(), "Attempted+Accepted");
        assert!(world.core.queue().accepted_at(id).is_some(), "the other one is being tried");
    }
}

#[test]
fn what_is_given_up_while_its_failure_waits_has_one_end() {
    let mut world = World::new();
    world.accept(1, "", &["u@there.example", "v@slow.example"]);
    let mut open = Vec::new();
    while let Some(output) = world.core.poll(world.now) {
        match output {
            Output::Attempt(job) if open.is_empty() => open.push(job),
            Output::Attempt(job) => {
                world.attempt(&job, &|_| says(550, (5, 1, 1)));
                let message = job.message.accepted.id;
                for (recipient, _) in job.recipients {
                    let delivery = DeliveryId { message, recipient };
                    world.core.handle(world.now, Input::Cancel(delivery));
                }
            }
            Output::Commit(token, group) => world.commit(token, &group),
            Output::Load(job, id) => {
                let accepted = world.messages[&id].clone();
                let loaded = Arc::new(Loaded { accepted, header: Bytes::new() });
                world.core.handle(world.now, Input::Loaded(job, Some(loaded)));
            }
            Output::Ask(question) => {
                let answer = Answer::Mx(own_host(&question));
                world.core.handle(world.now, Input::Answered(question, answer));
            }
        }
    }
    world.attempt(&open.remove(0), &|_| says(250, (2, 0, 0)));
    world.run(&one_host(), &|_| panic!("nothing is left"));
    let ends = ["Cancelled", "attempt mx.there.example:25 for 1", "Attempted+Retired"];
    assert_eq!(world.log()[1..], ends);
    assert!(world.core.queue().is_empty());
}

/// I4: a report that cannot be delivered is told to the postmaster, and that to nobody.
#[test]
fn a_double_bounce_goes_to_the_postmaster_once() {
    for postmaster in [None, Mailbox::parse("pm@ours.example").ok()] {
        let mut world = World::new();
        let want = 1 + usize::from(postmaster.is_some());
        world.core.options.postmaster = postmaster;
        world.accept(1, "a@ours.example", &["u@there.example"]);
        world.run(&one_host(), &|_| says(550, (5, 1, 1)));
        assert_eq!(world.reports.len(), want);
        assert_eq!(world.log().last().unwrap(), "Attempted+Retired");
        assert!(world.core.queue().is_empty());
    }
}

/// RFC 3464 §2.3.5: who refused one recipient is not who took the other.
#[test]
fn each_recipient_is_told_of_with_the_host_that_decided_about_it() {
    let mut world = World::new();
    world.accept(1, "a@ours.example", &["one@there.example", "two@there.example"]);
    let refused = |text| {
        let fact = Fact::Replied(Reply::new(550, (5, 1, 1), text));
        Finding::NotDelivered(Found { phase: Phase::Recipient, fact })
    };
    let path = |name: &str| EgressPath {
        source: "default".to_owned(),
        host: domain(name),
        address: Remote::Ip("192.0.2.1:25".parse().unwrap()),
    };
    while let Some(output) = world.core.poll(world.now) {
        match output {
            Output::Ask(question) => {
                world.core.handle(world.now, Input::Answered(question, Answer::Mx(one_host())));
            }
            Output::Load(job, id) => {
                let accepted = world.messages[&id].clone();
                let loaded = Loaded { accepted, header: Bytes::from_static(b"Subject: x\r\n\r\n") };
                world.core.handle(world.now, Input::Loaded(job, Some(Arc::new(loaded))));
            }
            Output::Attempt(job) => {
                let report = Report {
                    began: world.now,
                    terms: Terms::default(),
                    tried: vec![tried(path("first.example")), tried(path("second.example"))],
                    findings: vec![
                        (0, refused("no one"), Some(0)),
                        (1, refused("no two"), Some(1)),
                    ],
                };
                world.core.handle(world.now, Input::Finished(job.id, Box::new(report)));
            }
            Output::Commit(token, group) => {
                for (event, _) in &group.events {
                    if let Event::Attempted(attempted) = event {
                        let host = attempted.attempt.path.as_ref().unwrap().host.to_string();
                        world.log.push(format!("{host} {}", attempted.outcomes[0].0));
                    }
                }
                world.commit(token, &group);
            }
        }
    }
    let log = world.log();
    assert_eq!(log[..2], ["first.example 0", "second.example 1"], "{log:?}");
    let report = &world.reports[0];
    for (host, text) in [("first.example", "no one"), ("second.example", "no two")] {
        let want =
            format!("Remote-MTA: dns; {host}\r\nDiagnostic-Code: smtp; 550 5.1.1 {text}\r\n");
        assert!(report.contains(&want), "{report}");
    }
}
