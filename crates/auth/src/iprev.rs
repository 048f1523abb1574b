//! Whether the name of an address leads back to it (iprev, RFC 8601 §3).
//!
//! Pure.

use std::{fmt, net::IpAddr};

use crate::{
    dns::{Answer, Known, Missing, Question},
    names::is_name,
};

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IprevResult {
    /// It has names, and none leads back.
    Fail,
    /// One leads back.
    Pass,
    /// It has no name.
    PermError,
    /// The DNS could not be asked just now.
    TempError,
}

impl IprevResult {
    /// As it stands in header fields.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Pass => "pass",
            Self::PermError => "permerror",
            Self::TempError => "temperror",
        }
    }
}

impl fmt::Display for IprevResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IprevFinding {
    /// What became of it.
    pub result: IprevResult,
    /// The name that leads back; `None` where none does.
    pub name: Option<String>,
}

/// Names of an address that are looked at, as many as SPF looks at (RFC 7208 §4.6.4).
pub const NAMES_MAX: usize = 10;

/// Whether a name of this address leads back to it.
pub fn check(known: &Known, address: IpAddr) -> Result<IprevFinding, Missing> {
    let address = address.to_canonical();
    let ended = |result| Ok(IprevFinding { result, name: None });
    let names = match known.get(Question::Ptr(address))? {
        Answer::Names(names) => names,
        Answer::Unknown => return ended(IprevResult::TempError),
        Answer::Addresses(_)
        | Answer::Exchanges(_)
        | Answer::NoName
        | Answer::Nothing
        | Answer::Texts(_) => return ended(IprevResult::PermError),
    };
    let LeadingBack { names, are_all } = leading_back(known, names, address)?;
    match names.into_iter().next() {
        Some(name) => Ok(IprevFinding { result: IprevResult::Pass, name: Some(name) }),
        None if are_all => ended(IprevResult::Fail),
        None => ended(IprevResult::TempError),
    }
}

/// Which names of an address lead back to it.
pub(crate) struct LeadingBack {
    /// These do.
    pub(crate) names: Vec<String>,
    /// Whether the DNS answered for each of the others.
    pub(crate) are_all: bool,
}

/// Which of the names of an address, the first [`NAMES_MAX`] of them, lead back to it.
pub(crate) fn leading_back(
    known: &Known,
    names: &[String],
    address: IpAddr,
) -> Result<LeadingBack, Missing> {
    let mut found = LeadingBack { names: Vec::new(), are_all: true };
    let mut missing = Vec::new();
    for name in names.iter().take(NAMES_MAX).filter(|name| is_name(name)) {
        match known.get(Question::address(name, address)) {
            Ok(Answer::Addresses(addresses)) if addresses.contains(&address) => {
                found.names.push(name.clone());
            }
            Ok(answer) => found.are_all &= *answer != Answer::Unknown,
            Err(needed) => missing.push(needed),
        }
    }
    Missing::join(missing).map_or(Ok(found), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_only_if_it_leads_back() {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let host = |name: &str, answer| (Question::A(name.to_owned()), answer);
        let ours = || Answer::Addresses(vec![address]);
        let theirs = || Answer::Addresses(vec!["192.0.2.2".parse().unwrap()]);
        let names = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            (Question::Ptr(address), Answer::Names(names))
        };
        for (answers, want) in [
            (vec![(Question::Ptr(address), Answer::NoName)], "permerror None"),
            (vec![(Question::Ptr(address), Answer::Unknown)], "temperror None"),
            (vec![names(&["A.example."]), host("a.example", ours())], r#"pass Some("a.example")"#),
            (vec![names(&["a.example"]), host("a.example", theirs())], "fail None"),
            (vec![names(&["a.example"]), host("a.example", Answer::Unknown)], "temperror None"),
            (
                vec![
                    names(&["a.example", "b.example"]),
                    host("a.example", theirs()),
                    host("b.example", ours()),
                ],
                r#"pass Some("b.example")"#,
            ),
        ] {
            let mut known = Known::default();
            known.extend(answers);
            // One in the clothes of IPv6 is the same.
            let mapped = "::ffff:192.0.2.1".parse().unwrap();
            let found = check(&known, mapped).unwrap();
            assert_eq!(format!("{} {:?}", found.result, found.name), want);
        }
    }
}
