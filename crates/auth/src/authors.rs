//! Whose a message claims to be: the domains in From (RFC 5322 §3.6.2, RFC 9989 §4.6).
//!
//! Pure.

use std::collections::BTreeSet;

use merpati_mail::{Domain, address, header, header::Field};

/// The domains of the authors that fields named From name, in A-labels, each once; an address
/// literal in its brackets. A field that cannot be read is searched for what readers may take for
/// an address: that it is badly written must not hide whose it is. `None` where somebody is named
/// of whom not even that can be told.
pub fn authors(froms: &[Field<'_>]) -> Option<Vec<String>> {
    let mut domains = BTreeSet::new();
    for from in froms {
        match address::parse_header_list(from.value) {
            Ok(list) if !list.is_empty() => {
                domains.extend(list.into_iter().map(|one| one.mailbox.domain().clone()));
            }
            Ok(_) | Err(_) => domains.extend(searched(&from.unfolded())?),
        }
    }
    Some(domains.iter().map(ToString::to_string).collect())
}

/// What readers may take for domains of addresses, encoded or not; `None` where something stands
/// behind an @ that they may take for more than we do.
fn searched(value: &str) -> Option<Vec<Domain>> {
    let shown = header::decode_words(value);
    let ends = |c: char| c.is_whitespace() || "<>()[]\",;:@".contains(c);
    let domains = shown.split('@').skip(1).map(|behind| {
        let name = behind.trim_start().split(ends).next()?.trim_end_matches('.');
        Domain::parse(name).ok()
    });
    domains.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domains_of_authors_are_found_however_they_are_written() {
        for (from, want) in [
            ("From: A <a@Bank.example>", &["bank.example"][..]),
            ("From: a@b.example, c@B.example", &["b.example"]),
            ("From: \"x@shown.example\" <a@real.example>", &["real.example"]),
            ("From: group: a@b.example, c@d.example;", &["b.example", "d.example"]),
            ("From: a@bücher.example", &["xn--bcher-kva.example"]),
            ("From: nobody", &[]),
            ("From: a@[192.0.2.1], b@ours.example", &["[192.0.2.1]", "ours.example"]),
            ("From: <a@bank.example", &["bank.example"]),
            ("From: a@bank.example <", &["bank.example"]),
            ("From: a@bank.example.>", &["bank.example"]),
            ("From: \"CEO\" <ceo@ bank.example> x", &["bank.example"]),
            ("From: =?utf-8?q?ceo=40bank=2Eexample?= <>", &["bank.example"]),
            ("From: a@b.example\r\nFrom: c@d.example", &["b.example", "d.example"]),
        ] {
            let header = format!("{from}\r\n\r\n");
            let fields: Vec<_> = header::fields(header.as_bytes()).collect();
            assert_eq!(authors(&fields).unwrap(), want, "{from}");
        }
        // Readers may find an author there whom we do not.
        for from in [
            "From: ceo@(c)bank.example <, x@ours.example",
            "From: <ceo@-bank.example>, x@ours.example",
            "From: ceo@\"bank.example\" <, x@ours.example",
            "From: ceo@\\bank.example <, x@ours.example",
            "From: ceo@b\u{fffd}cher.example, x@ours.example",
            "From: a@[192.0.2.1] <",
        ] {
            let header = format!("{from}\r\n\r\n");
            let fields: Vec<_> = header::fields(header.as_bytes()).collect();
            assert_eq!(authors(&fields), None, "{from}");
        }
    }
}
