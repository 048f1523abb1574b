//! Times that are asked for with a message: until when it is delivered, and from when on.

use super::*;

/// A message that is to be delivered within so many seconds, tried by hosts that put it off; gives
/// the log, and when each line came, in seconds.
fn deliver_by(seconds: u64, mode: ByMode, rounds: usize) -> Vec<(u64, String)> {
    let mut world = World::new();
    let deadline = world.now + Duration::from_secs(seconds);
    let deliver_by = Some(DeliverBy { deadline, mode, is_traced: false });
    let requests = Requests { deliver_by, ..Requests::default() };
    let began = world.now;
    world.accept_with(1, "a@ours.example", &["u@there.example"], requests);
    let mut log = Vec::new();
    for _ in 0..rounds {
        world.run(&one_host(), &|_| says(450, (4, 2, 0)));
        let secs = world.now.since(began).as_secs();
        log.extend(world.log().into_iter().map(|line| (secs, line)));
        world.now = world.core.deadline().unwrap();
    }
    log
}

#[test]
fn what_is_not_delivered_in_time_is_returned_at_its_deadline() {
    let log = deliver_by(120, ByMode::Return, 2);
    let lines: Vec<(u64, &str)> = log.iter().map(|(secs, line)| (*secs, line.as_str())).collect();
    assert_eq!(lines[1..3], [(0, "attempt mx.there.example:25 for 1"), (0, "Attempted")]);
    // No host is asked any more.
    assert_eq!(lines[3], (120, "Attempted+Accepted+Retired"));
}

#[test]
fn what_is_late_during_its_attempt_is_returned_with_its_end() {
    let mut world = World::new();
    let deadline = world.now + Duration::from_secs(5);
    let deliver_by = Some(DeliverBy { deadline, mode: ByMode::Return, is_traced: false });
    let requests = Requests { deliver_by, ..Requests::default() };
    let id = world.accept_with(1, "a@ours.example", &["u@there.example"], requests);
    let Some(Output::Load(job, _)) = world.core.poll(world.now) else { panic!("it is due") };
    let accepted = world.messages[&id].clone();
    let loaded = Arc::new(Loaded { accepted, header: Bytes::new() });
    world.core.handle(world.now, Input::Loaded(job, Some(loaded)));
    let Some(Output::Ask(question)) = world.core.poll(world.now) else { panic!("it asks") };
    world.core.handle(world.now, Input::Answered(question, Answer::Mx(one_host())));
    let Some(Output::Attempt(job)) = world.core.poll(world.now) else { panic!("it tries") };
    world.now = deadline;
    world.attempt(&job, &|_| says(450, (4, 2, 0)));
    let Some(Output::Commit(_, group)) = world.core.poll(world.now) else { panic!("it ends") };
    let Event::Attempted(attempted) = &group.events[0].0 else { panic!("{group:?}") };
    let Outcome::Failed { cause } = &attempted.outcomes[0].1 else { panic!("{attempted:?}") };
    assert_eq!(
        (cause.class, cause.reply.enhanced.unwrap().to_string()),
        (Class::Expired, "5.4.7".to_owned())
    );
}

#[test]
fn what_is_held_for_its_author_keeps_its_five_days() {
    let mut world = World::new();
    let began = world.now;
    let release_at = began + Duration::from_hours(30 * 24);
    let requests = Requests { release_at: Some(release_at), ..Requests::default() };
    let id = world.accept_with(1, "a@ours.example", &["u@there.example"], requests);
    world.run(&one_host(), &|_| panic!("it is held"));
    assert_eq!(world.core.deadline(), Some(release_at));
    world.now = release_at;
    while world.core.queue().accepted_at(id).is_some() {
        world.run(&one_host(), &|_| says(450, (4, 2, 0)));
        world.now = world.core.deadline().unwrap();
    }
    assert!(world.now.since(began) > Duration::from_hours(34 * 24));
}

#[test]
fn what_cannot_be_read_is_due_again_at_its_deadline() {
    let mut world = World::new();
    let deadline = world.now + Duration::from_mins(2);
    let deliver_by = Some(DeliverBy { deadline, mode: ByMode::Return, is_traced: false });
    let requests = Requests { deliver_by, ..Requests::default() };
    world.accept_with(1, "a@ours.example", &["u@there.example"], requests);
    let Some(Output::Load(job, _)) = world.core.poll(world.now) else { panic!("it is due") };
    world.core.handle(world.now, Input::Loaded(job, None));
    world.run(&one_host(), &|_| panic!("it cannot be read"));
    assert_eq!(world.core.deadline(), Some(deadline));
    world.now = deadline;
    // Only the report goes out.
    world.run(&one_host(), &|path| {
        assert_eq!(path.to_string(), "<a@ours.example>");
        says(250, (2, 0, 0))
    });
    assert!(world.reports[0].contains("\r\nStatus: 5.4.7\r\n"), "{}", world.reports[0]);
}

#[test]
fn who_is_told_of_a_delay_is_told_until_when_it_is_tried() {
    let hours = Duration::from_hours;
    // Five days, unless the message is returned at its deadline before.
    for (mode, want) in [(ByMode::Return, hours(10)), (ByMode::Notify, hours(5 * 24))] {
        let mut world = World::new();
        let deadline = world.now + hours(10);
        let deliver_by = Some(DeliverBy { deadline, mode, is_traced: false });
        let requests = Requests { deliver_by, ..Requests::default() };
        let began = world.now;
        world.accept_with(1, "a@ours.example", &["u@there.example"], requests);
        while world.reports.is_empty() {
            world.run(&one_host(), &|_| says(450, (4, 2, 0)));
            world.now = world.core.deadline().unwrap();
        }
        let until = format!("\r\nWill-Retry-Until: {}\r\n", (began + want).rfc5322());
        assert!(world.reports[0].contains(&until), "{until} {}", world.reports[0]);
    }
}

#[test]
fn a_hand_over_is_owed_where_it_is_traced_or_nobody_keeps_the_time() {
    use Handover::{Final, Owed, Relayed, Reporting};
    let by = |mode, is_traced| Some(DeliverBy { deadline: Time::EPOCH, mode, is_traced });
    for (handover, by, is_offered, want) in [
        (Relayed, None, false, Relayed),
        (Relayed, by(ByMode::Notify, false), false, Owed),
        (Reporting, by(ByMode::Notify, false), false, Owed),
        (Reporting, by(ByMode::Notify, false), true, Reporting),
        (Reporting, by(ByMode::Return, false), true, Reporting),
        (Reporting, by(ByMode::Return, true), true, Owed),
        (Final, by(ByMode::Notify, true), false, Final),
    ] {
        assert_eq!(handover.timed(by, is_offered), want, "{handover:?} {by:?} {is_offered}");
    }
}
