//! Who sent a message, whatever strangers' headers and zones hold.

use merpati_auth::{
    Facts, Message, check,
    dns::{Answer, Known, Question},
    results,
};

/// The checks end, ask for a bounded number of things, and what they say is two header fields,
/// whatever is in the message and in the DNS. Parts end with NUL: who sends, the message, and texts
/// of the DNS, of which a question gets one by its length.
pub fn provenance(octets: &[u8]) {
    let mut parts = octets.split(|octet| *octet == 0);
    let who = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let message = parts.next().unwrap_or_default();
    let pool: Vec<&[u8]> = parts.collect();
    let (helo, sender) = who.split_once('\n').unwrap_or((&who, ""));
    let authors = [helo.to_lowercase(), "example.org".to_owned()];
    let facts = Facts {
        address: "192.0.2.1".parse().expect("an address"),
        helo,
        sender: (!sender.is_empty()).then_some(sender),
        receiver: "mx.example.org",
        authors: &authors,
        now: 1_790_000_000,
    };
    let read = Message::read(message);
    let mut hasher = read.body_hasher();
    hasher.push(message.get(read.body_start()..).unwrap_or_default());
    let body = hasher.finish();
    let mut known = Known::default();
    let mut rounds = 0;
    let findings = loop {
        match check(&known, &facts, &read, &body) {
            Ok(findings) => break findings,
            Err(missing) => {
                for question in missing.into_questions() {
                    let answer = answer(&pool, &question);
                    known.tell(question, answer);
                }
            }
        }
        rounds += 1;
        assert!(rounds < 200 && known.len() < 2_000, "{rounds} rounds, {} answers", known.len());
    };
    let client = (facts.address, facts.helo, facts.sender);
    let fields = results::said(&findings, "mx.example.org", client).fields();
    assert!(fields.is_ascii() && fields.ends_with("\r\n"), "{fields}");
    let starts = fields.split_terminator("\r\n").filter(|line| !line.starts_with('\t'));
    assert_eq!(starts.count(), 2, "{fields}");
}

fn answer(pool: &[&[u8]], question: &Question) -> Answer {
    let name = question.to_string();
    let text = name.len().checked_rem(pool.len()).and_then(|at| pool.get(at));
    let Some(text) = text else { return Answer::NoName };
    let word = || String::from_utf8_lossy(text).into_owned();
    match (text.first(), question) {
        (None, _) => Answer::Nothing,
        (Some(b'?'), _) => Answer::Unknown,
        (_, Question::A(_)) => Answer::Addresses(vec!["192.0.2.1".parse().expect("an address")]),
        (_, Question::Aaaa(_)) => Answer::Nothing,
        (_, Question::Mx(_)) => Answer::Exchanges(vec![(10, word()), (20, word())]),
        (_, Question::Ptr(_)) => Answer::Names(vec![word()]),
        (_, Question::Txt(_)) => Answer::Texts(vec![text.to_vec()]),
    }
}
