use merpati_mail::{Class, Hold};

use super::*;
use crate::queue::EnvelopeFacts;

const NOW: u64 = 1_795_467_600;

fn delivery() -> Delivery {
    Delivery {
        id: DeliveryId { message: QueueId::from_bits(0x0123_4567_89AB_CDEF), recipient: 1 },
        accepted_at: Time::from_secs(NOW - 600),
        standing: Standing::Waiting,
        class: Class::Throttled,
        code: None,
        next: Some(Time::from_secs(NOW + 60)),
        attempts: 3,
        hold: None,
        envelope: Some(EnvelopeFacts {
            reverse_path: "Bounces@shop.example".to_owned(),
            recipient: "ani@mail.example.id".to_owned(),
            via: None,
            size_bytes: 10_240,
            listener: "submission".to_owned(),
            credential: Some("Printer".to_owned()),
            route: None,
            is_rerouted: false,
        }),
    }
}

/// Whether the delivery is selected, and whether it could be before its envelope is read.
#[track_caller]
fn check(delivery: &Delivery, table: &[(&str, bool, bool)]) {
    let now = Time::from_secs(NOW);
    for (text, selects, may) in table {
        let selection = Selection::parse(text).unwrap();
        assert_eq!(selection.selects(delivery, now), *selects, "{text}");
        let unread = Delivery { envelope: None, ..delivery.clone() };
        assert_eq!(selection.may_select(&unread, now), *may, "{text}, unread");
        let is_sure = !selection.reads_envelopes();
        assert_eq!(selection.selects(&unread, now), *selects && is_sure, "{text}, unreadable");
    }
}

#[test]
fn a_delivery_is_selected_when_every_term_holds() {
    check(
        &delivery(),
        &[
            ("", true, true),
            ("from:bounces@", true, true),
            ("!from:bounces@", false, true),
            ("to:ani", true, true),
            ("domain:example.id", true, true),
            ("domain:@mail.example.id", true, true),
            ("domain:ample.id", false, true),
            ("domain:id", true, true),
            ("credential:printer", true, true),
            ("credential:print", false, true),
            ("listener:submission", true, true),
            ("shop", true, true),
            ("size>10k", false, true),
            ("size<1MiB", true, true),
            ("reason:throttled", true, true),
            ("reason:conn", false, false),
            ("reason:conn from:shop", false, false),
            ("!reason:conn to:ani", true, true),
            ("status:waiting", true, true),
            ("STATUS:Held", false, false),
            ("age>5m", true, true),
            ("age<5m", false, false),
            ("attempts>2", true, true),
            ("attempts<3", false, false),
            ("before:2026-11-23T21:00Z", true, true),
            ("after:2026-11-23T21:00Z", false, false),
            ("id:028t5", true, true),
            ("id:128t5", false, false),
            ("id:128t5,028T5CY4TQKFF", true, true),
            ("id:028T5CY4TQKFF.1", true, true),
            ("id:028T5CY4TQKFF.10", false, false),
            ("!id:028T5CY4TQKFF.2", true, true),
        ],
    );
}

#[test]
fn one_delivery_is_not_meant_by_the_name_of_another_that_begins_alike() {
    let tenth = DeliveryId { recipient: 10, ..delivery().id };
    let tenth = Delivery { id: tenth, ..delivery() };
    check(&tenth, &[("id:028T5CY4TQKFF.1", false, false), ("id:028T5CY4TQKFF.10", true, true)]);
}

#[test]
fn a_limit_is_the_reason_only_when_the_time_has_come() {
    let hold = Hold {
        limit: "connections-per-next-hop".to_owned(),
        value: "all in use".to_owned(),
        source: "options".to_owned(),
        until: None,
    };
    let early = Delivery { hold: Some(hold), ..delivery() };
    check(&early, &[("reason:connections", false, false), ("reason:throttled", true, true)]);
    let due = Delivery { next: Some(Time::from_secs(NOW)), ..early };
    check(&due, &[("reason:connections", true, true), ("reason:throttled", false, false)]);
}

#[test]
fn only_whole_ids_name_messages() {
    let (first, second) = ("028T5CY4TQKFF", "028T5CY4TQKFG");
    for (text, want) in [
        (String::new(), None),
        ("from:x".to_owned(), None),
        (format!("id:{first}"), Some(vec![first])),
        (format!("id:{second},{first}.3,{first} age>1h"), Some(vec![first, second])),
        (format!("!id:{first}"), None),
        (format!("id:{first},028T"), None),
    ] {
        let named = Selection::parse(&text).unwrap().named();
        let named = named.map(|ids| ids.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(named, want.map(|ids| ids.into_iter().map(String::from).collect()), "{text}");
    }
}

#[test]
fn what_is_not_a_selection_says_why_and_what_to_do() {
    for (text, want, advice) in [
        ("form:x", "`form:` is not a key of the query", "Did you mean `from:`?"),
        (
            "status:hold",
            "the value of `status:`: `hold` is not a status; did you mean `held`?",
            "Write status:waiting, status:attempting or status:held.",
        ),
        (
            "attempts>many",
            "the value of `attempts>`: a whole number is wanted",
            "Write attempts>3.",
        ),
        (
            "id:028T5CY4TQKFF.x",
            "the value of `id:`: `x` is not the number of a recipient",
            "Write id:028T5CY4TQKFF, or more ids with commas.",
        ),
        (
            "id:a,",
            "the value of `id:`: a queue id, or the beginning of one, is wanted",
            "Write id:028T5CY4TQKFF, or more ids with commas.",
        ),
    ] {
        let error = Selection::parse(text).unwrap_err();
        assert_eq!(error.to_string(), want, "{text}");
        assert_eq!(error.advice(), advice, "{text}");
    }
    let error = Selection::parse("subject:x").unwrap_err();
    assert!(error.advice().contains("reason:"), "{}", error.advice());
}
