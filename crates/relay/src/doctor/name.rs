//! Our own name, which the greeting and EHLO say.

use merpati_console::health::{Finding, Grade};
use merpati_mail::Domain;

use super::Bench;
use crate::resolve::Trouble;

pub(super) async fn check(bench: Bench<'_>) -> Vec<Finding> {
    let hostname = &bench.config.server.hostname;
    let found = match hostname {
        Domain::Literal(_) => None,
        Domain::Name(_) => Some(bench.resolver.addresses(hostname).await.map(|them| them.len())),
    };
    vec![judge(hostname, found.as_ref(), bench.sends_by_mx())]
}

fn judge(hostname: &Domain, found: Option<&Result<usize, Trouble>>, sends: bool) -> Finding {
    let finding = |grade, words: &str| Finding::new("name", hostname.to_string(), grade, words);
    let serious = if sends { Grade::Bad } else { Grade::Warning };
    let Some(found) = found else {
        return finding(serious, "this is an address, and no name").fix(FIX);
    };
    let name = hostname.to_string();
    if name == "localhost" || name.ends_with(".localhost") || !name.contains('.') {
        return finding(serious, "nobody else knows a host of this name").fix(FIX);
    }
    match found {
        Ok(_) => finding(Grade::Good, "DNS knows it"),
        Err(Trouble::NoAddress) => {
            finding(serious, "DNS has no address for it (RFC 5321 §2.3.5)").fix(FIX)
        }
        Err(Trouble::Unknown { why }) => finding(Grade::Unknown, why),
    }
}

const FIX: &str = "set server.hostname to a name that DNS leads to this host";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_must_lead_somewhere() {
        let unknown = || Err(Trouble::Unknown { why: "x".to_owned() });
        for (name, found, want) in [
            ("mx.ours.example", Some(Ok(1)), Grade::Good),
            ("mx.ours.example", Some(Err(Trouble::NoAddress)), Grade::Bad),
            ("mx.ours.example", Some(unknown()), Grade::Unknown),
            ("localhost", Some(Ok(2)), Grade::Bad),
            ("mail", Some(Ok(1)), Grade::Bad),
            ("[192.0.2.1]", None, Grade::Bad),
        ] {
            let name = Domain::parse(name).unwrap();
            assert_eq!(judge(&name, found.as_ref(), true).grade, want, "{name}");
            let softer = if want == Grade::Bad { Grade::Warning } else { want };
            assert_eq!(judge(&name, found.as_ref(), false).grade, softer, "{name}");
        }
    }
}
