use merpati_mail::{DeliveryId, NodeId};

use super::*;
use crate::queue::{EnvelopeFacts, Standing as Stands};

const NOW: Time = Time::from_secs(1_795_467_600);

fn id() -> QueueId {
    QueueId::new(NodeId::default(), 1, 7)
}

fn taken() -> Taken {
    Taken {
        at: Time::from_secs(1_795_467_000),
        is_captured: false,
        listener: "mx".to_owned(),
        peer: Some("192.0.2.1:5000".parse().unwrap()),
        hello: "client.example".to_owned(),
        protocol: "ESMTPS".to_owned(),
        tls: Some("TLSv1.3".to_owned()),
        credential: None,
        reverse_path: "shop@a.example".to_owned(),
        originator: None,
        recipients: vec!["ani@b.example".to_owned(), "budi@sub.c.example".to_owned()],
        via: vec!["staff@c.example".to_owned()],
        recipients_count: 2,
        message_id: Some("1@a.example".to_owned()),
        size_bytes: 1_234,
    }
}

fn attempt() -> Attempt {
    Attempt {
        host: Some("mx.b.example".to_owned()),
        address: Some("192.0.2.9:25".to_owned()),
        tls: None,
        policy: None,
        took: Duration::from_millis(12),
        transcript: Vec::new(),
    }
}

fn trouble(class: Class, reply: &str) -> Trouble {
    Trouble { class, reply: reply.to_owned() }
}

fn step(recipients: &[u32], what: Happened) -> Step {
    Step { at: Time::from_secs(1_795_467_060), recipients: recipients.to_vec(), what }
}

fn story(steps: Vec<Step>) -> Story {
    Story { id: id(), taken: Some(taken()), steps, living: Vec::new() }
}

/// A delivery that still lives.
fn living(standing: Stands, class: Class, next: Option<Time>) -> Delivery {
    Delivery {
        id: DeliveryId { message: id(), recipient: 0 },
        accepted_at: Time::from_secs(1_795_467_000),
        standing,
        class,
        code: None,
        next,
        attempts: 1,
        hold: None,
        envelope: Some(EnvelopeFacts {
            reverse_path: "shop@a.example".to_owned(),
            recipient: "ani@b.example".to_owned(),
            via: None,
            size_bytes: 1_234,
            listener: "mx".to_owned(),
            credential: None,
            route: None,
            is_rerouted: false,
        }),
    }
}

#[test]
fn mail_is_found_by_its_names_and_its_envelope() {
    for (query, want) in [
        (id().to_string().as_str(), true),
        ("id:000", true),
        (&format!("{}.1", id()), true),
        ("ani@b.example", true),
        ("ANI@", true),
        ("shop", true),
        ("<1@a.example>", true),
        ("message-id:<1@a.example>", true),
        ("from:ani", false),
        ("to:budi from:shop", true),
        ("domain:c.example", true),
        ("domain:xc.example", false),
        ("staff@", true),
        ("age<1h", true),
        ("age>1h", false),
        ("!to:ani", false),
        ("nobody@", false),
    ] {
        let means = TraceQuery::parse(query).unwrap().means(id(), &taken(), NOW);
        assert_eq!(means, want, "{query}");
    }
    let named = |text: &str| TraceQuery::parse(text).unwrap().named();
    assert_eq!(named(&id().to_string()), Some(id()));
    assert_eq!(named(&format!("{}.0", id())), Some(id()));
    assert_eq!(named("id:000"), None);
    assert!(TraceQuery::parse("  ").unwrap().is_empty());
    assert!(TraceQuery::parse("form:x").is_err());
}

#[test]
fn refused_mail_is_found_by_who_it_was_from_and_for() {
    let mail = RefusedMail {
        at: Time::from_secs(1_795_467_000),
        listener: "mx".to_owned(),
        peer: Some("192.0.2.1:5000".parse().unwrap()),
        hello: "client.example".to_owned(),
        reverse_path: "shop@a.example".to_owned(),
        recipient: Some("nobody@b.example".to_owned()),
        rule: "recipient-unknown".to_owned(),
        reply: "550 5.1.1 no such user".to_owned(),
    };
    for (query, want) in [("nobody@b.example", true), ("to:shop", false), ("id:000", false)] {
        assert_eq!(TraceQuery::parse(query).unwrap().means_refused(&mail, NOW), want, "{query}");
    }
    assert_eq!(
        mail.sentence(),
        "Refused to client.example [192.0.2.1] by listener mx, rule recipient-unknown: 550 5.1.1 \
         no such user"
    );
}

#[test]
fn each_state_has_its_sentence_and_an_advice() {
    let deferred = Happened::Deferred {
        trouble: trouble(Class::Greylisted, "451 4.7.1 later"),
        until: Time::from_secs(1_795_468_000),
        attempt: attempt(),
    };
    let delivered = Happened::Delivered { reply: "250 2.0.0 ok".to_owned(), attempt: attempt() };
    let failed = Happened::Failed {
        trouble: trouble(Class::MailboxUnknown, "550 5.1.1 who?"),
        attempt: attempt(),
    };
    let expired = Happened::Expired(trouble(Class::Connection, "421 4.4.1 no answer"));
    let held = Happened::Held { limit: "operator".to_owned(), value: "odd".to_owned() };
    for (what, state, part) in [
        (
            delivered,
            State::Delivered,
            "Delivered to mx.b.example [192.0.2.9:25] (without TLS, 12 ms): 250 2.0.0 ok",
        ),
        (failed, State::Failed, "mx.b.example said: 550 5.1.1 who?"),
        (expired, State::Expired, "as long as the retry plan allows"),
        (Happened::Cancelled, State::Cancelled, "An operator gave it up."),
        // These must be in the queue; where they are not, nobody knows.
        (deferred, State::Unknown, "the history does not tell how"),
        (held, State::Unknown, "the history does not tell how"),
    ] {
        let standings = story(vec![step(&[0], what)]).standings(NOW);
        let standing = &standings[0];
        assert_eq!(standing.state, state, "{standing:?}");
        assert!(standing.sentence.contains(part), "{standing:?}");
        assert!(standing.advice.ends_with('.'), "{standing:?}");
        assert_eq!(standing.recipient.as_deref(), Some("ani@b.example"));
        assert_eq!(standings[1].state, State::Unknown);
    }
    let captured = Taken { is_captured: true, ..taken() };
    let captured = Story { taken: Some(captured), ..story(Vec::new()) };
    assert_eq!(captured.standings(NOW)[0].state, State::Captured);
}

#[test]
fn what_still_waits_is_told_as_the_queue_tells_it() {
    let until = Time::from_secs(1_795_468_000);
    let deferred = Happened::Deferred {
        trouble: trouble(Class::Greylisted, "451 4.7.1 later"),
        until,
        attempt: attempt(),
    };
    for (stands, class, state) in [
        (Stands::Waiting, Class::Greylisted, State::Waiting),
        (Stands::Attempting, Class::Greylisted, State::Attempting),
        (Stands::Held, Class::Held, State::Held),
    ] {
        let delivery = living(stands, class, Some(until));
        let sentence = delivery.reason(NOW).sentence;
        let mut story = story(vec![step(&[0], deferred.clone())]);
        story.living = vec![delivery];
        let standing = story.standings(NOW).remove(0);
        assert_eq!((standing.state, standing.next), (state, Some(until)));
        assert!(standing.sentence.starts_with(&sentence), "{standing:?}");
        assert!(standing.sentence.ends_with("mx.b.example said: 451 4.7.1 later"), "{standing:?}");
    }
    // The history may have forgotten how it came.
    let living = vec![living(Stands::Waiting, Class::Dns, None)];
    let unknown = Story { id: id(), taken: None, steps: Vec::new(), living };
    let standing = unknown.standings(NOW).remove(0);
    assert_eq!(standing.recipient.as_deref(), Some("ani@b.example"));
}

#[test]
fn how_a_message_came_is_one_sentence() {
    assert_eq!(
        taken().sentence(),
        "Accepted from client.example [192.0.2.1] by listener mx (ESMTPS over TLSv1.3): 1234 \
         octets for 2 recipients by way of staff@c.example."
    );
    let forwarded = Taken { originator: Some("ani@d.example".to_owned()), ..taken() };
    assert!(forwarded.sentence().ends_with(" of staff@c.example, forwarded for ani@d.example."));
    let own = Taken { peer: None, tls: None, recipients_count: 1, ..taken() };
    assert!(own.sentence().starts_with("Accepted from the relay itself by listener mx (ESMTPS): "));
}
