//! Whose a message claims to be: the domains in From (RFC 5322 §3.6.2, RFC 9989 §4.6).
//!
//! Pure.

use std::collections::BTreeSet;

use merpati_mail::{Domain, address, header, header::Field};

/// The domains of the authors that fields named From name, in A-labels, each once. A field that
/// cannot be read is searched for what readers may take for an address: that it is badly written
/// must not hide whose it is.
pub fn authors(froms: &[Field<'_>]) -> Vec<String> {
    let mut domains = BTreeSet::new();
    for from in froms {
        match address::parse_header_list(from.value) {
            Ok(list) if !list.is_empty() => {
                domains.extend(list.into_iter().map(|one| one.mailbox.domain().clone()));
            }
            Ok(_) | Err(_) => domains.extend(searched(&from.unfolded())),
        }
    }
    domains.iter().filter_map(Domain::as_name).map(str::to_owned).collect()
}

/// What readers may take for domains of addresses, encoded or not.
fn searched(value: &str) -> Vec<Domain> {
    let shown = header::decode_words(value);
    let ends = |c: char| c.is_whitespace() || "<>()[]\",;:@".contains(c);
    let domains = shown.split('@').skip(1).filter_map(|behind| {
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
            ("From: <a@bank.example", &["bank.example"]),
            ("From: a@bank.example <", &["bank.example"]),
            ("From: a@bank.example.>", &["bank.example"]),
            ("From: \"CEO\" <ceo@ bank.example> x", &["bank.example"]),
            ("From: =?utf-8?q?ceo=40bank=2Eexample?= <>", &["bank.example"]),
            ("From: a@b.example\r\nFrom: c@d.example", &["b.example", "d.example"]),
        ] {
            let header = format!("{from}\r\n\r\n");
            let fields: Vec<_> = header::fields(header.as_bytes()).collect();
            assert_eq!(authors(&fields), want, "{from}");
        }
    }
}
