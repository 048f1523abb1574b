use std::time::Duration;

use merpati_mail::{
    BodyType, Envelope, ForwardPath, Mailbox, NodeId, Origin, Overlay, Protocol, Recipient, Reply,
    Requests, ReversePath, Scope, envelope::Utf8, route::HostPort,
};

use proptest::prelude::*;

use super::*;
use crate::route::{Condition, Rule};

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn queue() -> Queue {
    let smart = HostPort { host: domain("smart.example"), port: 25 };
    let router = Router {
        rules: vec![
            Rule {
                name: "smart".into(),
                when: vec![Condition::RecipientBelow(domain("smart"))],
                then: NextHop::Hosts(vec![smart]),
                attempts_max: None,
            },
            Rule {
                name: "direct".into(),
                when: vec![Condition::RecipientBelow(domain("example"))],
                then: NextHop::Mx,
                attempts_max: None,
            },
        ],
    };
    Queue::new(router, domain("mx.ours.example"))
}

fn id(counter: u32) -> QueueId {
    QueueId::new(NodeId::default(), 1, counter)
}

fn accepted(counter: u32, recipients: &[&str]) -> Accepted {
    let to = |a: &&str| Recipient::new(ForwardPath::Mailbox(Mailbox::parse(a).unwrap()));
    Accepted {
        id: id(counter),
        envelope: Envelope {
            reverse_path: ReversePath(Mailbox::parse("a@ours.example").ok()),
            recipients: recipients.iter().map(to).collect(),
            body: BodyType::SevenBit,
            utf8: Utf8::NotDeclared,
            ret: None,
            envid: None,
            requests: Requests::default(),
            origin: Origin {
                listener: "mx".to_owned(),
                peer: None,
                credential: None,
                protocol: Protocol::Esmtp,
                tls: None,
                received_at: Time::from_secs(100),
            },
        },
        edits: Overlay::default(),
        size_bytes: 1,
    }
}

fn accept(queue: &mut Queue, secs: u64, counter: u32, recipients: &[&str]) {
    let event = Event::Accepted(Box::new(accepted(counter, recipients)));
    queue.apply(Time::from_secs(secs), &event);
}

fn accept_with(queue: &mut Queue, secs: u64, counter: u32, requests: Requests) {
    let mut accepted = accepted(counter, &["a@x.example"]);
    accepted.envelope.requests = requests;
    queue.apply(Time::from_secs(secs), &Event::Accepted(Box::new(accepted)));
}

fn urgent(priority: i8) -> Requests {
    Requests { priority: Priority::new(priority), ..Requests::default() }
}

fn hold() -> Hold {
    Hold {
        limit: "operator".to_owned(),
        value: "on request".to_owned(),
        source: "control socket".to_owned(),
        until: None,
    }
}

fn cause() -> Cause {
    Cause {
        class: Class::Greylisted,
        scope: Scope::Recipient,
        reply: Reply::new(450, (4, 2, 0), "greylisted"),
        remote: None,
    }
}

fn deferred(until: u64) -> Outcome {
    Outcome::Deferred { cause: cause(), until: Time::from_secs(until) }
}

fn delivered() -> Outcome {
    Outcome::Delivered { reply: Reply::new(250, (2, 0, 0), "ok") }
}

fn attempted(counter: u32, outcomes: Vec<(u32, Outcome)>) -> Event {
    let attempt = merpati_mail::Attempt {
        number: 1,
        path: None,
        began: Time::EPOCH,
        ended: Time::EPOCH,
        tls: None,
        policy: None,
    };
    Event::Attempted(Box::new(Attempted { message: id(counter), attempt, outcomes }))
}

fn take(queue: &mut Queue, secs: u64) -> Option<(QueueId, Vec<u32>)> {
    queue.take(Time::from_secs(secs), 100).map(|(_, message, recipients)| (message, recipients))
}

#[test]
fn what_is_longest_due_goes_first_and_recipients_of_one_next_hop_together() {
    let mut queue = queue();
    accept(&mut queue, 20, 2, &["a@x.example", "b@y.example", "c@x.example"]);
    accept(&mut queue, 10, 1, &["a@one.smart", "b@two.smart"]);
    assert_eq!(take(&mut queue, 9), None);
    assert_eq!(queue.deadline(), Some(Time::from_secs(10)));
    assert_eq!(take(&mut queue, 30), Some((id(1), vec![0, 1])), "one smart host");
    assert_eq!(take(&mut queue, 30), Some((id(2), vec![0, 2])), "one domain");
    assert_eq!(take(&mut queue, 30), Some((id(2), vec![1])));
    assert_eq!(take(&mut queue, 30), None, "what is taken is not taken again");
    queue.put_back(DeliveryId { message: id(2), recipient: 1 }, Time::from_secs(40));
    assert_eq!(queue.deadline(), Some(Time::from_secs(40)));
}

#[test]
fn a_deferral_waits_with_its_reason_and_a_delivery_ends() {
    let mut queue = queue();
    accept(&mut queue, 10, 1, &["a@x.example", "b@x.example"]);
    take(&mut queue, 10);
    queue.apply(Time::from_secs(11), &attempted(1, vec![(0, delivered()), (1, deferred(300))]));
    let views: Vec<View> = queue.views().collect();
    assert_eq!(views.len(), 1);
    assert_eq!(views[0].advice_id(), "greylisted");
    assert_eq!((views[0].next, views[0].attempts), (Some(Time::from_secs(300)), 1));
    assert!(queue.is_last(id(1), &[1]));
    queue.apply(Time::from_secs(301), &attempted(1, vec![(1, delivered())]));
    queue.apply(Time::from_secs(301), &Event::Retired(id(1)));
    assert!(queue.is_empty());
    assert_eq!((queue.lanes.len(), queue.names.len()), (0, 0), "an empty lane is forgotten");
}

#[test]
fn a_parked_lane_waits_without_touching_its_deliveries() {
    let mut queue = queue();
    accept(&mut queue, 10, 1, &["a@x.example"]);
    accept(&mut queue, 11, 2, &["b@x.example"]);
    accept(&mut queue, 12, 3, &["c@y.example"]);
    let (lane, first, _) = queue.take(Time::from_secs(20), 100).unwrap();
    assert_eq!(first, id(1));
    queue.park(lane, Some(Parking::Full));
    assert_eq!(take(&mut queue, 20).map(|t| t.0), Some(id(3)));
    assert_eq!(take(&mut queue, 20), None);
    let waiting = queue.views().find(|v| v.delivery.message == id(2)).unwrap();
    assert_eq!(waiting.hold.unwrap().limit, "connections-per-next-hop");
    queue.park(lane, None);
    assert_eq!(take(&mut queue, 20).map(|t| t.0), Some(id(2)));
}

#[test]
fn what_is_held_waits_until_it_is_released() {
    let mut queue = queue();
    accept(&mut queue, 10, 1, &["a@x.example"]);
    let delivery = DeliveryId { message: id(1), recipient: 0 };
    let hold = hold();
    take(&mut queue, 10);
    queue.apply(Time::from_secs(11), &Event::Held { delivery, hold: hold.clone() });
    queue.apply(Time::from_secs(12), &attempted(1, vec![(0, deferred(20))]));
    let view = queue.views().next().unwrap();
    assert_eq!((view.class, view.next, view.hold), (Class::Held, None, Some(hold)));
    assert_eq!(take(&mut queue, 1_000), None);
    let until = Time::from_secs(50);
    queue.apply(Time::from_secs(13), &Event::Released { delivery, until });
    assert_eq!(take(&mut queue, 49), None);
    assert_eq!(take(&mut queue, 50), Some((id(1), vec![0])));
}

#[test]
fn what_is_held_and_released_during_its_attempt_is_not_tried_twice() {
    let mut queue = queue();
    accept(&mut queue, 10, 1, &["a@x.example"]);
    let delivery = DeliveryId { message: id(1), recipient: 0 };
    let hold = hold();
    take(&mut queue, 10);
    queue.apply(Time::from_secs(11), &Event::Held { delivery, hold });
    queue.apply(Time::from_secs(12), &Event::Released { delivery, until: Time::from_secs(12) });
    assert_eq!(take(&mut queue, 100), None);
    queue.apply(Time::from_secs(101), &attempted(1, vec![(0, deferred(300))]));
    assert_eq!(take(&mut queue, 299), None);
    assert_eq!(take(&mut queue, 300), Some((id(1), vec![0])));
}

#[test]
fn no_route_is_a_lane_of_its_own() {
    let mut queue = queue();
    accept(&mut queue, 10, 1, &["a@nowhere.test"]);
    let (lane, _, _) = queue.take(Time::from_secs(10), 1).unwrap();
    assert_eq!(queue.lane_key(lane), Some(&LaneKey::Unrouted(domain("nowhere.test"))));
}

fn reroute(rule: Option<&str>, until: u64) -> Event {
    reroute_of(DeliveryId { message: id(1), recipient: 0 }, rule, until)
}

fn reroute_of(delivery: DeliveryId, rule: Option<&str>, until: u64) -> Event {
    Event::Rerouted { delivery, rule: rule.map(Arc::from), until: Time::from_secs(until) }
}

/// The lane in which the first delivery of the first message is due, once it has found it.
fn lane_found(queue: &mut Queue, secs: u64) -> LaneKey {
    let (lane, message, _) = queue.take(Time::from_secs(secs), 1).unwrap();
    assert_eq!((message, queue.lane_key(lane)), (id(1), Some(&LaneKey::Stale)));
    queue.find_lanes(&accepted(1, &["a@x.example", "b@y.example"]));
    let delivery = DeliveryId { message, recipient: 0 };
    queue.untake(delivery);
    queue.lane_key(queue.lane_of(delivery).unwrap()).unwrap().clone()
}

#[test]
fn what_an_operator_leads_another_way_goes_there_alone_until_the_rules_lead_it_again() {
    let mut queue = queue();
    accept(&mut queue, 10, 1, &["a@x.example", "b@y.example"]);
    queue.apply(Time::from_secs(11), &attempted(1, vec![(0, deferred(500)), (1, deferred(600))]));
    let delivery = DeliveryId { message: id(1), recipient: 0 };
    queue.apply(Time::from_secs(12), &reroute(Some("smart"), 12));
    let (smart, direct) = (queue.router().place_of("smart"), queue.router().place_of("direct"));
    assert_eq!(lane_found(&mut queue, 12), LaneKey::Hop(smart.unwrap()));
    assert_eq!(queue.lanes().count(), 2, "nothing is stale");
    let facts = route::Facts {
        recipient: &domain("x.example"),
        reverse_path: &ReversePath(None),
        credential: None,
    };
    assert_eq!(queue.route(delivery, &facts).map(|route| route.rule), Some("smart".into()));
    assert!(queue.is_rerouted(delivery));
    let other = DeliveryId { message: id(1), recipient: 1 };
    assert_eq!(queue.route(other, &facts).map(|route| route.rule), Some("direct".into()));
    assert!(!queue.is_rerouted(other));
    queue.apply(Time::from_secs(13), &reroute(None, 13));
    let mx = LaneKey::Mx(direct.unwrap(), domain("x.example"));
    assert_eq!(lane_found(&mut queue, 13), mx);
    assert!(!queue.is_rerouted(delivery));
}

#[test]
fn the_way_that_an_operator_chose_survives_a_restart_and_a_rule_that_is_gone_decides_nothing() {
    let mut queue = queue();
    accept(&mut queue, 10, 1, &["a@x.example", "b@y.example"]);
    queue.apply(Time::from_secs(12), &reroute(Some("smart"), 12));
    let carried = queue.carried(&accepted(1, &["a@x.example", "b@y.example"])).unwrap();
    assert_eq!(carried.deliveries[0].1.rule.as_deref(), Some("smart"));
    assert_eq!(carried.deliveries[1].1.rule, None);
    let mut other = self::queue();
    other.apply(Time::from_secs(99), &Event::Carried(Box::new(carried.clone())));
    let delivery = DeliveryId { message: id(1), recipient: 0 };
    let smart = LaneKey::Hop(other.router().place_of("smart").unwrap());
    assert_eq!(other.lane_key(other.lane_of(delivery).unwrap()), Some(&smart));
    let mut router = other.router().clone();
    router.rules.remove(0);
    other.set_rules(router, domain("mx.ours.example"));
    assert!(!other.is_rerouted(delivery));
    let direct = LaneKey::Mx(other.router().place_of("direct").unwrap(), domain("x.example"));
    assert_eq!(lane_found(&mut other, 99), direct);
    // One of that name that refuses was not chosen either.
    let mut router = other.router().clone();
    let then = NextHop::Refuse(merpati_mail::route::Refusal { text: "no".to_owned() });
    router.rules.push(Rule { name: "smart".into(), when: vec![], then, attempts_max: None });
    other.set_rules(router, domain("mx.ours.example"));
    assert!(!other.is_rerouted(delivery));
    // What ends takes its way with it, and a name that comes again begins anew.
    other.apply(Time::from_secs(100), &Event::Cancelled(delivery));
    assert!(other.rerouted.is_empty());
}

#[test]
fn what_is_held_stays_held_on_its_new_way() {
    let mut queue = queue();
    accept(&mut queue, 10, 1, &["a@x.example"]);
    let delivery = DeliveryId { message: id(1), recipient: 0 };
    let hold = hold();
    queue.apply(Time::from_secs(11), &Event::Held { delivery, hold });
    queue.apply(Time::from_secs(12), &reroute(Some("smart"), 12));
    assert_eq!(take(&mut queue, 1_000), None);
    let until = Time::from_secs(20);
    queue.apply(Time::from_secs(13), &Event::Released { delivery, until });
    let smart = queue.router().place_of("smart").unwrap();
    assert_eq!(lane_found(&mut queue, 20), LaneKey::Hop(smart));
}

#[test]
fn a_stale_lane_that_empties_leaves_the_others_their_names() {
    let mut queue = queue();
    accept(&mut queue, 10, 1, &["a@x.example", "b@y.example"]);
    let (router, hostname) = (queue.router().clone(), domain("mx.ours.example"));
    queue.set_rules(router, hostname);
    queue.apply(Time::from_secs(12), &reroute(Some("smart"), 12));
    // The lane of x was stale by itself, and has gone; the second is that of the operator's.
    queue.apply(Time::from_secs(13), &reroute(None, 13));
    assert_eq!(queue.lanes().count(), 2);
    let delivery = DeliveryId { message: id(1), recipient: 0 };
    assert_eq!(queue.names.get(&LaneKey::Stale), queue.lane_of(delivery).as_ref());
}

#[test]
fn a_carried_message_is_the_same_message() {
    let mut queue = queue();
    accept(&mut queue, 10, 1, &["a@x.example", "b@y.example", "c@one.smart"]);
    queue.apply(Time::from_secs(11), &attempted(1, vec![(0, delivered()), (1, deferred(300))]));
    let before: Vec<View> = queue.views().collect();
    let carried = queue.carried(&accepted(1, &["a@x.example", "b@y.example", "c@one.smart"]));
    let mut other = self::queue();
    let event = Event::Carried(Box::new(carried.unwrap()));
    other.apply(Time::from_secs(99), &event);
    assert_eq!(other.views().collect::<Vec<View>>(), before);
    queue.apply(Time::from_secs(99), &event);
    assert_eq!(queue.views().collect::<Vec<View>>(), before);
    assert_eq!(queue.accepted_at(id(1)), other.accepted_at(id(1)));
}

#[test]
fn the_views_of_a_message_are_those_of_its_living_deliveries() {
    let mut queue = queue();
    accept(&mut queue, 10, 1, &["a@x.example", "b@y.example", "c@one.smart"]);
    accept(&mut queue, 10, 2, &["a@x.example"]);
    queue.apply(Time::from_secs(11), &attempted(1, vec![(0, delivered()), (1, deferred(300))]));
    let views: Vec<View> = queue.views_of(id(1)).collect();
    let of_all: Vec<View> = queue.views().filter(|view| view.delivery.message == id(1)).collect();
    assert_eq!(views, of_all);
    let places: Vec<u32> = views.iter().map(|view| view.delivery.recipient).collect();
    assert_eq!(places, [1, 2]);
    assert_eq!(queue.views_of(id(9)).count(), 0);
}

#[test]
fn events_about_what_is_gone_change_nothing() {
    let mut queue = queue();
    accept(&mut queue, 10, 1, &["a@x.example"]);
    queue
        .apply(Time::from_secs(11), &Event::Cancelled(DeliveryId { message: id(1), recipient: 0 }));
    queue.apply(Time::from_secs(11), &Event::Retired(id(1)));
    for event in [
        attempted(1, vec![(0, deferred(300))]),
        Event::Cancelled(DeliveryId { message: id(1), recipient: 0 }),
        Event::Released {
            delivery: DeliveryId { message: id(1), recipient: 7 },
            until: Time::EPOCH + Duration::from_secs(1),
        },
        Event::Retired(id(9)),
    ] {
        queue.apply(Time::from_secs(12), &event);
        assert!(queue.is_empty() && queue.deadline().is_none());
    }
}

#[test]
fn what_is_more_urgent_goes_first_among_what_is_due() {
    let mut queue = queue();
    for (counter, priority) in [(1, 0), (2, -9), (3, 9), (4, 4), (5, 9)] {
        accept_with(&mut queue, 100, counter, urgent(priority));
    }
    // The most urgent of all, but not due yet.
    accept_with(&mut queue, 102, 6, urgent(9));
    let order: Vec<QueueId> = std::iter::from_fn(|| take(&mut queue, 101)).map(|t| t.0).collect();
    assert_eq!(order, [3, 5, 4, 1, 2].map(id));
    assert_eq!(queue.deadline(), Some(Time::from_secs(102)));
    assert_eq!(take(&mut queue, 102), Some((id(6), vec![0])));
    assert_eq!(queue.deadline(), None);
}

#[test]
fn the_least_urgent_waits_at_most_eighteen_minutes_longer() {
    let mut queue = queue();
    let low_at = 1_000;
    accept_with(&mut queue, low_at, 1, urgent(-9));
    let mut counter = 1;
    // Every ten seconds two of the most urgent come, and one may go.
    let mut taken_at = None;
    for secs in (low_at..low_at + 3_600).step_by(10) {
        for _ in 0..2 {
            counter += 1;
            accept_with(&mut queue, secs, counter, urgent(9));
        }
        let (first, _) = take(&mut queue, secs).unwrap();
        if first == id(1) {
            taken_at = Some(secs);
            break;
        }
    }
    // Those that go before it came within 18 minutes; half of them have gone in that time.
    assert_eq!(taken_at, Some(low_at + 2 * 18 * 60));
}

#[test]
fn an_urgent_delivery_is_put_back_held_and_gone_like_any_other() {
    let mut queue = queue();
    accept_with(&mut queue, 10, 1, urgent(5));
    let delivery = DeliveryId { message: id(1), recipient: 0 };
    assert_eq!(take(&mut queue, 10), Some((id(1), vec![0])));
    queue.put_back(delivery, Time::from_secs(20));
    assert_eq!((take(&mut queue, 19), queue.deadline()), (None, Some(Time::from_secs(20))));
    let carried = queue.carried(&{
        let mut accepted = accepted(1, &["a@x.example"]);
        accepted.envelope.requests = urgent(5);
        accepted
    });
    queue.apply(Time::from_secs(21), &Event::Carried(Box::new(carried.unwrap())));
    accept_with(&mut queue, 19, 2, urgent(0));
    assert_eq!(take(&mut queue, 30), Some((id(1), vec![0])), "it is as urgent as before");
    queue.apply(Time::from_secs(31), &attempted(1, vec![(0, delivered())]));
    queue.apply(Time::from_secs(31), &Event::Retired(id(1)));
    queue
        .apply(Time::from_secs(31), &Event::Cancelled(DeliveryId { message: id(2), recipient: 0 }));
    queue.apply(Time::from_secs(31), &Event::Retired(id(2)));
    assert!(queue.is_empty() && queue.lanes.is_empty() && queue.agenda.is_empty());
}

#[test]
fn what_is_to_be_released_later_waits_with_the_reason_and_has_no_age_before() {
    let mut queue = queue();
    let release_at = Some(Time::from_secs(500));
    let requests = Requests { release_at, ..Requests::default() };
    accept_with(&mut queue, 100, 1, requests.clone());
    assert_eq!(take(&mut queue, 499), None);
    let view = queue.views().next().unwrap();
    assert_eq!((view.class, view.next), (Class::NotTried, release_at));
    let hold = view.hold.unwrap();
    assert_eq!((hold.limit.as_str(), hold.until), ("future-release", release_at));
    assert_eq!(queue.released_at(id(1)), release_at);
    // After a restart all of it is the same.
    let mut again = self::queue();
    accept_with(&mut again, 100, 1, requests);
    assert_eq!(again.views().collect::<Vec<View>>(), queue.views().collect::<Vec<View>>());
    assert_eq!(take(&mut queue, 500), Some((id(1), vec![0])));
    queue.apply(Time::from_secs(501), &attempted(1, vec![(0, deferred(800))]));
    let view = queue.views().next().unwrap();
    assert_eq!(
        (view.class, view.next, view.hold),
        (Class::Greylisted, Some(Time::from_secs(800)), None)
    );
    queue.apply(Time::from_secs(900), &Event::Retired(id(1)));
    assert!(queue.terms.is_empty());
}

#[test]
fn an_operator_may_send_at_once_what_was_to_be_released_later() {
    let mut queue = queue();
    let requests = Requests { release_at: Some(Time::from_secs(500)), ..Requests::default() };
    accept_with(&mut queue, 100, 1, requests);
    let delivery = DeliveryId { message: id(1), recipient: 0 };
    let until = Time::from_secs(110);
    queue.apply(Time::from_secs(110), &Event::Released { delivery, until });
    assert_eq!(queue.views().next().unwrap().hold, None);
    assert_eq!(take(&mut queue, 110), Some((id(1), vec![0])));
}

/// What may happen to the first messages: numbers are all that it takes.
fn event(queue: &Queue, kind: u8, counter: u32, recipient: u32, secs: u64) -> Event {
    let delivery = DeliveryId { message: id(counter), recipient };
    let recipients = ["a@x.example", "b@two.smart", "c@elsewhere.test", "d@x.example"];
    let mut told = accepted(counter, recipients.get(..=recipient as usize).unwrap_or_default());
    match kind {
        0..=3 => {
            let requests = &mut told.envelope.requests;
            requests.priority = Priority::new(i8::try_from(secs % 3).unwrap_or(0));
            requests.release_at = secs.is_multiple_of(5).then(|| Time::from_secs(secs + 7));
            Event::Accepted(Box::new(told))
        }
        4..=6 => attempted(counter, vec![(recipient, deferred(secs))]),
        7 => attempted(counter, vec![(recipient, delivered()), (recipient + 1, deferred(secs))]),
        8 => Event::Held { delivery, hold: hold() },
        9 => Event::Released { delivery, until: Time::from_secs(secs) },
        10 => reroute_of(delivery, (!secs.is_multiple_of(2)).then_some("smart"), secs),
        11 => Event::Delayed { message: id(counter), recipients: vec![recipient] },
        12 if secs.is_multiple_of(2) => Event::Cancelled(delivery),
        12 => Event::Expired { delivery, cause: cause() },
        13 => match queue.carried(&told) {
            Some(carried) => Event::Carried(Box::new(carried)),
            None => Event::ConfigChanged { digest: [0; 32] },
        },
        _ => Event::Retired(id(counter)),
    }
}

proptest! {
    #[test]
    fn a_fold_gives_the_queue_of_its_events(
        script in prop::collection::vec((0_u8..15, 0_u32..6, 0_u32..4, 0_u64..50), 0..60),
        then in prop::collection::vec((0_u8..15, 0_u32..6, 0_u32..4, 0_u64..50), 0..20),
    ) {
        let mut one_by_one = queue();
        let mut fold = Fold::new(one_by_one.router.clone(), one_by_one.hostname.clone());
        for (kind, counter, recipient, secs) in script {
            let event = event(&one_by_one, kind, counter, recipient, secs);
            one_by_one.apply(Time::from_secs(secs), &event);
            fold.apply(Time::from_secs(secs), &event);
            prop_assert_eq!(fold.len(), one_by_one.len());
        }
        let mut folded = fold.finish();
        prop_assert_eq!(format!("{folded:?}"), format!("{one_by_one:?}"));
        let late = Time::from_secs(1_000);
        for (kind, counter, recipient, secs) in then {
            let event = event(&one_by_one, kind, counter, recipient, secs);
            for queue in [&mut one_by_one, &mut folded] {
                queue.apply(Time::from_secs(secs), &event);
                let lane = queue.lanes().nth(recipient as usize);
                if let Some(lane) = lane {
                    queue.park(lane, secs.is_multiple_of(2).then_some(Parking::Full));
                }
                queue.find_lanes(&accepted(counter, &["a@x.example", "b@two.smart"]));
            }
        }
        prop_assert_eq!(format!("{folded:?}"), format!("{one_by_one:?}"));
        while let Some(taken) = one_by_one.take(late, 2) {
            prop_assert_eq!(folded.take(late, 2), Some(taken));
        }
        prop_assert_eq!(folded.take(late, 2), None);
    }
}

#[test]
fn sizes() {
    assert!(size_of::<Message>() <= 48, "{}", size_of::<Message>());
    assert!(size_of::<Delivery>() <= 40, "{}", size_of::<Delivery>());
    assert!(size_of::<lane::Entry>() <= 20);
}
