//! Back-off, and next hops that share their hosts.

use super::*;

/// A world whose attempts go on until the test ends them.
struct Slow {
    world: World,
    /// Attempts that go on, with the domain of their first recipient.
    open: Vec<(Job, String)>,
    /// How many messages were read.
    loads: usize,
}

impl Slow {
    fn new(jobs_per_lane_max: usize) -> Self {
        let mut world = World::new();
        world.core.options.jobs_per_lane_max = jobs_per_lane_max;
        Self { world, open: Vec::new(), loads: 0 }
    }

    /// So many messages to each of these domains.
    fn accept(&mut self, each: u32, domains: &[String]) {
        let before = u32::try_from(self.world.messages.len()).unwrap();
        for (n, domain) in (0u32..).zip(domains.iter().cycle()).take(each as usize * domains.len())
        {
            self.world.accept(before + n + 1, "a@ours.example", &[&format!("u@{domain}")]);
        }
    }

    /// Begins what may begin. The domains `other…` have a host of their own.
    fn begin(&mut self) {
        while let Some(output) = self.world.core.poll(self.world.now) {
            match output {
                Output::Ask(Question::Mx(domain)) => {
                    let mut answer = one_host();
                    if let MxAnswer::Hosts { hosts, .. } = &mut answer
                        && domain.to_string().starts_with("other")
                    {
                        hosts[0].name = domain.clone();
                    }
                    let input = Input::Answered(Question::Mx(domain), Answer::Mx(answer));
                    self.world.core.handle(self.world.now, input);
                }
                Output::Ask(other) => panic!("{other:?}"),
                Output::Load(job, id) => {
                    self.loads += 1;
                    let accepted = self.world.messages[&id].clone();
                    let header = Bytes::from_static(b"Subject: x\r\n\r\n");
                    let loaded = Arc::new(Loaded { accepted, header });
                    self.world.core.handle(self.world.now, Input::Loaded(job, Some(loaded)));
                }
                Output::Attempt(job) => {
                    let to = job.recipients[0].1.path.to_string();
                    let domain = to.trim_end_matches('>').rsplit('@').next().unwrap().to_owned();
                    self.open.push((job, domain));
                }
                Output::Commit(token, group) => self.world.commit(token, &group),
            }
        }
    }

    /// Ends the attempt that began first, and begins what may begin then; gives its domain.
    fn end(&mut self, finding: &Finding) -> String {
        let (job, domain) = self.open.remove(0);
        self.world.attempt(&job, &|_| finding.clone());
        self.begin();
        domain
    }

    fn open_at(&self, host: &str) -> usize {
        self.open.iter().filter(|(job, _)| job.targets[0].endpoint.to_string() == host).count()
    }

    /// The limits that hold deliveries, each once.
    fn limits(&self) -> BTreeSet<String> {
        self.world.core.views().filter_map(|view| view.hold).map(|hold| hold.limit).collect()
    }
}

fn domains(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("d{n}.example")).collect()
}

fn throttled() -> Finding {
    let reply = Reply::new(421, (4, 7, 28), "too many messages from your address");
    Finding::NotDelivered(Found { phase: Phase::Mail, fact: Fact::Replied(reply) })
}

fn unreachable() -> Finding {
    let fact = Fact::Unreachable("connection refused".to_owned());
    Finding::NotDelivered(Found { phase: Phase::Connect, fact })
}

const SHARED: &str = "mx.there.example:25";

#[test]
fn domains_with_the_same_host_have_its_attempts_together_and_each_has_its_turn() {
    let mut slow = Slow::new(3);
    slow.accept(4, &domains(10));
    slow.accept(1, &["other.example".to_owned()]);
    slow.begin();
    assert_eq!((slow.open_at(SHARED), slow.open_at("other.example:25")), (3, 1));
    assert_eq!(slow.limits(), ["connections-per-next-hop".to_owned()].into());
    let mut ended = Vec::new();
    while !slow.open.is_empty() {
        assert!(slow.open_at(SHARED) <= 3);
        ended.push(slow.end(&says(250, (2, 0, 0))));
        let left = slow.world.core.queue().messages().count();
        assert!(slow.open.len() >= left.min(3), "{} of {left} go on", slow.open.len());
    }
    assert!(slow.world.core.queue().is_empty());
    assert_eq!(slow.world.core.deadline(), None);
    assert!(slow.world.core.sites.is_empty());
    // Nobody waits until another one has had everything.
    let firsts: BTreeSet<&String> = ended[..20].iter().collect();
    assert_eq!(firsts.len(), 11, "{ended:?}");
}

#[test]
fn a_host_that_asks_us_to_slow_down_gets_nothing_for_a_while_and_then_one_message() {
    for (trouble, wanted, said) in [
        (throttled(), 4, "421 4.7.28 too many messages from your address"),
        // A few are made before that counts.
        (unreachable(), 8, "421 4.4.1 cannot connect: connection refused"),
    ] {
        let mut slow = Slow::new(4);
        slow.accept(5, &domains(4));
        slow.begin();
        let mut ended = 0;
        while !slow.open.is_empty() {
            slow.end(&trouble);
            ended += 1;
        }
        assert_eq!(ended, wanted, "{said}");
        let began = slow.world.now;
        let until = began + slow.world.core.options.retry.first / 5;
        let reasons: Vec<Hold> = slow.world.core.views().filter_map(|view| view.hold).collect();
        let hold = Hold {
            limit: "back-off".to_owned(),
            value: said.to_owned(),
            source: "mx.there.example".to_owned(),
            until: Some(until),
        };
        assert!(reasons.iter().all(|one| *one == hold), "{reasons:#?}");
        assert!(reasons.len() >= 12);
        // Other hosts have nothing to do with it.
        slow.accept(1, &["other.example".to_owned()]);
        slow.begin();
        assert_eq!((slow.open_at("other.example:25"), slow.open.len()), (1, 1));
        slow.end(&says(250, (2, 0, 0)));
        // One goes ahead; with each success one more goes on, until there are as many as may be.
        assert_eq!(slow.world.core.deadline(), Some(until));
        slow.world.now = until;
        slow.begin();
        for want in [1, 2, 3, 4, 4] {
            assert_eq!(slow.open.len(), want, "{said}");
            slow.end(&says(250, (2, 0, 0)));
        }
        while !slow.open.is_empty() {
            slow.end(&says(250, (2, 0, 0)));
        }
        assert!(slow.world.core.sites.is_empty());
    }
}

#[test]
fn what_waits_for_a_host_that_stays_in_trouble_is_put_off_told_of_and_given_up_in_time() {
    let mut slow = Slow::new(4);
    slow.accept(40, &domains(5));
    let began = slow.world.now;
    slow.begin();
    let mails: Vec<QueueId> = slow.world.messages.keys().copied().collect();
    let (mut attempts, mut is_put_off, mut ended) = (0, false, None);
    while !slow.world.core.queue().is_empty() {
        while !slow.open.is_empty() {
            attempts += 1;
            slow.end(&unreachable());
        }
        let now = slow.world.now;
        let age = now.since(began);
        if age > Duration::from_mins(5) && age < Duration::from_hours(4) {
            is_put_off = true;
            for view in slow.world.core.views() {
                assert_eq!(view.class, Class::Connection, "{age:?}");
                let next = view.hold.map_or(view.next, |hold| hold.until);
                assert!(view.attempts > 0 && next > Some(now));
            }
        }
        let lives = |id: &QueueId| slow.world.core.queue().accepted_at(*id).is_some();
        if ended.is_none() && !mails.iter().any(lives) {
            ended = Some(age);
        }
        let Some(next) = slow.world.core.deadline() else { break };
        assert!(next > now, "{next:?}");
        slow.world.now = next;
        slow.begin();
    }
    assert!(is_put_off);
    assert!(ended.is_some_and(|age| age <= slow.world.core.options.retry.give_up), "{ended:?}");
    // Each was told of a delay, and returned.
    let count =
        |action: &str| slow.world.reports.iter().filter(|report| report.contains(action)).count();
    assert_eq!((count("Action: delayed"), count("Action: failed")), (200, 200));
    // Each of the 600, with the reports, would have asked 40 times alone.
    assert!((100..12_000).contains(&attempts), "{attempts} attempts");
}

#[test]
fn many_that_wait_for_a_host_in_trouble_are_put_off_a_few_at_a_time() {
    let mut slow = Slow::new(4);
    slow.accept(1_000, &domains(2));
    slow.begin();
    let (mut most, mut began) = (0, None);
    while slow.world.core.views().any(|view| view.attempts == 0) {
        while !slow.open.is_empty() {
            slow.end(&unreachable());
        }
        let told = slow.world.log().iter().filter(|line| line.contains("Attempted")).count();
        most = most.max(told);
        if told > 100 && began.is_none() {
            began = Some(slow.world.now);
        }
        slow.world.now = slow.world.core.deadline().unwrap();
        slow.begin();
    }
    // Those of the attempts that were made come to the portion.
    assert!((200..210).contains(&most), "{most} at once");
    let took = slow.world.now.since(began.unwrap());
    let portions = Duration::from_millis(900)..Duration::from_millis(1_200);
    assert!(portions.contains(&took), "{took:?}");
}

#[test]
fn many_domains_that_wait_for_hosts_in_trouble_are_read_no_more_often_than_they_are_put_off() {
    let mut slow = Slow::new(4);
    slow.accept(1, &domains(5_000));
    slow.begin();
    while slow.world.core.views().any(|view| view.attempts == 0) {
        while !slow.open.is_empty() {
            slow.end(&unreachable());
        }
        slow.world.now = slow.world.core.deadline().unwrap();
        slow.begin();
    }
    // Once to stand in line, and once to be put off; few come again before the last has.
    assert!(slow.loads < 12_500, "{} loads", slow.loads);
}

#[test]
fn doubt_ends_by_itself_where_the_other_attempts_take_their_time() {
    let mut slow = Slow::new(4);
    slow.accept(9, &domains(1));
    slow.begin();
    slow.end(&throttled());
    assert_eq!(slow.open.len(), 3);
    let hold = slow.world.core.views().find_map(|view| view.hold).unwrap();
    let until = slow.world.now + slow.world.core.options.retry.first / 5;
    assert_eq!((hold.limit.as_str(), hold.until), ("back-off", Some(until)));
    slow.world.now = until;
    slow.begin();
    // Two may go on; three do.
    assert_eq!(slow.open.len(), 3);
    slow.open.drain(..2).for_each(drop);
    slow.end(&says(250, (2, 0, 0)));
}

#[test]
fn only_what_is_said_of_all_mail_is_trouble() {
    let found = |phase, fact| Finding::NotDelivered(Found { phase, fact });
    let reply =
        |phase, code, enhanced| found(phase, Fact::Replied(Reply::new(code, enhanced, "said")));
    let path = EgressPath {
        source: "default".to_owned(),
        host: domain("mx.there.example"),
        address: Remote::Ip("192.0.2.1:25".parse().unwrap()),
    };
    let health = |findings: &[Finding], host| {
        let findings = (0..).zip(findings).map(|(n, finding)| (n, finding.clone(), host)).collect();
        let tried = vec![Tried { path: path.clone(), tls: None, policy: None }];
        let terms = Terms::default();
        match Health::of(&Report { began: Time::EPOCH, terms, tried, findings }) {
            Health::Fine => "fine",
            Health::Trouble(_) => "trouble",
            Health::Unknown => "unknown",
        }
    };
    for (finding, want) in [
        (says(250, (2, 0, 0)), "fine"),
        (reply(Phase::Recipient, 550, (5, 1, 1)), "fine"),
        (reply(Phase::Recipient, 451, (4, 3, 0)), "fine"),
        (reply(Phase::Recipient, 450, (4, 1, 2)), "fine"),
        (reply(Phase::Mail, 452, (4, 3, 1)), "fine"),
        (reply(Phase::EndOfData, 451, (4, 2, 0)), "fine"),
        (reply(Phase::EndOfData, 554, (5, 7, 1)), "fine"),
        (reply(Phase::EndOfData, 421, (4, 3, 2)), "trouble"),
        (reply(Phase::EndOfData, 450, (4, 7, 28)), "trouble"),
        (reply(Phase::Greeting, 554, (5, 0, 0)), "trouble"),
        (reply(Phase::Greeting, 450, (4, 0, 0)), "trouble"),
        (unreachable(), "trouble"),
        (found(Phase::Greeting, Fact::TimedOut), "trouble"),
        (found(Phase::StartTls, Fact::Tls("expired".to_owned())), "trouble"),
        (found(Phase::Content, Fact::Cut), "unknown"),
        (found(Phase::EndOfData, Fact::TimedOut), "unknown"),
        (reply(Phase::Auth, 535, (5, 7, 8)), "unknown"),
        (Finding::TryAgain, "unknown"),
    ] {
        assert_eq!(health(std::slice::from_ref(&finding), Some(0)), want, "{finding:?}");
        assert_eq!(health(&[finding.clone(), says(250, (2, 0, 0))], Some(0)), "fine");
    }
    // What no host has done is our own business.
    assert_eq!(health(&[unreachable()], None), "unknown");
}

#[test]
fn a_host_that_takes_some_and_not_others_is_asked_less_often_and_never_rests() {
    let mut slow = Slow::new(8);
    slow.accept(30, &domains(1));
    slow.begin();
    assert_eq!(slow.open.len(), 8);
    slow.world.now = slow.world.now + Duration::from_secs(1);
    for _ in 0..4 {
        slow.end(&throttled());
    }
    // It was halved once: all four had begun before.
    assert_eq!(slow.open.len(), 4);
    slow.end(&says(250, (2, 0, 0)));
    assert_eq!(slow.open.len(), 5);
    assert!(!slow.limits().contains("back-off"));
}

#[test]
fn what_a_host_says_of_recipients_is_no_reason_to_back_off() {
    let mut slow = Slow::new(2);
    slow.accept(6, &domains(1));
    slow.begin();
    for finding in [says(450, (4, 2, 2)), says(550, (5, 1, 1)), says(451, (4, 3, 0))] {
        slow.end(&finding);
        assert_eq!(slow.open.len(), 2, "{finding:?}");
    }
}

#[test]
fn nobody_waits_for_one_whose_deliveries_are_gone() {
    let mut slow = Slow::new(1);
    slow.accept(1, &domains(5));
    slow.begin();
    let waiting: Vec<DeliveryId> =
        slow.world.core.views().filter(|view| !view.is_taken).map(|view| view.delivery).collect();
    for &delivery in &waiting[..3] {
        slow.world.core.handle(slow.world.now, Input::Cancel(delivery));
    }
    slow.begin();
    slow.end(&says(250, (2, 0, 0)));
    assert_eq!(slow.open.len(), 1);
    slow.end(&says(250, (2, 0, 0)));
    assert!(slow.world.core.queue().is_empty());
}

#[test]
fn whoever_is_released_by_hand_does_not_wait_for_the_end_of_a_rest() {
    let mut slow = Slow::new(1);
    slow.accept(1, &domains(1));
    slow.begin();
    slow.end(&throttled());
    slow.accept(1, &domains(1));
    slow.begin();
    assert_eq!((slow.open.len(), slow.limits()), (0, ["back-off".to_owned()].into()));
    let last = slow.world.core.views().last().unwrap().delivery;
    slow.world.core.handle(slow.world.now, Input::Release(last));
    slow.begin();
    assert_eq!(slow.open.len(), 1);
}

#[test]
fn a_message_in_line_keeps_its_place() {
    let mut slow = Slow::new(1);
    slow.accept(1, &domains(2));
    slow.begin();
    slow.world.now = slow.world.now + Duration::from_mins(10);
    // It is of the same domain as the one that waits, and came later.
    slow.accept(1, &["d1.example".to_owned()]);
    slow.begin();
    let first = slow.world.core.views().find(|view| !view.is_taken).unwrap().delivery.message;
    slow.end(&says(250, (2, 0, 0)));
    assert_eq!(slow.open[0].0.message.accepted.id, first);
}
