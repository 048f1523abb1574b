use super::*;
use crate::sinks::History;

const ID: &str = "028T5CY4TQKFF";
const OTHER: &str = "028T5CY4TQKFG";

fn history(lines: &[String]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut history = History::open(folder.path(), 1 << 20).unwrap();
    for line in lines {
        history.write(format!("{line}\n").as_bytes()).unwrap();
    }
    folder
}

fn line(second: u32, event: &str, id: &str, more: &str) -> String {
    let time = format!("2026-11-29T10:00:{second:02}.000Z");
    format!(r#"{{"time":"{time}","event":"{event}","lsn":7,"node":0,"id":"{id}"{more}}}"#)
}

fn accepted(second: u32, id: &str, to: &str) -> String {
    let client = r#""listener":"mx","peer":"192.0.2.1:5","hello":"x","name":null"#;
    let how = r#""protocol":"ESMTP","tls":null,"cipher":null,"credential":null"#;
    let whom = format!(r#""from":"a@a.example","to":["{to}"],"recipients":1,"size":9"#);
    let more = format!(r#",{client},{how},{whom},"message_id":"m-{id}@a.example""#);
    line(second, "Accepted", id, &more)
}

#[track_caller]
fn found(folder: &tempfile::TempDir, query: &str, limit: usize) -> Traced {
    let now = Time::parse_rfc3339("2026-11-29T11:00:00Z").unwrap();
    look(folder.path(), &TraceQuery::parse(query).unwrap(), limit, (now, None)).unwrap()
}

#[test]
fn a_story_is_read_from_its_lines() {
    let said = r#","host":"mx.b.example","transcript":["C: RCPT TO:<ani@b.example>","S: 451"]"#;
    let to = r#""source":"any","host":"mx.b.example","address":"192.0.2.9:25""#;
    let later = r#""class":"greylisted","reply":"451 later","until":"2026-11-29T10:05:00.000Z""#;
    let deferred = format!(
        r#","attempt":1,{to},"ms":12,"outcomes":[{{"recipient":0,"outcome":"Deferred",{later}}}]"#
    );
    let ok = r#""outcome":"Delivered","reply":"250 ok""#;
    let done =
        format!(r#","attempt":2,{to},"tls":"TLSv1.3","ms":9,"outcomes":[{{"recipient":0,{ok}}}]"#);
    let held = r#","recipient":0,"limit":"operator","value":"odd","source":"x","until":null"#;
    let folder = history(&[
        accepted(1, ID, "ani@b.example"),
        accepted(2, OTHER, "budi@b.example"),
        "{\"torn".to_owned(),
        line(3, "Transcript", ID, said),
        line(3, "Attempted", ID, &deferred),
        line(4, "Held", ID, held),
        line(5, "Delayed", ID, r#","recipients":[0]"#),
        line(6, "Attempted", ID, &done),
    ]);
    let traced = found(&folder, "to:ani", 10);
    assert_eq!(traced.since, Time::parse_rfc3339("2026-11-29T10:00:01Z"));
    assert!(!traced.has_more && traced.refused.is_empty());
    let [story] = traced.stories.as_slice() else { panic!("{traced:?}") };
    assert_eq!(story.id.to_string(), ID);
    assert_eq!(story.taken.as_ref().unwrap().recipients, ["ani@b.example"]);
    let words: Vec<&str> = story.steps.iter().map(|step| step.what.word()).collect();
    assert_eq!(words, ["deferred", "held", "delayed", "delivered"]);
    assert!(story.steps.iter().all(|step| step.recipients == [0]));
    assert_eq!(story.steps[0].what.attempt().unwrap().transcript.len(), 2);
    assert!(story.steps[3].what.attempt().unwrap().transcript.is_empty());
    assert_eq!(story.steps[0].what.class(), Some(Class::Greylisted));
}

#[test]
fn the_newest_come_first_and_older_ones_are_named() {
    let folder = history(&[accepted(1, ID, "ani@b.example"), accepted(2, OTHER, "ani@b.example")]);
    let ids = |traced: &Traced| -> Vec<String> {
        traced.stories.iter().map(|story| story.id.to_string()).collect()
    };
    assert_eq!(ids(&found(&folder, "ani", 10)), [OTHER, ID]);
    let traced = found(&folder, "ani", 1);
    assert_eq!((ids(&traced), traced.has_more), (vec![OTHER.to_owned()], true));
    assert_eq!(ids(&found(&folder, &format!("<m-{ID}@a.example>"), 10)), [ID]);
    assert_eq!(ids(&found(&folder, ID, 10)), [ID]);
    assert!(found(&folder, "nobody", 10).stories.is_empty());
}

#[test]
fn refused_mail_is_read_from_the_end_of_its_session() {
    let who = r#""listener":"mx","peer":"192.0.2.1:5","hello":"x""#;
    let unknown = r#"{"from":"a@a.example","to":"nobody@b.example","rule":"recipient-unknown"}"#;
    let full = r#"{"from":"","to":null,"rule":"spool-full","reply":"452 4.3.1 no"}"#;
    let time = "2026-11-29T10:00:01.000Z";
    let session =
        format!(r#"{{"time":"{time}","event":"SessionEnded",{who},"refused":[{unknown},{full}]}}"#);
    let folder = history(&[session]);
    let traced = found(&folder, "nobody@", 10);
    assert_eq!(traced.refused.len(), 1);
    assert_eq!(traced.refused[0].rule, "recipient-unknown");
    assert_eq!(found(&folder, "age>1m", 10).refused.len(), 2);
}

#[test]
fn what_a_peer_said_is_never_taken_for_a_name() {
    let forged = accepted(1, ID, r#"x\",\"id\":\"028T5CY4TQKFG@b.example"#);
    assert_eq!(id_of(forged.as_bytes()).unwrap().to_string(), ID);
    assert_eq!(event_of(forged.as_bytes()), b"Accepted");
    assert_eq!(event_of(b"{}"), b"");
    assert_eq!(id_of(b"{\"id\":\"not an id\"}"), None);
}
