//! What a message of the load looks like, and whether one that came out of a relay is whole.
//!
//! A message carries its id and, in `X-Rig-Check`, the octets and the CRC-32C of its body. The id
//! stands in the body too, so that no two bodies are equal and a swapped one is noticed. A relay
//! may add header fields; the body has to come out octet for octet. Pure.

use std::io::Write;

use memchr::memmem;

/// The field that names a message.
pub const ID_FIELD: &str = "X-Rig-Id: ";

/// The field with octets and checksum of the body.
pub const CHECK_FIELD: &str = "X-Rig-Check: ";

/// No id is longer.
pub const ID_OCTETS_MAX: usize = 100;

/// Everything that messages of one size have in common.
#[derive(Clone, Debug)]
pub struct Template {
    prefix: String,
    /// As on the wire: lines that begin with a dot have two (RFC 5321 §4.5.2).
    stuffed: Vec<u8>,
    filler: Vec<u8>,
    body_octets: usize,
    /// Of the body, where that is the same in every message.
    checksum: Option<u32>,
}

impl Template {
    /// Messages whose content has `size_octets`, header included and before dot-stuffing; never
    /// fewer than header and one line of body need (about 350). `prefix` begins each id.
    pub fn new(prefix: &str, size_octets: usize) -> Self {
        let mut template = Self {
            prefix: prefix.to_owned(),
            stuffed: Vec::new(),
            filler: Vec::new(),
            body_octets: 10_000_000,
            checksum: None,
        };
        // All numbers in the header have a fixed width, so one header tells the length of each.
        let mut header = Vec::new();
        template.header(&template.id(0), 0, &mut header);
        let first_line = template.id(0).len() + 2;
        template.filler = filler(size_octets.saturating_sub(header.len() + first_line));
        template.stuffed = stuffed(&template.filler);
        template.body_octets = first_line + template.filler.len();
        template
    }

    /// This message again and again, with id and check in front of it: a signature over it holds,
    /// but two bodies that were swapped are not noticed. `None` unless it ends with a CRLF.
    pub fn of_content(prefix: &str, content: &[u8]) -> Option<Self> {
        if !content.ends_with(b"\r\n") {
            return None;
        }
        let body = memmem::find(content, b"\r\n\r\n").map_or(content.len(), |at| at + 4);
        let body = content.get(body..).unwrap_or_default();
        Some(Self {
            prefix: prefix.to_owned(),
            stuffed: stuffed(content),
            filler: Vec::new(),
            body_octets: body.len(),
            checksum: Some(crc32c::crc32c(body)),
        })
    }

    /// The id of the message with this number: the prefix, a hyphen and eight digits or more.
    pub fn id(&self, number: u64) -> String {
        format!("{}-{number:08}", self.prefix)
    }

    /// Appends the message as it goes over the wire, with the end-of-data line.
    pub fn write(&self, id: &str, out: &mut Vec<u8>) {
        if let Some(checksum) = self.checksum {
            self.own_fields(id, checksum, out);
        } else {
            let checksum = crc32c::crc32c_append(crc32c::crc32c(id.as_bytes()), b"\r\n");
            self.header(id, crc32c::crc32c_append(checksum, &self.filler), out);
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&self.stuffed);
        out.extend_from_slice(b".\r\n");
    }

    fn header(&self, id: &str, checksum: u32, out: &mut Vec<u8>) {
        let written = write!(
            out,
            "From: Load <{SENDER}>\r\n\
             To: Sink <{to}>\r\n\
             Subject: One of many messages, all much alike\r\n\
             Date: Mon, 23 Nov 2026 12:00:00 +0000\r\n\
             Message-ID: <{id}@load.test>\r\n",
            to = recipient(0),
        );
        debug_assert!(written.is_ok(), "a Vec takes everything");
        self.own_fields(id, checksum, out);
        out.extend_from_slice(
            b"MIME-Version: 1.0\r\n\
              Content-Type: text/plain; charset=us-ascii\r\n\
              \r\n",
        );
    }

    fn own_fields(&self, id: &str, checksum: u32, out: &mut Vec<u8>) {
        let written = write!(
            out,
            "{ID_FIELD}{id}\r\n\
             {CHECK_FIELD}{octets:08} {checksum:08x}\r\n",
            octets = self.body_octets,
        );
        debug_assert!(written.is_ok(), "a Vec takes everything");
    }
}

/// The reverse-path of every message of the load.
pub const SENDER: &str = "sender@load.test";

/// The forward-path with this number.
pub fn recipient(number: u32) -> String {
    format!("r{number}@sink.test")
}

/// The number in a forward-path that [`recipient`] made; 0 for any other.
pub fn recipient_number(path: &[u8]) -> u32 {
    let digits = path.strip_prefix(b"r").unwrap_or_default();
    let digits = digits.split(|&octet| octet == b'@').next().unwrap_or_default();
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// What the content of a message says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No message of the load: a bounce, or somebody else's.
    Foreign,
    /// A message of the load.
    Ours {
        /// Its id.
        id: String,
        /// Whether the body has the octets and the checksum that the header promises.
        is_whole: bool,
    },
}

/// Looks at content as it came over the wire, still dot-stuffed and without the end-of-data line.
pub fn inspect(content: &[u8]) -> Found {
    // The CRLF before the body stays with it: a stuffed dot is always after a CRLF.
    let header_octets = memmem::find(content, b"\r\n\r\n").map_or(content.len(), |at| at + 2);
    let (header, body) = content.split_at(header_octets);
    let Some(id) = field(header, ID_FIELD).and_then(known_id) else {
        return Found::Foreign;
    };
    let promised = field(header, CHECK_FIELD).and_then(promise);
    Found::Ours { id, is_whole: promised == Some(checked(body)) }
}

/// The messages and recipients that a delivery report (RFC 3464) says have failed: every pair of
/// an id in the returned header and a `Final-Recipient`, or of the id and recipient 0.
pub fn reported(content: &[u8]) -> Vec<(String, u32)> {
    let mut failed: Vec<u32> = Vec::new();
    for line in content.split(|&octet| octet == b'\n') {
        let path = line.strip_prefix(b"Final-Recipient: rfc822;").unwrap_or_default();
        if !path.is_empty() {
            failed.push(recipient_number(path.trim_ascii()));
        }
    }
    if failed.is_empty() {
        failed.push(0);
    }
    let Some(id) = field(content, ID_FIELD).and_then(known_id) else {
        return Vec::new();
    };
    failed.into_iter().map(|number| (id.clone(), number)).collect()
}

/// Content as it came over the wire, without its stuffed dots.
pub fn unstuffed(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len());
    for line in content.split_inclusive(|&octet| octet == b'\n') {
        out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    out
}

/// Whether this stands in the header of a content.
pub fn has_in_header(content: &[u8], text: &[u8]) -> bool {
    let end = memmem::find(content, b"\r\n\r\n").unwrap_or(content.len());
    memmem::find(content.get(..end).unwrap_or_default(), text).is_some()
}

/// The value of a field, at the beginning of a line.
fn field<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    memmem::find_iter(header, name.as_bytes()).find_map(|at| {
        let begins_line = at == 0 || header.get(at - 1) == Some(&b'\n');
        let value = header.get(at + name.len()..)?;
        let end = memchr::memchr2(b'\r', b'\n', value).unwrap_or(value.len());
        begins_line.then(|| value.get(..end)).flatten()
    })
}

fn known_id(value: &[u8]) -> Option<String> {
    let fits = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_.".contains(octet);
    let is_id = (1..=ID_OCTETS_MAX).contains(&value.len()) && value.iter().all(fits);
    is_id.then(|| String::from_utf8_lossy(value).into_owned())
}

fn promise(value: &[u8]) -> Option<(usize, u32)> {
    let (octets, checksum) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    Some((octets.parse().ok()?, u32::from_str_radix(checksum, 16).ok()?))
}

/// Octets and checksum of a body without its stuffed dots; it begins with the CRLF of the empty
/// line, which does not count.
fn checked(body: &[u8]) -> (usize, u32) {
    let (mut octets, mut checksum, mut from) = (0, 0, 2);
    let dots = memmem::find_iter(body, b"\r\n.").map(|at| at + 2);
    for end in dots.chain([body.len()]) {
        let piece = body.get(from..end).unwrap_or_default();
        octets += piece.len();
        checksum = crc32c::crc32c_append(checksum, piece);
        from = end + 1;
    }
    (octets, checksum)
}

/// Lines of text with this many octets in all, CRLFs included; 1 becomes 2, which a CRLF needs.
fn filler(octets: usize) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ abcdefghijklmnopqrstuvwxyz 0123456789";
    let octets = if octets == 1 { 2 } else { octets };
    let mut text = Vec::with_capacity(octets);
    let mut line = 0_usize;
    while text.len() < octets {
        let left = octets - text.len();
        // A rest of one octet would be no line: the line before takes it along.
        let columns = if left <= LINE_OCTETS + 1 { left - 2 } else { LINE_OCTETS - 2 };
        for column in 0..columns {
            // Some lines begin with a dot: the stuffing of every hop is tried, too.
            let is_dot = column == 0 && line.is_multiple_of(DOTTED_LINES);
            let letter = LETTERS.get((line * 7 + column * 11) % LETTERS.len());
            text.push(if is_dot { b'.' } else { letter.copied().unwrap_or(b'x') });
        }
        text.extend_from_slice(b"\r\n");
        line += 1;
    }
    text
}

fn stuffed(lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len() + lines.len() / LINE_OCTETS + 1);
    for line in lines.split_inclusive(|&octet| octet == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out
}

/// A line of the filler, its CRLF included: usual for text in mail (RFC 5322 §2.1.1).
const LINE_OCTETS: usize = 74;

/// One line in so many begins with a dot.
const DOTTED_LINES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Content as the sink sees it, from a template, without the end-of-data line.
    fn content(size: usize) -> Vec<u8> {
        let template = Template::new("t", size);
        let mut wire = Vec::new();
        template.write(&template.id(7), &mut wire);
        assert!(wire.ends_with(b"\r\n.\r\n"));
        wire.truncate(wire.len() - 3);
        wire
    }

    #[test]
    fn a_message_has_the_size_that_was_asked_for_before_stuffing() {
        for size in [400, 1_024, 10_240, 102_400] {
            let wire = content(size);
            let stuffed = memmem::find_iter(&wire, b"\r\n..").count();
            assert!(stuffed > 0 || size < 500, "{size}: no line begins with a dot");
            assert_eq!(wire.len() - stuffed, size);
        }
    }

    #[test]
    fn every_size_gives_whole_lines_of_at_most_78_columns() {
        for size in 300..700 {
            let wire = content(size);
            assert!(wire.ends_with(b"\r\n"), "{size}");
            let longest = wire.split(|&octet| octet == b'\n').map(<[u8]>::len).max();
            assert!(longest <= Some(79), "{size}: {longest:?}");
            let want = Found::Ours { id: "t-00000007".to_owned(), is_whole: true };
            assert_eq!(inspect(&wire), want, "{size}");
        }
    }

    #[test]
    fn a_field_in_front_changes_nothing_and_an_octet_of_the_body_everything() {
        let whole = |wire: &[u8]| match inspect(wire) {
            Found::Foreign => panic!("the id was not found"),
            Found::Ours { is_whole, .. } => is_whole,
        };
        let wire = content(2_000);
        assert!(whole(&[b"Received: by relay.test\r\n".as_slice(), &wire].concat()));
        assert!(!whole(&[wire.as_slice(), b"\r\n"].concat()));
        assert!(!whole(&wire[..wire.len() - 2]));
        let mut flipped = wire.clone();
        flipped[1_500] ^= 1;
        assert!(!whole(&flipped));
        let body = memmem::find(&wire, b"\r\n\r\n").unwrap() + 4;
        let mut swapped = wire;
        let id_end = body + "t-00000007".len();
        swapped[id_end - 1] = b'8';
        assert!(!whole(&swapped), "the id in the body is another one");
    }

    #[test]
    fn a_given_content_is_sent_as_it_is_behind_id_and_check() {
        let given = b"Subject: x\r\n\r\n.dot\r\n..\r\nlast\r\n".as_slice();
        let template = Template::of_content("t", given).unwrap();
        let mut wire = Vec::new();
        template.write(&template.id(7), &mut wire);
        wire.truncate(wire.len() - 3);
        let want = Found::Ours { id: "t-00000007".to_owned(), is_whole: true };
        assert_eq!(inspect(&wire), want);
        let came = unstuffed(&wire);
        assert!(came.ends_with(given), "{}", String::from_utf8_lossy(&came));
        assert!(has_in_header(&came, b"t-00000007") && !has_in_header(&came, b"last"));
        let end = wire.len() - 3;
        wire[end] ^= 1;
        assert_ne!(inspect(&wire), want);
        for torn in [b"".as_slice(), b"Subject: x\r\n\r\nlast"] {
            assert!(Template::of_content("t", torn).is_none());
        }
    }

    #[test]
    fn what_has_no_id_in_its_header_is_foreign() {
        for text in [
            "",
            "\r\n",
            "Subject: x\r\n\r\nX-Rig-Id: t-1\r\n",
            "X-Rig-Id: a b\r\n\r\n",
            "X-Rig-Id:",
        ] {
            assert_eq!(inspect(text.as_bytes()), Found::Foreign, "{text:?}");
        }
    }

    #[test]
    fn a_report_names_the_message_and_each_failed_recipient() {
        let report = "Content-Type: multipart/report\r\n\r\n\
                      Final-Recipient: rfc822; r3@sink.test\r\nAction: failed\r\n\r\n\
                      Final-Recipient: rfc822;r12@sink.test\r\nAction: failed\r\n\r\n\
                      X-Rig-Id: k-00000001\r\n";
        let id = "k-00000001".to_owned();
        assert_eq!(reported(report.as_bytes()), [(id.clone(), 3), (id, 12)]);
        assert_eq!(reported(b"X-Rig-Id: k-1\r\n"), [("k-1".to_owned(), 0)]);
        assert_eq!(reported(b"Final-Recipient: rfc822; r3@sink.test\r\n"), []);
    }

    #[test]
    fn the_number_of_a_recipient_comes_back_from_its_path() {
        assert_eq!(recipient_number(recipient(999).as_bytes()), 999);
        assert_eq!(recipient_number(b"sender@load.test"), 0);
        assert_eq!(recipient_number(b""), 0);
    }
}
