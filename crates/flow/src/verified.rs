//! Whether our users and networks may write as the authors of a message.
//!
//! Invariant: where it is asked for, nothing leaves whose author nobody signs for. Pure.

use merpati_mail::{Reply, Verdict};

use crate::admit::{self, Facts, Policy};

/// Whom From names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The domain.
    pub domain: String,
    /// Whether it is a domain of ours, or below one, for which somebody signs.
    pub is_verified: bool,
}

/// Whether [`judge`] is to be asked about the messages of this client.
pub fn is_asked(policy: &Policy, facts: &Facts<'_>) -> bool {
    policy.contents.authors_are_verified && admit::is_signed_for(policy, facts)
}

/// Why a message by these authors is not taken; `None` where they cannot be told.
pub fn judge(authors: Option<&[Author]>) -> Result<(), Verdict> {
    let Some(authors) = authors else {
        return Err(refusal(
            "the authors cannot be told: From is badly written, or the header is too long",
        ));
    };
    if authors.is_empty() {
        return Err(refusal(
            "the header field From names no domain, and only verified ones may send",
        ));
    }
    match authors.iter().find(|author| !author.is_verified) {
        Some(Author { domain, .. }) => Err(refusal(&format!(
            "{domain} is not verified and may not send; `merpati domain add {domain}` or `merpati \
             domain check {domain}` says what is missing"
        ))),
        None => Ok(()),
    }
}

fn refusal(text: &str) -> Verdict {
    Verdict::refuse("author-unverified", Reply::with_text(550, (5, 7, 1), text.to_owned()))
}

#[cfg(test)]
mod tests {
    use merpati_mail::stage::Decision;

    use super::*;

    #[test]
    fn each_author_is_of_a_domain_that_is_verified() {
        let all = |authors: &[(&str, bool)]| -> Vec<Author> {
            let author = |(domain, is_verified): &(&str, bool)| Author {
                domain: (*domain).to_owned(),
                is_verified: *is_verified,
            };
            authors.iter().map(author).collect()
        };
        for (authors, want) in [
            (Some(&[("a.example", true)][..]), None),
            (Some(&[("a.example", true), ("b.example", true)]), None),
            (Some(&[("a.example", true), ("b.example", false)]), Some("domain add b.example")),
            (Some(&[("b.example", false)]), Some("domain check b.example")),
            (Some(&[]), Some("names no domain")),
            (None, Some("too long")),
        ] {
            let authors = authors.map(all);
            let said = judge(authors.as_deref()).err().map(|verdict| {
                let Decision::Refuse(reply) = verdict.decision else { panic!("{verdict:?}") };
                format!("{reply:?}")
            });
            match (&said, want) {
                (None, None) => {}
                (Some(said), Some(want)) => assert!(said.contains(want), "{said}"),
                (said, want) => panic!("{authors:?}: {said:?}, not {want:?}"),
            }
        }
    }
}
