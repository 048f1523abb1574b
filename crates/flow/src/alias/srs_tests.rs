//! Aliases where senders are rewritten.

use super::*;
use crate::srs::{Mac, tests::Mixed};

const NOW: Time = Time::from_secs(1_800_000_000);

/// The same, with senders rewritten into `ours.example`.
fn rewriting(lines: &[&str], known: &[&str]) -> Policy {
    let mac: Arc<dyn Mac> = Arc::new(Mixed(1));
    let srs = Srs::new(domain("ours.example"), mac);
    let policy = policy(lines, known);
    let aliases = Aliases::clone(policy.aliases.as_ref().unwrap()).with_srs(srs);
    Policy { aliases: Some(Arc::new(aliases)), ..policy }
}

fn later(days: u64) -> Time {
    Time::from_secs(NOW.as_secs() + days * 86_400)
}

/// The address under which mail of this sender is forwarded.
fn address_for(sender: &str) -> Mailbox {
    let policy = rewriting(&["x: y@far.example"], &[]);
    let reached = Reached { mailbox: mailbox("y@far.example"), owner: None };
    let from = ReversePath(Some(mailbox(sender)));
    let leaves = policy.aliases.unwrap().leaves(&from, &reached, NOW);
    let Leaves::Rewritten(mailbox) = leaves else { panic!("{sender}: {leaves:?}") };
    mailbox
}

/// The envelopes that become of one from this sender: from whom, and to whom.
fn left(lines: &[&str], from: &str, to: &[&str]) -> Vec<(String, Vec<String>)> {
    let to: Vec<(&str, Option<Notify>, Option<&str>)> =
        to.iter().map(|to| (*to, Some(ALL), None)).collect();
    let rewritten = rewritten(&rewriting(lines, &[]), &envelope(from, &to), NOW);
    let shown = rewritten.unwrap().unwrap().envelopes.into_iter().map(|envelope| {
        assert_eq!(envelope.envid.is_some(), !envelope.reverse_path.to_string().contains("owner"));
        let to = envelope.recipients.iter().map(|one| one.path.to_string()).collect();
        (envelope.reverse_path.to_string(), to)
    });
    shown.collect()
}

fn parts(all: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let owned = |to: &&[&str]| to.iter().map(|to| format!("<{to}>")).collect();
    all.iter().map(|(from, to)| (format!("<{from}>"), owned(to))).collect()
}

#[test]
fn what_an_alias_leads_outside_leaves_from_an_address_of_ours() {
    let lines = &["info: ani@ours.example budi@far.example", "one: citra@far.example"];
    let from = address_for("a@b.example").to_string();
    assert_eq!(
        left(lines, "a@b.example", &["info@ours.example", "one@old.example", "d@far.example"]),
        parts(&[
            ("a@b.example", &["ani@ours.example", "d@far.example"]),
            (&from, &["budi@far.example", "citra@far.example"]),
        ])
    );
    // Where nobody else gets it, there is one message.
    assert_eq!(
        left(lines, "a@b.example", &["one@ours.example"]),
        parts(&[(&from, &["citra@far.example"])])
    );
    // Our own people and reports leave as they are, and who is too long.
    let long = format!("{}@b.example", "x".repeat(50));
    for sender in ["ani@ours.example", "root@mx.ours.example", "", &long, "a@[192.0.2.1]"] {
        let want = parts(&[(sender, &["citra@far.example"])]);
        assert_eq!(left(lines, sender, &["one@ours.example"]), want);
    }
}

#[test]
fn a_list_is_from_its_owner_also_where_senders_are_rewritten() {
    let lines =
        &["team: ani@ours.example budi@far.example", "owner-team: boss", "one: c@far.example"];
    let from = address_for("a@b.example").to_string();
    assert_eq!(
        left(lines, "a@b.example", &["team@ours.example", "one@ours.example"]),
        parts(&[
            (&from, &["c@far.example"]),
            ("owner-team@ours.example", &["ani@ours.example", "budi@far.example"]),
        ])
    );
}

#[test]
fn what_is_asked_for_goes_along_to_who_is_forwarded_to() {
    let policy = rewriting(&["one: citra@far.example"], &[]);
    let given = envelope("a@b.example", &[("one@ours.example", Some(ALL), None)]);
    let rewritten = rewritten(&policy, &given, NOW).unwrap().unwrap();
    let [forwarded] = &rewritten.envelopes[..] else { panic!("{rewritten:?}") };
    let [recipient] = &forwarded.recipients[..] else { panic!("{rewritten:?}") };
    assert_eq!((forwarded.ret, forwarded.envid.as_deref()), (Some(Ret::Full), Some("e1")));
    assert_eq!(recipient.notify, Some(ALL));
    assert_eq!(recipient.orcpt.as_deref(), Some("rfc822;one@ours.example"));
}

/// The rule that decides about a recipient, and the code of a refusal.
fn decided_at(policy: &Policy, credential: Option<&str>, named: &Mailbox, now: Time) -> String {
    let null = ReversePath(None);
    let facts = admit::Facts {
        peer: "203.0.113.1".parse().unwrap(),
        credential,
        room: admit::Room::Roomy,
        reverse_path: Some(&null),
        now,
    };
    let stage = Stage::Recipient { path: ForwardPath::Mailbox(named.clone()), accepted_before: 0 };
    let step = admit::step(policy, &facts, &stage, &admit::Answers::default());
    let admit::Step::Verdict(verdict) = step else { panic!("{step:?}") };
    match verdict.decision {
        Decision::Refuse(reply) => format!("{} {}", reply.one_line(), verdict.rule),
        Decision::Accept | Decision::AcceptLowered(_) | Decision::Disconnect(_) => {
            verdict.rule.to_string()
        }
    }
}

#[test]
fn a_report_is_taken_where_the_address_is_ours_and_not_too_old() {
    // Nobody of this name is in the list, and who is not is refused.
    let policy = rewriting(&["@old.example: @ours.example"], &["ani@ours.example"]);
    let good = address_for("Ani@b.example");
    let lower = mailbox(&good.to_string().to_lowercase());
    let at = |local: &str, it: &str| Mailbox::new(local, domain(it)).unwrap();
    for (named, now, want) in [
        (good.clone(), NOW, "srs"),
        (lower, NOW, "srs"),
        (at(good.local(), "old.example"), NOW, "srs"),
        (good.clone(), later(21), "srs"),
        (good.clone(), later(22), "550 5.7.1"),
        (at("SRS0=AAAAAAAA=AA=b.example=Ani", "ours.example"), NOW, "550 5.7.1"),
        (at("SRS0=AAAAAAAA=AA=b.example=Ani", "old.example"), NOW, "550 5.7.1"),
        (at("SRS1=AAAAAAAA=b.example==x", "ours.example"), NOW, "550 5.7.1"),
        // Neither is anything for other domains, ours or not.
        (at(good.local(), "other.example"), NOW, "elsewhere"),
        (mailbox("Ani@b.example"), NOW, "elsewhere"),
    ] {
        for kind in [ListenerKind::Relay, ListenerKind::Submission] {
            let policy = Policy { kind, ..policy.clone() };
            let credential = (kind == ListenerKind::Submission).then_some("ani");
            let decided = decided_at(&policy, credential, &named, now);
            // Our own people may send everywhere, and no further by such an address.
            let want = match (want, credential) {
                ("elsewhere", Some(_)) => "auth",
                ("elsewhere", None) => "550 5.7.1",
                (want, _) => want,
            };
            assert!(decided.starts_with(want), "{named}: {decided}, not {want}");
        }
    }
    let of = |named: &Mailbox, now| decided_at(&policy, None, named, now);
    assert!(of(&good, later(30)).ends_with(" srs-expired"));
    assert!(of(&at("SRS0=x=y=z=a", "ours.example"), NOW).ends_with(" srs-unknown"));
    // Without rewriting, such a name is one like others.
    let plain = super::policy(&["one: x@far.example"], &["ani@ours.example"]);
    assert!(decided_at(&plain, None, &good, NOW).ends_with(" recipient-unknown"));
}

#[test]
fn a_confined_credential_and_what_is_internal_stay_inside() {
    let policy = rewriting(&["x: y@far.example"], &[]);
    let good = address_for("a@b.example");
    assert!(decided_at(&policy, Some("fax"), &good, NOW).ends_with(" internal-credential"));
    // A stranger says which host was the first; we say who may write to it.
    let inside = address_for("SRS1=h=new.example==x@b.example");
    assert!(decided_at(&policy, None, &inside, NOW).ends_with(" internal-domain"));
}

#[test]
fn a_report_goes_to_who_sent_the_message() {
    let policy = rewriting(&["x: y@far.example", "ani@ours.example: citra@far.example"], &[]);
    let report = |named: &Mailbox, now| {
        let given = envelope("", &[(&named.to_string(), None, None)]);
        let rewritten = rewritten(&policy, &given, now);
        rewritten.map(|it| it.unwrap().envelopes.remove(0))
    };
    let good = address_for("a@b.example");
    let envelope = report(&good, NOW).unwrap();
    assert!(envelope.reverse_path.is_null());
    assert_eq!(envelope.recipients[0].path, path("a@b.example"));
    assert_eq!(envelope.recipients[0].via(), Some(good.to_string()));
    // It grew too old while it was sent.
    let Err(refused) = report(&good, later(22)) else { panic!("it is taken") };
    assert_eq!(refused.rule, "srs-expired");
    // Another forwarder has it next, and of two who guard each other's addresses the first.
    let guarded = address_for("SRS0=h=tt=a.example=x@b.example");
    assert_eq!(
        report(&guarded, NOW).unwrap().recipients[0].path,
        path("SRS0=h=tt=a.example=x@b.example")
    );
    let came_back = format!("SRS1=h=ours.example={}@b.example", &good.local()[4..]);
    let came_back = address_for(&came_back);
    assert_eq!(report(&came_back, NOW).unwrap().recipients[0].path, path("a@b.example"));
    assert_eq!(report(&came_back, later(22)).unwrap_err().rule, "srs-expired");
    // Who names us as the first host must have had the address from us.
    let ours = address_for("SRS1=h=ours.example==x@b.example");
    assert_eq!(report(&ours, NOW).unwrap_err().rule, "srs-unknown");
}

#[test]
fn what_others_send_to_such_an_address_is_forwarded_for_them() {
    let good = address_for("a@b.example").to_string();
    let from = address_for("c@d.example").to_string();
    assert_eq!(
        left(&["x: y@far.example"], "c@d.example", &[&good]),
        parts(&[(&from, &["a@b.example"],)])
    );
}

#[test]
fn our_own_reports_go_to_who_sent_the_message_however_late() {
    let policy = rewriting(&["x: y@far.example"], &[]);
    let aliases = policy.aliases.unwrap();
    let good = address_for("a@b.example");
    assert_eq!(aliases.originator(&good), mailbox("a@b.example"));
    let guarded = format!("SRS1=h=ours.example={}@b.example", &good.local()[4..]);
    assert_eq!(aliases.originator(&address_for(&guarded)), mailbox("a@b.example"));
    for other in ["a@b.example", "SRS0=a=b=c=d@ours.example", "ani@ours.example"] {
        assert_eq!(aliases.originator(&mailbox(other)), mailbox(other));
    }
}
