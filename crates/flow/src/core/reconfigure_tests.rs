//! Other rules and limits while mail waits and attempts go on.

use super::*;

/// Options as those of the world, with one rule of this name that leads there.
fn leading(name: &str, then: NextHop) -> Options {
    let when = vec![Condition::RecipientBelow(domain("example"))];
    let rules = vec![Rule { name: name.into(), when, then, attempts_max: None }];
    Options::new(domain("mx.ours.example"), Router { rules })
}

fn smart_host() -> NextHop {
    NextHop::Hosts(vec![HostPort { host: domain("smart.example"), port: 587 }])
}

#[test]
fn what_waits_follows_the_rules_of_today_when_it_is_due() {
    let mut world = World::new();
    world.accept(1, "a@ours.example", &["x@one.example", "y@two.example"]);
    world.run(&one_host(), &|_| says(451, (4, 7, 1)));
    world.log();
    let next =
        |world: &World| -> Vec<Option<Time>> { world.core.views().map(|view| view.next).collect() };
    let waits = next(&world);
    world.core.reconfigure(leading("smart", smart_host()));
    assert_eq!(next(&world), waits, "the times that were drawn stay");
    world.run(&one_host(), &|_| says(250, (2, 0, 0)));
    assert!(world.log().is_empty(), "nothing is due yet");
    world.now = world.now + Duration::from_hours(1);
    world.run(&one_host(), &|_| says(250, (2, 0, 0)));
    // Both recipients go by one rule now, and in one attempt.
    assert_eq!(world.log(), ["attempt smart.example:587 for 2", "Attempted+Retired"]);
    assert!(world.core.queue().is_empty() && world.core.jobs() == 0);
}

#[test]
fn what_no_rule_covers_any_more_waits_with_its_reason_and_goes_when_one_does() {
    let mut world = World::new();
    world.accept(1, "a@ours.example", &["x@one.example"]);
    let mut nothing = leading("none", smart_host());
    nothing.router.rules.clear();
    world.core.reconfigure(nothing);
    world.run(&one_host(), &|_| says(250, (2, 0, 0)));
    let view = world.core.views().next().unwrap();
    assert_eq!((view.class, world.log()), (Class::NoRoute, vec!["Attempted".to_owned()]));
    world.core.reconfigure(leading("direct", NextHop::Mx));
    world.now = world.now + Duration::from_hours(5);
    world.run(&one_host(), &|_| says(250, (2, 0, 0)));
    assert_eq!(world.log().last().unwrap(), "Attempted+Retired");
    assert!(world.core.queue().is_empty());
}

#[test]
fn an_operator_leads_what_waits_another_way_at_once() {
    let mut world = World::new();
    let id = world.accept(1, "a@ours.example", &["x@one.example", "y@two.example"]);
    let mut options = leading("direct", NextHop::Mx);
    let never = vec![Condition::RecipientBelow(domain("test"))];
    let smart = Rule { name: "smart".into(), when: never, then: smart_host(), attempts_max: None };
    options.router.rules.push(smart);
    world.core.reconfigure(options);
    world.run(&one_host(), &|_| says(451, (4, 7, 1)));
    world.log();
    let delivery = DeliveryId { message: id, recipient: 1 };
    world.core.handle(world.now, Input::Reroute(delivery, Some("smart".into())));
    world.run(&one_host(), &|_| says(250, (2, 0, 0)));
    let log = world.log();
    assert_eq!(log, ["Rerouted", "attempt smart.example:587 for 1", "Attempted"]);
    assert_eq!(world.core.queue().len(), 1);
}

#[test]
fn what_is_being_tried_is_not_led_elsewhere_and_what_is_led_elsewhere_is_not_tried_before() {
    let mut world = World::new();
    let id = world.accept(1, "a@ours.example", &["x@one.example"]);
    let delivery = DeliveryId { message: id, recipient: 0 };
    let reroute = || Input::Reroute(delivery, Some("direct".into()));
    // While DNS is asked.
    let Some(Output::Load(job, _)) = world.core.poll(world.now) else { panic!() };
    let loaded = Loaded { accepted: world.messages[&id].clone(), header: Bytes::new() };
    world.core.handle(world.now, Input::Loaded(job, Some(Arc::new(loaded))));
    let Some(Output::Ask(question)) = world.core.poll(world.now) else { panic!() };
    world.core.handle(world.now, reroute());
    assert!(world.core.poll(world.now).is_none());
    world.core.handle(world.now, Input::Answered(question, Answer::Mx(one_host())));
    world.run(&one_host(), &|_| says(451, (4, 7, 1)));
    assert_eq!(world.log(), ["attempt mx.there.example:25 for 1", "Attempted"]);
    // It is due, and the journal takes its time.
    world.now = world.now + Duration::from_hours(1);
    world.core.handle(world.now, reroute());
    let Some(Output::Commit(token, group)) = world.core.poll(world.now) else { panic!() };
    assert!(world.core.poll(world.now).is_none());
    world.core.handle(world.now, reroute());
    assert!(world.core.poll(world.now).is_none(), "one change at a time");
    world.commit(token, &group);
    world.run(&one_host(), &|_| says(250, (2, 0, 0)));
    assert_eq!(world.log().last().unwrap(), "Attempted+Retired");
    assert!(world.core.queue().is_empty() && world.core.jobs() == 0);
}

#[test]
fn what_is_to_be_held_for_a_time_is_not_tried_before_on_another_way_either() {
    let mut world = World::new();
    let release_at = Some(world.now + Duration::from_hours(2));
    let requests = Requests { release_at, ..Requests::default() };
    let id = world.accept_with(1, "a@ours.example", &["x@one.example"], requests);
    let delivery = DeliveryId { message: id, recipient: 0 };
    world.core.handle(world.now, Input::Reroute(delivery, Some("direct".into())));
    world.run(&one_host(), &|_| says(250, (2, 0, 0)));
    assert_eq!(world.log(), ["Rerouted"]);
    assert_eq!(world.core.views().next().unwrap().next, release_at);
}

#[test]
fn an_attempt_that_goes_on_ends_as_it_began_while_the_rules_change() {
    let mut world = World::new();
    let id = world.accept(1, "a@ours.example", &["x@one.example"]);
    let mut jobs = Vec::new();
    while let Some(output) = world.core.poll(world.now) {
        match output {
            Output::Ask(question) => {
                let answer = Answer::Mx(one_host());
                world.core.handle(world.now, Input::Answered(question, answer));
            }
            Output::Load(job, id) => {
                let accepted = world.messages[&id].clone();
                let loaded = Loaded { accepted, header: Bytes::from_static(b"\r\n") };
                world.core.handle(world.now, Input::Loaded(job, Some(Arc::new(loaded))));
            }
            Output::Attempt(job) => jobs.push(job),
            Output::Commit(token, group) => world.commit(token, &group),
        }
    }
    let [job] = jobs.as_slice() else { panic!("{jobs:?}") };
    // Twice: the second time nothing is left of the rules by which it was taken.
    world.core.reconfigure(leading("smart", smart_host()));
    world.core.reconfigure(leading("other", NextHop::Mx));
    assert!(world.core.queue().is_taken(DeliveryId { message: id, recipient: 0 }));
    world.attempt(job, &|_| says(450, (4, 2, 1)));
    world.run(&one_host(), &|_| says(250, (2, 0, 0)));
    assert_eq!(world.core.queue().len(), 1);
    world.now = world.now + Duration::from_hours(1);
    world.run(&one_host(), &|_| says(250, (2, 0, 0)));
    assert!(world.core.queue().is_empty() && world.core.jobs() == 0);
}

#[test]
fn limits_hold_at_once_where_the_rules_stay() {
    let mut world = World::new();
    let mut options = leading("direct", NextHop::Mx);
    options.jobs_per_lane_max = 1;
    world.core.reconfigure(options.clone());
    for counter in 0..6 {
        world.accept(counter, "a@ours.example", &["x@one.example"]);
    }
    let mut begun = 0;
    let mut count = |world: &mut World| {
        while let Some(output) = world.core.poll(world.now) {
            begun += usize::from(matches!(output, Output::Load(..)));
        }
        begun
    };
    assert_eq!(count(&mut world), 1);
    options.jobs_per_lane_max = 4;
    options.retry.first = Duration::from_secs(1);
    world.core.reconfigure(options);
    assert_eq!(count(&mut world), 4);
}

#[test]
fn a_message_for_which_dns_is_asked_while_the_rules_change_goes_by_those_of_today() {
    let mut world = World::new();
    let id = world.accept(1, "a@ours.example", &["x@one.example"]);
    let mut asked = None;
    while let Some(output) = world.core.poll(world.now) {
        match output {
            Output::Ask(question) => asked = Some(question),
            Output::Load(job, id) => {
                let accepted = world.messages[&id].clone();
                let loaded = Loaded { accepted, header: Bytes::from_static(b"\r\n") };
                world.core.handle(world.now, Input::Loaded(job, Some(Arc::new(loaded))));
            }
            other @ (Output::Attempt(_) | Output::Commit(..)) => panic!("{other:?}"),
        }
    }
    world.core.reconfigure(leading("smart", smart_host()));
    world.core.handle(world.now, Input::Answered(asked.unwrap(), Answer::Mx(one_host())));
    world.run(&one_host(), &|_| says(250, (2, 0, 0)));
    assert_eq!(world.log(), ["attempt smart.example:587 for 1", "Attempted+Retired"]);
    assert!(world.core.queue().accepted_at(id).is_none());
}
