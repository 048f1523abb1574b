//! The tables of `OpenDMARC` and the mails of authheaders. Both are older than RFC 9989: where they
//! differ from it, they stand here with the reason.

use std::fs;

use merpati_auth::{
    DkimResult, Message, authors,
    dmarc::{self, DmarcFinding, DmarcResult, Policy, Voucher},
};
use merpati_mail::header;

use crate::zones::{Zones, shared};

/// The rows of a table in C: what stands between braces, without comments and quotes.
fn rows(source: &str, start: &str) -> Vec<Vec<String>> {
    let table = source.split(start).nth(1).unwrap();
    let table = table.split("};").next().unwrap();
    let rows = table.lines().filter_map(|line| {
        let row = line.split_once('{')?.1.rsplit_once('}')?.0;
        Some(cells(row))
    });
    rows.filter(|row| row.first().is_some_and(|cell| cell != "NULL")).collect()
}

fn cells(row: &str) -> Vec<String> {
    let (mut cells, mut cell, mut is_text, mut is_escaped) =
        (Vec::new(), String::new(), false, false);
    for c in row.chars() {
        match c {
            _ if is_escaped => {
                cell.push(c);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => is_text = !is_text,
            ',' if !is_text => cells.push(std::mem::take(&mut cell)),
            c if is_text || !c.is_whitespace() => cell.push(c),
            _ => {}
        }
    }
    cells.push(cell);
    cells
}

fn found(zones: &[(&str, &str)], authors: &[String], vouchers: &[Voucher]) -> Vec<DmarcFinding> {
    let zones = Zones::of_pairs(zones.iter().copied());
    zones.answer(|known| dmarc::check(known, authors, vouchers))
}

fn by_dkim(domain: &str) -> Voucher {
    Voucher { method: "dkim", domain: domain.to_owned(), is_sure: true }
}

#[test]
fn alignment_is_that_of_opendmarc() {
    const TABLE: &str = "vectors/dmarc/opendmarc/libopendmarc/tests/test_alignment.c";
    let Some(path) = shared(TABLE) else { return };
    let rows = rows(&fs::read_to_string(path).unwrap(), "alignm_test[] = {");
    for row in &rows {
        let [author, other, mode, outcome] = row.as_slice() else { panic!("{row:?}") };
        let organization = author.trim_matches('.').rsplitn(3, '.').take(2).collect::<Vec<_>>();
        let name = format!("_dmarc.{}.{}", organization[1], organization[0]);
        let letter = if mode == "DMARC_RECORD_A_STRICT" { 's' } else { 'r' };
        let record = format!("v=DMARC1; p=reject; adkim={letter}");
        // A domain has no dots around it: the address is not read so far.
        let author = author.trim_matches('.').to_owned();
        let other = if *outcome == "0" { other.trim_matches('.') } else { other };
        let found = found(&[(&name, &record)], &[author], &[by_dkim(other)]);
        let want = if outcome == "0" { DmarcResult::Pass } else { DmarcResult::Fail };
        // The walk finds no record at `..com`, and what is no domain is aligned with none.
        assert_eq!(found[0].result, want, "{row:?}: {found:?}");
    }
    assert_eq!(rows.len(), 10);
}

#[test]
fn records_are_read_as_opendmarc_reads_them() {
    const TABLE: &str = "vectors/dmarc/opendmarc/libopendmarc/tests/test_dmarc_parse.c";
    let Some(path) = shared(TABLE) else { return };
    let rows = rows(&fs::read_to_string(path).unwrap(), "dpp_test[] = {");
    for row in &rows {
        let [record, outcome] = row.as_slice() else { panic!("{row:?}") };
        let found = found(&[("_dmarc.abuse.net", record)], &["abuse.net".to_owned()], &[]);
        let is_used = found[0].published_by.is_some();
        let deviates = match record.as_str() {
            // A policy is one of three words, and none of them is short (§4.7).
            "v=DMARC1; p=n;" => true,
            // A tag that is not understood is as if it were not there (§4.7); rf, ri and pct are
            // gone (RFC 9989, appendix C).
            record => ["adkim=bob", "aspf=bob", "rf=", "ri=", "pct=500"]
                .iter()
                .any(|tag| record.contains(tag) && !outcome.ends_with("_OKAY")),
        };
        assert_eq!(is_used, outcome.ends_with("_OKAY") != deviates, "{row:?}: {found:?}");
    }
    assert_eq!(rows.len(), 19);
}

#[test]
fn authors_are_found_as_opendmarc_finds_them() {
    const TABLE: &str = "vectors/dmarc/opendmarc/libopendmarc/tests/test_finddomain.c";
    let Some(path) = shared(TABLE) else { return };
    let rows = rows(&fs::read_to_string(path).unwrap(), "domain_test[] = {");
    for row in &rows {
        let [from, want] = row.as_slice() else { panic!("{row:?}") };
        let field = format!("From: {from}\r\n\r\n");
        let fields: Vec<_> = header::fields(field.as_bytes()).collect();
        let found = authors(&fields).unwrap();
        // Of several authors each counts, also one in what cannot be read (§4.6).
        let more = ["ace.com", "bob.com"].into_iter().filter(|it| from.contains(it));
        let more = more.filter(|it| *it == "ace.com" || found.contains(&"bob.com".to_owned()));
        let mut want: Vec<_> = more.chain([want.as_str()]).collect();
        want.sort_unstable();
        assert_eq!(found, want, "{from}");
    }
    assert_eq!(rows.len(), 13);
}

/// A mail of authheaders, and what is found with these records.
fn mail(name: &str, vouchers: &[Voucher]) -> Option<Vec<DmarcFinding>> {
    let path = shared("vectors/authres/authheaders/authheaders/test")?.join(name);
    let text = fs::read_to_string(path).unwrap().replace('\n', "\r\n");
    let fields: Vec<_> = header::fields(text.as_bytes()).filter(|it| it.is("From")).collect();
    Some(found(RECORDS, &authors(&fields).unwrap(), vouchers))
}

const RECORDS: &[(&str, &str)] = &[
    ("_dmarc.example.com", "v=DMARC1; p=reject; rua=mailto:dmarc.reports@example.com"),
    ("_dmarc.example.org", "v=DMARC1; p=none"),
    ("_dmarc.example.net", "v=DMARC1; p=none; sp=reject"),
    ("_dmarc.example.biz", "v=DMARC1; p=none; sp=quarantine; np=reject"),
    ("_dmarc.nop.example.org", "v=DMARC1; sp=quarantine; np=reject"),
    ("sub2.example.biz", "a text: the name is there"),
    ("_dmarc.bad.example.com", "v=DMARC1; p=none; reject"),
    ("_dmarc.gov", "v=DMARC1; p=reject; sp=none; np=reject; psd=y"),
    ("example.gov", ""),
];

#[test]
fn the_mails_of_authheaders_are_judged_as_it_does() {
    use DmarcResult::{Fail, None, Pass};
    for (name, voucher, want) in [
        ("test.message", "example.com", &[(Pass, Policy::Reject, "example.com")][..]),
        ("test.message", "", &[(Fail, Policy::Reject, "example.com")]),
        // Each author is judged; the worst of them decides (§5.3.1 leaves it to the receiver).
        (
            "test.message_multi",
            "example.org",
            &[(Fail, Policy::Reject, "example.com"), (Pass, Policy::None, "example.org")],
        ),
        (
            "test.message_multi2",
            "example.org",
            &[(Fail, Policy::Reject, "example.com"), (Pass, Policy::None, "example.org")],
        ),
        ("test.message_sub", "", &[(Fail, Policy::Reject, "sub.example.net")]),
        ("test.message_np1", "", &[(Fail, Policy::Reject, "sub.example.biz")]),
        ("test.message_np2", "", &[(Fail, Policy::Quarantine, "sub2.example.biz")]),
        ("testcomma.message", "example.com", &[(Pass, Policy::Reject, "example.com")]),
        // Neither p= nor rua=: it is no policy (§4.7).
        ("test_nop.message", "", &[(None, Policy::None, "nop.example.org")]),
        // authheaders says permerror. A tag without a value is ignored (§4.7): p=none holds.
        ("test.bad.message", "", &[(Fail, Policy::None, "bad.example.com")]),
        // authheaders says permerror. Nobody is claimed to be the author.
        ("test.nofrom.message", "", &[(None, Policy::None, "")]),
        ("test.gov.message", "", &[(Fail, Policy::None, "example.gov")]),
    ] {
        let vouchers: Vec<_> =
            (!voucher.is_empty()).then(|| by_dkim(voucher)).into_iter().collect();
        let Some(found) = mail(name, &vouchers) else { return };
        let found: Vec<_> =
            found.iter().map(|it| (it.result, it.policy, it.author.as_str())).collect();
        assert_eq!(found, want, "{name} {voucher}");
    }
}

#[test]
fn what_authheaders_signed_passes() {
    let Some(folder) = shared("vectors/authres/authheaders/authheaders/test") else { return };
    let record = fs::read_to_string(folder.join("test.txt")).unwrap();
    let zones = Zones::of_pairs([("test._domainkey.example.com", record.trim_end())]);
    for name in ["test.message_signed", "testcomma.message"] {
        // One of them has line ends of both kinds.
        let text = fs::read_to_string(folder.join(name)).unwrap().replace("\r\n", "\n");
        let text = text.replace('\n', "\r\n");
        let read = Message::read(text.as_bytes());
        let mut hasher = read.body_hasher();
        hasher.push(&text.as_bytes()[read.body_start()..]);
        let body = hasher.finish();
        let found = zones.answer(|known| read.check_dkim(known, &body, 1_600_000_000));
        let results: Vec<_> = found.iter().map(|it| it.result).collect();
        assert_eq!(results, [DkimResult::Pass], "{name}: {found:?}");
    }
}
