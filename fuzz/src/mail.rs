//! Whether addresses, header fields and replies are read as they are written. Pure.

use merpati_mail::{
    Domain, ForwardPath, Mailbox, Overlay, Reply, ReversePath,
    address::{MAX_MAILBOX_OCTETS, Utf8Rule, parse_header_list},
    header, seven_bit,
};
use merpati_smtp::reply_reader::{Read, ReplyLimits, ReplyReader};

use crate::{
    plan::{Plan, draw_from, pieces},
    smtp_server::check_replies,
};

/// An address that was read is read again from what is written; the octets are an address, a path
/// and a list in turn.
pub fn address(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    if let Ok(mailbox) = Mailbox::parse(&text) {
        check_mailbox(&mailbox);
    }
    if let Ok(domain) = Domain::parse(&text) {
        assert_eq!(Domain::parse(&domain.to_string()), Ok(domain.clone()));
        assert_eq!(Domain::parse(&domain.to_unicode()), Ok(domain));
    }
    for rule in [Utf8Rule::Allowed, Utf8Rule::AsciiOnly] {
        if let Ok((path, rest)) = ForwardPath::parse_prefix(&text, rule) {
            assert!(text.ends_with(rest));
            let written = path.to_string();
            assert!(rule == Utf8Rule::Allowed || written.is_ascii());
            assert_eq!(ForwardPath::parse_prefix(&written, rule), Ok((path, "")));
        }
        if let Ok((path, rest)) = ReversePath::parse_prefix(&text, rule) {
            assert!(text.ends_with(rest));
            let written = path.to_string();
            assert_eq!(ReversePath::parse_prefix(&written, rule), Ok((path, "")));
        }
    }
    let Ok(list) = parse_header_list(octets) else { return };
    for one in &list {
        check_mailbox(&one.mailbox);
        let name = one.name.as_deref().unwrap_or("x");
        assert!(!name.is_empty() && !name.contains(char::is_control), "{name:?}");
    }
    let written: Vec<String> = list.iter().map(|one| format!("<{}>", one.mailbox)).collect();
    let again = parse_header_list(written.join(",\r\n\t").as_bytes()).expect("it was written");
    assert!(again.iter().map(|one| &one.mailbox).eq(list.iter().map(|one| &one.mailbox)));
}

fn check_mailbox(mailbox: &Mailbox) {
    let written = mailbox.to_string();
    assert!(written.len() <= MAX_MAILBOX_OCTETS, "{written:?}");
    assert!(!written.contains(char::is_control), "{written:?}");
    assert_eq!(Mailbox::parse(&written).as_ref(), Ok(mailbox));
    let local = Mailbox::new(mailbox.local(), mailbox.domain().clone());
    assert_eq!(local.as_ref(), Ok(mailbox));
}

/// Fields cover the header without gaps, and an overlay adds and removes whole fields; the first
/// line of the octets is the field that is added and removed, the rest is a message.
pub fn header(octets: &[u8]) {
    let end = octets.iter().position(|&octet| octet == b'\n').unwrap_or(octets.len());
    let (line, rest) = octets.split_at(end);
    let message = rest.get(1..).unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let (name, value) = line.split_once(':').unwrap_or((&line, ""));
    let value = value.replace("\\n", "\r\n").replace("\\r", "\r");

    let mut at = 0;
    for field in header::fields(message) {
        assert_eq!(field.range.start, at, "a gap before a field");
        assert!(field.range.len() > field.name.len() + field.value.len());
        at = field.range.end;
        assert!(!field.unfolded().contains(['\r', '\n']));
    }
    assert!((at..=at + 2).contains(&header::body_start(message)));

    let mut overlay = Overlay::default();
    overlay.remove_fields(message, name);
    let kept: Vec<&[u8]> =
        header::fields(message).filter(|f| !f.is(name)).map(|f| &message[f.range]).collect();
    let left = written(&overlay, message);
    assert_eq!(left, [kept.concat().as_slice(), &message[at..]].concat());
    if overlay.prepend_field(name, &value).is_ok() {
        let sent = written(&overlay, message);
        let first = header::fields(&sent).next().expect("a field was added");
        assert!(first.is(name));
        let behind = sent.strip_prefix(overlay.prepend.as_slice()).expect("it is on top");
        if behind != left {
            // What is no header is set off by an empty line, so that nothing of it is read as one.
            assert_eq!(behind, [b"\r\n", left.as_slice()].concat());
            assert!(header::fields(&left).next().is_none(), "a header is cut off from our fields");
        }
        assert_eq!(first.range.end, overlay.prepend.len(), "a field has grown");
    }
    let again = Overlay::from_parts(overlay.prepend.clone(), overlay.remove.clone());
    assert_eq!(again.as_ref(), Ok(&overlay), "an overlay that was made is refused");
    if let Ok(strange) = Overlay::from_parts(message.to_vec(), Vec::new()) {
        let end = header::fields(message).last().map_or(0, |field| field.range.end);
        assert_eq!((end, written(&strange, b"")), (message.len(), message.to_vec()));
    }
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(header::folded(&words).split_whitespace().count(), line.split_whitespace().count());
    let _ = header::decode_words(&line);
}

fn written(overlay: &Overlay, message: &[u8]) -> Vec<u8> {
    let octets: Vec<u8> = overlay.slices(message).flatten().copied().collect();
    let length = u64::try_from(message.len()).unwrap_or(0);
    assert_eq!(u64::try_from(octets.len()).ok(), Some(overlay.len(length, message)));
    octets
}

/// A message that can be given in 7 bits has no octet above 127 then, whole lines, and stays as it
/// is when it is asked for again.
pub fn transfer(octets: &[u8]) {
    // Lines of the corpus end in LF; a bare line end would be refused before anything is read.
    let mut message = Vec::with_capacity(octets.len() * 2);
    for &octet in octets.iter().filter(|&&octet| octet != b'\r') {
        message.extend_from_slice(if octet == b'\n' {
            b"\r\n"
        } else {
            std::slice::from_ref(&octet)
        });
    }
    for message in [octets, &message] {
        let Ok(sent) = seven_bit(message) else { continue };
        assert!(sent.is_ascii(), "an octet above 127 is left");
        assert_eq!(seven_bit(&sent).as_ref(), Ok(&sent), "it is not stable");
        assert!(sent == message || !message.is_ascii(), "a message of 7 bits has changed");
        assert!(sent.len() <= 16 * message.len() + HEADER_ROOM, "the message has grown");
    }
}

/// Room for the fields that are added to a message that is not MIME.
const HEADER_ROOM: usize = 200;

/// Replies do not depend on how they were cut, hold no control characters, and are well-formed
/// when they are written again; the first line of the octets chooses the limits.
pub fn reply(octets: &[u8]) {
    let (mut plan, server) = Plan::split(octets);
    let limits = match plan.below(2) {
        0 => ReplyLimits::default(),
        _ => ReplyLimits { line_octets_max: 40, lines_max: 3, octets_max: 100 },
    };
    let (whole, error) = replies(limits, &[server.to_vec()]);
    let cut = replies(limits, &pieces(server, 9, &mut draw_from(octets)));
    // Two limits that are passed at once are found in the order in which the octets come.
    assert_eq!((&whole, error), (&cut.0, cut.1));
    for reply in &whole {
        assert!((200..600).contains(&reply.code), "{reply:?}");
        assert!(!reply.text.contains(|c: char| c.is_control() && c != '\n'), "{reply:?}");
        let mut wire = Vec::new();
        reply.write(&mut wire);
        check_replies(&wire);
        let limits =
            ReplyLimits { lines_max: usize::MAX, octets_max: usize::MAX, ..ReplyLimits::default() };
        let (again, _) = replies(limits, &[wire]);
        assert_eq!(again.len(), 1, "{reply:?}");
        assert_eq!(again[0].code, reply.code);
        assert!(!reply.one_line().contains(char::is_control));
    }
}

/// The replies, and whether octets came that are none.
fn replies(limits: ReplyLimits, pieces: &[Vec<u8>]) -> (Vec<Reply>, bool) {
    let mut reader = ReplyReader::new(limits);
    let (mut replies, mut unread) = (Vec::new(), Vec::new());
    for piece in pieces {
        unread.extend_from_slice(piece);
        loop {
            let used = match reader.read(&unread) {
                Read::Broken(_) => return (replies, true),
                Read::Incomplete(used) => {
                    unread.drain(..used);
                    break;
                }
                Read::Reply(reply, used) => {
                    replies.push(reply);
                    used
                }
            };
            unread.drain(..used);
        }
        assert!(unread.len() < limits.line_octets_max, "the buffer grows");
    }
    (replies, false)
}
