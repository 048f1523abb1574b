//! What the checks of who sent a message ask of the DNS.
//!
//! Invariant: trouble is never taken for a no. Not pure: asks name servers.

use merpati_auth::dns::{Answer, Question};
use merpati_flow::admit::lists;

use super::{
    Resolver,
    lookup::{Found, MxName, Unknown},
};

impl Resolver {
    /// The answer to one question. It takes as long as the name servers may; the caller has a
    /// deadline of his own.
    pub async fn look(&self, question: &Question) -> Answer {
        let dns = &self.0.checks;
        match question {
            Question::A(name) => answer(dns.a(name).await, Answer::Addresses),
            Question::Aaaa(name) => answer(dns.aaaa(name).await, Answer::Addresses),
            Question::Mx(name) => answer(dns.mx(name).await, |hosts| {
                let hosts = hosts.into_iter().map(|(preference, host)| (preference, text(host)));
                Answer::Exchanges(hosts.collect())
            }),
            Question::Ptr(address) => match lists::reverse_name(*address) {
                Some(name) => answer(dns.ptr(&name.to_string()).await, |names| {
                    Answer::Names(names.into_iter().map(text).collect())
                }),
                None => Answer::NoName,
            },
            Question::Txt(name) => answer(dns.txt(name).await, Answer::Texts),
        }
    }
}

fn answer<T>(found: Result<Found<T>, Unknown>, records: impl Fn(Vec<T>) -> Answer) -> Answer {
    match found {
        Ok(Found::NoName) => Answer::NoName,
        Ok(Found::Nothing) => Answer::Nothing,
        Ok(Found::Records { data, .. }) => records(data),
        Err(Unknown { .. }) => Answer::Unknown,
    }
}

/// A name that no host can have counts, and leads nowhere.
fn text(name: MxName) -> String {
    match name {
        MxName::Host(host) => host.to_string(),
        MxName::Null | MxName::Odd => String::new(),
    }
}
